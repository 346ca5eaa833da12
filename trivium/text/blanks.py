"""Fill in the blank: cut blanks into documents, and put questions with blanks to a model. No model, no loss.

Bavarian et al. 2022, arXiv:2207.14255. A document is cut into prefix P, blank M and suffix S, and written as

    <|fim_prefix|> P <|fim_suffix|> S <|fim_middle|> M <|endoftext|>      prefix first
    <|fim_prefix|> <|fim_suffix|> S <|fim_middle|> P M <|endoftext|>      suffix first

half of the time each; every token is a target. A document longer than a row is cut piece by piece, each piece with its
own blank and end (the paper's context level): cut as a whole, the blank would stand in another row than what surrounds
it. What a vocabulary puts before every text stands before that.

The space before a word belongs to the word, as it does in the vocabulary. "The cat sat" is cut into "The", " cat"
and " sat"; and "The ___ sat" is read as the same prefix "The" and suffix " sat", so that the answer brings its space.
"""

import re
from collections import deque
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from trivium.errors import DataError
from trivium.text.tokenizer import Tokenizer

# Where we depart from the paper: this share of the blanks is short, whole words, as people leave them; the others
# lie between two characters drawn at random.
_SHORT_SHARE = 0.5
_MOST_WORDS = 5
_SUFFIX_FIRST_SHARE = 0.5
MARKS = 3  # around what stands before and after a blank

_WORD = re.compile(r" ?\w+(?:['’-]\w+)*")
_WORD_AMID_SENTENCE = re.compile(r"(?<=\w) [^\W\d_]+(?= \w|[.,;!?])")
_LETTERS_AMID_OTHERS = re.compile(r"(?<=\w)[^\W\d_]{1,2}(?=\w)")
_PART_OF_WORD_FIRST, _PART_OF_WORD_LAST = re.compile(r"^\S*\s+"), re.compile(r"\s+\S*$")
_BLANK = re.compile(r" ?_{3,}")


class Blank(NamedTuple):
    """A text with a word left out: prefix + answer + suffix is the text."""

    prefix: str
    answer: str  # begins with its space, where there are spaces
    suffix: str


def cut(
    ids: NDArray[np.int32], tokenizer: Tokenizer, generator: np.random.Generator, *, max_length: int
) -> NDArray[np.int32]:
    """One document's ids, end of text included or not, with a blank cut into it.

    Cuts between characters and encodes the three parts anew, so that a blank may begin inside a token. When the result
    would be longer than max_length tokens, cuts between tokens instead, which adds exactly three to the document and
    its end; when that is too long as well, returns the ids as they are.
    """
    body = ids[:-1] if len(ids) and ids[-1] == tokenizer.end_of_text else ids
    opens = len(tokenizer.opening) > 0 and tuple(body[: len(tokenizer.opening)].tolist()) == tokenizer.opening
    opening = tokenizer.opening if opens else ()  # the later pieces of a document have none
    body = body[len(opening) :]
    text = tokenizer.decode(body)
    suffix_first = bool(generator.random() < _SUFFIX_FIRST_SHARE)
    points = _short_blank(text, generator) if generator.random() < _SHORT_SHARE else _any_blank(len(text), generator)
    if points is not None and "\ufffd" not in text:  # a piece of a document may begin inside a character
        start, stop = points
        parts = [tokenizer.encode(part) for part in (text[:start], text[start:stop], text[stop:])]
        if len(opening) + sum(map(len, parts)) + 4 <= max_length:
            return _arrange(parts, tokenizer, opening, suffix_first=suffix_first)
    points = _any_blank(len(body), generator)
    if points is None or len(opening) + len(body) + 4 > max_length:
        return ids
    start, stop = points
    parts = [part.tolist() for part in np.split(body, [start, stop])]
    return _arrange(parts, tokenizer, opening, suffix_first=suffix_first)


def _short_blank(text: str, generator: np.random.Generator) -> tuple[int, int] | None:
    """One to five neighbouring words; None when there is no word."""
    words = [match.span() for match in _WORD.finditer(text)]
    if not words:
        return None
    count = int(generator.integers(1, min(_MOST_WORDS, len(words)) + 1))
    first = int(generator.integers(0, len(words) - count + 1))
    return words[first][0], words[first + count - 1][1]


def _any_blank(length: int, generator: np.random.Generator) -> tuple[int, int] | None:
    """Two different points between 0 and length, drawn evenly; None when there are no two."""
    if length == 0:
        return None
    one, other = int(generator.integers(0, length + 1)), int(generator.integers(0, length))
    other += other >= one  # every point but `one`, each as likely
    return min(one, other), max(one, other)


