"""What every algorithm of phase III is given, and what they share: turns, lessons beside, and how they are watched."""

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from trivium.batch import PreferenceBatch, RolloutBatch, TokenBatch
from trivium.compute import Compute
from trivium.config import AlignConfig, Recipe
from trivium.distributed.world import World, alone
from trivium.errors import ConfigError
from trivium.feedback.store import LabelledPair
from trivium.generate.sampling import stream_seed
from trivium.phases.align.examine import examiner
from trivium.phases.align.questions import Question, Questions
from trivium.phases.align.rollout import Rollout, Writers, describe, roll_out
from trivium.train.optimizer import build_optimizers
from trivium.train.phase import Metrics, Objective, Phase, Stream

Learned = TypeVar("Learned", RolloutBatch, PreferenceBatch)
Observe = Callable[[], dict[str, float]]


class Replay(NamedTuple):
    """What phase II taught, learned on beside the reward: Ouyang et al. 2022, eq. 2 (PPO-ptx), arXiv:2203.02155."""

    lesson: Callable[[int], TokenBatch]  # the same for the same number
    objective: Objective[TokenBatch]


class Task(NamedTuple):
    """What an algorithm is given."""

    recipe: Recipe
    writers: Writers
    learn: Questions
    measure: Sequence[Question]  # held out; compared blind where their judge knows the truth
    compute: Compute
    round: int
    world: World = alone()
    replay: Replay | None = None
    votes: Sequence[LabelledPair] = ()  # what dpo learns from
    held_out: Sequence[LabelledPair] = ()

    @property
    def settings(self) -> AlignConfig:
        return self.recipe.align


class Desk:
    """Writes answers, and keeps the newest for whoever wants to look at them."""

    def __init__(self, task: Task) -> None:
        self.task, self._newest, self._is_fresh = task, list[Rollout](), False

    def write(self, number: int) -> Rollout:
        """What is learned from next; what was written to be looked at before the first step is learned from too."""
        task = self.task
        seed = stream_seed(task.recipe.seed, task.round)
        if not (number == 0 and self._is_fresh):
            self._newest[:] = [
                roll_out(task.writers, task.learn, task.settings, task.compute, task.world, seed=seed, number=number)
            ]
        self._is_fresh = False
        return self._newest[0]

    def describe(self) -> dict[str, float]:
        if not self._newest:
            self.write(0)
            self._is_fresh = True
        return describe(self._newest[0], self.task.world)


def make_phase(
    task: Task,
    model: nn.Module,
    objective: Objective[Learned],
    batches: Stream[Learned],
    *,
    observe: Observe = dict,
    measured: Observe = dict,
) -> Phase[Learned]:
    """A phase of these parts, with lessons beside it and the same examination for every algorithm.

    observe   what is journaled of every step
    measured  what is measured beside the examination
    raises    ConfigError when the prompts cannot be shared out among the ranks
    """
    settings, examine = task.settings, examiner(task.writers, task.measure, task.recipe)
    check_shares(settings, task.world.size)

    def evaluate() -> dict[str, float]:
        written = observe()  # of several answers to a question it can be seen whether they differ, of one it cannot
        differing = {name: written[name] for name in ("distinct", "signal") if name in written}
        return written | examine() | differing | measured()

    return Phase(
        name=f"align-{task.round:03}",
        model=model,
        objective=objective if task.replay is None else beside(task, task.replay, objective),
        batches=batches if task.replay is None else with_lessons(task, task.replay, batches),
        evaluate=evaluate,
        optimizers=build_optimizers(model, settings),
        settings=settings,
        evaluations=task.recipe.evaluate.along_the_way,
        observe=observe,
        from_start=True,
        stride=settings.stride,
    )


def check_shares(settings: AlignConfig, ranks: int) -> None:
    """raises  ConfigError when ranks would not have equally many groups, micro-batches and mini-batches"""
    unit = 2 if settings.algorithm == "dpo" else settings.group
    share, rest = divmod(settings.rows_per_step, ranks * unit)
    if rest or -(-share * unit // settings.microbatch_rows) % settings.minibatches:
        whole = ranks * settings.minibatches * settings.microbatch_rows
        raise ConfigError(
            f"align.rows_per_step = {settings.rows_per_step}: cannot be shared out evenly among {ranks} ranks; give a "
            f"multiple of {whole}, or lower align.microbatch_rows"
        )


def in_turns(
    write: Callable[[int], Sequence[Learned]], settings: AlignConfig, seed: int
) -> Callable[[int], list[Learned]]:
    """The micro-batches of every step, when several steps learn from what was written at once.

    write  all micro-batches that are written before steps number * stride, ...
    Each pass is a permutation of its own, cut into mini-batches: a function of (seed, number, pass).
    """
    held: dict[int, Sequence[Learned]] = {}

    def batches(step: int) -> list[Learned]:
        number, turn = divmod(step, settings.stride)
        if number not in held:
            held.clear()  # before writing: the old ones are not needed any more
            held[number] = write(number)
        order = torch.arange(len(held[number]))
        epoch, part = divmod(turn, settings.minibatches)
        if settings.minibatches > 1:
            generator = torch.Generator().manual_seed(stream_seed(seed, 9, number, epoch))
            order = torch.randperm(len(order), generator=generator)
        return [held[number][i] for i in order.view(settings.minibatches, -1)[part].tolist()]

    return batches


def with_lessons(task: Task, replay: Replay, batches: Stream[Learned]) -> Stream[Learned]:
    """Every micro-batch with one lesson beside it, no two alike on any rank."""

    def stream(step: int) -> list[Learned]:
        found = batches(step)
        first = (step * task.world.size + task.world.rank) * len(found)
        return [batch._replace(lesson=replay.lesson(first + i)) for i, batch in enumerate(found)]

    return stream


def beside(task: Task, replay: Replay, objective: Objective[Learned]) -> Objective[Learned]:
    """The objective with the lesson's loss added, weighed as if it had as many items."""

    def both(model: nn.Module, batch: Learned) -> tuple[Tensor, Metrics]:
        loss, metrics = objective(model, batch)
        assert batch.lesson is not None
        taught, _ = replay.objective(task.writers.policy, batch.lesson)
        return loss + task.settings.replay * taught * (batch.count / batch.lesson.count), metrics

    return both
