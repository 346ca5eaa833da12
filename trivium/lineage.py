"""Where a model came from: lineage.json in its folder. Opens no model."""

from pathlib import Path

import msgspec

from trivium.errors import CheckpointError

LINEAGE = "lineage.json"


class Lineage(msgspec.Struct, frozen=True, kw_only=True):
    """Where a model came from; everything that it would take to make it again."""

    parent: str | None  # fingerprint of the weights of the model it was trained from
    parent_folder: str | None = None  # where that model stood
    data: dict[str, str]  # source → fingerprint
    votes: str | None  # fingerprint of the votes
    config: dict[str, object]  # resolved
    code: str  # version
    seed: int
    machine: str
    metrics: dict[str, float | None]  # None where the figure was not finite
    created: str  # ISO 8601, UTC


def write_lineage(folder: Path, lineage: Lineage) -> None:
    """For use while `folder` is being published: it is then sealed and flushed with the rest."""
    (folder / LINEAGE).write_bytes(msgspec.json.format(msgspec.json.encode(lineage), indent=2) + b"\n")


def read_lineage(folder: Path) -> Lineage:
    """raises  CheckpointError when there is none, or when it is malformed"""
    try:
        return msgspec.json.decode((folder / LINEAGE).read_bytes(), type=Lineage)
    except OSError as error:
        reason = f"has no {LINEAGE}" if isinstance(error, FileNotFoundError) else f"{LINEAGE}: {error.strerror}"
        raise CheckpointError(f"{folder}: {reason}; give a folder that Trivium published") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{folder}: {LINEAGE} is malformed ({error}); restore it from a copy") from error
