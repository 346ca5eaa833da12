"""Data sets of the Hugging Face hub by name, streamed row by row: nothing is downloaded whole, no code of theirs runs.

`hf:NAME[:CONFIG][@SPLIT[:COLUMN]]`; the name may also be that of a folder here which is laid out as on the hub.
"""

import logging
import re
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from trivium.errors import ConfigError, did_you_mean
from trivium.text.rows import Row

PREFIX = "hf:"
SHAPE = "hf:NAME[:CONFIG][@SPLIT[:COLUMN]]"
_SHAPE = re.compile(r"hf:(?P<name>[^:@]+)(:(?P<config>[^:@]+))?(@(?P<split>[^:@]+)(:(?P<column>.+))?)?")


class HubSet(NamedTuple):
    """A split of a data set."""

    told: str  # what the user wrote, with its field, for messages
    name: str
    config: str | None
    split: str
    column: str | None  # of the text

    @property
    def label(self) -> str:
        """The same, short and whole: rows are named after it."""
        config = f":{self.config}" if self.config else ""
        return f"{PREFIX}{self.name}{config}@{self.split}"


def is_hub(spec: str) -> bool:
    return spec.startswith(PREFIX)


def parse(spec: str, *, field: str) -> HubSet:
    """raises  ConfigError when it is not of the SHAPE"""
    found = _SHAPE.fullmatch(spec)
    told = f'{field} = "{spec}"'
    if found is None:
        raise ConfigError(f"{told}: a data set is named {SHAPE}, as in hf:roneneldan/TinyStories@train:text")
    return HubSet(told, found["name"], found["config"], found["split"] or "train", found["column"])


def read_rows(hub: HubSet, columns: Collection[str] = ()) -> Iterator[Row]:
    """Every row of the split, in its order.

    columns  that are wanted: where it has some of them, the others are not decoded
    raises  ConfigError when there is no such data set, configuration or split, or the hub cannot be reached: then, or
            in the middle, for half a data set is none
    """
    with _faults(hub):
        rows = _open(hub, columns)
        for number, row in enumerate(rows, start=1):
            yield Row(row, f"{hub.label}:{number}")


def _open(hub: HubSet, columns: Collection[str]) -> Iterable[dict[str, object]]:
    import datasets  # here: slow to import, and needed for data sets of the hub alone
    from huggingface_hub.utils import logging as hub_logging

    datasets.disable_progress_bars()
    datasets.utils.logging.set_verbosity(datasets.utils.logging.CRITICAL)
    hub_logging.set_verbosity(logging.ERROR)
    splits: Any = datasets.load_dataset(hub.name, hub.config, streaming=True)
    if hub.split not in splits:
        near = did_you_mean(hub.split, splits) or f"; it has {', '.join(splits)}"
        raise ConfigError(f"{hub.told}: has no split {hub.split}{near}")
    split = splits[hub.split]
    found = [column for column in split.column_names or () if column in columns]
    rows: Iterable[dict[str, object]] = split.select_columns(found) if found else split
    return rows


@contextmanager
def _faults(hub: HubSet) -> Iterator[None]:
    """Whatever the libraries raise becomes a ConfigError that says what to do."""
    try:
        yield
    except (ConnectionError, TimeoutError) as error:
        remedy = "check the network, or name a file or a folder on this machine"
        raise ConfigError(f"{hub.told}: the hub cannot be reached ({_reason(error)}); {remedy}") from error
    except FileNotFoundError as error:
        remedy = "check its name, and whether you have to log in (hf auth login) to read it"
        raise ConfigError(f"{hub.told}: there is no such data set ({_reason(error)}); {remedy}") from error
    except (ValueError, OSError, RuntimeError, ImportError, KeyError, TypeError) as error:
        remedy = f"name it as {SHAPE}, or save it as JSONL or Parquet and name the file"
        raise ConfigError(f"{hub.told}: cannot be read ({_reason(error)}); {remedy}") from error


def _reason(error: BaseException) -> str:
    return " ".join(str(error).split())[:200]
