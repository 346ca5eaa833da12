"""Policy losses, advantages and KL estimators: tensors in, tensors out. No model, no sampler, no config.

P prompts, G answers to each of them, A answers in all, N response tokens in all.
"""

import torch
from torch import Tensor

from trivium.errors import ConfigError

FLAT = 1e-6  # a group whose rewards spread less than this has nothing to teach


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


def group_spread_advantages(rewards: Tensor) -> Tensor:
    """Reward minus the group's mean, divided by the group's standard deviation; 0 where the group has no spread.

    rewards  (P, G) any unit; G >= 2
    returns  (P, G) no unit
    raises   ConfigError when a group has a single answer
    GRPO as published: Shao et al. 2024, section 4.1.2, arXiv:2402.03300
    """
    centred = group_mean_advantages(rewards)
    spread = rewards.std(-1, keepdim=True)
    return torch.where(spread > FLAT, centred / spread.clamp_min(FLAT), 0.0)


def best_of_group(rewards: Tensor) -> Tensor:
    """1 for the best answer to each prompt, 0 for the others: with ratio 1 the policy loss is then plain imitation.

    rewards  (P, G); of equally good ones the first is taken
    returns  (P, G)
    Rejection-sampling fine-tuning: Touvron et al. 2023, section 3.2.3, arXiv:2307.09288
    """
    return torch.nn.functional.one_hot(rewards.argmax(-1), rewards.shape[-1]).to(rewards.dtype)


def has_signal(rewards: Tensor) -> Tensor:
    """Which prompts have answers of which some are better than others: the rest has nothing to compare.

    rewards  (P, G) any unit
    returns  (P,) bool
    Yu et al. 2025 (DAPO), section 3.2, arXiv:2503.14476
    """
    return rewards.amax(-1) - rewards.amin(-1) > FLAT


def best_and_worst(rewards: Tensor) -> Tensor:
    """The two answers to each prompt that are furthest apart; of equally good ones the first, of equally bad the last.

    rewards  (P, G) any unit; G >= 2
    returns  (P, 2) int64, places within the group; never twice the same
    """
    last = _group_size(rewards) - 1
    return torch.stack([rewards.argmax(-1), last - rewards.flip(-1).argmin(-1)], -1)


def _group_size(rewards: Tensor) -> int:
    if rewards.shape[-1] < 2:
        raise ConfigError(f"align.group = {rewards.shape[-1]}: must be at least 2; sample more answers per prompt")
    return rewards.shape[-1]


def generalised_advantages(rewards: Tensor, values: Tensor, owners: Tensor, *, decay: float) -> Tensor:
    """How much better each token was than expected: (GAE) a decaying sum of the surprises from there to the end.

    rewards  (N,) what each token earned itself; an answer's score stands on its last token
    values   (N,) what the value model expected before each token
    owners   (N,) int64; which answer each token belongs to, one answer after the other
    decay    0 to 1 (lambda): 1 trusts only what was earned, 0 only what was expected; nothing is discounted (gamma 1)
    returns  (N,) the unit of the rewards; with the values added, what each token's value should have been
    Schulman et al. 2015, eq. 16, arXiv:1506.02438
    """
    places, count = _places(owners)
    table = torch.zeros(2, count, int(places.max()) + 2, device=values.device)
    table[0, owners, places], table[1, owners, places] = rewards, values
    surprises = table[0, :, :-1] + table[1, :, 1:] - table[1, :, :-1]  # after the last token nothing is expected
    found, carried = torch.zeros_like(surprises), torch.zeros(count, device=values.device)
    for place in range(surprises.shape[1] - 1, -1, -1):
        carried = surprises[:, place] + decay * carried
        found[:, place] = carried
    return found[owners, places]


def _places(owners: Tensor) -> tuple[Tensor, int]:
    """(N,) each token's place within its answer, and how many answers there are."""
    lengths = torch.bincount(owners)
    return torch.arange(len(owners), device=owners.device) - (lengths.cumsum(0) - lengths)[owners], len(lengths)


def token_rewards(kl: Tensor, scores: Tensor, owners: Tensor, *, price: float) -> Tensor:
    """What each token earns: its own share of the KL at a price, and on an answer's last token the answer's score.

    kl       (N,) nats; log-ratio of policy to reference of each token (k1)
    scores   (A,) any unit
    owners   (N,) int64; which answer each token belongs to, one answer after the other
    returns  (N,) the unit of the scores; of an answer they add up to its score less the price of its KL
    Ouyang et al. 2022, eq. 2, arXiv:2203.02155
    """
    ends = torch.bincount(owners, minlength=len(scores)).cumsum(0) - 1
    return (-price * kl).index_add(0, ends, scores)


def clipped_value_loss(values: Tensor, old_values: Tensor, returns: Tensor, *, clip: float) -> Tensor:
    """Half the squared error of what was expected, the worse of clipped and not, one loss per token.

    values      (N,) of the value model being trained
    old_values  (N,) of the value model when the answers were written; no gradient
    returns     (N,) what they should have been
    clip        > 0; a value moves no further from its old one in one go, in the unit of rewards
    returns     (N,)
    Schulman et al. 2017's code; Huang et al. 2024, section 4, arXiv:2403.17031
    """
    near = old_values + (values - old_values).clamp(-clip, clip)
    return torch.maximum((values - returns).square(), (near - returns).square()) / 2


