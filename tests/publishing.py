"""Versions of a folder to publish, and processes to publish them in, for the tests."""

import os
import traceback
from collections.abc import Callable
from pathlib import Path

from trivium.errors import CheckpointError
from trivium.publish import verify


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


def failure(work: Callable[[], object]) -> str:
    try:
        work()
    except CheckpointError as error:
        return str(error)
    return "nothing failed"
