"""Compile the decode step for this processor, once, into the user's cache folder. Knows nothing of models.

A library's file name holds a digest of what it was made from (source, flags, compiler, processor) and one of its own
bytes: a file that was cut short, damaged or made for another machine is never loaded, but made anew.
"""

import ctypes
import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

SOURCE = Path(__file__).with_name("decode.cpp")
COMPILERS = ("c++", "g++", "clang++")
FLAGS = ("-std=c++17", "-O3", "-fno-math-errno", "-Wno-psabi", "-shared", "-fPIC", "-pthread")
MACHINES = ("-march=native", "-mcpu=native")  # how compilers are told to use all that this processor can do
PATIENCE = 120  # seconds


class BuildError(Exception):
    """The decode step could not be compiled here; PyTorch does its work."""


def load_library() -> ctypes.CDLL:
    """The compiled decode step, made if need be; raises BuildError when this machine cannot."""
    command, target = _compiler()
    key = _digest(*_sources(), *map(str.encode, command), target)
    folder = cache_folder()
    try:
        for path in folder.glob(f"decode-{key}-*.so"):
            if path.stem.rpartition("-")[2] == _digest(path.read_bytes()):
                return ctypes.CDLL(str(path))
            path.unlink(missing_ok=True)
        return ctypes.CDLL(str(_build(command, folder, key)))
    except OSError as reason:
        raise BuildError(f"{folder}: {reason}") from reason


def cache_folder() -> Path:
    """Where compiled code is kept: TRIVIUM_CACHE, or trivium in XDG_CACHE_HOME or ~/.cache."""
    if chosen := os.environ.get("TRIVIUM_CACHE"):
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "trivium"


def _sources() -> list[bytes]:
    return [path.read_bytes() for path in (SOURCE, *sorted(SOURCE.parent.glob("*.h")))]


def _compiler() -> tuple[list[str], bytes]:
    """The command that compiles, and what it says of itself and of this processor."""
    chosen = os.environ.get("CXX")
    for name in [chosen] if chosen else COMPILERS:
        if found := shutil.which(name):
            for machine in MACHINES:
                if target := _run([found, machine, "-dM", "-E", "-x", "c++", os.devnull]):
                    return [found, machine, *FLAGS], target
    raise BuildError(f"no C++ compiler: {chosen or ', '.join(COMPILERS)} not found or not working")


def _build(command: list[str], folder: Path, key: str) -> Path:
    """Compile beside the place where it belongs, then move it there: at no time is there half a file of that name."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with tempfile.TemporaryDirectory(prefix="build-", dir=folder) as scratch:
        made = Path(scratch) / "decode.so"
        _run([*command, str(SOURCE), "-o", str(made)])
        if not made.is_file():
            raise BuildError(f"{command[0]}: could not compile {SOURCE.name}")
        path = folder / f"decode-{key}-{_digest(made.read_bytes())}.so"
        made.replace(path)
    return path


def _run(command: list[str]) -> bytes:
    """What a command prints; nothing when it fails."""
    try:
        done = subprocess.run(command, capture_output=True, timeout=PATIENCE, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.TimeoutExpired):
        return b""
    return done.stdout if done.returncode == 0 else b""


def _digest(*parts: bytes) -> str:
    joined = b"".join(len(part).to_bytes(8, "little") + part for part in parts)
    return hashlib.sha256(joined).hexdigest()[:24]
