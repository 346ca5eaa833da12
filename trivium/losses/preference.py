"""Preference losses: tensors in, tensors out. No model, no config, no ranks."""

import torch
from torch import Tensor
from torch.nn import functional as F


def bradley_terry_loss(margin: Tensor, preference: Tensor, *, smoothing: float = 0.0) -> Tensor:
    """Negative log-likelihood of the votes when P(first wins) = sigmoid(margin), one loss per pair.

    margin      (pairs,) reward of the first answer minus reward of the second
    preference  (pairs,) share of votes for the first: 1 preferred, 0 rejected, .5 tie
    smoothing   0 to .5; the share of votes taken to be mistaken
    returns     (pairs,) nats; log 2 when the margin is 0
    Bradley and Terry 1952; Ouyang et al. 2022, eq. 1, arXiv:2203.02155. Ties count half to each side.
    """
    target = preference * (1 - 2 * smoothing) + smoothing
    return -(target * F.logsigmoid(margin) + (1 - target) * F.logsigmoid(-margin))


def centering_penalty(first: Tensor, second: Tensor) -> Tensor:
    """Squared mean of a pair's two rewards: Bradley–Terry fixes only differences, this fixes the level near 0.

    first, second  (pairs,) rewards
    returns        (pairs,) reward squared
    Eisenstein et al. 2023, arXiv:2312.09244, section 2
    """
    return ((first + second) / 2).square()


def label_loss(rewards: Tensor, labels: Tensor, *, smoothing: float = 0.0) -> Tensor:
    """Negative log-likelihood of single answers called good or bad when P(good) = sigmoid(reward), one loss per answer.

    rewards    (A,) log-odds
    labels     (A,) share of the votes that called it good: 0 to 1
    smoothing  as in `bradley_terry_loss`; this is that loss against an answer of reward 0
    returns    (A,) nats
    """
    return bradley_terry_loss(rewards, labels, smoothing=smoothing)


def dpo_loss(
    policy_margin: Tensor, reference_margin: Tensor, preference: Tensor, *, beta: float, smoothing: float = 0.0
) -> Tensor:
    """Direct preference optimisation, one loss per pair: the policy is its own reward model.

    policy_margin     (pairs,) log-probability of the first answer minus that of the second, nats
    reference_margin  (pairs,) the same under the frozen reference
    preference        (pairs,) share of votes for the first: 1 preferred, 0 rejected, .5 tie
    beta              > 0; larger holds the policy nearer the reference
    smoothing         0 to .5; the share of votes taken to be mistaken
    returns           (pairs,) nats; log 2 when the margins agree
    Rafailov et al. 2023, eq. 7, arXiv:2305.18290
    """
    return bradley_terry_loss(beta * (policy_margin - reference_margin), preference, smoothing=smoothing)


def ipo_loss(
    policy_margin: Tensor, reference_margin: Tensor, preference: Tensor, *, beta: float, smoothing: float = 0.0
) -> Tensor:
    """Identity preference optimisation, one loss per pair: a margin is aimed at, not pushed on for ever.

    Arguments as in `dpo_loss`; beta is the paper's tau: a vote for the first asks for a margin of 1 / (2 beta) nats
    returns  (pairs,) nats squared; at preference 1 zero when that margin is reached. Ties count half to each side.
    Azar et al. 2023, eq. 17, arXiv:2310.12036
    """
    target, gained, aim = preference * (1 - 2 * smoothing) + smoothing, policy_margin - reference_margin, 1 / (2 * beta)
    return target * (gained - aim).square() + (1 - target) * (gained + aim).square()


def margins_of(logprobs: Tensor, owners: Tensor, count: int, *, per_token: bool) -> Tensor:
    """Log-probability of the first answer of each pair minus that of the second.

    logprobs   (N,) nats of the answers' tokens
    owners     (N,) int64; which answer each token belongs to: 0 and 1 are the first pair's
    count      answers
    per_token  whether an answer's log-probability is divided by its length, so that length alone makes no margin
    returns    (pairs,) nats
    Meng et al. 2024, eq. 3, arXiv:2405.14734, with the reference kept
    """
    sums = torch.zeros(count, device=logprobs.device).index_add(0, owners, logprobs)
    lengths = torch.bincount(owners, minlength=count) if per_token else torch.ones_like(sums)
    pairs = (sums / lengths).view(-1, 2)
    return pairs[:, 0] - pairs[:, 1]
