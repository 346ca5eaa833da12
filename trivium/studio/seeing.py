"""What the models saw: the run's documents, dialogues and pairs as tokens, found by words. As `trivium inspect`."""

import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

from trivium.config import Recipe, read_settings, resolve
from trivium.feedback.store import Store
from trivium.records import Dialogue, Pair
from trivium.runs import Run
from trivium.story.inspecting.data import Data as Records
from trivium.story.inspecting.data import limited, load, tokenizer_for
from trivium.story.inspecting.found import Specimen
from trivium.story.inspecting.numbers import fit_all
from trivium.story.inspecting.specimens import dialogue_specimens, document_specimens, pair_specimens
from trivium.text.tokenizer import Tokenizer

Sort = Literal["documents", "dialogues", "pairs"]
MOST_TOKENS = 600  # of one record
PAGE = 8  # records


class Data:
    """The run's data, read at the first question and kept. Threads may share it."""

    def __init__(self, run: Run, store: Store) -> None:
        self.run = run
        self._store = store
        self._kept: tuple[Recipe, Records, Tokenizer] | None = None
        self._lock = threading.Lock()

    def find(self, sort: Sort, words: str, page: int) -> dict[str, Any]:
        """Records that have all the words, a page of them as tokens.

        page  0 is the first
        """
        with self._lock:
            if self._kept is None:
                recipe = resolve(limited(read_settings(self.run.recipe)))
                data = load(recipe, None, gathered=self.run.cache / "texts")
                tokenizer, _ = tokenizer_for(self.run, recipe, data.documents.train)
                self._kept = recipe, data, tokenizer
            recipe, data, tokenizer = self._kept
        wanted = words.lower().split()

        def page_of(records: Sequence[Any], text: Callable[[Any], str]) -> tuple[int, list[Any]]:
            found = [one for one in records if all(word in text(one).lower() for word in wanted)] if wanted else records
            return len(found), list(found[PAGE * page : PAGE * (page + 1)])

        if sort == "documents":
            total, documents = page_of(data.documents.train, lambda document: document.text)
            seen = document_specimens(documents, tokenizer, recipe)
        elif sort == "dialogues":
            total, dialogues = page_of(data.dialogues.train, dialogue_text)
            seen = see_dialogues(dialogues, tokenizer, recipe)
        else:
            total, pairs = page_of(self._pairs(recipe) or data.pairs.train, pair_text)
            seen = pair_specimens(pairs, tokenizer, recipe)
        return {"total": total, "page": page, "of": PAGE, "records": [as_tokens(one) for one in seen]}

    def _pairs(self, recipe: Recipe) -> list[Pair]:
        """What was voted on, by majority."""
        voted = self._store.labelled_pairs(include_simulated=recipe.votes.simulated)
        return [pair.decided() for pair in voted]


def dialogue_text(dialogue: Dialogue) -> str:
    return "\n".join([dialogue.kind, *(message.content for message in dialogue.messages)])


def pair_text(pair: Pair) -> str:
    return "\n".join([*(message.content for message in pair.prompt), pair.chosen, pair.rejected])


def see_dialogues(dialogues: Sequence[Dialogue], tokenizer: Tokenizer, recipe: Recipe) -> Iterator[Specimen]:
    fitted = fit_all(dialogues, tokenizer, recipe)
    return dialogue_specimens(dialogues, fitted, tokenizer, recipe.model.context_length)


def as_tokens(seen: Specimen) -> dict[str, Any]:
    """The record for a script.

    returns  {"title", "told", "tokens": [text, kind]}; kind is r for read, l for learned; upper case: a control token
    """
    tokens = []
    for span in seen.spans[:MOST_TOKENS]:
        kind = "l" if span.learned else "r"
        tokens.append([span.text, kind.upper() if span.control else kind])
    more = f", the first {MOST_TOKENS} shown" if len(seen.spans) > MOST_TOKENS else ""
    return {"title": seen.title, "told": f"{seen.told}{more}", "tokens": tokens}
