"""Model folders: what a phase leaves behind, complete and published, and how to open it again."""

import datetime
import platform
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch

import trivium
from trivium.config import Recipe
from trivium.lineage import Lineage, write_lineage
from trivium.model import hub
from trivium.model.heads import RewardModel
from trivium.model.transformer import Transformer
from trivium.publish import MANIFEST, file_fingerprint, publish, verify
from trivium.text.corpus import is_judged
from trivium.text.tokenizer import Tokenizer


class Opened(NamedTuple):
    model: Transformer
    tokenizer: Tokenizer


class Parent(NamedTuple):
    """The model whose weights another one went on from."""

    folder: str
    weights: str  # fingerprint


class Origin(NamedTuple):
    """What a model was made from."""

    phase: str
    parent: Parent | None
    data: Mapping[str, str]  # source → fingerprint
    votes: str | None
    metrics: Mapping[str, float]


def is_done(folder: Path) -> bool:
    """Whether a model stands here, whole; raises CheckpointError when one stands here damaged."""
    if not folder.is_dir():
        return False
    verify(folder)
    return True


def stands(folder: Path) -> bool:
    """Whether a model was published here; a look at the folder, for whoever asks often: its bytes are not read."""
    return (folder / MANIFEST).exists()


def weights_fingerprint(folder: Path) -> str:
    """16 hexadecimal digits that name a model by its weights: the same wherever and whenever it was trained."""
    return file_fingerprint(folder, hub.WEIGHTS)


def parent_at(folder: Path) -> Parent:
    """A published model, as the parent of another."""
    return Parent(str(folder), weights_fingerprint(folder))


def open_model(folder: Path, *, device: torch.device | str = "cpu") -> Opened:
    """A language model and its tokenizer; raises CheckpointError when the folder is damaged or something else."""
    return Opened(hub.load(folder, device=device), Tokenizer.load(folder))


def publish_model(
    folder: Path,
    model: Transformer | RewardModel,
    tokenizer: Tokenizer,
    recipe: Recipe,
    origin: Origin,
    *,
    beside: Mapping[str, str],
    check: Callable[[Path], None] | None = None,
) -> None:
    """Weights, tokenizer, lineage and card: all of it or nothing.

    beside  further files by name, and their text
    check   looks at what was written before it is published, and raises when it must not be
    """
    lineage = Lineage(
        parent=origin.parent.weights if origin.parent else None,
        parent_folder=origin.parent.folder if origin.parent else None,
        data=dict(origin.data),
        votes=origin.votes,
        config=recipe.model_dump(mode="json"),
        code=f"trivium {trivium.__version__}, torch {torch.__version__}",
        seed=recipe.seed,
        machine=f"{platform.machine()}, {torch.get_num_threads()} threads, {platform.system()}",
        metrics=dict(origin.metrics),
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    )
    folder.parent.mkdir(parents=True, exist_ok=True)
    stops = [tokenizer.turn_end, tokenizer.end_of_text]

    def write(fresh: Path) -> None:
        hub.save(model, fresh, stop_tokens=stops, pad_token=tokenizer.pad)
        tokenizer.save(fresh, context_length=recipe.model.context_length)
        write_lineage(fresh, lineage)
        (fresh / "README.md").write_text(card(folder.name, model, recipe, origin), encoding="utf-8")
        for name, text in beside.items():
            (fresh / name).write_text(text, encoding="utf-8")
        if check:
            check(fresh)

    publish(folder, write)


PHASES = {
    "pretrain": "I, pretrain",
    "member": "I, pretrain",
    "instruct": "II, instruct",
    "reward": "III, reward",
    "align": "III, align",
}
IMITATED = "III, imitation of preferred answers"  # with phase II's settings
MEASURED = {
    "bits_per_byte": "bits per byte of text",
    "loss": "nats per token of answers",
    "win_rate": "win rate over instruct, by reward",
}
UNLICENSED = "\nNo licence is stated: whoever shares it says which, and minds those of the data."
LICENCE = re.compile(r"\A---\n(?:.*\n)*?license: *(\S+)\n(?:.*\n)*?---", re.MULTILINE)


