"""Whether the dial chooses well: what it chose for a time, beside a sweep over sizes for the same time.

    python benchmarks/dial.py [--minutes 1 3 10] [--data FOLDER] [--keep FILE] [--reach 2] [--json] [--quick]

Of each time, phase I is run as a user would (`trivium pretrain --minutes T`), which says how well the time is kept;
then every rung of the ladder near the dial's choice is taught for as many steps as fit into that time at the measured
speed of each (school.py), the dial's own among them, each with the rates and rows that the dial gives to its size; more
seeds where two are close. The excess is that of the dial's size over the best of the sweep, in percent of the held-out
bits per byte. What FILE knows already is not done again. On TinyWorld, or on the text of a folder.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import NamedTuple

os.environ.setdefault("GOMP_SPINCOUNT", "2000")  # as the command line does, before torch
sys.path.insert(0, str(Path(__file__).parents[1]))  # started by its path, it finds its siblings

import torch

from benchmarks.notes import Notes
from benchmarks.school import CONTEXT, School, Way, compiles, corpus
from trivium import plan
from trivium.compute import Compute, prepare
from trivium.config import DataConfig, PretrainConfig, Settings, merge, read_settings, resolve

CLOSE = 1.005  # sizes whose bits lie within this of the best are taught with more seeds
SEEDS = 3
STORIES = 150_000
Rung = tuple[int, int]


class Chosen(NamedTuple):
    """What `trivium pretrain` did with its minutes."""

    layers: int
    width: int
    rows_at_once: int
    seconds: float


class Size(NamedTuple):
    """A rung in the sweep."""

    rung: Rung
    steps: int
    bits: list[float]  # per held-out byte, of each seed

    @property
    def mean(self) -> float:
        return statistics.mean(self.bits)


def run_dial(minutes: float, data: list[str]) -> Chosen:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        command = [sys.executable, "-m", "trivium", "pretrain", "--minutes", f"{minutes:g}", "--out", str(out), *data]
        begun = time.monotonic()
        done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[1])
        seconds = time.monotonic() - begun
        if done.returncode:
            raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
        recipe = resolve(read_settings(out / "recipe.toml"))
    return Chosen(recipe.model.num_layers, recipe.model.width, recipe.pretrain.microbatch_rows, seconds)


def rungs_near(rung: Rung, reach: int) -> list[Rung]:
    place = plan.LADDER.index(rung)
    return list(plan.LADDER[max(0, place - reach) : place + reach + 1])


class Sweep:
    """Sizes taught for equal times on one corpus, compiled or not."""

    def __init__(self, school: School, chosen: Chosen, minutes: float, *, reach: int) -> None:
        self.school, self.minutes = school, minutes
        self.rows_at_once = chosen.rows_at_once
        self.chosen = chosen.layers, chosen.width
        self.rungs = rungs_near(self.chosen, reach)

    def sizes(self) -> list[Size]:
        paces = self.paces()
        found = [self.taught(rung, pace, [0]) for rung, pace in zip(self.rungs, paces, strict=True)]
        best = min(size.mean for size in found)
        return [
            self.taught(size.rung, pace, list(range(SEEDS)))
            if size.mean <= CLOSE * best or size.rung == self.chosen
            else size
            for size, pace in zip(found, paces, strict=True)
        ]

    def paces(self) -> list[float]:
        """Seconds of a token of each rung."""
        usual = PretrainConfig().rows_per_step
        ways = [self.way(rung, {"rows_per_step": usual}) for rung in self.rungs]
        measured = self.school.paces(ways)
        return [measured[way.name] / (usual * CONTEXT) for way in ways]

    def way(self, rung: Rung, pretrain: Settings) -> Way:
        whole = merge(self.school.corpus.ours(*rung), {"pretrain": {"microbatch_rows": self.rows_at_once, **pretrain}})
        return Way(f"{rung[0]} layers of {rung[1]}", whole)

    def taught(self, rung: Rung, pace: float, seeds: list[int]) -> Size:
        """As many tokens as fit, in steps as the dial would take."""
        usual = self.way(rung, {"rows_per_step": PretrainConfig().rows_per_step})
        tokens = (60 * self.minutes - self.school.beginning(usual)) / pace
        following = plan.follow(resolve(self.school.corpus.shape(*rung)).model, tokens)._asdict()
        steps = max(10, int(tokens / (following["rows_per_step"] * CONTEXT)))
        way = self.way(rung, following)
        return Size(rung, steps, [self.school.teach(way, steps, seed=seed).bits for seed in seeds])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, nargs="*", default=[1.0, 3.0, 10.0])
    parser.add_argument("--data", type=Path, help="a folder or file of text, in place of TinyWorld")
    parser.add_argument("--keep", type=Path, help="a file for what was measured; what it knows is not done again")
    parser.add_argument("--reach", type=int, default=2, help="rungs to each side of the dial's")
    parser.add_argument("--quick", action="store_true", help="six seconds in place of one minute, nothing else")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    data = DataConfig(text=(str(asked.data.resolve()),)) if asked.data else DataConfig(stories=STORIES)
    flags = ["--data.text", str(asked.data.resolve())] if asked.data else []
    notes, result = Notes(asked.keep), {}
    with tempfile.TemporaryDirectory() as folder:
        schools = dict[bool, School]()
        text = corpus("dial", DataConfig(stories=5000) if asked.quick and not asked.data else data)
        for minutes in [0.1] if asked.quick else asked.minutes:
            chosen = Chosen(*notes.find(partial(run_dial, minutes, flags), dial=minutes, corpus=text.fingerprint))
            compiled = compiles(minutes / plan.share_through("pretrain"))
            if compiled not in schools:
                schools[compiled] = School(text, computing(Path(folder), compiled=compiled), Path(folder), notes=notes)
            sweep = Sweep(schools[compiled], chosen, minutes, reach=asked.reach)
            sizes = sweep.sizes()
            mine = next(size for size in sizes if size.rung == (chosen.layers, chosen.width))
            best = min(sizes, key=lambda size: size.mean)
            found = {
                "excess_percent": 100 * (mine.mean / best.mean - 1),
                "time_error_percent": 100 * (chosen.seconds / (60 * minutes) - 1),
            }
            result[f"{minutes:g}"] = found
            if not asked.json:
                show(minutes, sizes, mine, best, found)
    if asked.json:
        print(json.dumps(result))
    return 0


def computing(folder: Path, *, compiled: bool) -> Compute:
    return prepare(resolve({"compute": {"compile": compiled}}).compute, torch.device("cpu"), folder / "compiled")


def show(minutes: float, sizes: list[Size], mine: Size, best: Size, found: dict[str, float]) -> None:
    print(f"{minutes:g} minutes {'':<14} steps   seeds   bits/byte")
    for size in sizes:
        note = "   the dial's" * (size is mine) + "   best" * (size is best)
        told = f"{size.rung[0]} layers of {size.rung[1]}"
        print(f"  {told:<18} {size.steps:>7,} {len(size.bits):>7}   {size.mean:>9.4f}{note}")
    told = f"{found['excess_percent']:.2f} % above the best; {found['time_error_percent']:+.1f} % of the time"
    print(f"  the dial: {told}\n", flush=True)


if __name__ == "__main__":
    sys.exit(main())
