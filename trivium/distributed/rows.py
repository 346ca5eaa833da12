"""Which rows of a step are this rank's."""

from collections.abc import Callable
from functools import partial

from trivium.batch import TokenBatch
from trivium.config import OptimizerConfig
from trivium.distributed.world import World
from trivium.text.packing import RowOf, microbatches


def packed_stream(row: RowOf, settings: OptimizerConfig, world: World) -> Callable[[int], list[TokenBatch]]:
    """This rank's micro-batches of each step."""
    return partial(
        microbatches,
        row,
        rows_per_step=settings.rows_per_step,
        rank=world.rank,
        ranks=world.size,
        microbatch_rows=settings.microbatch_rows,
    )
