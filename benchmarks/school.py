"""Teaching one way after the other, for equal times on equal text: what learn.py, choices.py and dial.py compare.

How long a way's step takes is measured before anything is learned, in turns with the other ways: the first way's is
that of its best turn, and the others' follow from what they take beside it in the same turn, by the median. A way then
gets as many steps as fit into its time. So what is compared is not disturbed by what else the machine does meanwhile.
Compiling and measuring are not counted, for anyone. What notes know is not done again.
"""

import copy
import hashlib
import math
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.notes import Notes
from trivium import plan
from trivium.compute import Compute
from trivium.config import DataConfig, Recipe, Settings, merge, resolve
from trivium.distributed.world import alone
from trivium.evaluate.bits import document_batches, surprise
from trivium.model.transformer import Transformer
from trivium.phases import pretrain
from trivium.story.opening import would_compile
from trivium.text import shards
from trivium.text.corpus import has_world, load_documents
from trivium.text.documents import Documents
from trivium.text.tokenizer import Tokenizer
from trivium.text.tokenizer import train as train_tokenizer
from trivium.train.loop import train
from trivium.train.phase import Phase

CONTEXT = 256
TOKENIZER_CHARACTERS = 5_000_000
TURNS, TIMED = 9, 3  # turns of measuring, and steps in each
BEGINNINGS = 3  # of fresh weights are timed
Restyle = Callable[[Phase[Any]], Phase[Any]]  # puts other choices in place of ours


class Most(NamedTuple):
    """Characters of a corpus, at most."""

    to_learn: int = 100_000_000
    to_measure: int = 200_000


WHOLE, QUICK = Most(), Most(1_500_000, 40_000)


class Corpus(NamedTuple):
    name: str
    texts: list[str]
    held_out: list[str]
    world: bool = False  # whether it is TinyWorld's

    @property
    def fingerprint(self) -> str:
        digest = hashlib.sha256()
        for text in (*self.texts, "", *self.held_out):
            digest.update(text.encode() + b"\0")
        return digest.hexdigest()[:16]

    @property
    def law(self) -> str:
        """Which of the dial's it obeys."""
        return "tinyworld" if self.world else "text"

    @property
    def unique(self) -> float:
        """Characters there are, of which TinyWorld has as many as are needed."""
        return math.inf if self.world else sum(map(len, self.texts))

    def shape(self, layers: int, width: int) -> Settings:
        """A rung of the dial's ladder, for this text."""
        heads, words = plan.fitting_heads(width, 1), plan.vocabulary(width, self.law, self.unique)
        sizes = {"num_layers": layers, "width": width, "mlp_width": 3 * width, "vocab_size": words}
        return {"model": {**sizes, "num_heads": heads, "num_kv_heads": heads, "context_length": CONTEXT}}

    def ours(self, layers: int, width: int) -> Settings:
        """A rung, whose steps take as long as ours do."""
        shape = self.shape(layers, width)
        return merge(shape, {"pretrain": {"candidates": plan.choose_candidates(resolve(shape).model)}})


class Way(NamedTuple):
    """Some choices to compare."""

    name: str  # says what restyle does, for the notes
    settings: Settings
    restyle: Restyle = lambda phase: phase


class Learned(NamedTuple):
    way: str
    minutes: float
    steps: int
    seed: int
    bits: float  # per held-out byte


def compiles(minutes: float = math.inf) -> bool:
    """Whether the dial would compile steps here, in a run of so many minutes."""
    return would_compile({}, minutes, resolve({}))


def corpus(name: str, data: DataConfig, folder: Path | None = None, *, most: Most = WHOLE) -> Corpus:
    """folder  where gathered texts are kept; None: nowhere"""
    documents = load_documents(data, 0, lambda line: None, folder)
    learned, measured = some_of(documents.train, most.to_learn), some_of(documents.held_out, most.to_measure)
    return Corpus(name, learned, measured, has_world(data, "text"))


