"""What each choice of phase I is worth at equal time: ours, and ours with one choice undone, over sizes and seeds.

    python benchmarks/choices.py DATA [--minutes 1] [--seeds 3] [--on tinyworld chilit] [--sizes 3x96 4x128]
        [--only NAME …] [--keep FILE] [--json] [--quick]

DATA holds pre_chilit/docs.jsonl.gz. Printed is by how many percent a way's held-out bits per byte lie above ours (less
is better, and a choice is worth keeping where undoing it costs), the mean over the seeds with its standard error where
there are several, on TinyWorld and on the books, for two sizes or others. What FILE knows already is not done again.
"""

import argparse
import dataclasses
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("GOMP_SPINCOUNT", "2000")  # as the command line does, before torch
sys.path.insert(0, str(Path(__file__).parents[1]))  # started by its path, it finds its siblings

import torch
from torch import nn

from benchmarks.notes import Notes
from benchmarks.school import QUICK, TURNS, WHOLE, Corpus, Restyle, School, Way, compiles, corpus, model_of
from trivium import plan
from trivium.compute import prepare
from trivium.config import DataConfig, Settings, merge, resolve
from trivium.train.phase import Phase

TOKENS = 1e6  # about as many as are read: the dial's steps are as large
ADAMW_RATES = (1e-3, 2e-3, 4e-3)  # of the matrices, in Muon's place


def said(**settings: object) -> Settings:
    return {"pretrain": settings}


CHANGES: dict[str, Settings] = {
    "steps of 16 rows": said(rows_per_step=16),
    "steps of 32 rows": said(rows_per_step=32),
    "learning rates halved": said(learning_rate=3e-3, matrix_learning_rate=0.015),
    "learning rates doubled": said(learning_rate=1.2e-2, matrix_learning_rate=0.06),
    "matrices twice as fast": said(matrix_learning_rate=0.06),
    "matrices four times as fast": said(matrix_learning_rate=0.12),
    "momentum of 0.95": said(momentum=0.95),
    "momentum of 0.9": said(momentum=0.9),
    "momentum of 0.6": said(momentum=0.6),
    "falling all the way": said(decay=0.98),
    "falling in the last fifth": said(decay=0.2),
    "weight decay of 0.1": said(weight_decay=0.1),
    "weight decay of 1": said(weight_decay=1.0),
    "no passages said twice": said(echo_steps=0),  # on TinyWorld; other text has none
    "passages said twice": said(echo_steps=320),
    "no blanks": said(blanks=0.0),
    "all tokens told apart": said(candidates=0),  # where ours tells some
    "not begun with pairs": said(bigrams=False),
    "tied embeddings, not begun with pairs": {"model": {"tie_embeddings": True}},
}
SAME_WORK = {"learning_rate", "matrix_learning_rate", "momentum", "decay", "weight_decay", "echo_steps", "bigrams"}
DRAWN = "outputs not zero"


def takes_as_long(name: str) -> bool:
    """Whether a way's steps take as long as ours, and need not be timed."""
    changed = CHANGES.get(name, {}).get("pretrain", {}).keys()
    return name == DRAWN or (bool(changed) and changed <= SAME_WORK)


def with_adamw(rate: float) -> Restyle:
    """AdamW for the matrices of the layers too."""

    def restyle(phase: Phase[Any]) -> Phase[Any]:
        optimizers = [phase.optimizers[0]]
        matrices = [p for name, p in phase.model.named_parameters() if p.ndim == 2 and "layers." in name]
        optimizers.append(torch.optim.AdamW(matrices, lr=rate, betas=(0.9, 0.95), weight_decay=0.0, fused=True))
        for group in optimizers[-1].param_groups:
            group["peak"] = rate
        return dataclasses.replace(phase, optimizers=optimizers)

    return restyle


def whole_matrices(phase: Phase[Any]) -> Phase[Any]:
    """Muon on whole matrices, where ours takes the neurons of a head at a time."""
    for group in phase.optimizers[1].param_groups:
        group["neurons"] = 0
    return phase


def drawn_outputs(phase: Phase[Any]) -> Phase[Any]:
    """Output projections drawn as in GPT-2, where ours start at zero."""
    spread = 0.02 * (2 * len(model_of(phase).layers)) ** -0.5
    generator = torch.Generator().manual_seed(1)
    for name, parameter in phase.model.named_parameters():
        if name.endswith(("o_proj.weight", "down_proj.weight")):
            nn.init.normal_(parameter, std=spread, generator=generator)
    return phase


