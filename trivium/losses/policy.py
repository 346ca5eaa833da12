"""Policy losses, advantages and KL estimators: tensors in, tensors out. No model, no sampler, no config.

P prompts, G answers to each of them, A answers in all, N response tokens in all.
"""

import torch
from torch import Tensor

from trivium.errors import ConfigError


def leave_one_out_advantages(rewards: Tensor) -> Tensor:
    """Reward minus the mean reward of the *other* answers to the same prompt.

    rewards  (P, G) any unit; G >= 2
    returns  (P, G) the same unit; every row sums to 0
    raises   ConfigError when a group has a single answer: there is nothing to compare it with
    Ahmadian et al. 2024, eq. 6, arXiv:2402.14740
    """
    group = _group_size(rewards)
    return group_mean_advantages(rewards) * (group / (group - 1))


def group_mean_advantages(rewards: Tensor) -> Tensor:
    """Reward minus the mean reward of all answers to the same prompt, not divided by their spread.

    rewards  (P, G) any unit; G >= 2
    returns  (P, G) the same unit; every row sums to 0
    raises   ConfigError when a group has a single answer
    GRPO (Shao et al. 2024, arXiv:2402.03300) without the division, which favours prompts whose answers hardly differ:
    Liu et al. 2025 ("Dr. GRPO"), arXiv:2503.20783
    """
    _group_size(rewards)
    return rewards - rewards.mean(-1, keepdim=True)


def _group_size(rewards: Tensor) -> int:
    if rewards.shape[-1] < 2:
        raise ConfigError(f"align.group = {rewards.shape[-1]}: must be at least 2; sample more answers per prompt")
    return rewards.shape[-1]


def clipped_policy_loss(
    logprobs: Tensor, old_logprobs: Tensor, advantages: Tensor, *, low: float, high: float
) -> Tensor:
    """Clipped surrogate, one loss per response token; minimise its sum over the tokens that count.

    logprobs      (N,) nats under the policy being trained
    old_logprobs  (N,) nats under the policy that wrote the tokens; no gradient
    advantages    (N,) of the answer that each token belongs to
    low, high     > 0; the ratio may leave [1 - low, 1 + high] without being rewarded for it
    returns       (N,)
    Schulman et al. 2017, eq. 7, arXiv:1707.06347; unequal bounds: Yu et al. 2025 (DAPO), arXiv:2503.14476
    """
    ratio = torch.exp(logprobs - old_logprobs)  # exactly 1 on the first pass
    clipped = ratio.clamp(1 - low, 1 + high)
    return -torch.minimum(ratio * advantages, clipped * advantages)


def kl_in_reward(logprobs: Tensor, reference_logprobs: Tensor, owners: Tensor, count: int) -> Tensor:
    """Unbiased estimate (k1) of the KL from policy to reference, one number per answer, for use inside the reward.

    logprobs, reference_logprobs  (N,) nats of the written tokens
    owners                        (N,) int64; which answer each token belongs to, 0 to count - 1
    returns                       (A,) nats, no gradient: as a loss this estimator would be wrong
    Schulman 2020, "Approximating KL divergence"
    """
    ratio = (logprobs - reference_logprobs).detach()
    return torch.zeros(count, device=ratio.device).index_add(0, owners, ratio)


def kl_k2_loss(logprobs: Tensor, reference_logprobs: Tensor) -> Tensor:
    """Half the squared log-ratio (k2), one loss per token: on policy its gradient is the gradient of the KL.

    logprobs, reference_logprobs  (N,) nats of the written tokens
    returns                       (N,) nats squared; small but biased as an estimate of the KL's value
    Schulman 2020; Tang and Munos 2025, arXiv:2506.09477
    """
    return (logprobs - reference_logprobs).square() / 2
