"""Whether the reward's report tells the truth, and when nothing may learn from it."""

import math
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch

from trivium.batch import Answered
from trivium.compute import Compute
from trivium.feedback.store import LabelledPair
from trivium.model.heads import RewardModel
from trivium.model.transformer import Transformer
from trivium.phases.align.scorer import Scorer
from trivium.phases.align.trust import (
    OF_A_SIGN,
    RewardReport,
    across,
    calibrate,
    calibration,
    calibration_error,
    confidence,
    difference,
    learning_curve,
    length_slope,
    measure,
    objection,
    partial_correlation,
)
from trivium.records import Message
from trivium.text.tokenizer import Tokenizer

MakeModel = Callable[..., Transformer]
COMPUTE = Compute(torch.device("cpu"), torch.float32, False)


def pair(number: int, first: str, second: str, preference: float = 1.0) -> LabelledPair:
    return LabelledPair((Message("user", f"Say {number}"),), first, second, preference, 1, False, 1, "sampled", number)


class Lengths(RewardModel):
    """Scores an answer by how long it is."""

    def forward(self, answers: Answered) -> torch.Tensor:
        return answers.owners.bincount().float()


def test_a_pair_without_a_prompt_is_measured_as_any_other(tokenizer: Tokenizer, small_model: MakeModel) -> None:
    judge = Scorer(Lengths(small_model(vocab_size=tokenizer.vocab_size)), tokenizer, COMPUTE)
    found = measure(judge, [pair(i, "x", "so warm", i % 2)._replace(prompt=()) for i in range(4)], ceiling=0.9)
    assert found.accuracy == 0.5
    assert [told[:3] for told in found.mistaken] == [("", "x", "so warm")] * 2


def test_the_report_of_a_model_that_loves_length(tokenizer: Tokenizer, small_model: MakeModel) -> None:
    judge = Scorer(Lengths(small_model(vocab_size=tokenizer.vocab_size)), tokenizer, COMPUTE)
    long_wins = [pair(i, "warm " * (i + 2), "x", 1.0) for i in range(6)]
    short_wins = [pair(i, "x", "warm " * (i + 2), 1.0) for i in range(2)]
    ties = [pair(i, "x", "warm", 0.5) for i in range(5)]
    found = measure(judge, [*long_wins, *short_wins, *ties], ceiling=0.9)
    assert (found.accuracy, found.longer_wins, found.pairs, found.ceiling) == (0.75, 0.75, 8, 0.9)
    assert found.accuracy_low < 0.75 < found.accuracy_high
    assert found.length_correlation == pytest.approx(1.0)
    assert sum(count for _, _, count in found.by_margin) == 8


def test_votes_for_the_second_answer_count_as_much(tokenizer: Tokenizer, small_model: MakeModel) -> None:
    judge = Scorer(Lengths(small_model(vocab_size=tokenizer.vocab_size)), tokenizer, COMPUTE)
    ours = [pair(0, "x", "warm warm", 0.0), pair(1, "x", "warm warm", 1.0)]
    assert measure(judge, ours, ceiling=None).accuracy == 0.5


def test_a_model_that_is_as_sure_as_it_is_right_is_calibrated() -> None:
    sure = confidence(np.full(1000, math.log(3.0)))
    right = np.arange(1000) % 4 > 0
    for told, accuracy, count in calibration(sure, right):
        assert (told, accuracy, count) == (pytest.approx(0.75), pytest.approx(0.75), 100)


def test_calibration_bins_hold_equally_many_and_all() -> None:
    sure = np.random.default_rng(0).uniform(0.5, 1, size=103)
    bins = calibration(sure, sure > 0.7)
    assert Counter(count for _, _, count in bins) == {10: 7, 11: 3}
    assert [c for c, _, _ in bins] == sorted(c for c, _, _ in bins)


def test_a_correlation_that_quality_explains_is_taken_out() -> None:
    chance = np.random.default_rng(0)
    quality = chance.normal(size=5000)
    margin, length = quality + 0.5 * chance.normal(size=5000), quality + 0.5 * chance.normal(size=5000)
    assert np.corrcoef(margin, length)[0, 1] > 0.7
    assert partial_correlation(margin, length, quality) == pytest.approx(0, abs=0.05)
    assert partial_correlation(margin, margin, quality) == pytest.approx(1)
    assert partial_correlation(np.ones(10), length[:10], quality[:10]) is None


