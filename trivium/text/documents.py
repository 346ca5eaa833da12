"""Documents on disk: gathered once from wherever they come, each on its side, then read one by one. No tokens.

However large the text, what is kept in memory is a few dozen bytes for each document.
"""

import hashlib
import json
import tempfile
import time
import weakref
from array import array
from collections.abc import Iterable, Iterator, Sequence
from enum import IntEnum
from pathlib import Path
from shutil import rmtree
from typing import BinaryIO, Literal, NamedTuple, overload

import numpy as np
from numpy.typing import NDArray

from trivium.errors import DataError
from trivium.publish import publish
from trivium.records import Document
from trivium.text.duplicates import Numbers, Signatures, first_alike
from trivium.text.schemas import Progress, Say
from trivium.text.split import document_key, place_of
from trivium.wording import counted

Repeats = Literal["near", "exact", "keep"]

MEGABYTE = 1e6


class Side(IntEnum):
    """Where a document belongs, before it is known which others it repeats."""

    LEARN = 0  # to learn from, from a world that repeats nothing it measures on
    MEASURE = 1  # likewise to measure on
    SHARE = 2  # either, as its text decides
    TRAIN = 3  # to learn from, unless it repeats what is measured on
    HELD_OUT = 4  # from a file that the user names to measure on


class Documents(Sequence[Document]):
    """Some of the documents of a folder, read when they are asked for; a slice of them is read no sooner."""

    def __init__(self, folder: "_Folder", numbers: Numbers) -> None:
        self._folder, self._numbers = folder, numbers

    def __len__(self) -> int:
        return len(self._numbers)

    @overload
    def __getitem__(self, index: int) -> Document: ...
    @overload
    def __getitem__(self, index: slice) -> "Documents": ...
    def __getitem__(self, index: int | slice) -> "Document | Documents":
        if isinstance(index, slice):
            return Documents(self._folder, self._numbers[index])
        with self._folder.open() as file:
            return self._folder.read(file, int(self._numbers[index]))

    def __iter__(self) -> Iterator[Document]:
        with self._folder.open() as file:
            for number in self._numbers:
                yield self._folder.read(file, int(number))

    @property
    def size(self) -> int:
        """UTF-8 bytes of all texts."""
        return int(self._folder.sizes[self._numbers].sum())

    @property
    def weights(self) -> NDArray[np.float64] | None:
        """(N,) how often each is seen in an epoch; None: once."""
        return None if self._folder.weights is None else self._folder.weights[self._numbers]

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits that name the texts in their order, and their weights."""
        digest = hashlib.blake2b(self._folder.digests[self._numbers].tobytes(), digest_size=8)
        digest.update(b"" if self.weights is None else self.weights.tobytes())
        return digest.hexdigest()


class Corpus(NamedTuple):
    train: Documents
    held_out: Documents


class _Folder:
    """What `gather` has written, opened."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            # (2N + 1,) where sources and texts begin, by turns
            self._offsets: Numbers = np.load(path / "offsets.npy", mmap_mode="r")
            self.digests: NDArray[np.uint64] = np.load(path / "digests.npy", mmap_mode="r")
            held = path / "weights.npy"
            self.weights: NDArray[np.float64] | None = np.load(held) if held.exists() else None
            self._train, self._held_out = np.load(path / "train.npy"), np.load(path / "held_out.npy")
            whole = (path / "texts.bin").stat().st_size == self._offsets[-1]
        except (OSError, ValueError) as error:
            raise DataError(f"{path}: gathered texts are damaged ({error}); delete the folder and run again") from error
        if not whole or len(self._offsets) != 2 * len(self.digests) + 1:
            raise DataError(f"{path}: gathered texts do not fit each other; delete the folder and run again")

    @property
    def sizes(self) -> Numbers:
        """(N,) UTF-8 bytes of each text."""
        return self._offsets[2::2] - self._offsets[1::2]

    def corpus(self) -> Corpus:
        return Corpus(Documents(self, self._train), Documents(self, self._held_out))

    def open(self) -> BinaryIO:
        return (self.path / "texts.bin").open("rb")

    def read(self, file: BinaryIO, number: int) -> Document:
        start, text, stop = (int(at) for at in self._offsets[2 * number : 2 * number + 3])
        file.seek(start)
        source, said = file.read(text - start), file.read(stop - text)
        weight = 1.0 if self.weights is None else float(self.weights[number])
        return Document(said.decode("utf-8", "surrogatepass"), source.decode("utf-8", "surrogatepass"), weight)


class Rules(NamedTuple):
    """How documents are parted."""

    share: float  # of the documents on Side.SHARE are held out
    repeats: Repeats = "near"  # which are left out
    similarity: float = 0.8  # of near ones


def gather(
    documents: Iterable[tuple[Document, Side]],
    folder: Path | None,
    *,
    key: str,
    rules: Rules,
    say: Say,
    progress: Progress,
    keep: bool = True,
) -> Corpus:
    """Write the documents under `folder`, parted, or open what an earlier call with this key has left there.

    folder   None: a temporary one, which goes when its documents are no longer held
    key      names where they come from; with a known one, and the same rules, none is read
    keep     whether what is not there yet is kept there, and not in a temporary folder
    """
    home = folder / hashlib.sha256(f"{key}\n{rules}".encode()).hexdigest()[:16] if folder else None
    if home is None or not (keep or home.is_dir()):
        away = Path(tempfile.mkdtemp(prefix="trivium-"))
        try:
            _write(documents, away, rules=rules, say=say, progress=progress)
            opened = _Folder(away)
        except BaseException:
            rmtree(away, ignore_errors=True)
            raise
        weakref.finalize(opened, rmtree, away, ignore_errors=True)
        return opened.corpus()
    if not home.is_dir():
        publish(home, lambda fresh: _write(documents, fresh, rules=rules, say=say, progress=progress))
    return _Folder(home).corpus()


