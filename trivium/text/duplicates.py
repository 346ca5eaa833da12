"""Which documents repeat others, word for word or nearly: groups by MinHash, in bounded memory. No tokens.

Two documents are near when they share enough of their runs of SHINGLE words (Jaccard); it is estimated from signatures,
which lie on disk, and asked only of documents whose signatures agree somewhere (Broder 1997; Leskovec et al., Mining of
Massive Datasets, chapter 3). N documents, P permutations.
"""

from functools import cache
from pathlib import Path
from typing import BinaryIO, Self

import numpy as np
from numpy.typing import NDArray

Words = NDArray[np.uint64]
Numbers = NDArray[np.int64]

SHINGLE = 5  # words
PERMUTATIONS = 128  # the estimate's standard deviation is sqrt(J (1 - J) / 128), 0.035 at a similarity of 0.8
BANDS, ROWS = 25, 5  # of PERMUTATIONS; 1 in 20,000 pairs with a similarity of 0.8 agrees in no band, 1 in 99 with 0.7
BLOCK = 4096  # documents whose bands lie side by side on disk
COMPARED = 2**14  # pairs whose signatures are read at once
UNSPACED = 30  # bytes of a word, on average, beyond which a text is taken for one without spaces, as Chinese is
_SPACE = 32
_PLACES = 64  # letters of a word that are told apart by their place; further ones begin anew


class Signatures:
    """The MinHash signatures of documents, added one by one, in two files of a folder. Close it before `groups`."""

    def __init__(self, folder: Path) -> None:
        self._whole, self._banded = folder / "signatures.bin", folder / "bands.bin"
        self._files: tuple[BinaryIO, BinaryIO] = self._whole.open("wb"), self._banded.open("wb")
        self._waiting: list[NDArray[np.uint32]] = []
        self.count = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        for file in self._files:
            file.close()
        self._whole.unlink(missing_ok=True)
        self._banded.unlink(missing_ok=True)

    def add(self, plain: str) -> None:
        """plain  a text in lower case, its words parted by single spaces"""
        self._waiting.append(signature(plain))
        self.count += 1
        if len(self._waiting) == BLOCK:
            self._write()

    def _write(self) -> None:
        if not self._waiting:
            return
        block = np.full((BLOCK, PERMUTATIONS), 0, dtype=np.uint32)
        block[: len(self._waiting)] = self._waiting
        self._waiting = []
        self._files[0].write(block.tobytes())
        self._files[1].write(bands_of(block).T.tobytes())  # (BANDS, BLOCK)

    def join(self, roots: Numbers, similarity: float) -> None:
        """Join the groups of documents that are near each other.

        roots       (N,) the first document of each one's group; changed in place
        similarity  least share of shingles in common
        """
        self._write()
        for file in self._files:
            file.flush()
        if not self.count:
            return
        whole = np.memmap(self._whole, dtype=np.uint32, mode="r").reshape(-1, PERMUTATIONS)
        bands = np.memmap(self._banded, dtype=np.uint32, mode="r").reshape(-1, BANDS, BLOCK)
        for band in range(BANDS):
            for left, right in _agreeing(bands[:, band].ravel()[: self.count]):
                for first in range(0, len(left), COMPARED):
                    a, b = left[first : first + COMPARED], right[first : first + COMPARED]
                    apart = roots[a] != roots[b]
                    a, b = a[apart], b[apart]
                    near = (whole[a] == whole[b]).mean(axis=1) >= similarity
                    unite(roots, a[near], b[near])


def _agreeing(values: NDArray[np.uint32]) -> list[tuple[Numbers, Numbers]]:
    """Pairs of documents with the same value: each with the first that has it, and with the one before."""
    order = np.argsort(values, kind="stable")
    same = np.flatnonzero(values[order][1:] == values[order][:-1]) + 1
    new = np.ones(len(order), dtype=np.bool_)
    new[same] = False
    first = np.maximum.accumulate(np.where(new, np.arange(len(order)), 0))
    return [(order[first[same]], order[same]), (order[same - 1], order[same])]


def unite(roots: Numbers, left: Numbers, right: Numbers) -> None:
    """Make one group of the groups of left[i] and right[i], for every i. The smallest number is a group's root."""
    while True:
        a, b = roots[left], roots[right]
        if np.array_equal(a, b):
            return
        np.minimum.at(roots, np.maximum(a, b), np.minimum(a, b))
        while not np.array_equal(roots, further := roots[roots]):
            roots[:] = further


def first_alike(keys: NDArray[np.uint64]) -> Numbers:
    """(N,) the first document that has the same key."""
    _, first, which = np.unique(keys, return_index=True, return_inverse=True)
    found: Numbers = first[which]
    return found


def signature(plain: str) -> NDArray[np.uint32]:
    """(P,) the smallest value of each permutation over the text's shingles."""
    from datasketch import MinHash  # here: slow to import

    runs = shingles(plain)
    found = MinHash(PERMUTATIONS, scheme="affine32", permutations=_permutations(), hashfunc=_as_it_is)
    found.update_batch([runs])  # hashed here, all at once
    values: NDArray[np.uint32] = found.hashvalues
    return values


def shingles(plain: str) -> NDArray[np.uint32]:
    """A hash of every run of SHINGLE words; of all words where there are fewer. Of text without spaces, of letters."""
    written = plain.encode("utf-8", "surrogatepass")
    if len(written) > UNSPACED * (1 + plain.count(" ")):
        written = " ".join(plain.replace(" ", "")).encode("utf-8", "surrogatepass")
    data = np.frombuffer(written + b" ", dtype=np.uint8)
    letters, places, mix = _tables()
    ends = np.flatnonzero(data == _SPACE)
    starts = np.concatenate([[0], ends[:-1] + 1])
    place = (np.arange(len(data)) - np.repeat(starts, ends - starts + 1)) % _PLACES
    words: Words = np.add.reduceat(letters[data] * places[place], starts)
    words ^= words >> np.uint64(29)  # a sum of odd multiples alone leaves its low bits weak
    length = min(SHINGLE, len(words))
    count = len(words) - length + 1
    runs: Words = words[:count] * mix[0]
    for nth in range(1, length):
        runs += words[nth : nth + count] * mix[nth]
    return (runs >> np.uint64(32)).astype(np.uint32)


def bands_of(signatures: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """(N, BANDS) a hash of each ROWS values; equal ones may differ in what they stand for, and are compared."""
    rows = signatures[:, : BANDS * ROWS].astype(np.uint64).reshape(-1, BANDS, ROWS)
    mixed: Words = (rows * _tables()[2][:ROWS]).sum(axis=2, dtype=np.uint64)
    return np.right_shift(mixed, 32).astype(np.uint32)


@cache
def _tables() -> tuple[Words, Words, Words]:
    """Random values of the 256 bytes, of places in a word, and of places in a run; the last two odd."""
    draw = np.random.Generator(np.random.Philox(np.random.SeedSequence(1997))).integers
    high = np.iinfo(np.uint64).max
    letters, places, mix = (draw(0, high, size, dtype=np.uint64) for size in (256, _PLACES, max(SHINGLE, ROWS)))
    return letters, places | np.uint64(1), mix | np.uint64(1)


@cache
def _permutations() -> NDArray[np.uint32]:
    from datasketch import MinHash

    found: NDArray[np.uint32] = MinHash(PERMUTATIONS, scheme="affine32").permutations
    return found


def _as_it_is(hashes: NDArray[np.uint32]) -> NDArray[np.uint32]:
    return hashes
