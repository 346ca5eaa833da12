"""Phase III, first half: a model learns from votes to score answers. Instruct + votes → reward."""

from collections.abc import Sequence
from math import sqrt
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trivium.batch import PairBatch
from trivium.compute import Compute
from trivium.config import Recipe
from trivium.distributed.world import World
from trivium.feedback.agreement import wilson_interval
from trivium.feedback.store import LabelledPair
from trivium.losses.preference import bradley_terry_loss, centering_penalty
from trivium.model.heads import RewardModel
from trivium.records import Message
from trivium.text.dialogue import render
from trivium.text.tokenizer import Tokenizer
from trivium.train.optimizer import build_optimizers
from trivium.train.phase import Metrics, Phase


def build(
    recipe: Recipe,
    model: RewardModel,
    tokenizer: Tokenizer,
    train: Sequence[LabelledPair],
    held_out: Sequence[LabelledPair],
    compute: Compute,
    world: World,
    *,
    name: str,
) -> Phase[PairBatch]:
    """The phase that turns a fresh reward model into one that ranks answers as the votes did."""
    settings = recipe.reward
    rendered = [render_pair(pair, tokenizer, recipe.model.context_length) for pair in train]
    preferences = [pair.preference for pair in train]

    def batches(step: int) -> list[PairBatch]:
        chosen = pairs_of_step(len(train), settings.rows_per_step, step, recipe.seed)
        mine = [chosen[i : i + settings.microbatch_rows] for i in range(0, len(chosen), settings.microbatch_rows)]
        return [collate([rendered[i] for i in part], [preferences[i] for i in part], tokenizer.pad) for part in mine]

    def objective(model: RewardModel, batch: PairBatch) -> tuple[Tensor, Metrics]:
        with compute.autocast():
            rewards = model(batch.tokens.to(compute.device), batch.lengths.to(compute.device))
        first, second = rewards.chunk(2)
        preference = batch.preference.to(compute.device)
        losses = bradley_terry_loss(first - second, preference, smoothing=settings.smoothing)
        right = ((first - second) * (preference - 0.5) > 0) + 0.5 * (preference == 0.5)
        loss = (losses + settings.centering * centering_penalty(first, second)).sum()
        return loss, {"accuracy": right.float().sum()}

    def evaluate() -> dict[str, float]:
        return {"accuracy": measure(model, tokenizer, held_out, compute, ceiling=None).accuracy}

    return Phase(
        name=name,
        model=model,
        objective=objective,
        batches=batches,
        evaluate=evaluate,
        optimizers=build_optimizers(model, settings),
        settings=settings,
        evaluations=min(4, recipe.evaluate.along_the_way),
    )


def render_answer(prompt: Sequence[Message], answer: str, tokenizer: Tokenizer, length: int) -> NDArray[np.int32]:
    """Prompt and answer up to the end token, on which the reward is read; the front is cut where it does not fit."""
    rendered = render([*prompt, Message("assistant", answer)], tokenizer)
    end = int(np.flatnonzero(rendered.supervised)[-1]) + 1  # what follows the end token is layout
    return rendered.ids[max(0, end - length) : end]


def render_pair(pair: LabelledPair, tokenizer: Tokenizer, length: int) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    first = render_answer(pair.prompt, pair.first, tokenizer, length)
    return first, render_answer(pair.prompt, pair.second, tokenizer, length)


