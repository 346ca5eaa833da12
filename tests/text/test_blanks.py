from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trivium.errors import DataError
from trivium.text.blanks import cut, held_out_blanks, opening_spaces, parse, prompt
from trivium.text.tokenizer import SPECIAL, train

STORY = "The old cat sat on the mat. It was warm, and the cat slept until the evening came."
TOKENIZER = train([STORY] * 10, vocab_size=400)
NO_LIMIT = 10**9


def document(text):
    return np.array([*TOKENIZER.encode(text), TOKENIZER.end_of_text], dtype=np.int32)


def parts(ids):
    """(prefix, middle, suffix, suffix first) of a cut document, as ids."""
    ids = ids.tolist()
    assert ids[0] == TOKENIZER.blank_prefix
    assert ids[-1] == TOKENIZER.end_of_text
    between, closing = ids.index(TOKENIZER.blank_suffix), ids.index(TOKENIZER.blank_middle)
    return ids[1:between], ids[closing + 1 : -1], ids[between + 1 : closing]


def cuts(text, count, max_length=NO_LIMIT):
    return [cut(document(text), TOKENIZER, np.random.default_rng(seed), max_length=max_length) for seed in range(count)]


@given(st.text(min_size=1) | st.sampled_from(["<|fim_middle|> x", "a b", STORY]), st.integers(0, 2**32))
def test_a_cut_document_holds_its_whole_text(text, seed):
    ids = cut(document(text), TOKENIZER, np.random.default_rng(seed), max_length=NO_LIMIT)
    prefix, middle, suffix = parts(ids)
    assert TOKENIZER.decode([*prefix, *middle, *suffix]) == text
    assert middle
    assert [id for id in ids.tolist() if id < len(SPECIAL)] == [
        TOKENIZER.blank_prefix,
        TOKENIZER.blank_suffix,
        TOKENIZER.blank_middle,
        TOKENIZER.end_of_text,
    ]


def test_half_of_the_documents_put_the_suffix_first():
    first = sum(ids[1] == TOKENIZER.blank_suffix and len(parts(ids)[2]) > 0 for ids in cuts(STORY, 400))
    assert 160 < first < 240


def test_a_document_cut_suffix_first_begins_as_its_prompt_does():
    cut_so = [ids for ids in cuts(STORY, 50) if ids[1] == TOKENIZER.blank_suffix]
    assert len(cut_so) > 15
    for ids in cut_so:
        _, text, suffix = (TOKENIZER.decode(part) for part in parts(ids))
        end = TOKENIZER.end_of_text
        assert ids.tolist() in (
            [*prompt(text[:n], suffix, TOKENIZER), *TOKENIZER.encode(text[n:]), end] for n in range(len(text) + 1)
        )


def test_a_document_cut_suffix_first_goes_on_from_prefix_to_blank():
    ids = next(ids for ids in cuts(STORY, 50) if ids[1] == TOKENIZER.blank_suffix and len(parts(ids)[2]) > 0)
    _, middle, suffix = parts(ids)
    assert TOKENIZER.decode([*middle, *suffix]) == STORY


def test_about_half_of_the_blanks_are_one_to_five_whole_words():
    short = Counter()
    for ids in cuts(STORY, 400):
        prefix, middle, suffix = (TOKENIZER.decode(part) for part in parts(ids))
        if prefix and ids[1] != TOKENIZER.blank_suffix:
            whole = middle.startswith(" ") and not middle.endswith((" ", ",", ".")) and suffix[:1] in {" ", ",", "."}
            short[whole and len(middle.split()) <= 5] += 1
    assert 0.4 < short[True] / short.total() < 0.7


def test_in_both_orders_blanks_begin_and_end_inside_tokens():
    borders = set(np.cumsum([len(TOKENIZER.token_bytes(id)) for id in TOKENIZER.encode(STORY)]).tolist())
    inside = Counter()
    for ids in cuts(STORY, 300):
        prefix, middle, suffix = parts(ids)
        if ids[1] == TOKENIZER.blank_suffix:  # the blank begins amid `middle`, where two words of its text are parted
            inside["begin, suffix first"] += middle != TOKENIZER.encode(TOKENIZER.decode(middle))
            inside["end, suffix first"] += len(STORY) - len(TOKENIZER.decode(suffix)) not in borders
        else:
            inside["begin, prefix first"] += len(TOKENIZER.decode(prefix)) not in borders
            inside["end, prefix first"] += len(STORY) - len(TOKENIZER.decode(suffix)) not in borders
    assert len(inside) == 4
    assert min(inside.values()) > 20


def test_the_same_generator_cuts_the_same_blank():
    one, other = (cut(document(STORY), TOKENIZER, np.random.default_rng(7), max_length=NO_LIMIT) for _ in range(2))
    assert one.tolist() == other.tolist()
    assert len({tuple(ids.tolist()) for ids in cuts(STORY, 50)}) > 30


@given(st.integers(0, 2**32), st.integers(0, 60))
def test_a_cut_document_is_no_longer_than_asked(seed, room):
    whole = document(STORY)
    ids = cut(whole, TOKENIZER, np.random.default_rng(seed), max_length=room)
    assert len(ids) <= max(room, len(whole))


