"""The records of a recipe or a run, the vocabulary they are seen in, and the rows they are packed into."""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeVar

from trivium.config import Recipe, Settings, resolve
from trivium.errors import DataError
from trivium.feedback.store import Store
from trivium.phases import instruct, pretrain
from trivium.plan import set_default, set_key
from trivium.records import Dialogue, Document, Pair
from trivium.runs import Run, votes_of
from trivium.shelf import is_done
from trivium.show import Show
from trivium.story.collecting import part
from trivium.story.stages import check_dialogues, check_texts
from trivium.text.adoption import adopt
from trivium.text.corpus import load_dialogues, load_documents, load_pairs
from trivium.text.packing import PackedRows
from trivium.text.schemas import Say
from trivium.text.shards import write as write_shard
from trivium.text.split import Split
from trivium.text.tokenizer import Tokenizer
from trivium.text.tokenizer import train as train_tokenizer

WORLD_RECORDS = 3000  # of each sort that a world writes for us
FILE_MEGABYTES, HUB_MEGABYTES = 64.0, 16.0  # of the text of files, and of each data set of the hub
MOST_RECORDS = 20_000  # of each sort whose tokens are counted
TOKENIZER_CHARACTERS = 2_000_000  # of text are enough for a vocabulary to look at

Record = TypeVar("Record", Document, Dialogue, Pair)


class Data(NamedTuple):
    documents: Split[Document]
    dialogues: Split[Dialogue]
    pairs: Split[Pair]


class Rows(NamedTuple):
    """What phases I and II learn from; None without records."""

    documents: PackedRows | None
    dialogues: PackedRows | None


def limited(settings: Settings) -> Settings:
    """The same settings with a world that writes no more than we look at."""
    recipe = resolve(settings)
    for key, wanted in (("data.stories", recipe.data.stories), ("data.dialogues", recipe.data.dialogues)):
        settings = set_key(settings, key, min(wanted, WORLD_RECORDS))
    return settings


def beginnings(settings: Settings) -> Settings:
    """The same settings with no more text of files and data sets than we look at, unless it was said how much."""
    for key, most in (("data.file_megabytes", FILE_MEGABYTES), ("data.hub_megabytes", HUB_MEGABYTES)):
        settings = set_default(settings, key, most)
    return settings


def load(recipe: Recipe, run: Run | None, *, gathered: Path | None = None) -> Data:
    """What the recipe names; of a run with votes, the pairs that were voted on.

    gathered  where its texts lie if they were gathered already: they are not read again
    """
    show = Show()
    say = show.say
    pairs = load_pairs(recipe.data, say)
    if run:
        with Store.look(votes_of(run, recipe.votes.database)) as store:
            labelled = store.labelled_pairs(include_simulated=recipe.votes.simulated)
        if labelled:
            pairs = Split(*([p.decided() for p in side] for side in part(labelled, recipe.reward.held_out_share)))
    with show.watching() as progress:
        documents = Split(*load_documents(recipe.data, recipe.seed, say, gathered, progress, keep=False))
    return Data(documents, load_dialogues(recipe.data, recipe.seed, say), pairs)


def refusals(data: Data) -> Iterator[str]:
    """What phases I and II would say of data that they cannot use."""
    checks = {"I": partial(check_texts, data.documents), "II": partial(check_dialogues, data.dialogues)}
    for name, check in checks.items():
        try:
            check()
        except DataError as reason:
            yield f"Phase {name} would stop here: {reason}."


def some(records: Sequence[Record]) -> Sequence[Record]:
    """From all over the list, no more than are counted token by token."""
    return records[:: -(-len(records) // MOST_RECORDS) or 1]


def tokenizer_for(run: Run | None, recipe: Recipe, documents: Sequence[Document]) -> tuple[Tokenizer, str]:
    """The run's own, or that of the folder it starts from; else one learned from a part of the texts; and whose."""
    if run and is_done(run.tokenizer):
        return Tokenizer.load(run.tokenizer), "the run's own"
    if recipe.start.folder:
        return adopt(Path(recipe.start.folder)).tokenizer, f"that of {recipe.start.folder}"
    if not documents:
        raise DataError("data.text: there is no document to learn a vocabulary from; give more text")
    texts = (d.text for d in documents[:: -(-sum(len(d.text) for d in documents) // TOKENIZER_CHARACTERS) or 1])
    return train_tokenizer(texts, vocab_size=recipe.model.vocab_size), "learned here from a part of the text"


def pack(data: Data, tokenizer: Tokenizer, recipe: Recipe, folder: Path, say: Say) -> Rows:
    """The rows of phases I and II as they are trained on; `folder` has to stay while they are read."""
    texts = [document.text for document in some(data.documents.train)]
    documents = text_rows(texts, tokenizer, recipe, folder) if texts else None
    asked, length = some(data.dialogues.train), recipe.model.context_length
    if not asked:
        return Rows(documents, None)
    bad_rows = recipe.data.bad_rows
    rows = instruct.dialogue_rows(asked, tokenizer, recipe.instruct, length, recipe.seed, say, bad_rows=bad_rows)
    return Rows(documents, rows)


def text_rows(texts: Sequence[str], tokenizer: Tokenizer, recipe: Recipe, folder: Path) -> PackedRows:
    return pretrain.text_rows(write_shard(texts, tokenizer, folder, key="inspect"), tokenizer, recipe)
