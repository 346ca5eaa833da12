"""Phase III without a reward model in between: the policy itself learns which of two answers is better. DPO.

On votes, or online: on the best and the worst of what the live policy writes, as its reward says.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from trivium.batch import Answered, PreferenceBatch
from trivium.config import AlignConfig
from trivium.evaluate.preference import answer_logprobs
from trivium.feedback.store import LabelledPair
from trivium.losses.policy import best_and_worst, has_signal
from trivium.losses.preference import dpo_loss, ipo_loss, margins_of
from trivium.model.transformer import Transformer
from trivium.phases.align.reward import Read, pack, pairs_of_step, read_pair
from trivium.phases.align.rollout import Group, Rollout, pack_groups
from trivium.phases.align.task import Desk, Task, in_turns, make_phase
from trivium.train.phase import Metrics, Objective, Phase

GLANCE = 200  # held-out votes along the way
LOSSES = {"logistic": dpo_loss, "squared": ipo_loss}


def build(task: Task) -> Phase[PreferenceBatch]:
    """The phase that turns instruct into aligned by the votes alone."""
    settings, world = task.settings, task.world
    votes, held_out = read_votes(task, task.votes), read_votes(task, [p for p in task.held_out if decided(p)][:GLANCE])

    def batches(step: int) -> list[PreferenceBatch]:
        chosen = pairs_of_step(len(votes), settings.rows_per_step // 2, step, task.recipe.seed)
        return pair_batches(task, [votes[i] for i in chosen[world.rank :: world.size]])

    def measured() -> dict[str, float]:
        """With which share of the held-out votes the policy agrees, as its own reward model."""
        right = [metrics["accuracy"] for _, metrics in (objective(model, on) for on in pair_batches(task, held_out))]
        return {"accuracy": float(torch.stack(right).sum()) / len(held_out)} if held_out else {}

    model, objective = task.writers.policy, objective_of(task)
    return make_phase(task, model, objective, batches, measured=torch.no_grad()(measured))


class Vote(NamedTuple):
    """A pair as the policy reads it."""

    answers: tuple[Read, Read]
    preference: float


def decided(pair: LabelledPair) -> bool:
    return pair.preference != 0.5


def read_votes(task: Task, pairs: Sequence[LabelledPair]) -> list[Vote]:
    length = task.writers.policy.config.context_length
    return [Vote(read_pair(pair, task.writers.tokenizer, length), pair.preference) for pair in pairs]


def pair_batches(task: Task, votes: Sequence[Vote]) -> list[PreferenceBatch]:
    """Micro-batches of these votes, in order."""
    length, pad = task.writers.policy.config.context_length, task.writers.tokenizer.pad
    pairs = task.settings.microbatch_rows // 2
    parts = [votes[i : i + pairs] for i in range(0, len(votes), pairs)]
    return [
        as_reference_says(
            task,
            pack([one for vote in part for one in vote.answers], length, pad),
            torch.tensor([vote.preference for vote in part]),
        )
        for part in parts
    ]


def build_online(task: Task) -> Phase[PreferenceBatch]:
    """The phase that turns instruct into aligned by pairs of fresh answers, which the reward judges.

    Guo et al. 2024, "Direct language model alignment from online AI feedback", arXiv:2402.04792
    """
    desk, settings = Desk(task), task.settings

    def write(number: int) -> list[PreferenceBatch]:
        groups = extremes(desk.write(number))
        packed = pack_groups(task.writers, groups, settings.microbatch_rows, task.compute)
        certain = has_signal(torch.stack([group.earned for group in groups]))
        votes = torch.where(certain, 1.0, 0.5).split(settings.microbatch_rows // 2)
        return [as_reference_says(task, answers, vote) for answers, vote in zip(packed, votes, strict=True)]

    batches = in_turns(write, settings, task.recipe.seed)
    return make_phase(task, task.writers.policy, objective_of(task), batches, observe=desk.describe)


def extremes(rollout: Rollout) -> list[Group]:
    """Of every group the best answer and the worst."""
    chosen = best_and_worst(rollout.earned).tolist()
    return [
        Group(group.question, [group.replies[i] for i in pair], group.rewards[pair], group.earned[pair])
        for group, pair in zip(rollout.groups, chosen, strict=True)
    ]


@torch.no_grad()
def as_reference_says(task: Task, answers: Answered, preference: Tensor) -> PreferenceBatch:
    """A micro-batch of pairs with the reference's log-probabilities, by the forward pass that also learns."""
    answers = answers.to(task.compute.device)
    with task.compute.autocast():
        reference = answer_logprobs(task.writers.reference, answers, temperature=task.settings.temperature)
    return PreferenceBatch(answers, preference.to(task.compute.device), reference)


def objective_of(task: Task) -> Objective[PreferenceBatch]:
    settings, compute = task.settings, task.compute
    loss_of = LOSSES[settings.pair_loss]

    def objective(model: Transformer, batch: PreferenceBatch) -> tuple[Tensor, Metrics]:
        with compute.autocast():
            logprobs = answer_logprobs(model, batch.answers, temperature=settings.temperature)
        ours, theirs = (margins(each, batch.answers, settings) for each in (logprobs, batch.reference_logprobs))
        losses = loss_of(ours, theirs, batch.preference, beta=settings.beta, smoothing=settings.smoothing)
        return losses.sum(), {"accuracy": agreeing(ours.detach() - theirs, batch.preference).sum()}

    return objective


def margins(logprobs: Tensor, answers: Answered, settings: AlignConfig) -> Tensor:
    return margins_of(logprobs, answers.owners, len(answers.ends), per_token=settings.per_token)


def agreeing(gained: Tensor, preference: Tensor) -> Tensor:
    """(pairs,) 1 where the answer that gained more is the preferred one, half of it where neither is preferred."""
    return (gained * (preference - 0.5) > 0) + 0.5 * (preference == 0.5)
