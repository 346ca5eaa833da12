"""Documents on disk: what is written is read, on the right side, and nothing that repeats comes to both."""

import gc
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trivium.errors import DataError
from trivium.records import Document
from trivium.text.documents import Corpus, Rules, Side, gather
from trivium.text.schemas import quiet, unseen
from trivium.text.split import split

few = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
WORDS = [f"word{n}" for n in range(300)]


def long(seed: int, *, changed: int = 0) -> str:
    """A text of 120 words; versions with few changes are near it."""
    drawn = np.random.Generator(np.random.Philox(seed)).integers(0, len(WORDS), 120)
    words = [WORDS[i] for i in drawn]
    return " ".join([*words[: len(words) - changed], *["other"] * changed])


def corpus(
    texts: Iterable[tuple[str, Side]], folder: Path | None = None, say: Any = quiet, key: str = "k", **rules: Any
) -> Corpus:
    stream = ((Document(text, f"file:{n}"), side) for n, (text, side) in enumerate(texts))
    return gather(stream, folder, key=key, rules=Rules(**{"share": 0.2, **rules}), say=say, progress=unseen)


def shared(*texts: str, **settings: Any) -> Corpus:
    return corpus([(text, Side.SHARE) for text in texts], **settings)


def said(documents: Iterable[Document]) -> list[str]:
    return [document.text for document in documents]


@few
@given(st.lists(st.text(max_size=40), max_size=8, unique_by=lambda text: " ".join(text.casefold().split())))
def test_every_text_comes_back_as_it_was_in_its_order(texts: list[str]) -> None:
    found = corpus((text, Side.LEARN) for text in texts).train
    assert said(found) == texts
    assert [found[i].text for i in range(len(found))] == texts
    assert said(found[::2]) == texts[::2]
    assert [document.source for document in found] == [f"file:{n}" for n in range(len(texts))]


def test_half_a_character_that_no_utf8_holds_comes_back_too() -> None:
    assert said(corpus([("a\ud83d b", Side.LEARN)]).train) == ["a\ud83d b"]


def test_documents_that_repeat_nothing_are_parted_as_records_are() -> None:
    texts = [long(n) for n in range(200)]
    parted = split(texts, key=lambda text: " ".join(text.casefold().split()), share=0.2)
    found = shared(*texts)
    assert (said(found.train), said(found.held_out)) == (parted.train, parted.held_out)


def test_repeated_texts_are_left_out_and_said_in_one_line() -> None:
    told: list[str] = []
    texts = [long(n) for n in range(20)]
    found = shared(
        *texts, *[text.upper() for text in texts[:5]], *[long(n, changed=4) for n in range(3)], say=told.append
    )
    assert sorted(said([*found.train, *found.held_out])) == sorted(texts)
    (line,) = told
    assert line.startswith(
        "of 28 documents 5 repeat others word for word, 3 nearly (80%) and are left out; 0.0 MB read at "
    )


def test_texts_that_repeat_others_nearly_are_told_in_a_whole_sentence() -> None:
    told: list[str] = []
    shared(*[long(n) for n in range(20)], *[long(n, changed=4) for n in range(3)], say=told.append)
    assert told[0].startswith("of 23 documents 3 repeat others nearly (80%) and are left out; ")


def test_only_what_repeats_word_for_word_is_left_out_where_that_is_asked_and_nothing_with_keep() -> None:
    texts = [long(0), long(0), long(0, changed=3), *(long(n) for n in range(1, 30))]
    assert sum(map(len, shared(*texts))) == 30
    assert sum(map(len, shared(*texts, repeats="exact"))) == 31
    assert sum(map(len, shared(*texts, repeats="keep"))) == 32


@pytest.mark.parametrize("repeats", ["near", "exact", "keep"])
@pytest.mark.parametrize("seed", range(3))
def test_no_two_versions_of_a_text_come_to_different_sides(repeats: str, seed: int) -> None:
    texts = [long(100 * seed + n, changed=changed) for changed in (0, 2, 5) for n in range(30)]
    found = shared(*texts, share=0.4, repeats=repeats)
    beginnings = [{" ".join(document.text.split()[:60]) for document in side} for side in found]
    assert all(beginnings)
    assert not beginnings[0] & beginnings[1]


