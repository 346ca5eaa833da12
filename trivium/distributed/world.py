"""Who we are among the processes that train together, and the few things they say to each other.

One process is the one-rank world of the same code; started with torchrun, each finds its rank in the environment.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor
from torch import distributed as dist

from trivium.compute import best_device
from trivium.errors import ConfigError

T = TypeVar("T")
PATIENCE = timedelta(days=1)  # the others wait while the first rank reads a large corpus


class World(NamedTuple):
    rank: int
    size: int
    device: torch.device

    @property
    def first(self) -> bool:
        """Whether this rank writes the files and speaks to the user."""
        return self.rank == 0

    def sum(self, value: Tensor) -> Tensor:
        """The sum over all ranks, on every rank."""
        if self.size > 1:
            value = value.clone()
            dist.all_reduce(value)
        return value

    def any(self, flag: bool) -> bool:
        """Whether any rank says yes: how all agree to stop, so that none waits for one that left."""
        if self.size == 1:
            return flag
        return bool(self.sum(torch.tensor(float(flag))).item())  # in main memory: a GPU would be waited for

    def from_first(self, value: T) -> T:
        """What the first rank holds, on every rank: how one decides for all."""
        if self.size == 1:
            return value
        held = [value]
        dist.broadcast_object_list(held, src=0)
        return held[0]

    def barrier(self) -> None:
        if self.size > 1:
            dist.barrier()


def alone(device: str | torch.device = "cpu") -> World:
    return World(0, 1, torch.device(device))


@contextmanager
def join_world(device: str) -> Iterator[World]:
    """The world this process was started in; leaves the process group at the end.

    device  "auto" takes a GPU where there is one, "cpu" or "cuda" insist
    """
    kind = best_device() if device == "auto" else device
    if kind == "cuda" and not torch.cuda.is_available():
        raise ConfigError("compute.device = cuda: no GPU is to be seen here; choose cpu or auto")
    size = int(os.environ.get("WORLD_SIZE", "1"))
    local = int(os.environ.get("LOCAL_RANK", "0"))
    here = torch.device(kind, local) if kind == "cuda" else torch.device(kind)
    if size == 1:
        yield World(0, 1, here)
        return
    if kind == "cuda":
        torch.cuda.set_device(here)
    dist.init_process_group("cpu:gloo,cuda:nccl" if kind == "cuda" else "gloo", timeout=PATIENCE)
    try:
        yield World(dist.get_rank(), size, here)
    finally:
        dist.destroy_process_group()
