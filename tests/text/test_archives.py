"""What is packed reads like what is not, is named by where it lies, and is refused by name when it is damaged."""

import gzip
import io
import random
import zipfile
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trivium.errors import ConfigError, DataError, TriviumError
from trivium.records import Document
from trivium.text.answers import read_dialogues
from trivium.text.archives import members, open_bytes
from trivium.text.rows import read_rows
from trivium.text.sources import files_of, read_documents

fuzz = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def zstandard(data: bytes) -> bytes:
    packed = pyarrow.BufferOutputStream()
    with pyarrow.CompressedOutputStream(packed, "zstd") as stream:
        stream.write(data)
    return bytes(packed.getvalue())


PACK = {"": bytes, ".gz": gzip.compress, ".zst": zstandard}
ROWS = b'{"text": "one"}\n{"text": "two"}\n'


def zipped(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def read(*specs: object) -> list[Document]:
    return list(read_documents([str(spec) for spec in specs]))


def parquet(texts: list[str]) -> bytes:
    file = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table({"text": texts}), file)
    return file.getvalue()


@pytest.mark.parametrize("packed", PACK)
@pytest.mark.parametrize(
    ("kind", "data", "lines"),
    [
        ("jsonl", ROWS, (1, 2)),
        ("json", b'[{"text": "one"},\n{"text": "two"}]', (1, 2)),
        ("csv", b"text\none\ntwo\n", (2, 3)),
        ("parquet", parquet(["one", "two"]), (1, 2)),
        ("txt", b"one\n<|endoftext|>\ntwo\n", (0, 3)),
    ],
)
def test_every_kind_reads_the_same_however_it_is_packed(
    tmp_path: Path, kind: str, data: bytes, lines: tuple[int, int], packed: str
) -> None:
    name = f"a.{kind}{packed}"
    (tmp_path / name).write_bytes(PACK[packed](data))
    archive = zipped(tmp_path / "z.zip", {f"sub/{name}": PACK[packed](data)})
    for path, called in ((tmp_path / name, name), (archive, f"z.zip/sub/{name}")):
        places = [f"{called}:{line}" if line else called for line in lines]
        assert read(path) == [Document("one", places[0]), Document("two", places[1])]


@fuzz
@given(data=st.binary(max_size=3000), cut=st.integers(1, 40), kind=st.sampled_from([".gz", ".zst"]))
def test_packed_bytes_come_back_and_a_file_that_was_cut_off_is_named(
    tmp_path: Path, data: bytes, cut: int, kind: str
) -> None:
    path = tmp_path / f"a.txt{kind}"
    path.write_bytes(PACK[kind](data))
    with open_bytes(path, path.name) as file:
        assert file.read() == data
    path.write_bytes(path.read_bytes()[: -min(cut, path.stat().st_size - 1)])
    with pytest.raises(DataError, match=r"a.txt.(gz|zst): is not a whole (gzip|zstandard) file \("):  # noqa: SIM117
        with open_bytes(path, path.name) as file:
            file.read()


def test_an_archive_stands_for_its_files_and_each_of_them_can_be_named(tmp_path: Path) -> None:
    files = {
        "b.txt": b"bee",
        "sub/a.txt": b"below",
        "d.jsonl": ROWS,
        "x.pdf": b"%PDF",
        "__MACOSX/b.txt": b"no",
        ".h.txt": b"no",
    }
    archive = zipped(tmp_path / "z.zip", files)
    assert members(archive) == [archive / "b.txt", archive / "d.jsonl", archive / "sub" / "a.txt", archive / "x.pdf"]
    assert files_of(str(archive)) == files_of(str(tmp_path)) == members(archive)[:3]
    assert files_of(f"{archive}/sub") == files_of(f"{archive}/sub/a.txt") == [archive / "sub" / "a.txt"]
    assert files_of(f"{archive}/*.txt") == [archive / "b.txt", archive / "sub" / "a.txt"]
    assert read(f"{archive}/d.jsonl:text")[0] == Document("one", "z.zip/d.jsonl:1")
    with pytest.raises(
        ConfigError, match=r'z.zip/c.txt": the archive ".*z.zip" has no such member; did you mean .*z.zip/b.txt\?'
    ):
        read(f"{archive}/c.txt")
    with pytest.raises(ConfigError, match=r"has no such member; it holds b.txt, d.jsonl, sub/a.txt, x.pdf"):
        read(f"{archive}/nothing/like/it")


