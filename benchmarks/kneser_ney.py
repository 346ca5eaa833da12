"""The baseline a network must beat: an interpolated modified Kneser-Ney model, counted over the same token ids.

`KneserNey` knows only token ids; texts and tokenizers are the business of the command line below it.

With h a context of m-1 tokens, h' the same without its oldest token, and c the adjusted counts of m-grams:

    p_m(w | h) = (c(hw) - D(c(hw))) / c(h.) + gamma(h) p_{m-1}(w | h')          p_0(w) = 1 / vocab_size
    gamma(h)   = (D_1 N_1(h.) + D_2 N_2(h.) + D_3+ N_3+(h.)) / c(h.)            gamma(h) = 1 where h was never continued

c is how often hw occurred at the highest order, and how many different tokens were seen before hw at the lower ones.
Chen and Goodman 1999, "An empirical study of smoothing techniques for language modeling", modified Kneser-Ney.
As in Heafield et al. 2013 (KenLM): a document starts with a marker that is context and never predicted; nothing can
stand before the marker, so m-grams that begin with it keep their plain counts.
"""

import argparse
import json
import math
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from trivium.errors import ConfigError, DataError, TriviumError

Ids = NDArray[np.int64]
Floats = NDArray[np.float64]

FALLBACK_DISCOUNTS = (0.5, 1.0, 1.5)  # KenLM's, for counts of counts that cannot estimate any
QUICK_CHARACTERS = 1_000_000


class Score(NamedTuple):
    """The total log-probability of some documents, in nats (not above 0), and how many tokens it is the sum of."""

    logprob: float
    tokens: int


class Level(NamedTuple):
    """All m-grams of one order. An m-gram's rank is its place here, so a context is one number at every order."""

    keys: Ids  # (ngrams,) ascending: rank of the context among the (m-1)-grams, times the base, plus the token
    share: Floats  # (ngrams,) the discounted count over its context's total
    gamma: Floats  # (contexts,) the mass that is left for the order below


