"""What a long benchmark has measured, kept in a file, so that it may be stopped and go on.

A note counts only for the settings and the code that it was made with: whatever has changed is measured again.
"""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from trivium.runs import Journal

ROOT = Path(__file__).parents[1]
SOURCES = ("trivium/**/*.py", "trivium/**/*.cpp", "benchmarks/*.py")


class Notes:
    """One line for each result."""

    def __init__(self, path: Path | None) -> None:
        """path  None: nothing is kept"""
        self.journal = Journal(path) if path else None
        self.code = code_version()
        lines = self.journal.read() if self.journal else []
        self.known: dict[str, Any] = {_key(line["what"]): line["found"] for line in lines}

    def find(self, measure: Callable[[], Any], **what: Any) -> Any:
        """What was noted of this, else what `measure` finds, noted.

        what     names all that the result depends on, beside the code, in what JSON can say
        returns  as JSON says it: a tuple becomes a list
        """
        what["code"] = self.code
        key = _key(what)
        if key not in self.known:
            found = json.loads(json.dumps(measure()))
            if self.journal:
                self.journal.write({"what": what, "found": found})
            self.known[key] = found
        return self.known[key]


def code_version() -> str:
    """Of PyTorch and the sources here, committed or not."""
    digest = hashlib.sha256(torch.__version__.encode())
    for path in sorted(path for pattern in SOURCES for path in ROOT.glob(pattern)):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _key(what: object) -> str:
    return json.dumps(what, sort_keys=True)
