"""Preference losses: tensors in, tensors out. No model, no config, no ranks."""

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
