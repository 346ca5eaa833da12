"""Tokens per second of phase I with layers in C++, beside the same layers as modules, plain and compiled.

    python benchmarks/layers.py [--json] [--quick]

A step is 4,096 tokens, as in benchmarks/pretrain.py; attention, the loss, Muon and the gradients of weights are C++ for
all. Interleaved in one process; what compiling takes is not counted, for anyone. Run it on a quiet machine.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

os.environ.setdefault("GOMP_SPINCOUNT", "2000")  # as the command line does, before torch
sys.path.insert(0, str(Path(__file__).parents[1]))  # started by its path, it finds its siblings

import torch

from benchmarks.pretrain import ROWS, Text, Timed, interleaved, ours
from benchmarks.shapes import SHAPES, spread
from trivium.compute import prepare
from trivium.config import resolve
from trivium.model.transformer import Block

TURNS, QUICK_TURNS, STEPS = 15, 3, 4  # and steps in each turn


def ways(text: Text, shape: dict[str, Any], folder: Path) -> Iterator[tuple[str, Timed]]:
    for name, compiled in (("C++", False), ("modules", False), ("modules, compiled", True)):
        settings = resolve({"compute": {"compile": compiled}}).compute
        timed = ours(text, shape, prepare(settings, torch.device("cpu"), folder / "compiled"), ROWS)
        yield name, by_modules(timed) if name == "modules" else timed


def by_modules(timed: Timed) -> Timed:
    def steps(number: int) -> float:
        with patch.object(Block, "_is_native", lambda layer, x: False):
            return timed(number)

    return steps


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="S alone, fewer turns")
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args()
    result = dict[str, dict[str, float]]()
    with tempfile.TemporaryDirectory() as folder:
        for name in ["S"] if chosen.quick else SHAPES:
            text = Text.learned(SHAPES[name]["vocab_size"], Path(folder) / name)
            every = dict(ways(text, SHAPES[name], Path(folder)))
            speeds = interleaved(every, QUICK_TURNS if chosen.quick else TURNS, STEPS)
            ratios = {
                way: [a / b for a, b in zip(speeds["C++"], theirs, strict=True)] for way, theirs in speeds.items()
            }
            result[name] = {way: statistics.median(found) for way, found in ratios.items() if way != "C++"}
            for way, found in speeds.items() if not chosen.json else ():
                ratio = "" if way == "C++" else spread(ratios[way])
                print(f"{name:<3} {way:<19} {statistics.median(found):>8,.0f} tokens/s   {ratio}", flush=True)
    if chosen.json:
        print(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
