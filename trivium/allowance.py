"""What this process may use of the machine: cores and memory, as affinity and control groups allow. No torch."""

import os
from collections.abc import Iterator
from math import ceil
from pathlib import Path

SYSTEM = Path("/")
# (controller, its folder, its file) of the first version of control groups; the second has one folder for all
MEMORY = ("memory", "sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.max")
CPU = ("cpu", "sys/fs/cgroup/cpu", "cpu.cfs_quota_us", "cpu.max")


def cores(system: Path = SYSTEM) -> int:
    """How many threads may work at once: more would wait for each other. The ranks of this machine share them.

    system  where /proc and /sys are found
    """
    ours = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([ours, *map(ceil, core_limits(system))]) // ranks_here())


def memory(system: Path = SYSTEM) -> int:
    """Bytes of the machine's memory, unless the container is allowed less; the ranks of this machine share them."""
    return min([os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), *memory_limits(system)]) // ranks_here()


def ranks_here() -> int:
    """How many processes train together on this machine, as torchrun says."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def memory_limits(system: Path) -> Iterator[int]:
    """Bytes that this process's control groups, and those around them, allow; both versions of them."""
    return (int(told) for file in _files(system, *MEMORY) if (told := file.read_text().strip()).isdigit())


def core_limits(system: Path) -> Iterator[float]:
    """Cores, likewise: so many microseconds of work in so many."""
    for file in _files(system, *CPU):
        quota, *period = file.read_text().split()
        if quota.isdigit():  # else there is no limit
            yield int(quota) / int(*period or (file.parent / "cpu.cfs_period_us").read_text().split())


def _files(system: Path, controller: str, folder: str, first: str, second: str) -> Iterator[Path]:
    """Those in which the limits stand, the innermost group's before those around it."""
    try:
        groups = [line.split(":", 2) for line in (system / "proc/self/cgroup").read_text().splitlines()]
    except OSError:
        return
    for _, controllers, name in groups:
        if controllers and controller not in controllers.split(","):
            continue
        top = system / (folder if controllers else "sys/fs/cgroup")
        inside = top / name.strip("/")
        around = len(inside.parts) - len(top.parts)
        for group in (inside, *inside.parents[:around]):  # seen from inside a container its own group is the top
            limit = group / (first if controllers else second)
            if limit.exists():
                yield limit
