"""Policy losses against full enumeration: a toy policy whose every answer can be counted out.

Two tokens of V each, the second of which depends on the first: V * V answers, all of them known.
"""

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from trivium.errors import ConfigError
from trivium.losses.policy import (
    answer_weights,
    best_and_worst,
    best_of_group,
    clipped_policy_loss,
    clipped_value_loss,
    generalised_advantages,
    group_mean_advantages,
    group_spread_advantages,
    has_signal,
    is_clipped,
    kl_in_reward,
    kl_k2_loss,
    kl_k3,
    leave_one_out_advantages,
    overlong,
    sequence_logprobs,
    token_rewards,
)

V = 5
ANSWERS = torch.tensor(list(itertools.product(range(V), repeat=2)))  # (V^2, 2)


def fresh_logits(seed: int = 0) -> Tensor:
    """(1 + V, V) of the first token, and of the second after each first one."""
    return torch.randn(1 + V, V, generator=torch.Generator().manual_seed(seed)).requires_grad_()


REFERENCE = fresh_logits(1).detach().log_softmax(-1)
REWARD = torch.randn(V * V, generator=torch.Generator().manual_seed(2))


def logprobs_of(logits: Tensor) -> Tensor:
    """(V^2, 2) log-probability of each token of every answer."""
    policy, (first, second) = logits.log_softmax(-1), ANSWERS.T
    return torch.stack([policy[0, first], policy[1 + first, second]], 1)


def reached(logits: Tensor) -> Tensor:
    """(1 + V,) how often each row of the logits is read in an answer."""
    return torch.cat([torch.ones(1), logits[0].softmax(-1)])


REFERENCE_LOGPROBS = logprobs_of(REFERENCE)
OWNERS = torch.arange(V * V).repeat_interleave(2)


def k1(logprobs: Tensor) -> Tensor:
    """(V^2,) of every answer, its tokens one after another as in a batch."""
    return kl_in_reward(logprobs.flatten(), REFERENCE_LOGPROBS.flatten(), OWNERS, V * V)


def exact_kl(logits: Tensor) -> Tensor:
    """By the chain rule: the KL of each row, as often as it is read."""
    policy = logits.log_softmax(-1)
    return reached(logits) @ (policy.exp() * (policy - REFERENCE)).sum(-1)


def gradient(value: Tensor, logits: Tensor) -> Tensor:
    (found,) = torch.autograd.grad(value, logits)
    return found


def test_the_mean_of_k1_over_all_answers_is_the_kl() -> None:
    logprobs = logprobs_of(fresh_logits())
    estimates = k1(logprobs)
    assert (logprobs.sum(-1).exp() * estimates).sum().item() == pytest.approx(exact_kl(fresh_logits()).item(), rel=1e-5)
    assert not estimates.requires_grad


def test_k1_counts_each_answers_own_tokens_only() -> None:
    policy, reference = torch.tensor([-1.0, -2.0, -3.0, -0.5]), torch.tensor([-1.5, -1.0, -5.0, -0.25])
    owners = torch.tensor([0, 1, 1, 3])
    assert kl_in_reward(policy, reference, owners, 4).tolist() == [0.5, 1.0, 0.0, -0.25]
    assert kl_in_reward(policy, reference, owners, 5).tolist() == [0.5, 1.0, 0.0, -0.25, 0.0]


