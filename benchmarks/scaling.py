"""How bits per byte fall with size and with text read: the sweeps from which the dial's law was fitted, and the fit.

    python benchmarks/scaling.py [--keep FOLDER] [--data FOLDER_OF_TEXT] [--study sizes|rates|repeats] [--fit]
                                 [--json] [--quick]

Every lesson is one size taught with so many tokens, from fresh weights, with the learning rate brought down to zero.
What is counted is text, not time, so a machine may do other things meanwhile. Lessons that FOLDER knows already are not
taught again; with --seconds none is begun after that time. On TinyWorld, or on the text of a folder.
"""

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("GOMP_SPINCOUNT", "2000")  # as the command line does, before torch
sys.path.insert(0, str(Path(__file__).parents[1]))  # started by its path, it finds its siblings

import numpy as np
import torch

from benchmarks.school import CONTEXT, Corpus, School, Way, compiles, corpus
from trivium.compute import Compute, prepare
from trivium.config import DataConfig, PretrainConfig, Settings, merge, resolve
from trivium.model.shape import ModelConfig
from trivium.plan import Law, Leap, follow, more_bytes_in

FEWEST_TOKENS = 2**20  # with less a model has hardly begun, and obeys no law
FEWEST_LESSONS, FEWEST_TO_LEAP = 4, 10  # the law has three constants, and four more with a leap
POWERS = (0.3, 0.35, 0.4, 0.45, 0.5, 0.6, 0.7)
LEAPING_POWERS, SHARPNESSES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0), (2.0, 4.0, 8.0, 16.0)
STORIES, QUICK_STORIES = 60_000, 5_000
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


def model_of(width: int) -> ModelConfig:
    """As far as a step follows from it."""
    return resolve({"model": {"width": width, "context_length": CONTEXT}}).model


def sizes() -> Iterator[Lesson]:
    """The law: shapes and text, in steps as the dial would take."""
    for layers, width, millions in (
        (2, 64, (1, 2, 4, 8)), (3, 96, (1, 2, 4, 8)), (4, 128, (1, 2, 4, 8)), (5, 192, (1, 2, 4)),
    ):  # fmt: skip
        for tokens in (MILLION * count for count in millions):
            yield Lesson(layers, width, tokens, follow(model_of(width), tokens).rows_per_step)


def rates() -> Iterator[Lesson]:
    """Rows in a step, and how fast the weights follow."""
    for rows, rate in ((8, 1.0), (32, 1.0), (8, 0.7), (16, 0.5), (16, 1.4), (32, 1.4), (4, 0.7), (4, 1.0)):
        yield Lesson(2, 64, MILLION, rows, rate)
    for rows, rate in ((8, 0.7), (8, 1.0), (32, 1.0), (32, 1.4)):
        yield Lesson(2, 64, 4 * MILLION, rows, rate)