class _Heard:
    """What is remembered of each document while they stream by."""

    def __init__(self) -> None:
        self.offsets = array("q", [0])
        self.digests, self.keys = array("Q"), array("Q")
        self.places, self.weights = array("d"), array("d")
        self.sides = array("B")

    def add(self, document: Document, side: Side, source: bytes, text: bytes, key: str) -> None:
        end = self.offsets[-1] + len(source)
        self.offsets.extend((end, end + len(text)))
        self.digests.append(_digest(text))
        self.keys.append(_digest(key.encode("utf-8", "surrogatepass")))
        self.places.append(place_of(key))
        self.weights.append(document.weight)
        self.sides.append(side)


def _digest(data: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little")


def _write(
    documents: Iterable[tuple[Document, Side]], folder: Path, *, rules: Rules, say: Say, progress: Progress
) -> None:
    heard, compared, begun = _Heard(), array("q"), time.monotonic()
    with (folder / "texts.bin").open("wb") as file, Signatures(folder) as signatures:
        for document, side in documents:
            source, text = (each.encode("utf-8", "surrogatepass") for each in (document.source, document.text))
            file.write(source + text)
            plain = document_key(document)
            heard.add(document, side, source, text, plain)
            if side >= Side.SHARE:
                compared.append(len(heard.sides) - 1)
                signatures.add(plain)
            progress("read", heard.offsets[-1], None)
        seconds = time.monotonic() - begun
        parted = part(heard, np.frombuffer(compared, dtype=np.int64), signatures, rules)
    for name in ("offsets", "digests"):
        numbers = getattr(heard, name)
        np.save(folder / f"{name}.npy", np.frombuffer(numbers, dtype=np.dtype(numbers.typecode)))
    weights = np.frombuffer(heard.weights)
    if (weights != 1).any():
        np.save(folder / "weights.npy", weights)
    np.save(folder / "train.npy", parted.train)
    np.save(folder / "held_out.npy", parted.held_out)
    (folder / "meta.json").write_text(json.dumps(parted.counts(), indent=2) + "\n", encoding="utf-8")
    if len(compared):
        speed = heard.offsets[-1] / MEGABYTE / max(seconds, 1e-3)
        say(f"{parted.told(len(compared), rules)}; {heard.offsets[-1] / MEGABYTE:,.1f} MB read at {speed:,.1f} MB/s")


class Parted(NamedTuple):
    """Numbers of the documents on each side, and how many were left out."""

    train: Numbers
    held_out: Numbers
    exact: int
    near: int
    crossing: int  # left out of what is learned from, for the user measures on the same

    def counts(self) -> dict[str, int]:
        return {"train": len(self.train), "held_out": len(self.held_out)} | {
            name: getattr(self, name) for name in ("exact", "near", "crossing")
        }

    def told(self, compared: int, rules: Rules) -> str:
        nearly = f"nearly ({rules.similarity:.0%})" if self.exact else f"repeat others nearly ({rules.similarity:.0%})"
        found = [(self.exact, "repeat others word for word"), (self.near, nearly)]
        found += [(self.crossing, "repeat what is held out")]
        said = ", ".join(f"{count:,} {what}" for count, what in found if count)
        if not said:
            return f"none of {counted(compared, 'document')} is left out"
        return f"of {compared:,} documents {said} and are left out"


def part(heard: _Heard, compared: Numbers, signatures: Signatures, rules: Rules) -> Parted:
    """Each document to its side, so that no two that repeat each other, exactly or nearly, come to different ones.

    compared  (C,) the documents whose signatures there are, in order
    """
    sides, places = np.frombuffer(heard.sides, dtype=np.uint8), np.frombuffer(heard.places)
    own = sides[compared]
    first = first_alike(np.frombuffer(heard.keys, dtype=np.uint64)[compared])
    roots = first.copy()
    signatures.join(roots, rules.similarity)
    measured = np.zeros(len(compared), dtype=np.bool_)  # of each root, whether the user measures on one of its group
    measured[roots[own == Side.HELD_OUT]] = True
    crossing = measured[roots] & (own != Side.HELD_OUT)
    exact, either = _again(first, ~crossing), _again(roots, ~crossing)
    left = {"near": either, "exact": exact, "keep": np.zeros_like(exact)}[rules.repeats]
    held = (own == Side.HELD_OUT) | ((own == Side.SHARE) & _held_out(roots, places[compared], rules.share))
    stays = ~crossing & ~left
    learn, measure = (np.flatnonzero(sides == side) for side in (Side.LEARN, Side.MEASURE))
    return Parted(
        np.sort(np.concatenate([learn, compared[stays & ~held]])),
        np.sort(np.concatenate([measure, compared[stays & held]])),
        int((left & exact).sum()),
        int((left & ~exact).sum()),
        int(crossing.sum()),
    )


def _again(groups: Numbers, among: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which of some documents come after another one of them in their group."""
    numbers = np.arange(len(groups))
    first = np.full(len(groups), len(groups))
    np.minimum.at(first, groups[among], numbers[among])
    again: NDArray[np.bool_] = among & (first[groups] < numbers)
    return again


def _held_out(roots: Numbers, places: NDArray[np.float64], share: float) -> NDArray[np.bool_]:
    """Which documents are kept from learning, group by group; of two groups or more, neither side gets all."""
    groups = np.unique(roots)
    out = places < share
    if share > 0 and len(groups) > 1:
        by_place = groups[np.argsort(places[groups], kind="stable")]
        out[by_place[[0, -1]]] = True, False
    held: NDArray[np.bool_] = out[roots]
    return held
