"""A process that has imported everything and run nothing: each run of a test is a fork of it, ready at once.

It reads one JSON object a line, starts that run, kills it where it is told to, and answers with one JSON object:
    {"arguments": [...], "said": FILE, "after": [PHASE, STEP] or "seen": GLOB, "folder": RUN, "delay": S, "signal": N}
    {"killed": BOOL, "code": EXIT CODE or minus the signal}

TinyWorld is made smaller here, and its judge is replaced by one who counts letters: the babble of a model that has
taken twelve steps has no sense that the real judge could weigh.
"""

import functools
import json
import os
import sys
import time
import traceback
from pathlib import Path
from typing import Any

import torch  # noqa: F401 - imported, never used: a fork of a process that has computed something may hang

from trivium import cli, plan
from trivium.story import chatting, opening, whole  # noqa: F401
from trivium.text import corpus
from trivium.worlds import tinyworld
from trivium.worlds.tinyworld.judge import Verdict

LONGEST = 60.0  # seconds that any run here may take


def count_letters(task: object, answer: str, *, ended: bool = True) -> Verdict:
    return Verdict((sum(map(ord, answer)) % 13) / 13, 0.0, 0.0, 0.0, float(ended))


def is_reached(order: dict[str, Any], folder: Path) -> bool:
    if "seen" in order:
        return next(folder.glob(order["seen"]), None) is not None
    phase, step = order["after"]
    try:
        return f'"phase":"{phase}","step":{step},' in (folder / "journal.jsonl").read_text()
    except FileNotFoundError:
        return False


def watch(child: int, order: dict[str, Any]) -> dict[str, object]:
    """Kill the child where it was told, or see it end before."""
    started, killed, status = time.monotonic(), False, 0
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            break
        if time.monotonic() - started > LONGEST:
            os.kill(child, 9)
        elif not killed and "signal" in order and is_reached(order, Path(order["folder"])):
            time.sleep(order["delay"])
            os.kill(child, order["signal"])
            killed = True
        time.sleep(0.0005 if "signal" in order and not killed else 0.005)
    return {"killed": killed, "code": os.waitstatus_to_exitcode(status)}


def work(order: dict[str, Any]) -> None:
    said = os.open(order["said"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(said, 1)
    os.dup2(said, 2)
    code = 0
    try:
        cli.main(order["arguments"])
    except SystemExit as end:
        code = int(end.code or 0)
    except BaseException:
        traceback.print_exc()
        code = 70
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def main() -> None:
    corpus.HELD_OUT = 24
    plan.measure_machine = functools.partial(plan.measure_machine, seconds=0.01)
    tinyworld.judge = count_letters  # type: ignore[assignment]
    for line in sys.stdin:
        order = json.loads(line)
        child = os.fork()
        if child == 0:
            work(order)
        print(json.dumps(watch(child, order)), flush=True)


if __name__ == "__main__":
    main()
