"""Supervised tokens per second of phase II beside TRL's SFTTrainer, and held-out loss after as many tokens.

    python benchmarks/instruct.py DATA [DATA ...] [--json] [--quick]

DATA are folders with train.jsonl.gz and valid.jsonl.gz, all taken together. Needs trl, accelerate and peft. Both train
the same weights in shape M (--quick: S) on the same ids and targets, in steps of 8 rows of 256. TRL is given its best:
bfloat16 where the processor has it, fused AdamW, packing, no gradient checkpointing; every way to pack is tried for a
few steps, and the fastest is kept. Each is trained with three learning rates, far apart, in turns with the other: these
are the repeats of the speed, and the best of the three is the loss, which the same code measures in float32.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("GOMP_SPINCOUNT", "2000")  # as the command line does, before torch

import torch
from datasets import Dataset, disable_progress_bars
from transformers import AutoModelForCausalLM, AutoTokenizer, PrinterCallback, TrainerCallback
from transformers.utils import logging
from trl import SFTConfig, SFTTrainer

sys.path.insert(0, str(Path(__file__).parents[1]))  # started by its path, it finds its siblings

from benchmarks.school import compiles
from benchmarks.shapes import SHAPES, spread
from trivium.compute import Compute, prepare
from trivium.config import Recipe, merge, resolve
from trivium.distributed.world import alone
from trivium.model import hub
from trivium.model.transformer import Transformer, initialise
from trivium.phases import instruct
from trivium.phases.pretrain import next_token_objective
from trivium.records import Dialogue
from trivium.text.answers import read_dialogues
from trivium.text.dialogue import fit
from trivium.text.schemas import quiet
from trivium.text.tokenizer import Tokenizer
from trivium.text.tokenizer import train as train_tokenizer
from trivium.train.loop import train
from trivium.train.phase import Objective

ROW, ROWS = 256, 8
WARM = 3  # steps that are not timed: the first also compiles
HELD_OUT = 200  # dialogues
OUR_RATES = (1 / 3, 1.0, 3.0)  # times those of phase II
THEIR_RATES = (1.5e-4, 5e-4, 1.5e-3)


class Way(NamedTuple):
    """How TRL puts dialogues into rows."""

    strategy: str
    rows: int  # in one pass; a step is always ROWS rows

    def told(self) -> str:
        return f"{self.strategy}, {self.rows} rows at once"


class Trained(NamedTuple):
    speed: float  # supervised tokens per second
    model: Transformer
    tokens: float  # supervised, in each step


class Bench(NamedTuple):
    """What both are given."""

    folder: Path  # the first weights and the tokenizer
    tokenizer: Tokenizer
    recipe: Recipe
    train: list[Dialogue]
    held_out: list[Dialogue]
    compute: Compute
    objective: Objective[Any]
    steps: int

    def loss(self, model: Transformer) -> float:
        plain = Compute(torch.device("cpu"), torch.float32, False)
        return instruct.held_out_loss(model, self.tokenizer, self.held_out, self.recipe, plain)


def set_up(folders: Sequence[Path], place: Path, *, quick: bool) -> Bench:
    records = list(read_dialogues([str(folder / "train.jsonl.gz") for folder in folders]))
    held_out = list(read_dialogues([str(folder / "valid.jsonl.gz") for folder in folders]))
    shape = SHAPES["S" if quick else "M"]
    texts = ["\n".join(message.content for message in record.messages) for record in records[:: 1 + quick * 9]]
    tokenizer = train_tokenizer(texts, vocab_size=shape["vocab_size"])
    steps = 20 if quick else 40
    model = {**shape, "vocab_size": tokenizer.vocab_size, "context_length": ROW}
    phase = {"steps": steps, "rows_per_step": ROWS, "microbatch_rows": ROWS}
    recipe = resolve({"model": model, "instruct": phase, "compute": {"compile": compiles()}})
    (place / "first").mkdir()
    hub.save(initialise(Transformer(recipe.model), 0), place / "first", stop_tokens=[tokenizer.turn_end], pad_token=0)
    tokenizer.save(place / "first", context_length=ROW)
    compute = prepare(recipe.compute, torch.device("cpu"), place / "cache")
    sample = held_out[:: max(1, len(held_out) // HELD_OUT)]
    return Bench(place / "first", tokenizer, recipe, records, sample, compute, next_token_objective(compute), steps)


def ours(bench: Bench, rate: float, *, steps: int) -> Trained:
    """Phase II as it is."""
    settings = bench.recipe.instruct
    scaled = {name: rate * getattr(settings, name) for name in ("learning_rate", "matrix_learning_rate")}
    recipe = resolve(merge(bench.recipe.model_dump(), {"instruct": scaled | {"steps": steps}}))
    model = hub.load(bench.folder)
    rows = instruct.dialogue_rows(bench.train, bench.tokenizer, recipe.instruct, ROW, recipe.seed, quiet)
    arguments = (recipe, model, bench.tokenizer, rows.row, bench.held_out, bench.objective, bench.compute, alone())
    items, times = [], [time.perf_counter()]
    for report in train(instruct.build(*arguments), alone(), steps=range(steps)):
        items.append(report.items)
        times.append(time.perf_counter())
    return Trained(sum(items[WARM:]) / (times[-1] - times[WARM]), model, statistics.mean(items))


class Clock(TrainerCallback):  # type: ignore[misc, unused-ignore]
    """When each step of TRL ended."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.times.append(time.perf_counter())


