"""What a row holds is not read again, and whatever was copied from where, an answer is that of a fresh start."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trivium.generate.decoder import TorchDecoder
from trivium.generate.native import NativeDecoder
from trivium.generate.sampling import Sampling
from trivium.generate.texts import Copy, Texts
from trivium.generate.writer import Order, Token, Writer
from trivium.model.transformer import Transformer

MakeModel = Callable[..., Transformer]
WARM = Sampling(temperature=1.2, max_new_tokens=5)
pytestmark = pytest.mark.usefixtures("decoder")


@given(st.lists(st.dictionaries(st.integers(0, 3), st.text("ab", min_size=1, max_size=8)), max_size=6), st.data())
def test_after_reading_every_row_holds_its_prompt_and_nothing_was_read_that_stood_there(
    batches: list[dict[int, str]], data: st.DataObject
) -> None:
    texts, cache = Texts(4, 12), [[-1] * 12 for _ in range(4)]
    held: dict[int, list[int]] = {}
    for batch in batches:
        prompts = {row: [ord(c) for c in text] for row, text in batch.items()}
        reading = texts.begin(prompts)
        for source, row, length in reading.before:
            cache[row][:length] = cache[source][:length]
        for row, tokens in reading.unread.items():
            end = len(prompts[row]) - 1
            cache[row][end - len(tokens) : end] = tokens
            for other in {row, *held.keys() - prompts.keys()} & held.keys():
                common = next(
                    i for i in range(end + 1) if prompts[row][:end][: i + 1] != held[other][:-1][: i + 1] or i == end
                )
                assert len(tokens) <= end - common, "as much as any of them has of it is not read"
        for source, row, length in reading.after:
            cache[row][:length] = cache[source][:length]
        held |= {row: list(prompt) for row, prompt in prompts.items()}
        for row in prompts:
            assert cache[row][: len(held[row]) - 1] == held[row][:-1]
            for token in data.draw(st.lists(st.integers(97, 98), max_size=3)):
                cache[row][len(held[row]) - 1] = held[row][-1]
                texts.add(row, token)
                held[row].append(token)


def test_the_same_prompt_again_is_not_read_and_equal_ones_are_read_once() -> None:
    texts = Texts(4, 12)
    reading = texts.begin({0: [1, 2, 3], 1: [1, 2, 3], 2: [5]})
    assert (reading.before, reading.unread, reading.after) == ([], {0: [1, 2], 2: []}, [Copy(0, 1, 2)])
    reading = texts.begin({1: [1, 2, 3], 2: [1, 2, 9, 9]})
    assert (reading.before, reading.unread, reading.after) == ([Copy(0, 2, 2)], {1: [], 2: [9]}, [])


def answered(writer: Writer, prompt: list[int], seed: int) -> list[Token]:
    return [token for _, token in writer.follow([Order(prompt, seed, WARM, alternatives=2)])]


def dialogue(writer: Writer) -> list[list[Token]]:
    """Three turns, each reading all that was said before; between them somebody else comes, and one answers anew."""
    text, found = [11, 12, 13, 14, 15], []
    for turn in range(3):
        found.append(answered(writer, text, turn))
        answered(writer, [40, 41 + turn], 7)
        found.append(answered(writer, text, turn + 100))
        text = [*text, *(token.id for token in found[-1]), 20 + turn, 30]
    return found


@pytest.mark.parametrize("rows", [1, 3])
def test_a_dialogue_that_goes_on_is_answered_as_if_it_were_read_anew(
    rows: int, decoder: str, small_model: MakeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = small_model()
    going_on = dialogue(Writer(model, rows=rows))
    monkeypatch.setattr(Texts, "_beginning", lambda self, row, prompt, lenders: Copy(row, row, 0))
    anew = dialogue(Writer(model, rows=rows))
    assert [[token.id for token in answer] for answer in going_on] == [[t.id for t in answer] for answer in anew]
    if decoder == "native":
        assert going_on == anew, "to the bit"
    for answer, again in zip(going_on, anew, strict=True):
        assert [token.logprob for token in answer] == pytest.approx([token.logprob for token in again], abs=1e-5)


def test_the_second_turn_reads_only_what_is_new(
    decoder: str, small_model: MakeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []
    of = {"torch": (TorchDecoder, "_read"), "native": (NativeDecoder, "_read_fresh")}[decoder]
    before = getattr(*of)

    def listening(self, unread, *rest):  # type: ignore[no-untyped-def]
        read.extend(len(new[1] if decoder == "native" else new) for new in unread.values())
        before(self, unread, *rest)

    monkeypatch.setattr(*of, listening)
    writer, prompt = Writer(small_model(), rows=2), [11, 12, 13, 14, 15]
    said = [token.id for token in answered(writer, prompt, 0)]
    answered(writer, [*prompt, *said, 21, 22], 0)
    assert read == [4, 2], "the last token of each prompt is the first that a step reads"


def test_an_answer_that_nobody_follows_any_more_makes_room(small_model: MakeModel) -> None:
    writer = Writer(small_model(), rows=1)
    following = writer.follow([Order([5, 6], seed, WARM) for seed in range(3)])
    assert next(following)[0] == 0
    following.close()
    assert writer.idle
