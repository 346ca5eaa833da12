"""Memory that a container allows counts, whichever version of control groups says so."""

from pathlib import Path

import pytest
import torch

from trivium.compute import Compute
from trivium.plan.machine import Machine, container_limits, memory_at_hand

COMPUTE = Compute(torch.device("cpu"), torch.float32, False)


def system(root: Path, groups: str, limits: dict[str, str]) -> Path:
    for name, text in {"proc/self/cgroup": groups, **limits}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


SYSTEMS = {
    "version 2": ("0::/a/b\n", {"sys/fs/cgroup/a/b/memory.max": "max\n", "sys/fs/cgroup/a/memory.max": "1000000\n"}),
    "version 2 from inside": ("0::/\n", {"sys/fs/cgroup/memory.max": "1000000\n"}),
    "version 1": (
        "3:cpu:/x\n5:memory:/x\n",
        {
            "sys/fs/cgroup/memory/x/memory.limit_in_bytes": "1000000\n",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": f"{2**63}\n",
        },
    ),
    "version 1 from inside": ("5:memory:/docker/1\n", {"sys/fs/cgroup/memory/memory.limit_in_bytes": "1000000\n"}),
}


@pytest.mark.parametrize("name", SYSTEMS)
def test_the_least_limit_around_the_process_counts(name: str, tmp_path: Path) -> None:
    root = system(tmp_path, *SYSTEMS[name])
    assert min(container_limits(root)) == 1_000_000
    assert memory_at_hand(COMPUTE, root) == 1_000_000


def test_without_a_limit_the_machine_counts(tmp_path: Path) -> None:
    whole = memory_at_hand(COMPUTE, tmp_path)
    assert whole > 2**28
    root = system(tmp_path, "0::/\n", {"sys/fs/cgroup/memory.max": "max\n"})
    assert list(container_limits(root)) == []
    assert memory_at_hand(COMPUTE, root) == whole


def test_a_machine_holds_less_than_all_of_its_memory() -> None:
    machine = Machine("a machine", 2, 1000, "float32", 1e9)
    assert machine.holds(900)
    assert not machine.holds(901)
