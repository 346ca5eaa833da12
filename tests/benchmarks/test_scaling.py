"""The law of sizes: found again from lessons that obey it, and not from too few."""

import pytest

from benchmarks.scaling import MILLION, laws
from trivium.plan import Law, Leap

TRUE = Law(0.2, 40.0, 300.0, 0.5, 4.0)
LEAP = Leap(0.05, 2e10, 0.6, 8.0)


def lesson(parameters: int, tokens: int, law: Law = TRUE) -> dict[str, float]:
    """In a vocabulary whose tokens are longer than those that the law speaks of."""
    bits, length = law.bits(parameters, law.bytes_in(tokens, 8192)), law.bytes_in(1, 8192)
    model = {"parameters": parameters, "vocab_size": 8192, "bytes_per_token": length}
    return {**model, "tokens": tokens, "rows": 16, "bits": bits}


def test_the_law_of_lessons_that_obey_it_is_found_again() -> None:
    known = [lesson(size, tokens * MILLION) for size in (200_000, 600_000, 2_000_000) for tokens in (1, 2, 8)]
    (found,) = (one for one in laws(known) if one.law.power == TRUE.power)
    assert found.law == pytest.approx(TRUE)
    assert found.error == pytest.approx(0, abs=1e-9)


def test_a_leap_is_found_where_lessons_make_one() -> None:
    sizes, law = (240_000, 560_000, 1_100_000, 3_200_000), TRUE._replace(leap=LEAP)
    known = [lesson(size, tokens * MILLION, law) for size in sizes for tokens in (1, 2, 4, 8)]
    (smooth, leaping) = (one for one in laws(known) if one.law.power == TRUE.power)
    assert smooth.law.leap is None
    assert leaping.law.leap is not None
    assert leaping.error < 0.2 * smooth.error
    assert leaping.law.leap.bits == pytest.approx(LEAP.bits, rel=0.1)
    for size, read in ((560_000, 8e6), (1_100_000, 4e7), (3_200_000, 1e7)):
        assert leaping.law.bits(size, read) == pytest.approx(law.bits(size, read), rel=0.02)


def test_there_is_no_law_of_few_lessons_or_little_text() -> None:
    assert laws([lesson(200_000, MILLION)] * 3) == []
    assert laws([lesson(200_000, MILLION // 16)] * 9) == []
