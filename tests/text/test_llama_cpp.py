"""Vocabularies for llama.cpp: the name of how texts are cut is right, or there is none and it is refused."""

import json

import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Regex, decoders, models, pre_tokenizers, trainers

from trivium.errors import CheckpointError
from trivium.model.gguf import CONTROL
from trivium.text import llama_cpp
from trivium.text.tokenizer import SPECIAL, Tokenizer
from trivium.text.tokenizer import train as train_tokenizer
from trivium.worlds import tinyworld

TEXTS = [tinyworld.story(0, i, held_out=False) for i in range(40)] + list(llama_cpp.PROBES)


@pytest.fixture(scope="module")
def ours() -> Tokenizer:
    return train_tokenizer(TEXTS, vocab_size=600)


def cutting(*steps: pre_tokenizers.PreTokenizer, whole: bool = False) -> Tokenizer:
    """A vocabulary learned from texts that are cut by these steps."""
    backend = tokenizers.Tokenizer(models.BPE(ignore_merges=whole))
    backend.pre_tokenizer = pre_tokenizers.Sequence(list(steps))
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=600, special_tokens=list(SPECIAL), initial_alphabet=alphabet, show_progress=False
    )
    backend.train_from_iterator(TEXTS, trainer)
    return Tokenizer(backend)


def split(pattern: str) -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.Split(Regex(pattern), "isolated")


BYTES = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
BY_WORDS = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)


def test_ways_to_cut_are_known_by_their_name(ours: Tokenizer) -> None:
    assert llama_cpp.vocabulary(ours).words == "qwen2"
    assert llama_cpp.vocabulary(cutting(split(llama_cpp.CUTS["qwen2"][0]), BYTES)).words == "qwen2"
    assert llama_cpp.vocabulary(cutting(split(llama_cpp.CUTS["llama-bpe"][0]), BYTES, whole=True)).words == "llama-bpe"
    assert llama_cpp.vocabulary(cutting(BY_WORDS)).words == "gpt-2"
    digits = pre_tokenizers.Digits(individual_digits=True)
    assert llama_cpp.vocabulary(cutting(digits, BY_WORDS)).words == "smollm"


@pytest.mark.parametrize(
    "steps",
    [
        (split(r"\s+"), BYTES),
        (split(llama_cpp.CUTS["llama-bpe"][0]), BYTES),  # merges words that are tokens, where llama.cpp does not
        (pre_tokenizers.Digits(individual_digits=False), BY_WORDS),
        (pre_tokenizers.ByteLevel(add_prefix_space=True, use_regex=True),),
    ],
)
def test_a_way_without_a_name_is_refused(steps: tuple[pre_tokenizers.PreTokenizer, ...]) -> None:
    with pytest.raises(CheckpointError, match=r"in a way that llama\.cpp has no name for; export --to hf"):
        llama_cpp.vocabulary(cutting(*steps))


@given(st.text(st.sampled_from(" \n\r\t.,!?'\"aZé漢7½<|>_-"), max_size=30) | st.text(max_size=30))
def test_any_text_has_the_ids_that_llama_cpp_gives_it(ours: Tokenizer, text: str) -> None:
    backend = llama_cpp.as_llama_cpp(llama_cpp.vocabulary(ours))
    clean = text.encode("utf-8", "replace").decode()
    assert backend.encode(clean, add_special_tokens=False).ids == ours.encode(clean)


def test_a_vocabulary_says_what_begins_ends_and_controls(ours: Tokenizer) -> None:
    found = llama_cpp.vocabulary(ours)
    assert [found.tokens[id] for id in (found.turn_end, found.pad, *found.blanks)] == [
        "<|im_end|>",
        "<|pad|>",
        "<|fim_prefix|>",
        "<|fim_suffix|>",
        "<|fim_middle|>",
    ]
    assert not found.begins
    assert {found.tokens[id] for id, kind in enumerate(found.kinds) if kind == CONTROL} == set(SPECIAL)
    assert len(found.merges) == len(json.loads(ours._backend.to_str())["model"]["merges"])
