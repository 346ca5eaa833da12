"""Which of two models' answers are better, and how far one has moved from the other."""

from collections.abc import Callable, Sequence
from math import log
from typing import NamedTuple

import torch
from torch import Tensor

from trivium.batch import Answered
from trivium.evaluate.tasks import Reply
from trivium.feedback.agreement import Interval, win_rate
from trivium.losses.language_model import linear_logprobs, logits_gradient
from trivium.model.transformer import Transformer
from trivium.native import cross_entropy
from trivium.text.branches import pack_answers

CLOSE = 1e-9  # gold scores this close are a tie
GLANCE = 100  # blind comparisons along the way


def compare(ours: Sequence[float], theirs: Sequence[float]) -> Interval:
    """Share of the comparisons that `ours` wins, ties half, with its 95 % interval.

    ours, theirs  gold scores of two answers to the same prompt, in the same order
    """
    margins = [a - b for a, b in zip(ours, theirs, strict=True)]
    wins = sum(margin > CLOSE for margin in margins)
    losses = sum(margin < -CLOSE for margin in margins)
    return win_rate(wins, len(margins) - wins - losses, losses)


def answer_logprobs(model: Transformer, answers: Answered, *, temperature: float = 1.0) -> Tensor:
    """Log-probability of every answer token. The one forward path for sampling weights, rewards and gradients.

    returns  (N,) float32, nats
    """
    return target_logprobs(model, answer_hidden(model, answers), answers.targets, temperature=temperature)


def answer_hidden(model: Transformer, answers: Answered) -> Tensor:
    """What every answer token is chosen from, (N, D)."""
    mask = model.branch_mask(answers.trees, answers.branches)
    return model.hidden_at(answers.sources, answers.tokens, answers.positions, mask)


def target_logprobs(model: Transformer, hidden: Tensor, targets: Tensor, *, temperature: float = 1.0) -> Tensor:
    """Log-probability of every target after what `hidden` (N, D) says, (N,) float32, nats."""
    kind, weight = hidden.device.type, model.lm_head.weight
    step = cross_entropy.logits_gradient if cross_entropy.serves(len(weight), hidden.device) else logits_gradient
    seen = hidden if temperature == 1 else hidden / temperature
    seen = seen.to(torch.get_autocast_dtype(kind)) if torch.is_autocast_enabled(kind) else seen
    return linear_logprobs(seen, weight, targets, step)


class Drift(NamedTuple):
    kl: float  # nats per answer
    entropy: float  # nats per token


@torch.no_grad()
def drift(
    policy: Transformer,
    reference: Transformer,
    prompts: Sequence[Sequence[int]],
    replies: Sequence[Reply],
    pad: int,
    *,
    rows: int = 64,
) -> Drift:
    """How far the policy has moved from the reference, and how sure of itself it is.

    replies  written by the policy at temperature 1: the means of log policy - log reference over answers (k1), and of
             -log policy over tokens, are then unbiased
    """
    kl = entropy = 0.0
    for first in range(0, len(replies), rows):
        written = [reply.tokens for reply in replies[first : first + rows]]
        answers = pack_answers(prompts[first : first + rows], written, policy.config.context_length, pad)
        answers = answers.to(policy.norm.weight.device)
        mine = answer_logprobs(policy, answers)
        kl += float((mine - answer_logprobs(reference, answers)).sum())
        entropy -= float(mine.sum())
    return Drift(kl / len(replies), entropy / sum(len(reply.tokens) for reply in replies))


def best_of_kl(count: int) -> float:
    """How far, in nats per answer, the best of so many answers is from the model that wrote them: at most, and nearly.

    log n - (n - 1) / n. Stiennon et al. 2020, appendix G.3, arXiv:2009.01325
    """
    return log(count) - (count - 1) / count


def nearest_count(kl: float, most: int) -> int:
    """Of how many answers, 1 to `most`, the best is nearest to that KL."""
    return min(range(1, most + 1), key=lambda count: abs(best_of_kl(count) - kl))


def golden(golds: Sequence[Callable[[str, bool], float]], replies: Sequence[Reply]) -> list[float]:
    """What each answer is truly worth."""
    return [gold(reply.text, reply.ended) for gold, reply in zip(golds, replies, strict=True)]
