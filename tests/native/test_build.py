"""Building the decode step: once, whole or not at all, and never a reason to fail."""

import ctypes
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from trivium.generate import native
from trivium.generate.engine import Request, generate
from trivium.generate.sampling import Sampling
from trivium.model.transformer import Transformer
from trivium.native.build import BuildError, cache_folder, load_library

COMPILER = next((found for name in ("c++", "g++", "clang++") if (found := shutil.which(name))), None)
needs_compiler = pytest.mark.skipif(COMPILER is None, reason="no C++ compiler")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A library, truly compiled."""
    folder = tmp_path_factory.mktemp("built")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRIVIUM_CACHE", str(folder))
        load_library("decode")
    (library,) = folder.iterdir()
    return library


@pytest.fixture
def folder(built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and a compiler that is quick, because it has what it makes ready."""
    monkeypatch.setenv("TRIVIUM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("CXX", compiler(tmp_path / "quick", f'cp {built} "$last"'))
    return tmp_path / "cache"


@pytest.fixture
def forgetful() -> Iterator[None]:
    """A process that has not loaded the library yet."""
    native.library.cache_clear()
    yield
    native.library.cache_clear()


def compiler(path: Path, makes: str) -> str:
    """One that speaks of itself as the real one does, and then does this; its output goes to $last."""
    told = f'for last; do :; done; case "$*" in *-dM*) exec {COMPILER} "$@";; esac'
    path.write_text(f"#!/bin/sh\n{told}\n{makes}\n")
    path.chmod(0o755)
    return str(path)


def test_the_cache_is_where_the_user_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRIVIUM_CACHE", "/somewhere")
    assert cache_folder() == Path("/somewhere")
    monkeypatch.delenv("TRIVIUM_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/caches")
    assert cache_folder() == Path("/caches/trivium")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/me")
    assert cache_folder() == Path("/home/me/.cache/trivium")


@needs_compiler
def test_a_library_is_built_once_and_leaves_one_file(folder: Path) -> None:
    load_library("decode")
    before = [(path.name, path.stat().st_mtime_ns) for path in folder.iterdir()]
    load_library("decode")
    assert [(path.name, path.stat().st_mtime_ns) for path in folder.iterdir()] == before
    assert len(before) == 1


@needs_compiler
@pytest.mark.parametrize("harm", ["cut", "emptied", "bit flipped", "another's"])
def test_a_damaged_file_is_never_loaded_but_made_anew(harm: str, folder: Path) -> None:
    load_library("decode")
    (library,) = folder.iterdir()
    whole = library.read_bytes()
    flipped = whole[:5000] + bytes([whole[5000] ^ 1]) + whole[5001:]
    library.unlink()  # it is loaded: writing into it would change the code of this process
    library.write_bytes({"cut": whole[:3000], "emptied": b"", "bit flipped": flipped, "another's": b"MZ" * 900}[harm])
    assert isinstance(load_library("decode"), ctypes.CDLL)
    assert [path.read_bytes() for path in folder.iterdir()] == [whole]


@needs_compiler
def test_another_compiler_gets_a_library_of_its_own(
    folder: Path, built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load_library("decode")
    monkeypatch.setenv("CXX", compiler(tmp_path / "other", f'cp {built} "$last"'))
    load_library("decode")
    assert len(list(folder.iterdir())) == 2


@needs_compiler
def test_processes_that_build_at_the_same_time_do_not_disturb_each_other(folder: Path) -> None:
    code = "from trivium.native.build import load_library; assert load_library('decode').has_bfloat16() in (0, 1)"
    racing = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(3)]
    assert [process.wait() for process in racing] == [0, 0, 0]
    assert [path.suffix for path in folder.iterdir()] == [".so"]


@needs_compiler
def test_a_build_that_is_killed_leaves_nothing_that_is_taken_for_a_library(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed while the compiler has written half of its output."""
    half = tmp_path / "half"
    slow = compiler(tmp_path / "slow", f'echo x > "$last"; touch {half}; sleep 60')
    code = "from trivium.native.build import load_library; load_library('decode')"
    process = subprocess.Popen([sys.executable, "-c", code], env=os.environ | {"CXX": slow}, start_new_session=True)
    while not half.exists():
        assert process.poll() is None
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert list(folder.glob("decode-*.so")) == []
    assert isinstance(load_library("decode"), ctypes.CDLL)


FAILING = {
    "no compiler": ("", "no C++ compiler: /nowhere/c++ not found"),
    "a build that fails": ("exit 1", "could not compile decode.cpp"),
    "a build that makes nothing": ("exit 0", "could not compile decode.cpp"),
    "a file that is no library": ('echo no > "$last"', "decode-"),
}


@needs_compiler
@pytest.mark.parametrize("fault", FAILING)
def test_what_cannot_be_built_is_told_and_pytorch_writes_the_same(
    fault: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    forgetful: None,
    small_model: Callable[..., Transformer],
) -> None:
    makes, reason = FAILING[fault]
    model, requests = small_model(), [Request([1, 2, 3], seed) for seed in range(3)]
    expected = generate(model, requests, Sampling(), stop=(), precision="float32")
    native.library.cache_clear()
    monkeypatch.setenv("CXX", compiler(tmp_path / "compiler", makes) if makes else "/nowhere/c++")
    monkeypatch.setenv("TRIVIUM_CACHE", str(tmp_path / "cache"))
    told = native.decoder_in_use(torch.device("cpu"))
    assert told.startswith("PyTorch (")
    assert reason in told
    found = generate(model, requests, Sampling(), stop=(), precision="float32")
    assert [answer.tokens for answer in found] == [answer.tokens for answer in expected]


@needs_compiler
def test_a_cache_that_cannot_be_written_is_a_reason_and_no_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TRIVIUM_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(BuildError, match="file/cache"):
        load_library("decode")
