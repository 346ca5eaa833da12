import gzip
import json
import os
import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trivium.errors import ConfigError, TriviumError
from trivium.records import Document
from trivium.text.answers import read_dialogues
from trivium.text.preferences import read_pairs
from trivium.text.schemas import PEEK
from trivium.text.sections import SLACK, sections
from trivium.text.sources import files_of, read_documents

Found = TypeVar("Found")
fuzz = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    """A folder with a file of each kind, two of the same name, one hidden and one that is no text."""
    (tmp_path / "sub").mkdir()
    (tmp_path / ".git").mkdir()
    (tmp_path / "b.txt").write_text("bee\r\nbuzz\n")
    (tmp_path / "a.md").write_text("# a\n")
    (tmp_path / "c.TXT.gz").write_bytes(gzip.compress(b"sea"))
    (tmp_path / "d.jsonl").write_text('{"id": 1, "text": "one"}\n{"id": 2, "text": "two"}\n')
    (tmp_path / "e.csv").write_text("n,body\n1,three\n")
    pyarrow.parquet.write_table(pyarrow.table({"content": ["four"]}), tmp_path / "f.parquet")
    (tmp_path / "sub" / "b.txt").write_text("below")
    (tmp_path / "x.pdf").write_bytes(b"%PDF")
    (tmp_path / ".git" / "h.txt").write_text("hidden")
    return tmp_path


def read(*specs: object, **settings: object) -> tuple[list[Document], list[str]]:
    said: list[str] = []
    documents = read_documents([str(spec) for spec in specs], say=said.append, **settings)  # type: ignore[arg-type]
    return list(documents), said


def fault(*specs: object, **settings: object) -> str:
    with pytest.raises(TriviumError) as caught:
        read(*specs, **settings)
    return str(caught.value)


def or_fault(read: Callable[[], list[Found]]) -> list[Found] | str:
    try:
        return read()
    except TriviumError as error:
        return str(error)


def test_a_folder_is_read_whole_in_sorted_order_and_says_what_it_held(texts: Path) -> None:
    documents, said = read(texts)
    assert documents == [
        Document("# a", "a.md"),
        Document("bee\nbuzz", "b.txt"),
        Document("sea", "c.TXT.gz"),
        Document("one", "d.jsonl:1"),
        Document("two", "d.jsonl:2"),
        Document("three", "e.csv:2"),
        Document("four", "f.parquet:1"),
        Document("below", "sub/b.txt"),
    ]
    assert said[0].startswith(f"{texts}: left out x.pdf; read here are .txt, ")
    assert said[1:] == [
        f'{texts}: 7 files: text, 4 documents; text in column "text", 2 documents; text in column "body", 1 document; '
        'text in column "content", 1 document'
    ]


def test_of_a_few_files_each_says_what_it_held(texts: Path) -> None:
    assert read(texts / "b.txt", f"{texts}/*[de].*")[1] == [
        "b.txt: text, 1 document",
        'd.jsonl: text in column "text", 2 documents',
        'e.csv: text in column "body", 1 document',
    ]


def test_a_folder_of_a_thousand_files_says_a_few_lines_and_still_names_the_first_faults(tmp_path: Path) -> None:
    for number in range(1000):
        (tmp_path / f"{number:03}.txt").write_bytes(b"good\n" + b"caf\xe9\n" * (number % 2) + b"\n")
    for number in range(5):
        (tmp_path / f"x{number}.txt").write_text("")
    documents, said = read(tmp_path, bad_rows="skip")
    assert len(documents) == 1000
    assert said == [
        *(f"skipped x{number}.txt: is empty; fill it, or leave it out" for number in range(3)),
        f"{tmp_path}: 1,005 files: text, 1,000 documents; 500 bad rows skipped; 5 of them could not be used",
        *(f"skipped {number:03}.txt:2: is not UTF-8 (byte 0xe9)" for number in (1, 3, 5)),
    ]


