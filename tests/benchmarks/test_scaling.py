"""The law of sizes: found again from lessons that obey it, and not from too few."""

import pytest

from benchmarks.scaling import MILLION, laws
from benchmarks.school import CONTEXT
from trivium.plan import Law, choose_echoes

TRUE = Law(0.2, 40.0, 300.0, 0.5, 4.0)


def lesson(parameters: int, tokens: int) -> dict[str, float]:
    step = 16 * CONTEXT
    read = (tokens - choose_echoes(tokens // step) * step) * TRUE.bytes_per_token
    bits = TRUE.floor + TRUE.size * parameters**-TRUE.power + TRUE.text * read**-TRUE.power
    return {"parameters": parameters, "tokens": tokens, "rows": 16, "bytes_per_token": 4.0, "bits": bits}


def test_the_law_of_lessons_that_obey_it_is_found_again() -> None:
    known = [lesson(size, tokens * MILLION) for size in (200_000, 600_000, 2_000_000) for tokens in (1, 2, 8)]
    (found,) = (one for one in laws(known) if one.law.power == TRUE.power)
    assert found.law == pytest.approx(TRUE)
    assert found.error == pytest.approx(0, abs=1e-9)


def test_there_is_no_law_of_few_lessons_or_little_text() -> None:
    assert laws([lesson(200_000, MILLION)] * 3) == []
    assert laws([lesson(200_000, MILLION // 16)] * 9) == []
