"""What cutting blanks into a share of the documents costs in next-word loss, and what filling blanks it buys.

    python benchmarks/blanks.py [TEXT …] [--seeds 0 1 2] [--json] [--quick]

A small model learns each TEXT, a file, a folder or `tinyworld` (that alone where none is named), from as many rows each
time, on one thread; nothing but the share and the seed differs. Held-out bits per byte are those of whole documents;
the blanks are held-out words. Cost is the mean over seeds of the difference to no blanks at the same seed, with its
least and most.
"""

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).parents[1]))  # started by its path, it finds its siblings

import torch

from benchmarks.school import Most, School, Way, corpus
from trivium.compute import prepare
from trivium.config import DataConfig, Settings, merge, resolve
from trivium.evaluate.blanks import blank_accuracy
from trivium.text.blanks import held_out_blanks

SHARES = (0.0, 0.15, 0.5, 0.9)
MOST = Most(to_learn=3_000_000, to_measure=150_000)
SHAPE = {"num_layers": 2, "width": 96, "num_heads": 3, "num_kv_heads": 3, "mlp_width": 288, "context_length": 128}
PLAIN: Settings = {
    "compute": {"compile": False, "threads": 1},
    "model": {**SHAPE, "vocab_size": 1024},
    "pretrain": {"rows_per_step": 16, "microbatch_rows": 16, "echo_steps": 0},
}


class Found(NamedTuple):
    bits_per_byte: list[float]  # by seed
    accuracy: list[float]


def compare(text: str, *, steps: int, seeds: Sequence[int], shares: Sequence[float]) -> dict[str, Found]:
    """One text; by the share of its documents that are cut."""
    found = {f"{share:g}": Found([], []) for share in shares}
    with tempfile.TemporaryDirectory() as folder:
        compute = prepare(resolve(PLAIN).compute, torch.device("cpu"), Path(folder) / "compiled")
        school = School(corpus(text, DataConfig(text=(text,), stories=12_000), most=MOST), compute, Path(folder))
        blanks = held_out_blanks(school.corpus.held_out, 0, 200)
        for seed in seeds:
            for share in shares:
                way = Way(f"{share:g}", merge(PLAIN, {"pretrain": {"blanks": share}}))
                model = school.model(way, steps, seed=seed)
                here = found[way.name]
                here.bits_per_byte.append(school.bits(model))
                here.accuracy.append(blank_accuracy(model, school.tokenizer(model.config.vocab_size), blanks))
                told = f"{here.bits_per_byte[-1]:.4f} bits/byte, {here.accuracy[-1]:.1%} of blanks"
                print(f"{text}: seed {seed}, share {share:g}: {told}", file=sys.stderr)
    return found


def summary(found: dict[str, Found]) -> dict[str, Any]:
    """Means over seeds; cost in percent of the bits per byte without blanks."""
    base = found["0"].bits_per_byte
    told: dict[str, Any] = {}
    for share, here in found.items():
        costs = [100 * (mine / none - 1) for mine, none in zip(here.bits_per_byte, base, strict=True)]
        told[share] = {
            "bits_per_byte": statistics.mean(here.bits_per_byte),
            "cost_percent": statistics.mean(costs),
            "cost_percent_least": min(costs),
            "cost_percent_most": max(costs),
            "blank_accuracy": statistics.mean(here.accuracy),
        }
    return told


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("texts", nargs="*", default=["tinyworld"], help="files or folders of text, or tinyworld")
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--quick", action="store_true", help="one seed, three shares, fewer steps")
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args()
    steps, seeds, shares = (100, [0], (0.0, 0.15, 0.9)) if chosen.quick else (chosen.steps, chosen.seeds, SHARES)
    result = {}
    for text in chosen.texts:
        name = Path(text).name
        result[name] = summary(compare(text, steps=steps, seeds=seeds, shares=shares))
        if not chosen.json:
            print(f"{name}, {steps} steps, {len(seeds)} seeds")
            print("  share  bits/byte   cost (least to most)       blanks filled")
            for share, told in result[name].items():
                span = f"{told['cost_percent_least']:+.1f} to {told['cost_percent_most']:+.1f}"
                cost = f"{told['cost_percent']:+.1f} % ({span})" if float(share) else ""
                print(
                    f"  {share:>5}  {told['bits_per_byte']:9.4f}   {cost:25}  {told['blank_accuracy']:.1%}", flush=True
                )
    if chosen.json:
        print(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
