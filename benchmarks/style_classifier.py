"""Which of the three small-talk voices a reply is written in: friendly, formal or witty.

The voices are Microsoft's personality-chat replies: friendly is what sft_chitchat answers, formal what
pref_chitchat_style prefers, witty what it rejects. A reply that is literally one of a voice's own belongs to
that voice; any other is judged by multinomial logistic regression on hashed n-grams of characters and words, and on
how long and how loud the reply is.
It does not ask whether a reply answers its prompt or is English at all: nonsense, too, is given a voice.
"""

import argparse
import gzip
import json
import math
import sys
import unicodedata
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from trivium.errors import ConfigError, DataError, TriviumError

VOICES = ("friendly", "formal", "witty")
FRIENDLY_FILES = ("sft_chitchat/train.jsonl.gz", "sft_chitchat/valid.jsonl.gz")
STYLE_FILES = ("pref_chitchat_style/train.jsonl.gz", "pref_chitchat_style/valid.jsonl.gz")
NEW_INTENTS_FILE = "pref_chitchat_style/valid_new_intents.jsonl.gz"

CHARACTER_NGRAMS = range(2, 6)
WORD_NGRAMS = range(1, 3)
BUCKETS = 1 << 16
LONGEST = 18  # words; longer replies count as this long
QUICK_FOLDS = 2
PENALTY = 0.3  # of half the squared weights, beside the summed nats of all replies


class Reply(NamedTuple):
    """One distinct reply of a voice."""

    text: str
    voice: str
    intents: frozenset[str]
    held_out: bool  # it answers an intent of the file of new intents


class Verdict(NamedTuple):
    label: str
    probabilities: dict[str, float]  # by voice, summing to 1


def read_replies(folder: Path | str) -> list[Reply]:
    """The distinct replies of all three voices, sorted: by voice, then text.

    folder  holds sft_chitchat and pref_chitchat_style
    raises  DataError when a file is missing or a row has another schema
    """
    folder = Path(folder)
    new_intents = {intent for _, _, intent in _spoken(folder / NEW_INTENTS_FILE)}
    intents: dict[tuple[str, str], set[str]] = defaultdict(set)
    for name in (*FRIENDLY_FILES, *STYLE_FILES, NEW_INTENTS_FILE):
        for voice, text, intent in _spoken(folder / name):
            intents[voice, plain(text)].add(intent)
    if missing := set(VOICES) - {voice for voice, _ in intents}:
        raise DataError(f"{folder}: no reply is {' or '.join(sorted(missing))}; every voice needs some")
    return [Reply(text, voice, frozenset(of), bool(of & new_intents)) for (voice, text), of in sorted(intents.items())]


def plain(reply: str) -> str:
    """One spelling of what looks the same: spaces, curly quotes, ellipses. Case and marks stay: they make the voice."""
    straight = reply.translate({0x2018: "'", 0x2019: "'", 0x201C: '"', 0x201D: '"'})
    return " ".join(unicodedata.normalize("NFKC", straight).split())


def features_of(reply: str) -> Iterator[str]:
    """The reply's character n-grams, with marks where it ends; its word n-grams, in lower case; its length and noise.

    The few of the last kind come three times, to be heard among the many of the first.
    """
    framed = f"\x02{reply}\x03"
    for n in CHARACTER_NGRAMS:
        yield from (framed[i : i + n] for i in range(len(framed) - n + 1))
    words = reply.lower().split()
    for n in WORD_NGRAMS:
        yield from ("word:" + " ".join(words[i : i + n]) for i in range(len(words) - n + 1))
    sentences = min(sum(character in ".!?" for character in reply), 3)
    yield from (f"length:{min(len(words), LONGEST) // 3}", f"loud:{'!' in reply}", f"sentences:{sentences}") * 3


