"""What trials leave, each stamped with what it was made with: none is taken for one of another kind."""

import json
import sys
from pathlib import Path
from typing import Any, NamedTuple

from trivium.errors import ConfigError
from trivium.publish import write_text
from trivium.shelf import weights_fingerprint

Record = dict[str, Any]


class Stamp(NamedTuple):
    scale: str  # full, or quick
    foundation: str  # fingerprint of the instruct model that every trial starts from


def stamp_of(foundation: Path, *, quick: bool) -> Stamp:
    return Stamp("quick" if quick else "full", weights_fingerprint(foundation / "instruct"))


class Records:
    """The records of a folder, all of one stamp."""

    def __init__(self, folder: Path, stamp: Stamp) -> None:
        """Those without a stamp, of an older version, are taken for what is made now, and told of.

        raises  ConfigError when one was made with something else
        """
        self._folder, self._stamp = folder, stamp
        folder.mkdir(parents=True, exist_ok=True)
        made = {path.name: json.loads(path.read_bytes()).get("stamp") for path in sorted(folder.glob("*.json"))}
        for name, known in made.items():
            if known is not None and Stamp(**known) != stamp:
                told = " on foundation ".join(known.values())
                raise ConfigError(
                    f"{folder / name}: was made {told}, this is {' on foundation '.join(stamp)}; choose another --out"
                )
        if count := list(made.values()).count(None):
            print(
                f"records that do not say what they were made with: {count}; taken for {stamp.scale} ones",
                file=sys.stderr,
            )

    def has(self, name: str) -> bool:
        return self._path(name).exists()

    def keep(self, name: str, record: Record) -> None:
        write_text(self._path(name), json.dumps(record | {"name": name, "stamp": self._stamp._asdict()}))

    def all(self) -> list[Record]:
        return [json.loads(path.read_bytes()) for path in sorted(self._folder.glob("*.json"))]

    def _path(self, name: str) -> Path:
        return self._folder / f"{name}.json"