def ways(text: Corpus, size: tuple[int, int]) -> Iterator[Way]:
    ours = text.shape(*size)
    ours = merge(ours, {"pretrain": plan.follow(resolve(ours).model, TOKENS)._asdict()})
    yield Way("ours", ours)
    for name, change in CHANGES.items():
        yield Way(name, merge(ours, change))
    for rate in ADAMW_RATES:
        yield Way(f"AdamW for matrices, {rate:g}", ours, with_adamw(rate))
    yield Way("Muon on whole matrices", ours, whole_matrices)
    yield Way(DRAWN, ours, drawn_outputs)


class Found(NamedTuple):
    """What a way comes to, over the seeds."""

    bits: float  # per held-out byte
    percent: float  # above ours
    error: float | None  # standard error of that; None of one seed


def compare(school: School, size: tuple[int, int], minutes: float, seeds: int, only: list[str]) -> dict[str, Found]:
    """Bits per byte of each way, and by how many percent it lies above ours, with the standard error of that."""
    chosen = [way for way in ways(school.corpus, size) if way.name == "ours" or not only or way.name in only]
    pace = school.paces([way for way in chosen if not takes_as_long(way.name)])
    bits = dict[str, list[float]]()
    for way in chosen:
        seconds = pace.get(way.name, pace["ours"])
        bits[way.name] = [school.learn(way, minutes, seconds, seed=seed).bits for seed in range(seeds)]
    found = {}
    for name, mine in bits.items():
        above = [100 * (a / b - 1) for a, b in zip(mine, bits["ours"], strict=True)]
        error = statistics.stdev(above) / len(above) ** 0.5 if seeds > 1 else None
        found[name] = Found(statistics.fmean(mine), statistics.fmean(above), error)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--minutes", type=float, default=1.0, help="of each run")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--on", nargs="*", default=["tinyworld", "chilit"], choices=["tinyworld", "chilit"])
    parser.add_argument("--sizes", nargs="*", default=["3x96", "4x128"], help="layers x width")
    parser.add_argument("--only", nargs="*", default=[], help="names of the ways to compare with ours")
    parser.add_argument("--keep", type=Path, help="a file for what was measured; what it knows is not done again")
    parser.add_argument("--quick", action="store_true", help="a second each, one size and seed, nothing compiled")
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args()
    minutes, seeds = (0.015, 1) if chosen.quick else (chosen.minutes, chosen.seeds)
    configs = {
        "tinyworld": DataConfig(stories=3000 if chosen.quick else 40_000),
        "chilit": DataConfig(text=(str((chosen.data / "pre_chilit" / "docs.jsonl.gz").resolve()),)),
    }
    result, notes = dict[str, Any](), Notes(chosen.keep)
    with tempfile.TemporaryDirectory() as folder:
        settings = resolve({"compute": {"compile": not chosen.quick and compiles()}}).compute
        compute = prepare(settings, torch.device("cpu"), Path(folder) / "compiled")
        for name in chosen.on:
            text = corpus(name, configs[name], most=QUICK if chosen.quick else WHOLE)
            school = School(text, compute, Path(folder), turns=1 if chosen.quick else TURNS, notes=notes)
            for size in chosen.sizes[: 1 if chosen.quick else None]:
                layers, width = map(int, size.split("x"))
                found = compare(school, (layers, width), minutes, seeds, chosen.only)
                title = f"{name}, {layers} layers of {width}, {minutes:g} minutes, {seeds} seeds"
                result[title] = {way: {"percent": each.percent, "error": each.error} for way, each in found.items()}
                if not chosen.json:
                    show(title, found)
    if chosen.json:
        print(json.dumps(result))
    return 0


def show(title: str, found: dict[str, Found]) -> None:
    print(f"{title:<60} bits/byte   above ours")
    for way, each in found.items():
        above = "" if way == "ours" else f"{each.percent:+.2f} %"
        print(f"  {way:<58} {each.bits:>9.4f}   {above}{f' (± {each.error:.2f})' if above and each.error else ''}")
    print(flush=True)


if __name__ == "__main__":
    sys.exit(main())
