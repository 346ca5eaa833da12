"""The queue of pairs to vote on, filled before anybody asks: by the studio and by `trivium vote` alike.

Which pairs go in is decided in choosing.py. Trains nothing and holds no lock of the run.
"""

import itertools
import threading
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from trivium.config import read_settings, resolve
from trivium.errors import RunError
from trivium.feedback.store import Showing, Store
from trivium.generate.sampling import stream_seed
from trivium.phases.align.scorer import Scorer
from trivium.publish import verify
from trivium.runs import Run
from trivium.story.choosing import (
    Open,
    Prompts,
    Writers,
    answering_model,
    coming_round,
    learning_prompts,
    model_before,
    new_prompts,
    open_judges,
    reward_models,
    write_batch,
)

AHEAD = 12  # pairs that nobody has seen, kept ready
BARREN = 5  # batches in a row without two different answers


class Asker:
    """Keeps unseen pairs in the store, and hands them out. Threads may share it; it writes in a thread of its own."""

    def __init__(self, run: Run, store: Store, open_model: Open, *, seed: int) -> None:
        """seed  of the sides, and of who is asked what"""
        self.run = run
        self.empty = False  # no prompt is left
        self.trouble = ""  # why nothing more can be written
        self._store = store
        self._open = open_model
        self._seed = seed
        self._writers: Writers | None = None
        self._judges: tuple[list[Path], list[Scorer]] = ([], [])
        self._batches = itertools.count()
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="asker")
        self._writing: Future[None] | None = None
        self._lock = threading.Lock()

    @property
    def round(self) -> int:
        return coming_round(self.run)

    def hand_out(self, rater_id: int, count: int, *, round: int | None = None) -> list[Showing]:
        """Up to `count` pairs for this rater, those given before first.

        round  where the caller has looked which one is coming
        """
        return self._store.next_showings(rater_id, round=round or self.round, count=count, seed=self._seed)

    def refill(self, *, round: int | None = None) -> None:
        """Write more in the background where fewer than enough are unseen."""
        with self._lock:
            if self._writing is not None and not self._writing.done():
                return
            if self._store.count_fresh(round or self.round, AHEAD) < AHEAD:
                self._writing = self._pool.submit(self._write)

    def wait(self) -> None:
        """Until what is being written is written."""
        if self._writing is not None:
            self._writing.result()

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)

    def _write(self) -> None:
        """A batch of pairs; several when the first have equal answers only."""
        try:
            for _ in range(BARREN):
                writers = self._current()
                found = write_batch(writers, self._scorers(writers), next(self._batches))
                self.empty = found is None
                if found is None or self._store.enqueue(found):
                    self.trouble = ""
                    return
            raise RunError("the model answers every prompt the same way twice; raise votes.temperature")
        except Exception as reason:  # told to whoever asks for a pair: this thread has nobody to tell
            self.trouble = str(reason)

    def _current(self) -> Writers:
        """Those of the coming round; others as soon as a round, or its reward model, was made."""
        number, source, rewards = coming_round(self.run), answering_model(self.run), reward_models(self.run)
        known = self._writers
        if known is None or (known.round, known.source, known.rewards) != (number, source, rewards):
            recipe = resolve(read_settings(self.run.recipe))
            asked = {pair.prompt for pair in self._store.pairs(number)}
            first = stream_seed(recipe.seed, 12, number) % 2**20
            prompts = Prompts(new_prompts(learning_prompts(recipe), asked, first))
            self._batches = itertools.count(len(asked))  # whoever starts again draws other answers
            before = model_before(self.run, source)
            for folder in (source, *rewards, *([before] if before else [])):
                verify(folder)  # once, and here, where nobody waits
            self._writers = Writers(number, source, before, rewards, recipe, prompts, self._open)
        assert self._writers
        return self._writers

    def _scorers(self, writers: Writers) -> Sequence[Scorer]:
        if self._judges[0] != writers.rewards:
            device = self._open(writers.source).model.embed_tokens.weight.device
            self._judges = (writers.rewards, open_judges(writers.rewards, device))
        return self._judges[1]
