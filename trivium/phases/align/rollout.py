"""Answers written by the live policy and what they earn: reinforcement learning as just another stream of batches."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from trivium.batch import RolloutBatch
from trivium.compute import Compute
from trivium.config import AlignConfig
from trivium.evaluate.preference import pad_answers, response_logprobs
from trivium.evaluate.tasks import Reply, prompt_ids, reply_to
from trivium.generate.sampling import Sampling, stream_seed
from trivium.losses.policy import kl_in_reward
from trivium.model.heads import RewardModel
from trivium.model.transformer import Transformer
from trivium.phases.align.questions import Question, Questions
from trivium.phases.align.reward import score
from trivium.text.tokenizer import Tokenizer

Advantages = Callable[[Tensor], Tensor]  # rewards (P, G) -> advantages (P, G)


class Rollout(NamedTuple):
    """One step's answers. P prompts, G answers to each, B = P G."""

    batch: RolloutBatch
    rewards: Tensor  # (B,) of the reward model, before KL and penalty
    kl: Tensor  # (B,) nats per answer, k1
    replies: list[Reply]
    questions: list[Question]


class Writers(NamedTuple):
    """The models that a rollout needs."""

    policy: Transformer
    reference: Transformer
    reward: RewardModel
    tokenizer: Tokenizer


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
    tokens, supervised = pad_answers(prompts, replies, writers.tokenizer.pad)
    tokens, supervised = tokens.to(compute.device), supervised.to(compute.device)
    old = frozen_logprobs(writers.policy, tokens, supervised, settings, compute)
    reference = frozen_logprobs(writers.reference, tokens, supervised, settings, compute)
    rewards = reward_answers(writers, prompts, replies, compute)
    kl = kl_in_reward(old, reference, supervised).cpu()
    unended = torch.tensor([not reply.ended for reply in replies])
    earned = rewards - settings.kl * kl - settings.unended_penalty * unended
    gained = advantages(earned.view(-1, settings.group)).flatten().to(compute.device)
    batch = RolloutBatch(tokens, supervised, gained, old, reference)
    return Rollout(batch, rewards, kl, replies, asked)


@torch.no_grad()
def frozen_logprobs(
    model: Transformer, tokens: Tensor, supervised: Tensor, settings: AlignConfig, compute: Compute
) -> Tensor:
    """(B, T-1) nats under the sampling temperature, by the forward pass that also learns."""
    with compute.autocast():
        parts = [
            response_logprobs(model, *part, temperature=settings.temperature)
            for part in zip(
                tokens.split(settings.microbatch_rows), supervised.split(settings.microbatch_rows), strict=True
            )
        ]
    return torch.cat(parts)


def reward_answers(
    writers: Writers, prompts: Sequence[Sequence[int]], replies: Sequence[Reply], compute: Compute
) -> Tensor:
    """(B,) reward of each answer; one that never ended is read as if it had, and pays its penalty elsewhere."""
    end = writers.tokenizer.turn_end
    rows = [
        np.array([*prompt, *reply.tokens, *([] if reply.ended else [end])], dtype=np.int32)
        for prompt, reply in zip(prompts, replies, strict=True)
    ]
    longest = writers.reward.config.context_length
    return score(writers.reward, [row[-longest:] for row in rows], writers.tokenizer.pad, compute)
