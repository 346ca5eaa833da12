"""What `trivium inspect` shows and counts."""

import io
import json
from itertools import groupby
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from trivium.cli import main
from trivium.config import resolve, to_toml
from trivium.errors import ConfigError, DataError, RunError
from trivium.publish import publish, write_text
from trivium.records import Dialogue, Document, Message
from trivium.runs import open_run
from trivium.story.inspecting import data as inspected
from trivium.story.inspecting import inspect_recipe, print_inspection, write_page
from trivium.story.inspecting.data import text_rows
from trivium.story.inspecting.numbers import dialogue_sizes, document_sizes, overlap, padding, repeated
from trivium.story.inspecting.specimens import fullest, row_specimen, scored, targets_of
from trivium.story.inspecting.terminal import MANY_COLOURS, SIXTEEN_COLOURS, in_colour, in_marks, palette_of
from trivium.text.dialogue import Rendered, render
from trivium.text.spans import Span, spans, visible
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


def spans_of(seen: Rendered, tokenizer: Tokenizer) -> list[Span]:
    return list(spans(seen.ids.tolist(), seen.supervised.tolist(), tokenizer))


def test_every_part_and_every_count_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    print_inspection(inspect_recipe(None, flags=FEW, count=1))
    told = capsys.readouterr().out
    for part in ("Documents", "Fill in the blank", "Packed rows", "Dialogues", "Pairs", "The data in numbers"):
        assert part in told
    assert "<|fim_prefix|>" in told
    assert "<|im_start|>" in told
    assert "<|endoftext|>" in told


def test_a_run_is_shown_with_its_own_tokenizer(tmp_path: Path, tokenizer: Tokenizer) -> None:
    with open_run(tmp_path / "run", create=True) as run:
        write_text(run.recipe, to_toml(resolve(FEW)))
        publish(run.tokenizer, lambda fresh: tokenizer.save(fresh))
        found = inspect_recipe(run.path, flags={}, count=1)
    assert (found.vocabulary, found.whose) == (tokenizer.vocab_size, "the run's own")


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="is not a run folder"):
        inspect_recipe(tmp_path, flags={}, count=1)


