"""The documentation of this Python."""

import hashlib
import subprocess
import sys

import pytest

from trivium.errors import DataError
from trivium.records import Document
from trivium.worlds import pydocs


@pytest.fixture(scope="module")
def found() -> list[Document]:
    return list(pydocs.documents())


def test_there_are_megabytes_of_it_in_documents_of_a_sentence_or_more(found: list[Document]) -> None:
    assert sum(len(document.text) for document in found) > 1_000_000
    assert all(len(document.text.split()) >= pydocs.FEWEST_WORDS for document in found)
    assert len({document.source for document in found}) > 0.99 * len(found)


def test_the_manual_the_library_and_what_is_built_in_are_there(found: list[Document]) -> None:
    told = {document.source: document.text for document in found}
    assert 'The "if" statement is used for conditional execution' in told["pydocs:if"]
    assert told["pydocs:json"].startswith("JSON (JavaScript Object Notation) <")
    assert "\n\nTextWrapper.wrap(self, text)\n\n" in told["pydocs:textwrap.TextWrapper"]
    assert "str.split" in told["pydocs:str"]


def test_it_is_english_without_markup_and_examples(found: list[Document]) -> None:
    whole = "".join(document.text for document in found)
    assert ":func:`" not in whole
    assert not any(line.lstrip().startswith(">>>") for line in whole.splitlines())
    assert whole.lower().split().count("the") / len(whole.split()) > 0.03


def test_it_is_the_same_each_time_and_nothing_that_it_is_about_is_imported(found: list[Document]) -> None:
    code = """
import hashlib, sys
from trivium.worlds import pydocs
before = set(sys.modules)
digest = hashlib.sha256(repr(list(pydocs.documents())).encode()).hexdigest()
own = ("encodings", "_sysconfigdata")  # of Python itself, to read files
print(digest, [name for name in set(sys.modules) - before if not name.startswith(own)])
"""
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert told.strip() == f"{hashlib.sha256(repr(found).encode()).hexdigest()} []"


def test_a_python_without_its_sources_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sysconfig.get_path", lambda name: "/nowhere")
    with pytest.raises(DataError, match="pydocs: /nowhere holds no sources; name texts of your own"):
        next(pydocs.documents())


def test_a_file_that_is_no_python_says_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: pytest.TempPathFactory
) -> None:

    (tmp_path / "broken.py").write_text("def (:")
    (tmp_path / "binary.py").write_bytes(b"\xff\0")
    (tmp_path / "good.py").write_text(f'"""{"One word after the other. " * 5}"""')
    monkeypatch.setattr("sysconfig.get_path", lambda name: str(tmp_path))
    assert [document.source for document in pydocs.documents() if document.source == "pydocs:good"] == ["pydocs:good"]