def test_paths_folders_and_globs_stand_for_files(texts: Path) -> None:
    assert files_of(str(texts / "b.txt")) == [texts / "b.txt"]
    assert files_of(f"{texts}/*.txt") == [texts / "b.txt"]
    assert files_of(f"{texts}/**/*.txt") == [texts / "b.txt", texts / "sub" / "b.txt"]
    assert files_of(f"{texts}/s*") == [texts / "sub" / "b.txt"]
    assert files_of(f"{texts}/sub/../b.txt") == [texts / "b.txt"]
    assert texts / "x.pdf" not in files_of(f"{texts}/*")


def test_a_home_folder_and_a_relative_path_are_understood(texts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(texts))
    monkeypatch.chdir(texts)
    assert files_of("~/b.txt") == [texts / "b.txt"]
    assert files_of("b.txt") == [Path("b.txt")]
    assert files_of("*.md") == [Path("a.md")]


def test_a_file_with_glob_characters_in_its_name_is_that_file(tmp_path: Path) -> None:
    (tmp_path / "a[1].txt").write_text("x")
    assert files_of(str(tmp_path / "a[1].txt")) == [tmp_path / "a[1].txt"]


def test_a_file_named_twice_is_read_once(texts: Path) -> None:
    documents, said = read(texts / "b.txt", texts / "*.txt")
    assert len(documents) == 1
    assert f"{texts / 'b.txt'}: named twice and read once" in said


def test_what_a_later_name_says_of_the_weight_holds(texts: Path) -> None:
    documents, said = read(texts / "*.txt", f"{texts / 'b.txt'}*4")
    assert [(document.source, document.weight) for document in documents] == [("b.txt", 4.0)]
    assert f"{texts / 'b.txt'}: named twice and read once, as {texts / 'b.txt'}*4 has it" in said


def test_two_columns_of_a_file_are_two_sources(texts: Path) -> None:
    (texts / "faq.csv").write_text("question,answer\nWho?,Nobody.\n")
    documents, said = read(f"{texts / 'faq.csv'}:question", f"{texts / 'faq.csv'}:answer")
    assert documents == [Document("Who?", "faq.csv:question:2"), Document("Nobody.", "faq.csv:answer:2")]
    assert not any("twice" in line for line in said)


def test_of_a_folder_named_twice_one_line_is_said(texts: Path) -> None:
    _, said = read(texts, texts)
    assert f"{texts / 'a.md'} and 6 more: named twice and read once" in said


