"""Which of two models' answers are better, and how far one has moved from the other."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from trivium.evaluate.tasks import Reply
from trivium.feedback.agreement import Interval, win_rate
from trivium.losses.language_model import token_logprobs
from trivium.model.attention import document_mask
from trivium.model.transformer import Transformer

CLOSE = 1e-9  # gold scores this close are a tie


def compare(ours: Sequence[float], theirs: Sequence[float]) -> Interval:
    """Share of the comparisons that `ours` wins, ties half, with its 95 % interval.

    ours, theirs  gold scores of two answers to the same prompt, in the same order
    """
    margins = [a - b for a, b in zip(ours, theirs, strict=True)]
    wins = sum(margin > CLOSE for margin in margins)
    losses = sum(margin < -CLOSE for margin in margins)
    return win_rate(wins, len(margins) - wins - losses, losses)


def response_logprobs(model: Transformer, tokens: Tensor, supervised: Tensor, *, temperature: float = 1.0) -> Tensor:
    """Log-probability of every response token. The one forward path for sampling weights, rewards and gradients.

    B rows, T time.
    tokens      (B, T) int64, padded on the right
    supervised  (B, T-1) bool; True where tokens[:, 1:] is part of the response
    returns     (B, T-1) float32, nats; 0 where not supervised
    """
    read = tokens[:, :-1]
    positions = torch.arange(read.shape[1], device=tokens.device).expand_as(read)
    hidden = model.hidden(read, positions, document_mask(torch.zeros_like(read)))  # padding stands last, unseen
    logits = model.lm_head(hidden[supervised])  # (response tokens, V)
    found = token_logprobs(logits, tokens[:, 1:][supervised], temperature=temperature)
    return torch.zeros_like(supervised, dtype=torch.float32).masked_scatter(supervised, found)


def pad_answers(
    prompts: Sequence[Sequence[int]], replies: Sequence[Reply], pad: int, *, multiple: int = 8
) -> tuple[Tensor, Tensor]:
    """Prompts and answers as rows.

    returns  tokens (B, T) int64 and supervised (B, T-1) bool, as `response_logprobs` wants them
    """
    rows = [[*prompt, *reply.tokens] for prompt, reply in zip(prompts, replies, strict=True)]
    length = -(-max(map(len, rows)) // multiple) * multiple
    tokens = torch.tensor([[*row, *[pad] * (length - len(row))] for row in rows])
    place = torch.arange(1, length)
    first = torch.tensor([len(prompt) for prompt in prompts])[:, None]
    last = torch.tensor([len(row) for row in rows])[:, None]
    return tokens, (place >= first) & (place < last)


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
        tokens, supervised = pad_answers(prompts[first : first + rows], replies[first : first + rows], pad)
        tokens, supervised = tokens.to(policy.norm.weight.device), supervised.to(policy.norm.weight.device)
        ratio = response_logprobs(policy, tokens, supervised) - response_logprobs(reference, tokens, supervised)
        total += float(ratio.sum())
    return total / len(replies)


def golden(golds: Sequence[Callable[[str, bool], float]], replies: Sequence[Reply]) -> list[float]:
    """What each answer is truly worth."""
    return [gold(reply.text, reply.ended) for gold, reply in zip(golds, replies, strict=True)]