class Features(NamedTuple):
    """Hashed counts of some replies, in the layout of torch.nn.functional.embedding_bag."""

    buckets: Tensor  # (entries,) int64
    weights: Tensor  # (entries,) float64: log(1 + count), each reply's divided by their length
    offsets: Tensor  # (replies,) where each reply's entries begin

    @classmethod
    def of(cls, replies: Iterable[str]) -> "Features":
        buckets: list[int] = []
        weights: list[float] = []
        offsets: list[int] = []
        for reply in replies:
            # crc32 and not hash(): the latter changes from process to process
            counts = Counter(zlib.crc32(name.encode()) % BUCKETS for name in features_of(plain(reply)))
            length = math.hypot(*map(math.log1p, counts.values()))
            offsets.append(len(buckets))
            buckets += sorted(counts)
            weights += [math.log1p(counts[bucket]) / length for bucket in sorted(counts)]
        return cls(torch.tensor(buckets, dtype=torch.int64), torch.tensor(weights, dtype=torch.float64),
                   torch.tensor(offsets, dtype=torch.int64))  # fmt: skip

    def logits(self, table: Tensor, bias: Tensor) -> Tensor:
        bags = F.embedding_bag(self.buckets, table, self.offsets, mode="sum", per_sample_weights=self.weights)
        return bags + bias  # (replies, voices)


class LogisticRegression:
    """Multinomial, with a squared penalty; starts at zero, so the same replies give the same weights."""

    def __init__(self, replies: Sequence[Reply]) -> None:
        self._table = torch.zeros(BUCKETS, len(VOICES), dtype=torch.float64, requires_grad=True)
        self._bias = torch.zeros(len(VOICES), dtype=torch.float64, requires_grad=True)
        features = Features.of(reply.text for reply in replies)
        voices = torch.tensor([VOICES.index(reply.voice) for reply in replies])
        optimizer = torch.optim.LBFGS(
            [self._table, self._bias], max_iter=200, history_size=10, tolerance_grad=1e-6, line_search_fn="strong_wolfe"
        )

        def loss() -> Tensor:
            optimizer.zero_grad()
            nats = F.cross_entropy(features.logits(self._table, self._bias), voices, reduction="sum")
            total = nats + PENALTY / 2 * self._table.square().sum()
            total.backward()
            return total

        optimizer.step(loss)

    @torch.no_grad()
    def probabilities(self, replies: Sequence[str]) -> Tensor:
        """(replies, voices) float64, rows summing to 1."""
        if not replies:
            return torch.zeros(0, len(VOICES), dtype=torch.float64)
        return Features.of(replies).logits(self._table, self._bias).softmax(-1)


class StyleClassifier:
    """The exact lookup over all known replies, and for the rest the regression, trained on all of them as well.

    As an instrument it should know every reply there is. Friendly answers the new intents in its training file, formal
    and witty do not, so training on those files alone would call what resembles a new intent's reply friendly.
    `accuracy_report` says what it is worth on replies that it does not know.
    """

    def __init__(self, replies: Sequence[Reply]) -> None:
        self._regression = LogisticRegression(replies)
        self._voices: dict[str, set[str]] = defaultdict(set)
        for reply in replies:
            self._voices[plain(reply.text)].add(reply.voice)

    @classmethod
    def fit(cls, folder: Path | str) -> "StyleClassifier":
        """From the folder that holds sft_chitchat and pref_chitchat_style."""
        return cls(read_replies(folder))

    def voices_of(self, reply: str) -> frozenset[str]:
        """The voices that literally own this reply: none when it is new."""
        return frozenset(self._voices.get(plain(reply), ()))

    def classify(self, replies: list[str]) -> list[Verdict]:
        """A label and the probability of every voice for each reply; a known reply's go to its owners alone."""
        verdicts = []
        for reply, row in zip(replies, self._regression.probabilities(replies).tolist(), strict=True):
            owners = self.voices_of(reply) or VOICES
            weight = {voice: p if voice in owners else 0.0 for voice, p in zip(VOICES, row, strict=True)}
            total = sum(weight.values())
            probabilities = {voice: w / total for voice, w in weight.items()}
            verdicts.append(Verdict(max(VOICES, key=probabilities.__getitem__), probabilities))
        return verdicts


