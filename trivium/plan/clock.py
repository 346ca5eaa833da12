"""Time: which share of it each stage has, how many steps fit into it, and what the dial still has to decide."""

from collections.abc import Sequence
from statistics import median
from typing import NamedTuple

import msgspec

from trivium.plan.ladder import COMPILED_GAIN, USUAL_SHARE, Choice
from trivium.plan.machine import Machine

# Shares of the time, in the order of the story. What a stage leaves over, those after it divide among themselves.
SHARES = {"pretrain": 42.0, "instruct": 29.0, "votes": 2.0, "reward": 6.0, "align": 15.0, "measure": 6.0}


def share_through(stage: str) -> float:
    """Of a run's time, what has passed when this stage ends."""
    stages = list(SHARES)
    return sum(SHARES[name] for name in stages[: stages.index(stage) + 1]) / sum(SHARES.values())


COMPILE_FROM_MINUTES = 6.0  # below, compiling takes longer than it saves: docs/log.md


class Pace(NamedTuple):
    """How long a phase's parts take."""

    step: float  # seconds
    evaluation: float  # seconds

    def steps_in(self, seconds: float, evaluations: int) -> int:
        return max(1, int((seconds - evaluations * self.evaluation) / self.step))

    def seconds_of(self, steps: int, evaluations: int) -> float:
        return evaluations * self.evaluation + steps * self.step


LOOKS = (0.25, 0.4, 0.6, 0.8, 0.9)  # of the steps chosen so far: then the dial looks at the clock again
FEWEST_STEPS = 20  # that are worth another look, and in which a model learns something
ENOUGH_STEPS = 100  # to see whether it learns
MOST_GROWTH = 1.5  # of the steps chosen so far
FEWEST_LEFT = 1 / 4  # of the steps that were to come, however late it is: the learning rate has to fall
NEAR = 0.01  # of them, more or less, are not worth another choice


class Look(msgspec.Struct, frozen=True):
    """A phase whose steps the dial has chosen, and will again when it knows more of their speed."""

    stage: str
    steps: int  # chosen so far
    begun: float  # of Dial.spent, when the phase began
    end: float  # likewise, when it should end
    number: int = 0  # its place in LOOKS

    @property
    def step(self) -> int:
        """After how many steps."""
        return int(LOOKS[self.number] * self.steps)

    @property
    def pays(self) -> bool:
        return self.steps >= FEWEST_STEPS and self.step > 0

    def next(self, done: int, steps: int) -> "Look | None":
        """The look after this one, which came after so many steps and has chosen so many; None after the last."""
        later = (msgspec.structs.replace(self, steps=steps, number=n) for n in range(self.number + 1, len(LOOKS)))
        return next((look for look in later if look.step > done), None)

    def steps_by(self, done: int, spent: float, seconds: Sequence[float]) -> int:
        """Steps in all, when so many had been done and that much was spent by now.

        seconds  of each step so far. The last third tells of those to come: answers grow as they are reinforced
        """
        slower = median(seconds[-(len(seconds) // 3 or 1) :]) / median(seconds) if seconds else 1.0
        fitting = done + int((self.end - spent) / (slower * max(1e-6, spent - self.begun) / done))
        fewest = done + max(1, int(FEWEST_LEFT * (self.steps - done)))
        found = max(fewest, min(fitting, int(MOST_GROWTH * self.steps)))
        return self.steps if abs(found - self.steps) <= NEAR * self.steps else found


class Dial(msgspec.Struct):
    """What the dial has to decide in a run, and the time it has for it. Kept in plan.json."""

    minutes: float
    open: list[str]  # keys that the dial still decides, such as "pretrain.steps"
    machine: Machine
    spent: float = 0.0  # seconds of training so far, over all processes that worked on the run
    look: Look | None = None
    choice: Choice | None = None  # why the model has its shape
    through: str = "measure"  # the stage whose end was asked for; those after it have their share of the rest
    lenient: bool = False  # whether it is the dial that left the gate open, for the time is short: see align.gate

    def settled(self, *keys: str) -> list[str]:
        """Those of some keys that were open, from now on no longer."""
        found = [key for key in keys if key in self.open]
        self.open = [key for key in self.open if key not in found]
        return found

    def flops(self, *, compiled: bool) -> float:
        """Floating-point operations per second that training steps reach, as far as that was measured."""
        share = self.choice.share if self.choice else USUAL_SHARE
        return self.machine.matmul_flops * share * (COMPILED_GAIN if compiled else 1.0)

    def seconds_for(self, stage: str) -> float:
        """What the stage may take: its share of the time that is left."""
        last, share = self._share_of(stage)
        return share * max(0.0, 60 * self.minutes * share_through(last) - self.spent)

    def minutes_with(self, stage: str, seconds: float) -> float:
        """The --minutes with which the stage, had it begun as late as now, could take so long."""
        last, share = self._share_of(stage)
        return (self.spent + seconds / share) / 60 * share_through(self.through) / share_through(last)

    def _share_of(self, stage: str) -> tuple[str, float]:
        """The stage at whose end the time is over, and of what is left until then the share that this one may take."""
        stages = list(SHARES)
        last = self.through if stages.index(stage) <= stages.index(self.through) else stages[-1]
        to_come = stages[stages.index(stage) : stages.index(last) + 1]
        return last, SHARES[stage] / sum(SHARES[name] for name in to_come)