def test_pairs_on_file_are_shown_with_the_reward_at_their_last_token(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "pairs.jsonl"
    file.write_text("".join(f'{{"prompt": "Hi {i}", "chosen": "Hello.", "rejected": "No."}}\n' for i in range(20)))
    print_inspection(inspect_recipe(None, flags={**FEW, "data": {**FEW["data"], "pairs": [str(file)]}}, count=1))
    told = capsys.readouterr().out
    assert "not preferred" in told
    assert told.count("«<|im_end|>»\n") == 2  # of chosen and rejected; elsewhere more than the end is learned


def test_what_answers_and_pairs_were_taken_for_is_said_and_bad_rows_are_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    answers, pairs = tmp_path / "answers.jsonl", tmp_path / "pairs.jsonl"
    answers.write_text('{"question": "Why?", "answer": "So."}\n' * 20 + "no JSON\n")
    pairs.write_text("".join(f'{{"prompt": "Hi {i}", "chosen": "Hello.", "rejected": "No."}}\n' for i in range(20)))
    named = {"answers": [f"{answers}*0.5"], "pairs": [str(pairs)], "bad_rows": "skip"}
    inspect_recipe(None, flags={**FEW, "data": {**FEW["data"], **named}}, count=1)
    told = capsys.readouterr().err
    assert (
        "answers.jsonl: question and answer, 20 dialogues, each seen 0.5 times in an epoch; 1 bad row skipped" in told
    )
    assert "skipped answers.jsonl:21: not valid JSON" in told
    assert "pairs.jsonl: prompt, chosen and rejected, 20 pairs" in told


def test_in_colour_only_learned_tokens_are_bold_and_neighbours_differ(tokenizer: Tokenizer) -> None:
    seen = render(asked("Where is Ada?", "In the barn.").messages, tokenizer)
    for palette in (MANY_COLOURS, SIXTEEN_COLOURS):
        text = in_colour(spans_of(seen, tokenizer), palette)
        styles = [str(span.style) for span in text.spans]
        assert [style.startswith("bold") for style in styles] == seen.supervised.tolist()
        plain = [tokenizer.token_bytes(id) != b"" for id in seen.ids.tolist()]
        for i in range(1, len(styles)):
            assert not (plain[i - 1] and plain[i]) or styles[i - 1] != styles[i]


def test_without_colour_learned_tokens_stand_in_guillemets(tokenizer: Tokenizer) -> None:
    seen = render(asked("Who?", "Ada.").messages, tokenizer)
    told = in_marks(spans_of(seen, tokenizer)).plain
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


def test_a_packed_row_is_shown_whole_with_its_documents_apart(tokenizer: Tokenizer, tmp_path: Path) -> None:
    texts = [f"Ada sat by the well and counted to {i}." for i in range(40)]
    row = fullest(text_rows(texts, tokenizer, resolve({"model": {"context_length": 128}}), tmp_path))
    shown = row_specimen("a row", row, "document", tokenizer)
    assert [span.id for span in shown.spans] == row.tokens[row.documents >= 0].tolist()
    pieces = [list(inside) for _, inside in groupby(shown.spans, key=lambda span: span.document)]
    assert len(pieces) == row.documents.max() + 1 > 1
    for piece in pieces:
        assert [span.learned for span in piece] == [False] + [True] * (len(piece) - 1)
    assert int(targets_of(row).sum()) == row.supervised.sum()
    assert f"{len(pieces)} documents in 128 positions, {(row.documents < 0).sum()} of them padding" in shown.told


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


def test_padding_is_what_packed_rows_hold_no_token_in(tokenizer: Tokenizer, tmp_path: Path) -> None:
    recipe = resolve({"model": {"context_length": 64}, "pretrain": {"blanks": 0}})
    rows = text_rows(["Ada sat by the well."] * 3, tokenizer, recipe, tmp_path)
    (length,) = {len(ids) for ids in tokenizer.encode_documents(["Ada sat by the well."])}
    assert rows.rows_per_epoch(0) == 1
    assert padding(rows) == pytest.approx(1 - 3 * length / 64)
    assert padding(None) is None


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


def test_a_tie_is_shown_as_one(tmp_path: Path) -> None:
    file = tmp_path / "pairs.jsonl"
    row = '{"prompt": "Hi %d", "response_a": "a", "response_b": "b", "winner": "tie"}\n'
    file.write_text("".join(row % i for i in range(20)))
    found = inspect_recipe(None, flags={**FEW, "data": {**FEW["data"], "pairs": [str(file)]}}, count=1)
    assert [specimen.title.split()[-1] for specimen in found.sections[-1].specimens] == ["tie", "tie"]


def test_dialogues_that_are_too_long_are_counted_said_and_one_of_them_is_shown(tmp_path: Path) -> None:
    short = {"messages": [{"role": "user", "content": "Who?"}, {"role": "assistant", "content": "Ada."}]}
    long = {"messages": [{"role": "user", "content": "Who? " * 90}, {"role": "assistant", "content": "Bo."}]}
    cut = {"messages": [*long["messages"], {"role": "user", "content": "And?"}, short["messages"][1]]}
    file = tmp_path / "a.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in [short] * 30 + [cut, long]))
    flags = {**FEW, "data": {**FEW["data"], "answers": [str(file)], "answers_held_out": [str(file)]}}
    found = inspect_recipe(None, flags={**flags, "model": {"vocab_size": 400, "context_length": 64}}, count=1)
    assert found.notes[0] == (
        "2 of 32 dialogues are longer than 64 tokens: 1 without their oldest turns (system turns and the last exchange "
        "stay); 1 left out, as nothing of them to learn fits"
    )
    assert (found.numbers["dialogues"]["cut"], found.numbers["dialogues"]["left_out"]) == (1, 1)
    assert [each.told.partition("; ")[2] for each in found.sections[3].specimens] == [
        "",
        "longer than 64: its 2 oldest turns are cut",
    ]


def test_the_page_is_complete_in_itself_and_holds_every_token(tmp_path: Path) -> None:
    evil = tmp_path / "evil.txt"
    evil.write_text("<script>alert(1)</script> & a story about a cat.\n" * 40)
    found = inspect_recipe(None, flags={**FEW, "data": {**FEW["data"], "text": [str(evil)]}}, count=1)
    page = write_page(found, tmp_path / "page.html").read_text()
    assert "<script" not in page
    assert "http://" not in page
    assert "https://" not in page
    assert page.count("data-id=") == sum(len(each.spans) for part in found.sections for each in part.specimens)
    assert 'data-document="2"' in page
    for name in ("Documents", "Packed rows", "Dialogues", "The data in numbers"):
        assert f"<h2>{name}</h2>" in page


def test_a_page_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    found = inspect_recipe(None, flags=FEW, count=1)
    with pytest.raises(ConfigError, match=r"is a folder; name a file"):
        write_page(found, tmp_path)


def test_one_object_holds_all_of_it(capsys: pytest.CaptureFixture[str]) -> None:
    main(["inspect", "--show", "1", "--json", "--data.stories", "30", "--data.dialogues", "30"])
    found = json.loads(capsys.readouterr().out)
    assert set(found["numbers"]) == {"documents", "dialogues", "pairs"}
    assert found["numbers"]["dialogues"]["train"] == 30
    first = found["sections"][0]["specimens"][0]["spans"][0]
    assert set(first) == {"text", "id", "learned", "control", "document"}


def test_of_large_texts_the_beginnings_are_looked_at_unless_it_is_said_how_much(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(inspected, "FILE_MEGABYTES", 0.1)
    large = tmp_path / "large.txt"
    large.write_text("\n\n".join(f"Paragraph {number} says little else." for number in range(9000)))
    flags = {**FEW, "data": {**FEW["data"], "text": [str(large)]}}
    few = inspect_recipe(None, flags=flags, count=1)
    assert "0.1 of 0.3 MB of text on file are taken" in capsys.readouterr().err
    whole = inspect_recipe(None, flags={**flags, "data": {**flags["data"], "file_megabytes": 1.0}}, count=1)
    assert few.numbers != whole.numbers


def test_what_a_phase_would_refuse_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "one.txt").write_text("Once upon a time.")
    (tmp_path / "one.csv").write_text("prompt,completion\nWho?,I.\n")
    names = {"text": [str(tmp_path / "one.txt")], "answers": [str(tmp_path / "one.csv")]}
    print_inspection(inspect_recipe(None, flags={"data": names}, count=1))
    told = " ".join(capsys.readouterr().out.split())
    assert (
        "Phase I would stop here: data.text: 1 document to learn from and 0 held out to measure on; give more" in told
    )
    assert "Phase II would stop here: data.answers: 1 dialogue to learn from and 0 held out" in told


def test_no_section_is_empty(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nothing = tmp_path / "none.csv"
    nothing.write_text("prompt,completion\nWho?,I.\n")
    flags = {"data": {"stories": 30, "answers": [], "answers_held_out": [str(nothing)]}, "model": {"vocab_size": 400}}
    print_inspection(inspect_recipe(None, flags=flags, count=1))
    _, _, section = capsys.readouterr().out.partition("Dialogues   phase II")
    assert section.splitlines()[2] == "There is none."
