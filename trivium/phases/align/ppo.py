"""Phase III by a value model: every token is compared with what was expected before it. PPO."""

import torch
from torch import Tensor

from trivium.batch import Answered, RolloutBatch
from trivium.config import AlignConfig
from trivium.distributed.world import World
from trivium.losses.policy import clipped_value_loss, generalised_advantages, token_rewards
from trivium.model.heads import ActorCritic, ValueModel, add_reward_head, value_from
from trivium.phases.align.policy import learning_batches, policy_losses
from trivium.phases.align.rollout import Rollout
from trivium.phases.align.task import Desk, Task, in_turns, make_phase
from trivium.train.phase import Metrics, Phase


def build(task: Task) -> Phase[RolloutBatch]:
    """The phase that turns instruct into aligned, with a value model that begins as the reward model."""
    desk, compute, settings = Desk(task), task.compute, task.settings
    value = beginning(task)

    @torch.no_grad()
    def foresee(answers: Answered) -> Tensor:
        with compute.autocast():
            found: Tensor = value(answers)
        return found

    def write(number: int) -> list[RolloutBatch]:
        rollout = desk.write(number)
        return expected(rollout, [foresee(answers) for answers in rollout.written], settings, task.world)

    def objective(model: ActorCritic, batch: RolloutBatch) -> tuple[Tensor, Metrics]:
        assert batch.values is not None
        assert batch.returns is not None
        with compute.autocast():
            losses, metrics = policy_losses(model.policy, batch, settings)
            values = model.value(batch.answers)
        missed = clipped_value_loss(values, batch.values, batch.returns, clip=settings.value_clip)
        losses = losses + settings.value_weight * missed
        return (losses * batch.weights).sum(), metrics | {"value_loss": missed.detach().mean() * batch.count}

    model = ActorCritic(task.writers.policy, value)
    return make_phase(task, model, objective, in_turns(write, settings, task.recipe.seed), observe=desk.describe)


def beginning(task: Task) -> ValueModel:
    """The value model before its first step: the reward model, or where there is none the policy with a fresh head."""
    if task.writers.foreseer is not None:
        return value_from(task.writers.foreseer)
    policy = task.writers.policy
    return value_from(add_reward_head(policy, task.recipe.seed)).to(task.compute.device)


def expected(rollout: Rollout, values: list[Tensor], settings: AlignConfig, world: World) -> list[RolloutBatch]:
    """Each token beside what was expected. Advantages are whitened over all ranks' tokens, rewards are not."""
    device = values[0].device
    scores = rollout.earned.flatten().to(device)
    batches = learning_batches(rollout, scores, torch.ones(len(scores), dtype=torch.bool), settings, device)
    found, parts = [], scores.split([len(batch.answers.ends) for batch in batches])
    for batch, scored, before in zip(batches, parts, values, strict=True):
        owners, kl = batch.answers.owners, torch.zeros_like(before)
        if batch.old_logprobs is not None and batch.reference_logprobs is not None:
            kl = batch.old_logprobs - batch.reference_logprobs
        rewards = token_rewards(kl, scored, owners, price=settings.kl)
        advantages = generalised_advantages(rewards, before, owners, decay=settings.trace)
        found.append(batch._replace(advantages=advantages, values=before, returns=advantages + before))
    return whitened(found, world)


def whitened(batches: list[RolloutBatch], world: World) -> list[RolloutBatch]:
    """The batches with advantages of mean 0 and spread 1 over the tokens that are learned from, of all ranks.

    Huang et al. 2024, arXiv:2403.17031
    """
    counted = [(batch.advantages, (batch.weights > 0).float()) for batch in batches]
    sums = [torch.stack([on.sum(), (a * on).sum(), (a.square() * on).sum()]) for a, on in counted]
    count, first, second = world.sum(torch.stack(sums).double().sum(0)).tolist()
    mean = first / max(count, 1)
    spread = max(second / max(count, 1) - mean**2, 0.0) ** 0.5
    return [batch._replace(advantages=(batch.advantages - mean) / (spread + 1e-8)) for batch in batches]