def voted(mistaken: float) -> tuple[Any, Any]:
    """True margins and votes, of which some say the opposite."""
    chance = np.random.default_rng(0)
    truth = 2 * chance.normal(size=20_000)
    vote = np.where(chance.random(20_000) < 1 / (1 + np.exp(-truth)), 1.0, -1.0)
    return truth, np.where(chance.random(20_000) < mistaken, -vote, vote)


@pytest.mark.parametrize("mistaken", [0.0, 0.15])
def test_temperature_and_mistaken_votes_are_those_of_the_votes(mistaken: float) -> None:
    truth, vote = voted(mistaken)
    for known in (mistaken, None):
        temperature, wrong = calibrate(3 * truth * vote, known)
        assert temperature == pytest.approx(3, rel=0.2)
        assert wrong == pytest.approx(mistaken, abs=0.026)
    right = 3 * truth * vote > 0
    found = partial(across, 3 * truth, truth, vote, usual=(1.0, 0.0))
    sure = found(lambda m, _, v: calibrate(m * v), lambda m, _, c: confidence(abs(m), *c))
    assert calibration_error(calibration(confidence(np.abs(3 * truth)), right)) > 0.05
    assert calibration_error(calibration(sure, right)) < 0.02


def test_no_margin_is_surer_than_the_votes_that_are_not_mistaken() -> None:
    assert confidence(np.array([0.0, 1e9]), 2.0, 0.15).tolist() == pytest.approx([0.5, 0.85])
    truth, vote = voted(0.15)
    one = calibrate(truth * vote, 0.0)  # temperature alone cannot say so
    right = truth * vote > 0
    assert calibration_error(calibration(confidence(np.abs(truth), *one), right)) > 0.02


def test_what_length_alone_adds_is_found_and_what_the_votes_explain_is_not() -> None:
    chance = np.random.default_rng(0)
    vote, longer = np.where(chance.random(1000) < 0.5, 1.0, -1.0), 10 * chance.normal(size=1000)
    assert length_slope(1.5 * vote + 0.2 * longer, longer + vote, vote) == pytest.approx(0.2)
    assert length_slope(1.5 * vote, longer + vote, vote) == pytest.approx(0, abs=1e-9)
    assert length_slope(vote, np.zeros(1000), vote) == 0


def test_mistaken_votes_hide_what_length_adds_at_equal_quality_and_knowing_their_share_finds_it() -> None:
    """What is better is longer; a reward that sees only the better looks as if it loved length, at equal votes."""
    chance = np.random.default_rng(0)
    better = np.where(chance.random(200_000) < 0.5, 1.0, -1.0)
    longer = 3 * better + 4 * chance.normal(size=len(better))
    vote = np.where(chance.random(len(better)) < 0.2, -better, better)
    blind, loving = better + chance.normal(size=len(better)), better + 0.1 * longer
    assert length_slope(blind, longer, vote) > 0.05
    assert length_slope(blind, longer, vote, reliability=0.6) == pytest.approx(0, abs=0.01)
    assert length_slope(loving, longer, vote, reliability=0.6) == pytest.approx(0.1, abs=0.01)
    assert partial_correlation(blind, longer, vote) > 0.15
    assert partial_correlation(blind, longer, vote, reliability=0.6) == pytest.approx(0, abs=0.02)


def test_votes_that_say_not_by_how_much_hide_what_length_adds_too() -> None:
    """As well measured by votes of which a fifth are mistaken as by the quality itself."""
    chance = np.random.default_rng(0)
    better = chance.normal(size=200_000)
    longer = 3 * better + 4 * chance.normal(size=len(better))
    vote = np.where(chance.random(len(better)) < 0.2, -1.0, 1.0) * np.sign(better)
    for reward in (
        better + chance.normal(size=len(better)),
        3 * better + 0.1 * longer + chance.normal(size=len(better)),
    ):
        told = partial_correlation(reward, longer, better), length_slope(reward, longer, better)
        assert partial_correlation(reward, longer, vote, reliability=0.6) > told[0] + 0.1
        assert partial_correlation(reward, longer, vote, reliability=0.6 * OF_A_SIGN) == pytest.approx(
            told[0], abs=0.02
        )
        assert length_slope(reward, longer, vote, reliability=0.6 * OF_A_SIGN) == pytest.approx(told[1], abs=0.01)


