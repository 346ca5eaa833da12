"""Models in and out: `trivium import` takes a folder in, `trivium export` writes a copy or a GGUF file.

Nothing is called done before it was opened again and compared with what it was made from.
"""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from trivium.config import resolve
from trivium.errors import CheckpointError, ConfigError
from trivium.generate.engine import Request, generate
from trivium.generate.sampling import Sampling
from trivium.model import gguf, hub
from trivium.model.transformer import Transformer
from trivium.publish import MANIFEST, publish, publish_file, verify
from trivium.shelf import Opened, Origin, Parent, open_model, publish_model
from trivium.story.start import first_model, shape_of, with_start
from trivium.story.voices import latest_model
from trivium.text import adoption, llama_cpp
from trivium.text.tokenizer import Tokenizer

Target = Literal["gguf", "hf"]
# The greatest difference of logits that is allowed, as a share of their own spread; a tensor in a wrong place makes it
# 4 and more. What is only copied differs by the order of sums; f16 keeps 11 bits, q8_0 about 7 of the greatest of 32.
TOLERANCES = {"hf": 1e-3, "f32": 1e-5, "f16": 0.1, "q8_0": 1.5}
ROWS, LENGTH = 4, 48  # of random tokens, beside texts, that logits are compared on
WRITTEN = 32  # tokens that each model writes by itself
FILES = ("*.json", "*.safetensors", "*.jinja", "README.md", "LICENSE*", "NOTICE*", "merges.txt")


class Compared(NamedTuple):
    """How near a copy is to its original."""

    difference: float  # greatest of all logits, as a share of the spread of the original's
    tolerance: float
    same_tokens: int  # of those that the original writes greedily, that the copy would write too
    tokens: int
    by: str  # who opened the copy

    def told(self) -> str:
        return (
            f"greatest difference of logits {self.difference:.2g} of their spread (allowed {self.tolerance:.2g}), "
            f"greedy tokens {self.same_tokens} of {self.tokens} equal, read again by {self.by}"
        )


def export(model: Path, *, to: Target, numbers: gguf.Numbers, out: Path | None) -> dict[str, Any]:
    """A model as a GGUF file or as a folder of its own; what was written, and how near it is.

    model   a model folder, or a run: its latest stage
    raises  CheckpointError when it cannot be written down exactly enough; nothing is left behind then
    """
    folder = latest_model(model)
    opened = open_model(folder)
    kind = numbers if to == "gguf" else "hf"
    path = out or Path(f"{folder.resolve().name}.{numbers}.gguf" if to == "gguf" else f"{folder.resolve().name}-hf")
    if path.resolve() == folder.resolve():
        raise ConfigError(f"--out = {path}: is the model itself; name another")
    compared = _to_gguf(folder, opened, path, numbers) if to == "gguf" else _to_folder(folder, opened, path)
    size = path.stat().st_size if path.is_file() else sum(file.stat().st_size for file in path.iterdir())
    return {"model": str(folder), "out": str(path), "type": kind, "bytes": size, **compared._asdict()}


def print_export(found: dict[str, Any]) -> None:
    compared = Compared(*(found[name] for name in Compared._fields))
    print(f"{found['out']}  {found['bytes']:,} bytes, {found['type']}; {compared.told()}")


def _to_gguf(folder: Path, opened: Opened, path: Path, numbers: gguf.Numbers) -> Compared:
    gguf.library()
    if path.is_dir():
        raise ConfigError(f"--out = {path}: is a folder; name a file that ends in .gguf")
    if path.exists() and not gguf.is_one(path):
        raise ConfigError(f"--out = {path}: holds something else than a model; choose another name")
    model, tokenizer = opened
    try:
        vocabulary = llama_cpp.vocabulary(tokenizer)
    except CheckpointError as error:
        raise CheckpointError(f"{folder}: {error}") from None
    found: list[Compared] = []

    def write(fresh: Path) -> None:
        gguf.write(fresh, model, vocabulary, numbers=numbers, name=folder.resolve().name)
        contents = gguf.read(fresh)
        copied = gguf.vocabulary_of(contents)
        if copied != vocabulary:
            raise CheckpointError(f"{path}: its vocabulary was not read as it was written; report this")
        copy = gguf.model_of(contents, model.config.rope_scaling)
        found.append(_compare(path, opened, copy, numbers, by="the gguf library"))

    publish_file(path, write)
    return found[0]


def _to_folder(folder: Path, opened: Opened, path: Path) -> Compared:
    found: list[Compared] = []

    def write(fresh: Path) -> None:
        for file in [file for pattern in FILES for file in folder.glob(pattern) if file.name != MANIFEST]:
            shutil.copyfile(file, fresh / file.name)
        theirs = _of_transformers(fresh, opened.tokenizer)
        by = "this program" if theirs is None else "transformers"
        found.append(_compare(path, opened, hub.load(fresh) if theirs is None else theirs, "hf", by=by))

    publish(path, write)
    return found[0]