class Counting:
    """A collator that counts the targets it hands out."""

    def __init__(self, collate: Callable[[Any], Any]) -> None:
        self.collate, self.counts = collate, list[int]()

    def __call__(self, rows: Any) -> Any:
        batch = self.collate(rows)
        self.counts.append(int((batch["labels"][..., 1:] != -100).sum()))
        return batch


def theirs(bench: Bench, data: Dataset, way: Way, rate: float, *, steps: int) -> Trained:
    """SFTTrainer on the same ids, with the same targets."""
    passes = ROWS // way.rows
    with tempfile.TemporaryDirectory() as out, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        arguments = SFTConfig(
            output_dir=out,
            max_steps=steps,
            per_device_train_batch_size=way.rows,
            gradient_accumulation_steps=passes,
            learning_rate=rate,
            warmup_steps=1,
            use_cpu=True,
            bf16=bench.compute.dtype == torch.bfloat16,
            optim="adamw_torch_fused",
            gradient_checkpointing=False,
            packing=True,
            packing_strategy=way.strategy,
            max_length=ROW,
            report_to=[],
            save_strategy="no",
            logging_strategy="no",
            disable_tqdm=True,
        )
        model = AutoModelForCausalLM.from_pretrained(bench.folder, dtype=torch.float32)
        clock = Clock()
        trainer = SFTTrainer(
            model=model,
            args=arguments,
            train_dataset=data,
            processing_class=AutoTokenizer.from_pretrained(bench.folder),
            callbacks=[clock],
        )
        trainer.remove_callback(PrinterCallback)
        trainer.data_collator = counting = Counting(trainer.data_collator)
        trainer.train()
        model.save_pretrained(out)
        tokens = statistics.mean(counting.counts) * passes  # in each step
        seconds = (clock.times[-1] - clock.times[WARM - 1]) / (steps - WARM)
        return Trained(tokens / seconds, hub.load(Path(out)), tokens)


def their_data(bench: Bench) -> Dataset:
    """The dialogues as we render them, so that both learn the same ids."""
    fitted = (fit(record.messages, bench.tokenizer, ROW) for record in bench.train)
    rendered = [each.rendered for each in fitted if each.rendered is not None]
    return Dataset.from_dict(
        {
            "input_ids": [each.ids.tolist() for each in rendered],
            "assistant_masks": [each.supervised.astype(int).tolist() for each in rendered],
        }
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", nargs="+", type=Path, help="folders with train.jsonl.gz and valid.jsonl.gz")
    parser.add_argument("--quick", action="store_true", help="shape S, fewer steps")
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    disable_progress_bars()
    with tempfile.TemporaryDirectory() as place:
        bench = set_up(chosen.data, Path(place), quick=chosen.quick)
        data = their_data(bench)
        ways = [Way("bfd", 1), Way("bfd", ROWS), Way("wrapped", ROWS)]
        tried = {way: theirs(bench, data, way, THEIR_RATES[1], steps=WARM + 3).speed for way in ways}
        best = max(tried, key=lambda way: tried[way])
        ours(bench, 1.0, steps=WARM + 1)  # compiles
        mine, peer = list[Trained](), list[Trained]()
        for our_rate, their_rate in zip(OUR_RATES, THEIR_RATES, strict=True):
            mine.append(ours(bench, our_rate, steps=bench.steps))
            peer.append(theirs(bench, data, best, their_rate, steps=bench.steps))
    losses = [[bench.loss(each.model) for each in every] for every in (mine, peer)]
    ratios = [one.speed / other.speed for one, other in zip(mine, peer, strict=True)]
    found = {
        "ratio": statistics.median(ratios),
        "loss_ours": min(losses[0]),
        "loss_peer": min(losses[1]),
    }
    if chosen.json:
        print(json.dumps(found))
        return 0
    print(f"{'':<36}{'supervised tokens/s':>20}{'in a step':>11}   held-out losses after {bench.steps} steps")
    for name, every, found_losses in (("ours", mine, losses[0]), (f"TRL, {best.told()}", peer, losses[1])):
        told = ", ".join(f"{loss:.3f}" for loss in found_losses)
        speed = statistics.median(each.speed for each in every)
        print(f"{name:<36}{speed:>20,.0f}{every[0].tokens:>11,.0f}   {told}")
    print(f"{'ours / theirs':<36}{spread(ratios):>20}")
    for way in ways:
        print(f"{f'tried: {way.told()}':<36}{tried[way]:>20,.0f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