def test_k1_inside_the_reward_has_the_gradient_of_reward_minus_kl() -> None:
    """The policy-gradient loss with kl * k1 taken off the reward, over all answers by their probability."""
    kl, logits = 0.7, fresh_logits()
    logprobs = logprobs_of(logits)
    weights = logprobs.sum(-1).exp().detach()
    earned = REWARD - kl * k1(logprobs)
    flat = logprobs.flatten()
    losses = clipped_policy_loss(flat, flat.detach(), earned[OWNERS], low=0.2, high=0.28)
    found = gradient((weights[OWNERS] * losses).sum(), logits)

    again = fresh_logits()
    truth = (logprobs_of(again).sum(-1).exp() * REWARD).sum() - kl * exact_kl(again)
    torch.testing.assert_close(found, -gradient(truth, again), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("old", [0, 3])
def test_k2_as_a_loss_has_the_gradient_of_the_kl(old: int) -> None:
    """Also of a policy that has moved since it wrote: answers come by the old policy's probability."""
    logits, wrote = fresh_logits(), logprobs_of(fresh_logits(old)).detach()
    losses = kl_k2_loss(logprobs_of(logits).flatten(), wrote.flatten(), REFERENCE_LOGPROBS.flatten(), OWNERS)
    found = gradient((wrote.sum(-1).exp()[OWNERS] * losses).sum(), logits)
    again = fresh_logits()
    torch.testing.assert_close(found, gradient(exact_kl(again), again), atol=1e-5, rtol=1e-4)


def test_half_the_square_of_each_tokens_own_ratio_has_another_gradient() -> None:
    """Why `kl_k2_loss` asks whose tokens they are: a token is not told of what it leads to."""
    logits = fresh_logits()
    logprobs = logprobs_of(logits)
    weights = logprobs.sum(-1).exp().detach()
    wrong = gradient((weights[:, None] * (logprobs - REFERENCE_LOGPROBS).square() / 2).sum(), logits)
    again = fresh_logits()
    assert not torch.allclose(wrong, gradient(exact_kl(again), again), atol=1e-2)


def test_k3_as_a_loss_would_have_the_gradient_of_another_kl() -> None:
    """Why `kl_k3` has none: it pulls as KL(reference || policy) does at each token, which is not what is priced."""
    logits = fresh_logits()
    ratio = REFERENCE_LOGPROBS - logprobs_of(logits)
    weights = logprobs_of(logits).sum(-1).exp().detach()
    wrong = gradient((weights[OWNERS] * (ratio.exp() - 1 - ratio).flatten()).sum(), logits)
    again = fresh_logits()
    reverse = reached(again).detach() @ (REFERENCE.exp() * (REFERENCE - again.log_softmax(-1))).sum(-1)
    torch.testing.assert_close(wrong, gradient(reverse, again), atol=1e-5, rtol=1e-4)
    assert not torch.allclose(wrong, gradient(exact_kl(again), again), atol=1e-2)


def test_k2_worked_by_hand() -> None:
    """Log-ratios 2, 1 and 3 of an answer of two tokens and of one; then the first token twice as likely as it was."""
    now, reference = torch.tensor([-1.0, -2.0, -1.0]), torch.tensor([-3.0, -3.0, -4.0])
    owners, old = torch.tensor([0, 0, 1]), torch.tensor([-1.0 - math.log(2), -2.0, -1.0])
    assert kl_k2_loss(now, now, reference, owners).tolist() == [(2 + 1) * 2, 1 * 1, 3 * 3]
    assert kl_k2_loss(now, old, reference, owners).tolist() == pytest.approx([2 * (2 + 1) * 2, 2 * 1 * 1, 3 * 3])


def test_k1_as_a_loss_would_teach_nothing() -> None:
    """Why `kl_in_reward` has no gradient: in the mean over answers that of the bare log-ratio is zero."""
    logits = fresh_logits()
    logprobs = logprobs_of(logits)
    weights = logprobs.sum(-1).exp().detach()
    wrong = gradient((weights * (logprobs - REFERENCE_LOGPROBS).sum(-1)).sum(), logits)
    assert wrong.abs().max().item() < 1e-6
    again = fresh_logits()
    assert gradient(exact_kl(again), again).abs().max().item() > 0.05


def test_the_first_pass_has_ratio_one_and_the_plain_policy_gradient() -> None:
    logprobs = torch.tensor([-1.0, -2.0], requires_grad=True)
    losses = clipped_policy_loss(logprobs, logprobs.detach(), torch.tensor([0.5, 0.25]), low=0.2, high=0.28)
    assert losses.tolist() == [-0.5, -0.25]
    losses.sum().backward()
    assert logprobs.grad is not None
    assert logprobs.grad.tolist() == [-0.5, -0.25]


@pytest.mark.parametrize(
    ("ratio", "advantage", "expected", "learns"),
    [
        (1.5, 1.0, -1.28, False),  # better, and already far above: no more of it
        (1.5, -1.0, 1.5, True),  # worse and far above: down, unclipped
        (0.5, 1.0, -0.5, True),  # better and far below: up
        (0.5, -1.0, 0.8, False),  # worse, and already far below
        (1.1, 1.0, -1.1, True),
    ],
)
def test_clipping_by_hand(ratio: float, advantage: float, expected: float, learns: bool) -> None:
    logprobs = torch.tensor([math.log(ratio)], requires_grad=True)
    loss = clipped_policy_loss(logprobs, torch.zeros(1), torch.tensor([advantage]), low=0.2, high=0.28)
    loss.sum().backward()
    assert logprobs.grad is not None
    assert loss.item() == pytest.approx(expected)
    assert (logprobs.grad.item() != 0) is learns


def test_leave_one_out_advantages_by_hand() -> None:
    assert leave_one_out_advantages(torch.tensor([[1.0, 2.0, 6.0]])).tolist() == [[-3.0, -1.5, 4.5]]


def test_group_advantages_by_hand() -> None:
    assert group_mean_advantages(torch.tensor([[1.0, 2.0, 6.0]])).tolist() == [[-2.0, -1.0, 3.0]]


rewards = st.integers(2, 6).flatmap(
    lambda g: st.lists(st.lists(st.floats(-5, 5, width=32), min_size=g, max_size=g), min_size=1, max_size=4)
)


@given(rewards)
def test_leave_one_out_is_the_reward_minus_the_mean_of_the_others(given_rewards: list[list[float]]) -> None:
    table = torch.tensor(given_rewards)
    found = leave_one_out_advantages(table)
    for p, row in enumerate(given_rewards):
        for i, mine in enumerate(row):
            others = row[:i] + row[i + 1 :]
            assert found[p, i].item() == pytest.approx(mine - sum(others) / len(others), abs=1e-4)


@given(rewards, st.floats(-3, 3, width=32))
def test_advantages_of_a_group_sum_to_zero_and_forget_its_level(given_rewards: list[list[float]], more: float) -> None:
    table = torch.tensor(given_rewards)
    for advantages in (leave_one_out_advantages, group_mean_advantages):
        torch.testing.assert_close(advantages(table).sum(-1), torch.zeros(len(table)), atol=1e-4, rtol=0)
        torch.testing.assert_close(advantages(table + more), advantages(table), atol=1e-4, rtol=1e-4)


def test_a_group_whose_answers_are_equally_good_teaches_nothing() -> None:
    """And is not blown up by a division by its spread."""
    for advantages in (leave_one_out_advantages, group_mean_advantages):
        assert advantages(torch.full((2, 4), 0.3)).abs().max() < 1e-6


def test_a_group_of_one_has_nothing_to_compare_with() -> None:
    for advantages in (leave_one_out_advantages, group_mean_advantages):
        with pytest.raises(ConfigError, match=r"align.group = 1: must be at least 2; sample more"):
            advantages(torch.ones(3, 1))


def test_the_mean_of_k3_over_all_answers_is_the_kl_and_no_estimate_is_negative() -> None:
    logprobs = logprobs_of(fresh_logits())
    estimates = kl_k3(logprobs, REFERENCE_LOGPROBS)
    mean = (logprobs.sum(-1).exp() * estimates.sum(-1)).sum().item()
    assert mean == pytest.approx(exact_kl(fresh_logits()).item(), rel=1e-5)
    assert estimates.min() >= 0
    assert not estimates.requires_grad


def test_advantages_by_spread_by_hand() -> None:
    found = group_spread_advantages(torch.tensor([[1.0, 2.0, 3.0], [2.0, 2.0, 2.0]]))
    torch.testing.assert_close(found, torch.tensor([[-1.0, 0.0, 1.0], [0.0, 0.0, 0.0]]))


def test_the_first_of_the_best_is_imitated() -> None:
    assert best_of_group(torch.tensor([[1.0, 3.0, 3.0], [0.0, -1.0, -2.0]])).tolist() == [[0, 1, 0], [1, 0, 0]]


def test_a_sequences_tokens_share_the_mean_ratio_and_keep_their_own_gradient() -> None:
    logprobs = torch.tensor([-1.0, -2.0, -3.0], requires_grad=True)
    shared = sequence_logprobs(logprobs, torch.tensor([-1.5, -3.0, -3.0]), torch.tensor([0, 0, 1]), 2)
    assert (shared - torch.tensor([-1.5, -3.0, -3.0])).tolist() == [0.75, 0.75, 0.0]
    (shared * torch.tensor([1.0, 2.0, 3.0])).sum().backward()
    assert logprobs.grad is not None
    assert logprobs.grad.tolist() == [1.0, 2.0, 3.0]


def test_answers_that_weigh_the_same_whatever_their_length() -> None:
    weights = answer_weights(torch.tensor([0, 0, 0, 1]), 2)
    torch.testing.assert_close(weights, torch.tensor([1 / 3, 1 / 3, 1 / 3, 1.0]))


@pytest.mark.parametrize(("ratio", "advantage", "clipped"), [(1.5, 1.0, True), (1.5, -1.0, False), (0.5, -1.0, True)])
def test_a_clipped_token_is_one_that_the_loss_teaches_nothing(ratio: float, advantage: float, clipped: bool) -> None:
    logprobs = torch.tensor([math.log(ratio)], requires_grad=True)
    arguments = (torch.zeros(1), torch.tensor([advantage]))
    assert bool(is_clipped(logprobs.detach(), *arguments, low=0.2, high=0.28)) is clipped
    (found,) = torch.autograd.grad(clipped_policy_loss(logprobs, *arguments, low=0.2, high=0.28).sum(), logprobs)
    assert bool(found == 0) is clipped


def test_only_prompts_whose_answers_differ_have_a_signal() -> None:
    assert has_signal(torch.tensor([[1.0, 1.0, 1.0], [0.0, 0.0, 1.0]])).tolist() == [False, True]


def test_the_best_and_the_worst_are_never_the_same_answer() -> None:
    assert best_and_worst(torch.tensor([[1.0, 3.0, 2.0], [2.0, 2.0, 2.0], [0.0, 0.0, 1.0]])).tolist() == [
        [1, 0],
        [0, 2],
        [2, 1],
    ]
    with pytest.raises(ConfigError, match=r"align.group = 1"):
        best_and_worst(torch.ones(2, 1))


def test_the_penalty_for_length_by_hand() -> None:
    lengths, ended = torch.tensor([3.0, 8.0, 9.0, 10.0, 10.0]), torch.tensor([True, True, True, True, False])
    assert overlong(lengths, ended, longest=10, buffer=0).tolist() == [0, 0, 0, 0, 1]
    assert overlong(lengths, ended, longest=10, buffer=4).tolist() == [0, 0.5, 0.75, 1, 1]


def test_advantages_by_a_value_model_worked_by_hand() -> None:
    """Two answers of three tokens and of one; lambda one half."""
    owners = torch.tensor([0, 0, 0, 1])
    rewards, values = torch.tensor([0.0, -1.0, 4.0, 2.0]), torch.tensor([1.0, 2.0, 3.0, 5.0])
    surprises = [0 + 2 - 1, -1 + 3 - 2, 4 - 3, 2 - 5]
    expected = [1 + 0.5 * (0 + 0.5 * 1), 0 + 0.5 * 1, 1, -3]
    assert surprises == [1, 0, 1, -3]
    assert generalised_advantages(rewards, values, owners, decay=0.5).tolist() == expected


ragged = st.lists(st.integers(1, 5), min_size=1, max_size=4)


@given(ragged, st.floats(0, 1, width=32), st.integers(0, 9))
def test_advantages_by_a_value_model_are_those_of_the_slow_sum(lengths: list[int], decay: float, seed: int) -> None:
    count, generator = sum(lengths), torch.Generator().manual_seed(seed)
    rewards, values = torch.randn(count, generator=generator), torch.randn(count, generator=generator)
    owners = torch.arange(len(lengths)).repeat_interleave(torch.tensor(lengths))
    found = generalised_advantages(rewards, values, owners, decay=decay).tolist()
    first = 0
    for length in lengths:
        r, v = rewards[first : first + length].tolist(), [*values[first : first + length].tolist(), 0.0]
        for t in range(length):
            slow = sum(decay ** (k - t) * (r[k] + v[k + 1] - v[k]) for k in range(t, length))
            assert found[first + t] == pytest.approx(slow, abs=1e-4)
        first += length


def test_with_all_surprises_carried_back_the_returns_are_what_was_earned() -> None:
    """Lambda 1: what is to be foreseen does not depend on what was foreseen."""
    owners, rewards = torch.tensor([0, 0, 0, 1]), torch.tensor([0.5, -1.0, 4.0, 2.0])
    for values in (torch.zeros(4), torch.tensor([3.0, -2.0, 7.0, 1.0])):
        returns = generalised_advantages(rewards, values, owners, decay=1.0) + values
        torch.testing.assert_close(returns, torch.tensor([3.5, 3.0, 4.0, 2.0]))


def test_what_each_token_earns_adds_up_to_the_score_less_the_price_of_the_kl() -> None:
    owners, kl = torch.tensor([0, 0, 1]), torch.tensor([0.5, -1.0, 2.0])
    earned = token_rewards(kl, torch.tensor([10.0, 20.0]), owners, price=0.1)
    torch.testing.assert_close(earned, torch.tensor([-0.05, 10.1, 19.8]))


def test_whatever_is_expected_the_gradient_is_that_of_reward_minus_kl() -> None:
    """By enumeration, with all surprises carried back: a value may depend on what stands before its token."""
    price, logits = 0.7, fresh_logits()
    logprobs = logprobs_of(logits)
    weights = logprobs.sum(-1).exp().detach()
    kl = (logprobs - REFERENCE_LOGPROBS).detach().flatten()
    rewards = token_rewards(kl, REWARD, OWNERS, price=price)
    again = fresh_logits()
    truth = (logprobs_of(again).sum(-1).exp() * REWARD).sum() - price * exact_kl(again)
    expected = -gradient(truth, again)
    second = torch.randn(V, generator=torch.Generator().manual_seed(5))[ANSWERS[:, 0]]  # depends on the first token
    values = torch.stack([torch.full((V * V,), 1.3), second], 1).flatten()
    advantages = generalised_advantages(rewards, values, OWNERS, decay=1.0)
    flat = logprobs.flatten()
    losses = clipped_policy_loss(flat, flat.detach(), advantages, low=0.2, high=0.28)
    found = gradient((weights[OWNERS] * losses).sum(), logits)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("value", "expected", "learns"),
    [
        (1.1, (1.1 - 3) ** 2 / 2, True),  # still near its old value of 1
        (2.0, (1.2 - 3) ** 2 / 2, False),  # nearer to 3, but has moved far enough
        (-1.0, (-1.0 - 3) ** 2 / 2, True),  # moved the wrong way: back
    ],
)
def test_the_value_loss_by_hand(value: float, expected: float, learns: bool) -> None:
    values = torch.tensor([value], requires_grad=True)
    loss = clipped_value_loss(values, torch.tensor([1.0]), torch.tensor([3.0]), clip=0.2)
    (found,) = torch.autograd.grad(loss.sum(), values)
    assert loss.item() == pytest.approx(expected)
    assert bool(found != 0) is learns
