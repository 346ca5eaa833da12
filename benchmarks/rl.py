"""Seconds per step of phase III beside TRL: GRPOTrainer, split into writing and learning, RewardTrainer and DPOTrainer.

    python benchmarks/rl.py [--json] [--quick]

Needs trl and accelerate. Both have the same fresh weights in shape M (--quick: S), the same prompts (English from
Python's own documentation) and pairs, answers of equally many tokens, and for GRPO the same reward, a function of the
text; neither computes a KL, as TRL does not by default. TRL is given its best: bfloat16 where the processor has it,
fused AdamW, no gradient checkpointing, and the fastest of several micro-batches, with weights in float32 as ours or in
bfloat16. DPO's reference is asked beside each step by both: in one pass over the pairs it costs as much beforehand.
They take turns; a ratio is TRL's time over ours, the median over the turns.
"""

import argparse
import dataclasses
import json
import os
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from itertools import islice, product
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("GOMP_SPINCOUNT", "2000")  # as the command line does, before torch

import torch
from datasets import Dataset, disable_progress_bars
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PrinterCallback,
    TrainerCallback,
)
from transformers.utils import logging
from trl import DPOConfig, DPOTrainer, GRPOConfig, GRPOTrainer, RewardConfig, RewardTrainer

sys.path.insert(0, str(Path(__file__).parents[1]))  # started by its path, it finds its siblings

from benchmarks.shapes import SHAPES, spread
from trivium.compute import Compute, prepare
from trivium.config import Recipe, Settings, merge, resolve
from trivium.distributed.world import alone
from trivium.evaluate.tasks import Reply
from trivium.feedback.store import LabelledPair
from trivium.model import hub
from trivium.model.heads import add_reward_head
from trivium.model.transformer import Transformer, initialise
from trivium.phases.align import algorithms, reward
from trivium.phases.align.questions import Question
from trivium.phases.align.rollout import Writers
from trivium.phases.align.rules import Rules, Weighed
from trivium.phases.align.task import Task
from trivium.records import Message
from trivium.text.tokenizer import Tokenizer
from trivium.text.tokenizer import train as train_tokenizer
from trivium.train.loop import train
from trivium.train.phase import Phase
from trivium.worlds import pydocs

CONTEXT = 1024
WARM = 1  # steps of each of TRL's turns that are not timed


class Size(NamedTuple):
    """How much both are given."""

    shape: str
    prompt: int  # tokens, roughly
    written: int  # tokens of an answer that is written
    prompts: int  # of a step that writes
    group: int
    read: int  # tokens of an answer in a pair, roughly
    pairs: int  # of a step that reads
    turns: int
    steps: int  # timed in each turn


SIZES = {
    False: Size("M", prompt=64, written=64, prompts=8, group=8, read=128, pairs=32, turns=3, steps=2),
    True: Size("S", prompt=32, written=32, prompts=4, group=8, read=64, pairs=8, turns=2, steps=2),
}


class Took(NamedTuple):
    """Seconds of one step."""

    whole: float
    writing: float = 0.0


class Bench(NamedTuple):
    """What both are given."""

    size: Size
    folder: Path  # the first weights and the tokenizer
    tokenizer: Tokenizer
    recipe: Recipe
    compute: Compute
    prompts: list[str]
    pairs: list[LabelledPair]


def usefulness(text: str) -> float:
    """The reward: some function of the text that takes no time."""
    return text.count("e") / (1 + len(text))


def set_up(place: Path, *, quick: bool) -> Bench:
    size = SIZES[quick]
    texts = [document.text for document in pydocs.documents()]
    shape = SHAPES[size.shape]
    tokenizer = train_tokenizer(texts, vocab_size=shape["vocab_size"])
    recipe = resolve({"model": {**shape, "vocab_size": tokenizer.vocab_size, "context_length": CONTEXT}})
    (place / "first").mkdir()
    hub.save(initialise(Transformer(recipe.model), 0), place / "first", stop_tokens=[tokenizer.turn_end], pad_token=0)
    tokenizer.save(place / "first", context_length=CONTEXT)
    pieces = cut(texts, tokenizer, [size.prompt, size.read, size.read])
    drawn = list(islice(pieces, 400))
    pairs = [
        LabelledPair((Message("user", asked),), first, second, 1.0, 1, False, 1, "pydocs", number)
        for number, (asked, first, second) in enumerate(drawn)
    ]
    compute = prepare(recipe.compute, torch.device("cpu"), place / "cache")
    return Bench(size, place / "first", tokenizer, recipe, compute, [asked for asked, _, _ in drawn], pairs)


def cut(texts: Sequence[str], tokenizer: Tokenizer, lengths: Sequence[int]) -> Iterator[list[str]]:
    """Runs of text of about so many tokens each, from documents that are long enough."""
    for text in texts:
        ids = tokenizer.encode(text)
        while len(ids) >= sum(lengths):
            piece = []
            for length in lengths:
                piece.append(tokenizer.decode(ids[:length]).strip())
                ids = ids[length:]
            if all(piece):
                yield piece


