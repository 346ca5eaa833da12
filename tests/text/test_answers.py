import json
from collections.abc import Callable
from pathlib import Path

import msgspec
import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trivium.errors import DataError
from trivium.records import Dialogue, Message
from trivium.text.answers import read_dialogues, recognise
from trivium.text.rows import Row

Json = dict[str, object]
fuzz = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

USER, ANSWER = {"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}
ASKED = (Message("user", "q"), Message("assistant", "a"))


def one(row: Json) -> Dialogue:
    at = Row(row, "a.jsonl:1")
    (dialogue,) = recognise(at).read(at)
    return dialogue


def fault(row: Json) -> str:
    with pytest.raises(DataError) as caught:
        one(row)
    return str(caught.value)


@pytest.mark.parametrize(
    ("title", "row"),
    [
        ("OpenAI messages", {"messages": [USER, ANSWER]}),
        ("OpenAI messages", {"conversation": [USER, ANSWER], "prompt": "q"}),
        ("OpenAI messages", {"messages": json.dumps([USER, ANSWER])}),
        ("OpenAI messages", {"messages": [{"role": "user", "content": [{"type": "text", "text": "q"}]}, ANSWER]}),
        ("OpenAI messages", {"messages": [{"role": "system", "content": ""}, USER, ANSWER]}),
        ("ShareGPT conversations", {"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]}),
        ("ShareGPT conversations", {"conversations": [{"from": "user", "value": "q"}, {"from": "bing", "value": "a"}]}),
        ("ShareGPT conversations", {"messages": [{"from": "User", "value": "q"}, {"from": "ChatGPT", "value": "a"}]}),
        ("Alpaca instructions", {"instruction": "q", "input": "", "output": "a"}),
        ("Alpaca instructions", {"instruction": "q", "output": "a", "text": "ignored"}),
        ("Dolly instructions", {"instruction": "q", "context": "", "response": "a", "category": "open_qa"}),
        ("prompt and completion", {"prompt": "q", "completion": "a"}),
        ("prompt and completion", {"prompt": [USER], "completion": [ANSWER]}),
        ("prompt and response", {"prompt": "q", "response": "a"}),
        ("question and answer", {"question": "q", "answer": "a"}),
        ("query and response", {"query": "q", "response": "a"}),
        ("input and output", {"input": "q", "output": "a"}),
        ("input and target", {"input": "q", "target": "a"}),
        ("inputs and targets", {"inputs": "q", "targets": "a"}),
    ],
)
def test_every_common_schema_gives_the_same_dialogue(title: str, row: Json) -> None:
    assert recognise(Row(row, "a.jsonl:1")).title == title
    assert one(row) == Dialogue(ASKED, "a.jsonl:1")


def test_an_alpaca_input_and_a_dolly_context_stand_below_the_instruction() -> None:
    assert one({"instruction": "add", "input": "1 2", "output": "3"}).prompt == (Message("user", "add\n\n1 2"),)
    assert one({"instruction": "add", "context": "1 2", "response": "3"}).prompt == (Message("user", "add\n\n1 2"),)


def test_a_system_column_stands_above_the_question() -> None:
    assert one({"system_prompt": "s", "question": "q", "response": "a"}).messages == (Message("system", "s"), *ASKED)
    assert one({"system": "s", "conversations": [USER, ANSWER]}).messages == (Message("system", "s"), *ASKED)
    assert one({"system": "", "prompt": "q", "completion": "a"}).messages == ASKED


def test_turns_keep_their_order_and_their_spacing() -> None:
    turns = [{"role": "assistant", "content": " Hello\n"}, USER, ANSWER, USER, {"role": "assistant", "content": " b"}]
    assert [turn.content for turn in one({"messages": turns}).messages] == [" Hello\n", "q", "a", "q", " b"]


def test_accepted_answers_and_the_kind_come_along() -> None:
    row = {"messages": [USER, ANSWER], "accepted": ["a", "A"], "kind": "letters", "intent": "x"}
    assert one(row) == Dialogue(ASKED, "a.jsonl:1", accepted=("a", "A"), kind="letters")
    assert one({"prompt": "q", "completion": "a", "accepted": "a"}).accepted == ("a",)
    assert one({"prompt": "q", "completion": "a", "accepted": "", "kind": 3}) == Dialogue(ASKED, "a.jsonl:1")


def test_answers_of_weight_0_are_only_read() -> None:
    turns = [
        {**USER, "weight": 0},
        {**ANSWER, "weight": 0},
        {**USER, "name": None},
        {**ANSWER, "weight": 1},
        USER,
        ANSWER,
    ]
    assert one({"messages": turns}).only_read == (1,)
    assert one({"system": "s", "messages": turns}).only_read == (2,)
    assert one({"messages": [{"role": "system", "content": ""}, *turns]}).only_read == (1,)


def messages(*turns: object) -> Json:
    return {"messages": list(turns)}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (messages(USER), '"messages" ends with role "user"; the last turn must be the assistant\'s'),
        (messages(ANSWER), '"messages" has no turn of the user; put the question before the answer, or fix'),
        (messages(), '"messages" is empty; give it a question and an answer, or fix'),
        ({"messages": None}, '"messages" is null; make it a list of messages with role and content'),
        ({"messages": {}}, '"messages" is an object; make it a list of messages with role and content'),
        (messages("q", "a"), '"messages"[0] is a string; make it a message with role and content'),
        (
            messages(USER, {"role": "assistent", "content": "a"}),
            '"messages"[1].role is "assistent", which is no known role; did you mean assistant?',
        ),
        (
            messages(USER, {"role": "tool", "content": "a"}),
            '"messages"[1].role is "tool": turns of tools are not learned here; take them out, or fix or remove',
        ),
        (messages({"content": "q"}, ANSWER), '"messages"[0].role is null; make it system, user or assistant'),
        (messages(USER, {"role": "assistant", "content": None}), '"messages"[1].content is null; make it a string, or'),
        (
            messages(USER, {"role": "assistant", "content": [1]}),
            '"messages"[1].content is a list; make it a string, or',
        ),
        (messages({"role": "user", "content": " \n"}, ANSWER), '"messages"[0].content is empty; fill it, or fix'),
        (messages(USER, {"role": "boss", "content": "a"}), '"messages"[1].role is "boss", which is no known role; use'),
        (
            messages(USER, {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]}),
            '"messages"[1].tool_calls: the model is not shown calls of tools; say it in the content, or fix',
        ),
        (
            messages({**USER, "name": "Ada"}, ANSWER),
            '"messages"[0].name: the model is not shown names of speakers; say',
        ),
        (messages(USER, {**ANSWER, "weight": 0.5}), '"messages"[1].weight = 0.5: must be 0, only read, or 1, learned'),
        (messages(USER, {**ANSWER, "weight": 0}), '"messages": every answer has weight 0, none is learned; give one'),
        (
            {"prompt": [USER], "completion": [{**ANSWER, "weight": 0}]},
            '"completion", turn 1, has weight 0: turns are not weighed here; remove it',
        ),
        ({"messages": '[{"role": '}, '"messages" is text, but not a JSON list of messages ('),
        ({"conversations": [{"from": "human", "value": "q"}]}, '"conversations" ends with role "user"; the last turn'),
        ({"conversations": [{"from": "human"}]}, '"conversations"[0].value is null; make it a string, or fix'),
        ({"instruction": "q", "output": ""}, '"output" is empty; fill it, or fix or remove the line, or set'),
        ({"instruction": "", "output": "a"}, '"instruction" is empty; fill it, or fix'),
        ({"instruction": "q", "input": 3, "output": "a"}, '"input" is a number; make it a string, or fix'),
        ({"prompt": "q", "completion": None}, '"completion" is null; make it a string, or fix'),
        ({"prompt": "q", "completion": [USER, ANSWER]}, '"completion" does not go on from the prompt; repeat'),
        ({"system": 3, "prompt": "q", "completion": "a"}, '"system" is a number; make it a string, or fix'),
        ({**messages(USER, ANSWER), "accepted": [1]}, '"accepted" must be a list of strings, the answers that count'),
        ({"txt": "x"}, "no known schema has the columns txt; known are messages with role and content, or from and"),
        ({}, "no known schema has no columns; known are messages"),
    ],
)
def test_what_does_not_fit_is_named_with_what_to_do(row: Json, message: str) -> None:
    if row.get("completion") == [USER, ANSWER]:
        row = {**row, "prompt": "another"}
    assert fault(row).startswith(f"a.jsonl:1: {message}")


