"""Phase III, first half: a model learns from votes to score answers. Instruct + votes → reward."""

from collections.abc import Sequence
from math import sqrt
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trivium.batch import Answered, PairBatch
from trivium.compute import Compute
from trivium.config import Recipe
from trivium.distributed.world import World
from trivium.feedback.agreement import wilson_interval
from trivium.feedback.store import LabelledPair
from trivium.losses.preference import bradley_terry_loss, centering_penalty
from trivium.model.heads import RewardModel
from trivium.records import Message
from trivium.text.branches import pack_answers
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
    length = recipe.model.context_length
    read = [read_pair(pair, tokenizer, length) for pair in train]
    preferences = [pair.preference for pair in train]

    def batches(step: int) -> list[PairBatch]:
        chosen = pairs_of_step(len(train), settings.rows_per_step, step, recipe.seed)
        mine = [chosen[i : i + settings.microbatch_rows] for i in range(0, len(chosen), settings.microbatch_rows)]
        return [
            collate([read[i] for i in part], [preferences[i] for i in part], length, tokenizer.pad) for part in mine
        ]

    def objective(model: RewardModel, batch: PairBatch) -> tuple[Tensor, Metrics]:
        with compute.autocast():
            rewards = model(batch.answers.to(compute.device))
        first, second = rewards.view(-1, 2).T
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


class Read(NamedTuple):
    """An answer as the reward model reads it."""

    prompt: list[int]
    answer: list[int]  # up to its end token, on which the reward is read


def read_answer(prompt: Sequence[Message], answer: str, tokenizer: Tokenizer, length: int) -> Read:
    """Prompt and answer, together at most `length` tokens: what does not fit goes from the prompt's front first.

    Of the prompt at least its last token stays, so that an answer is never read behind a piece of itself.
    """
    rendered = render([*prompt, Message("assistant", answer)], tokenizer, loss_on="last")
    place = np.flatnonzero(rendered.supervised)
    first, end = int(place[0]), int(place[-1]) + 1  # what follows the end token is layout
    ids = rendered.ids.tolist()
    return Read(ids[max(0, min(end - length, first - 1)) : first], ids[max(first, end - length + 1) : end])


def read_pair(pair: LabelledPair, tokenizer: Tokenizer, length: int) -> tuple[Read, Read]:
    """Both answers behind the same prompt, so that it is read once."""
    first = read_answer(pair.prompt, pair.first, tokenizer, length)
    second = read_answer(pair.prompt, pair.second, tokenizer, length)
    shorter = min(first.prompt, second.prompt, key=len)
    return first._replace(prompt=shorter), second._replace(prompt=shorter)


def pairs_of_step(count: int, per_step: int, step: int, seed: int) -> list[int]:
    """Which pairs a step learns from: each epoch is a permutation of its own, a function of (seed, epoch)."""
    places = range(step * per_step, (step + 1) * per_step)
    epochs = {place // count for place in places}
    orders = {
        epoch: np.random.Generator(np.random.Philox(np.random.SeedSequence((seed, 2, epoch)))).permutation(count)
        for epoch in epochs
    }
    return [int(orders[place // count][place % count]) for place in places]


def collate(read: Sequence[tuple[Read, Read]], preferences: Sequence[float], length: int, pad: int) -> PairBatch:
    return PairBatch(pack([one for pair in read for one in pair], length, pad), torch.tensor(preferences))


def pack(read: Sequence[Read], length: int, pad: int) -> Answered:
    return pack_answers([one.prompt for one in read], [one.answer for one in read], length, pad)


@torch.no_grad()
def score(model: RewardModel, read: Sequence[Read], pad: int, compute: Compute, *, batch_answers: int = 256) -> Tensor:
    """The reward of answers; those to one prompt stand best one after another.

    returns  (A,) float32, on the CPU
    """
    rewards = []
    for first in range(0, len(read), batch_answers):
        answers = pack(read[first : first + batch_answers], model.config.context_length, pad)
        with compute.autocast():
            rewards.append(model(answers.to(compute.device)).cpu())
    return torch.cat(rewards) if rewards else torch.zeros(0)


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
    read = [read_pair(pair, tokenizer, model.config.context_length) for pair in decided]
    first, second = score(model, [one for both in read for one in both], tokenizer.pad, compute).view(-1, 2).T
    margin = (first - second).numpy().astype(np.float64)
    vote = np.array([1.0 if pair.preference > 0.5 else -1.0 for pair in decided])
    longer = np.array([len(one.answer) - len(other.answer) for one, other in read], dtype=np.float64)
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
