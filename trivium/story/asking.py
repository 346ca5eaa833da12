"""Pairs for people to vote on, written before anybody asks for them: two fresh answers of the newest model.

Some set its answer beside one of the model before it, in the same queue, so that the votes also tell whether a round
made the model better. Trains nothing and holds no lock.
"""

import itertools
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from trivium.config import Recipe, read_settings, resolve
from trivium.errors import RunError
from trivium.evaluate.tasks import reply_to
from trivium.feedback.store import NewPair, NewQueued, Store
from trivium.generate.sampling import Sampling, stream_seed
from trivium.records import Message
from trivium.runs import Run
from trivium.shelf import Opened, is_done, weights_fingerprint
from trivium.story.voting import BARREN, answering_model, coming_round, learning_prompts, new_prompts

AHEAD = 12  # pairs that nobody has seen, kept ready
BATCH = 6  # written at once
RIVALS = 4  # every so many-th prompt is answered by two models


class Writers(NamedTuple):
    """Who answers, and what is asked, until the next round begins."""

    round: int  # whose training will use the votes
    source: Path  # the newest model
    before: Path | None  # the one before it
    recipe: Recipe
    prompts: Iterator[tuple[Message, ...]]


class Asker:
    """Keeps unseen pairs in the store. Threads may share it; it writes in a thread of its own."""

    def __init__(self, run: Run, store: Store, open_model: Callable[[Path], Opened]) -> None:
        self.run = run
        self.empty = False  # no prompt is left
        self.trouble = ""  # why nothing more can be written
        self._store = store
        self._open = open_model
        self._writers: Writers | None = None
        self._batches = itertools.count()
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="asker")
        self._writing: Future[None] | None = None
        self._lock = threading.Lock()

    @property
    def round(self) -> int:
        return coming_round(self.run)

    def want(self, unseen: int) -> None:
        """Write more in the background where fewer than enough are unseen."""
        with self._lock:
            if unseen < AHEAD and (self._writing is None or self._writing.done()):
                self._writing = self._pool.submit(self._write)

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)

    def _write(self) -> None:
        """A batch of pairs; several when the first have equal answers only."""
        try:
            for _ in range(BARREN):
                writers = self._current()
                asked = list(itertools.islice(writers.prompts, BATCH))
                self.empty = not asked
                if not asked or self._store.enqueue(answered(asked, writers, self._open, next(self._batches))):
                    self.trouble = ""
                    return
            raise RunError("the model answers every prompt the same way twice; raise votes.temperature")
        except Exception as reason:  # told to whoever asks for a pair: this thread has nobody to tell
            self.trouble = str(reason)

    def _current(self) -> Writers:
        """Those of the coming round; others as soon as a round was made."""
        number, source = coming_round(self.run), answering_model(self.run)
        if self._writers is None or (self._writers.round, self._writers.source) != (number, source):
            recipe = resolve(read_settings(self.run.recipe))
            known = {pair.prompt for pair in self._store.pairs(number)}
            first = stream_seed(recipe.seed, 12, number) % 2**20
            prompts = new_prompts(learning_prompts(recipe), known, first)
            self._batches = itertools.count(len(known))  # a studio that was started again draws other answers
            self._writers = Writers(number, source, model_before(self.run, source), recipe, prompts)
        return self._writers


def model_before(run: Run, source: Path) -> Path | None:
    """The model that the last round started from; None when there is only instruct."""
    made = [run.instruct, *(round.aligned for round in run.rounds())]
    earlier = [folder for folder in made if folder != source and is_done(folder)]
    return earlier[-1] if source != run.instruct and earlier else None


def answered(
    prompts: Sequence[tuple[Message, ...]], writers: Writers, opened: Callable[[Path], Opened], batch: int
) -> list[NewQueued]:
    """Two different answers to each prompt. Which model's comes first is drawn; where the answers are equal: none."""
    recipe = writers.recipe
    sampling = Sampling(temperature=recipe.votes.temperature, max_new_tokens=recipe.align.max_new_tokens)
    said: dict[tuple[int, int], tuple[str, str]] = {}  # prompt and place → text, fingerprint
    plan: dict[Path, list[tuple[int, int]]] = {}
    for number in range(len(prompts)):
        rival = writers.before if number % RIVALS == RIVALS - 1 else None
        places = (0, 1) if stream_seed(recipe.seed, 13, writers.round, batch, number) & 1 else (1, 0)
        plan.setdefault(writers.source, []).append((number, places[0]))
        plan.setdefault(rival or writers.source, []).append((number, places[1]))
    for folder, slots in plan.items():
        stamp = weights_fingerprint(folder)
        seeds = [stream_seed(recipe.seed, 14, writers.round, batch, 2 * number + place) for number, place in slots]
        replies = reply_to(*opened(folder), [prompts[number] for number, _ in slots], sampling, seeds=seeds)
        said |= {slot: (reply.text, stamp) for slot, reply in zip(slots, replies, strict=True)}
    return [
        NewQueued(
            NewPair(prompt, said[n, 0][0], said[n, 1][0], writers.round, said[n, 0][1], said[n, 1][1]),
            policy="random" if said[n, 0][1] == said[n, 1][1] else "comparison",
        )
        for n, prompt in enumerate(prompts)
        if said[n, 0][0] != said[n, 1][0]
    ]
