"""Long texts are cut into sections at the borders of paragraphs. Streams in, streams out: nothing is held whole."""

from collections.abc import Iterable, Iterator

BORDERS = ("\n\n", "\n", ". ", " ")  # the best one first
SLACK = 1.5  # a text this many times longer than a section is left whole


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
    for mark in BORDERS:
        found = text.rfind(mark, low, high)
        if found >= 0:
            return found + len(mark)
    return high
