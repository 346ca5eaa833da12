"""Which of two models' answers are better, and how far one has moved from the other."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from trivium.batch import Answered
from trivium.evaluate.tasks import Reply
from trivium.feedback.agreement import Interval, win_rate
from trivium.losses.language_model import token_logprobs
from trivium.model.transformer import Transformer
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
    hidden = model.hidden(answers.tokens, answers.positions, model.branch_mask(answers.trees, answers.branches))
    logits = model.lm_head(hidden.flatten(0, 1)[answers.sources])  # (N, V)
    return token_logprobs(logits, answers.targets, temperature=temperature)


@torch.no_grad()
def kl_to_reference(
    policy: Transformer,
    reference: Transformer,
    prompts: Sequence[Sequence[int]],
    replies: Sequence[Reply],
    pad: int,
    *,
    rows: int = 64,
) -> float:
    """Mean over answers of log policy - log reference, in nats per answer: an unbiased estimate of the KL (k1).

    replies  written by the policy at temperature 1
    """
    total = 0.0
    for first in range(0, len(replies), rows):
        written = [reply.tokens for reply in replies[first : first + rows]]
        answers = pack_answers(prompts[first : first + rows], written, policy.config.context_length, pad)
        answers = answers.to(policy.norm.weight.device)
        total += float((answer_logprobs(policy, answers) - answer_logprobs(reference, answers)).sum())
    return total / len(replies)


def golden(golds: Sequence[Callable[[str, bool], float]], replies: Sequence[Reply]) -> list[float]:
    """What each answer is truly worth."""
    return [gold(reply.text, reply.ended) for gold, reply in zip(golds, replies, strict=True)]
