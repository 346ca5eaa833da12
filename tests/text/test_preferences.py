import json
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trivium.errors import DataError
from trivium.records import Message, Pair
from trivium.text.preferences import read_pairs, recognise
from trivium.text.rows import Row

Json = dict[str, object]
fuzz = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def said(role: str, content: str) -> Json:
    return {"role": role, "content": content}


USER, GOOD, BAD = said("user", "q"), said("assistant", "good"), said("assistant", "bad")
SYSTEM, FIRST, MORE = said("system", "s"), said("assistant", "first"), said("user", "more")
ASKED = (Message("user", "q"),)
TOLD = (Message("system", "s"), *ASKED)
LONG = (*ASKED, Message("assistant", "first"), Message("user", "more"))


def one(row: Json) -> Pair:
    at = Row(row, "a.jsonl:1")
    (pair,) = recognise(at).read(at)
    return pair


def fault(row: Json) -> str:
    with pytest.raises(DataError) as caught:
        one(row)
    return str(caught.value)


def pair_or_fault(row: Json) -> Pair | str:
    try:
        return one(row)
    except DataError as error:
        return str(error)


HH = "\n\nHuman: q\n\nAssistant: {}"
PLAIN: Json = {"chosen": "good", "rejected": "bad"}
WHOLE: Json = {"chosen": [USER, GOOD], "rejected": [USER, BAD]}
ENDS: Json = {"chosen": [GOOD], "rejected": [BAD]}
OUTPUTS: Json = {"instruction": "q", "output_1": "good", "output_2": "bad"}
RESPONSES: Json = {"prompt": "q", "response_a": "good", "response_b": "bad"}
BATTLE: Json = {"conversation_a": [USER, GOOD], "conversation_b": [USER, BAD]}


@pytest.mark.parametrize(
    ("title", "row"),
    [
        ("prompt, chosen and rejected", {"prompt": "q", **PLAIN}),
        ("prompt, chosen and rejected", {"prompt": [USER], **PLAIN}),
        ("prompt, chosen and rejected", {"prompt": [USER], **ENDS}),
        ("prompt, chosen and rejected", {"prompt": "q", **WHOLE}),
        ("prompt, chosen and rejected", {"prompt": json.dumps([USER]), **PLAIN}),
        ("prompt, chosen and rejected", {"question": "q", **PLAIN}),
        ("prompt, chosen and rejected", {"instruction": "q", "input": "", **PLAIN}),
        ("prompt, chosen and rejected", {"prompt": "\n\nHuman: q\n\nAssistant:", **PLAIN}),
        ("chosen and rejected conversations", WHOLE),
        ("chosen and rejected conversations", {key: json.dumps(value) for key, value in WHOLE.items()}),
        (
            "chosen and rejected conversations",
            {
                "chosen": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "good"}],
                "rejected": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "bad"}],
            },
        ),
        ("chosen and rejected transcripts", {"chosen": HH.format("good"), "rejected": HH.format("bad")}),
        ("output_1 and output_2 with a winner", {**OUTPUTS, "input": "", "preference": 1}),
        ("conversation_a and conversation_b with a winner", {**BATTLE, "winner": "model_a", "model_b": "x"}),
        ("response_a and response_b with a winner", {**RESPONSES, "winner": "A"}),
    ],
)
def test_every_common_schema_gives_the_same_pair(title: str, row: Json) -> None:
    assert recognise(Row(row, "a.jsonl:1")).title == title
    assert one(row) == Pair(ASKED, "good", "bad", "a.jsonl:1")


@pytest.mark.parametrize(
    "row",
    [
        {"chosen": [USER, FIRST, MORE, GOOD], "rejected": [USER, FIRST, MORE, BAD]},
        {"prompt": [USER, FIRST, MORE], **ENDS},
        {"prompt": [USER, FIRST, MORE], **PLAIN},
        {"prompt": "more", "chosen": [USER, FIRST, MORE, GOOD], "rejected": [USER, FIRST, MORE, BAD]},
        {"prompt": "q", "chosen": [FIRST, MORE, GOOD], "rejected": [FIRST, MORE, BAD]},
        {
            "chosen": "\n\nHuman: q\n\nAssistant: first\n\nHuman: more\n\nAssistant: good",
            "rejected": "\n\nHuman: q\n\nAssistant: first\n\nHuman: more\n\nAssistant: bad",
        },
        {
            "prompt": "\n\nHuman: q\n\nAssistant: first\n\nHuman: more\n\nAssistant:",
            "chosen": "good",
            "rejected": "bad",
        },
    ],
)
def test_no_turn_before_the_answers_is_lost(row: Json) -> None:
    assert one(row) == Pair(LONG, "good", "bad", "a.jsonl:1")


