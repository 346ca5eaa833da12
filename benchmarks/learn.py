"""How much is learned in the same time: our choices beside a tuned GPT-2-style baseline, in held-out bits per byte.

    python benchmarks/learn.py DATA [--minutes 3] [--on tinyworld chilit] [--keep FILE] [--json] [--quick]

DATA holds pre_chilit/docs.jsonl.gz. The baseline is the same code with the choices that everybody begins with: AdamW
for every weight, weights drawn with spread 0.02 and nothing started at zero or from counts, tied embeddings, a learning
rate that falls all the way, no blanks, no passages said twice, a softmax over all tokens. It begins at the size and the
vocabulary that the dial chooses for that time; then its learning rate, its size, its vocabulary, the rate again and the
rows of its steps are changed by one place at a time until both neighbours are worse. Ours is tuned no further, and its
steps are timed beside the baseline's best, for the speed of a machine drifts. How long ours takes to the baseline's
bits per byte follows from runs of shorter and shorter time, each with its learning rate brought down to zero. What FILE
knows already is not done again.
"""

import argparse
import dataclasses
import json
import math
import os
import sys
import tempfile
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("GOMP_SPINCOUNT", "2000")  # as the command line does, before torch
sys.path.insert(0, str(Path(__file__).parents[1]))  # started by its path, it finds its siblings

import msgspec
import torch
from torch import nn

from benchmarks.notes import Notes
from benchmarks.school import (
    CONTEXT,
    QUICK,
    TURNS,
    WHOLE,
    Corpus,
    Learned,
    Restyle,
    School,
    Way,
    compiles,
    corpus,
    model_of,
)
from trivium import plan
from trivium.compute import prepare
from trivium.config import DataConfig, merge, resolve
from trivium.model.shape import ModelConfig
from trivium.train.phase import Phase

RATES = tuple(0.0005 * 2**place for place in range(7))
ROWS = (4, 8, 16, 32, 64)
WORDS = (1024, 2048, 4096, 8192, 16_384, 32_768)
PLACES = {"rate": RATES, "rung": plan.LADDER, "words": WORDS, "rows": ROWS}
ORDER = ("rate", "rung", "words", "rate", "rows")  # in which the baseline is tuned
FRACTIONS = (1.0, 1 / 2, 1 / 3, 1 / 4, 1 / 6, 1 / 10)
PLAIN = {"model": {"tie_embeddings": True}, "pretrain": {"blanks": 0.0, "echo_steps": 0, "decay": 0.98}}


def gpt2_style(rate: float) -> Restyle:
    """AdamW over everything, and the weights drawn as in GPT-2 (Radford et al. 2019, section 2.3)."""

    def restyle(phase: Phase[Any]) -> Phase[Any]:
        model = model_of(phase)
        generator, residual = torch.Generator().manual_seed(model.config.width), len(model.layers)
        for name, parameter in model.named_parameters():
            if parameter.ndim == 2:
                writes = name.endswith(("o_proj.weight", "down_proj.weight"))
                nn.init.normal_(parameter, std=0.02 * ((2 * residual) ** -0.5 if writes else 1.0), generator=generator)
        matrices = [p for p in phase.model.parameters() if p.ndim == 2]
        rest = [p for p in phase.model.parameters() if p.ndim < 2]
        groups = [{"params": matrices, "weight_decay": 0.1}, {"params": rest, "weight_decay": 0.0}]
        optimizer = torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.95), fused=True)
        for group in optimizer.param_groups:
            group["peak"] = rate
        return dataclasses.replace(phase, optimizers=[optimizer])

    return restyle


class Choice(NamedTuple):
    """Of the baseline: places in `PLACES`."""

    rate: int
    rung: int
    words: int
    rows: int

    def way(self, text: Corpus) -> Way:
        (layers, width), words = plan.LADDER[self.rung], WORDS[self.words]
        rate, rows = RATES[self.rate], ROWS[self.rows]
        said = {"model": {"vocab_size": words}, "pretrain": {"rows_per_step": rows, "microbatch_rows": min(rows, 8)}}
        name = f"{layers} layers of {width}, {words:,} tokens, {rate:g}, {rows} rows"
        return Way(name, merge(merge(text.shape(layers, width), PLAIN), said), gpt2_style(rate))

    def near(self, what: str) -> list["Choice"]:
        """With one thing one place lower and higher."""
        place, last = getattr(self, what), len(PLACES[what]) - 1
        return [self._replace(**{what: new}) for new in (place - 1, place + 1) if 0 <= new <= last]


def baseline(school: School, minutes: float, *, like: Way, order: Sequence[str]) -> dict[Choice, Learned]:
    """Runs from one choice to the best that is near.

    like  whose size and vocabulary it begins with

    Steps of each are timed beside the first one's, which alone are timed for themselves: the speed of a machine drifts.
    """
    words = WORDS.index(like.settings["model"]["vocab_size"])
    first = Choice(RATES.index(2e-3), rung_of(like), words, ROWS.index(16))
    usual = first.way(school.corpus)
    pace = {first._replace(rate=0): school.paces([usual])[usual.name]}  # whatever the rate, steps take as long
    found: dict[Choice, Learned] = {}

    def learn(choice: Choice) -> None:
        way, alike = choice.way(school.corpus), choice._replace(rate=0)
        if alike not in pace:
            beside = school.paces([usual, way])
            pace[alike] = pace[first._replace(rate=0)] * beside[way.name] / beside[usual.name]
        found[choice] = school.learn(way, minutes, pace[alike])

    learn(first)
    for what in order:
        while fresh := [each for each in min(found, key=lambda c: found[c].bits).near(what) if each not in found]:
            for each in fresh:
                learn(each)
    return found


