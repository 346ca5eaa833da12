"""What `trivium inspect` shows and counts."""

import io
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from trivium.config import resolve, to_toml
from trivium.errors import DataError, RunError
from trivium.publish import publish, write_text
from trivium.records import Dialogue, Document, Message, Pair
from trivium.runs import open_run
from trivium.story.inspecting import (
    MANY_COLOURS,
    SIXTEEN_COLOURS,
    Data,
    dialogue_sizes,
    document_sizes,
    filled,
    in_colour,
    in_marks,
    inspect_recipe,
    overlap,
    packed_row,
    palette_of,
    pieces_of,
    repeated,
    scored,
    show_pairs,
    visible,
)
from trivium.text.dialogue import render
from trivium.text.split import Split, dialogue_key
from trivium.text.tokenizer import Tokenizer
from trivium.text.tokenizer import train as train_tokenizer
from trivium.worlds import tinyworld

FEW = {"data": {"stories": 30, "dialogues": 30}, "model": {"vocab_size": 400}}


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer((tinyworld.story(0, i, held_out=False) for i in range(200)), vocab_size=400)


def asked(prompt: str, answer: str) -> Dialogue:
    return Dialogue((Message("user", prompt), Message("assistant", answer)), "here")


def test_every_part_and_every_count_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    inspect_recipe(None, flags=FEW, count=1)
    told = capsys.readouterr().out
    for part in ("Documents", "Fill in the blank", "A packed row", "Dialogues", "Pairs", "The data in numbers"):
        assert part in told
    assert "<|fim_prefix|>" in told
    assert "<|im_start|>" in told
    assert "<|endoftext|>" in told


def test_a_run_is_shown_with_its_own_tokenizer(
    tmp_path: Path, tokenizer: Tokenizer, capsys: pytest.CaptureFixture[str]
) -> None:
    with open_run(tmp_path / "run", create=True) as run:
        write_text(run.recipe, to_toml(resolve(FEW)))
        publish(run.tokenizer, lambda fresh: tokenizer.save(fresh))
        inspect_recipe(run.path, flags={}, count=1)
    assert f"{tokenizer.vocab_size} tokens, the run's own" in capsys.readouterr().out


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="is not a run folder"):
        inspect_recipe(tmp_path, flags={}, count=1)


