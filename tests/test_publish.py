"""Published folders: old or new, never neither, never a mixture; and damage is seen before use."""

import ctypes
import errno
import fcntl
import json
import os
import random
import signal
import stat
import time
import traceback
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import trivium.publish
from trivium.errors import CheckpointError
from trivium.publish import MANIFEST, discard, fingerprint, flaw, publish, sweep, verify, write_text

pytestmark = pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")


@pytest.fixture(params=["in one step", "in three renames"])
def swapping(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "in three renames":
        monkeypatch.setattr(trivium.publish, "_exchange", lambda one, other: False)
    return str(request.param)


def version(number: int) -> Callable[[Path], None]:
    """A writer of three files, one of them in a folder, that all say the same number."""

    def write(folder: Path) -> None:
        (folder / "deep").mkdir()
        for name in ("config.json", "model.safetensors", "deep/part"):
            (folder / name).write_bytes(number.to_bytes(4, "big") * 3000)

    return write


def version_at(folder: Path) -> int:
    verify(folder)
    numbers = {(folder / name).read_bytes() for name in ("config.json", "model.safetensors", "deep/part")}
    assert len(numbers) == 1
    return int.from_bytes(numbers.pop()[:4], "big")


def in_child(work: Callable[[], object]) -> tuple[int, str]:
    """Runs in a forked process. Returns its exit code, and what `work` returned or raised, as text."""
    ours, theirs = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.write(theirs, str(work()).encode())
            code = 0
        except BaseException:
            os.write(theirs, traceback.format_exc().encode())
        finally:
            os._exit(code)
    os.close(theirs)
    with os.fdopen(ours) as told:
        text = told.read()
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), text


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


def failure(work: Callable[[], object]) -> str:
    try:
        work()
    except CheckpointError as error:
        return str(error)
    return "nothing failed"


def test_a_published_folder_verifies_and_its_fingerprint_is_its_content(tmp_path: Path) -> None:
    first = publish(tmp_path / "new" / "a", version(1))
    assert first == verify(tmp_path / "new" / "a") == fingerprint(tmp_path / "new" / "a")
    assert len(first) == 16
    assert publish(tmp_path / "b", version(1)) == first
    assert publish(tmp_path / "b", version(2)) != first
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b", "new"]


def test_files_added_later_do_not_disturb_a_published_folder(tmp_path: Path) -> None:
    publish(tmp_path / "a", version(1))
    (tmp_path / "a" / "notes.txt").write_text("mine")
    assert verify(tmp_path / "a") == fingerprint(tmp_path / "a")


def test_published_files_follow_the_umask(tmp_path: Path) -> None:
    publish(tmp_path / "a", lambda folder: save_file({"weight": torch.ones(2)}, folder / "model.safetensors"))
    (tmp_path / "usual").touch()
    assert (tmp_path / "a" / "model.safetensors").stat().st_mode == (tmp_path / "usual").stat().st_mode


def test_a_process_killed_at_any_moment_leaves_the_old_or_the_new_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, swapping: str
) -> None:
    monkeypatch.setattr(
        os, "fsync", lambda descriptor: None
    )  # a kill loses no flush, and slow ones would use up the time
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
        time.sleep(chance.uniform(0, 0.02))
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

    def write_too_much(fresh: Path) -> None:
        if library == "safetensors":
            save_file({"weight": torch.zeros(1_000_000)}, fresh / "model.safetensors")
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


def test_flipped_bits_are_found_wherever_they_are(tmp_path: Path) -> None:
    folder, chance = tmp_path / "a", random.Random(3)
    publish(folder, version(1))
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    for trial in range(60):
        path = files[trial % len(files)]
        sound = path.read_bytes()
        damaged = bytearray(sound)
        damaged[chance.randrange(len(sound))] ^= 1 << chance.randrange(8)
        path.write_bytes(damaged)
        assert flaw(folder), f"{path} with another bit went unnoticed"
        path.write_bytes(sound)
    assert flaw(folder) is None


def test_damage_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "a"
    remedy = "restore it from a copy, or delete it and run the same command again"

    def expect(wrong: str) -> None:
        with pytest.raises(CheckpointError) as caught:
            verify(folder)
        assert str(caught.value) == f"{folder}: {wrong}; {remedy}"
        publish(folder, version(1))

    expect("does not exist")
    os.truncate(folder / "model.safetensors", 100)
    expect("model.safetensors does not match its manifest")
    (folder / "deep" / "part").unlink()
    expect("deep/part is missing")
    (folder / "config.json").write_bytes(bytes(12_000))
    expect("config.json does not match its manifest")
    names = json.loads((folder / MANIFEST).read_text())
    names["files"] = {"../secret": {"size": 0, "sha256": ""}}
    (folder / MANIFEST).write_text(json.dumps(names, indent=1) + "\n")
    expect("manifest.json names ../secret, which is outside of the folder")
    (folder / MANIFEST).write_text('{"format": "trivium-manifest-1", "files": 3}')
    expect("manifest.json is damaged")
    (folder / MANIFEST).unlink()
    assert flaw(folder) == "has no manifest.json"
    with pytest.raises(CheckpointError, match=r"a: has no manifest.json; give a folder that Trivium published"):
        fingerprint(folder)


def test_swapped_shards_are_found(tmp_path: Path) -> None:
    def write(folder: Path) -> None:
        for shard in (1, 2):
            save_file({"weight": torch.full((8,), shard)}, folder / f"model-{shard}.safetensors")

    publish(tmp_path / "a", write)
    one, two = (tmp_path / "a" / f"model-{shard}.safetensors" for shard in (1, 2))
    two.replace(tmp_path / "kept"), one.replace(two), (tmp_path / "kept").replace(one)
    assert flaw(tmp_path / "a") == "model-1.safetensors does not match its manifest"


def test_a_folder_of_the_users_own_files_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    publish(tmp_path / "thesis", version(1))  # an empty folder is nobody's loss
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").write_text("cat")
    told = failure(lambda: publish(tmp_path / "photos", version(1)))
    assert told == f"{tmp_path}/photos: holds files that Trivium did not publish; choose another folder"
    assert (tmp_path / "photos" / "cat.jpg").read_text() == "cat"


def test_an_unwritable_place_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    told = failure(lambda: publish(tmp_path / "file" / "a", version(1)))
    assert told == (
        f"{tmp_path}/file/a: cannot be written (File exists at {tmp_path}/file); "
        "choose a path that does not lead through a file and run the same command again"
    )
    long = tmp_path / ("a" * 300)
    assert failure(lambda: publish(long, version(1))) == (
        f"{long}: cannot be written (File name too long at {long}); "
        "choose a shorter name and run the same command again"
    )
    assert flaw(long) == "manifest.json cannot be read (File name too long)"


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