def _compare(path: Path, opened: Opened, copy: Any, kind: str, *, by: str) -> Compared:
    """raises  CheckpointError when the copy is too far from its original"""
    model, tokenizer = opened
    prompts = probe_ids(tokenizer, model.config.context_length)
    ours, its = (torch.cat([_logits(each, prompt) for prompt in prompts]) for each in (model, copy))
    difference = float((ours - its).abs().max() / ours.std())
    prompt = prompts[0][: model.config.context_length // 4]
    room = min(WRITTEN, model.config.context_length - len(prompt))
    written = generate(model, [Request(prompt, 0)], Sampling(temperature=0, max_new_tokens=room), stop=[])[0].tokens
    likely = _logits(copy, [*prompt, *written])[len(prompt) - 1 : -1].argmax(-1).tolist()
    same = sum(a == b for a, b in zip(likely, written, strict=True))
    found = Compared(difference, TOLERANCES[kind], same, len(written), by)
    exact = kind in ("hf", "f32")
    if not difference <= found.tolerance or (exact and same < len(written)):  # a difference may be no number
        raise CheckpointError(f"{path}: the copy is not its model: {found.told()}; nothing was kept")
    return found


def probe_ids(tokenizer: Tokenizer, context_length: int) -> list[list[int]]:
    """Texts, and tokens at random, that fit into the context."""
    texts = [[*tokenizer.opening, *tokenizer.encode(text)][:context_length] for text in llama_cpp.PROBES[:5]]
    generator = torch.Generator().manual_seed(0)
    length = min(LENGTH, context_length)
    return texts + torch.randint(tokenizer.vocab_size, (ROWS, length), generator=generator).tolist()


@torch.no_grad()
def _logits(model: Any, prompt: Sequence[int]) -> Tensor:
    """(T, V) float32, of ours or of transformers'."""
    tokens = torch.tensor([prompt])
    if isinstance(model, Transformer):
        found: Tensor = model(tokens, torch.arange(len(prompt))[None], torch.zeros_like(tokens))
        return found[0]
    answered: Tensor = model(tokens).logits
    return answered[0]


def _of_transformers(folder: Path, tokenizer: Tokenizer | None) -> Any:
    """The folder's model as transformers opens it; None where transformers is not installed.

    tokenizer  whose ids transformers' must be
    raises     CheckpointError when they are not, or transformers cannot open the folder
    """
    try:
        import transformers
    except ImportError:
        return None
    transformers.utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call, unused-ignore]
    try:
        model: Any = transformers.AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.float32, use_safetensors=True
        )
        theirs: Any = transformers.AutoTokenizer.from_pretrained(folder) if tokenizer else None
    except Exception as reason:  # it raises anything
        told = " ".join(str(reason).split())[:200]
        raise CheckpointError(f"transformers {transformers.__version__} cannot open it ({told}); update it") from reason
    if tokenizer:
        for text in llama_cpp.PROBES:
            if theirs.encode(text, add_special_tokens=False) != tokenizer.encode(text):
                raise CheckpointError(f"transformers cuts {text!r} into other tokens; nothing was kept")
    return model.eval()


def take_in(folder: Path, *, out: Path | None) -> dict[str, Any]:
    """Somebody else's Llama, Qwen2 or Qwen3 folder as one of ours, which every verb takes.

    raises  ConfigError, CheckpointError when it cannot be done exactly; nothing is left behind then
    """
    if not folder.is_dir():
        raise ConfigError(f"{folder}: no such folder; name one with config.json, model.safetensors and tokenizer.json")
    path = out or Path("models") / folder.resolve().name
    if path.resolve() == folder.resolve():
        raise ConfigError(f"--out = {path}: is the folder itself; name another")
    shape = {"context_length": shape_of(folder).context_length}
    recipe = resolve(with_start({"start": {"folder": str(folder)}, "model": shape}))
    model, (tokenizer, known) = first_model(recipe), adoption.adopt(folder)
    theirs = _of_transformers(folder, None)
    found: list[Compared] = []

    def check(fresh: Path) -> None:
        original = hub.load(folder) if theirs is None else theirs
        copy = hub.load(fresh)
        found.append(_compare_known(path, Opened(copy, tokenizer), original, known, by_transformers=theirs is not None))

    origin = Origin("import", Parent(str(folder), recipe.start.weights), {}, None, {})
    publish_model(path, model, tokenizer, recipe, origin, beside={}, check=check)
    verify(path)
    added = tokenizer.vocab_size - known
    return {
        "model": str(path),
        "from": str(folder),
        "architecture": model.config.architecture,
        "parameters": model.config.parameters,
        "added_tokens": added,
        "difference": found[0].difference,
        "by": found[0].by,
    }


def print_import(found: dict[str, Any]) -> None:
    added = f", {found['added_tokens']} control tokens added" if found["added_tokens"] else ""
    print(
        f"{found['model']}  {found['architecture']}, {found['parameters']:,} parameters{added}; "
        f"greatest difference of logits {found['difference']:.2g} of their spread, compared with {found['by']}"
    )


def _compare_known(path: Path, copy: Opened, original: Any, known: int, *, by_transformers: bool) -> Compared:
    """Of the tokens that the original knows: those that were added change nothing before them."""
    prompts = [
        [id for id in prompt if id < known] for prompt in probe_ids(copy.tokenizer, copy.model.config.context_length)
    ]
    ours, its = (torch.cat([_logits(each, p)[:, :known] for p in prompts]) for each in (copy.model, original))
    difference = float((ours - its).abs().max() / its.std())
    found = Compared(difference, TOLERANCES["hf"], 0, 0, "transformers" if by_transformers else "this program")
    if not difference <= found.tolerance:
        raise CheckpointError(f"{path}: logits differ by {difference:.2g} of their spread; nothing was kept")
    return found
