"""PPO: what is expected before each token, where it begins, and that advantages are whitened and rewards are not."""

from typing import Any

import pytest
import torch

from tests.phases.align.scene import MakeModel, built, joined, recipe, rolled, task
from trivium.batch import RolloutBatch
from trivium.distributed.world import alone
from trivium.generate.sampling import stream_seed
from trivium.losses.policy import generalised_advantages, token_rewards
from trivium.model.heads import ActorCritic, add_reward_head, value_from
from trivium.phases.align import ppo
from trivium.phases.align.rollout import Writers
from trivium.text.branches import pack_answers
from trivium.text.tokenizer import Tokenizer
from trivium.train.loop import train


def test_a_value_stands_before_each_token_and_does_not_see_it(small_model: MakeModel) -> None:
    """The last value is what the reward model would say one token earlier; a token changes only the values after it."""
    reward = add_reward_head(small_model(), 3)
    value = value_from(reward)
    one, other = (pack_answers([[5, 6]], [tokens], 48, 0) for tokens in ([7, 8, 9], [7, 8, 1]))
    torch.testing.assert_close(value(one), value(other))
    for length in (1, 2):
        shorter = pack_answers([[5, 6]], [[7, 8, 9][:length]], 48, 0)
        torch.testing.assert_close(value(one)[length], reward(shorter)[0])


def test_values_do_not_change_with_padding_or_with_neighbours(small_model: MakeModel) -> None:
    value = value_from(add_reward_head(small_model(), 3))
    alone_ = value(pack_answers([[5, 6]], [[7, 8, 9]], 48, 0))
    beside = pack_answers([[1, 2, 3], [5, 6], [5, 6]], [[4] * 9, [7, 8, 9], [2]], 16, 0)
    torch.testing.assert_close(value(beside)[beside.owners == 1], alone_, atol=1e-5, rtol=1e-5)


def test_the_value_model_begins_as_the_reward_model_and_moves_on_its_own(
    writers: Writers, small_model: MakeModel, tokenizer: Tokenizer
) -> None:
    reward = add_reward_head(small_model(seed=2, vocab_size=tokenizer.vocab_size), 3).requires_grad_(False)
    before = [p.clone() for p in reward.parameters()]
    phase = ppo.build(task(writers._replace(foreseer=reward), algorithm="ppo"))
    assert isinstance(phase.model, ActorCritic)
    assert all(map(torch.equal, before, phase.model.value.parameters()))
    next(iter(train(phase, alone(), steps=range(1))))
    assert all(map(torch.equal, before, reward.parameters()))
    after = dict(phase.model.value.named_parameters())
    unread = [name for name, values in zip(after, before, strict=True) if torch.equal(values, after[name])]
    assert unread == ["trunk.lm_head.weight"]  # a value model predicts no words


def test_without_a_reward_model_the_value_model_begins_as_the_policy_with_a_fresh_head(writers: Writers) -> None:
    phase = built(writers, algorithm="ppo")
    assert isinstance(phase.model, ActorCritic)
    pairs = zip(phase.model.value.trunk.parameters(), writers.policy.parameters(), strict=True)
    assert all(torch.equal(mine, its) and mine is not its for mine, its in pairs)
    assert 0.5 < phase.model.value.score.weight.std() * 25**0.5 < 1.5  # width 24


def test_advantages_are_whitened_over_the_step_and_returns_are_not(writers: Writers) -> None:
    """Worked anew from the rewards, token by token."""
    told: Any = {"algorithm": "ppo", "kl": 0.1, "trace": 0.9}
    phase = built(writers, **told)
    batches = list(phase.batches(0))
    advantages = joined(batches, "advantages")
    assert advantages.mean().abs() < 1e-5
    assert (advantages.std(correction=0) - 1).abs() < 1e-5
    rollout = rolled(writers, seed=phase_seed(), **told)
    plain = []
    for batch, scores in zip(batches, rollout.earned.flatten().split(4), strict=True):
        assert batch.values is not None
        assert batch.returns is not None
        kl = batch.old_logprobs - batch.reference_logprobs
        rewards = token_rewards(kl, scores, batch.answers.owners, price=0.1)
        gained = generalised_advantages(rewards, batch.values, batch.answers.owners, decay=0.9)
        torch.testing.assert_close(batch.returns, gained + batch.values)
        plain.append(gained)
    every = torch.cat(plain)
    torch.testing.assert_close(advantages, (every - every.mean()) / every.std(correction=0), atol=1e-4, rtol=1e-4)


def phase_seed() -> int:
    return stream_seed(recipe().seed, 1)


def test_the_first_pass_costs_the_advantages_and_the_error_of_the_values(writers: Writers) -> None:
    phase = built(writers, algorithm="ppo", value_weight=0.3)
    for batch in phase.batches(0):
        batch = batch._replace(sampled_logprobs=None)
        loss, metrics = phase.objective(phase.model, batch)
        missed = (batch.values - batch.returns).square().sum() / 2
        torch.testing.assert_close(loss, -batch.advantages.sum() + 0.3 * missed, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(metrics["value_loss"], missed)
        assert metrics["clipped"] == 0


def test_one_answer_to_each_prompt_is_enough(writers: Writers) -> None:
    batches: list[RolloutBatch] = list(built(writers, algorithm="ppo", group=1).batches(0))
    assert joined(batches, "weights").min() == 1


@pytest.mark.parametrize("whole", [True, False])
def test_the_value_model_comes_to_expect_what_is_earned(whole: bool, writers: Writers) -> None:
    told: Any = {"kl": 0.0, "steps": 30, "rows_per_step": 24, "microbatch_rows": 24 if whole else 12, "trace": 1.0}
    phase = built(writers, algorithm="ppo", learning_rate=1e-9, matrix_learning_rate=1e-9, **told)
    for optimizer in phase.optimizers:
        for group in optimizer.param_groups:
            mine = {id(p) for p in phase.model.value.parameters()}  # type: ignore[union-attr]
            group["params"] = [p for p in group["params"] if id(p) in mine]
            group["peak"] = 0.01
    missed = [report.metrics["value_loss"] for report in train(phase, alone(), steps=range(30))]
    assert sum(missed[-5:]) < 0.5 * sum(missed[:5])