def some_of(documents: Documents, characters: int) -> list[str]:
    """Texts from beginning to end of them, so many characters in all, or a little less."""
    found = list[str]()
    for document in documents[:: max(1, documents.size // characters)]:
        found.append(document.text[:characters])
        characters -= len(found[-1])
        if characters <= 0:
            break
    return found


def model_of(phase: Phase[Any]) -> Transformer:
    model = phase.model
    assert isinstance(model, Transformer)
    return model


class School:
    """Teaches on one corpus."""

    def __init__(
        self, corpus: Corpus, compute: Compute, folder: Path, *, turns: int = TURNS, notes: Notes | None = None
    ) -> None:
        # beyond it shapes run uncompiled, and a sweep has more than the usual 8. Not before the folder for what is
        # compiled is known: else it is one that all programs share, and that one which is killed may leave broken
        torch._dynamo.config.recompile_limit = 64
        self.corpus, self.compute, self.folder, self.turns = corpus, compute, folder, turns
        self.notes = notes or Notes(None)
        self.where = {
            "corpus": [corpus.name, corpus.fingerprint],
            "compute": [str(compute.device), str(compute.dtype), compute.compiled, torch.get_num_threads()],
        }
        self.objective = pretrain.next_token_objective(compute)
        self._books: dict[int, tuple[Tokenizer, shards.Shard, list[NDArray[np.int32]]]] = {}

    def paces(self, ways: Sequence[Way]) -> dict[str, float]:
        """Seconds of a step of each way."""
        timed = [[way.name, way.settings] for way in ways]
        found: dict[str, float] = self.notes.find(
            lambda: self._paces(ways), paces=timed, turns=self.turns, **self.where
        )
        return found

    def learn(self, way: Way, minutes: float, pace: float, *, seed: int = 0) -> Learned:
        """What as many steps as fit come to, after the weights' own beginning."""
        steps = int((60 * minutes - self.beginning(way)) / pace)
        return self.teach(way, max(10, steps), seed=seed)._replace(minutes=minutes)

    def beginning(self, way: Way) -> float:
        """Seconds that fresh weights take."""
        recipe = resolve(way.settings)
        what = [recipe.model.model_dump(mode="json"), recipe.pretrain.bigrams]
        found: float = self.notes.find(lambda: self._beginning(recipe), beginning=what, **self.where)
        return found

    def teach(self, way: Way, steps: int, *, seed: int = 0) -> Learned:
        """What so many steps come to."""
        found = self.notes.find(
            lambda: self._teach(way, steps, seed), way=[way.name, way.settings], steps=steps, seed=seed, **self.where
        )
        return Learned(*found)

    def model(self, way: Way, steps: int, *, seed: int = 0) -> Transformer:
        """Fresh weights, after so many steps."""
        pretraining = {
            "steps": steps,
            "echo_steps": plan.choose_echoes(steps, world=self.corpus.world),
            "warmup_steps": plan.choose_warmup("pretrain", steps),
        }
        chosen = way._replace(settings=merge({"pretrain": pretraining}, way.settings))
        phase = self._phase(chosen, seed=seed)
        for _ in train(phase, alone(), steps=range(steps)):
            pass
        return model_of(phase)

    def bits(self, model: Transformer) -> float:
        """Held-out bits per byte."""
        tokenizer, _, held_out = self._book(model.config.vocab_size)
        batches = document_batches(held_out, tokenizer, row_length=model.config.context_length)
        plain = Compute(self.compute.device, torch.float32, False)
        return surprise(copy.deepcopy(model), batches, tokenizer, plain).bits_per_byte

    def tokenizer(self, vocab_size: int) -> Tokenizer:
        return self._book(vocab_size)[0]

    def bytes_per_token(self, vocab_size: int) -> float:
        """Of the text to learn from."""
        _, shard, _ = self._book(vocab_size)
        return sum(len(text.encode()) for text in self.corpus.texts) / int(shard.lengths.sum())

    def _paces(self, ways: Sequence[Way]) -> dict[str, float]:
        drawn: Settings = {"pretrain": {"bigrams": False}}  # from where they begin, steps take as long
        phases = {way.name: self._phase(way._replace(settings=merge(way.settings, drawn)), seed=0) for way in ways}
        for phase in phases.values():  # compiles
            self._time(phase, 2)
        turns = [{name: self._time(phase, TIMED) for name, phase in phases.items()} for _ in range(self.turns)]
        first = ways[0].name
        beside = {name: statistics.median(turn[name] / turn[first] for turn in turns) for name in phases}
        return {name: min(turn[first] for turn in turns) * ratio for name, ratio in beside.items()}

    def _teach(self, way: Way, steps: int, seed: int) -> Learned:
        begun = time.monotonic()
        model = self.model(way, steps, seed=seed)
        return Learned(way.name, (time.monotonic() - begun) / 60, steps, seed, self.bits(model))

    def _phase(self, way: Way, *, seed: int) -> Phase[Any]:
        recipe = resolve(merge({"seed": seed}, way.settings))
        tokenizer, shard, _ = self._book(recipe.model.vocab_size)
        model = pretrain.fresh(recipe, shard, self.compute, alone())
        return way.restyle(pretrain.build(recipe, model, tokenizer, shard, [], self.objective, self.compute, alone()))

    def _beginning(self, recipe: Recipe) -> float:
        _, shard, _ = self._book(recipe.model.vocab_size)
        times = [time.monotonic()]
        for _ in range(BEGINNINGS):
            pretrain.fresh(recipe, shard, self.compute, alone())
            times.append(time.monotonic())
        return min(np.diff(times).tolist())

    def _time(self, phase: Phase[Any], steps: int) -> float:
        """The median step, of the last ones of a phase, which are like most of them."""
        last, times = phase.settings.steps, [time.monotonic()]
        for _ in train(phase, alone(), steps=range(last - steps, last)):
            times.append(time.monotonic())
        return statistics.median(np.diff(times).tolist())

    def _book(self, vocab_size: int) -> tuple[Tokenizer, shards.Shard, list[NDArray[np.int32]]]:
        """The corpus in a vocabulary of so many tokens."""
        if vocab_size not in self._books:
            texts = self.corpus.texts
            stride = max(1, sum(map(len, texts)) // TOKENIZER_CHARACTERS)
            tokenizer = train_tokenizer(texts[::stride], vocab_size=vocab_size)
            shard = shards.write(texts, tokenizer, self.folder, key=self.corpus.name)
            self._books[vocab_size] = tokenizer, shard, tokenizer.encode_documents(self.corpus.held_out)
        return self._books[vocab_size]
