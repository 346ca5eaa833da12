"""Answers written by the live policy and what they earn: reinforcement learning as just another stream of batches."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from trivium.batch import Answered
from trivium.compute import Compute
from trivium.config import AlignConfig
from trivium.config.align import WRITES
from trivium.distributed.world import World
from trivium.evaluate.preference import answer_logprobs
from trivium.evaluate.tasks import Reply, prompt_ids, reply_to
from trivium.generate.sampling import Sampling, stream_seed
from trivium.losses.policy import has_signal, kl_in_reward, overlong
from trivium.model.heads import RewardModel
from trivium.model.transformer import Transformer
from trivium.phases.align.questions import Question, Questions
from trivium.phases.align.rules import MODEL_ALONE, Rules
from trivium.phases.align.scorer import Scorer
from trivium.text.branches import pack_answers
from trivium.text.tokenizer import Tokenizer

ELSEWHERE = 1_000_003  # questions between those of a step and those asked in place of some of them


class Writers(NamedTuple):
    """The models that a rollout needs."""

    policy: Transformer
    reference: Transformer
    scorer: Scorer | None  # None where only rules reward
    tokenizer: Tokenizer
    rules: Rules = MODEL_ALONE
    foreseer: RewardModel | None = None  # what a value model begins as; None: the policy with a fresh head


class Group(NamedTuple):
    """The answers to one question."""

    question: Question
    replies: list[Reply]
    rewards: Tensor  # (G,) of the reward model and the rules
    earned: Tensor  # (G,) less what never ending, or nearly, costs


class Rollout(NamedTuple):
    """What this rank wrote at once. P prompts, G answers to each, A = P G answers of N tokens in all."""

    written: list[Answered]  # all answers, in order, in micro-batches
    old_logprobs: list[Tensor] | None  # (N,) nats of each of them; None where this is what learns first, and once
    reference_logprobs: list[Tensor] | None  # likewise; None where nobody asks for the KL
    groups: list[Group]

    @property
    def replies(self) -> list[Reply]:
        return [reply for group in self.groups for reply in group.replies]

    @property
    def rewards(self) -> Tensor:
        """(A,) before KL and penalty."""
        return torch.cat([group.rewards for group in self.groups])

    @property
    def earned(self) -> Tensor:
        """(P, G) before KL."""
        return torch.stack([group.earned for group in self.groups])

    @property
    def kl(self) -> Tensor | None:
        """(A,) nats per answer, k1."""
        if self.old_logprobs is None or self.reference_logprobs is None:
            return None
        parts = zip(self.old_logprobs, self.reference_logprobs, self.written, strict=True)
        return torch.cat([kl_in_reward(old, ref, on.owners, len(on.ends)) for old, ref, on in parts]).cpu()


def roll_out(
    writers: Writers,
    questions: Questions,
    settings: AlignConfig,
    compute: Compute,
    world: World,
    *,
    seed: int,
    number: int,
) -> Rollout:
    """This rank's share of the answers that are written at once: a pure function of (seed, number, weights)."""
    groups = write_groups(writers, questions, settings, world, seed=seed, number=number)
    written = pack_groups(writers, groups, settings.microbatch_rows, compute)
    old = reference = None
    compares = settings.algorithm in WRITES
    if compares and (settings.kl or settings.stride > 1):
        old = [logprobs_now(writers.policy, answers, settings, compute) for answers in written]
    if compares and (settings.kl or settings.kl_loss):
        reference = [logprobs_now(writers.reference, answers, settings, compute) for answers in written]
    return Rollout(written, old, reference, groups)


