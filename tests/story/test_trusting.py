"""Whether anything may learn from a reward model."""

from types import SimpleNamespace
from typing import Any

import pytest

from trivium.config import resolve
from trivium.phases.align.trust import RewardReport, objection
from trivium.story.trusting import refuses


def report(accuracy: float, over_longer: float) -> RewardReport:
    """Of few votes: nothing is sure."""
    known = {"accuracy_low": accuracy - 0.2, "accuracy_high": 1.0, "longer_wins": accuracy - over_longer, "pairs": 20}
    return RewardReport(accuracy, ceiling=None, ece=0, length_correlation=None, by_margin=(), **known)._replace(  # type: ignore[arg-type]
        over_longer=over_longer, over_longer_low=over_longer - 0.2
    )


BETTER, LIKE_CHANCE, LIKE_LENGTH = report(0.6, 0.05), report(0.5, 0.1), report(0.65, 0.0)


@pytest.mark.parametrize(
    ("gate", "lenient", "refused"),
    [
        (True, False, [BETTER, LIKE_CHANCE, LIKE_LENGTH]),
        (False, True, [LIKE_CHANCE, LIKE_LENGTH]),
        (False, False, []),
        (False, None, []),
    ],
)
def test_what_is_not_surely_better_needs_a_word_and_in_a_short_run_what_is_not_better(
    gate: bool, lenient: bool | None, refused: list[RewardReport]
) -> None:
    recipe = resolve({"align": {"gate": gate}})
    dial = None if lenient is None else SimpleNamespace(lenient=lenient)
    teller: Any = SimpleNamespace(recipe=recipe, dial=dial)
    for one in (BETTER, LIKE_CHANCE, LIKE_LENGTH):
        assert objection(one)
        assert refuses(teller, one) is (one in refused)
