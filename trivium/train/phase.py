"""What a phase is: a value that says what is trained, on what, and how it is measured."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn

from trivium.batch import Batch, TokenBatch
from trivium.config import OptimizerConfig
from trivium.distributed.world import World
from trivium.text.packing import RowOf, microbatches

B = TypeVar("B", bound=Batch)
Metrics = dict[str, Tensor]  # sums over the micro-batch, to be divided by its count
Objective = Callable[[Any, B], tuple[Tensor, Metrics]]  # (model, batch) -> summed loss and summed metrics
Stream = Callable[[int], Sequence[B]]  # the micro-batches of a step: a function of the step (and of the weights) alone


def packed_stream(row: RowOf, settings: OptimizerConfig, world: World) -> Stream[TokenBatch]:
    """This rank's share of the rows of each step."""
    return partial(
        microbatches,
        row,
        rows_per_step=settings.rows_per_step,
        rank=world.rank,
        ranks=world.size,
        microbatch_rows=settings.microbatch_rows,
    )


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
    observe: Callable[[], dict[str, float]] = dict  # what is worth journaling of the step just done