def pairs_of_step(count: int, per_step: int, step: int, seed: int) -> list[int]:
    """Which pairs a step learns from: each epoch is a permutation of its own, a function of (seed, epoch)."""
    places = range(step * per_step, (step + 1) * per_step)
    epochs = {place // count for place in places}
    orders = {
        epoch: np.random.Generator(np.random.Philox(np.random.SeedSequence((seed, 2, epoch)))).permutation(count)
        for epoch in epochs
    }
    return [int(orders[place // count][place % count]) for place in places]


def collate(
    rendered: Sequence[tuple[NDArray[np.int32], NDArray[np.int32]]], preferences: Sequence[float], pad: int
) -> PairBatch:
    rows = [first for first, _ in rendered] + [second for _, second in rendered]
    tokens, lengths = pad_rows(rows, pad)
    return PairBatch(tokens, lengths, torch.tensor(preferences))


def pad_rows(rows: Sequence[NDArray[np.int32]], pad: int, *, multiple: int = 8) -> tuple[Tensor, Tensor]:
    """Rows padded on the right to a common length.

    returns  tokens (B, T) int64, lengths (B,) int64
    """
    width = -(-max(len(row) for row in rows) // multiple) * multiple
    tokens = torch.full((len(rows), width), pad)
    for i, row in enumerate(rows):
        tokens[i, : len(row)] = torch.from_numpy(row)
    return tokens, torch.tensor([len(row) for row in rows])


@torch.no_grad()
def score(
    model: RewardModel, rows: Sequence[NDArray[np.int32]], pad: int, compute: Compute, *, batch_rows: int = 128
) -> Tensor:
    """The reward of rendered answers.

    returns  (N,) float32, on the CPU
    """
    rewards = torch.zeros(len(rows))
    order = sorted(range(len(rows)), key=lambda i: len(rows[i]))  # equal lengths waste no room
    for first in range(0, len(order), batch_rows):
        chosen = order[first : first + batch_rows]
        tokens, lengths = pad_rows([rows[i] for i in chosen], pad)
        with compute.autocast():
            rewards[chosen] = model(tokens.to(compute.device), lengths.to(compute.device)).cpu()
    return rewards


class RewardReport(NamedTuple):
    """How far a reward model can be trusted, on held-out votes."""

    accuracy: float  # share of the decided votes it agrees with
    accuracy_low: float
    accuracy_high: float
    ceiling: float | None  # the best that anything could reach against such votes; None when unknown
    ece: float  # expected calibration error, 0 to 1
    length_correlation: float  # of reward and length difference, at equal votes
    longer_wins: float  # accuracy of "the longer answer wins"
    pairs: int  # decided held-out pairs
    by_margin: tuple[tuple[float, float, int], ...]  # (mean confidence, accuracy, pairs), least sure first


def measure(
    model: RewardModel,
    tokenizer: Tokenizer,
    pairs: Sequence[LabelledPair],
    compute: Compute,
    *,
    ceiling: float | None,
) -> RewardReport:
    """The held-out report; tied votes say nothing about right and wrong and are left out."""
    decided = [pair for pair in pairs if pair.preference != 0.5]
    if not decided:
        return RewardReport(0.5, 0.0, 1.0, ceiling, 0.0, 0.0, 0.5, 0, ())  # nothing is known
    rendered = [render_pair(pair, tokenizer, model.config.context_length) for pair in decided]
    rewards = score(
        model, [first for first, _ in rendered] + [second for _, second in rendered], tokenizer.pad, compute
    )
    margin = (rewards[: len(decided)] - rewards[len(decided) :]).numpy().astype(np.float64)
    vote = np.array([1.0 if pair.preference > 0.5 else -1.0 for pair in decided])
    longer = np.array([len(first) - len(second) for first, second in rendered], dtype=np.float64)
    right = margin * vote > 0
    low, high = wilson_interval(int(right.sum()), len(decided))
    bins = calibration(np.abs(margin), right)
    return RewardReport(
        accuracy=float(right.mean()),
        accuracy_low=low,
        accuracy_high=high,
        ceiling=ceiling,
        ece=float(sum(abs(confidence - accuracy) * count for confidence, accuracy, count in bins) / len(decided)),
        length_correlation=partial_correlation(margin, longer, vote),
        longer_wins=float((longer * vote > 0).mean() + 0.5 * (longer == 0).mean()),
        pairs=len(decided),
        by_margin=bins,
    )


def calibration(
    margin: NDArray[np.float64], right: NDArray[np.bool_], *, bins: int = 10
) -> tuple[tuple[float, float, int], ...]:
    """Confidence sigmoid(|margin|) beside accuracy, in bins of equally many pairs. Guo et al. 2017, arXiv:1706.04599.

    margin  (pairs,) at least 0
    """
    confidence = 1 / (1 + np.exp(-margin))
    order = np.argsort(margin, kind="stable")
    parts = [part for part in np.array_split(order, min(bins, len(order))) if len(part)]
    return tuple((float(confidence[part].mean()), float(right[part].mean()), len(part)) for part in parts)


def partial_correlation(x: NDArray[np.float64], y: NDArray[np.float64], given: NDArray[np.float64]) -> float:
    """Pearson correlation of x and y with what `given` explains linearly taken out of both; 0 when one is constant.

    r_xy.z = (r_xy - r_xz r_yz) / sqrt((1 - r_xz^2) (1 - r_yz^2))
    """

    def correlation(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
        spread = a.std() * b.std()
        return float(((a - a.mean()) * (b - b.mean())).mean() / spread) if spread > 0 else 0.0

    xy, xz, yz = correlation(x, y), correlation(x, given), correlation(y, given)
    rest = (1 - xz**2) * (1 - yz**2)
    return (xy - xz * yz) / sqrt(rest) if rest > 0 else 0.0
