"""What the model will see: records as tokens, which of them are learned, and what the data is like. Trains no model."""

import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from itertools import groupby
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.rule import Rule
from rich.text import Text

from trivium.config import Recipe, Settings, merge, read_settings, resolve
from trivium.errors import DataError
from trivium.feedback.store import Store
from trivium.phases import instruct, pretrain
from trivium.phases.align.reward import read_answer
from trivium.plan import set_key
from trivium.records import Dialogue, Document, Message, Pair
from trivium.runs import Run, read_run, votes_of
from trivium.shelf import is_done
from trivium.show import Show, console_for
from trivium.story.rounds import part
from trivium.story.stages import encode_whole
from trivium.story.start import with_start
from trivium.text import blanks
from trivium.text import dialogue as dialogues
from trivium.text.adoption import adopt
from trivium.text.corpus import TINYWORLD, load_dialogues, load_documents, load_pairs
from trivium.text.dialogue import Fitted, Rendered
from trivium.text.packing import PackedRows, Row, chunks, plan_rows
from trivium.text.schemas import quiet
from trivium.text.shards import write as write_shard
from trivium.text.split import Split, dialogue_key, document_key, pair_key
from trivium.text.tokenizer import Tokenizer
from trivium.text.tokenizer import train as train_tokenizer

WORLD_RECORDS = 3000  # of each sort that a world writes for us
MOST_RECORDS = 20_000  # of each sort whose tokens are counted
TOKENIZER_CHARACTERS = 2_000_000  # of text are enough for a vocabulary to look at
FIRST_ROWS = 30  # among which we look for one with several documents
SHOWN_TOKENS = 220  # of one record


class Palette(NamedTuple):
    """Styles; of two shades, neighbouring tokens take one each."""

    read: tuple[str, str]
    learned: tuple[str, str]
    control_read: str
    control_learned: str


# foreground and background are both said, so that it can be read on any terminal
MANY_COLOURS = Palette(
    ("grey66 on grey15", "grey66 on grey23"),
    ("bold pale_green1 on grey15", "bold pale_green1 on grey23"),
    "medium_purple1 on grey15",
    "bold orchid1 on grey15",
)
SIXTEEN_COLOURS = Palette(("bright_black", "white"), ("bold green", "bold bright_green"), "magenta", "bold magenta")

Record = TypeVar("Record", Document, Dialogue, Pair)


class Data(NamedTuple):
    documents: Split[Document]
    dialogues: Split[Dialogue]
    pairs: Split[Pair]


class Sizes(NamedTuple):
    """Of one sort of records, as the model sees them. N records."""

    lengths: list[int]  # (N,) tokens
    learned: int  # tokens with loss, over all records
    cut: int  # records that context_length shortens, or cuts into pieces
    left_out: int  # records of which nothing fits


def inspect_recipe(target: Path | None, *, flags: Settings, count: int) -> None:
    """Show a few documents, dialogues and pairs as tokens, and count all of them.

    target  a recipe file or a run folder; None: the defaults, TinyWorld
    raises  DataError when no token would be learned from; whatever reading the data raises
    """
    run = read_run(target) if target is not None and target.is_dir() else None
    told = read_settings(run.recipe if run else target) if target is not None else {}
    settings = limited(merge(told, flags))
    recipe = resolve(settings if run else with_start(settings))
    console = console_for()
    data = load(recipe, run)
    tokenizer, whose = tokenizer_for(run, recipe, [document.text for document in data.documents.train])
    _tell_legend(console, tokenizer, whose=whose)
    show_documents(console, data.documents.train[:count], tokenizer)
    show_blank(console, data.documents.train, tokenizer, recipe)
    show_row(console, data, tokenizer, recipe)
    show_dialogues(console, data.dialogues.train[:count], tokenizer, recipe)
    show_pairs(console, data.pairs.train[:count], tokenizer, recipe)
    show_statistics(console, data, tokenizer, recipe)