def overlong(lengths: Tensor, ended: Tensor, *, longest: int, buffer: int) -> Tensor:
    """Which share of the penalty for length an answer pays: all of it when it never ended, none when it is short.

    lengths  (A,) tokens
    ended    (A,) bool
    longest  tokens that an answer may have
    buffer   tokens below that in which the share grows from 0 to 1; 0: only answers that never ended pay
    returns  (A,) 0 to 1
    Yu et al. 2025 (DAPO), eq. 13, arXiv:2503.14476
    """
    growing = (lengths - (longest - buffer)).clamp(min=0) / buffer if buffer else torch.zeros(len(lengths))
    return torch.where(ended, growing, 1.0)


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


def truncated_importance(logprobs: Tensor, sampled_logprobs: Tensor, *, most: float) -> Tensor:
    """What a token counts for that the sampler, which computes a little differently, drew more or less often.

    logprobs          (N,) nats under the policy that wrote, by the pass that learns
    sampled_logprobs  (N,) nats of the same tokens by the sampler
    most              >= 1; no token counts for more
    returns           (N,), no gradient; 1 where both agree
    Espeholt et al. 2018, section 4.1, arXiv:1802.01561
    """
    return torch.exp((logprobs - sampled_logprobs).detach()).clamp(max=most)


def sequence_logprobs(logprobs: Tensor, old_logprobs: Tensor, owners: Tensor, count: int) -> Tensor:
    """Log-probabilities whose every token has its answer's mean log-ratio to the old ones, and its own gradient.

    logprobs, old_logprobs  (N,) nats
    owners                  (N,) int64; which answer each token belongs to, 0 to count - 1
    returns                 (N,) nats, for `clipped_policy_loss`: all tokens of an answer are clipped together
    Zheng et al. 2025 (GSPO), eq. 7 and 10, arXiv:2507.18071
    """
    lengths = torch.zeros(count, device=logprobs.device).index_add(0, owners, torch.ones_like(logprobs))
    ratio = torch.zeros(count, device=logprobs.device).index_add(0, owners, (logprobs - old_logprobs).detach())
    return old_logprobs + (ratio / lengths)[owners] + logprobs - logprobs.detach()


def is_clipped(logprobs: Tensor, old_logprobs: Tensor, advantages: Tensor, *, low: float, high: float) -> Tensor:
    """Which tokens `clipped_policy_loss` teaches nothing any more: their ratio has gone far enough already.

    returns  (N,) bool; arguments as there
    """
    ratio = torch.exp(logprobs - old_logprobs)
    return ((advantages > 0) & (ratio > 1 + high)) | ((advantages < 0) & (ratio < 1 - low))


def answer_weights(owners: Tensor, count: int) -> Tensor:
    """What each token weighs when every answer weighs the same, whatever its length.

    owners   (N,) int64; which answer each token belongs to, 0 to count - 1
    returns  (N,); those of an answer sum to 1
    GRPO as published (Shao et al. 2024, eq. 3); Liu et al. 2025 show that it favours long wrong answers
    """
    return (1 / torch.bincount(owners, minlength=count).float())[owners]


def kl_in_reward(logprobs: Tensor, reference_logprobs: Tensor, owners: Tensor, count: int) -> Tensor:
    """Unbiased estimate (k1) of the KL from policy to reference, one number per answer, for use inside the reward.

    logprobs, reference_logprobs  (N,) nats of the written tokens
    owners                        (N,) int64; which answer each token belongs to, 0 to count - 1
    returns                       (A,) nats, no gradient: as a loss this estimator would be wrong
    Schulman 2020, "Approximating KL divergence"
    """
    ratio = (logprobs - reference_logprobs).detach()
    return torch.zeros(count, device=ratio.device).index_add(0, owners, ratio)


def kl_k2_loss(logprobs: Tensor, old_logprobs: Tensor, reference_logprobs: Tensor, owners: Tensor) -> Tensor:
    """Squared log-ratio (k2), one loss per token: in the mean over answers its gradient is that of the answer's KL.

    A token answers for its own log-ratio and for those of all tokens after it, which it made as likely as they are:
    half the square of each token's own log-ratio would see none of that.

    logprobs            (N,) nats of the written tokens under the policy being trained
    old_logprobs        (N,) nats under the policy that wrote them: what it wrote too often weighs less
    reference_logprobs  (N,) nats
    owners              (N,) int64; which answer each token belongs to, one answer after the other
    returns             (N,) nats squared; on the first pass those of an answer add up to half of: the square of its
                        log-ratio, and its tokens' squares. No estimate of the KL's value
    Schulman 2020; Tang and Munos 2025, section 4, arXiv:2506.09477
    """
    ratio = logprobs - reference_logprobs
    places, count = _places(owners)
    table = torch.zeros(2, count, int(places.max()) + 1, device=logprobs.device)
    table[0, owners, places], table[1, owners, places] = ratio.detach(), (logprobs - old_logprobs).detach()
    weighed = table[0] * table[1].cumsum(-1).exp()  # by how likely the answer is up to there, now to then
    ahead = weighed.flip(-1).cumsum(-1).flip(-1)
    return ahead[owners, places] * ratio


def kl_k3(logprobs: Tensor, reference_logprobs: Tensor) -> Tensor:
    """Estimate (k3) of the KL's value, one number per token: unbiased, never negative, of less variance than k1.

    logprobs, reference_logprobs  (N,) nats of tokens that the policy wrote
    returns                       (N,) nats, no gradient: as a loss it would have that of the other KL
    Schulman 2020, "Approximating KL divergence"; Tang and Munos 2025, arXiv:2506.09477
    """
    ratio = (reference_logprobs - logprobs).detach()
    return ratio.expm1() - ratio
