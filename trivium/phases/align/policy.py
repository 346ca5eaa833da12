"""Phase III, second half: the policy learns to write what the reward model scores highly, and stays near the reference.

Instruct + reward → aligned. Here are the algorithms that compare the answers of a group: they differ in how rewards
become advantages; all else is shared, with ppo.py too.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from trivium.batch import RolloutBatch
from trivium.config import AlignConfig
from trivium.evaluate.preference import answer_hidden, target_logprobs
from trivium.losses.language_model import entropy
from trivium.losses.policy import (
    FLAT,
    answer_weights,
    best_of_group,
    clipped_policy_loss,
    group_mean_advantages,
    group_spread_advantages,
    has_signal,
    is_clipped,
    kl_k2_loss,
    leave_one_out_advantages,
    sequence_logprobs,
    truncated_importance,
)
from trivium.model.transformer import Transformer
from trivium.native.linear import filled_up
from trivium.phases.align.rollout import Rollout
from trivium.phases.align.task import Desk, Task, in_turns, make_phase
from trivium.train.phase import Metrics, Phase

MOST_IMPORTANT = 2.0  # times that a token counts which the sampler drew less often than the policy would
Advantages = Callable[[Tensor], Tensor]  # rewards (P, G) -> advantages (P, G)

ADVANTAGES: dict[str, Advantages] = {
    "grpo": group_mean_advantages,
    "rloo": leave_one_out_advantages,
    "rejection": best_of_group,
}


def advantages_of(settings: AlignConfig) -> Advantages:
    if settings.algorithm == "grpo" and settings.spread:
        return group_spread_advantages
    return ADVANTAGES[settings.algorithm]


def build(task: Task) -> Phase[RolloutBatch]:
    """The phase that turns instruct, or the last round's model, into aligned, by comparing the answers of a group."""
    desk, compute, settings = Desk(task), task.compute, task.settings

    def write(number: int) -> list[RolloutBatch]:
        return compared(desk.write(number), settings, compute.device)

    def objective(model: Transformer, batch: RolloutBatch) -> tuple[Tensor, Metrics]:
        with compute.autocast():
            losses, metrics = policy_losses(model, batch, settings)
        return (losses * batch.weights).sum(), metrics

    batches = in_turns(write, settings, task.recipe.seed)
    return make_phase(task, task.writers.policy, objective, batches, observe=desk.describe)


def compared(rollout: Rollout, settings: AlignConfig, device: torch.device) -> list[RolloutBatch]:
    """Each answer beside the others of its group. From a group that earns all the same nothing is learned."""
    earned = rollout.earned
    if settings.kl:
        assert rollout.kl is not None
        earned = earned - settings.kl * rollout.kl.view_as(earned)
    gained = advantages_of(settings)(earned).flatten()
    learned = has_signal(rollout.earned).repeat_interleave(settings.group)
    return learning_batches(rollout, gained.to(device), learned, settings, device)


def learning_batches(
    rollout: Rollout, gained: Tensor, learned: Tensor, settings: AlignConfig, device: torch.device
) -> list[RolloutBatch]:
    """Micro-batches of what was written.

    gained   (A,) advantages of the answers
    learned  (A,) bool; which answers are learned from, if it is not for their length that they are not
    """
    if settings.overlong == "skip":
        learned = learned & torch.tensor([reply.ended for reply in rollout.replies])
    sizes, found = [len(answers.ends) for answers in rollout.written], []
    drawn = torch.tensor([nats for reply in rollout.replies for nats in reply.logprobs], device=device)
    parts = drawn.split([len(answers.targets) for answers in rollout.written])
    for i, (answers, mine, which) in enumerate(
        zip(rollout.written, gained.split(sizes), learned.to(device).split(sizes), strict=True)
    ):
        weights, items = weights_of(answers.owners, which, settings)
        old = rollout.old_logprobs[i] if rollout.old_logprobs else None
        reference = rollout.reference_logprobs[i] if rollout.reference_logprobs else None
        found.append(RolloutBatch(answers, mine[answers.owners], weights, items, old, reference, parts[i]))
    return found


def weights_of(owners: Tensor, learned: Tensor, settings: AlignConfig) -> tuple[Tensor, Tensor]:
    """What each token weighs in the loss (N,), and by how many items () the sum over a whole step is divided.

    owners   (N,) int64; which answer each token belongs to
    learned  (A,) bool
    Sums of both over micro-batches and ranks give the same loss, however a step is split.
    """
    weights = learned[owners].float()
    if settings.weigh == "answers":
        return weights * answer_weights(owners, len(learned)), learned.sum().float()
    if settings.weigh == "constant":
        return weights, torch.tensor(float(len(learned) * settings.max_new_tokens), device=owners.device)
    return weights, weights.sum()


def policy_losses(model: Transformer, batch: RolloutBatch, settings: AlignConfig) -> tuple[Tensor, Metrics]:
    """What each token costs (N,), and the entropy in nats and the clipped share of those that are learned from."""
    hidden = answer_hidden(model, batch.answers)
    logprobs = target_logprobs(model, hidden, batch.answers.targets, temperature=settings.temperature)
    losses = token_losses(logprobs, batch, settings)
    uncertain = -logprobs.detach()  # in the mean the entropy, where the policy wrote these tokens itself
    if settings.entropy:
        exact = entropy(model.lm_head(filled_up(hidden)) / settings.temperature)[: len(hidden)]
        losses, uncertain = losses - settings.entropy * exact, exact.detach()
    now, old = compared_logprobs(logprobs.detach(), batch, settings)
    clipped = is_clipped(now, old, batch.advantages, low=settings.clip_low, high=settings.clip_high).float()
    share = batch.weights * batch.count / batch.weights.sum().clamp(min=FLAT)
    return losses, {"entropy": (uncertain * share).sum(), "clipped": (clipped * share).sum()}


def compared_logprobs(logprobs: Tensor, batch: RolloutBatch, settings: AlignConfig) -> tuple[Tensor, Tensor]:
    """(N,) nats now, and under the policy that wrote: where it has not moved since, the same, so each ratio is 1."""
    old = logprobs.detach() if batch.old_logprobs is None else batch.old_logprobs
    if settings.ratio == "sequence":
        return sequence_logprobs(logprobs, old, batch.answers.owners, len(batch.answers.ends)), old
    return logprobs, old


def token_losses(logprobs: Tensor, batch: RolloutBatch, settings: AlignConfig) -> Tensor:
    """What each token of a micro-batch costs, (N,), before it is weighed."""
    compared, old = compared_logprobs(logprobs, batch, settings)
    losses = clipped_policy_loss(compared, old, batch.advantages, low=settings.clip_low, high=settings.clip_high)
    if settings.kl_loss:
        assert batch.reference_logprobs is not None
        drift = kl_k2_loss(logprobs, old, batch.reference_logprobs, batch.answers.owners)
        losses = losses + settings.kl_loss * drift
    if batch.sampled_logprobs is not None:
        losses = losses * truncated_importance(old, batch.sampled_logprobs, most=MOST_IMPORTANT)
    return losses
