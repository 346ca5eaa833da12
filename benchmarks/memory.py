"""Peak memory of training steps as `trivium plan` predicts it, beside what a fresh process then takes.

    python benchmarks/memory.py [--json] [--quick]

Each case is a process of its own that takes a few optimizer steps on random tokens, through the model as the phase goes
through it. Measured is the peak of the resident memory above what the process held when all was imported and a tiny
model had taken the same steps: the compiler's own memory, where steps are compiled, is not counted.
"""

import argparse
import gc
import json
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from trivium import plan
from trivium.batch import TokenBatch
from trivium.compute import Compute, prepare
from trivium.config import Recipe, resolve
from trivium.distributed.world import alone
from trivium.evaluate.preference import target_logprobs
from trivium.losses.policy import clipped_policy_loss
from trivium.model.transformer import Transformer, initialise
from trivium.phases.pretrain import next_token_objective
from trivium.train.loop import train
from trivium.train.optimizer import build_optimizers
from trivium.train.phase import Metrics, Objective, Phase

SHAPES = ((4, 128, 2048), (6, 256, 4096), (6, 384, 8192))  # num_layers, width, vocab_size
PRECISIONS = ("float32", "bfloat16")
STEPS = 2  # the second one has optimizer state


class Case(NamedTuple):
    phase: str  # pretrain or align
    num_layers: int
    width: int
    vocab_size: int
    rows: int  # at once
    length: int  # positions of each
    precision: str
    compiled: bool

    @property
    def targets(self) -> int:
        """Positions of a row that are predicted."""
        return self.length if self.phase == "pretrain" else min(96, self.length // 2)

    @property
    def recipe(self) -> Recipe:
        width = self.width
        heads = plan.fitting_heads(width, 1)
        shape = {"num_layers": self.num_layers, "width": width, "mlp_width": 3 * width, "context_length": self.length}
        shape |= {"num_heads": heads, "num_kv_heads": heads, "vocab_size": self.vocab_size}
        rows = {"rows_per_step": self.rows, "microbatch_rows": self.rows}
        compute = {"device": "cpu", "precision": self.precision, "compile": self.compiled, "threads": 1}
        return resolve({"model": shape, "compute": compute, "pretrain": rows, "align": rows})

    def predicted(self) -> int:
        size = 4 if self.precision == "float32" else 2
        targets = None if self.phase == "pretrain" else self.rows * self.targets
        return plan.peak_memory(self.recipe.model, self.rows, size, compiled=self.compiled, targets=targets)


def cases(*, quick: bool) -> Iterator[Case]:
    for layers, width, words in SHAPES[: 1 if quick else None]:
        for precision in PRECISIONS[: 1 if quick else None]:
            for compiled in (False, True):
                yield Case("pretrain", layers, width, words, 16, 256, precision, compiled)
            for length in (80, 256):
                yield Case("align", layers, width, words, 128, length, precision, False)


def random_phase(case: Case, compute: Compute) -> Phase[TokenBatch]:
    """The case's steps on random tokens, three documents to a row."""
    recipe = case.recipe
    model = initialise(Transformer(recipe.model), recipe.seed)
    tokens = torch.randint(recipe.model.vocab_size, (case.rows, case.length))
    places = torch.arange(case.length).expand(case.rows, -1)
    supervised = places >= case.length - case.targets
    batch = TokenBatch(tokens, tokens.roll(-1, 1), supervised, places, places * 3 // case.length)
    return Phase(
        name=case.phase,
        model=model,
        objective=next_token_objective(compute) if case.phase == "pretrain" else policy_objective(compute),
        batches=lambda step: [batch],
        evaluate=dict,
        optimizers=build_optimizers(model, recipe.pretrain),
        settings=recipe.pretrain,
        evaluations=0,
    )


def policy_objective(compute: Compute) -> Objective[TokenBatch]:
    """Phase III's way through the model: logits of the answers' tokens alone, and the clipped ratio."""

    def objective(model: Transformer, batch: TokenBatch) -> tuple[Tensor, Metrics]:
        with compute.autocast():
            hidden = model.hidden(batch.tokens, batch.positions, model.document_mask(batch.documents))
            logprobs = target_logprobs(model, hidden[batch.supervised], batch.targets[batch.supervised])
        advantages = torch.ones_like(logprobs)
        return clipped_policy_loss(logprobs, logprobs.detach(), advantages, low=0.2, high=0.28).sum(), {}

    return objective


def measure(case: Case) -> int:
    """Bytes of this process's peak above what it holds now; takes the steps."""
    with tempfile.TemporaryDirectory() as folder:
        compute = prepare(case.recipe.compute, torch.device("cpu"), Path(folder))
        take_steps(random_phase(case._replace(num_layers=1, width=32, rows=8, length=16), compute))
        gc.collect()
        before = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        take_steps(random_phase(case, compute))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before


def take_steps(phase: Phase[Any]) -> None:
    for _ in train(phase, alone(), steps=range(STEPS)):
        pass


def measure_apart(case: Case) -> int:
    """The same in a fresh process."""
    command = [sys.executable, __file__, "--case", json.dumps(case)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return int(done.stdout)


def line(case: Case, predicted: int, measured: int) -> str:
    shape = f"{case.num_layers}x{case.width}, {case.rows} rows of {case.length}, {case.precision}"
    mebi = f"{predicted / 2**20:>6,.0f} MiB {measured / 2**20:>6,.0f} MiB"
    return f"{case.phase:9} {shape:38} {'compiled' if case.compiled else 'plain':9} {mebi} {predicted / measured:>7.2f}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="the smallest shape in float32 only")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--case", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.case:
        print(measure(Case(*json.loads(chosen.case))))
        return 0
    every = []
    if not chosen.json:
        print(f"{'phase':9} {'case':38} {'steps':9} {'predicted':>10} {'measured':>10}   ratio")
    for case in cases(quick=chosen.quick):
        predicted, measured = case.predicted(), measure_apart(case)
        every.append(case._asdict() | {"predicted": predicted, "measured": measured})
        if not chosen.json:
            print(line(case, predicted, measured), flush=True)
    if chosen.json:
        print(json.dumps({"cases": every}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
