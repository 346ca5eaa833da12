"""Which pair next: hand-worked disagreement, diversity, a fair control, and fewer votes for the same accuracy."""

from collections import Counter
from collections.abc import Sequence
from math import log
from typing import Any

import numpy as np
import pytest

from trivium.errors import DataError
from trivium.feedback.pairs import (
    Candidate,
    Floats,
    Pick,
    candidates,
    choose_pairs,
    disagreement,
    prompt_vectors,
    uncertainty,
)


def pick(prompts: Sequence[str], margins: Floats, **how: Any) -> list[Pick]:
    """Of one candidate for each prompt."""
    return choose_pairs(prompts, [Candidate(number, 0, 1) for number in range(len(prompts))], margins, **how)


def test_members_who_are_sure_of_opposite_answers_disagree_by_log_two_and_those_unsure_alike_by_nothing() -> None:
    found = disagreement(np.array([[50.0, -50.0], [0.0, 0.0], [3.0, 3.0], [log(3), -log(3)]]))
    hand = log(2) - (0.25 * log(4) + 0.75 * log(4 / 3))  # P(first) is 3/4 and 1/4
    np.testing.assert_allclose(found, [log(2), 0, 0, hand], atol=1e-12)


def test_candidates_are_all_pairs_of_answers_to_a_prompt() -> None:
    found, margins = candidates(np.arange(12.0).reshape(2, 3, 2) ** 2)
    assert found[:3] == [Candidate(0, 0, 1), Candidate(0, 0, 2), Candidate(0, 1, 2)]
    assert len(found) == 6
    assert margins[0].tolist() == [0 - 4, 1 - 9]


def test_the_same_question_is_not_asked_twice_where_another_is_nearly_as_uncertain() -> None:
    prompts = ["where is ada now"] * 5 + ["sing a song of sixpence", "what colour has the mill"]
    margins = np.array([[4.0, -4.0]] * 5 + [[2.0, -2.0], [2.0, -2.0]])
    picks = pick(prompts, margins, count=3, random_share=0)
    assert {prompts[one.candidate] for one in picks} == set(prompts)
    blunt = pick(prompts, margins, count=3, random_share=0, diversity=0)
    assert {prompts[one.candidate] for one in blunt} == {"where is ada now"}


def test_the_control_is_a_fair_sample_and_every_pick_says_its_policy() -> None:
    margins = np.random.default_rng(0).normal(size=(20, 3))
    prompts = [f"prompt {number}" for number in range(20)]
    drawn: Counter[int] = Counter()
    for seed in range(400):
        picks = pick(prompts, margins, count=8, random_share=0.5, seed=seed)
        assert Counter(one.policy for one in picks) == {"random": 4, "active": 4}
        assert len({one.candidate for one in picks}) == 8
        drawn.update(one.candidate for one in picks if one.policy == "random")
    assert min(drawn.values()) > 50  # 80 each on average; uncertain ones no more often
    assert max(drawn.values()) < 115


def test_choices_follow_from_the_seed_and_never_exceed_what_there_is() -> None:
    prompts, margins = ["a", "b", "c"], np.zeros((3, 2))
    assert pick(prompts, margins, count=9, seed=4) == pick(prompts, margins, count=9, seed=4)
    assert sorted(one.candidate for one in pick(prompts, margins, count=9)) == [0, 1, 2]
    assert pick([], np.zeros((0, 2)), count=3) == []
    assert prompt_vectors(["", "a b"]).round(6).any(1).tolist() == [False, True]


def test_of_a_prompt_one_pair_is_asked_and_its_chance_is_told() -> None:
    """Three answers to each of four prompts: a random pick had the chance of its prompt and of one pair in three."""
    found, margins = candidates(np.random.default_rng(1).normal(size=(4, 3, 2)))
    told: Counter[int] = Counter()
    for seed in range(1200):
        picks = choose_pairs(["a", "b", "c", "d"], found, margins, count=4, random_share=0.5, seed=seed)
        assert sorted(found[one.candidate].prompt for one in picks) == [0, 1, 2, 3]
        assert {one.probability for one in picks if one.policy == "random"} == {2 / 4 / 3}
        told.update(one.candidate for one in picks if one.policy == "random")
    assert all(150 < told[number] < 250 for number in range(12))  # 200 each on average
    for one in picks:
        own = [number for number, candidate in enumerate(found) if candidate.prompt == found[one.candidate].prompt]
        if one.policy == "active":
            assert one.score == max(uncertainty(margins)[own])


