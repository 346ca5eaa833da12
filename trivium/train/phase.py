"""What a phase is: a value that says what is trained, on what, and how it is measured."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from trivium.batch import Batch
from trivium.config import OptimizerConfig

B = TypeVar("B", bound=Batch)
Metrics = dict[str, Tensor]  # sums over the micro-batch, to be divided by its count
Objective = Callable[[Any, B], tuple[Tensor, Metrics]]  # (model, batch) -> summed loss and summed metrics
Stream = Callable[[int], Sequence[B]]  # the micro-batches of a step: a function of the step (and of the weights) alone


class Measured(NamedTuple):
    """An evaluation along the way."""

    step: int
    found: Mapping[str, float]


class Verdict(NamedTuple):
    """What a phase's evaluations so far come to."""

    best: int  # step whose weights are the best so far; 0: those that the phase began with
    keep: int  # step whose weights are to be published, if it ended now
    reason: str  # why it should end now; empty to go on


def unwatched(seen: Sequence[Measured]) -> Verdict:
    """Of a phase that is never stopped, the last weights are kept."""
    return Verdict(0, seen[-1].step if seen else 0, "")


@dataclass(frozen=True)
class Phase(Generic[B]):
    """One phase of training, ready to be run by train/runner.py.

    objective  summed loss of one micro-batch, in nats, and metrics summed in the same way
    batches    this rank's micro-batches of a step
    evaluate   measures the model as it is, on data held out
    """

    name: str
    model: nn.Module
    objective: Objective[B]
    batches: Stream[B]
    evaluate: Callable[[], dict[str, float]]
    optimizers: list[torch.optim.Optimizer]
    settings: OptimizerConfig
    evaluations: int  # how many times to evaluate along the way
    ahead: bool = False  # whether a step's batches may be made before the steps ahead of it are done
    observe: Callable[[], dict[str, float]] = dict  # what is worth journaling of the step just done
    watch: Callable[[Sequence[Measured]], Verdict] = unwatched  # a pure function of its evaluations
    from_start: bool = False  # whether it is measured before its first step too, for what comes to be compared with
    stride: int = 1  # steps that hang together: only after a multiple of them can it be gone on with