def _arrange(
    parts: Sequence[Sequence[int]], tokenizer: Tokenizer, opening: Sequence[int], *, suffix_first: bool
) -> NDArray[np.int32]:
    prefix, middle, suffix = parts
    first, between, last = tokenizer.blank_prefix, tokenizer.blank_suffix, tokenizer.blank_middle
    if suffix_first:
        ids = [first, between, *suffix, last, *prefix, *middle, tokenizer.end_of_text]
    else:
        ids = [first, *prefix, between, *suffix, last, *middle, tokenizer.end_of_text]
    return np.array([*opening, *ids], dtype=np.int32)


def prompt(prefix: str, suffix: str, tokenizer: Tokenizer, *, room: int | None = None) -> NDArray[np.int32]:
    """(N,) ids after which a model writes the blank, and the end of text when it is done.

    room  at most so many ids: what is far from the blank is left out, on both sides

    Suffix first: there a small model, which goes on with what it read last, begins 83 % of words rightly
    where it begins 7 % in the other order (docs/log.md).
    """
    before, after = tokenizer.encode(prefix), tokenizer.encode(suffix)
    if room is not None:
        left = room - len(tokenizer.opening) - MARKS
        after = after[: max(left // 2, left - len(before))]
        before = before[max(0, len(before) + len(after) - left) :]
    ids = [tokenizer.blank_prefix, tokenizer.blank_suffix, *after, tokenizer.blank_middle, *before]
    return np.array([*tokenizer.opening, *ids], dtype=np.int32)


def parse(text: str) -> list[str]:
    """What stands around the blanks, one more than there are blanks; three or more underscores are a blank.

    One space before a blank is left out: the answer brings it. "The ___ sat on the ___." gives "The", " sat on the"
    and ".". Raises DataError when there is no blank.
    """
    pieces = _BLANK.split(text)
    if len(pieces) == 1:
        raise DataError(f'"{text}": has no blank; write three underscores where words are missing')
    return pieces


def join(pieces: Sequence[str], fillings: Sequence[str]) -> str:
    """The text with its blanks filled: what stands around them, as `parse` gives it, and one filling for each."""
    return "".join(chain.from_iterable(zip(pieces, [*fillings, ""], strict=True)))


def opening_spaces(text: str) -> list[bool]:
    """For each blank that `parse` finds: whether its answer begins with a space."""
    return [match.group().startswith(" ") for match in _BLANK.finditer(text)]


def held_out_blanks(texts: Sequence[str], seed: int, count: int, *, context: int = 400) -> list[Blank]:
    """Words left out of sentences, the same for the same arguments; at most `count`, fewer when the texts hold fewer.

    Every text gives one blank before any gives a second. An answer is one word of letters, right after another word;
    in a script that does not part words by spaces, one or two letters amid others.
    context  characters; the most that a prefix or a suffix has, cut to whole words
    """
    kinds = (_WORD_AMID_SENTENCE, _LETTERS_AMID_OTHERS)
    words, letters = (sum(bool(kind.search(text)) for text in texts) for kind in kinds)
    kind = _WORD_AMID_SENTENCE if 2 * words >= letters else _LETTERS_AMID_OTHERS
    order = _generator(seed, len(texts)).permutation(len(texts))
    waiting = deque(_shuffled_blanks(texts[i], kind, _generator(seed, i), context=context) for i in order.tolist())
    blanks: list[Blank] = []
    while waiting and len(blanks) < count:
        source = waiting.popleft()
        blank = next(source, None)
        if blank is not None:
            blanks.append(blank)
            waiting.append(source)
    return blanks


def _generator(seed: int, item: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(np.random.SeedSequence((seed, item))))


def _shuffled_blanks(
    text: str, kind: re.Pattern[str], generator: np.random.Generator, *, context: int
) -> Iterator[Blank]:
    words = [match.span() for match in kind.finditer(text)]
    for i in generator.permutation(len(words)).tolist():
        start, stop = words[i]
        prefix, suffix = text[max(0, start - context) : start], text[stop : stop + context]
        if start > context:
            prefix = _PART_OF_WORD_FIRST.sub("", prefix)
        if stop + context < len(text):
            suffix = _PART_OF_WORD_LAST.sub("", suffix)
        yield Blank(prefix, text[start:stop], suffix)