def test_one_reward_model_is_asked_where_its_margin_is_small_and_without_one_all_is_random() -> None:
    margins = np.array([[3.0], [-0.1], [0.8], [-5.0]])
    picks = pick(list("abcd"), margins, count=4, random_share=0, diversity=0)
    assert sorted(range(4), key=lambda n: -uncertainty(margins)[n]) == [1, 2, 0, 3]
    assert {one.policy for one in picks} == {"active"}
    assert [one.candidate for one in pick(list("abcd"), margins, count=1, random_share=0)] == [1]
    assert uncertainty(np.zeros((1, 1))) == pytest.approx([log(2)])
    blind = pick(list("abcd"), np.zeros((4, 0)), count=3)
    assert [(one.policy, one.score, one.probability) for one in blind] == [("random", None, 3 / 4)] * 3


def test_a_prompt_like_those_asked_before_waits() -> None:
    margins = np.array([[4.0, -4.0], [2.0, -2.0]])
    prompts = ["where is ada now", "sing a song of sixpence"]
    assert [one.candidate for one in pick(prompts, margins, count=1, random_share=0)] == [0]
    later = pick(prompts, margins, count=1, random_share=0, asked=["where is ada now"])
    assert [one.candidate for one in later] == [1]


def test_uncertain_pairs_tell_more_than_random_ones() -> None:
    """A linear reward, learned by logistic regression from a first few votes and then as many by either policy."""
    errors = {policy: np.mean([_error(policy, seed) for seed in range(12)]) for policy in ("active", "random")}
    assert errors["active"] < 0.9 * errors["random"], errors


def _error(policy: str, seed: int) -> float:
    chance = np.random.default_rng(seed)
    truth = chance.normal(size=8) * 3
    pool = chance.normal(size=(400, 8)) * np.where(chance.random((400, 1)) < 0.8, 0.2, 1.5)  # most pairs tell little
    votes = chance.random(400) < 1 / (1 + np.exp(-pool @ truth))
    first = chance.permutation(400)[:20]
    members = np.stack([_fit(pool[first], votes[first], again) for again in range(5)], 1)  # (8, M)
    picks = pick(["x"] * 400, pool @ members, count=40, random_share=policy == "random", diversity=0, seed=seed)
    known = np.concatenate([first, [one.candidate for one in picks]])
    learned = _fit(pool[known], votes[known], None)
    return 1 - float(learned @ truth / np.linalg.norm(learned) / np.linalg.norm(truth))


def _fit(pairs: np.ndarray, votes: np.ndarray, resample: int | None) -> np.ndarray:
    if resample is not None:
        again = np.random.default_rng(resample).integers(len(pairs), size=len(pairs))
        pairs, votes = pairs[again], votes[again]
    weights = np.zeros(pairs.shape[1])
    for _ in range(50):
        chance = 1 / (1 + np.exp(-pairs @ weights))
        hessian = (pairs * (chance * (1 - chance))[:, None]).T @ pairs + 0.1 * np.eye(len(weights))
        weights += np.linalg.solve(hessian, pairs.T @ (votes - chance) - 0.1 * weights)
    return weights


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(DataError, match="one member cannot disagree with itself"):
        disagreement(np.zeros((3, 1)))
    with pytest.raises(DataError, match="two answers or more"):
        candidates(np.zeros((3, 1, 2)))
    with pytest.raises(DataError, match="1 candidates and 2 margins"):
        pick(["a"], np.zeros((2, 2)), count=1)
    with pytest.raises(DataError, match="random_share = 2"):
        pick(["a"], np.zeros((1, 2)), count=1, random_share=2)