def card(name: str, model: Transformer | RewardModel, recipe: Recipe, origin: Origin) -> str:
    """The model card: what it is, what it learned from and how, how it measures, and how to use it."""
    shape, scores = model.config, isinstance(model, RewardModel)
    licence = licence_of(Path(origin.parent.folder)) if origin.parent else None
    head = ["library_name: transformers", f"pipeline_tag: text-{'classification' if scores else 'generation'}"]
    head += ["tags: [trivium]", *([f"license: {licence}"] if licence else [])]
    what = "scores answers, the higher the more people would like them" if scores else "writes text"
    phase = origin.phase.partition("-")[0]
    stage = IMITATED if phase == "imitate" else PHASES.get(phase)
    made = f"Made by phase {stage}, of Trivium" if stage else "Taken in by Trivium as it was"
    parent = f", from `{origin.parent.folder}` (weights {origin.parent.weights})" if origin.parent else ""
    return "\n".join(
        [
            "---",
            *head,
            "---",
            f"\n# {name}\n",
            f"A decoder that {what}: {shape.architecture}, {shape.parameters:,} parameters ({shape.num_layers} layers,",
            f"width {shape.width}, vocabulary {shape.vocab_size:,}, context {shape.context_length:,} tokens).",
            f"{made}{parent}.",
            "`lineage.json` holds every setting.",
            *_section("Data", ("learned from", "fingerprint"), _data_rows(recipe, origin)),
            *_section("Settings", ("", ""), _settings_rows(recipe, origin.phase)),
            *_section("Measured on held-out data", ("", ""), _measured_rows(origin)),
            "\n## Use\n",
            _usage(name, scores=scores),
            *([] if licence else [UNLICENSED]),
            "",
        ]
    )


def licence_of(folder: Path) -> str | None:
    """What the card of a model states; None when nothing does."""
    try:
        found = LICENCE.match((folder / "README.md").read_text(encoding="utf-8"))
    except (OSError, UnicodeError):
        return None
    return found[1] if found else None


def _section(title: str, names: tuple[str, str], rows: Sequence[tuple[str, str]]) -> list[str]:
    """A heading and a table; nothing where there is nothing to tell."""
    if not rows:
        return []
    return [f"\n## {title}\n", f"| {names[0]} | {names[1]} |", "|---|---|", *(f"| {a} | {b} |" for a, b in rows)]


def _data_rows(recipe: Recipe, origin: Origin) -> list[tuple[str, str]]:
    simulated = ", simulated" if recipe.votes.simulated and is_judged(recipe.data) else ""
    votes = [(f"votes on pairs of answers{simulated}", f"`{origin.votes}`")] if origin.votes else []
    return [(source, f"`{print}`") for source, print in origin.data.items() if print != origin.votes] + votes


def _settings_rows(recipe: Recipe, phase: str) -> list[tuple[str, str]]:
    """What the phase read of the recipe, and the seed."""
    name = phase.partition("-")[0]
    read = {"member": "pretrain", "imitate": "instruct"}.get(name, name)
    settings = getattr(recipe, read).model_dump() if read in PHASES else {}
    rows = [(key.replace("_", " "), _told(value)) for key, value in settings.items()]
    return [*rows, ("seed", str(recipe.seed))] if rows else []


def _told(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return ", ".join(map(str, value)) or "none"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _measured_rows(origin: Origin) -> list[tuple[str, str]]:
    return [(MEASURED.get(key, key.replace("_", " ")), f"{value:.4g}") for key, value in origin.metrics.items()]


def _usage(name: str, *, scores: bool) -> str:
    if scores:
        return f"""```python
from transformers import AutoModelForSequenceClassification, AutoTokenizer

model = AutoModelForSequenceClassification.from_pretrained("{name}")  # reads a dialogue, scores its last answer
tokenizer = AutoTokenizer.from_pretrained("{name}")
```"""
    return f"""```python
from transformers import AutoModelForCausalLM, AutoTokenizer

model, tokenizer = (each.from_pretrained("{name}") for each in (AutoModelForCausalLM, AutoTokenizer))
chat = [{{"role": "user", "content": "Who are you?"}}]
ids = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt", return_dict=True)
print(tokenizer.decode(model.generate(**ids, max_new_tokens=64)[0]))
```

```sh
trivium chat {name}                              # or fill, serve, evaluate
trivium export {name} --to gguf --type q8_0      # for llama.cpp
lm_eval --model hf --model_args pretrained={name} --tasks arc_easy      # of the extra trivium[eval]
```"""