def limited(settings: Settings) -> Settings:
    """The same settings with a world that writes no more than we look at."""
    recipe = resolve(settings)
    for key, wanted in (("data.stories", recipe.data.stories), ("data.dialogues", recipe.data.dialogues)):
        settings = set_key(settings, key, min(wanted, WORLD_RECORDS))
    return settings


def load(recipe: Recipe, run: Run | None) -> Data:
    """What the recipe names; of a run with votes, the pairs that were voted on."""
    pairs = load_pairs(recipe.data, quiet)
    if run:
        with Store.look(votes_of(run, recipe.votes.database)) as store:
            labelled = store.labelled_pairs(include_simulated=recipe.votes.simulated)
        if labelled:
            pairs = Split(*([p.decided() for p in side] for side in part(labelled, recipe.reward.held_out_share)))
    documents = load_documents(recipe.data, recipe.seed, quiet)
    return Data(documents, load_dialogues(recipe.data, recipe.seed, quiet), pairs)


def some(records: Sequence[Record]) -> Sequence[Record]:
    """From all over the list, no more than are counted token by token."""
    return records[:: -(-len(records) // MOST_RECORDS) or 1]


def tokenizer_for(run: Run | None, recipe: Recipe, texts: Sequence[str]) -> tuple[Tokenizer, str]:
    """The run's own, or that of the folder it starts from; else one learned from a part of the texts; and whose."""
    if run and is_done(run.tokenizer):
        return Tokenizer.load(run.tokenizer), "the run's own"
    if recipe.start.folder:
        return adopt(Path(recipe.start.folder)).tokenizer, f"that of {recipe.start.folder}"
    if not texts:
        raise DataError("data.text: there is no document to learn a vocabulary from; give more text")
    stride = -(-sum(map(len, texts)) // TOKENIZER_CHARACTERS) or 1
    return train_tokenizer(texts[::stride], vocab_size=recipe.model.vocab_size), "learned here from a part of the text"


def visible(id: int, tokenizer: Tokenizer) -> str:
    """What a token looks like: control tokens by name, bytes that are no character by number, nothing invisible."""
    data = tokenizer.token_bytes(id)
    if not data:
        return tokenizer.decode([id], keep_special=True)
    text = data.decode("utf-8", "backslashreplace").replace("\n", "↵\n").replace("\t", "→\t")
    return "".join(c if c.isprintable() or c in "\n\t" else f"\\x{ord(c):02x}" for c in text)


def palette_of(console: Console) -> Palette | None:
    """None where there are no colours."""
    if console.color_system is None:
        return None
    return SIXTEEN_COLOURS if console.color_system == "standard" else MANY_COLOURS


def in_colour(ids: Sequence[int], learned: Sequence[bool], tokenizer: Tokenizer, palette: Palette) -> Text:
    """The tokens side by side; those with loss stand out, and neighbours differ in shade.

    ids      (N,)
    learned  (N,) whether the token has loss
    """
    text = Text()
    for place, (id, has_loss) in enumerate(zip(ids, learned, strict=True)):
        if tokenizer.token_bytes(id):
            style = (palette.learned if has_loss else palette.read)[place % 2]
        else:
            style = palette.control_learned if has_loss else palette.control_read
        text.append(visible(id, tokenizer), style)
    return text


def in_marks(ids: Sequence[int], learned: Sequence[bool], tokenizer: Tokenizer) -> Text:
    """The same without colours: borders are bars, and tokens with loss stand in «»."""
    pieces = []
    for has_loss, run in groupby(zip(ids, learned, strict=True), key=lambda token: token[1]):
        inside = "|".join(visible(id, tokenizer) for id, _ in run)
        pieces.append(f"«{inside}»" if has_loss else inside)
    return Text("".join(pieces))


def _print_tokens(console: Console, title: str, seen: Rendered, tokenizer: Tokenizer) -> None:
    told = f"   {len(seen.ids):,} tokens, {int(seen.supervised.sum()):,} with loss"
    console.print(Text.assemble((title, "bold"), (told, "dim")))
    ids, learned = seen.ids[:SHOWN_TOKENS].tolist(), seen.supervised[:SHOWN_TOKENS].tolist()
    palette = palette_of(console)
    text = in_colour(ids, learned, tokenizer, palette) if palette else in_marks(ids, learned, tokenizer)
    if len(seen.ids) > SHOWN_TOKENS:
        text.append(f" … {len(seen.ids) - SHOWN_TOKENS:,} more tokens", "dim italic")
    if text.plain.endswith("\n"):
        text.right_crop(1)
    console.print(text, "", sep="\n", soft_wrap=palette is None)


def _tell_legend(console: Console, tokenizer: Tokenizer, *, whose: str) -> None:
    console.print(Text(f"A vocabulary of {tokenizer.vocab_size:,} tokens, {whose}.", style="dim"))
    palette = palette_of(console)
    if palette is None:
        console.print("Tokens are parted by |; those in «» are learned, they have loss.")
        return
    legend = Text()
    for name, shades in (("read only", palette.read), ("learned: has loss", palette.learned)):
        legend.append(f" {name} ", shades[0]).append(f" {name} ", shades[1]).append("   ")
    legend.append(" control ", palette.control_read).append(" control, learned ", palette.control_learned)
    console.print(legend)


def _heading(console: Console, title: str, told: str) -> None:
    console.print("", Rule(Text.assemble((title, "bold"), f"   {told}"), align="left", style="dim"), "", sep="\n")


def all_but_first(ids: NDArray[np.int32]) -> Rendered:
    """A document: every token is to be predicted from those before it, which the first has not."""
    return Rendered(ids, np.arange(len(ids)) > 0)


def show_documents(console: Console, records: Sequence[Document], tokenizer: Tokenizer) -> None:
    _heading(console, "Documents", "phase I: the next token, everywhere")
    for document, ids in zip(records, encode_whole(tokenizer, records), strict=True):
        _print_tokens(console, document.source, all_but_first(ids), tokenizer)


def show_blank(console: Console, records: Sequence[Document], tokenizer: Tokenizer, recipe: Recipe) -> None:
    """The first document that can be cut, cut."""
    told = f"{recipe.pretrain.blanks:.0%} of the documents, in each epoch others, are cut like this one"
    _heading(console, "Fill in the blank", told)
    generator = np.random.Generator(np.random.Philox(np.random.SeedSequence((recipe.seed, 11))))
    for document in records:
        piece = encode_whole(tokenizer, [document])[0][: recipe.model.context_length - pretrain.SLACK]
        ids = blanks.cut(piece, tokenizer, generator, max_length=recipe.model.context_length)
        if tokenizer.blank_prefix in ids:
            _print_tokens(console, document.source, all_but_first(ids), tokenizer)
            return


def packed_row(data: Data, tokenizer: Tokenizer, recipe: Recipe) -> tuple[str, Row]:
    """A row that holds several documents, else one of several dialogues, from among the first of each phase."""
    with tempfile.TemporaryDirectory() as folder:
        texts = [document.text for document in some(data.documents.train)]
        shard = write_shard(texts, tokenizer, Path(folder), key="inspect")
        row = _fullest(pretrain.text_rows(shard, tokenizer, recipe))
    if row.documents.max() > 0 or not data.dialogues.train:
        return "document", row
    records = some(data.dialogues.train)
    length = recipe.model.context_length
    return "dialogue", _fullest(instruct.dialogue_rows(records, tokenizer, recipe.instruct, length, recipe.seed, quiet))


def _fullest(rows: PackedRows) -> Row:
    first = [rows.row(i) for i in range(min(FIRST_ROWS, rows.rows_per_epoch(0)))]
    return max(first, key=lambda row: int(row.documents.max()))


def pieces_of(row: Row) -> list[Rendered]:
    """The documents of a row, each with the tokens that are targets within the row; padding is left out."""
    is_target = np.concatenate([[False], row.supervised[:-1]])  # a row says it of the token before
    return [
        Rendered(row.tokens[row.documents == number].astype(np.int32), is_target[row.documents == number])
        for number in range(int(row.documents.max()) + 1)
    ]


def show_row(console: Console, data: Data, tokenizer: Tokenizer, recipe: Recipe) -> None:
    name, row = packed_row(data, tokenizer, recipe)
    pieces = pieces_of(row)
    padding = int((row.documents < 0).sum())
    _heading(console, "A packed row", f"what lies in it side by side: no {name} sees another")
    console.print(Text(f"{len(row.tokens)} tokens, {padding} of them padding; {name}s: {len(pieces)}\n"))
    for number, piece in enumerate(pieces, start=1):
        _print_tokens(console, f"{name} {number} of the row", piece, tokenizer)


def show_dialogues(console: Console, records: Sequence[Dialogue], tokenizer: Tokenizer, recipe: Recipe) -> None:
    _heading(console, "Dialogues", "phase II: the assistant's answer and its end")
    for dialogue, (rendered, cut) in zip(records, fit_all(records, tokenizer, recipe), strict=True):
        if rendered is None:
            length = recipe.model.context_length
            console.print(Text(f"{dialogue.source}   left out: longer than {length} tokens\n", style="bold"))
            continue
        title = dialogue.source + (f" ({dialogue.kind})" if dialogue.kind else "")
        _print_tokens(console, title + (f"   {cut} oldest turns cut" if cut else ""), rendered, tokenizer)


def show_pairs(console: Console, records: Sequence[Pair], tokenizer: Tokenizer, recipe: Recipe) -> None:
    _heading(console, "Pairs", "phase III: each answer's reward is read at its last token")
    for pair in records:
        names = ("tie", "tie") if pair.tie else ("preferred", "not preferred")
        for name, answer in zip(names, (pair.chosen, pair.rejected), strict=True):
            seen = scored(pair.prompt, answer, tokenizer, recipe)
            _print_tokens(console, f"{pair.source}   {name}", seen, tokenizer)
    if not records:
        console.print("None yet: phase III asks for votes on the model's own answers.\n")


def scored(prompt: Sequence[Message], answer: str, tokenizer: Tokenizer, recipe: Recipe) -> Rendered:
    """An answer as the reward model reads it; the loss is on the last token alone."""
    ids = np.concatenate(read_answer(prompt, answer, tokenizer, recipe.model.context_length)).astype(np.int32)
    return Rendered(ids, np.arange(len(ids)) == len(ids) - 1)


def fit_all(records: Sequence[Dialogue], tokenizer: Tokenizer, recipe: Recipe) -> list[Fitted]:
    length, loss_on = recipe.model.context_length, recipe.instruct.loss_on
    return [dialogues.fit(d.messages, tokenizer, length, loss_on=loss_on, source=d.source) for d in records]


def document_sizes(records: Sequence[Document], tokenizer: Tokenizer, recipe: Recipe) -> Sizes:
    lengths = [len(ids) for ids in encode_whole(tokenizer, records)]
    pieces = [-(-length // recipe.model.context_length) for length in lengths]
    return Sizes(lengths, sum(lengths) - sum(pieces), sum(number > 1 for number in pieces), 0)


def dialogue_sizes(records: Sequence[Dialogue], tokenizer: Tokenizer, recipe: Recipe) -> Sizes:
    """raises  DataError when not one token of any dialogue would have loss"""
    fitted = fit_all(records, tokenizer, recipe)
    rendered = [each.rendered for each in fitted if each.rendered is not None]
    left_out = len(fitted) - len(rendered)
    if records and not any(seen.supervised.any() for seen in rendered):
        raise DataError(
            f"{records[0].source}: not one token of {len(records):,} dialogues has loss, as none fits "
            f"{recipe.model.context_length} tokens; raise model.context_length"
        )
    learned = sum(int(each.supervised.sum()) for each in rendered)
    cut = sum(each.turns_cut > 0 for each in fitted) - left_out
    return Sizes([len(each.ids) for each in rendered], learned, cut, left_out)


def pair_sizes(records: Sequence[Pair], tokenizer: Tokenizer, recipe: Recipe) -> Sizes:
    """Both answers of each pair, each with its prompt."""
    length = recipe.model.context_length
    whole = [
        sum(map(len, read_answer(pair.prompt, answer, tokenizer, 2**30)))
        for pair in records
        for answer in (pair.chosen, pair.rejected)
    ]
    return Sizes([min(size, length) for size in whole], len(whole), sum(size > length for size in whole), 0)


def filled(lengths: Sequence[int], recipe: Recipe) -> float | None:
    """Share of the positions of packed rows that hold a token; the rest is computed for nothing. None without rows."""
    if not lengths:
        return None
    row_length = recipe.model.context_length
    pieces = chunks(np.array(lengths), row_length)
    rows = plan_rows(pieces.stop - pieces.start, row_length, np.arange(len(pieces.item)))
    return sum(lengths) / (len(rows) * row_length)


def repeated(keys: Iterable[object]) -> int:
    """How many say again what an earlier one said."""
    return sum(number - 1 for number in Counter(keys).values())


def overlap(records: Split[Record], key: Callable[[Record], str]) -> int:
    """How many held-out records have a prompt, or a text, that is also learned from."""
    learned = {key(record) for record in records.train}
    return sum(key(record) in learned for record in records.held_out)


def show_statistics(console: Console, data: Data, tokenizer: Tokenizer, recipe: Recipe) -> None:
    sizes = [
        document_sizes(some(data.documents.train), tokenizer, recipe),
        dialogue_sizes(some(data.dialogues.train), tokenizer, recipe),
        pair_sizes(some(data.pairs.train), tokenizer, recipe),
    ]
    full = [filled(size.lengths, recipe) for size in sizes[:2]]
    documents, asked, pairs = data
    twice = [
        repeated(document_key(document) for document in documents.train),
        repeated((dialogue_key(dialogue), dialogue.answer) for dialogue in asked.train),
        repeated((pair_key(pair), pair.chosen, pair.rejected) for pair in pairs.train),
    ]
    shared = [overlap(documents, document_key), overlap(asked, dialogue_key), overlap(pairs, pair_key)]
    rows = [
        ["to learn from", *(f"{len(records.train):,}" for records in data)],
        ["held out", *(f"{len(records.held_out):,}" for records in data)],
        ["tokens, median", *(_quantile(size, 0.5) for size in sizes)],
        ["tokens, 90 % have at most", *(_quantile(size, 0.9) for size in sizes)],
        ["tokens, longest", *(_quantile(size, 1) for size in sizes)],
        ["tokens with loss", *(_share(size.learned, sum(size.lengths)) for size in sizes)],
        ["packed rows are full to", *("" if share is None else f"{share:.0%}" for share in full), ""],
        [f"cut to {recipe.model.context_length} tokens", *(f"{size.cut:,}" for size in sizes)],
        ["left out, too long", *(f"{size.left_out:,}" for size in sizes)],
        ["repeated word for word", *(f"{number:,}" for number in twice)],
        ["held out, yet learned from", *(f"{number:,}" for number in shared)],
    ]
    console.print()
    Show(stderr=False).table("The data in numbers", ["", "documents", "dialogues", "pairs"], rows)
    if TINYWORLD in recipe.data.text + recipe.data.answers:
        told = f"TinyWorld wrote {WORLD_RECORDS:,} of each at most; `trivium plan` says how many a run takes."
        console.print(Text(told, style="dim"))


def _quantile(size: Sizes, share: float) -> str:
    return f"{np.quantile(size.lengths, share, method='lower'):,.0f}" if size.lengths else ""


def _share(some: int, all: int) -> str:
    return f"{some / all:.0%}" if all else ""