def seen_in_training(replies: Sequence[Reply]) -> list[Reply]:
    """Those whose text no held-out reply shares, whatever its voice: a test must not meet its own sentences."""
    held_out = {reply.text for reply in replies if reply.held_out}
    return [reply for reply in replies if reply.text not in held_out]


def accuracy_report(folder: Path | str, *, folds: int = 10) -> dict[str, Any]:
    """How far the regression, without the lookup, can be trusted.

    folds    by intent: all voices of an intent are held out together
    returns  replies   distinct ones by voice
             shared    how many of them two voices have in common, as written and in lower case without marks
             new_intents, cross_validation, near_copies   see `judged`; the last are known replies less a word
    raises   DataError when a file is missing or a row has another schema
    """
    if folds < 2:
        raise ConfigError(f"folds = {folds}: must be at least 2; 10 is usual")
    replies = read_replies(folder)
    held_out = [reply for reply in replies if reply.held_out]
    crossed = cross_validated(replies, folds)
    damaged = near_copies(replies)
    return {
        "replies": {voice: sum(reply.voice == voice for reply in replies) for voice in VOICES},
        "shared": shared(replies),
        "new_intents": judged(held_out, predicted(seen_in_training(replies), held_out)),
        "cross_validation": {
            "folds": folds,
            **judged([reply for reply, _ in crossed], [label for _, label in crossed]),
        },
        "near_copies": judged(damaged, predicted(replies, damaged)),
    }


