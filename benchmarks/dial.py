"""Whether the dial chooses well: what it chose for a time, beside a sweep over sizes for the same time.

    python benchmarks/dial.py [--minutes 1 3 10] [--data FOLDER] [--json] [--quick]

Of each time, phase I is run as a user would (`trivium pretrain --minutes T`), which says how well the time is kept;
then every rung of the ladder near the dial's choice is taught for as many steps as fit into that time at the measured
speed of each (school.py), the dial's own among them, three seeds where two are close. The excess is that of the dial's
size over the best of the sweep, in percent of the held-out bits per byte. On TinyWorld, or on the text of a folder.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parents[1]))  # started by its path, it finds its siblings

import torch

from benchmarks.school import Learned, School, Way, corpus, shape
from trivium import plan
from trivium.compute import Compute, prepare
from trivium.config import DataConfig, read_settings, resolve

REACH = 2  # rungs to each side of the dial's
CLOSE = 1.005  # sizes whose bits lie within this of the best are taught with more seeds
SEEDS = 3


class Chosen(NamedTuple):
    """What `trivium pretrain` did with its minutes."""

    layers: int
    width: int
    seconds: float


def run_dial(minutes: float, data: list[str], folder: Path) -> Chosen:
    out = folder / f"run-{minutes:g}"
    command = [sys.executable, "-m", "trivium", "pretrain", "--minutes", f"{minutes:g}", "--out", str(out), *data]
    begun = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[1])
    seconds = time.monotonic() - begun
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    recipe = resolve(read_settings(out / "recipe.toml"))
    return Chosen(recipe.model.num_layers, recipe.model.width, seconds)


def rungs_near(layers: int, width: int) -> list[tuple[int, int]]:
    place = plan.LADDER.index((layers, width))
    return list(plan.LADDER[max(0, place - REACH) : place + REACH + 1])


def sweep(school: School, chosen: Chosen, minutes: float) -> list[Learned]:
    """Mean bits per byte of each size, over one seed or, of those near the best, more."""
    ways = [Way(f"{layers} layers of {width}", shape(layers, width)) for layers, width in rungs_near(*chosen[:2])]
    pace = school.paces(ways)
    found = {way.name: [school.learn(way, minutes, pace[way.name])] for way in ways}
    best = min(runs[0].bits for runs in found.values())
    for way in ways:
        if found[way.name][0].bits <= CLOSE * best:
            found[way.name] += [school.learn(way, minutes, pace[way.name], seed=seed) for seed in range(1, SEEDS)]
    return [runs[0]._replace(bits=sum(run.bits for run in runs) / len(runs)) for runs in found.values()]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, nargs="*", default=[1.0, 3.0, 10.0])
    parser.add_argument("--data", type=Path, help="a folder or file of text, in place of TinyWorld")
    parser.add_argument("--quick", action="store_true", help="ten seconds in place of one minute, nothing else")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    data = DataConfig(text=(str(asked.data.resolve()),)) if asked.data else DataConfig(stories=150_000)
    flags = ["--data.text", str(asked.data.resolve())] if asked.data else []
    result = {}
    with tempfile.TemporaryDirectory() as folder:
        text, schools = corpus("dial", data), dict[bool, School]()
        for minutes in [1 / 6] if asked.quick else asked.minutes:
            chosen = run_dial(minutes, flags, Path(folder))
            compiled = minutes / plan.share_through("pretrain") >= plan.COMPILE_FROM_MINUTES
            if compiled not in schools:
                schools[compiled] = School(text, computing(Path(folder), compiled=compiled), Path(folder))
            runs = sweep(schools[compiled], chosen, minutes)
            mine = next(run for run in runs if run.way == f"{chosen.layers} layers of {chosen.width}")
            best = min(runs, key=lambda run: run.bits)
            found = {
                "excess_percent": 100 * (mine.bits / best.bits - 1),
                "time_error_percent": 100 * (chosen.seconds / (60 * minutes) - 1),
            }
            result[f"{minutes:g}"] = found
            if not asked.json:
                show(minutes, runs, mine, best, found)
    if asked.json:
        print(json.dumps(result))
    return 0


def computing(folder: Path, *, compiled: bool) -> Compute:
    return prepare(resolve({"compute": {"compile": compiled}}).compute, torch.device("cpu"), folder / "compiled")


def show(minutes: float, runs: list[Learned], mine: Learned, best: Learned, found: dict[str, float]) -> None:
    print(f"{minutes:g} minutes {'':<22} steps   bits/byte")
    for run in runs:
        note = "   the dial's" * (run is mine) + "   best" * (run is best)
        print(f"  {run.way:<26} {run.steps:>7,}   {run.bits:>9.4f}{note}")
    told = f"{found['excess_percent']:.2f} % above the best; {found['time_error_percent']:+.1f} % of the time"
    print(f"  the dial: {told}\n", flush=True)


if __name__ == "__main__":
    sys.exit(main())
