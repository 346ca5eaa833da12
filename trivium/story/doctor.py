"""Is this machine fit, and what will be used: every finding with what to do about it. Changes nothing."""

import importlib.util
import os
import shutil
import sqlite3
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from rich.text import Text

from trivium.allowance import SYSTEM, cores, memory_limits
from trivium.compute import Compute, best_dtype, compiling_obstacle
from trivium.distributed.world import join_world
from trivium.errors import ConfigError, TriviumError
from trivium.feedback.database import engine_for, journal_mode, name_of, named_errors, url_of
from trivium.generate.native import decoder_in_use
from trivium.native import layer
from trivium.plan import COMPILE_FROM_MINUTES, machine_name
from trivium.show import console_for
from trivium.wording import counted

OLDEST_PYTHON, OLDEST_TORCH = (3, 11), (2, 9)
LEAST_MEMORY, LEAST_DISK = 2 * 2**30, 2 * 2**30  # bytes that the smallest whole run needs with room to spare
EXTRAS = {"postgres": "psycopg", "gguf": "gguf", "eval": "lm_eval"}  # of pyproject.toml, and what each brings
SIGNS = {"good": ("ok", "green"), "note": ("note", "yellow"), "bad": ("BAD", "bold red")}


class Finding(NamedTuple):
    name: str
    state: Literal["good", "note", "bad"]  # fit; fit, with something to know; not fit
    found: str
    remedy: str = ""  # what to do about it


def examine(*, votes: str = "", folder: Path = Path()) -> dict[str, Any]:
    """All findings.

    votes    URL of a database of votes, to be tried too; empty: none
    folder   where runs would be kept
    returns  {"fit": whether nothing is bad, "findings": [{"name", "state", "found", "remedy"}]}
    """
    findings = [*of_software(), *of_machine(), *of_room(folder), *of_votes(votes), *of_extras()]
    return {"fit": all(f.state != "bad" for f in findings), "findings": [f._asdict() for f in findings]}


def of_software() -> Iterator[Finding]:
    python = ".".join(map(str, sys.version_info[:3]))
    fit = sys.version_info[:2] >= OLDEST_PYTHON
    yield Finding("Python", "good" if fit else "bad", python, "" if fit else "install Python 3.11 or newer")
    fit = tuple(int(part) for part in torch.__version__.split(".")[:2]) >= OLDEST_TORCH
    remedy = "" if fit else "pip install --upgrade torch"
    yield Finding("torch", "good" if fit else "bad", str(torch.__version__), remedy)


def of_machine() -> Iterator[Finding]:
    with join_world("auto") as world:
        device = world.device
    yield Finding("device", "good", f"{device.type}: {machine_name(Compute(device, torch.float32, False))}")
    yield Finding("threads", "good", f"{cores()} of {counted(os.cpu_count() or 1, 'core')}")
    dtype = best_dtype(device)
    native = dtype == torch.bfloat16
    told = "bfloat16, which it multiplies natively; weights in float32" if native else "float32: no native bfloat16"
    yield Finding("precision", "good", told)
    in_cpp = layer.is_here(device)
    obstacle = "" if in_cpp else compiling_obstacle(device)
    remedy = "it works without, slower" if obstacle else ""
    yield Finding(
        "training steps",
        "note" if obstacle else "good",
        obstacle or ("layers in C++" if in_cpp else f"compiled from {COMPILE_FROM_MINUTES:g} minutes on"),
        remedy,
    )
    writer = decoder_in_use(device)
    slower = device.type == "cpu" and writer.startswith("PyTorch")
    remedy = "install a C++ compiler (g++), or name one in CXX; it works without, slower" if slower else ""
    yield Finding("writing", "note" if slower else "good", writer, remedy)


def of_room(folder: Path) -> Iterator[Finding]:
    memory = min((each for each in (free_memory(), *memory_limits(SYSTEM)) if each is not None), default=None)
    if memory is not None:
        fit = memory >= LEAST_MEMORY
        remedy = "" if fit else "close other programs, or train a smaller model (--model.width)"
        yield Finding("memory", "good" if fit else "bad", f"{memory / 2**30:.1f} GiB free", remedy)
    free, where = shutil.disk_usage(folder).free, folder.resolve()
    writable, fit = os.access(where, os.W_OK), free >= LEAST_DISK
    remedy = "" if fit else "make room, or name a folder on another disk with --out"
    remedy = remedy if writable else "choose a folder that you may write to with --out"
    told = f"{free / 2**30:.1f} GiB free in {where}" + ("" if writable else ", which cannot be written to")
    yield Finding("disk", "good" if fit and writable else "bad", told, remedy)


def free_memory() -> int | None:
    """Bytes that programs may still take; None where the system does not say."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")), None)


def of_votes(url: str) -> Iterator[Finding]:
    mode = journal_mode(sqlite3.sqlite_version_info)
    why = (
        "write-ahead log"
        if mode == "WAL"
        else "rollback journal, since the write-ahead log of this version can lose a vote"
    )
    remedy = "" if mode == "WAL" else "nothing need be done; SQLite 3.51.3 or newer takes many raters at once faster"
    yield Finding("SQLite", "good" if mode == "WAL" else "note", f"{sqlite3.sqlite_version}, {why}", remedy)
    if url:
        yield reached(url)


def reached(url: str) -> Finding:
    """Whether a database of votes answers; its password is never told."""
    try:
        place = url_of(url)
        engine, name = engine_for(place), name_of(place)
        with named_errors(name), engine.connect():
            told = f"{name} answers"
        engine.dispose()
    except TriviumError as reason:
        remedy = "mend the URL" if isinstance(reason, ConfigError) else "start it, and see that it lets us in"
        return Finding("votes", "bad", str(reason), remedy)
    return Finding("votes", "good", told)


def of_extras() -> Iterator[Finding]:
    for extra, module in EXTRAS.items():
        if importlib.util.find_spec(module) is None:
            yield Finding(extra, "note", "not installed", f"if you want it: pip install 'trivium[{extra}]'")
        else:
            yield Finding(extra, "good", f"{module} is installed")


def print_findings(examined: dict[str, Any]) -> None:
    console = console_for()
    for told in examined["findings"]:
        finding = Finding(**told)
        sign, style = SIGNS[finding.state]
        console.print(Text.assemble((f"{sign:<5}", style), f"{finding.name:<15}", finding.found), soft_wrap=True)
        if finding.remedy:
            console.print(Text(f"{'':20}→ {finding.remedy}", style="dim"), soft_wrap=True)
    console.print(
        Text("This machine is fit." if examined["fit"] else "This machine is not fit: see BAD.", style="bold")
    )