def test_with_room_for_three_more_tokens_every_document_is_cut_between_characters_or_tokens():
    whole = document(STORY)
    for ids in cuts(STORY, 50, max_length=len(whole) + 3):
        assert len(ids) <= len(whole) + 3
        assert TOKENIZER.decode([id for part in (0, 1, 2) for id in parts(ids)[part]]) == STORY


def test_a_document_without_room_is_left_whole():
    whole = document(STORY)
    for ids in cuts(STORY, 20, max_length=len(whole) + 2):
        assert ids.tolist() == whole.tolist()


@pytest.mark.parametrize("text", ["", "é"])
def test_a_document_of_no_or_one_character_can_be_cut(text):
    for ids in cuts(text, 20):
        assert TOKENIZER.decode(ids) == text


def test_a_piece_that_begins_inside_a_character_keeps_its_tokens():
    piece = document("漢字 are characters")[1:]  # without the first byte
    for seed in range(20):
        ids = cut(piece, TOKENIZER, np.random.default_rng(seed), max_length=NO_LIMIT)
        prefix, middle, suffix = parts(ids)
        assert [*prefix, *middle, *suffix] == piece[:-1].tolist()


def test_the_space_before_a_blank_belongs_to_the_answer():
    assert parse("The ___ sat on the ____.") == ["The", " sat on the", "."]
    assert opening_spaces("The ___ sat on the ____.") == [True, True]


def test_a_blank_inside_a_word_or_at_the_edge_takes_no_space():
    assert parse("un___able") == ["un", "able"]
    assert parse("___ sat") == ["", " sat"]
    assert parse("It  ___\n___") == ["It ", "\n", ""]
    assert opening_spaces("un___able ___") == [False, True]


def test_two_underscores_are_not_a_blank():
    with pytest.raises(DataError, match=r'^"The __init__ sat": has no blank; write three underscores'):
        parse("The __init__ sat")


def test_the_prompt_stops_where_the_blank_is_to_be_written():
    ids = prompt("The", " sat", TOKENIZER).tolist()
    assert TOKENIZER.decode(ids, keep_special=True) == "<|fim_prefix|><|fim_suffix|> sat<|fim_middle|>The"


TEXTS = [STORY, "Tom gave Ann 3 apples. She smiled, then ran home!", "no", "", STORY.replace("cat", "dog")]


def test_held_out_blanks_are_words_of_the_texts_with_their_space():
    blanks = held_out_blanks(TEXTS, 3, 100)
    assert len(blanks) > 30
    assert len(set(blanks)) == len(blanks)
    for blank in blanks:
        assert "".join(blank) in TEXTS
        assert blank.answer[0] == " "
        assert blank.answer[1:].isalpha()
        assert parse(f"{blank.prefix} ___{blank.suffix}") == [blank.prefix, blank.suffix]


def test_held_out_blanks_are_the_same_for_the_same_seed():
    assert held_out_blanks(TEXTS, 3, 5) == held_out_blanks(TEXTS, 3, 5)
    assert held_out_blanks(TEXTS, 3, 5) != held_out_blanks(TEXTS, 4, 5)


def test_every_text_gives_one_held_out_blank_before_any_gives_two():
    assert {"".join(blank) for blank in held_out_blanks(TEXTS, 0, 3)} == {TEXTS[0], TEXTS[1], TEXTS[4]}


def test_the_context_of_a_held_out_blank_is_bounded_and_of_whole_words():
    words = set(STORY.split())
    for blank in held_out_blanks([STORY], 0, 100, context=20):
        assert len(blank.prefix) <= 20
        assert len(blank.suffix) <= 20
        assert "".join(blank) in STORY
        assert set("".join(blank).split()) <= words


def test_a_blank_inside_a_word_is_asked_for_between_its_characters():
    before, after = parse("The old ca___ slept.")
    ids = prompt(before, after, TOKENIZER).tolist()
    assert TOKENIZER.decode(ids[-len(TOKENIZER.encode(before)) :]) == "The old ca"
    assert TOKENIZER.encode("The old cat")[-1] not in ids  # the whole word's token is not there
    assert opening_spaces("The old ca___ slept.") == [False]
    assert parse("The b___ker") == ["The b", "ker"]


def test_a_script_without_spaces_gives_blanks_of_letters_amid_others():
    text = "猫坐在垫子上。它很暖和。"
    blanks = held_out_blanks([text], 0, 100)
    assert blanks
    for blank in blanks:
        assert "".join(blank) == text
        assert 1 <= len(blank.answer) <= 2
        assert blank.answer.isalpha()
    assert held_out_blanks(["7 3", "a"], 0, 100) == []


@pytest.mark.parametrize(("before", "after"), [("cat " * 90, "sat " * 90), ("The", "sat " * 90), ("cat " * 90, ".")])
def test_a_long_prompt_keeps_its_marks_and_what_is_next_to_the_blank(before: str, after: str) -> None:
    whole, room = prompt(before, after, TOKENIZER).tolist(), 40
    ids = prompt(before, after, TOKENIZER, room=room).tolist()
    assert len(ids) == room < len(whole)
    middle = ids.index(TOKENIZER.blank_middle)
    assert ids[:middle] == whole[:middle]
    assert ids[middle + 1 :] == whole[-(len(ids) - middle - 1) :]
    assert prompt(before, after, TOKENIZER, room=len(whole)).tolist() == whole