def test_what_the_user_measures_on_is_never_learned_from() -> None:
    told: list[str] = []
    learned = [(long(n), Side.TRAIN) for n in range(10)]
    measured = [(long(0), Side.HELD_OUT), (long(1, changed=3), Side.HELD_OUT), (long(0), Side.HELD_OUT)]
    for repeats, apart in (("near", 2), ("keep", 3)):
        found = corpus([*learned, *measured], repeats=repeats, say=told.append)
        assert said(found.train) == [long(n) for n in range(2, 10)]
        assert len(found.held_out) == apart
    assert "2 repeat what is held out and are left out" in told[1]


def test_what_a_world_writes_is_not_compared() -> None:
    found = corpus([(long(0), Side.LEARN), (long(0), Side.MEASURE), (long(0), Side.LEARN)])
    assert (len(found.train), len(found.held_out)) == (2, 1)


def test_with_two_texts_neither_side_is_empty() -> None:
    for n in range(6):
        found = shared(long(n), long(n + 100), share=0.01)
        assert (len(found.train), len(found.held_out)) == (1, 1)


def test_a_known_key_is_opened_without_reading_and_other_rules_are_gathered_anew(tmp_path: Path) -> None:
    def unread() -> Iterator[tuple[str, Side]]:
        raise AssertionError("read")
        yield "", Side.SHARE

    texts = [(long(n), Side.SHARE) for n in range(9)]
    first = corpus(texts, tmp_path)
    assert said(corpus(unread(), tmp_path).train) == said(first.train)
    for other in ({"share": 0.4}, {"key": "another"}):
        with pytest.raises(AssertionError):
            corpus(unread(), tmp_path, **other)
    assert len(list(tmp_path.iterdir())) == 1


def test_the_fingerprint_names_texts_order_and_weights() -> None:
    one, two, three = long(0), long(1), long(2)
    base = corpus([(one, Side.LEARN), (two, Side.LEARN)]).train
    assert base.fingerprint == corpus([(one, Side.LEARN), (three, Side.MEASURE), (two, Side.LEARN)]).train.fingerprint
    heavy = [(Document(one, "a", 2.0), Side.LEARN), (Document(two, "b"), Side.LEARN)]
    weighed = gather(heavy, None, key="", rules=Rules(0.1), say=quiet, progress=unseen).train
    others = [corpus([(two, Side.LEARN), (one, Side.LEARN)]).train, base[:1], weighed]
    assert len({base.fingerprint, *(other.fingerprint for other in others)}) == 4
    assert base.weights is None
    assert weighed.weights is not None
    assert weighed.weights.tolist() == [document.weight for document in weighed] == [2.0, 1.0]


def test_a_temporary_folder_goes_with_its_documents(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    found = shared(long(0), long(1))
    some = found.train[:1]
    del found
    gc.collect()
    assert len(said(some)) == 1
    del some
    gc.collect()
    assert list(tmp_path.iterdir()) == []


def test_a_failed_reading_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def failing() -> Iterator[tuple[str, Side]]:
        yield long(0), Side.SHARE
        raise DataError("a.txt:2: is broken")

    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    for folder in (None, tmp_path / "kept"):
        with pytest.raises(DataError, match="is broken"):
            corpus(failing(), folder)
    assert [path for path in tmp_path.rglob("*") if path.name != "kept"] == []


def test_damaged_files_are_named(tmp_path: Path) -> None:
    shared(long(0), long(1), folder=tmp_path)
    (home,) = tmp_path.iterdir()
    texts = (home / "texts.bin").read_bytes()
    (home / "texts.bin").write_bytes(texts[:-1])
    with pytest.raises(DataError, match="do not fit each other; delete the folder and run again"):
        shared(folder=tmp_path)
    (home / "offsets.npy").unlink()
    with pytest.raises(DataError, match="gathered texts are damaged"):
        shared(folder=tmp_path)