class Ours:
    """A phase that is taken some steps further at each turn."""

    def __init__(self, phase: Phase[Any]) -> None:
        self.spent = 0.0

        def batches(step: int) -> Any:
            begun = time.perf_counter()
            found = phase.batches(step)
            self.spent += time.perf_counter() - begun
            return found

        self.steps = train(dataclasses.replace(phase, batches=batches), alone(), steps=range(10**6))
        next(self.steps)  # the first of all also builds what is built at first use

    def turn(self, count: int) -> Took:
        self.spent, begun = 0.0, time.perf_counter()
        for _ in islice(self.steps, count):
            pass
        return Took((time.perf_counter() - begun) / count, self.spent / count)


def our_recipe(bench: Bench, section: str, settings: Settings) -> Recipe:
    return resolve(merge(bench.recipe.model_dump(), {section: {"steps": 10**6, **settings}}))


def our_grpo(bench: Bench) -> Ours:
    size, model = bench.size, hub.load(bench.folder)
    rows = size.prompts * size.group
    settings: Settings = {"rows_per_step": rows, "microbatch_rows": rows, "group": size.group, "kl": 0.0}
    recipe = our_recipe(bench, "align", settings | {"max_new_tokens": size.written})

    def ask(index: int) -> Question:
        return Question((Message("user", bench.prompts[index % len(bench.prompts)]),), None)

    def rule(_: Question, reply: Reply) -> float:
        return usefulness(reply.text)

    writers = Writers(model, model, None, bench.tokenizer, Rules(0.0, [Weighed(1.0, rule)]))
    return Ours(algorithms.build(Task(recipe, writers, ask, [], bench.compute, 1)))


def our_reward(bench: Bench) -> Ours:
    model, rows = add_reward_head(hub.load(bench.folder), 0), bench.size.pairs
    recipe = our_recipe(bench, "reward", {"rows_per_step": rows, "microbatch_rows": rows})
    arguments = (recipe, model, bench.tokenizer, bench.pairs, bench.pairs[:1], bench.compute, alone())
    return Ours(reward.build(*arguments, name="reward"))


def our_dpo(bench: Bench) -> Ours:
    model, reference, rows = hub.load(bench.folder), hub.load(bench.folder), 2 * bench.size.pairs
    recipe = our_recipe(bench, "align", {"algorithm": "dpo", "rows_per_step": rows, "microbatch_rows": rows})
    writers = Writers(model, reference.requires_grad_(False), None, bench.tokenizer)
    task = Task(recipe, writers, lambda _: Question((), None), [], bench.compute, 1, votes=bench.pairs)
    return Ours(algorithms.build(task))


class Setting(NamedTuple):
    """What TRL is tried with."""

    at_once: int  # answers, or pairs, of a micro-batch
    weights: torch.dtype  # with bfloat16 the optimizer's moments are no wider either

    def __str__(self) -> str:
        return f"{self.at_once} at once, {str(self.weights).removeprefix('torch.')} weights"


class Clock(TrainerCallback):  # type: ignore[misc, unused-ignore]
    """When each step of TRL ended, and how much of the time until then had gone into writing."""

    def __init__(self) -> None:
        self.times, self.written, self.spent = list[float](), list[float](), 0.0

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.times.append(time.perf_counter())
        self.written.append(self.spent)

    def timed(self, write: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*arguments: Any, **options: Any) -> Any:
            begun = time.perf_counter()
            found = write(*arguments, **options)
            self.spent += time.perf_counter() - begun
            return found

        return timed

    def took(self, steps: int) -> Took:
        writing = self.written[-1] - self.written[WARM - 1]
        return Took((self.times[-1] - self.times[WARM - 1]) / steps, writing / steps)


def arguments(bench: Bench, out: str, rows: int, setting: Setting, steps: int) -> dict[str, Any]:
    return {
        "output_dir": out,
        "max_steps": WARM + steps,
        "per_device_train_batch_size": setting.at_once,
        "gradient_accumulation_steps": rows // setting.at_once,
        "learning_rate": 1e-4,
        "use_cpu": True,
        "bf16": bench.compute.dtype == torch.bfloat16,
        "optim": "adamw_torch_fused",
        "gradient_checkpointing": False,
        "report_to": [],
        "save_strategy": "no",
        "logging_strategy": "no",
        "disable_tqdm": True,
    }


def run(trainer: Any, clock: Clock, steps: int) -> Took:
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    return clock.took(steps)


