"""Compile C++ beside this file for this processor, once, into the user's cache folder. Knows nothing of models.

A library's file name holds a digest of what it was made from (source, flags, compiler, processor) and one of its own
bytes: a file that was cut short, damaged or made for another machine is never loaded, but made anew.
"""

import ctypes
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

HOME = Path(__file__).parent
COMPILERS = ("c++", "g++", "clang++")
FLAGS = ("-std=c++17", "-O3", "-fno-math-errno", "-Wno-psabi", "-shared", "-fPIC", "-pthread")
MACHINES = ("-march=native", "-mcpu=native")  # how compilers are told to use all that this processor can do
PATIENCE = 120  # seconds


class BuildError(Exception):
    """Something could not be compiled here; PyTorch does its work."""


def load_library(name: str, *flags: str) -> ctypes.CDLL:
    """What `name`.cpp compiles to, made if need be; raises BuildError when this machine cannot.

    flags  that the compiler needs beside the usual ones
    """
    source = HOME / f"{name}.cpp"
    command, target = _compiler(flags)
    sources = (path.read_bytes() for path in (source, *sorted(HOME.glob("*.h"))))
    key = _digest(*sources, *map(str.encode, command), target)
    folder = cache_folder()
    try:
        for path in folder.glob(f"{name}-{key}-*.so"):
            if path.stem.rpartition("-")[2] == _digest(path.read_bytes()):
                return ctypes.CDLL(str(path))
            path.unlink(missing_ok=True)
        return ctypes.CDLL(str(_build(command, source, folder, key)))
    except OSError as reason:
        raise BuildError(f"{folder}: {reason}") from reason


def open_library(name: str, functions: Mapping[str, Sequence[Any]], *flags: str) -> ctypes.CDLL | str:
    """`load_library`, with the types of what its functions take, which give nothing; or why there is none here."""
    try:
        loaded = load_library(name, *flags)
    except BuildError as reason:
        return str(reason)
    for function, takes in functions.items():
        found = getattr(loaded, function)
        found.argtypes, found.restype = tuple(takes), None
    return loaded


def is_wanted() -> bool:
    """Whether C++ may do what PyTorch could."""
    return os.environ.get("TRIVIUM_NATIVE") != "0"


def cache_folder() -> Path:
    """Where compiled code is kept: TRIVIUM_CACHE, or trivium in XDG_CACHE_HOME or ~/.cache."""
    if chosen := os.environ.get("TRIVIUM_CACHE"):
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "trivium"


def _compiler(flags: Sequence[str]) -> tuple[list[str], bytes]:
    """The command that compiles, and what it says of itself and of this processor."""
    chosen = os.environ.get("CXX")
    for name in [chosen] if chosen else COMPILERS:
        if found := shutil.which(name):
            for machine in MACHINES:
                if target := _run([found, machine, "-dM", "-E", "-x", "c++", os.devnull]):
                    return [found, machine, *FLAGS, *flags], target
    raise BuildError(f"no C++ compiler: {chosen or ', '.join(COMPILERS)} not found or not working")


def _build(command: list[str], source: Path, folder: Path, key: str) -> Path:
    """Compile beside the place where it belongs, then move it there: at no time is there half a file of that name."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with tempfile.TemporaryDirectory(prefix="build-", dir=folder) as scratch:
        made = Path(scratch) / "made.so"
        _run([*command, str(source), "-o", str(made)])
        if not made.is_file():
            raise BuildError(f"{command[0]}: could not compile {source.name}")
        path = folder / f"{source.stem}-{key}-{_digest(made.read_bytes())}.so"
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