def test_of_the_text_of_files_a_share_is_taken_from_all_over(tmp_path: Path) -> None:
    """Of a large file the beginning, of small ones every fourth; what they held is said as of any."""
    (tmp_path / "big.txt").write_text("".join(f"Paragraph {number}.\n\n" for number in range(1000)))
    for number in range(100):
        (tmp_path / f"small{number:02}.md").write_text("a hundred characters" * 5)
    paragraphs, said = read(tmp_path / "big.txt", share=0.25, section=100)
    text = "\n\n".join(document.text for document in paragraphs)
    assert len(text) == pytest.approx((tmp_path / "big.txt").stat().st_size / 4, rel=0.05)
    assert text.startswith("Paragraph 0.\n\nParagraph 1.")
    assert said == ["big.txt: text, 1 document"]
    some, _ = read(tmp_path / "*.md", share=0.25)
    assert [document.source for document in some] == [f"small{number:02}.md" for number in range(0, 100, 4)]
    rows = [{"body": f"Row {number}."} if number % 10 else {"body": number} for number in range(1000)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    taken, said = read(f"{tmp_path / 'rows.jsonl'}:body", share=0.1, bad_rows="skip")
    bad = int(taken[-1].source.rpartition(":")[2]) // 10 + 1
    assert said[0] == f'rows.jsonl: text in column "body", {len(taken)} documents; {bad} bad rows skipped'
    assert 100 < len(taken) < 300


def test_a_row_that_is_broken_off_is_no_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ignored: list[object] = []  # what a generator raises while it is closed
    monkeypatch.setattr(sys, "unraisablehook", ignored.append)
    (tmp_path / "a.jsonl").write_text(json.dumps({"text": "A sentence.\n\n" * 100}))
    documents, said = read(tmp_path / "a.jsonl", section=20, first=2)
    assert (len(documents), said, ignored) == (2, [], [])


def test_a_missing_file_is_named_with_the_nearest_one(texts: Path) -> None:
    assert fault(texts / "bb.txt") == f'data.text = "{texts}/bb.txt": no such file; did you mean {texts}/b.txt?'
    assert fault(f"{texts}/subs/*.txt").endswith(f"no such file; did you mean {texts}/sub?")
    assert fault(texts / "sub" / "zzz").endswith(f'no such file; the folder "{texts / "sub"}" holds b.txt')
    assert fault(f"{texts}/*.rst").endswith("holds a.md, b.txt, c.TXT.gz, d.jsonl, e.csv, …")
    assert fault(" ") == 'data.text = " ": no such file; name a file, a folder or a glob such as texts/*.txt'
    with pytest.raises(ConfigError, match=r'data.pairs = "no": no such file'):
        files_of("no", field="data.pairs")


@given(st.text(max_size=40) | st.sampled_from(["x" * 5000, "/etc/passwd/x.txt", "~\0", "~nobody/x"]))
def test_any_spec_gives_files_or_a_named_error(spec: str) -> None:
    found = or_fault(lambda: files_of(spec))
    assert found if isinstance(found, list) else found.startswith("data.text = ")


def test_a_file_of_another_kind_is_named_with_those_that_are_read(texts: Path) -> None:
    assert "holds no file that can be read here; give .txt, .text, .md" in fault(texts / "x.pdf")
    (texts / "empty").mkdir()
    assert "holds no file that can be read here" in fault(texts / "empty")


def test_a_file_that_is_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.txt")
    assert "holds no file that can be read here" in fault(tmp_path / "a.txt")


@pytest.mark.parametrize("content", ["", "\n \n", "\ufeff"])
@pytest.mark.parametrize("name", ["notes.txt", "notes.jsonl", "notes.csv", "notes.txt.gz"])
def test_an_empty_file_is_named(tmp_path: Path, name: str, content: str) -> None:
    data = content.encode()
    (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    assert fault(tmp_path / name) == f"{name}: is empty; fill it, or leave it out"


def test_with_skip_an_empty_file_is_passed_over_if_another_has_text(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("")
    assert fault(tmp_path, bad_rows="skip") == "a.txt: is empty; fill it, or leave it out"
    (tmp_path / "b.txt").write_text("x")
    documents, said = read(tmp_path, bad_rows="skip")
    assert [document.text for document in documents] == ["x"]
    assert said[0] == "skipped a.txt: is empty; fill it, or leave it out"


def test_the_column_of_the_text_can_be_named(tmp_path: Path) -> None:
    (tmp_path / "data.csv").write_text("title,verse\nt,roses\n")
    assert read(f"{tmp_path}/data.csv:verse")[0] == [Document("roses", "data.csv:2")]
    assert read(f"{tmp_path}/*.csv:title")[0] == [Document("t", "data.csv:2")]


def test_a_named_column_goes_before_a_known_one(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "x", "verse": "y"}')
    assert read(f"{tmp_path}/a.jsonl:verse")[0] == [Document("y", "a.jsonl:1")]


def test_a_path_that_exists_is_never_split_at_its_colon(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("wrong")
    (tmp_path / "a.txt:b.txt").write_text("right")
    assert read(f"{tmp_path}/a.txt:b.txt")[0] == [Document("right", "a.txt:b.txt")]


def test_a_column_that_is_not_there_is_named(tmp_path: Path) -> None:
    (tmp_path / "data.csv").write_text("title,verse\nt,roses\n")
    assert fault(f"{tmp_path}/data.csv:vers") == (
        'data.csv:2: has no text in a column "vers", it has the columns title, verse; did you mean verse?'
    )
    assert fault(f"{tmp_path}/data.csv:qq").endswith("it has the columns title, verse; name another, or leave it out")


def test_rows_without_a_text_column_are_named_with_their_columns(tmp_path: Path) -> None:
    (tmp_path / "data.csv").write_text("title,verse\nt,roses\n")
    message = fault(tmp_path / "data.csv")
    assert message.startswith("data.csv:2: none of the text columns text, content, ")
    assert message.endswith('it has the columns title, verse; name the one to read: "data.csv:COLUMN"')


def test_a_column_named_on_a_text_file_is_named(texts: Path) -> None:
    assert fault(f"{texts}/b.txt:text").endswith('a text file has no columns; leave ":text" out')


@pytest.mark.parametrize(("read", "field"), [(read_dialogues, "answers"), (read_pairs, "pairs")])
def test_a_column_named_where_no_text_is_read_is_named(read: Any, field: str, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"prompt": "q", "response": "a"}')
    with pytest.raises(ConfigError) as caught:
        list(read([f"{tmp_path}/a.jsonl:response"]))
    said = str(caught.value)
    assert said.startswith(f"data.{field} = ")
    assert said.endswith('a column is named for texts only; leave ":response" out')


def test_a_text_that_is_not_a_string_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "x"}\n{"text": ["y"]}\n')
    assert fault(tmp_path / "a.jsonl").startswith('a.jsonl:2: "text" is a list; make it a string, or fix')


def test_a_row_of_another_shape_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "x"}\n{"txt": "y"}\n')
    assert fault(tmp_path / "a.jsonl") == (
        'a.jsonl:2: does not fit text in column "text", which the first rows of the file are: '
        "it has the columns txt; put rows of another kind into a file of their own"
    )


def test_blank_rows_are_passed_over_and_counted(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": ""}\n{"text": null}\n{"text": "x"}\n')
    documents, said = read(tmp_path / "a.jsonl")
    assert documents == [Document("x", "a.jsonl:3")]
    assert said == ['a.jsonl: text in column "text", 1 document; 2 empty rows passed over']


def test_a_line_that_is_not_utf8_is_named_or_skipped(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes("né\n".encode() + b"caf\xe9\n" + b"fin\n")
    assert fault(tmp_path / "a.txt").startswith("a.txt:2: is not UTF-8 (byte 0xe9); save the file as UTF-8, or fix")
    documents, said = read(tmp_path / "a.txt", bad_rows="skip")
    assert documents == [Document("né\nfin", "a.txt")]
    assert said == ["a.txt: text, 1 document; 1 bad row skipped", "skipped a.txt:2: is not UTF-8 (byte 0xe9)"]


def test_a_character_cut_off_at_the_end_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"one\ntwo \xc3")
    assert fault(tmp_path / "a.txt").startswith("a.txt:2: is not UTF-8 (byte 0xc3)")


def test_utf16_and_binary_files_are_named(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes("text".encode("utf-16"))
    assert fault(tmp_path / "a.txt").startswith("a.txt:1: is not UTF-8 (byte 0xff)")
    (tmp_path / "a.txt").write_bytes("text".encode("utf-16-le"))
    assert fault(tmp_path / "a.txt").startswith("a.txt:1: holds a NUL character, so it is not UTF-8 text; save it as")


def test_a_damaged_gzip_text_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress(random.Random(0).randbytes(999).hex().encode())[:-20])
    assert fault(tmp_path / "a.txt.gz").startswith("a.txt.gz: is not a whole gzip file (")


def test_end_of_text_on_a_line_of_its_own_parts_documents(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(
        "one\nmore\n<|endoftext|>\ntwo\n<|endoftext|>\n\n<|endoftext|>\nthree\n<|endoftext|>\n"
    )
    documents, said = read(tmp_path / "a.txt")
    assert documents == [Document("one\nmore", "a.txt"), Document("two", "a.txt:4"), Document("three", "a.txt:8")]
    assert said == ["a.txt: text, 3 documents; 1 empty row passed over"]


def test_a_long_text_is_cut_between_paragraphs_and_each_section_is_numbered(tmp_path: Path) -> None:
    paragraphs = [f"{n} " + "word " * 18 + "end." for n in range(60)]
    (tmp_path / "alice.txt").write_text("\n\n".join(paragraphs))
    documents, said = read(tmp_path / "alice.txt", section=1000)
    assert [document.source for document in documents] == [f"alice.txt§{n}" for n in range(1, len(documents) + 1)]
    assert "\n\n".join(document.text for document in documents) == "\n\n".join(paragraphs)
    assert said == [f"alice.txt: text, 1 document in {len(documents)} sections"]


def test_a_long_row_is_cut_too(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(json.dumps({"text": "one two. " * 300}))
    documents, said = read(tmp_path / "a.jsonl", section=1000)
    assert documents[1].source == "a.jsonl:1§2"
    assert said == ['a.jsonl: text in column "text", 1 document in 4 sections']


def test_a_line_too_long_for_memory_is_read_in_pieces(tmp_path: Path) -> None:
    (tmp_path / "text8.txt").write_text("é one two " * 100_000)
    documents, _ = read(tmp_path / "text8.txt")
    assert "".join(document.text for document in documents) == "é one two " * 100_000


@given(st.lists(st.text(alphabet="ab. \n", max_size=40), max_size=20), st.integers(min_value=2, max_value=20))
def test_sections_keep_every_character_but_breaks_and_stay_short(pieces: list[str], size: int) -> None:
    found = list(sections(pieces, size=size))
    assert all(section.strip() and len(section) <= SLACK * size for section in found)
    assert "".join("".join(found).split()) == "".join("".join(pieces).split())


@given(st.text(alphabet="ab. \n", max_size=300), st.integers(min_value=2, max_value=20), st.integers(1, 50))
def test_where_a_text_is_cut_does_not_depend_on_its_pieces(text: str, size: int, step: int) -> None:
    pieces = [text[at : at + step] for at in range(0, len(text), step)]
    assert list(sections(pieces, size=size)) == list(sections([text], size=size))


@fuzz
@given(data=st.binary(max_size=300), kind=st.sampled_from(["txt", "md", "txt.gz", "jsonl", "csv", "json"]))
def test_random_bytes_give_documents_or_data_errors(tmp_path: Path, data: bytes, kind: str) -> None:
    path = tmp_path / f"a.{kind}"
    path.write_bytes(data)
    for bad_rows in ("stop", "skip"):
        found = or_fault(lambda how=bad_rows: read(path, bad_rows=how)[0])
        if isinstance(found, str):
            assert found.startswith(path.name)
        else:
            assert all(document.text.strip() for document in found)


def test_with_skip_every_good_row_of_ten_thousand_is_kept(tmp_path: Path) -> None:
    draw = random.Random(7)
    broken = ['{"text": ', "[1]", '{"txt": "a"}', '{"text": 3}', "\x00", '{"text": "\\ud800"}']
    lines = [draw.choice(broken) if draw.random() < 0.1 else json.dumps({"text": f"row {n}"}) for n in range(10_000)]
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    documents, said = read(tmp_path / "a.jsonl", bad_rows="skip")
    good = [f"a.jsonl:{number}" for number, line in enumerate(lines, start=1) if "row" in line]
    assert [document.source for document in documents] == good
    assert said[0].endswith(f"{len(good):,} documents; {10_000 - len(good):,} bad rows skipped")
    assert len(said) == 4


def test_an_empty_parquet_file_is_called_empty(texts: Path) -> None:
    (texts / "new.parquet").touch()
    assert fault(texts / "new.parquet") == "new.parquet: is empty; fill it, or leave it out"


def test_a_column_that_is_empty_in_the_first_rows_is_found_all_the_same(tmp_path: Path) -> None:
    rows = [{"id": f"{i}", "text": None} for i in range(PEEK + 6)] + [{"id": "x", "text": "here"}]
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found, said = read(path)
    assert [document.text for document in found] == ["here"]
    assert said == [f'a.jsonl: text in column "text", 1 document; {PEEK + 6} empty rows passed over']
    path.write_text("".join(json.dumps({"id": "x", "other": None}) + "\n" for _ in range(3)))
    assert "none of the text columns" in fault(path)
