"""Publishing that is killed, runs out of disk or meets an error leaves the old or the new, and nothing else."""

import ctypes
import errno
import fcntl
import os
import random
import signal
import stat
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import trivium.publish
from tests.publishing import failure, in_child, version, version_at
from trivium.publish import discard, publish, sweep, write_text

pytestmark = pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")


@pytest.fixture(params=["in one step", "in three renames"])
def swapping(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "in three renames":
        monkeypatch.setattr(trivium.publish, "_exchange", lambda one, other: False)
    return str(request.param)


def on_small_disk(place: Path, *, size: str, work: Callable[[], object]) -> str:
    """Runs in a process for which `place` is a file system of that size."""

    def within() -> object:
        libc = ctypes.CDLL(None, use_errno=True)
        new_mounts, new_user, user, group = 0x20000, 0x10000000, os.getuid(), os.getgid()
        if libc.unshare(new_user | new_mounts):
            return f"no mount: {os.strerror(ctypes.get_errno())}"
        for name, line in [("setgroups", "deny"), ("uid_map", f"0 {user} 1"), ("gid_map", f"0 {group} 1")]:
            Path("/proc/self", name).write_text(line)
        if libc.mount(b"tmpfs", os.fsencode(place), b"tmpfs", 0, f"size={size}".encode()):
            return f"no mount: {os.strerror(ctypes.get_errno())}"
        return work()

    place.mkdir()
    _, told = in_child(within)
    if told.startswith("no mount"):
        pytest.skip(f"a sized file system needs unshare and mount, refused here ({told})")
    return told


def test_a_process_killed_at_any_moment_leaves_the_old_or_the_new_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, swapping: str
) -> None:
    monkeypatch.setattr(
        os, "fsync", lambda descriptor: None
    )  # a kill loses no flush, and slow ones would use up the time
    began = time.monotonic()
    publish(tmp_path / "b", version(1))
    published = time.monotonic() - began
    discard(tmp_path / "b")
    folder, chance = tmp_path / "a", random.Random(7)
    seen = 0
    for _ in range(40):
        acknowledged, theirs = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                for number in range(seen + 1, seen + 1000):
                    publish(folder, version(number))
                    os.write(theirs, b".")
            finally:
                os._exit(1)
        os.close(theirs)
        time.sleep(chance.uniform(0, 10 * published))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        with os.fdopen(acknowledged, "rb") as told:
            at_least = seen + len(told.read())
        sweep(tmp_path)
        if at_least or folder.exists():
            assert at_least <= version_at(folder) <= at_least + 1
            seen = version_at(folder)
        assert [path.name for path in tmp_path.iterdir()] in ([], ["a"])
    assert seen > 10


def test_a_process_that_dies_before_any_one_step_leaves_the_old_or_the_new_version(
    tmp_path: Path, swapping: str
) -> None:
    folder = tmp_path / "a"
    for old in (0, 1):  # nothing there before, then an older version
        for death in range(100):
            discard(folder) if folder.exists() else None
            publish(folder, version(old)) if old else None
            code, told = in_child(partial(publish_but_die, folder, death))
            sweep(tmp_path)
            assert not list(tmp_path.glob(".*"))
            if code == 0:
                break
            assert code == DIED, told
            assert version_at(folder) in {old or 2, 2} if folder.exists() else not old
        assert version_at(folder) == 2
        assert death >= 8  # seven flushes and a rename


DIED = 9


def publish_but_die(folder: Path, death: int) -> None:
    """Publishes version 2, but ends without a word instead of the n-th flush, rename, swap or removal."""
    steps = iter(range(death))

    def mortal(step: Callable[..., object]) -> Callable[..., object]:
        def die_or_go_on(*arguments: object, **keywords: object) -> object:
            if next(steps, None) is None:
                os._exit(DIED)
            return step(*arguments, **keywords)

        return die_or_go_on

    for owner, name in [(os, "fsync"), (os, "unlink"), (os, "rmdir"), (Path, "rename"), (trivium.publish, "_exchange")]:
        setattr(owner, name, mortal(getattr(owner, name)))
    publish(folder, version(2))