def test_a_reward_without_the_pull_of_length(tokenizer: Tokenizer, small_model: MakeModel) -> None:
    """Of a model that loves nothing else, nothing is left."""
    model = Lengths(small_model(vocab_size=tokenizer.vocab_size))
    pairs = [pair(i, "warm " * (1 + i % 5), "x", float(i % 3 > 0)) for i in range(40)]
    slope = measure(Scorer(model, tokenizer, COMPUTE), pairs, ceiling=None).length_slope
    assert slope == pytest.approx(1)
    margin, longer = Scorer(model, tokenizer, COMPUTE, slope).of_pairs(pairs)
    assert longer.abs().max() > 2
    assert margin.abs().max() < 1e-4
    found = measure(Scorer(model, tokenizer, COMPUTE), pairs, ceiling=None, debias_length=True)
    assert found.length_correlation is None, "nothing is left of a reward that was length alone"


def report(**known: float) -> RewardReport:
    told = {"accuracy": 0.7, "accuracy_low": 0.65, "accuracy_high": 0.75, "longer_wins": 0.6, "over_longer_low": 0.02}
    known = {**told, **known}
    return RewardReport(ceiling=None, ece=0.0, length_correlation=0.0, pairs=300, by_margin=(), **known)


def test_nothing_learns_from_a_reward_model_that_may_be_chance_or_a_ruler() -> None:
    assert objection(report()) == ""
    assert "agrees with 0.520 (0.460 to 0.580) of 300 held-out votes, which is not surely better than chance" in (
        objection(report(accuracy=0.52, accuracy_low=0.46, accuracy_high=0.58))
    )
    assert "the longer answer wins agrees with 0.690, than which" in (
        objection(report(longer_wins=0.69, over_longer_low=-0.01))
    )


def test_a_difference_of_accuracies_is_taken_pair_by_pair() -> None:
    mean, error = difference(np.array([True, True, False, True]), np.array([True, False, False, 0.5]))
    assert mean == pytest.approx(0.375)
    assert error == pytest.approx(np.std([0, 1, 0, 0.5]) / 2)


def test_what_the_second_half_of_the_votes_bought(tokenizer: Tokenizer, small_model: MakeModel) -> None:
    class Shortness(Lengths):
        def forward(self, answers: Answered) -> torch.Tensor:
            return -super().forward(answers)

    trunk = small_model(vocab_size=tokenizer.vocab_size)
    good, bad = (Scorer(model, tokenizer, COMPUTE) for model in (Lengths(trunk), Shortness(trunk)))
    pairs = [pair(i, "warm warm", "x") for i in range(6)]
    found = learning_curve(good, bad, pairs, votes=100)
    assert found == (100, 0.0, 1.0, 1.0, 1.0)
    assert learning_curve(good, bad, [pair(0, "a", "b", 0.5)], votes=100) is None


def test_votes_that_say_nothing_of_quality_are_measured_too(tokenizer: Tokenizer, small_model: MakeModel) -> None:
    """Two who agree on no more than half of the pairs imply a ceiling of one half."""
    judge = Scorer(Lengths(small_model(vocab_size=tokenizer.vocab_size)), tokenizer, COMPUTE)
    pairs = [pair(i, "warm " * (i + 2), "x", float(i % 2)) for i in range(8)]
    found = measure(judge, pairs, ceiling=0.5, debias_length=True)
    assert (found.accuracy, found.length_slope, found.length_correlation) == (0.5, 0.0, None)


def test_of_a_single_pair_a_confidence_is_told_and_no_margin(tokenizer: Tokenizer, small_model: MakeModel) -> None:
    judge = Scorer(Lengths(small_model(vocab_size=tokenizer.vocab_size)), tokenizer, COMPUTE)
    found = measure(judge, [pair(1, "x", "warm " * 9)], ceiling=None)
    ((sure, right, count),) = found.by_margin
    assert (right, count) == (0.0, 1)
    assert 0.5 <= sure <= 1
    assert found.ece == sure
