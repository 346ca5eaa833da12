"""What reinforcement leaves: the best model, not merely the last, and the answers that fooled its reward."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
from torch import nn

from trivium.config import Recipe
from trivium.evaluate.preference import golden
from trivium.phases.align.examine import blind_replies
from trivium.phases.align.questions import Question
from trivium.phases.align.rollout import Writers, reward_answers
from trivium.phases.align.watch import most_fooled
from trivium.records import Dialogue, Message
from trivium.shelf import open_model
from trivium.story.stages import spoken
from trivium.story.teller import Teller
from trivium.train.phase import Measured, Phase
from trivium.train.runner import fill, measured, recall

FOOLED = 5  # answers that are shown
LOOKED_AT = 200  # held-out questions among whose answers they are sought


class Fooled(msgspec.Struct, frozen=True):
    """An answer that the reward likes and the judge does not."""

    prompt: str
    answer: str
    reward: float
    gold: float  # what it is truly worth


class AlignedReport(msgspec.Struct):
    """How reinforcement ended. In report.json beside the aligned model."""

    ended: int  # its last step
    kept: int  # the step whose weights were published; 0: those that it began with
    reason: str  # why it ended before its time, empty when it did not
    fooled: list[Fooled]  # the worst first; empty where nobody knows the truth


def keep_best(teller: Teller, phase: Phase[Any], model: nn.Module, start: Path) -> AlignedReport:
    """Put the weights that are worth keeping into the phase's model, and say which they are and why.

    model  what is published of the phase's model
    start  the folder that it began with
    """
    seen = measured(teller.run, phase.name)
    verdict = phase.watch(seen)
    ended = seen[-1].step if seen else teller.recipe.align.steps
    if verdict.reason:
        teller.show.say(f"  ended at step {ended}: {verdict.reason}")
    if seen and verdict.keep != ended:
        teller.show.say(f"  keeping {f'step {verdict.keep}' if verdict.keep else 'what it began with'}, the best")
        if verdict.keep:
            recall(phase, teller.run, verdict.keep, teller.show.say)
        else:
            fill(model, open_model(start, device=teller.compute.device).model.state_dict())
    return AlignedReport(ended, verdict.keep if seen else ended, verdict.reason, [])


def fooled(writers: Writers, questions: Sequence[Question], recipe: Recipe) -> list[Fooled]:
    """Held-out answers of the policy that rank high by their reward and low by the judge, the worst first."""
    asked = [question for question in questions if question.gold][:LOOKED_AT]
    if not asked:
        return []
    longest = recipe.align.max_new_tokens
    replies = blind_replies(writers.policy, writers.tokenizer, asked, recipe.seed, max_new_tokens=longest)
    rewards = reward_answers(writers, asked, replies).tolist()
    golds = golden([question.gold for question in asked if question.gold], replies)
    return [
        Fooled(_told(asked[i].prompt), replies[i].text, rewards[i], golds[i])
        for i in most_fooled(rewards, golds, FOOLED)
    ]


def _told(prompt: tuple[Message, ...]) -> str:
    return spoken(Dialogue((*prompt, Message("assistant", "")), ""))


def encode(report: AlignedReport) -> str:
    return msgspec.json.encode(report).decode()


def kept_metrics(report: AlignedReport, seen: Sequence[Measured]) -> dict[str, float]:
    """What was measured of the weights that were kept."""
    found = next((dict(one.found) for one in seen if one.step == report.kept), {})
    return found | {"ended_step": float(report.ended), "kept_step": float(report.kept)}
