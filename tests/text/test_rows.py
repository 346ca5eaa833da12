import gzip
import json
from collections.abc import Iterator
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trivium.errors import DataError
from trivium.text import rows
from trivium.text.rows import Row, read_entries, read_rows

SKIP = 'or set data.bad_rows = "skip"'
fuzz = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def write(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    data = content.encode() if isinstance(content, str) else content
    path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    return path


def fault(path: Path) -> str:
    with pytest.raises(DataError) as caught:
        list(read_rows(path))
    return str(caught.value)


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.JSONL", "a.ndjson"])
def test_json_lines_are_rows_with_their_line_and_blank_lines_are_passed_over(tmp_path: Path, name: str) -> None:
    path = write(tmp_path, name, '\ufeff{"a": 1}\n\n  \r\n{"a": "é"}')
    assert list(read_rows(path)) == [Row({"a": 1}, f"{name}:1"), Row({"a": "é"}, f"{name}:4")]


@pytest.mark.parametrize("blank", ["", "\ufeff", " " * 300 + "\n"])
def test_a_json_list_may_stand_on_one_long_line(tmp_path: Path, blank: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "MAX_LINE_BYTES", 100)
    monkeypatch.setattr(rows, "PEEKED_BYTES", 64)
    path = write(tmp_path, "a.json", blank + json.dumps([{"a": "x" * 60}, {"a": "y" * 60}]))
    assert [row.value["a"] for row in read_rows(path)] == ["x" * 60, "y" * 60]


def test_a_json_file_may_be_one_list_whose_rows_know_their_lines(tmp_path: Path) -> None:
    path = write(tmp_path, "a.json", json.dumps([{"a": "[1,\n2]"}, {"a": 2}, {"a": 2}], indent=1))
    assert list(read_rows(path)) == [
        Row({"a": "[1,\n2]"}, "a.json:2"),
        Row({"a": 2}, "a.json:5"),
        Row({"a": 2}, "a.json:8"),
    ]


def test_a_json_file_may_be_lines_too(tmp_path: Path) -> None:
    assert [row.value for row in read_rows(write(tmp_path, "a.json", '{"a": 1}\n{"a": 2}\n'))] == [{"a": 1}, {"a": 2}]


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_csv_rows_start_at_their_first_line_and_the_separator_is_seen_in_the_header(
    tmp_path: Path, separator: str
) -> None:
    text = 'q,a\none,"two\nlines"\nthree,"say ""four"""\n\n'.replace(",", separator)
    assert list(read_rows(write(tmp_path, "a.csv", "\ufeff" + text))) == [
        Row({"q": "one", "a": "two\nlines"}, "a.csv:2"),
        Row({"q": "three", "a": 'say "four"'}, "a.csv:4"),
    ]


def test_parquet_rows_are_numbered(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"n": list(range(600)), "t": [["x"]] * 600}), path)
    found = list(read_rows(path))
    assert len(found) == 600
    assert found[599] == Row({"n": 599, "t": ["x"]}, "a.parquet:600")


def test_an_empty_file_has_no_rows(tmp_path: Path) -> None:
    for name in ("a.jsonl", "a.json", "a.csv", "a.jsonl.gz"):
        assert list(read_rows(write(tmp_path, name, ""))) == []


def test_a_broken_line_is_named_with_its_line_and_the_way_out(tmp_path: Path) -> None:
    message = fault(write(tmp_path, "answers.jsonl", '{"a": 1}\n{"a": \n'))
    assert message.startswith("answers.jsonl:2: not valid JSON (")
    assert message.endswith(f"fix or remove the line, {SKIP}")


@pytest.mark.parametrize(
    ("line", "what"),
    [("[1]", "a list"), ('"x"', "a string"), ("3", "a number"), ("true", "true or false"), ("null", "null")],
)
def test_a_row_that_is_not_an_object_is_named(tmp_path: Path, line: str, what: str) -> None:
    assert fault(write(tmp_path, "a.jsonl", line)).startswith(
        f"a.jsonl:1: holds {what} where a row is one JSON object;"
    )


@pytest.mark.parametrize("raw", [b'{"text": "a\xff"}', b'\xff\xfe{\x00"\x00', b'{"\xff": 1}', b"a,b\n1,\xff\n"])
def test_bytes_that_are_not_utf8_are_named_with_the_byte(tmp_path: Path, raw: bytes) -> None:
    name = "a.csv" if raw.startswith(b"a,b") else "a.jsonl"
    message = fault(write(tmp_path, name, raw))
    assert message.startswith(f"{name}:{1 + raw.startswith(b'a,b')}: ")
    if raw[:2] != b"\xff\xfe":
        assert "is not UTF-8 (byte 0xff); save the file as UTF-8" in message


