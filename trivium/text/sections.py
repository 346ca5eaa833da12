"""Long texts are cut into sections at the borders of paragraphs. Streams in, streams out: nothing is held whole.

Where to cut is told by what follows, not by how much came before: two copies of a book of which one has a preface
fall into step after a few sections, and are then seen to repeat each other.
"""

from collections.abc import Iterable, Iterator
from zlib import crc32

BORDERS = ("\n\n", "\n", ". ", " ")  # the best one first
SLACK = 1.5  # a text this many times longer than a section is left whole
READ_ON = 64  # characters after a border say how good it is


def sections(pieces: Iterable[str], *, size: int) -> Iterator[str]:
    """A text that comes in pieces, as sections of about `size` characters and never more than SLACK times that.

    Only the line breaks around a border are lost, and sections of nothing but blanks.
    """
    waiting: list[str] = []
    length = 0
    for piece in pieces:
        waiting.append(piece)
        length += len(piece)
        if length > SLACK * size:
            text = "".join(waiting)
            at = 0
            while len(text) - at > SLACK * size:
                border = _border(text, at + size // 2, at + size)
                yield from _worth(text[at:border])
                at = border
            waiting, length = [text[at:]], len(text) - at
    yield from _worth("".join(waiting))


def _worth(section: str) -> list[str]:
    return [section.strip("\n")] if section.strip() else []


def _border(text: str, low: int, high: int) -> int:
    """The one of the best kind whose next characters have the least checksum."""
    reach = min(READ_ON, high - low)
    for mark in BORDERS:
        found = [at + len(mark) for at in _places(text, mark, low, high)]
        if found:
            return min(found, key=lambda at: crc32(text[at : at + reach].encode("utf-8", "surrogatepass")))
    return high


def _places(text: str, mark: str, low: int, high: int) -> Iterator[int]:
    at = text.find(mark, low, high)
    while at >= 0:
        yield at
        at = text.find(mark, at + 1, high)
