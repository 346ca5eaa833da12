"""Simulated raters: honest about what they are, and as noisy as asked."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trivium.errors import ConfigError, DataError
from trivium.feedback.agreement import agreement, implied_accuracy
from trivium.feedback.judges import SimulatedJudge
from trivium.feedback.store import NewPair, NewVote, Store
from trivium.records import Message


def judge(noise: float = 0.0, seed: int = 0, **settings: object) -> SimulatedJudge[str]:
    return SimulatedJudge(score=lambda item, answer: float(answer.count(item)), noise=noise, seed=seed, **settings)  # type: ignore[arg-type]


def test_without_noise_the_higher_score_wins() -> None:
    quiet = judge()
    assert [quiet.choose("k", 2, 1), quiet.choose("k", 1, 2), quiet.choose("k", 1, 1)] == ["first", "second", "tie"]
    assert quiet.compare("k", "mill", "the mill", "the inn") == "first"


def test_scores_within_the_margin_are_a_tie() -> None:
    assert [judge(margin=0.5).choose("k", 1.0, second) for second in (1.5, 1.6)] == ["tie", "second"]


@pytest.mark.parametrize("noise", [0.0, 0.16, 0.3, 0.49])
def test_the_share_of_wrong_votes_is_the_noise(noise: float) -> None:
    n = 20_000
    wrong = sum(judge(noise, seed=5).choose(key, 1, 0) == "second" for key in range(n))
    assert abs(wrong / n - noise) <= 4 * (noise * (1 - noise) / n) ** 0.5


@pytest.mark.parametrize("wanted", [0.63, 0.73, 0.85])
def test_two_judges_agree_as_often_as_asked(wanted: float) -> None:
    noise = 1 - implied_accuracy(wanted)
    assert (1 - noise) ** 2 + noise**2 == pytest.approx(wanted)
    raters = [judge(noise, seed) for seed in (1, 2)]
    found = agreement((key, rater.choose(key, 1, 0)) for key in range(10_000) for rater in raters)
    assert found is not None
    assert abs(found.rate - wanted) < 0.02


@given(st.text() | st.integers(), st.integers(), st.floats(-9, 9), st.floats(-9, 9))
def test_a_vote_repeats_and_swaps_with_its_scores(key: str | int, seed: int, one: float, other: float) -> None:
    there, back = judge(0.4, seed).choose(key, one, other), judge(0.4, seed).choose(key, other, one)
    assert there == judge(0.4, seed).choose(key, one, other)
    assert {"first": "second", "second": "first", "tie": "tie"}[there] == back


@pytest.mark.parametrize("noise", [-0.1, 0.5, 1.0, float("nan")])
def test_noise_out_of_range_is_refused(noise: float) -> None:
    with pytest.raises(ConfigError, match=r"noise = .*: must be at least 0 and below 0\.5"):
        judge(noise)


def test_a_judge_is_called_simulated_and_has_a_margin() -> None:
    with pytest.raises(ConfigError, match='name = "Ann": must begin with "simulated"'):
        judge(name="Ann")
    with pytest.raises(ConfigError, match=r"margin = -1: must be finite and not negative"):
        judge(margin=-1)


def test_a_score_that_is_no_number_is_refused() -> None:
    with pytest.raises(DataError, match="pair k: scores nan and 1; a gold score must be finite"):
        judge().choose("k", float("nan"), 1)


def test_a_judge_votes_into_the_store_under_its_name(store: Store) -> None:
    rater = judge()
    stored = store.add_rater(rater.name, simulated=True)
    store.add_pairs([NewPair((Message("user", "mill"),), "the inn", "the mill", 1)])
    for pair in store.pairs():
        choice = rater.compare(pair.key, pair.prompt[0].content, pair.first, pair.second)
        store.add_vote(NewVote(pair.id, stored.id, choice, f"{rater.name}/{rater.seed}/{pair.key}"))
    (labelled,) = store.labelled_pairs()
    assert (labelled.preference, labelled.simulated) == (0.0, True)