def test_depth_is_bounded(tmp_path: Path) -> None:
    for depth in (rows.MAX_DEPTH + 1, 100_000):
        text = '{"a": ' + "[" * depth + "]" * depth + "}"
        assert fault(write(tmp_path, "a.jsonl", text)).startswith("a.jsonl:1: is nested more than 64 deep;")
    wide = json.dumps({"a": [[n] for n in range(1000)]})
    assert len(list(read_rows(write(tmp_path, "a.jsonl", wide)))) == 1


def test_a_line_is_bounded_and_reading_goes_on_after_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "MAX_LINE_BYTES", 100)
    path = write(tmp_path, "a.jsonl", '{"a": "' + "x" * 1000 + '"}\n{"a": 2}\n')
    long, good = read_entries(path)
    assert str(long).startswith("a.jsonl:1: is longer than 100 bytes; split it,")
    assert good == Row({"a": 2}, "a.jsonl:2")


def test_a_list_is_bounded_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "MAX_FILE_BYTES", 10)
    assert "one JSON list of more than 10 bytes; save it as .jsonl" in fault(
        write(tmp_path, "a.json", '[{"a": 12345}]')
    )


def test_a_broken_list_is_named(tmp_path: Path) -> None:
    assert fault(write(tmp_path, "a.json", '[{"a": 1},')).startswith("a.json: not a valid JSON list (")
    assert fault(write(tmp_path, "a.json", '[{"a": 1},\n3]')).startswith("a.json:2: holds a number")


def test_a_damaged_gzip_file_is_named_with_the_line_and_the_rows_before_it_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl.gz"
    whole = gzip.compress(b"".join(b'{"a": "%d"}\n' % (n**9) for n in range(20_000)))
    path.write_bytes(whole[:-2000])
    *good, last = read_entries(path)
    assert len(good) > 1000
    assert str(last).startswith(f"a.jsonl.gz:{len(good) + 1}: is not a whole gzip file (")
    path.write_bytes(b"not gzip")
    assert "is not a whole gzip file" in fault(path)
    assert "copy or download it again" in fault(path)


def test_a_csv_row_of_the_wrong_width_is_named(tmp_path: Path) -> None:
    message = fault(write(tmp_path, "a.csv", "q,a\n1,2\n1,2,3\n"))
    assert message.startswith("a.csv:3: has 3 fields where the header has 2; put quotes around a field")


def test_an_unclosed_quote_costs_one_row_and_not_the_rest_of_the_file(tmp_path: Path) -> None:
    path = write(tmp_path, "a.csv", 'q,a\n1,2\n3,"4\n5,6\n7,8\n')
    assert fault(path).startswith("a.csv:3: not valid CSV (")
    assert [entry.value["q"] for entry in read_entries(path) if isinstance(entry, Row)] == ["1", "5", "7"]


def test_an_unclosed_quote_before_a_line_that_cannot_be_read_is_told_too(tmp_path: Path) -> None:
    entries = list(read_entries(write(tmp_path, "a.csv", b'q,a\n1,"2\n\xff\n5,6\n')))
    assert [str(entry).partition("; ")[0] for entry in entries[:2]] == [
        "a.csv:2: not valid CSV (a quote is not closed)",
        "a.csv:3: is not UTF-8 (byte 0xff)",
    ]
    assert entries[2] == Row({"q": "5", "a": "6"}, "a.csv:4")


def test_a_column_named_twice_is_named(tmp_path: Path) -> None:
    assert fault(write(tmp_path, "a.csv", "q,q\n1,2\n")) == "a.csv:1: names the column 'q' twice; rename one"


def test_parquet_that_is_not_is_named(tmp_path: Path) -> None:
    assert fault(write(tmp_path, "a.parquet", b"PAR1 no PAR1")).startswith("a.parquet:1: not valid Parquet (")


