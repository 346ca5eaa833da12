"""Phase III, first half: a model learns from votes to score answers. Instruct + votes → reward."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from trivium.batch import Answered, LabelBatch, PairBatch
from trivium.compute import Compute
from trivium.config import Recipe
from trivium.distributed.world import World
from trivium.feedback.store import LabelledPair
from trivium.losses.preference import bradley_terry_loss, centering_penalty, label_loss
from trivium.model.heads import RewardModel
from trivium.records import Label, Message
from trivium.text.branches import pack_answers
from trivium.text.dialogue import render
from trivium.text.tokenizer import Tokenizer
from trivium.train.optimizer import build_optimizers
from trivium.train.phase import Metrics, Phase

Batches = list[PairBatch | LabelBatch]


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
    labels: Sequence[Label] = (),
) -> Phase[PairBatch | LabelBatch]:
    """The phase that turns a fresh reward model into one that ranks answers as the votes did.

    labels  single answers called good or bad, learned beside the pairs
    """
    settings, length, pad = recipe.reward, recipe.model.context_length, tokenizer.pad
    read = [read_pair(pair, tokenizer, length) for pair in train]
    alone = [read_answer(label.prompt, label.answer, tokenizer, length) for label in labels]
    preferences, good = [pair.preference for pair in train], [float(label.good) for label in labels]

    def batches(step: int) -> Batches:
        chosen = pairs_of_step(len(train) + len(labels), settings.rows_per_step, step, recipe.seed)
        found: Batches = []
        for first in range(0, len(chosen), settings.microbatch_rows):
            part = chosen[first : first + settings.microbatch_rows][world.rank :: world.size]
            pairs, rest = [i for i in part if i < len(train)], [i - len(train) for i in part if i >= len(train)]
            if pairs:
                found.append(collate([read[i] for i in pairs], [preferences[i] for i in pairs], length, pad))
            if rest:
                answers = pack([alone[i] for i in rest], length, pad)
                found.append(LabelBatch(answers, torch.tensor([good[i] for i in rest])))
        return found

    def objective(model: RewardModel, batch: PairBatch | LabelBatch) -> tuple[Tensor, Metrics]:
        with compute.autocast():
            rewards = model(batch.answers.to(compute.device))
        if isinstance(batch, LabelBatch):
            labels = batch.labels.to(compute.device)
            right = (rewards > 0) == (labels > 0.5)
            return label_loss(rewards, labels, smoothing=settings.smoothing).sum(), {"accuracy": right.float().sum()}
        first, second = rewards.view(-1, 2).T
        preference = batch.preference.to(compute.device)
        losses = bradley_terry_loss(first - second, preference, smoothing=settings.smoothing)
        right = ((first - second) * (preference - 0.5) > 0) + 0.5 * (preference == 0.5)
        loss = (losses + settings.centering * centering_penalty(first, second)).sum()
        return loss, {"accuracy": right.float().sum()}

    decided = [pair for pair in held_out if pair.preference != 0.5]

    def evaluate() -> dict[str, float]:
        margin = margins(model, tokenizer, decided, compute)
        vote = torch.tensor([pair.preference - 0.5 for pair in decided])
        return {"accuracy": float((margin * vote > 0).float().mean()) if decided else 0.5}

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


def margins(model: RewardModel, tokenizer: Tokenizer, pairs: Sequence[LabelledPair], compute: Compute) -> Tensor:
    """(pairs,) reward of the first answer minus that of the second."""
    read = [read_pair(pair, tokenizer, model.config.context_length) for pair in pairs]
    rewards = score(model, [one for both in read for one in both], tokenizer.pad, compute).view(-1, 2)
    return rewards[:, 0] - rewards[:, 1]