def test_an_unknown_schema_names_all_that_are_known() -> None:
    message = fault({"a": 1, "b": 2})
    for known in ("columns a, b", "conversations", "instruction, output", "prompt, completion", "question, answer"):
        assert known in message


def write(path: Path, rows: list[Json]) -> Path:
    if path.suffix == ".parquet":
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    elif path.suffix == ".json":
        path.write_text(json.dumps(rows, indent=2))
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize("kind", ["jsonl", "json", "parquet"])
def test_each_kind_of_file_gives_the_same_dialogues_and_says_what_it_held(tmp_path: Path, kind: str) -> None:
    said: list[str] = []
    path = write(tmp_path / f"sft.{kind}", [{"messages": [USER, ANSWER]}] * 1200)
    found = list(read_dialogues([str(path)], say=said.append))
    assert [dialogue.messages for dialogue in found] == [ASKED] * 1200
    assert said == [f"sft.{kind}: OpenAI messages, 1,200 dialogues"]


def test_a_table_of_questions_is_read(tmp_path: Path) -> None:
    (tmp_path / "faq.csv").write_text('question,answer\n"q",a\n')
    assert list(read_dialogues([str(tmp_path)])) == [Dialogue(ASKED, "faq.csv:2")]


def test_a_row_of_another_schema_is_named_with_the_one_recognised(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", [{"messages": [USER, ANSWER]}] * 2 + [{"prompt": "q", "completion": "a"}])
    with pytest.raises(
        DataError, match=r"a.jsonl:3: does not fit OpenAI messages, .*it has the columns prompt, comple"
    ):
        list(read_dialogues([str(path)]))


def test_the_schema_is_that_of_most_first_rows_not_of_the_first(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", [{"prompt": "q", "completion": "a"}] + [{"messages": [USER, ANSWER]}] * 3)
    said: list[str] = []
    assert len(list(read_dialogues([str(path)], bad_rows="skip", say=said.append))) == 3
    assert said == [
        "a.jsonl: OpenAI messages, 3 dialogues; 1 bad row skipped",
        "skipped a.jsonl:1: does not fit OpenAI messages, which the first rows of the file are: "
        "it has the columns prompt, completion",
    ]


def test_with_skip_a_file_without_a_good_row_is_still_an_error(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", [{"messages": [USER]}] * 200)
    with pytest.raises(
        DataError, match=r'a.jsonl: none of its 200 rows can be used, the first: a.jsonl:1: "messages" en'
    ):
        list(read_dialogues([str(path)], bad_rows="skip"))
    path.write_text("broken\n")
    with pytest.raises(DataError, match=r"the first: a.jsonl:1: not valid JSON .*; fix or remove the line$"):
        list(read_dialogues([str(path)], bad_rows="skip"))


def test_good_rows_are_found_after_many_broken_ones(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("broken\n" * 500 + json.dumps({"messages": [USER, ANSWER]}))
    assert [d.source for d in read_dialogues([str(tmp_path)], bad_rows="skip")] == ["a.jsonl:501"]


def or_fault(read: Callable[[], list[Dialogue]]) -> list[Dialogue] | str:
    try:
        return read()
    except DataError as error:
        return str(error)


words = st.sampled_from(["user", "assistant", "system", "human", "gpt", "x", ""])
turn = st.fixed_dictionaries({}, optional={"role": words, "from": words, "content": words, "value": words | st.none()})
values = st.recursive(st.none() | st.integers() | words, lambda inner: st.lists(inner | turn, max_size=4), max_leaves=6)
columns = st.sampled_from(["messages", "conversations", "instruction", "input", "output", "prompt", "completion", "x"])


@fuzz
@given(st.dictionaries(columns, values, max_size=4))
def test_any_row_gives_a_dialogue_that_ends_with_the_answer_or_a_data_error(row: Json) -> None:
    found = or_fault(lambda: [one(msgspec.json.decode(json.dumps(row)))])
    if isinstance(found, str):
        assert found.startswith("a.jsonl:1: ")
    else:
        assert found[0].messages[-1].role == "assistant"
        assert all(message.content.strip() for message in found[0].messages)


@fuzz
@given(data=st.lists(st.binary(max_size=40) | st.just(json.dumps({"messages": [USER, ANSWER]}).encode()), max_size=9))
def test_random_lines_give_dialogues_or_data_errors(tmp_path: Path, data: list[bytes]) -> None:
    (tmp_path / "a.jsonl").write_bytes(b"\n".join(data))
    found = or_fault(lambda: list(read_dialogues([str(tmp_path)], bad_rows="skip")))
    if isinstance(found, str):
        assert found.startswith("a.jsonl: ")
    else:
        assert len(found) == sum(len(line) > 40 for line in data)


def test_with_skip_every_good_row_of_ten_thousand_is_kept(tmp_path: Path) -> None:
    rows = [{"messages": [USER, ANSWER] if n % 10 else [USER]} for n in range(10_000)]
    assert len(list(read_dialogues([str(write(tmp_path / "a.jsonl", rows))], bad_rows="skip"))) == 9_000
