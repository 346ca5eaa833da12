"""What this machine can do is looked up before it is asked of it."""

import sys
import sysconfig
from pathlib import Path

import pytest
import torch

from trivium.compute import compiling_obstacle

CPU = torch.device("cpu")


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only folder on the PATH; empty."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setattr(sysconfig, "get_path", lambda name: str(tmp_path))
    (tmp_path / "Python.h").touch()
    return tmp_path


def put(tools: Path, name: str) -> None:
    (tools / name).touch(mode=0o755)


def test_steps_are_compiled_with_the_usual_compiler_or_the_named_one(
    tools: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = "clang++" if sys.platform == "darwin" else "g++"
    assert f"there is no C++ compiler {usual}; install it" in compiling_obstacle(CPU)
    put(tools, usual)
    assert compiling_obstacle(CPU) == ""
    monkeypatch.setenv("CXX", "mine++")
    assert "there is no C++ compiler mine++" in compiling_obstacle(CPU)
    put(tools, "mine++")
    assert compiling_obstacle(CPU) == ""


def test_compiling_takes_pythons_headers(tools: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "mine++")
    put(tools, "mine++")
    (tools / "Python.h").unlink()
    assert "headers are missing" in compiling_obstacle(CPU)


def test_a_gpu_needs_no_cpp_compiler(tools: Path) -> None:
    assert compiling_obstacle(torch.device("cuda")) == ""