def dial(school: School, minutes: float, machine: plan.Machine) -> Way:
    """What the dial chooses for a phase I of so many minutes, timing real steps of the shapes that look best."""
    text = school.corpus

    def timer(model: ModelConfig, at_once: int, rows: int) -> float:
        told = {"pretrain": {"rows_per_step": rows, "microbatch_rows": at_once}}
        whole = merge(text.ours(model.num_layers, model.width), told)
        way = Way(f"{model.num_layers} layers of {model.width}", whole)
        return rows * CONTEXT / school.paces([way])[way.name]

    # compiled or not, the steps are timed as they will be
    budget = plan.Budget(60 * minutes, machine, compiled=False, law=text.law, unique=text.unique)
    chosen, choice = plan.choose_shape({"model": {"context_length": CONTEXT}}, budget, timer=timer)
    layers, width = chosen["model"]["num_layers"], chosen["model"]["width"]
    ours = text.shape(layers, width)
    following = plan.follow(resolve(ours).model, choice.tokens, choice.epochs)._asdict()
    words = ours["model"]["vocab_size"]
    return Way(f"{layers} layers of {width}, {words:,} tokens", merge(ours, {"pretrain": following}))


def rung_of(way: Way) -> int:
    """Its place in the dial's ladder."""
    return plan.LADDER.index((way.settings["model"]["num_layers"], way.settings["model"]["width"]))


def ours(school: School, machine: plan.Machine, choice: Choice, best: Learned) -> list[Learned]:
    """Shorter and shorter, until it is worse than the baseline's best.

    The speed of a machine drifts: how long the baseline's steps take is timed again, beside ours.
    """
    found: list[Learned] = []
    for fraction in FRACTIONS:
        way = dial(school, best.minutes * fraction, machine)
        theirs = choice.way(school.corpus)
        pace = school.paces([way, theirs])
        same = school.learn(way, fraction * best.steps * pace[theirs.name] / 60, pace[way.name])
        found.append(same._replace(minutes=fraction * best.minutes))
        if found[-1].bits > best.bits:
            break
    return found


def time_to(bits: float, runs: Sequence[Learned]) -> float | None:
    """Minutes to so many bits per byte, between two runs on the line through the logarithm of their minutes.

    returns  the shortest run's when all reach it; None when none does
    """
    for longer, shorter in pairwise(runs):
        if shorter.bits > bits >= longer.bits:
            share = (shorter.bits - bits) / (shorter.bits - longer.bits)
            return math.exp(math.log(shorter.minutes) + share * math.log(longer.minutes / shorter.minutes))
    return runs[-1].minutes if runs[-1].bits <= bits else None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--minutes", type=float, default=3.0, help="of each baseline run")
    parser.add_argument("--on", nargs="*", default=["tinyworld", "chilit"], choices=["tinyworld", "chilit"])
    parser.add_argument("--keep", type=Path, help="a file for what was measured; what it knows is not done again")
    parser.add_argument("--quick", action="store_true", help="seconds, only the learning rate tuned")
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args()
    minutes, compiled = (0.05, False) if chosen.quick else (chosen.minutes, compiles())
    configs = {
        "tinyworld": DataConfig(stories=3000 if chosen.quick else 100_000),
        "chilit": DataConfig(text=(str((chosen.data / "pre_chilit" / "docs.jsonl.gz").resolve()),)),
    }
    result, notes = {}, Notes(chosen.keep)
    with tempfile.TemporaryDirectory() as folder:
        settings = resolve({"compute": {"compile": compiled}}).compute
        compute = prepare(settings, torch.device("cpu"), Path(folder) / "compiled")
        measured = notes.find(lambda: msgspec.to_builtins(plan.measure_machine(compute)), compiled=compiled)
        machine = msgspec.convert(measured, plan.Machine)
        for name in chosen.on:
            text = corpus(name, configs[name], most=QUICK if chosen.quick else WHOLE)
            school = School(text, compute, Path(folder), turns=1 if chosen.quick else TURNS, notes=notes)
            theirs = baseline(
                school, minutes, like=dial(school, minutes, machine), order=ORDER[: 1 if chosen.quick else None]
            )
            choice = min(theirs, key=lambda each: theirs[each].bits)
            best = theirs[choice]
            mine = ours(school, machine, choice, best)
            taken = time_to(best.bits, mine)
            result[name] = {"time_ratio": None if taken is None else taken / best.minutes}
            if not chosen.json:
                show(name, list(theirs.values()), mine, taken, best)
    if chosen.json:
        print(json.dumps(result))
    return 0


def show(name: str, theirs: Sequence[Learned], mine: Sequence[Learned], taken: float | None, best: Learned) -> None:
    print(f"{name:<10} {'':<46} minutes     steps   bits/byte")
    for who, runs in (("baseline", theirs), ("ours", mine)):
        for run in runs:
            told = f"{who:<10} {run.way:<46} {run.minutes:>7.2f}   {run.steps:>7,}   {run.bits:>9.4f}"
            print(told + ("  best" if run is best else ""))
    if taken is None:
        print("the baseline's best is not reached in its time\n", flush=True)
    else:
        print(f"the baseline's best in {taken:.2f} minutes: {taken / best.minutes:.2f} of its time\n", flush=True)


if __name__ == "__main__":
    sys.exit(main())
