"""Data sets of the hub, from folders that are laid out as there: the same library opens both, without a network."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from trivium.errors import ConfigError, DataError, TriviumError
from trivium.records import Dialogue, Document, Message, Pair
from trivium.text import hub
from trivium.text.answers import read_dialogues
from trivium.text.preferences import read_pairs
from trivium.text.sources import read_documents


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    import datasets
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))


@pytest.fixture
def stories(tmp_path: Path) -> Path:
    """Parquet files of two splits, the larger one in two parts."""
    folder = tmp_path / "stories"
    (folder / "data").mkdir(parents=True)
    for part, rows in {"train-00000-of-00002": [0, 1], "train-00001-of-00002": [2], "test-00000-of-00001": [9]}.items():
        table = pyarrow.table({"id": rows, "text": [f"story {n}" for n in rows], "title": [f"title {n}" for n in rows]})
        pyarrow.parquet.write_table(table, folder / "data" / f"{part}.parquet")
    return folder


def jsonl(folder: Path, *rows: dict[str, Any]) -> Path:
    folder.mkdir()
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def documents(spec: str, **settings: Any) -> list[Document]:
    return list(read_documents([spec], **settings))


def fault(spec: str) -> str:
    with pytest.raises(TriviumError) as caught:
        documents(spec)
    return str(caught.value)


def test_the_training_split_is_read_in_the_order_of_its_files(stories: Path) -> None:
    said: list[str] = []
    found = documents(f"hf:{stories}", say=said.append)
    assert found == [Document(f"story {n}", f"hf:{stories}@train:{n + 1}") for n in range(3)]
    assert said == [f'hf:{stories}@train: text in column "text", 3 documents']


def test_another_split_and_another_column_can_be_named(stories: Path) -> None:
    assert [document.text for document in documents(f"hf:{stories}@test:title")] == ["title 9"]


def test_columns_that_are_not_wanted_are_not_decoded(stories: Path) -> None:
    known = hub.parse(f"hf:{stories}", field="data.text")
    assert [row.value for row in hub.read_rows(known, ["title", "body"])] == [{"title": f"title {n}"} for n in range(3)]
    assert next(hub.read_rows(known, ["body"])).value == {"id": 0, "text": "story 0", "title": "title 0"}


def test_a_weight_follows_the_name(stories: Path) -> None:
    assert {document.weight for document in documents(f"hf:{stories}@train:text*0.5")} == {0.5}


def test_answers_and_pairs_are_read_by_the_same_names(tmp_path: Path) -> None:
    folder = jsonl(tmp_path / "both", {"prompt": "Hi", "completion": "Hello."})
    (dialogue,) = read_dialogues([f"hf:{folder}*2"])
    asked = (Message("user", "Hi"), Message("assistant", "Hello."))
    assert dialogue == Dialogue(asked, f"hf:{folder}@train:1", weight=2.0)
    folder = jsonl(tmp_path / "pairs", {"prompt": "Hi", "chosen": "Hello.", "rejected": "No."})
    (pair,) = read_pairs([f"hf:{folder}"])
    assert pair == Pair((Message("user", "Hi"),), "Hello.", "No.", f"hf:{folder}@train:1")


def test_rows_are_read_as_they_are_asked_for(stories: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[Any] = []

    def endless(*_: object) -> Iterator[dict[str, object]]:
        opened.append(0)
        return ({"text": str(number)} for number in range(10**9))

    monkeypatch.setattr(hub, "_open", endless)
    stream = hub.read_rows(hub.parse(f"hf:{stories}", field="data.text"))
    assert opened == []
    assert next(stream).value == {"text": "0"}


def test_no_more_text_is_taken_than_was_asked_for_and_that_is_said(stories: Path) -> None:
    said: list[str] = []
    size = len("story 0")
    for most, count in ((1, 1), (size, 1), (size + 1, 2), (3 * size, 3)):
        assert len(documents(f"hf:{stories}", most=most, say=said.append)) == count
    held = [f'text in column "text", {count}' for count in ("1 document", "1 document", "2 documents")]
    expected = [line for one in held for line in ("its first 0.0 MB are taken", one)]
    assert [line.partition(": ")[2] for line in said[:-1]] == expected
    assert "3 documents" in said[-1]
    assert len(documents(str(stories / "data" / "train-00000-of-00002.parquet"), most=1)) == 2  # a file is read whole


def test_what_is_wrong_is_said_with_field_value_and_remedy(stories: Path, tmp_path: Path) -> None:
    assert fault(f"hf:{stories}@tst") == f'data.text = "hf:{stories}@tst": has no split tst; did you mean test?'
    assert fault(f"hf:{stories}@all").endswith("has no split all; it has train, test")
    assert "Available: ['default']" in fault(f"hf:{stories}:french")
    assert "there is no such data set" in fault(f"hf:{tmp_path}/nothing")
    (tmp_path / "empty").mkdir()
    assert "there is no such data set" in fault(f"hf:{tmp_path}/empty")
    assert "did you mean text?" in fault(f"hf:{stories}@train:txt")


def test_without_a_network_the_remedy_is_a_file(stories: Path) -> None:
    told = fault("hf:somebody/something")
    assert told.startswith('data.text = "hf:somebody/something": the hub cannot be reached (')
    assert told.endswith("; check the network, or name a file or a folder on this machine")


@pytest.mark.parametrize("spec", ["hf:", "hf:@train", "hf:a:@train", "hf:a@", "hf:a@train:"])
def test_a_name_of_another_shape_is_refused_with_an_example(spec: str) -> None:
    with pytest.raises(ConfigError, match=r"a data set is named hf:NAME\[:CONFIG\]\[@SPLIT\[:COLUMN\]\], as in hf:"):
        hub.parse(spec, field="data.text")


def test_all_parts_of_a_name_are_understood() -> None:
    assert hub.parse("hf:a/b:c@d:e f", field="data.text")[1:] == ("a/b", "c", "d", "e f")
    assert hub.parse("hf:a/b:c@d", field="data.text").label == "hf:a/b:c@d"


def test_a_bad_row_is_named_and_a_broken_file_ends_it_even_where_bad_rows_are_skipped(tmp_path: Path) -> None:
    folder = jsonl(tmp_path / "rows", {"text": "one"}, {"text": None}, {"text": "three"})
    assert [document.text for document in documents(f"hf:{folder}")] == ["one", "three"]
    folder = jsonl(tmp_path / "turns", {"messages": [{"role": "user", "content": "Hi"}]})
    with pytest.raises(DataError, match=r"@train:1: .* ends with role"):
        list(read_dialogues([f"hf:{folder}"]))
    broken = jsonl(tmp_path / "broken", {"text": "one"})
    (broken / "train.jsonl").write_text('{"text": "one"}\n{"text": \n')
    with pytest.raises(ConfigError, match="cannot be read"):
        documents(f"hf:{broken}", bad_rows="skip")
