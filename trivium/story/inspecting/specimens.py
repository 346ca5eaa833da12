"""A few documents, packed rows, dialogues and pairs, token by token, as the model will see them."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from trivium.config import Recipe
from trivium.phases import pretrain
from trivium.phases.align.reward import read_answer
from trivium.records import Dialogue, Document, Message, Pair
from trivium.story.inspecting.data import Data, Rows
from trivium.story.inspecting.found import Section, Specimen
from trivium.story.inspecting.numbers import fit_all
from trivium.story.stages import encode_whole
from trivium.text import blanks
from trivium.text.dialogue import Fitted, Rendered
from trivium.text.packing import PackedRows, Row
from trivium.text.spans import spans
from trivium.text.tokenizer import Tokenizer
from trivium.wording import counted

FIRST_ROWS = 30  # among which we look for the one with the most documents
FIRST_DIALOGUES = 2000  # among which we look for one that has to be cut
MOST_TOKENS = 1500  # of one specimen


def sections_of(data: Data, rows: Rows, tokenizer: Tokenizer, recipe: Recipe, count: int) -> list[Section]:
    """What the phases are shown, in their order.

    count  how many of each
    """
    loss = "every answer and its end" if recipe.instruct.loss_on == "all" else "the last answer and its end"
    return [
        Section(
            "documents",
            "Documents",
            "phase I: the next token, everywhere",
            list(document_specimens(data.documents.train[:count], tokenizer, recipe)),
        ),
        Section(
            "blanks",
            "Fill in the blank",
            f"{recipe.pretrain.blanks:.0%} of the documents, in each epoch others, are cut like this one",
            list(_blank(data.documents.train, tokenizer, recipe)) if recipe.pretrain.blanks else [],
            "None is cut: pretrain.blanks = 0, or no document is long enough.",
        ),
        Section(
            "packed",
            "Packed rows",
            "what lies in a row side by side: none of them sees another, and each counts its positions from 0",
            list(_rows(rows, tokenizer)),
        ),
        Section(
            "dialogues",
            "Dialogues",
            f"phase II: {loss} are learned, the rest is read",
            list(_dialogues(data.dialogues.train, tokenizer, recipe, count)),
        ),
        Section(
            "pairs",
            "Pairs",
            "phase III: each answer's reward is read at its last token",
            list(pair_specimens(data.pairs.train[:count], tokenizer, recipe)),
            "None yet: phase III asks for votes on the model's own answers.",
        ),
    ]


def specimen(title: str, seen: Rendered, tokenizer: Tokenizer, *, told: str = "") -> Specimen:
    size = f"{counted(len(seen.ids), 'token')}, {int(seen.supervised.sum()):,} with loss"
    ids, learned = seen.ids[:MOST_TOKENS].tolist(), seen.supervised[:MOST_TOKENS].tolist()
    shown = list(spans(ids, learned, tokenizer))
    return Specimen(title, f"{size}{told and f'; {told}'}", shown, len(seen.ids) - len(shown))


def all_but_first(ids: NDArray[np.int32]) -> Rendered:
    """A document: every token is to be predicted from those before it, which the first has not."""
    return Rendered(ids, np.arange(len(ids)) > 0)


def document_specimens(records: Sequence[Document], tokenizer: Tokenizer, recipe: Recipe) -> Iterator[Specimen]:
    length = recipe.model.context_length
    for document, ids in zip(records, encode_whole(tokenizer, records), strict=True):
        told = f"longer than {length}: cut into pieces" if len(ids) > length else ""
        yield specimen(document.source, all_but_first(ids), tokenizer, told=told)


def _blank(records: Sequence[Document], tokenizer: Tokenizer, recipe: Recipe) -> Iterator[Specimen]:
    """The first document that can be cut, cut."""
    generator = np.random.Generator(np.random.Philox(np.random.SeedSequence((recipe.seed, 11))))
    for document in records:
        piece = encode_whole(tokenizer, [document])[0][: recipe.model.context_length - pretrain.SLACK]
        ids = blanks.cut(piece, tokenizer, generator, max_length=recipe.model.context_length)
        if tokenizer.blank_prefix in ids:
            yield specimen(document.source, all_but_first(ids), tokenizer, told="what is missing comes last")
            return


def _rows(rows: Rows, tokenizer: Tokenizer) -> Iterator[Specimen]:
    for name, phase, packed in (("document", "I", rows.documents), ("dialogue", "II", rows.dialogues)):
        if packed is not None:
            yield row_specimen(f"a row of phase {phase}", fullest(packed), name, tokenizer)


def fullest(rows: PackedRows) -> Row:
    """Of the first rows the one with the most documents."""
    first = [rows.row(i) for i in range(min(FIRST_ROWS, rows.rows_per_epoch(0)))]
    return max(first, key=lambda row: int(row.documents.max()))


def targets_of(row: Row) -> NDArray[np.bool_]:
    """(T,) which tokens of a row are to be predicted; a row says it of the token before."""
    return np.concatenate([[False], row.supervised[:-1]])


def row_specimen(title: str, row: Row, noun: str, tokenizer: Tokenizer) -> Specimen:
    """A row as it lies in a batch, but for its padding."""
    held = row.documents >= 0
    count, learned = int(row.documents.max()) + 1, targets_of(row)
    told = f"{counted(count, noun)} in {len(row.tokens):,} positions, {int((~held).sum()):,} of them padding"
    columns = (column[held][:MOST_TOKENS].tolist() for column in (row.tokens, learned, row.documents))
    ids, has_loss, documents = columns
    shown = list(spans(ids, has_loss, tokenizer, documents))
    return Specimen(title, f"{told}; {int(learned.sum()):,} tokens with loss", shown, int(held.sum()) - len(shown))


def _dialogues(records: Sequence[Dialogue], tokenizer: Tokenizer, recipe: Recipe, count: int) -> Iterator[Specimen]:
    """The first ones; and where none of them is too long, the first that is."""
    length = recipe.model.context_length
    fitted = fit_all(records[: max(count, FIRST_DIALOGUES)], tokenizer, recipe)
    chosen = list(range(min(count, len(records))))
    if count and not any(fitted[i].turns_cut for i in chosen):
        chosen += [i for i, each in enumerate(fitted) if each.turns_cut][:1]
    yield from dialogue_specimens([records[i] for i in chosen], [fitted[i] for i in chosen], tokenizer, length)


def dialogue_specimens(
    records: Sequence[Dialogue], fitted: Sequence[Fitted], tokenizer: Tokenizer, length: int
) -> Iterator[Specimen]:
    for dialogue, fits in zip(records, fitted, strict=True):
        kind = f" ({dialogue.kind})" if dialogue.kind else ""
        yield _dialogue(dialogue.source + kind, fits, tokenizer, length)


def _dialogue(title: str, fitted: Fitted, tokenizer: Tokenizer, length: int) -> Specimen:
    if fitted.fault:
        return Specimen(title, f"skipped: {fitted.fault}", [])
    if fitted.rendered is None:
        return Specimen(title, f"left out: nothing of it to learn fits {length:,} tokens", [])
    cut = fitted.turns_cut
    told = f"longer than {length:,}: its {cut} oldest turns are cut" if cut else ""
    return specimen(title, fitted.rendered, tokenizer, told=told)


def pair_specimens(records: Sequence[Pair], tokenizer: Tokenizer, recipe: Recipe) -> Iterator[Specimen]:
    for pair in records:
        names = ("tie", "tie") if pair.tie else ("preferred", "not preferred")
        for name, answer in zip(names, (pair.chosen, pair.rejected), strict=True):
            yield specimen(f"{pair.source}   {name}", scored(pair.prompt, answer, tokenizer, recipe), tokenizer)


def scored(prompt: Sequence[Message], answer: str, tokenizer: Tokenizer, recipe: Recipe) -> Rendered:
    """An answer as the reward model reads it; the loss is on the last token alone."""
    ids = np.concatenate(read_answer(prompt, answer, tokenizer, recipe.model.context_length)).astype(np.int32)
    return Rendered(ids, np.arange(len(ids)) == len(ids) - 1)
