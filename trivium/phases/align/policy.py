"""Phase III, second half: the policy learns to write what the reward model scores highly, and stays near the reference.

Instruct + reward → aligned. Algorithms differ in how a group's rewards become advantages; all else is shared.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from trivium.batch import RolloutBatch, TokenBatch
from trivium.compute import Compute
from trivium.config import AlignConfig, Recipe
from trivium.evaluate.preference import GLANCE, answer_logprobs, compare, golden
from trivium.evaluate.tasks import Reply, reply_to
from trivium.generate.sampling import Sampling, stream_seed
from trivium.losses.policy import (
    answer_weights,
    best_of_group,
    clipped_policy_loss,
    group_mean_advantages,
    group_spread_advantages,
    kl_k2_loss,
    leave_one_out_advantages,
    sequence_logprobs,
)
from trivium.model.transformer import Transformer
from trivium.phases.align.questions import Question, Questions
from trivium.phases.align.rollout import Advantages, Rollout, Writers, roll_out
from trivium.text.tokenizer import Tokenizer
from trivium.train.optimizer import build_optimizers
from trivium.train.phase import Metrics, Objective, Phase

ADVANTAGES: dict[str, Advantages] = {
    "grpo": group_mean_advantages,
    "rloo": leave_one_out_advantages,
    "rejection": best_of_group,
}


def advantages_of(settings: AlignConfig) -> Advantages:
    if settings.algorithm == "grpo" and settings.spread:
        return group_spread_advantages
    return ADVANTAGES[settings.algorithm]


class Replay(NamedTuple):
    """What phase II taught, learned on beside the reward: Ouyang et al. 2022, eq. 2 (PPO-ptx), arXiv:2203.02155."""

    lesson: Callable[[int], TokenBatch]  # the same for the same number
    objective: Objective[TokenBatch]


def build(
    recipe: Recipe,
    writers: Writers,
    learn: Questions,
    measure: Sequence[Question],
    compute: Compute,
    *,
    round: int,
    replay: Replay | None = None,
) -> Phase[RolloutBatch]:
    """The phase that turns instruct, or the last round's model, into aligned.

    measure  held-out questions; compared blind where their judge knows the truth
    """
    settings = recipe.align
    latest: list[Rollout] = []

    def batches(step: int) -> list[RolloutBatch]:
        advantages = advantages_of(settings)
        seed = stream_seed(recipe.seed, round)
        rollout = roll_out(writers, learn, advantages, settings, compute, seed=seed, step=step)
        latest[:] = [rollout]
        if replay is None:
            return rollout.batches
        first = step * len(rollout.batches)
        return [batch._replace(lesson=replay.lesson(first + i)) for i, batch in enumerate(rollout.batches)]

    def objective(model: Transformer, batch: RolloutBatch) -> tuple[Tensor, Metrics]:
        with compute.autocast():
            logprobs = answer_logprobs(model, batch.answers, temperature=settings.temperature)
        losses = token_losses(logprobs, batch, settings)
        if replay is None or batch.lesson is None:
            return losses.sum(), {}
        taught, _ = replay.objective(model, batch.lesson)
        return losses.sum() + settings.replay * taught * (batch.count / batch.lesson.count), {}

    theirs: list[list[float]] = []

    def evaluate() -> dict[str, float]:
        found = describe(latest[0]) if latest else {}
        judged = [question for question in measure[:GLANCE] if question.gold]
        if judged:
            if not theirs:
                theirs.append(gold_scores(writers.reference, writers.tokenizer, judged, recipe.seed))
            ours = gold_scores(writers.policy, writers.tokenizer, judged, recipe.seed)
            found["win_rate"] = compare(ours, theirs[0]).rate
        return found

    return Phase(
        name=f"align-{round:03}",
        model=writers.policy,
        objective=objective,
        batches=batches,
        evaluate=evaluate,
        optimizers=build_optimizers(writers.policy, settings),
        settings=settings,
        evaluations=recipe.evaluate.along_the_way,
        observe=lambda: describe(latest[0]),
    )


def token_losses(logprobs: Tensor, batch: RolloutBatch, settings: AlignConfig) -> Tensor:
    """What each token of a micro-batch costs, (N,): their sum over a step is divided by how many tokens there are."""
    owners, count = batch.answers.owners, len(batch.answers.ends)
    compared = logprobs
    if settings.ratio == "sequence":
        compared = sequence_logprobs(logprobs, batch.old_logprobs, owners, count)
    losses = clipped_policy_loss(
        compared, batch.old_logprobs, batch.advantages[owners], low=settings.clip_low, high=settings.clip_high
    )
    if settings.weigh == "answers":
        losses = losses * answer_weights(owners, count)
    if settings.kl_loss:
        losses = losses + settings.kl_loss * kl_k2_loss(logprobs, batch.reference_logprobs)
    return losses


def describe(rollout: Rollout) -> dict[str, float]:
    """What a step's answers were like: reward, KL and entropy in nats, length, shares that end and that differ."""
    lengths = [len(reply.tokens) for reply in rollout.replies]
    texts = {(question.prompt, reply.text) for question, reply in zip(rollout.questions, rollout.replies, strict=True)}
    return {
        "reward": float(rollout.rewards.mean()),
        "kl": float(rollout.kl.mean()),
        "entropy": -float(torch.cat([batch.old_logprobs for batch in rollout.batches]).mean()),
        "length": sum(lengths) / len(lengths),
        "ended": sum(reply.ended for reply in rollout.replies) / len(rollout.replies),
        "distinct": len(texts) / len(rollout.replies),
    }


def blind_replies(
    model: Transformer,
    tokenizer: Tokenizer,
    asked: Sequence[Question],
    seed: int,
    *,
    max_new_tokens: int = 96,
) -> list[Reply]:
    """Answers at temperature 1 for a blind comparison: the same random numbers for every model."""
    seeds = [stream_seed(seed, 4, i) for i in range(len(asked))]
    sampling = Sampling(temperature=1.0, max_new_tokens=max_new_tokens)
    return reply_to(model, tokenizer, [question.prompt for question in asked], sampling, seeds=seeds)


def gold_scores(model: Transformer, tokenizer: Tokenizer, asked: Sequence[Question], seed: int) -> list[float]:
    """What the model's answers are truly worth, by the judges of the questions."""
    golds = [question.gold for question in asked if question.gold is not None]
    assert len(golds) == len(asked), "every question needs its judge here"
    return golden(golds, blind_replies(model, tokenizer, asked, seed))
