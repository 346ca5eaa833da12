"""The law, by hand: what more parameters, more text and the same text again are worth."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trivium.plan import LAWS, Law, Leap
from trivium.plan.scaling import worth

LAW = Law(floor=0.5, size=10.0, text=40.0, power=0.5, bytes_per_token=4.0)
counts = st.floats(1e3, 1e12)


def test_the_law_is_the_sum_of_its_parts() -> None:
    assert LAW.bits(1e4, 1e6) == pytest.approx(0.5 + 10 / 100 + 40 / 1000)


def test_where_text_is_so_many_times_the_size_both_are_worth_the_same() -> None:
    assert LAW.bytes_per_parameter == pytest.approx(16)
    size, text = 1e5, 16e5
    more_size, more_text = LAW.bits(size * 1.001, text), LAW.bits(size, text * 1.001)
    assert more_size == pytest.approx(more_text, rel=1e-6)


def test_a_leap_is_half_done_where_it_says_and_comes_sooner_to_larger_models() -> None:
    leap = Leap(bits=0.1, text=1e9, power=0.5, sharpness=4.0)
    assert leap.gained(1e4, 1e7) == pytest.approx(0.05)
    assert leap.gained(1e6, 1e6) == pytest.approx(0.05)
    assert leap.gained(1e4, 5e6) < 0.01
    assert leap.gained(1e4, 3e7) > 0.098
    assert LAW._replace(leap=leap).bits(1e4, 1e7) == pytest.approx(LAW.bits(1e4, 1e7) - 0.05)


def test_a_leap_is_phase_ones_alone_and_the_rest_is_learned_for_life() -> None:
    law = LAW._replace(leap=Leap(bits=0.1, text=1e7, power=0.0, sharpness=16.0))
    assert law.bits(1e4, 5e6, lifetime=4.0) == pytest.approx(LAW.bits(1e4, 2e7), abs=1e-4)
    assert law.bits(1e4, 2e7, lifetime=4.0) == pytest.approx(LAW.bits(1e4, 8e7) - 0.1, abs=1e-4)


@pytest.mark.parametrize("name", LAWS)
def test_of_equal_operations_the_best_size_has_the_laws_text(name: str) -> None:
    law, operations = LAWS[name]._replace(leap=None), 1e13
    sizes = [10 ** (4 + step / 100) for step in range(400)]
    best = min(sizes, key=lambda size: law.bits(size, operations / size))
    assert operations / best / best == pytest.approx(law.bytes_per_parameter, rel=0.05)


@pytest.mark.parametrize("name", LAWS)
@given(counts, counts, counts)
def test_more_of_anything_never_hurts(name: str, size: float, read: float, unique: float) -> None:
    law, bits = LAWS[name], LAWS[name].bits(size, read, unique)
    assert law.bits(2 * size, read, unique) <= bits
    assert law.bits(size, 2 * read, unique) <= bits
    assert law.bits(size, read, 2 * unique) <= bits
    assert law.floor - (law.leap.bits if law.leap else 0) < law.bits(size, read) <= bits


def test_four_epochs_are_nearly_free_and_forty_are_not() -> None:
    assert worth(1.0, 1.0, 15.4) == 1
    assert worth(4.0, 1.0, 15.4) == pytest.approx(3.7, abs=0.05)  # Muennighoff et al. 2023, figure 5
    assert worth(40.0, 1.0, 15.4) < 16
    assert worth(1e9, 1.0, 15.4) == pytest.approx(1 + 15.4)
    assert worth(0.5, 1.0, 15.4) == 0.5


def test_little_text_makes_the_best_model_smaller() -> None:
    def best(unique: float) -> float:
        sizes = [10 ** (4 + step / 50) for step in range(250)]
        return min(sizes, key=lambda size: LAW.bits(size, 1e13 / size, unique))

    plenty, little, less = best(math.inf), best(3e6), best(3e5)
    assert less < little < plenty