@pytest.mark.parametrize(
    "row",
    [
        {"system": "s", "prompt": "q", **PLAIN},
        {"system": "s", "prompt": "q", **WHOLE},
        {"prompt": "q", "chosen": [SYSTEM, USER, GOOD], "rejected": [SYSTEM, USER, BAD]},
        {"prompt": [SYSTEM, USER], **ENDS},
        {"prompt": [SYSTEM, USER], **WHOLE},
    ],
)
def test_a_system_prompt_is_kept(row: Json) -> None:
    assert one(row) == Pair(TOLD, "good", "bad", "a.jsonl:1")


def test_a_transcript_keeps_blank_lines_within_a_turn() -> None:
    text = "\n\nHuman: one\n\ntwo\n\nAssistant: a\n\nb {}"
    pair = one({"chosen": text.format("good"), "rejected": text.format("bad")})
    assert (pair.prompt, pair.chosen) == ((Message("user", "one\n\ntwo"),), "a\n\nb good")


def test_two_texts_without_a_prompt_are_a_pair() -> None:
    assert recognise(Row(PLAIN, "a:1")).title == "chosen and rejected without a prompt"
    assert one(PLAIN) == Pair((), "good", "bad", "a.jsonl:1")


@pytest.mark.parametrize(
    ("row", "chosen"),
    [
        ({**OUTPUTS, "preference": 2}, "bad"),
        ({**OUTPUTS, "preference": "2"}, "bad"),
        ({**OUTPUTS, "preference": 2.0}, "bad"),
        ({**OUTPUTS, "preference": "output_2"}, "bad"),
        ({**RESPONSES, "winner": "response_b"}, "bad"),
        ({**RESPONSES, "label": "B"}, "bad"),
        ({**RESPONSES, "winner": " model_a "}, "good"),
        ({**BATTLE, "winner": "model_b"}, "bad"),
        ({"prompt": "q", "response_0": "good", "response_1": "bad", "better_response_id": 1}, "bad"),
        ({"prompt": "q", "response_0": "good", "response_1": "bad", "better_response_id": 0}, "good"),
    ],
)
def test_the_winner_is_chosen(row: Json, chosen: str) -> None:
    pair = one(row)
    assert (pair.chosen, pair.tie) == (chosen, False)
    assert {pair.chosen, pair.rejected} == {"good", "bad"}


@pytest.mark.parametrize(
    "row",
    [
        {**BATTLE, "winner": "tie"},
        {**BATTLE, "winner": "tie (bothbad)"},
        {**OUTPUTS, "preference": 1.5},
        {**OUTPUTS, "preference": 0},
        {**RESPONSES, "winner": "Tie"},
        {**RESPONSES, "winner": "a", "tie": True},
        {"prompt": "q", **PLAIN, "tie": True},
        {"prompt": "q", **PLAIN, "tie": "true"},
        {"prompt": "q", **PLAIN, "label": "tie"},
    ],
)
def test_a_tie_is_kept_as_one(row: Json) -> None:
    assert one(row) == Pair(ASKED, "good", "bad", "a.jsonl:1", tie=True)


