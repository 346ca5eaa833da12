"""How bits per byte fall with size and with text read: the sweeps from which the dial's law was fitted, and the fit.

    python benchmarks/scaling.py --keep FOLDER [--data FOLDER_OF_TEXT] [--study sizes|rates|repeats] [--fit]

Every lesson is one size taught with so many tokens, from fresh weights, with the learning rate brought down to zero.
What is counted is text, not time, so a machine may do other things meanwhile. Lessons that FOLDER knows already are not
taught again; with --seconds none is begun after that time. On TinyWorld, or on the text of a folder.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).parents[1]))  # started by its path, it finds its siblings

import numpy as np
import torch

from benchmarks.school import CONTEXT, Corpus, School, Way, corpus, shape
from trivium.compute import prepare
from trivium.config import DataConfig, PretrainConfig, Settings, merge, resolve
from trivium.plan import Law, choose_echoes

FEWEST_TOKENS = 2**20  # with less a model has hardly begun, and obeys no law
POWERS = (0.3, 0.35, 0.4, 0.45, 0.5, 0.6, 0.7)
STORIES = 60_000
PIECE, PIECES = 2000, 150  # characters of what is held out, and how many such pieces are measured on
MILLION = 2**20
USUAL = PretrainConfig()


class Lesson(NamedTuple):
    """One size, and what it is taught with."""

    layers: int
    width: int
    tokens: int
    rows: int = USUAL.rows_per_step
    rate: float = 1.0  # times the usual learning rates
    weight_decay: float = 0.0
    share: float = 1.0  # of the text


def sizes() -> Iterator[Lesson]:
    """The law: shapes and text."""
    for layers, width, fewest, most in ((2, 64, 0.5, 8), (3, 96, 0.5, 8), (4, 128, 0.5, 8), (5, 192, 1, 4)):
        while fewest <= most:
            yield Lesson(layers, width, int(fewest * MILLION))
            fewest *= 2


def rates() -> Iterator[Lesson]:
    """Rows in a step, and how fast the weights follow."""
    for rows, rate in ((8, 1.0), (32, 1.0), (8, 0.7), (16, 0.5), (16, 1.4), (32, 1.4), (4, 0.7), (4, 1.0)):
        yield Lesson(2, 64, MILLION, rows, rate)
    for rows, rate in ((8, 0.7), (8, 1.0), (32, 1.0), (32, 1.4)):
        yield Lesson(2, 64, 4 * MILLION, rows, rate)


def repeats() -> Iterator[Lesson]:
    """The same text again and again, and what weight decay then does."""
    for share in (1 / 16, 1 / 128):
        for weight_decay in (0.0, 0.3, 1.0):
            yield Lesson(3, 96, 2 * MILLION, weight_decay=weight_decay, share=share)


STUDIES = {"sizes": sizes, "rates": rates, "repeats": repeats}


def teach(school: School, lesson: Lesson) -> dict[str, Any]:
    usual: Settings = {"rows_per_step": lesson.rows, "microbatch_rows": min(lesson.rows, USUAL.microbatch_rows)}
    usual |= {"learning_rate": lesson.rate * USUAL.learning_rate, "weight_decay": lesson.weight_decay}
    usual |= {"matrix_learning_rate": lesson.rate * USUAL.matrix_learning_rate}
    way = Way("lesson", merge(shape(lesson.layers, lesson.width), {"pretrain": usual}))
    steps, begun = lesson.tokens // (lesson.rows * CONTEXT), time.monotonic()
    learned = school.teach(way, steps)
    model = resolve(way.settings).model
    return lesson._asdict() | {
        "parameters": model.matrix_parameters,
        "bytes_per_token": school.bytes_per_token(model.vocab_size),
        "bits": learned.bits,
        "seconds": round(time.monotonic() - begun, 1),
    }


def fit(lessons: list[dict[str, Any]], power: float) -> tuple[Law, float]:
    """The law with this power whose share of error is least, and that share, its root mean square.

    Linear least squares in the other three constants; text is what was read, without words said twice.
    """
    bits, parameters, read = (np.array([of(one) for one in lessons]) for of in (_bits, _parameters, _read))
    terms = np.stack([np.ones_like(bits), parameters**-power, read**-power], axis=1) / bits[:, None]
    constants = np.linalg.lstsq(terms, np.ones_like(bits), rcond=None)[0]
    floor, size, text = constants.tolist()
    known = statistics.mean(one["bytes_per_token"] for one in lessons)
    return Law(floor, size, text, power, known), float(np.sqrt(np.mean((terms @ constants - 1) ** 2)))


def _bits(one: dict[str, Any]) -> float:
    return float(one["bits"])


def _parameters(one: dict[str, Any]) -> float:
    return float(one["parameters"])


def _read(one: dict[str, Any]) -> float:
    step = one["rows"] * CONTEXT
    echoes = choose_echoes(one["tokens"] // step)
    return float((one["tokens"] - echoes * step) * one["bytes_per_token"])


def show(known: list[dict[str, Any]]) -> None:
    print("layers  width  parameters     tokens  rows  rate  decay    share  bits/byte")
    for one in known:
        told = f"{one['layers']:>6}  {one['width']:>5}  {one['parameters']:>10,} {one['tokens']:>10,}  {one['rows']:>4}"
        print(f"{told}  {one['rate']:>4}  {one['weight_decay']:>5}  {one['share']:>7.4f}  {one['bits']:>9.4f}")


def show_fit(known: list[dict[str, Any]]) -> None:
    lessons = [one for one in known if one["tokens"] >= FEWEST_TOKENS]
    for power in POWERS:
        law, error = fit(lessons, power)
        ratio = law.bytes_per_parameter / law.bytes_per_token
        constants = f"{law.floor:.3f} + {law.size:.3g} N^-{power} + {law.text:.3g} D^-{power}"
        print(f"{constants:<44} error {100 * error:.1f} %, {ratio:.0f} tokens a parameter")


def measured_pieces(texts: list[str]) -> list[str]:
    pieces = [text[at : at + PIECE] for text in texts for at in range(0, len(text), PIECE)]
    return pieces[:: max(1, len(pieces) // PIECES)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--keep", type=Path, required=True, help="where what was measured is kept")
    parser.add_argument("--data", type=Path, help="a folder or file of text, in place of TinyWorld")
    parser.add_argument("--study", choices=STUDIES, default="sizes")
    parser.add_argument("--fit", action="store_true", help="teach nothing; show what is known, and the law of sizes")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=1e9)
    asked = parser.parse_args()
    begun, name = time.monotonic(), asked.data.stem if asked.data else "tinyworld"
    asked.keep.mkdir(parents=True, exist_ok=True)
    kept = asked.keep / f"{name}-{asked.study}.jsonl"
    known = [json.loads(line) for line in kept.read_text().splitlines()] if kept.exists() else []
    missing = [
        lesson for lesson in STUDIES[asked.study]() if not any(lesson._asdict().items() <= one.items() for one in known)
    ]
    if asked.fit:
        show(known)
        if asked.study == "sizes":
            show_fit(known)
        return 0
    data = DataConfig(text=(str(asked.data.resolve()),)) if asked.data else DataConfig(stories=STORIES)
    compute = prepare(
        resolve({"compute": {"threads": asked.threads}}).compute, torch.device("cpu"), asked.keep / "code"
    )
    text = corpus(name, data, asked.keep / "texts")
    text = text._replace(held_out=measured_pieces(text.held_out))
    schools: dict[float, School] = {}
    for lesson in missing:
        if time.monotonic() - begun > asked.seconds:
            return 3
        if lesson.share not in schools:
            few = [t for i, t in enumerate(text.texts) if int(i * lesson.share) != int((i - 1) * lesson.share)]
            schools[lesson.share] = School(Corpus(f"{name}-{lesson.share}", few, text.held_out), compute, asked.keep)
        found = teach(schools[lesson.share], lesson)
        with kept.open("a") as file:
            file.write(json.dumps(found) + "\n")
        print(json.dumps(found), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
