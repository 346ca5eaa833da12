import hashlib
import json

import numpy as np
import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st

from trivium.errors import CheckpointError, ConfigError
from trivium.text.tokenizer import SPECIAL, Tokenizer, train, well_formed

TEXTS = ["The cat sat on the mat.\n\nIt's 1984 again, said O'Brien!\n", "def f(x):\n    return x + 10\n"] * 20
TOKENIZER = train(TEXTS, vocab_size=300)
# A vocabulary that holds merges over newlines and over the edges of special tokens, wherever the cutting permits them.
TEMPTED = train(["\n\n", "\n  \n\n", "!\n", "a<|", "!<|", "<|<|", "|>!", "|>|>", "!!|>\n", " <|"] * 20, vocab_size=400)
SPELLED = st.lists(st.one_of(st.text(max_size=8), st.sampled_from([*SPECIAL, "<|", "|>", "!", "\n", " ", "\r\n"]))).map(
    "".join
)


@given(st.text() | SPELLED)
def test_decoding_gives_back_any_text(text):
    assert TOKENIZER.decode(TOKENIZER.encode(text)) == text


@given(SPELLED)
def test_text_never_becomes_a_control_token(text):
    assert all(id >= len(SPECIAL) for id in TOKENIZER.encode(text))
    assert all((ids >= len(SPECIAL)).all() for ids in TOKENIZER.encode_many([text]))


@given(SPELLED, SPELLED)
def test_text_joined_at_a_newline_has_the_joined_ids(before, after):
    joined = TEMPTED.encode(f"{before}\n{after}")
    assert joined == TEMPTED.encode(before) + TEMPTED.encode("\n") + TEMPTED.encode(after)


@given(SPELLED, st.sampled_from(SPECIAL), SPELLED)
def test_text_joined_at_a_typed_special_token_has_the_joined_ids(before, name, after):
    joined = TEMPTED.encode(before + name + after)
    assert joined == TEMPTED.encode(before) + TEMPTED.encode(name) + TEMPTED.encode(after)


@given(st.lists(SPELLED, max_size=4))
def test_encoding_many_is_encoding_each(texts):
    many = TOKENIZER.encode_many(texts)
    assert [ids.tolist() for ids in many] == [TOKENIZER.encode(text) for text in texts]
    assert all(ids.dtype == np.int32 for ids in many)


@given(st.text() | SPELLED)
def test_the_tokens_of_a_text_hold_its_bytes(text):
    assert b"".join(TOKENIZER.token_bytes(id) for id in TOKENIZER.encode(text)) == text.encode()


def test_a_control_token_writes_no_bytes_and_no_text():
    for name, id in zip(SPECIAL, range(len(SPECIAL)), strict=True):
        assert TOKENIZER.token_bytes(id) == b""
        assert TOKENIZER.decode([id]) == ""
        assert TOKENIZER.decode([id], keep_special=True) == name


def test_special_ids_come_first_and_padding_is_not_the_end():
    names = TOKENIZER
    ids = [names.end_of_text, names.turn_start, names.turn_end, names.blank_prefix, names.blank_middle]
    assert [*ids, names.blank_suffix, names.pad] == list(range(7))


def test_every_digit_is_a_token():
    assert len(TOKENIZER.encode("1984")) == 4


def test_half_a_surrogate_pair_becomes_the_replacement_character():
    assert TOKENIZER.decode(TOKENIZER.encode("a\ud800b")) == "a\ufffdb"
    assert well_formed("\ud83d\ude00") == "😀"
    assert train(["a\ud800b"], vocab_size=300).vocab_size >= 263


def test_training_twice_gives_the_same_tokenizer():
    assert train(iter(TEXTS), vocab_size=300).fingerprint() == TOKENIZER.fingerprint()
    assert train(TEXTS, vocab_size=290).fingerprint() != TOKENIZER.fingerprint()


def test_the_vocabulary_is_as_large_as_asked_or_as_the_text_allows():
    assert TOKENIZER.vocab_size == 300
    assert train(["ab"], vocab_size=400).vocab_size == 264
    short = train(TEXTS, vocab_size=40_000)
    assert short.vocab_size > 300
    assert short.vocab_size % 16 == 0
    assert short.fingerprint() == train(TEXTS, vocab_size=short.vocab_size).fingerprint()


def test_a_vocabulary_without_room_for_bytes_is_refused():
    with pytest.raises(ConfigError, match="vocab_size = 262: must hold 256 bytes and 7 special tokens; give 263"):
        train(TEXTS, vocab_size=262)
    assert train(TEXTS, vocab_size=263).vocab_size == 263


def test_a_saved_tokenizer_is_the_same_when_loaded(tmp_path):
    TOKENIZER.save(tmp_path / "new" / "folder")
    loaded = Tokenizer.load(tmp_path / "new" / "folder")
    text = "The cat <|im_end|> sat\n"
    assert loaded.encode(text) == TOKENIZER.encode(text)
    assert loaded.fingerprint() == TOKENIZER.fingerprint()


def test_the_fingerprint_is_that_of_the_file(tmp_path):
    TOKENIZER.save(tmp_path)
    data = (tmp_path / "tokenizer.json").read_bytes()
    assert hashlib.sha256(data).hexdigest().startswith(TOKENIZER.fingerprint())


def test_the_settings_say_how_turns_end_and_how_long_a_text_may_be(tmp_path):
    TOKENIZER.save(tmp_path, context_length=512)
    config = json.loads((tmp_path / "tokenizer_config.json").read_text())
    assert (config["eos_token"], config["pad_token"], config["model_max_length"]) == ("<|im_end|>", "<|pad|>", 512)
    assert "<|im_start|>" in config["chat_template"]


def test_a_missing_tokenizer_is_named(tmp_path):
    with pytest.raises(CheckpointError, match=r"has no tokenizer\.json; name a model folder"):
        Tokenizer.load(tmp_path)


def test_a_damaged_tokenizer_is_named(tmp_path):
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"tokenizer\.json: cannot be read"):
        Tokenizer.load(tmp_path)


def test_a_tokenizer_without_our_special_tokens_is_refused(tmp_path):
    tokenizers.Tokenizer(tokenizers.models.BPE()).save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(CheckpointError, match=r"has no token <\|endoftext\|>"):
        Tokenizer.load(tmp_path)


def test_rows_of_a_padded_vocabulary_write_nothing(tokenizer: Tokenizer) -> None:
    assert tokenizer.token_bytes(tokenizer.vocab_size) == tokenizer.token_bytes(tokenizer.vocab_size + 99) == b""