class KneserNey:
    """Interpolated modified Kneser-Ney over token ids 0 to vocab_size-1, each given up to order-1 tokens before it."""

    def __init__(self, order: int = 5, *, vocab_size: int) -> None:
        if order < 1:
            raise ConfigError(f"order = {order}: must be at least 1; 5 is usual")
        if vocab_size < 1:
            raise ConfigError(f"vocab_size = {vocab_size}: must be at least 1; use the tokenizer's size")
        self.order = order
        self.vocab_size = vocab_size
        self._base = vocab_size + 1  # the ids and the marker
        self._levels: list[Level] = []

    def fit(self, documents: Iterable[np.ndarray]) -> "KneserNey":
        """Counts the documents, forgetting any counted before; returns itself.

        documents  arrays (tokens,) of ids; no m-gram crosses from one into the next
        raises     DataError when there is no token, or an id outside the vocabulary
        """
        stream, position = self._stream(documents)
        if not position.any():
            raise DataError("training documents: there is no token in them; give at least one")
        keys = np.arange(self._base)
        raw = np.bincount(stream, minlength=self._base)
        raw[self.vocab_size] = 0  # the marker is never predicted
        rank, num_contexts = stream, 1
        self._levels = []
        for m in range(2, self.order + 1):
            ends = np.flatnonzero(position >= m - 1)
            if not ends.size:  # every document is shorter, so every count so far is of a marker's m-gram and plain
                break
            longer, first, inverse, longer_raw = np.unique(
                rank[ends - 1] * self._base + stream[ends], return_index=True, return_inverse=True, return_counts=True
            )
            before = np.bincount(rank[ends[first]], minlength=len(keys))  # how many different tokens before each
            self._levels.append(self._level(keys, np.where(before > 0, before, raw), num_contexts))
            num_contexts, keys, raw = len(keys), longer, longer_raw
            rank = np.full(len(stream), -1)
            rank[ends] = inverse
        self._levels.append(self._level(keys, raw, num_contexts))
        return self

    def token_logprobs(self, documents: Iterable[np.ndarray], *, given: int = 0) -> Floats:
        """The log-probability of every token, in nats, document after document.

        given   how many tokens at the start of each document are context only: 1 to compare with a network that
                predicts tokens 2 to n, 0 to predict the first one from the start of the document as well
        raises  DataError for an id outside the vocabulary
        """
        if not self._levels:
            raise ConfigError("KneserNey: nothing was counted yet; call fit first")
        if given < 0:
            raise ConfigError(f"given = {given}: must be 0 or more; 1 leaves out each document's first token")
        stream, position = self._stream(documents)
        unigram = self._levels[0]
        probability = unigram.share[stream] + unigram.gamma[0] / self.vocab_size
        rank = stream
        for m, level in enumerate(self._levels[1:], start=2):
            ends = np.flatnonzero(position >= m - 1)
            context = rank[ends - 1]  # -1 when unseen: then the key below is negative and matches nothing
            key = context * self._base + stream[ends]
            place = np.minimum(np.searchsorted(level.keys, key), len(level.keys) - 1)
            seen = level.keys[place] == key
            gamma = np.where(context >= 0, level.gamma[context], 1.0)
            probability[ends] = np.where(seen, level.share[place], 0.0) + gamma * probability[ends]
            rank = np.full(len(stream), -1)
            rank[ends] = np.where(seen, place, -1)
        logprobs: Floats = np.log(probability[position > given])
        return logprobs

    def logprob(self, documents: Iterable[np.ndarray], *, given: int = 0) -> Score:
        """The sum of `token_logprobs` and its number of tokens."""
        logprobs = self.token_logprobs(documents, given=given)
        return Score(float(logprobs.sum()), len(logprobs))

    def _stream(self, documents: Iterable[np.ndarray]) -> tuple[Ids, Ids]:
        """All documents in one row, a marker before each; and each entry's place in its document, the marker's 0."""
        marker = np.array([self.vocab_size])
        pieces, lengths = [np.empty(0, np.int64)], []
        for number, document in enumerate(documents):
            pieces += [marker, _checked(document, number, self.vocab_size)]
            lengths.append(len(document) + 1)
        stream = np.concatenate(pieces)
        starts = np.cumsum(lengths, dtype=np.int64) - lengths
        return stream, np.arange(len(stream)) - np.repeat(starts, lengths)

    def _level(self, keys: Ids, counts: Ids, num_contexts: int) -> Level:
        context = keys // self._base if num_contexts > 1 else np.zeros(len(keys), np.int64)
        discount = np.array([0.0, *discounts(counts)])[np.minimum(counts, 3)]
        total = np.bincount(context, weights=counts, minlength=num_contexts)
        removed = np.bincount(context, weights=discount, minlength=num_contexts)
        continued = total > 0
        gamma = np.divide(removed, total, out=np.ones(num_contexts), where=continued)
        share = np.divide(counts - discount, total[context], out=np.zeros(len(keys)), where=continued[context])
        return Level(keys, share, gamma)


def discounts(counts: np.ndarray) -> tuple[float, float, float]:
    """What is taken from a count of one, of two, and of three or more.

    counts   (ngrams,) adjusted counts of one order; zeros are ignored
    returns  D_1, D_2, D_3+ with 0 < D_k <= k: estimated from n_k, the number of m-grams with count k, by
             Y = n_1 / (n_1 + 2 n_2), D_k = k - (k+1) Y n_{k+1} / n_k; where that fails, the fallback for all three
    Chen and Goodman 1999, after Ney, Essen and Kneser 1994
    """
    n1, n2, n3, n4 = (int((counts == k).sum()) for k in (1, 2, 3, 4))
    if not (n1 and n2 and n3):
        return FALLBACK_DISCOUNTS
    y = n1 / (n1 + 2 * n2)
    estimated = (1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3)
    return estimated if all(discount > 0 for discount in estimated) else FALLBACK_DISCOUNTS


def bits_per_byte(
    train_docs: Iterable[np.ndarray],
    held_out_docs: Iterable[np.ndarray],
    held_out_bytes: int,
    vocab_size: int,
    *,
    order: int = 5,
    given: int = 0,
) -> float:
    """What the held-out documents cost a model of the training documents.

    held_out_bytes  the UTF-8 bytes that the predicted tokens stand for, counted just as for the network
    given           as in `KneserNey.token_logprobs`
    returns         bits per byte, above 0
    """
    if held_out_bytes < 1:
        raise DataError(f"held-out documents: they stand for {held_out_bytes} bytes; give at least one")
    score = KneserNey(order, vocab_size=vocab_size).fit(train_docs).logprob(held_out_docs, given=given)
    return -score.logprob / math.log(2) / held_out_bytes


