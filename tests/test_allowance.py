"""What a container, an affinity and other ranks leave of a machine, whichever version of control groups says so."""

import os
from pathlib import Path

import pytest

from trivium.allowance import core_limits, cores, memory, memory_limits


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
    assert min(memory_limits(root)) == 1_000_000
    assert memory(root) == 1_000_000


def test_without_a_limit_the_machine_counts(tmp_path: Path) -> None:
    whole = memory(tmp_path)
    assert whole > 2**28
    root = system(tmp_path, "0::/\n", {"sys/fs/cgroup/memory.max": "max\n"})
    assert list(memory_limits(root)) == []
    assert memory(root) == whole


CORES = {
    "version 2": (
        "0::/a/b\n",
        {"sys/fs/cgroup/a/b/cpu.max": "max 100000\n", "sys/fs/cgroup/a/cpu.max": "50000 100000\n"},
    ),
    "version 1": (
        "3:cpu,cpuacct:/x\n",
        {
            "sys/fs/cgroup/cpu/x/cpu.cfs_quota_us": "-1\n",
            "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "50000\n",
            "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
        },
    ),
}


@pytest.mark.parametrize("name", CORES)
def test_a_container_that_allows_half_a_core_gets_one_thread(name: str, tmp_path: Path) -> None:
    root = system(tmp_path, *CORES[name])
    assert list(core_limits(root)) == [0.5]
    assert cores(root) == 1


def test_ranks_of_one_machine_share_its_cores_and_its_memory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    whole = memory(tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: range(8), raising=False)
    assert cores(tmp_path) == 8
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert cores(tmp_path) == 2
    assert memory(tmp_path) == whole // 4
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "16")
    assert cores(tmp_path) == 1
