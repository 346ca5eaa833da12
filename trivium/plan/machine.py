"""What this machine is, and how fast large products are here. Trains nothing."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import torch

from trivium.compute import Compute

ROOM = 0.9  # of the memory may be planned with: other programs need some too
_SYSTEM = Path("/")


class Machine(msgspec.Struct, frozen=True):
    """What was measured here."""

    name: str
    cores: int
    memory: int  # bytes
    precision: str
    matmul_flops: float  # floating-point operations per second, large products in that precision

    @property
    def dtype_bytes(self) -> int:
        """Of a number in products and activations."""
        return 2 if self.precision == "bfloat16" else 4

    def holds(self, size: int) -> bool:
        """Whether so many bytes fit, with room to spare."""
        return size <= ROOM * self.memory


def measure_machine(compute: Compute, *, seconds: float = 1.0) -> Machine:
    """A second of large matrix products."""
    size = 1024 if compute.device.type == "cpu" else 8192
    a = torch.randn(size, size, device=compute.device, dtype=compute.dtype)
    b = torch.randn(size, size, device=compute.device, dtype=compute.dtype)
    best, end = 0.0, time.monotonic() + seconds
    while time.monotonic() < end:
        begun = time.monotonic()
        a @ b
        if compute.device.type == "cuda":
            torch.cuda.synchronize()
        best = max(best, 2 * size**3 / (time.monotonic() - begun))
    return Machine(
        name=machine_name(compute),
        cores=os.cpu_count() or 1,
        memory=memory_at_hand(compute),
        precision=str(compute.dtype).removeprefix("torch."),
        matmul_flops=best,
    )


def machine_name(compute: Compute) -> str:
    """The processor's name, as the system tells it."""
    if compute.device.type == "cuda":
        return torch.cuda.get_device_name(compute.device)
    try:
        with open("/proc/cpuinfo") as file:  # noqa: PTH123 - not a file of ours
            return next(line.split(":", 1)[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        import platform

        return platform.processor() or platform.machine()


def memory_at_hand(compute: Compute, system: Path = _SYSTEM) -> int:
    """Bytes that a run may take at most: the GPU's, or the machine's unless the container is allowed less.

    system  where /proc and /sys are found
    """
    if compute.device.type == "cuda":
        return int(torch.cuda.mem_get_info(compute.device)[1])
    return min([os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), *container_limits(system)])


def container_limits(system: Path) -> Iterator[int]:
    """Bytes that this process's control groups, and those around them, allow; both versions of them."""
    try:
        groups = [line.split(":", 2) for line in (system / "proc/self/cgroup").read_text().splitlines()]
    except OSError:
        return
    for _, controllers, name in groups:
        if controllers not in ("", "memory"):
            continue
        place = ("sys/fs/cgroup/memory", "memory.limit_in_bytes") if controllers else ("sys/fs/cgroup", "memory.max")
        top = system / place[0]
        inside = top / name.strip("/")
        around = len(inside.parts) - len(top.parts)
        for folder in (inside, *inside.parents[:around]):  # seen from inside a container its own group is the top
            limit = folder / place[1]
            told = limit.read_text().strip() if limit.exists() else "max"
            if told.isdigit():
                yield int(told)