@pytest.mark.parametrize("row", [{"tie": False}, {"tie": None}, {"tie": "false"}, {"label": "ok"}, {"tie": 0}])
def test_what_is_not_called_a_tie_is_none(row: Json) -> None:
    assert not one({"prompt": "q", **PLAIN, **row}).tie


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (
            {"prompt": "q", "chosen": "x", "rejected": "x"},
            "chosen and rejected are the same text; a pair needs two different answers, so fix or remove the line, or",
        ),
        ({"prompt": "q", "chosen": "x", "rejected": " x\n", "tie": True}, "chosen and rejected are the same text;"),
        ({"prompt": "q", "chosen": "", "rejected": "x"}, '"chosen" is empty; fill it, or fix'),
        ({"prompt": "q", "chosen": "x", "rejected": None}, '"rejected" is null; make it a string, or fix'),
        ({"prompt": "", **PLAIN}, '"prompt" is empty; fill it, or fix'),
        ({"prompt": None, **PLAIN}, '"prompt" is null; make it a string, or fix'),
        ({"prompt": [USER, FIRST], **PLAIN}, '"prompt" ends with role "assistant"; its last turn must be the user\'s'),
        (
            {"chosen": [USER], "rejected": [USER, BAD]},
            '"chosen" ends with role "user"; the last turn must be the assis',
        ),
        (
            {"chosen": [USER, FIRST, MORE, GOOD], "rejected": [USER, BAD, MORE, FIRST]},
            "chosen and rejected part at turn 2, before their last answers; make the turns before the last answer the",
        ),
        (
            {"chosen": [USER, FIRST, MORE, GOOD], "rejected": [USER, FIRST]},
            "chosen and rejected part at turn 3, before their last answers;",
        ),
        ({"prompt": "p", **WHOLE}, '"chosen" does not go on from the prompt; repeat the prompt in it, or give the'),
        ({**RESPONSES, "winner": "c"}, '"winner" is c, which names neither answer; give a, response_a, model_a, b,'),
        ({**RESPONSES, "winner": 1}, '"winner" is 1, which names neither answer;'),
        ({**RESPONSES, "winner": None}, '"winner" is empty, which names neither answer;'),
        ({**OUTPUTS, "preference": 3}, '"preference" is 3, which names neither answer; give 1, output_1, model_1, 2,'),
        (
            {"chosen": HH.format("good"), "rejected": "\n\nHuman: q\n\nAssistant:"},
            '"rejected", turn 2 (Assistant), is empty; fill it, or fix',
        ),
        ({"chosen": "x"}, "no known schema has the columns chosen; known are chosen and rejected, with or without"),
        (RESPONSES, "no known schema has the columns prompt, response_a, response_b; known are chosen and rejected"),
    ],
)
def test_what_does_not_fit_is_named_with_what_to_do(row: Json, message: str) -> None:
    assert fault(row).startswith(f"a.jsonl:1: {message}")


def test_a_file_says_what_it_held_and_what_was_skipped(tmp_path: Path) -> None:
    rows = [{"prompt": "q", **PLAIN}] * 3 + [{"prompt": "q", "chosen": "x", "rejected": "x"}]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    told: list[str] = []
    assert len(list(read_pairs([str(tmp_path)], bad_rows="skip", say=told.append))) == 3
    assert told == [
        "pairs.jsonl: prompt, chosen and rejected, 3 pairs; 1 bad row skipped",
        "skipped pairs.jsonl:4: chosen and rejected are the same text",
    ]
    with pytest.raises(DataError, match=r"pairs.jsonl:4: chosen and rejected are the same text; a pair needs two"):
        list(read_pairs([str(tmp_path)]))


def test_a_table_of_pairs_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("prompt,response_a,response_b,winner\nq,bad,good,b\n")
    assert list(read_pairs([str(tmp_path)])) == [Pair(ASKED, "good", "bad", "a.csv:2")]


words = st.sampled_from(["q", "good", "bad", "", "\n\nHuman: q\n\nAssistant: a", "Human:", "tie", "a", "1"])
turn = st.fixed_dictionaries(
    {"role": st.sampled_from(["user", "assistant", "system", "x"]), "content": words | st.none()}
)
values = words | st.lists(turn, max_size=4) | st.none() | st.integers() | st.floats() | st.just({"a": 1})
columns = st.sampled_from(
    ["prompt", "chosen", "rejected", "messages", "response_a", "response_b", "output_1", "output_2", "winner", "tie"]
)


@fuzz
@given(st.dictionaries(columns, values, max_size=6))
def test_any_row_gives_a_pair_of_two_texts_or_a_data_error(row: Json) -> None:
    pair = pair_or_fault(row)
    if isinstance(pair, Pair):
        assert pair.chosen.strip() != pair.rejected.strip()
        assert pair.chosen.strip()
        assert pair.rejected.strip()
    else:
        assert pair.startswith("a.jsonl:1: ")


@fuzz
@given(st.lists(turn, min_size=1, max_size=5))
def test_a_shared_conversation_is_the_prompt_whole(turns: list[Json]) -> None:
    row = msgspec.json.decode(json.dumps({"chosen": [*turns, GOOD], "rejected": [*turns, BAD]}))
    pair = pair_or_fault(row)
    if isinstance(pair, Pair):
        kept = [item for item in turns if item != said("system", "")]
        assert [message.content for message in pair.prompt] == [item["content"] for item in kept]
