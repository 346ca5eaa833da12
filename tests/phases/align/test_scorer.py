"""Several reward models as one judge: how their scores are combined, by hand, and where they differ."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from trivium.batch import Answered
from trivium.compute import Compute
from trivium.config import RewardConfig
from trivium.feedback.pairs import candidates, disagreement
from trivium.feedback.store import LabelledPair
from trivium.model.heads import RewardModel
from trivium.model.transformer import Transformer
from trivium.phases.align.scorer import ALONE, Ensemble, Scorer, as_ensemble
from trivium.phases.align.trust import measure
from trivium.records import Message
from trivium.text.tokenizer import Tokenizer

COMPUTE = Compute(torch.device("cpu"), torch.float32, False)
SCORES = torch.tensor([[1.0, 4.0], [3.0, 0.0]])  # two members, two answers
PROMPT = (Message("user", "Say so"),)


class Lengths(RewardModel):
    """Scores an answer by how long it is, times a weight."""

    def __init__(self, trunk: Transformer, weight: float) -> None:
        super().__init__(trunk)
        self.weight = weight

    def forward(self, answers: Answered) -> torch.Tensor:
        return self.weight * answers.owners.bincount().float()


@pytest.fixture
def scorer(tokenizer: Tokenizer, small_model: Callable[..., Transformer]) -> Scorer:
    trunk = small_model(vocab_size=tokenizer.vocab_size)
    members = [Lengths(trunk, weight) for weight in (1.0, 3.0, -1.0)]
    return Scorer(members[0], tokenizer, COMPUTE, ensemble=as_ensemble(members, RewardConfig(combine="worst")))


def pair(first: str, second: str, number: int = 0) -> LabelledPair:
    return LabelledPair(PROMPT, first, second, 1.0, 1, False, 1, "sampled", number)


@pytest.mark.parametrize(
    ("combine", "caution", "combined"),
    [("mean", 1.0, [2.0, 2.0]), ("worst", 1.0, [1.0, 0.0]), ("uncertain", 0.5, [1.5, 0.0])],
)
def test_members_are_combined_by_mean_worst_case_and_less_their_variance(
    combine: str, caution: float, combined: list[float]
) -> None:
    assert Ensemble((), (), combine, caution).combined(SCORES).tolist() == combined


def test_a_member_that_scores_everything_higher_does_not_hide_the_others() -> None:
    shifted = SCORES + torch.tensor([[100.0], [0.0]])
    expected = Ensemble((), (2.5, 1.5), "worst").combined(SCORES)
    torch.testing.assert_close(Ensemble((), (102.5, 1.5), "worst").combined(shifted), expected)


def test_one_member_is_what_it_was() -> None:
    assert as_ensemble([torch.nn.Identity()], RewardConfig(combine="worst")) == ALONE  # type: ignore[list-item]
    assert ALONE.combined(SCORES[:1]).tolist() == SCORES[0].tolist()


def test_the_worst_members_reward_counts(scorer: Scorer) -> None:
    each = scorer.of_members([PROMPT] * 2, ["warm", "warm warm warm"])
    assert each.shape == (3, 2)
    assert scorer.rewards([PROMPT] * 2, ["warm", "warm warm warm"]).tolist() == each.amin(0).tolist()
    assert torch.equal(each[1], 3 * each[0])


def test_what_a_vote_would_tell_is_where_the_members_differ(scorer: Scorer) -> None:
    """The scores of the members are what feedback/pairs.py asks for."""
    answers = ["warm", "warm warm warm", "warm", "warm"]
    prompts = [(Message("user", f"Say {i // 2}"),) for i in range(4)]
    scores = scorer.of_members(prompts, answers).T.reshape(2, 2, 3)  # (prompts, answers, members)
    found, margins = candidates(scores.numpy().astype(np.float64))
    told = disagreement(margins)
    assert [one.prompt for one in found] == [0, 1]
    assert told[0] > 0.3 > 1e-3 > told[1], "of equally long answers nobody thinks anything"


def test_the_report_tells_of_each_member_and_of_where_it_is_surest_and_wrong(scorer: Scorer) -> None:
    pairs = [pair("warm " * (i + 2), "x", i) for i in range(4)]
    found = measure(scorer, pairs, ceiling=None)
    assert found.members == (1.0, 1.0, 0.0)
    assert found.spread > 1
    assert len(measure(scorer.levelled(pairs), pairs, ceiling=None).levels) == 3
    assert found.accuracy == 0, "the worst member prefers the shorter"
    assert [one[:3] for one in found.mistaken[:1]] == [("Say so", "warm " * 5, "x")]
    assert [one[3] for one in found.mistaken] == sorted((one[3] for one in found.mistaken), reverse=True)


def test_without_pairs_to_level_them_by_the_members_are_still_all_there(scorer: Scorer) -> None:
    """Where all votes are on single answers."""
    level = scorer.levelled([])
    assert measure(level, [], ceiling=None).levels == (0.0, 0.0, 0.0)
    assert torch.equal(level.rewards([PROMPT], ["yes"]), scorer.rewards([PROMPT], ["yes"]))
