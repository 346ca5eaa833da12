"""What raters go by: guidelines.md of the run folder, which the studio edits; in a run without it, the usual ones."""

from trivium.errors import RunError
from trivium.publish import write_text
from trivium.runs import Run

GUIDELINES = "guidelines.md"
LONGEST = 20_000  # characters
USUAL = """Prefer the answer that does what was asked.

Of two that do, prefer the one that is true and makes sense.

Of two that are true, prefer the one that you would rather read.

Length alone is no merit. When you cannot tell, a tie is a good answer; when neither is any good, say so."""


def guidelines_of(run: Run) -> str:
    """raises  RunError when the file is no text"""
    try:
        return (run.path / GUIDELINES).read_text(encoding="utf-8")[:LONGEST]
    except FileNotFoundError:
        return USUAL
    except (OSError, UnicodeDecodeError):
        raise RunError(f"{GUIDELINES} in the run folder cannot be read as text; mend it there") from None


def write_guidelines(run: Run, text: str) -> None:
    write_text(run.path / GUIDELINES, text)