def near_copies(replies: Sequence[Reply]) -> list[Reply]:
    """The replies of three words or more without their middle word, unless that is a known reply again."""
    known = {reply.text for reply in replies}
    split = [(reply, reply.text.split()) for reply in replies]
    damaged = [
        reply._replace(text=" ".join(w[: len(w) // 2] + w[len(w) // 2 + 1 :])) for reply, w in split if len(w) > 2
    ]
    return [reply for reply in damaged if reply.text not in known]


def cross_validated(replies: Sequence[Reply], folds: int) -> list[tuple[Reply, str]]:
    """Each reply and the label that a regression gave it which had seen none of its intents."""
    intents = sorted({intent for reply in replies for intent in reply.intents}, key=lambda i: zlib.crc32(i.encode()))
    found = []
    for fold in range(folds):
        mine = set(intents[fold::folds])
        split = [reply._replace(held_out=bool(reply.intents & mine)) for reply in replies]
        test = [reply for reply in replies if min(reply.intents) in mine]  # once, also with intents in two folds
        found += list(zip(test, predicted(seen_in_training(split), test), strict=True))
    return found


def predicted(train: Sequence[Reply], test: Sequence[Reply]) -> list[str]:
    rows = LogisticRegression(train).probabilities([reply.text for reply in test])
    return [VOICES[i] for i in rows.argmax(-1).tolist()]


def judged(replies: Sequence[Reply], labels: Sequence[str]) -> dict[str, Any]:
    """Counts of right labels.

    returns  replies, accuracy, interval (95 %, Wilson), per_voice (recall), confusion[true voice][label]
    """
    confusion = {voice: dict.fromkeys(VOICES, 0) for voice in VOICES}
    for reply, label in zip(replies, labels, strict=True):
        confusion[reply.voice][label] += 1
    right = sum(confusion[voice][voice] for voice in VOICES)
    recall = {voice: row[voice] / max(sum(row.values()), 1) for voice, row in confusion.items()}
    return {
        "replies": len(replies),
        "accuracy": right / max(len(replies), 1),
        "interval": wilson(right, len(replies)),
        "per_voice": recall,
        "confusion": confusion,
    }


def wilson(right: int, of: int) -> tuple[float, float]:
    """The 95 % score interval of a share; Wilson 1927."""
    if not of:
        return 0.0, 1.0
    z, share = 1.96, right / of
    middle = (share + z * z / (2 * of)) / (1 + z * z / of)
    half = z / (1 + z * z / of) * math.sqrt(share * (1 - share) / of + z * z / (4 * of * of))
    return max(0.0, middle - half), min(1.0, middle + half)


def shared(replies: Sequence[Reply]) -> dict[str, dict[str, int]]:
    found = {}
    for spelling, spelled in (("as_written", str), ("letters_only", _letters)):
        texts = {voice: {spelled(reply.text) for reply in replies if reply.voice == voice} for voice in VOICES}
        pairs = ((one, other) for i, one in enumerate(VOICES) for other in VOICES[i + 1 :])
        found[spelling] = {f"{one}+{other}": len(texts[one] & texts[other]) for one, other in pairs}
    return found


def _letters(text: str) -> str:
    return "".join(character for character in text.lower() if character.isalnum() or character == " ")


def _spoken(path: Path) -> Iterator[tuple[str, str, str]]:
    """Voice, reply and intent of every answer in a file."""
    try:
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                yield from _voiced(line, f"{path}:{number}")
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; give the folder that holds sft_chitchat") from None
    except (gzip.BadGzipFile, EOFError, UnicodeDecodeError) as fault:
        raise DataError(f"{path}: {fault}; must be whole, gzipped and UTF-8; fetch it again") from None


def _voiced(line: str, where: str) -> list[tuple[str, str, str]]:
    try:
        row = json.loads(line)
        if "messages" in row:
            return [("friendly", row["messages"][-1]["content"], row["intent"])]
        return [("formal", row["chosen"], row["intent"]), ("witty", row["rejected"], row["intent"])]
    except (ValueError, KeyError, IndexError, TypeError) as fault:
        raise DataError(f"{where}: {fault!r}; a row has an intent, and messages or chosen and rejected") from None


def shown(report: dict[str, Any]) -> str:
    lines = ["judged              replies   accuracy   95 % interval    " + "   ".join(f"{v:>8}" for v in VOICES)]
    for name in ("new_intents", "cross_validation", "near_copies"):
        part = report[name]
        low, high = part["interval"]
        recalls = "   ".join(f"{part['per_voice'][voice]:8.3f}" for voice in VOICES)
        interval = f"{low:.3f} to {high:.3f}"
        lines.append(f"{name:<18}  {part['replies']:7d}   {part['accuracy']:8.3f}   {interval:<16} {recalls}")
    lines += ["", "cross_validation    " + "   ".join(f"as {voice:>8}" for voice in VOICES)]
    for voice, row in report["cross_validation"]["confusion"].items():
        lines.append(f"{voice:<18}  " + "   ".join(f"{row[label]:11d}" for label in VOICES))
    lines += ["", "distinct replies    " + "   ".join(f"{voice} {n}" for voice, n in report["replies"].items())]
    for spelling, pairs in report["shared"].items():
        lines.append(f"shared {spelling:<12} " + "   ".join(f"{pair} {n}" for pair, n in pairs.items()))
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="How well the voice of an unseen reply can be told.")
    parser.add_argument("folder", type=Path, help="holds sft_chitchat and pref_chitchat_style")
    parser.add_argument("--folds", type=int, default=10, help="of the cross-validation; default: %(default)s")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_FOLDS} folds")
    parser.add_argument("--json", action="store_true", help="one JSON object in place of the table")
    chosen = parser.parse_args(arguments)
    try:
        report = accuracy_report(chosen.folder, folds=QUICK_FOLDS if chosen.quick else chosen.folds)
    except TriviumError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 2
    print(json.dumps(report) if chosen.json else shown(report))
    return 0


if __name__ == "__main__":
    sys.exit(main())