def few() -> Iterator[Lesson]:
    """Whether it works; too little text for the law."""
    for layers, width in ((2, 64), (3, 96)):
        yield Lesson(layers, width, MILLION // 16)


def repeats() -> Iterator[Lesson]:
    """The same text again and again, and what weight decay then does."""
    for share in (1 / 16, 1 / 128):
        for weight_decay in (0.0, 0.3, 1.0):
            yield Lesson(3, 96, 2 * MILLION, weight_decay=weight_decay, share=share)


QUICK = "quick"
STUDIES = {"sizes": sizes, "rates": rates, "repeats": repeats, QUICK: few}


def teach(school: School, lesson: Lesson) -> dict[str, Any]:
    usual: Settings = {"rows_per_step": lesson.rows, "microbatch_rows": min(lesson.rows, USUAL.microbatch_rows)}
    usual |= {"learning_rate": lesson.rate * USUAL.learning_rate, "weight_decay": lesson.weight_decay}
    usual |= {"matrix_learning_rate": lesson.rate * USUAL.matrix_learning_rate}
    way = Way("lesson", merge(school.corpus.shape(lesson.layers, lesson.width), {"pretrain": usual}))
    steps, begun = lesson.tokens // (lesson.rows * CONTEXT), time.monotonic()
    learned = school.teach(way, steps)
    model = resolve(way.settings).model
    return lesson._asdict() | {
        "parameters": model.matrix_parameters,
        "vocab_size": model.vocab_size,
        "bytes_per_token": school.bytes_per_token(model.vocab_size),
        "bits": learned.bits,
        "seconds": round(time.monotonic() - begun, 1),
    }


def fit(lessons: list[dict[str, Any]], power: float, leap: Leap | None = None) -> tuple[Law, float]:
    """The law with this power whose share of error is least, and that share, its root mean square.

    Linear least squares in the other constants.

    leap  at this place and as sharp as this; how many bits it is worth is found
    """
    bits, parameters, read = (np.array([of(one) for one in lessons]) for of in (_bits, _parameters, _read))
    terms = [np.ones_like(bits), parameters**-power, read**-power]
    if leap:
        one_bit = leap._replace(bits=-1.0)
        terms.append(np.array([one_bit.gained(*pair) for pair in zip(parameters, read, strict=True)]))
    shares = np.stack(terms, axis=1) / bits[:, None]
    constants = np.linalg.lstsq(shares, np.ones_like(bits), rcond=None)[0]
    floor, size, text, *gained = constants.tolist()
    known = statistics.mean(one["bytes_per_token"] - more_bytes_in(one["vocab_size"]) for one in lessons)
    law = Law(floor, size, text, power, known, leap._replace(bits=gained[0]) if leap else None)
    return law, float(np.sqrt(np.mean((shares @ constants - 1) ** 2)))


def fit_leap(lessons: list[dict[str, Any]], power: float) -> tuple[Law, float]:
    """The law with a leap, wherever it fits best."""
    tried = []
    for leaping in LEAPING_POWERS:
        places = [_read(one) * _parameters(one) ** leaping for one in lessons]
        for place in np.geomspace(min(places), max(places), 40).tolist():
            tried += [fit(lessons, power, Leap(1.0, place, leaping, sharpness)) for sharpness in SHARPNESSES]
    return min((one for one in tried if is_law(one[0])), key=lambda one: one[1])


def is_law(law: Law) -> bool:
    """Whether more never hurts."""
    return min(law.size, law.text, law.leap.bits if law.leap else 1.0) > 0


def _bits(one: dict[str, Any]) -> float:
    return float(one["bits"])


def _parameters(one: dict[str, Any]) -> float:
    return float(one["parameters"])


def _read(one: dict[str, Any]) -> float:
    return float(one["tokens"] * one["bytes_per_token"])


def show(known: list[dict[str, Any]]) -> None:
    print("layers  width  parameters     tokens  rows  rate  decay    share  bits/byte")
    for one in known:
        told = f"{one['layers']:>6}  {one['width']:>5}  {one['parameters']:>10,} {one['tokens']:>10,}  {one['rows']:>4}"
        print(f"{told}  {one['rate']:>4}  {one['weight_decay']:>5}  {one['share']:>7.4f}  {one['bits']:>9.4f}")


class Fitted(NamedTuple):
    law: Law
    error: float


def laws(known: list[dict[str, Any]]) -> list[Fitted]:
    """One for each power, without and with a leap; none from fewer lessons than tell a law from its error."""
    lessons = [one for one in known if one["tokens"] >= FEWEST_TOKENS]
    if len(lessons) < FEWEST_LESSONS:
        return []
    fits = [fit] if len(lessons) < FEWEST_TO_LEAP else [fit, fit_leap]
    return [Fitted(*by(lessons, power)) for by in fits for power in POWERS]


def show_laws(fitted: list[Fitted]) -> None:
    for law, error in fitted:
        constants = f"{law.floor:.3f} + {law.size:.3g} N^-{law.power} + {law.text:.3g} D^-{law.power}"
        ratio = law.bytes_per_parameter / law.bytes_per_token
        if leap := law.leap:
            constants += (
                f", {leap.bits:.3f} less where D N^{leap.power} > {leap.text:.3g}, as sharp as {leap.sharpness}"
            )
        print(f"{constants:<44} error {100 * error:.1f} %, {ratio:.0f} tokens a parameter")


def measured_pieces(texts: list[str]) -> list[str]:
    pieces = [text[at : at + PIECE] for text in texts for at in range(0, len(text), PIECE)]
    return pieces[:: max(1, len(pieces) // PIECES)]


class Study:
    """Lessons on one corpus, kept in a file."""

    def __init__(self, name: str, text: str, keep: Path) -> None:
        self.lessons, self.text, self.keep = list(STUDIES[name]()), text, keep
        self.file = keep / f"{text}-{name}.jsonl"

    @property
    def known(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.file.read_text().splitlines()] if self.file.exists() else []

    def missing(self) -> list[Lesson]:
        known = self.known
        return [one for one in self.lessons if not any(one._asdict().items() <= other.items() for other in known)]

    def teach(self, data: DataConfig, compute: Compute, seconds: float) -> bool:
        """All that is missing; whether the time was enough."""
        begun = time.monotonic()
        whole = corpus(self.text, data, self.keep / "texts")
        whole = whole._replace(held_out=measured_pieces(whole.held_out))
        schools: dict[float, School] = {}
        for lesson in self.missing():
            if time.monotonic() - begun > seconds:
                return False
            if lesson.share not in schools:
                schools[lesson.share] = School(part_of(whole, lesson.share), compute, self.keep)
            found = json.dumps(teach(schools[lesson.share], lesson))
            with self.file.open("a") as file:
                file.write(found + "\n")
            print(found, file=sys.stderr, flush=True)
        return True


def part_of(whole: Corpus, share: float) -> Corpus:
    """Texts from beginning to end of it."""
    few = [text for index, text in enumerate(whole.texts) if int(index * share) != int((index - 1) * share)]
    return whole._replace(name=f"{whole.name}-{share}", texts=few)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--keep", type=Path, default=Path("runs/scaling"), help="where what was measured is kept")
    parser.add_argument("--data", type=Path, help="a folder or file of text, in place of TinyWorld")
    parser.add_argument("--study", choices=[name for name in STUDIES if name != QUICK], default="sizes")
    parser.add_argument("--fit", action="store_true", help="teach nothing; show what is known, and the law of sizes")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=1e9)
    parser.add_argument("--quick", action="store_true", help="a study of two short lessons, nothing compiled")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    asked.keep.mkdir(parents=True, exist_ok=True)
    name = QUICK if asked.quick else asked.study
    study, done = Study(name, asked.data.stem if asked.data else "tinyworld", asked.keep), True
    if not asked.fit:
        settings = resolve({"compute": {"threads": asked.threads, "compile": not asked.quick and compiles()}}).compute
        compute = prepare(settings, torch.device("cpu"), asked.keep / "code")
        stories = QUICK_STORIES if asked.quick else STORIES
        data = DataConfig(text=(str(asked.data.resolve()),)) if asked.data else DataConfig(stories=stories)
        done = study.teach(data, compute, asked.seconds)
    fitted = laws(study.known) if name == "sizes" else []
    if asked.json:
        said = [law._asdict() | {"error": error} for law, error in fitted]
        print(json.dumps({"lessons": study.known, "laws": said}))
    else:
        show(study.known)
        show_laws(fitted)
    return 0 if done else 3


if __name__ == "__main__":
    sys.exit(main())
