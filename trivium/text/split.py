"""The held-out split: a pure function of what a record says, so that the same text never falls on both sides."""

from collections.abc import Callable, Iterable, Sequence
from hashlib import blake2b
from typing import Generic, NamedTuple, TypeVar

from trivium.errors import ConfigError
from trivium.records import Dialogue, Document, Message, Pair

Record = TypeVar("Record")
Item = TypeVar("Item")


class Split(NamedTuple, Generic[Record]):
    train: Sequence[Record]
    held_out: Sequence[Record]


def held_out(key: str, *, share: float) -> bool:
    """Whether the record with this key is kept from training; of many keys a `share` in [0, 1) is."""
    return place_of(key) < _checked(share)


def split(records: Iterable[Record], *, key: Callable[[Record], str], share: float) -> Split[Record]:
    """Records in their order, parted by their keys.

    share    in [0, 1); above 0 and with two keys or more, neither side is empty; a single record is learned from
    raises   ConfigError when share lies outside
    """
    share = _checked(share)
    keyed = [(key(record), record) for record in records]
    places = {name: place_of(name) for name in {name for name, _ in keyed}}
    apart = {name for name, place in places.items() if place < share} if len(keyed) > 1 else set()
    if share > 0 and len(places) > 1:
        by_place = sorted(places, key=lambda name: (places[name], name))
        apart = (apart | {by_place[0]}) - {by_place[-1]}
    train = [record for name, record in keyed if name not in apart]
    return Split(train, [record for name, record in keyed if name in apart])


def evenly(items: Sequence[Item], count: int) -> list[Item]:
    """At most so many items from all over the sequence, in their order: its beginning may be of one kind."""
    count = min(count, len(items))
    return [items[place * len(items) // count] for place in range(count)]


def document_key(document: Document) -> str:
    return _plain(document.text)


def dialogue_key(dialogue: Dialogue) -> str:
    return _said(dialogue.prompt)


def pair_key(pair: Pair) -> str:
    """The prompt; where there is none, both texts in an order that does not tell which was preferred."""
    return _said(pair.prompt) or "\n".join(sorted((_plain(pair.chosen), _plain(pair.rejected))))


def _said(messages: tuple[Message, ...]) -> str:
    return "\n".join(f"{message.role}: {_plain(message.content)}" for message in messages)


def _plain(text: str) -> str:
    """Texts that differ in case or spacing only are one text."""
    return " ".join(text.casefold().split())


def place_of(key: str) -> float:
    """Evenly spread over [0, 1), the same on every machine."""
    digest = blake2b(key.encode("utf-8", "surrogatepass"), digest_size=6).digest()  # 48 bits: exact in a float
    return int.from_bytes(digest, "big") / 2**48


def _checked(share: float) -> float:
    if not 0 <= share < 1:
        raise ConfigError(f"share = {share}: the held-out share must be at least 0 and below 1; try 0.05")
    return share