def test_an_io_error_at_any_flush_leaves_all_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, swapping: str
) -> None:
    folder, flush = tmp_path / "a", os.fsync
    for old in (0, 1):
        for failing in range(100):
            counted = iter(range(failing))

            def fsync(descriptor: int, counted: Iterator[int] = counted) -> None:
                if next(counted, None) is None:
                    raise OSError(errno.EIO, os.strerror(errno.EIO))
                flush(descriptor)

            monkeypatch.setattr(os, "fsync", fsync)
            told = failure(lambda: publish(folder, version(2)))
            monkeypatch.setattr(os, "fsync", flush)
            if told == "nothing failed":
                break
            kept = ", its earlier version is intact" if old else ""
            assert told == (
                f"{folder}: cannot be written (Input/output error){kept}; check the disk and run the same command again"
            )
            assert not list(tmp_path.glob(".*"))
            assert version_at(folder) == old if old else not folder.exists()
        assert failing == 7  # three files, a folder, the manifest, the whole, its parent
        assert version_at(folder) == 2
        publish(folder, version(1))


def test_all_is_flushed_before_the_name_is_given_and_the_name_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    flush, rename = os.fsync, Path.rename

    def fsync(descriptor: int) -> None:
        path = Path(f"/proc/self/fd/{descriptor}").readlink().relative_to(tmp_path)
        done.append("/".join(["fresh", *path.parts[1:]]) if path.parts else "parent")
        flush(descriptor)

    def renamed(one: Path, other: Path) -> Path:
        done.append("rename")
        return rename(one, other)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(Path, "rename", renamed)
    publish(tmp_path / "a", version(1))
    assert " ".join(done) == (
        "fresh/config.json fresh/deep fresh/deep/part fresh/model.safetensors fresh/manifest.json fresh rename parent"
    )


@pytest.mark.parametrize("library", ["plain files", "safetensors"])
def test_a_full_disk_is_named_and_leaves_the_earlier_version(tmp_path: Path, library: str) -> None:
    folder = tmp_path / "small" / "a"
    weight = torch.zeros(1_000_000)  # of a forked process it would take threads that it does not have

    def write_too_much(fresh: Path) -> None:
        if library == "safetensors":
            save_file({"weight": weight}, fresh / "model.safetensors")
        else:
            (fresh / "model.safetensors").write_bytes(bytes(4_000_000))

    def work() -> str:
        publish(folder, version(1))
        told = failure(lambda: publish(folder, write_too_much))
        assert version_at(folder) == 1
        assert not list(folder.parent.glob(".*"))
        publish(folder, version(2))
        return told

    assert on_small_disk(tmp_path / "small", size="1m", work=work) == (
        f"{folder}: cannot be written (No space left on device), its earlier version is intact; "
        "free some space and run the same command again"
    )


def test_a_file_system_that_flushes_no_folders_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flush = os.fsync

    def fsync(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        flush(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    publish(tmp_path / "a", version(1))
    publish(tmp_path / "a", version(2))
    assert version_at(tmp_path / "a") == 2


def test_an_error_of_the_writers_own_passes_and_leaves_nothing(tmp_path: Path) -> None:
    def write(folder: Path) -> None:
        (folder / "half").touch()
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        publish(tmp_path / "a", write)
    assert not list(tmp_path.iterdir())


def test_a_sweep_spares_the_publishers_at_work(tmp_path: Path) -> None:
    def write(folder: Path) -> None:
        in_child(lambda: sweep(tmp_path))
        sweep(tmp_path)
        version(1)(folder)

    publish(tmp_path / "a", write)
    assert version_at(tmp_path / "a") == 1


def test_publishing_clears_its_own_remains_and_no_others(tmp_path: Path) -> None:
    mine, other = tmp_path / ".tmp-a-00000000", tmp_path / ".tmp-a-b-00000000"
    mine.mkdir()
    other.mkdir()
    publish(tmp_path / "a", version(1))
    assert not mine.exists()
    assert other.exists()


def test_a_text_is_replaced_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "recipe.toml"
    write_text(path, "old")

    def fsync(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as broken:
        broken.setattr(os, "fsync", fsync)
        told = failure(lambda: write_text(path, "new"))
    assert told == (
        f"{path}: cannot be written (No space left on device); free some space and run the same command again"
    )
    assert path.read_text() == "old"
    write_text(path, "new: ü")
    assert path.read_text() == "new: ü"
    assert [found.name for found in tmp_path.iterdir()] == ["recipe.toml"]


def test_a_dead_writers_temporary_file_is_swept_and_a_living_ones_is_not(tmp_path: Path) -> None:
    dead, living = tmp_path / ".tmp-recipe.toml-00000000", tmp_path / ".tmp-plan.json-00000000"
    dead.touch()
    with living.open("x") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        sweep(tmp_path)
        assert [found.name for found in tmp_path.iterdir()] == [living.name]