def _checked(document: np.ndarray, number: int, vocab_size: int) -> Ids:
    ids = np.asarray(document)
    if ids.ndim != 1 or (ids.size and ids.dtype.kind not in "iu"):
        raise DataError(f"document {number}: shape {ids.shape} of {ids.dtype}; must be one row of integer token ids")
    if ids.size and not 0 <= ids.min() <= ids.max() < vocab_size:
        raise DataError(
            f"document {number}: ids from {ids.min()} to {ids.max()}; must lie in 0 to {vocab_size - 1}; "
            "use the tokenizer that the vocabulary size came from"
        )
    return ids.astype(np.int64)


def tokenized(train: Sequence[str], held_out: Sequence[str], vocab_size: int) -> tuple[list[Ids], list[Ids], int]:
    """Both as token ids under a byte-level BPE trained on the first, and the size that its vocabulary reached."""
    import tokenizers  # only the command line needs it

    bpe = tokenizers.ByteLevelBPETokenizer()
    bpe.train_from_iterator(train, vocab_size=vocab_size, show_progress=False)
    encode = [[np.array(e.ids, np.int64) for e in bpe.encode_batch(list(texts))] for texts in (train, held_out)]
    return encode[0], encode[1], bpe.get_vocab_size()


def measure(train: Sequence[str], held_out: Sequence[str], *, vocab_size: int, orders: Sequence[int]) -> dict[str, Any]:
    """Bits per byte of the held-out texts, one row per order."""
    train_ids, held_out_ids, reached = tokenized(train, held_out, vocab_size)
    held_out_bytes = sum(len(text.encode()) for text in held_out)
    rows = []
    for order in orders:
        began = time.perf_counter()
        bits = bits_per_byte(train_ids, held_out_ids, held_out_bytes, reached, order=order)
        rows.append({"order": order, "bits_per_byte": bits, "seconds": time.perf_counter() - began})
    return {
        "vocab_size": reached,
        "train_tokens": sum(map(len, train_ids)),
        "held_out_tokens": sum(map(len, held_out_ids)),
        "held_out_bytes": held_out_bytes,
        "orders": rows,
    }


def read_texts(paths: Sequence[Path]) -> list[str]:
    """Each file as one document."""
    try:
        return [path.read_text(encoding="utf-8") for path in paths]
    except FileNotFoundError as missing:
        raise DataError(f"{missing.filename}: no such file; give a text file") from None
    except UnicodeDecodeError as fault:
        raise DataError(f"a file among {', '.join(map(str, paths))} is not UTF-8: {fault.reason}; convert it") from None


def shown(result: dict[str, Any]) -> str:
    lines = [
        f"vocabulary {result['vocab_size']}   training tokens {result['train_tokens']}   "
        f"held-out tokens {result['held_out_tokens']}, bytes {result['held_out_bytes']}",
        "order   bits/byte   seconds",
    ]
    lines += [f"{row['order']:5d}   {row['bits_per_byte']:9.4f}   {row['seconds']:7.1f}" for row in result["orders"]]
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Bits per byte of an interpolated Kneser-Ney model.")
    parser.add_argument("--train", nargs="+", type=Path, required=True, metavar="FILE", help="text, one document each")
    parser.add_argument("--held-out", nargs="+", type=Path, required=True, metavar="FILE")
    parser.add_argument("--vocab-size", type=int, default=4096, metavar="IDS", help="default: %(default)s")
    parser.add_argument("--order", nargs="+", type=int, default=[5], metavar="TOKENS", help="default: %(default)s")
    parser.add_argument("--quick", action="store_true", help=f"the first {QUICK_CHARACTERS} characters of each file")
    parser.add_argument("--json", action="store_true", help="one JSON object in place of the table")
    chosen = parser.parse_args(arguments)
    try:
        limit = QUICK_CHARACTERS if chosen.quick else None
        train, held_out = ([text[:limit] for text in read_texts(paths)] for paths in (chosen.train, chosen.held_out))
        result = measure(train, held_out, vocab_size=chosen.vocab_size, orders=chosen.order)
    except TriviumError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 2
    print(json.dumps(result) if chosen.json else shown(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
