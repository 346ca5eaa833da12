import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trivium.errors import ConfigError
from trivium.records import Dialogue, Document, Message, Pair
from trivium.text.split import dialogue_key, document_key, evenly, held_out, pair_key, split

keys = st.lists(st.text(max_size=3), max_size=30)
shares = st.floats(min_value=0, max_value=1, exclude_max=True)


@given(keys, shares)
def test_every_record_falls_on_one_side_in_its_order(records: list[str], share: float) -> None:
    parts = split(records, key=str, share=share)
    assert sorted(parts.train + parts.held_out) == sorted(records)
    assert parts.train == [record for record in records if record not in parts.held_out]


@given(keys, shares)
def test_the_same_key_never_falls_on_both_sides(records: list[str], share: float) -> None:
    parts = split(records, key=str.casefold, share=share)
    assert not {r.casefold() for r in parts.train} & {r.casefold() for r in parts.held_out}


@given(keys, shares.filter(bool))
def test_with_two_keys_neither_side_is_empty(records: list[str], share: float) -> None:
    parts = split(records, key=str, share=share)
    if len(set(records)) > 1:
        assert parts.train
        assert parts.held_out


@given(keys)
def test_a_share_of_zero_holds_nothing_out(records: list[str]) -> None:
    assert split(records, key=str, share=0.0) == (records, [])


def test_one_key_alone_stays_in_training_at_a_small_share() -> None:
    assert split(["same", "same"], key=str, share=0.01) == (["same", "same"], [])


def test_the_share_is_kept_to_within_a_point() -> None:
    assert sum(held_out(str(n), share=0.1) for n in range(20_000)) / 20_000 == pytest.approx(0.1, abs=0.01)


def test_a_larger_share_holds_out_all_that_a_smaller_one_does() -> None:
    small, large = ({n for n in range(2000) if held_out(str(n), share=share)} for share in (0.1, 0.2))
    assert small < large


def test_the_split_does_not_depend_on_the_process_or_its_hash_seed() -> None:
    code = "from trivium.text.split import held_out; print([n for n in range(99) if held_out(str(n), share=0.1)])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == str([n for n in range(99) if held_out(str(n), share=0.1)])


def test_adding_records_moves_no_other_one() -> None:
    before = split([str(n) for n in range(500)], key=str, share=0.1)
    after = split([str(n) for n in range(900)], key=str, share=0.1)
    assert set(before.held_out) <= set(after.held_out)


def test_documents_are_keyed_by_their_text_dialogues_and_pairs_by_their_prompt() -> None:
    hello = (Message("user", "Hello  there"),)
    answer = Message("assistant", "a")
    assert document_key(Document("Two words", "a")) == document_key(Document("two\nwords ", "b"))
    assert dialogue_key(Dialogue((*hello, answer), "a")) == pair_key(
        Pair((Message("user", "hello there"),), "x", "y", "b")
    )
    assert dialogue_key(Dialogue((Message("system", "s"), *hello, answer), "a")) != dialogue_key(
        Dialogue((*hello, answer), "a")
    )


def test_pairs_without_a_prompt_are_keyed_by_both_texts_in_either_order() -> None:
    assert pair_key(Pair((), "x", "y", "a")) == pair_key(Pair((), "y", "x", "b"))
    assert pair_key(Pair((), "x", "y", "a")) != pair_key(Pair((), "x", "z", "a"))


@pytest.mark.parametrize("share", [-0.1, 1.0, 5, float("nan")])
def test_a_share_outside_its_range_is_named(share: float) -> None:
    with pytest.raises(ConfigError, match=r"share = .*: the held-out share must be at least 0 and below 1; try 0.05"):
        held_out("x", share=share)
    with pytest.raises(ConfigError, match="share = "):
        split([], key=str, share=share)


@given(st.lists(st.integers()), st.integers(1, 20))
def test_some_of_many_come_from_all_over_in_their_order(items: list[int], count: int) -> None:
    numbered = list(enumerate(items))
    some = evenly(numbered, count)
    assert len(some) == min(count, len(items))
    assert some == sorted(set(some))
    assert evenly(range(100), 4) == [0, 25, 50, 75]
