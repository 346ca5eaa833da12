import errno
import json

import numpy as np
import pytest

from trivium.errors import CheckpointError, DataError
from trivium.text.shards import Shard, write
from trivium.text.tokenizer import train

TEXTS = ["The cat sat.\n", "", "漢字 <|endoftext|> 😀", "The end"] * 3
TOKENIZER = train(TEXTS, vocab_size=280)


def test_a_document_is_its_text_and_the_end(tmp_path):
    shard = write(iter(TEXTS), TOKENIZER, tmp_path, key="a")
    assert len(shard) == len(TEXTS)
    for i, text in enumerate(TEXTS):
        ids = shard.document(i)
        assert ids.dtype == np.int32
        assert ids.tolist() == [*TOKENIZER.encode(text), TOKENIZER.end_of_text]
        assert shard.lengths[i] == len(ids)
        assert shard.byte_lengths[i] == len(text.encode())


def test_of_a_part_of_a_document_nothing_else_is_read(tmp_path):
    shard = write(TEXTS, TOKENIZER, tmp_path, key="a")
    whole, asked = shard.document(2).tolist(), []

    class Watched:
        def __getitem__(self, places):
            asked.append(places)
            return tokens[places]

    tokens, shard._tokens = shard._tokens, Watched()
    for start, stop in [(0, 3), (2, 5), (3, len(whole)), (1, None), (4, 4), (5, 10**6), (10**6, None)]:
        assert shard.document(2, start, stop).tolist() == whole[start:stop]
        assert asked[-1].stop - asked[-1].start == len(whole[start:stop])


def test_some_documents_are_from_beginning_to_end_of_it(tmp_path):
    shard = write([f"text {i:03}" for i in range(100)], TOKENIZER, tmp_path, key="a")
    length = int(shard.lengths[0])
    assert [ids.tolist() for ids in shard.some(10**6)] == [shard.document(i).tolist() for i in range(100)]
    assert [ids.tolist() for ids in shard.some(10 * length)] == [shard.document(i).tolist() for i in range(0, 100, 10)]
    assert sum(map(len, shard.some(3))) == 3
    assert (some := [ids.tolist() for ids in shard.some(60 * length)])[-1] == shard.document(98).tolist()
    assert len(some) == 60


def test_a_known_key_is_opened_without_reading_a_text(tmp_path):
    def unread():
        raise AssertionError("read")
        yield ""

    first = write(TEXTS, TOKENIZER, tmp_path, key="a")
    again = write(unread(), TOKENIZER, tmp_path, key="a")
    assert again.folder == first.folder
    assert again.document(2).tolist() == first.document(2).tolist()


def test_another_key_or_tokenizer_is_another_folder(tmp_path):
    other = train(TEXTS, vocab_size=270)
    shards = [write(TEXTS, t, tmp_path, key=key) for t, key in [(TOKENIZER, "a"), (TOKENIZER, "b"), (other, "a")]]
    assert len({shard.folder for shard in shards}) == 3
    assert shards[0].meta["texts"] == shards[2].meta["texts"]
    assert shards[0].meta["tokenizer"] != shards[2].meta["tokenizer"]


def test_groups_of_texts_make_the_same_files_as_one(tmp_path, monkeypatch):
    whole = write(TEXTS, TOKENIZER, tmp_path / "whole", key="a")
    monkeypatch.setattr("trivium.text.shards._CHARACTERS_AT_ONCE", 10)
    parts = write(TEXTS, TOKENIZER, tmp_path / "parts", key="a")
    for name in ("tokens.bin", "offsets.npy", "bytes.npy", "meta.json"):
        assert (whole.folder / name).read_bytes() == (parts.folder / name).read_bytes()


def test_a_small_vocabulary_takes_two_bytes_a_token(tmp_path):
    shard = write(TEXTS, TOKENIZER, tmp_path, key="a")
    assert (shard.folder / "tokens.bin").stat().st_size == 2 * shard.lengths.sum()
    assert json.loads((shard.folder / "meta.json").read_text())["tokens"] == shard.lengths.sum()


def test_a_large_vocabulary_takes_four_bytes_a_token(tmp_path, monkeypatch):
    monkeypatch.setattr(TOKENIZER, "vocab_size", 2**16 + 1)
    shard = write(TEXTS, TOKENIZER, tmp_path, key="a")
    assert (shard.folder / "tokens.bin").stat().st_size == 4 * shard.lengths.sum()
    assert shard.document(3).tolist() == [*TOKENIZER.encode(TEXTS[3]), TOKENIZER.end_of_text]


def test_a_failed_write_leaves_nothing_behind(tmp_path):
    def failing():
        yield "a text"
        raise OSError(errno.EIO, "the disk is gone")

    with pytest.raises(CheckpointError, match="the disk is gone"):
        write(failing(), TOKENIZER, tmp_path, key="a")
    assert list(tmp_path.iterdir()) == []


def test_the_folder_that_another_process_has_written_meanwhile_stays(tmp_path):
    def slow():
        write(TEXTS, TOKENIZER, tmp_path, key="a")
        yield from TEXTS

    shard = write(slow(), TOKENIZER, tmp_path, key="a")
    assert [path.name for path in tmp_path.iterdir()] == [shard.folder.name]


def test_no_texts_are_refused(tmp_path):
    with pytest.raises(DataError, match="documents: there are none; name a source that holds text"):
        write([], TOKENIZER, tmp_path, key="a")


def test_damaged_token_files_are_named(tmp_path):
    folder = write(TEXTS, TOKENIZER, tmp_path, key="a").folder
    data = (folder / "tokens.bin").read_bytes()
    (folder / "tokens.bin").write_bytes(data[:-2])
    with pytest.raises(DataError, match="do not fit each other; delete the folder and run again"):
        Shard(folder)
    (folder / "offsets.npy").unlink()
    with pytest.raises(DataError, match="token files are damaged"):
        Shard(folder)
