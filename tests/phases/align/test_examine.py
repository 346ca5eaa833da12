"""The baseline that a policy has to beat: the best of several answers, at a KL that is known."""

import math

import pytest
import torch

from tests.phases.align.scene import ASK, recipe
from trivium.evaluate.preference import best_of_kl, nearest_count
from trivium.evaluate.tasks import reply_to
from trivium.generate.sampling import Sampling, stream_seed
from trivium.phases.align.examine import best_replies
from trivium.phases.align.rollout import Writers, reward_answers


@pytest.mark.parametrize("count", [1, 2, 4, 16])
def test_the_kl_of_the_best_of_several_is_that_of_counting_them_out(count: int) -> None:
    """Of 20,000 equally probable answers, each better than the one before."""
    ranks = torch.arange(1, 20_001, dtype=torch.float64) / 20_000
    chosen = ranks**count - (ranks - 1 / 20_000) ** count
    counted = (chosen * (chosen * 20_000).log()).sum().item()
    assert best_of_kl(count) == pytest.approx(counted, abs=1e-3)


def test_as_many_answers_are_taken_as_come_nearest_to_a_kl() -> None:
    assert best_of_kl(16) == pytest.approx(math.log(16) - 15 / 16)
    assert [nearest_count(kl, 16) for kl in (0.0, 0.19, 1.0, 1.84, 9.0)] == [1, 2, 6, 16, 16]


def test_of_several_answers_the_one_with_the_highest_reward_is_taken(writers: Writers) -> None:
    asked = [ASK(i) for i in range(3)]
    seeds = [stream_seed(recipe().seed, 8, i) for i in range(12)]
    each = [question for question in asked for _ in range(4)]
    sampling = Sampling(max_new_tokens=recipe().align.max_new_tokens)
    prompts = [question.prompt for question in each]
    written = reply_to(writers.reference, writers.tokenizer, prompts, sampling, seeds=seeds)
    found = best_replies(writers, asked, recipe(), 4)
    assert [reply in written[4 * i : 4 * i + 4] for i, reply in enumerate(found)] == [True] * 3
    highest = reward_answers(writers, each, written).view(3, 4).amax(1)
    torch.testing.assert_close(reward_answers(writers, asked, found), highest)
