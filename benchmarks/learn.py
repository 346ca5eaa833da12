"""How much is learned in the same time: our choices beside a tuned GPT-2-style baseline, in held-out bits per byte.

    python benchmarks/learn.py DATA [--minutes 3] [--json] [--quick]

DATA holds pre_chilit/docs.jsonl.gz. The baseline is the same code with the choices that everybody begins with: AdamW
for every weight, weights drawn with spread 0.02 and nothing started at zero, a learning rate that falls all the way, no
blanks and no words said twice; its learning rate is the best of those below, then its size the best at that rate, then
its rate the best at that size. Ours has the size that the dial chooses. How long ours takes to the baseline's bits per
byte follows from runs of shorter and shorter time, each with its learning rate brought down to zero.
"""

import argparse
import dataclasses
import json
import math
import sys
import tempfile
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))  # started by its path, it finds its siblings

import torch
from torch import nn

from benchmarks.school import Learned, Restyle, School, Way, corpus, shape
from trivium import plan
from trivium.compute import prepare
from trivium.config import DataConfig, merge, resolve
from trivium.train.phase import Phase

SIZES = ((3, 96), (4, 128), (5, 192))  # layers, width
RATES = (1e-3, 2e-3, 4e-3)
FRACTIONS = (1.0, 1 / 2, 1 / 3, 1 / 4, 1 / 6, 1 / 10)
PLAIN = {"pretrain": {"blanks": 0.0, "echo_steps": 0, "decay": 0.98}}


def gpt2_style(rate: float) -> Restyle:
    """AdamW over everything, and the weights drawn as in GPT-2 (Radford et al. 2019, section 2.3)."""

    def restyle(phase: Phase[Any]) -> Phase[Any]:
        generator, residual = torch.Generator().manual_seed(phase.model.config.width), len(phase.model.layers)
        for name, parameter in phase.model.named_parameters():
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


def baseline(school: School, minutes: float, *, quick: bool) -> list[Learned]:
    """Every rate at the middle size, every size at the best rate, every rate at the best size."""
    sizes, rates = (SIZES[1:2], RATES[1:2]) if quick else (SIZES, RATES)
    ways = {
        (size, rate): Way(f"{size[0]} layers of {size[1]}, {rate:g}", merge(shape(*size), PLAIN), gpt2_style(rate))
        for size in sizes
        for rate in rates
    }
    pace = school.paces([ways[size, rates[0]] for size in sizes])
    found: dict[tuple[tuple[int, int], float], Learned] = {}

    def learn(size: tuple[int, int], rate: float) -> None:
        if (size, rate) not in found:
            found[size, rate] = school.learn(ways[size, rate], minutes, pace[ways[size, rates[0]].name])

    def best() -> tuple[tuple[int, int], float]:
        return min(found, key=lambda key: found[key].bits)

    for rate in rates:
        learn(sizes[len(sizes) // 2], rate)
    for size in sizes:
        learn(size, best()[1])
    for rate in rates:
        learn(best()[0], rate)
    return list(found.values())


def ours(school: School, minutes: float, flops: float, until: float, *, compiled: bool) -> list[Learned]:
    """Shorter and shorter, until it is worse than that."""
    found: list[Learned] = []
    for fraction in FRACTIONS:
        whole = minutes * fraction / plan.share_of("pretrain")
        model = plan.choose_shape({}, whole, flops, compiled=compiled)["model"]
        way = Way(f"{model['num_layers']} layers of {model['width']}", shape(model["num_layers"], model["width"]))
        found.append(school.learn(way, minutes * fraction, school.paces([way])[way.name]))
        if found[-1].bits > until:
            break
    return found


def time_to(bits: float, runs: Sequence[Learned]) -> float:
    """Minutes to so many bits per byte, between two runs on the line through the logarithm of their minutes."""
    for longer, shorter in pairwise(runs):
        if shorter.bits > bits >= longer.bits:
            share = (shorter.bits - bits) / (shorter.bits - longer.bits)
            return math.exp(math.log(shorter.minutes) + share * math.log(longer.minutes / shorter.minutes))
    return runs[-1].minutes if runs[-1].bits <= bits else math.inf


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--minutes", type=float, default=3.0, help="of each baseline run")
    parser.add_argument("--quick", action="store_true", help="seconds, one size and one rate, nothing compiled")
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args()
    minutes = 0.1 if chosen.quick else chosen.minutes
    configs = {
        "tinyworld": DataConfig(stories=3000 if chosen.quick else 100_000),
        "chilit": DataConfig(text=(str(chosen.data / "pre_chilit" / "docs.jsonl.gz"),)),
    }
    result = {}
    with tempfile.TemporaryDirectory() as folder:
        settings = resolve({"compute": {"compile": not chosen.quick}}).compute
        compute = prepare(settings, torch.device("cpu"), Path(folder) / "compiled")
        flops = plan.measure_machine(compute).matmul_flops
        for name, data in configs.items():
            school = School(corpus(name, data), compute, Path(folder))
            theirs = baseline(school, minutes, quick=chosen.quick)
            best = min(theirs, key=lambda run: run.bits)
            mine = ours(school, minutes, flops, best.bits, compiled=not chosen.quick)
            taken = time_to(best.bits, mine)
            result[name] = {"time_ratio": taken / best.minutes}
            if not chosen.json:
                show(name, theirs, mine, taken, best)
    if chosen.json:
        print(json.dumps(result))
    return 0


def show(name: str, theirs: Sequence[Learned], mine: Sequence[Learned], taken: float, best: Learned) -> None:
    print(f"{name:<10} {'':<26} minutes     steps   bits/byte")
    for who, runs in (("baseline", theirs), ("ours", mine)):
        for run in runs:
            told = f"{who:<10} {run.way:<26} {run.minutes:>7.2f}   {run.steps:>7,}   {run.bits:>9.4f}"
            print(told + ("  best" if run is best else ""))
    print(f"the baseline's best in {taken:.2f} minutes: {taken / best.minutes:.2f} of its time\n", flush=True)


if __name__ == "__main__":
    sys.exit(main())
