"""Token files on disk, named by what they hold: encoded once, read by offset ever after. No packing, no tensors."""

import hashlib
import json
import math
import time
from array import array
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trivium.errors import DataError
from trivium.publish import publish
from trivium.text.schemas import Progress, Say, quiet, unseen
from trivium.text.split import evenly
from trivium.text.tokenizer import Tokenizer, well_formed

_CHARACTERS_AT_ONCE = 1_000_000  # encoded together: enough to keep all cores busy, little enough for memory


class Shard:
    """Documents as ids, each ending with the end-of-text token. N documents; tokens stay on disk until asked for."""

    def __init__(self, folder: Path) -> None:
        """Open what `write` has written. Raises DataError when a file is missing or does not have its size."""
        try:
            self.meta: dict[str, Any] = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
            self._offsets: NDArray[np.int64] = np.load(folder / "offsets.npy", mmap_mode="r")
            self.byte_lengths: NDArray[np.int64] = np.load(folder / "bytes.npy", mmap_mode="r")  # (N,) UTF-8 bytes
            held = folder / "weights.npy"
            self.weights: NDArray[np.float64] | None = np.load(held) if held.exists() else None  # (N,) None: all 1
            self._tokens = np.memmap(folder / "tokens.bin", dtype=np.dtype(self.meta["dtype"]), mode="r")
        except (OSError, ValueError, KeyError) as error:
            raise DataError(f"{folder}: token files are damaged ({error}); delete the folder and run again") from error
        if len(self._tokens) != self._offsets[-1] or len(self._offsets) != len(self.byte_lengths) + 1:
            raise DataError(f"{folder}: token files do not fit each other; delete the folder and run again")
        self.folder = folder

    def __len__(self) -> int:
        return len(self.byte_lengths)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """(N,) tokens, the end included."""
        return np.diff(self._offsets)

    def document(self, index: int, start: int = 0, stop: int | None = None) -> NDArray[np.int32]:
        """(length,) ids; the last is the end-of-text token. Of a part, 0 <= start <= stop, nothing else is read."""
        first, last = int(self._offsets[index]), int(self._offsets[index + 1])
        end = last if stop is None else min(first + stop, last)
        return np.asarray(self._tokens[min(first + start, end) : end]).astype(np.int32)

    def some(self, tokens: int) -> Iterator[NDArray[np.int32]]:
        """Documents from beginning to end of it, of so many tokens in all, roughly; the last one may be cut."""
        wanted = math.ceil(len(self) * min(1.0, tokens / len(self._tokens)))
        for index in evenly(range(len(self)), wanted):
            yield (document := self.document(index, 0, tokens))
            tokens -= len(document)
            if tokens <= 0:
                return


def write(
    texts: Iterable[str],
    tokenizer: Tokenizer,
    folder: Path,
    *,
    key: str,
    weights: NDArray[np.float64] | None = None,
    size: int | None = None,
    say: Say = quiet,
    progress: Progress = unseen,
) -> Shard:
    """Encode the texts under `folder`, as they come, or open what an earlier call with this key has left there.

    key      names the content with its weights; with a known key no text is read
    weights  (N,) how often each is seen in an epoch
    size     UTF-8 bytes of all texts, where they are known, for `progress`
    raises   DataError when there are no texts
    """
    home = folder / hashlib.sha256(f"{key}\n{tokenizer.fingerprint()}".encode()).hexdigest()[:16]
    if home.is_dir():
        return Shard(home)
    begun = time.monotonic()

    def fill(fresh: Path) -> None:
        _write_files(texts, tokenizer, fresh, key=key, progress=lambda done: progress("encoded", done, size))
        if weights is not None:
            np.save(fresh / "weights.npy", weights)

    publish(home, fill)
    shard = Shard(home)
    megabytes = shard.meta["bytes"] / 1e6
    speed = megabytes / max(1e-3, time.monotonic() - begun)
    say(f"{megabytes:,.1f} MB became {shard.meta['tokens']:,} tokens at {speed:,.1f} MB/s")
    return shard


def _write_files(
    texts: Iterable[str], tokenizer: Tokenizer, folder: Path, *, key: str, progress: Callable[[int], None]
) -> None:
    dtype = np.dtype(np.uint16 if tokenizer.vocab_size < 2**16 else np.uint32)
    lengths, sizes, done = array("q"), array("q"), 0
    digest = hashlib.sha256()
    with (folder / "tokens.bin").open("wb") as file:
        for some in _groups(texts):
            for text, ids in zip(some, tokenizer.encode_documents(some), strict=True):
                file.write(ids.astype(dtype).tobytes())
                data = well_formed(text).encode()
                digest.update(len(data).to_bytes(8, "little") + data)
                lengths.append(len(ids))
                sizes.append(len(data))
                done += len(data)
            progress(done)
    if not lengths:
        raise DataError("documents: there are none; name a source that holds text")
    np.save(folder / "offsets.npy", np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64))
    np.save(folder / "bytes.npy", np.frombuffer(sizes, dtype=np.int64))
    meta = {
        "key": key,
        "dtype": dtype.name,
        "documents": len(lengths),
        "tokens": sum(lengths),
        "bytes": done,
        "tokenizer": tokenizer.fingerprint(),
        "texts": digest.hexdigest()[:16],
    }
    (folder / "meta.json").write_text(json.dumps(meta, indent=2) + "\n", encoding="utf-8")


def _groups(texts: Iterable[str]) -> Iterator[list[str]]:
    some: list[str] = []
    held = 0
    for text in texts:
        some.append(text)
        held += len(text)
        if held >= _CHARACTERS_AT_ONCE:
            yield some
            some, held = [], 0
    if some:
        yield some