def write_groups(
    writers: Writers, questions: Questions, settings: AlignConfig, world: World, *, seed: int, number: int
) -> list[Group]:
    """Groups of answers; of those that earn all the same, others in their place, as often as the settings allow."""
    prompts = settings.rows_per_step // settings.group

    def ask(places: Sequence[int], attempt: int) -> list[Group]:
        first = number * prompts
        asked = [questions(attempt * ELSEWHERE + first + place) for place in places]
        turns = [place * settings.group + i for place in places for i in range(settings.group)]
        seeds = [stream_seed(seed, 3, number, attempt * settings.rows_per_step + turn) for turn in turns]
        return answer_all(writers, asked, settings, seeds)

    mine = range(world.rank, prompts, world.size)
    groups = ask(mine, 0)
    for attempt in range(1, settings.redraws + 1):
        dull = [i for i, group in enumerate(groups) if not has_signal(group.earned[None])]
        again = ask([mine[i] for i in dull], attempt) if dull else []
        for i, group in zip(dull, again, strict=True):
            groups[i] = group
    return groups


def answer_all(writers: Writers, asked: Sequence[Question], settings: AlignConfig, seeds: Sequence[int]) -> list[Group]:
    """A group of answers to each question, and what they earn."""
    each = [question for question in asked for _ in range(settings.group)]
    sampling = Sampling(temperature=settings.temperature, max_new_tokens=settings.max_new_tokens)
    prompts = [question.prompt for question in each]
    replies = reply_to(writers.policy, writers.tokenizer, prompts, sampling, seeds=seeds)
    rewards = reward_answers(writers, each, replies)
    share = overlong(
        torch.tensor([float(len(reply.tokens)) for reply in replies]),
        torch.tensor([reply.ended for reply in replies]),
        longest=settings.max_new_tokens,
        buffer=settings.overlong_buffer,
    )
    earned = rewards - settings.unended_penalty * share
    parts = zip(
        asked,
        [replies[first : first + settings.group] for first in range(0, len(replies), settings.group)],
        rewards.split(settings.group),
        earned.split(settings.group),
        strict=True,
    )
    return [Group(*part) for part in parts]


def reward_answers(writers: Writers, asked: Sequence[Question], replies: Sequence[Reply]) -> Tensor:
    """(A,) what each answer earns. One that never ended is read as if it had, and pays its penalty elsewhere."""
    found = writers.rules.rewards(asked, replies)
    if writers.scorer is None:
        return found
    scored = writers.scorer.rewards([question.prompt for question in asked], [reply.text for reply in replies])
    return found + writers.rules.model * scored


def pack_groups(writers: Writers, groups: Sequence[Group], rows: int, compute: Compute) -> list[Answered]:
    """What was written, token by token, in micro-batches of so many answers; each prompt beside all its answers."""
    model, length = writers.policy, writers.policy.config.context_length
    prompts = prompt_ids(model, writers.tokenizer, [group.question.prompt for group in groups])
    read = [prompt for prompt, group in zip(prompts, groups, strict=True) for _ in group.replies]
    tokens = [reply.tokens for group in groups for reply in group.replies]
    return [
        pack_answers(read[i : i + rows], tokens[i : i + rows], length, writers.tokenizer.pad).to(compute.device)
        for i in range(0, len(tokens), rows)
    ]


@torch.no_grad()
def logprobs_now(model: Transformer, answers: Answered, settings: AlignConfig, compute: Compute) -> Tensor:
    """(N,) nats under the sampling temperature, by the forward pass that also learns."""
    with compute.autocast():
        return answer_logprobs(model, answers, temperature=settings.temperature)


def describe(rollout: Rollout, world: World) -> dict[str, float]:
    """What the answers of all ranks were like: reward, KL in nats, length, shares that end, differ and teach."""
    replies, found = rollout.replies, {"reward": rollout.rewards}
    if (kl := rollout.kl) is not None:
        found["kl"] = kl
    texts = {(group.question.prompt, reply.text) for group in rollout.groups for reply in group.replies}
    told = {
        **{name: float(values.sum()) for name, values in found.items()},
        "length": sum(len(reply.tokens) for reply in replies),
        "ended": sum(reply.ended for reply in replies),
        "distinct": len(texts),
        "signal": len(replies) * float(has_signal(rollout.earned).float().mean()),
    }
    sums = world.sum(torch.tensor([len(replies), *told.values()], dtype=torch.float64, device=world.device)).tolist()
    return {name: value / sums[0] for name, value in zip(told, sums[1:], strict=True)}