def their_grpo(bench: Bench, setting: Setting, steps: int) -> Took:
    size, clock = bench.size, Clock()
    data = Dataset.from_dict({"prompt": [[{"role": "user", "content": asked}] for asked in bench.prompts]})

    def rewards(completions: Any, **_: Any) -> list[float]:
        return [usefulness(completion[0]["content"]) for completion in completions]

    with tempfile.TemporaryDirectory() as out:
        settings = GRPOConfig(
            **arguments(bench, out, size.prompts * size.group, setting, steps),
            num_generations=size.group,
            max_completion_length=size.written,
            temperature=1.0,
            beta=0.0,
        )
        model = AutoModelForCausalLM.from_pretrained(bench.folder, dtype=setting.weights)
        model.generate = clock.timed(model.generate)
        tokenizer = AutoTokenizer.from_pretrained(bench.folder, padding_side="left")
        trainer = GRPOTrainer(
            model, rewards, args=settings, train_dataset=data, processing_class=tokenizer, callbacks=[clock]
        )
        return run(trainer, clock, steps)


def their_reward(bench: Bench, setting: Setting, steps: int) -> Took:
    read, clock = [reward.read_pair(pair, bench.tokenizer, CONTEXT) for pair in bench.pairs], Clock()
    ids = [[[*one.prompt, *one.answer] for one in pair] for pair in read]
    data = Dataset.from_dict({"chosen_ids": [one for one, _ in ids], "rejected_ids": [other for _, other in ids]})
    with tempfile.TemporaryDirectory() as out:
        settings = RewardConfig(**arguments(bench, out, bench.size.pairs, setting, steps), max_length=CONTEXT)
        model = AutoModelForSequenceClassification.from_pretrained(bench.folder, dtype=setting.weights, num_labels=1)
        tokenizer = AutoTokenizer.from_pretrained(bench.folder)
        trainer = RewardTrainer(model, args=settings, train_dataset=data, processing_class=tokenizer, callbacks=[clock])
        return run(trainer, clock, steps)


def their_dpo(bench: Bench, setting: Setting, steps: int) -> Took:
    clock = Clock()
    data = Dataset.from_list(
        [
            {
                "prompt": [{"role": "user", "content": pair.prompt[0].content}],
                "chosen": [{"role": "assistant", "content": pair.first}],
                "rejected": [{"role": "assistant", "content": pair.second}],
            }
            for pair in bench.pairs[: (WARM + steps) * bench.size.pairs]
        ]
    )
    with tempfile.TemporaryDirectory() as out:
        settings = DPOConfig(**arguments(bench, out, bench.size.pairs, setting, steps), max_length=CONTEXT)
        model, reference = (AutoModelForCausalLM.from_pretrained(bench.folder, dtype=setting.weights) for _ in range(2))
        tokenizer = AutoTokenizer.from_pretrained(bench.folder)
        trainer = DPOTrainer(
            model, reference, args=settings, train_dataset=data, processing_class=tokenizer, callbacks=[clock]
        )
        return run(trainer, clock, steps)


class Match(NamedTuple):
    """One of the three comparisons, turn by turn."""

    name: str
    peer: str
    best: Setting  # TRL's fastest
    ours: list[Took]
    theirs: list[Took]

    @property
    def ratios(self) -> list[float]:
        return [their.whole / mine.whole for mine, their in zip(self.ours, self.theirs, strict=True)]


def compare(
    bench: Bench,
    name: str,
    peer: str,
    begin: Callable[[Bench], Ours],
    theirs: Callable[[Bench, Setting, int], Took],
    rows: int,
) -> Match:
    ours, size = begin(bench), bench.size
    settings = [Setting(*pair) for pair in product((rows, rows // 4), {torch.float32, bench.compute.dtype})]
    tried = {setting: theirs(bench, setting, 1).whole for setting in settings}
    best = min(tried, key=lambda setting: tried[setting])
    match = Match(name, peer, best, [], [])
    for _ in range(size.turns):
        match.ours.append(ours.turn(2 * size.steps))
        match.theirs.append(theirs(bench, best, size.steps))
    return match


def show(match: Match) -> None:
    for who, every in (("ours", match.ours), (f"TRL's {match.peer}, {match.best}", match.theirs)):
        whole, writing = (statistics.median(values) for values in zip(*every, strict=True))
        ratio = "" if who == "ours" else spread(match.ratios)
        parts = f"{writing:>10.2f}{whole - writing:>10.2f}" if match.name == "grpo" else f"{'':20}"
        print(f"{match.name:<8}{who:<50}{whole:>10.2f}{parts}   {ratio}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="shape S, shorter answers, fewer turns")
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    disable_progress_bars()
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as place:
        bench = set_up(Path(place), quick=chosen.quick)
        size = bench.size
        matches = [
            compare(bench, "grpo", "GRPOTrainer", our_grpo, their_grpo, size.prompts * size.group),
            compare(bench, "reward", "RewardTrainer", our_reward, their_reward, size.pairs),
            compare(bench, "dpo", "DPOTrainer", our_dpo, their_dpo, size.pairs),
        ]
    if chosen.json:
        print(json.dumps({f"{match.name}_ratio": statistics.median(match.ratios) for match in matches}))
        return 0
    print(f"{'':<8}{'median seconds a step':<50}{'whole':>10}{'writing':>10}{'learning':>10}   theirs / ours")
    for match in matches:
        show(match)
    return 0


if __name__ == "__main__":
    sys.exit(main())
