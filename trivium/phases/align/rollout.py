"""Answers written by the live policy and what they earn: reinforcement learning as just another stream of batches."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from trivium.batch import Answered, RolloutBatch
from trivium.compute import Compute
from trivium.config import AlignConfig
from trivium.evaluate.preference import answer_logprobs
from trivium.evaluate.tasks import Reply, prompt_ids, reply_to
from trivium.generate.sampling import Sampling, stream_seed
from trivium.losses.policy import kl_in_reward
from trivium.model.transformer import Transformer
from trivium.phases.align.questions import Question, Questions
from trivium.phases.align.rules import MODEL_ALONE, Rules
from trivium.phases.align.scorer import Scorer
from trivium.text.branches import pack_answers
from trivium.text.tokenizer import Tokenizer

Advantages = Callable[[Tensor], Tensor]  # rewards (P, G) -> advantages (P, G)


class Rollout(NamedTuple):
    """One step's answers. P prompts, G answers to each, A = P G."""

    batches: list[RolloutBatch]  # all answers, in order
    rewards: Tensor  # (A,) of the reward model and the rules, before KL and penalty
    kl: Tensor  # (A,) nats per answer, k1
    replies: list[Reply]
    questions: list[Question]


class Writers(NamedTuple):
    """The models that a rollout needs."""

    policy: Transformer
    reference: Transformer
    scorer: Scorer | None  # None where only rules reward
    tokenizer: Tokenizer
    rules: Rules = MODEL_ALONE


def roll_out(
    writers: Writers,
    questions: Questions,
    advantages: Advantages,
    settings: AlignConfig,
    compute: Compute,
    *,
    seed: int,
    step: int,
) -> Rollout:
    """The answers of a step: a pure function of (seed, step, weights)."""
    prompts_per_step = settings.rows_per_step // settings.group
    asked = [questions(step * prompts_per_step + i) for i in range(prompts_per_step) for _ in range(settings.group)]
    replies = reply_to(
        writers.policy,
        writers.tokenizer,
        [question.prompt for question in asked],
        Sampling(temperature=settings.temperature, max_new_tokens=settings.max_new_tokens),
        seeds=[stream_seed(seed, 3, step, i) for i in range(len(asked))],
    )
    prompts = prompt_ids(writers.policy, writers.tokenizer, [question.prompt for question in asked])
    written = pack_replies(writers, prompts, replies, settings.microbatch_rows, compute)
    old = [logprobs_now(writers.policy, answers, settings, compute) for answers in written]
    reference = [logprobs_now(writers.reference, answers, settings, compute) for answers in written]
    rewards = reward_answers(writers, asked, replies)
    kl = torch.cat(
        [
            kl_in_reward(mine, theirs, answers.owners, len(answers.ends))
            for mine, theirs, answers in zip(old, reference, written, strict=True)
        ]
    ).cpu()
    unended = torch.tensor([not reply.ended for reply in replies])
    earned = rewards - settings.kl * kl - settings.unended_penalty * unended
    gained = advantages(earned.view(-1, settings.group)).flatten().to(compute.device)
    parts = zip(written, gained.split(settings.microbatch_rows), old, reference, strict=True)
    return Rollout([RolloutBatch(*part) for part in parts], rewards, kl, replies, asked)


def pack_replies(
    writers: Writers, prompts: Sequence[Sequence[int]], replies: Sequence[Reply], rows: int, compute: Compute
) -> list[Answered]:
    """What was written, token by token, in micro-batches of so many answers; each prompt beside all its answers."""
    length, pad = writers.policy.config.context_length, writers.tokenizer.pad
    tokens = [reply.tokens for reply in replies]
    return [
        pack_answers(prompts[first : first + rows], tokens[first : first + rows], length, pad).to(compute.device)
        for first in range(0, len(tokens), rows)
    ]


@torch.no_grad()
def logprobs_now(model: Transformer, answers: Answered, settings: AlignConfig, compute: Compute) -> Tensor:
    """(N,) nats under the sampling temperature, by the forward pass that also learns."""
    with compute.autocast():
        return answer_logprobs(model, answers, temperature=settings.temperature)


def reward_answers(writers: Writers, asked: Sequence[Question], replies: Sequence[Reply]) -> Tensor:
    """(A,) what each answer earns. One that never ended is read as if it had, and pays its penalty elsewhere."""
    found = writers.rules.rewards(asked, replies)
    if writers.scorer is None:
        return found
    scored = writers.scorer.rewards([question.prompt for question in asked], [reply.text for reply in replies])
    return found + writers.rules.model * scored