def test_answers_may_lie_in_an_archive_too(tmp_path: Path) -> None:
    archive = zipped(tmp_path / "z.zip", {"a.jsonl": b'{"prompt": "Hi", "response": "Hello."}\n'})
    (dialogue,) = read_dialogues([str(archive)])
    assert dialogue.source == "z.zip/a.jsonl:1"


def test_a_fault_in_an_archive_is_named_with_file_and_line(tmp_path: Path) -> None:
    archive = zipped(tmp_path / "z.zip", {"a.jsonl": b'{"text": "x"}\n{"text": 3}\n'})
    with pytest.raises(DataError, match=r'^z.zip/a.jsonl:2: "text" is a number'):
        read(archive)


def test_two_archives_with_files_of_the_same_name_are_told_apart(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        zipped(tmp_path / folder / "z.zip", {"a.txt": folder.encode()})
    assert [d.source for d in read(tmp_path)] == ["one/z.zip/a.txt", "two/z.zip/a.txt"]


def test_a_name_that_leads_out_of_its_archive_stays_inside(tmp_path: Path) -> None:
    archive = zipped(tmp_path / "z.zip", {"../../out.txt": b"in", "/etc/passwd.txt": b"also"})
    assert [d.source for d in read(archive)] == ["z.zip/etc/passwd.txt", "z.zip/out.txt"]
    assert list(tmp_path.iterdir()) == [archive]


def test_damaged_archives_are_named(tmp_path: Path) -> None:
    noise = random.Random(0).randbytes(2000).hex().encode()
    whole = zipped(tmp_path / "z.zip", {"a.txt": noise}).read_bytes()
    for damaged in (whole[:-30], b"not zip", whole[:500] + b"\0\0\0\0" + whole[504:]):
        (tmp_path / "z.zip").write_bytes(damaged)
        with pytest.raises(DataError, match=r"^z.zip(/a.txt)?: is not a whole zip file \("):
            read(tmp_path / "z.zip")


def test_a_file_under_a_password_is_named(tmp_path: Path) -> None:
    archive = zipped(tmp_path / "z.zip", {"a.txt": b"secret"})
    data = bytearray(archive.read_bytes())
    data[6] |= 1
    data[data.index(b"PK\x01\x02") + 8] |= 1  # the flag in the file's own header, and in the directory
    archive.write_bytes(data)
    with pytest.raises(DataError, match=r"^z.zip/a.txt: .*password"):
        read(archive)


def test_an_archive_that_was_replaced_is_read_anew(tmp_path: Path) -> None:
    archive = zipped(tmp_path / "z.zip", {"a.txt": b"first"})
    assert [d.text for d in read(archive)] == ["first"]
    zipped(archive, {"a.txt": b"second, longer"})
    assert [d.text for d in read(archive)] == ["second, longer"]


@fuzz
@given(data=st.binary(max_size=200), name=st.sampled_from(["a.zip", "a.txt.zst", "a.jsonl.zst", "a.parquet.zst"]))
def test_random_bytes_in_packed_files_give_errors_with_a_name(tmp_path: Path, data: bytes, name: str) -> None:
    (tmp_path / name).write_bytes(data)
    told = ""
    try:
        read(tmp_path / name)
    except TriviumError as error:
        told = str(error)
    assert name in told


def test_rows_of_a_packed_file_keep_their_line_numbers(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl.zst").write_bytes(zstandard(b"\n" + ROWS))
    assert [row.where for row in read_rows(tmp_path / "a.jsonl.zst")] == ["a.jsonl.zst:2", "a.jsonl.zst:3"]