def test_pairs_on_file_are_shown_with_the_reward_at_their_last_token(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "pairs.jsonl"
    file.write_text("".join(f'{{"prompt": "Hi {i}", "chosen": "Hello.", "rejected": "No."}}\n' for i in range(20)))
    inspect_recipe(None, flags={**FEW, "data": {**FEW["data"], "pairs": [str(file)]}}, count=1)
    told = capsys.readouterr().out
    assert "not preferred" in told
    assert told.count("«<|im_end|>»\n") == 2  # of chosen and rejected; elsewhere more than the end is learned


def test_in_colour_only_learned_tokens_are_bold_and_neighbours_differ(tokenizer: Tokenizer) -> None:
    seen = render(asked("Where is Ada?", "In the barn.").messages, tokenizer)
    for palette in (MANY_COLOURS, SIXTEEN_COLOURS):
        text = in_colour(seen.ids.tolist(), seen.supervised.tolist(), tokenizer, palette)
        styles = [str(span.style) for span in text.spans]
        assert [style.startswith("bold") for style in styles] == seen.supervised.tolist()
        plain = [tokenizer.token_bytes(id) != b"" for id in seen.ids.tolist()]
        for i in range(1, len(styles)):
            assert not (plain[i - 1] and plain[i]) or styles[i - 1] != styles[i]


def test_without_colour_learned_tokens_stand_in_guillemets(tokenizer: Tokenizer) -> None:
    seen = render(asked("Who?", "Ada.").messages, tokenizer)
    told = in_marks(seen.ids.tolist(), seen.supervised.tolist(), tokenizer).plain
    inside = told[told.index("«") + 1 : told.index("»")]
    learned = seen.ids[seen.supervised].tolist()
    assert inside == "|".join(visible(id, tokenizer) for id in learned)
    assert inside.endswith("|<|im_end|>")
    assert told.count("«") == told.count("»") == 1


def test_a_console_without_colours_has_no_palette() -> None:
    assert palette_of(Console(file=io.StringIO(), color_system=None)) is None
    assert palette_of(Console(file=io.StringIO(), color_system="standard", force_terminal=True)) == SIXTEEN_COLOURS
    assert palette_of(Console(file=io.StringIO(), color_system="256", force_terminal=True)) == MANY_COLOURS


def test_no_token_is_invisible(tokenizer: Tokenizer) -> None:
    for id in range(tokenizer.vocab_size):
        shown = visible(id, tokenizer)
        assert shown
        assert all(c.isprintable() or c in "\n\t" for c in shown)
    assert visible(tokenizer.turn_end, tokenizer) == "<|im_end|>"
    assert visible(tokenizer.encode("\n")[0], tokenizer) == "↵\n"


def test_the_score_is_read_at_the_end_token(tokenizer: Tokenizer) -> None:
    seen = scored((Message("user", "Hi"),), "Hello.", tokenizer, resolve({}))
    assert np.flatnonzero(seen.supervised).tolist() == [len(seen.ids) - 1]
    assert seen.ids[-1] == tokenizer.turn_end


def test_the_first_token_of_each_piece_of_a_row_is_no_target(tokenizer: Tokenizer) -> None:
    documents = [Document(f"Ada sat by the well and counted to {i}.", str(i)) for i in range(40)]
    recipe = resolve({"model": {"context_length": 128}})
    name, row = packed_row(Data(Split(documents, []), Split([], []), Split([], [])), tokenizer, recipe)
    pieces = pieces_of(row)
    assert name == "document"
    assert len(pieces) > 1
    for piece in pieces:
        assert not piece.supervised[0]
        assert piece.supervised[1:].all()
        assert piece.ids[-1] == tokenizer.end_of_text
    assert sum(len(piece.ids) for piece in pieces) == (row.documents >= 0).sum()


def test_counts_of_dialogues_agree_with_what_is_rendered(tokenizer: Tokenizer) -> None:
    records = [asked("Who?", "Ada."), asked("Where is she? " * 40, "Here.")]
    sizes = dialogue_sizes(records, tokenizer, resolve({"model": {"context_length": 64}}))
    whole = render(records[0].messages, tokenizer)
    assert sizes.lengths == [len(whole.ids)]
    assert sizes.learned == whole.supervised.sum()
    assert (sizes.cut, sizes.left_out) == (0, 1)


def test_a_dialogue_that_loses_turns_is_counted_as_cut(tokenizer: Tokenizer) -> None:
    long = asked("Who? " * 30, "Ada.").messages + asked("Where?", "Here.").messages
    sizes = dialogue_sizes([Dialogue(long, "here")], tokenizer, resolve({"model": {"context_length": 64}}))
    assert (sizes.cut, sizes.left_out) == (1, 0)


def test_a_long_document_is_cut_into_pieces_whose_first_tokens_are_not_learned(tokenizer: Tokenizer) -> None:
    sizes = document_sizes(
        [Document("a b c d e f g h i j k l", "here")], tokenizer, resolve({"model": {"context_length": 8}})
    )
    pieces = -(-sizes.lengths[0] // 8)
    assert pieces > 1
    assert sizes.learned == sizes.lengths[0] - pieces
    assert sizes.cut == 1


def test_rows_of_documents_longer_than_half_a_row_are_not_full() -> None:
    recipe = resolve({"model": {"context_length": 100}})
    assert filled([60] * 10, recipe) == pytest.approx(0.6)
    assert filled([50] * 10, recipe) == pytest.approx(1.0)
    assert filled([], recipe) is None


def test_dialogues_of_which_no_token_is_learned_are_an_error(tokenizer: Tokenizer) -> None:
    records = [asked("Where is she? " * 40, "Here.")] * 2
    recipe = resolve({"model": {"context_length": 64}})
    with pytest.raises(DataError, match=r"here: not one token of 2 dialogues has loss.*raise model.context_length"):
        dialogue_sizes(records, tokenizer, recipe)
    assert dialogue_sizes([], tokenizer, recipe).lengths == []


def test_repetitions_and_prompts_on_both_sides_are_counted() -> None:
    assert repeated(["a", "b", "a", "a"]) == 2
    train, held_out = [asked("Who?", "Ada.")], [asked("who? ", "Bo."), asked("Where?", "Here.")]
    assert overlap(Split(train, held_out), dialogue_key) == 1


def test_a_tie_is_shown_as_one(capsys: pytest.CaptureFixture[str], tokenizer: Tokenizer) -> None:
    pair = Pair((Message("user", "Hi"),), "a", "b", "here", tie=True)
    show_pairs(Console(color_system=None, width=100), [pair], tokenizer, resolve({}))
    assert capsys.readouterr().out.count("here   tie") == 2
