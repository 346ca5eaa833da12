"""What the models saw: the run's documents, dialogues and pairs as tokens, found by words. As `trivium inspect`."""

import threading
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from trivium.config import Recipe, read_settings, resolve
from trivium.feedback.store import Store
from trivium.records import Dialogue, Document, Pair
from trivium.runs import Run
from trivium.story import inspecting
from trivium.story.stages import encode_whole
from trivium.text.dialogue import Rendered
from trivium.text.tokenizer import Tokenizer

Sort = Literal["documents", "dialogues", "pairs"]
MOST_TOKENS = 600  # of one record
PAGE = 8  # records


class Seen(NamedTuple):
    """A record as the model sees it."""

    title: str
    rendered: Rendered


class Data:
    """The run's data, read at the first question and kept. Threads may share it."""

    def __init__(self, run: Run, store: Store) -> None:
        self.run = run
        self._store = store
        self._kept: tuple[Recipe, inspecting.Data, Tokenizer] | None = None
        self._lock = threading.Lock()

    def find(self, sort: Sort, words: str, page: int) -> dict[str, Any]:
        """Records that have all the words, a page of them as tokens.

        page  0 is the first
        """
        with self._lock:
            if self._kept is None:
                recipe = resolve(inspecting.limited(read_settings(self.run.recipe)))
                data = inspecting.load(recipe, None)
                tokenizer, _ = inspecting.tokenizer_for(self.run, recipe, [text.text for text in data.documents.train])
                self._kept = recipe, data, tokenizer
            recipe, data, tokenizer = self._kept
        wanted = words.lower().split()

        def page_of(records: Sequence[Any], text: Callable[[Any], str]) -> tuple[int, list[Any]]:
            found = [one for one in records if all(word in text(one).lower() for word in wanted)] if wanted else records
            return len(found), list(found[PAGE * page : PAGE * (page + 1)])

        if sort == "documents":
            total, documents = page_of(data.documents.train, lambda document: document.text)
            seen = see_documents(documents, tokenizer)
        elif sort == "dialogues":
            total, dialogues = page_of(data.dialogues.train, dialogue_text)
            seen = see_dialogues(dialogues, tokenizer, recipe)
        else:
            total, pairs = page_of(self._pairs(recipe) or data.pairs.train, pair_text)
            seen = see_pairs(pairs, tokenizer, recipe)
        return {"total": total, "page": page, "of": PAGE, "records": [as_tokens(one, tokenizer) for one in seen]}

    def _pairs(self, recipe: Recipe) -> list[Pair]:
        """What was voted on, by majority."""
        voted = self._store.labelled_pairs(include_simulated=recipe.votes.simulated)
        return [pair.decided() for pair in voted]


def dialogue_text(dialogue: Dialogue) -> str:
    return "\n".join([dialogue.kind, *(message.content for message in dialogue.messages)])


def pair_text(pair: Pair) -> str:
    return "\n".join([*(message.content for message in pair.prompt), pair.chosen, pair.rejected])


def see_documents(documents: Sequence[Document], tokenizer: Tokenizer) -> list[Seen]:
    ids = encode_whole(tokenizer, documents)
    return [Seen(one.source, inspecting.all_but_first(own)) for one, own in zip(documents, ids, strict=True)]


def see_dialogues(dialogues: Sequence[Dialogue], tokenizer: Tokenizer, recipe: Recipe) -> list[Seen]:
    nothing = Rendered(np.zeros(0, np.int32), np.zeros(0, np.bool_))
    seen = []
    for dialogue, (rendered, cut) in zip(dialogues, inspecting.fit_all(dialogues, tokenizer, recipe), strict=True):
        title = dialogue.source + (f" · {dialogue.kind.replace('_', ' ')}" if dialogue.kind else "")
        if rendered is None:
            title += " · left out: too long"
        elif cut:
            title += f" · {cut} oldest turns cut"
        seen.append(Seen(title, rendered or nothing))
    return seen


def see_pairs(pairs: Sequence[Pair], tokenizer: Tokenizer, recipe: Recipe) -> list[Seen]:
    seen = []
    for pair in pairs:
        for name, answer in (("preferred", pair.chosen), ("not preferred", pair.rejected)):
            title = f"{pair.source} · {'tie' if pair.tie else name}"
            seen.append(Seen(title, inspecting.scored(pair.prompt, answer, tokenizer, recipe)))
    return seen


def as_tokens(seen: Seen, tokenizer: Tokenizer) -> dict[str, Any]:
    """The record for a script.

    returns  {"title", "told", "tokens": [text, kind]}; kind is r for read, l for learned; upper case: a control token
    """
    ids, learned = seen.rendered.ids[:MOST_TOKENS].tolist(), seen.rendered.supervised[:MOST_TOKENS].tolist()
    tokens = []
    for id, has_loss in zip(ids, learned, strict=True):
        kind = "l" if has_loss else "r"
        tokens.append([inspecting.visible(id, tokenizer), kind if tokenizer.token_bytes(id) else kind.upper()])
    count, lost = len(seen.rendered.ids), int(seen.rendered.supervised.sum())
    more = f", the first {MOST_TOKENS} shown" if count > MOST_TOKENS else ""
    return {"title": seen.title, "told": f"{count:,} tokens, {lost:,} learned{more}", "tokens": tokens}