def test_a_parquet_value_that_cannot_be_read_costs_one_row(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    column = pyarrow.array([b"a", b"\xff", b"c"]).view(pyarrow.string())
    pyarrow.parquet.write_table(pyarrow.table({"t": column}), path)
    assert fault(path).startswith(
        "a.parquet:2: holds a value that cannot be read ('utf-8' codec can't decode byte 0xff"
    )
    found = list(read_entries(path))
    assert (found[0], found[2]) == (Row({"t": "a"}, "a.parquet:1"), Row({"t": "c"}, "a.parquet:3"))


def test_of_parquet_only_the_wanted_columns_are_read(tmp_path: Path) -> None:
    """A value of another column that cannot be read costs nothing, as none of that column is."""
    path = tmp_path / "a.parquet"
    bad = pyarrow.array([b"\xff"]).view(pyarrow.string())
    pyarrow.parquet.write_table(pyarrow.table({"note": bad, "a.b": ["x"], "text": ["one"]}), path)
    assert list(read_entries(path, columns=["text", "body"])) == [Row({"text": "one"}, "a.parquet:1")]
    assert list(read_entries(path, columns=["a.b"])) == [Row({"a.b": "x"}, "a.parquet:1")]
    (whole,) = read_entries(path, columns=["body"])  # it has none of them, which is told of the whole row
    assert "holds a value that cannot be read" in str(whole)


def test_the_fields_of_a_tsv_are_parted_by_tabs_whatever_its_header_holds(tmp_path: Path) -> None:
    prose = "One, two, three.\nFour, five.\n"
    found = list(read_rows(write(tmp_path, "a.tsv", "text\n" + prose)))
    assert [row.value for row in found] == [{"text": "One, two, three."}, {"text": "Four, five."}]
    (row,) = read_rows(write(tmp_path, "b.tsv.gz", "text, in short, plain\tn\nx\t1\n"))
    assert row.value == {"text, in short, plain": "x", "n": "1"}


def test_a_kind_without_rows_is_named(tmp_path: Path) -> None:
    assert fault(write(tmp_path, "a.txt", "x")).startswith("a.txt: .txt holds no rows; give one of .jsonl")
    assert fault(write(tmp_path, "a", "x")).startswith("a: a file without a suffix holds no rows;")


def test_a_file_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    assert fault(tmp_path / "no.jsonl") == (
        "no.jsonl: cannot be read (No such file or directory); check the path and its rights"
    )


def faults_only(path: Path) -> Iterator[Row]:
    """Whatever the bytes, only DataError comes out, in either way of reading."""
    for entry in read_entries(path):
        if isinstance(entry, DataError):
            assert str(entry).startswith(path.name)
        else:
            yield entry
    try:
        list(read_rows(path))
    except DataError:
        return


@fuzz
@given(data=st.binary(max_size=400), kind=st.sampled_from(["jsonl", "json", "csv", "tsv", "parquet", "jsonl.gz"]))
def test_random_bytes_give_rows_or_data_errors(tmp_path: Path, data: bytes, kind: str) -> None:
    path = tmp_path / f"a.{kind}"
    path.write_bytes(data)
    list(faults_only(path))


@fuzz
@given(flips=st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), min_size=1, max_size=6))
def test_flipped_bytes_in_parquet_give_rows_or_data_errors(tmp_path: Path, flips: list[tuple[int, int]]) -> None:
    path = tmp_path / "a.parquet"
    value = {"t": "text", "m": [{"role": "user"}], "n": 1.5}
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([value] * 9), path, compression="none")
    data = bytearray(path.read_bytes())
    for at, byte in flips:
        data[at % len(data)] = byte
    path.write_bytes(data)
    list(faults_only(path))


json_values = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False) | st.integers() | st.text(),
    st.lists,
    max_leaves=8,
)


@fuzz
@given(good=st.lists(st.dictionaries(st.text(), json_values, max_size=3), max_size=4), noise=st.binary(max_size=60))
def test_good_rows_around_noise_are_kept(tmp_path: Path, good: list[dict[str, object]], noise: bytes) -> None:
    noise = b"!" + noise.replace(b"\n", b"").replace(b"\r", b"")
    lines = [json.dumps(row).encode() for row in good]
    path = write(tmp_path, "a.jsonl", b"\n".join([noise, *lines, noise]))
    assert [row.value for row in faults_only(path)] == good


@fuzz
@given(st.lists(st.lists(st.text(alphabet='ab,"\n\r ', max_size=5), min_size=2, max_size=3), max_size=8))
def test_any_csv_that_python_writes_is_read_back(tmp_path: Path, table: list[list[str]]) -> None:
    quoted = [",".join('"' + cell.replace('"', '""') + '"' for cell in row) for row in table]
    path = write(tmp_path, "a.csv", "\n".join(["p,q", *quoted]))
    found = [list(row.value.values()) for row in faults_only(path)]
    assert found == [row for row in table if len(row) == 2 and any(row)]


@fuzz
@given(st.text(alphabet='ab,;"\n\r\x00é', max_size=80))
def test_any_text_as_csv_ends(tmp_path: Path, text: str) -> None:
    list(faults_only(write(tmp_path, "a.csv", text)))
