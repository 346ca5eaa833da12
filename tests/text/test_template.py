"""Chat templates of others: what they write, in a sandbox, and which are refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.foreign import CHATML, LLAMA3, LLAMA_TOKENS, QWEN_TOKENS
from trivium.errors import CheckpointError, DataError
from trivium.records import Message
from trivium.text.template import ChatTemplate, writes_chatml

NAMES = {"bos_token": "<|begin_of_text|>"}
CONTROL = list(LLAMA_TOKENS)
TEMPLATE = ChatTemplate(LLAMA3, NAMES, CONTROL)
HEADER = ["<|start_header_id|>", "assistant", "<|end_header_id|>", "\n\n"]


def test_control_tokens_and_text_stand_in_turn() -> None:
    written = TEMPLATE.write([Message("user", " Hi! ")], prompt=True, source="here")
    assert written[:5] == ["", "<|begin_of_text|>", "", "<|start_header_id|>", "system"]
    user = ["", "<|start_header_id|>", "user", "<|end_header_id|>", "\n\nHi!", "<|eot_id|>", ""]
    assert written[-11:] == [*user, *HEADER]


def test_the_end_of_a_turn_is_what_stands_after_an_answer() -> None:
    assert TEMPLATE.turn_end == "<|eot_id|>"


def test_the_date_is_the_templates_own_whatever_the_day() -> None:
    assert "\n\nToday: 26 Jul 2024\n\n" in TEMPLATE.write([Message("user", "Hi")], source="here")


@given(st.lists(st.sampled_from([*CONTROL, "<|", "|>", "eot_id", "a", " "]), max_size=6).map("".join))
def test_what_a_message_spells_is_never_a_control_token(content: str) -> None:
    usual = TEMPLATE.write([Message("user", "x"), Message("assistant", "y")], source="here")
    written = TEMPLATE.write([Message("user", content), Message("assistant", "y")], source="here")
    assert written[1::2] == usual[1::2]
    assert content.strip() in "".join(written[::2])


def test_what_a_template_marks_as_the_assistants_is_written() -> None:
    marked = (
        "{% for m in messages %}{{ m.role }}: {% if m.role == 'assistant' %}{% generation %}"
        "{{ m.content }}<|eot_id|>{% endgeneration %}{% else %}{{ m.content }}<|eot_id|>{% endif %}{% endfor %}"
    )
    plain = marked.replace("{% generation %}", "").replace("{% endgeneration %}", "")
    asked = [Message("user", "x"), Message("assistant", "y")]
    written = [ChatTemplate(source, {}, CONTROL).write(asked, source="here") for source in (marked, plain)]
    assert written[0] == written[1]
    assert "y" in "".join(written[0])


def test_what_the_template_refuses_is_named_with_its_source() -> None:
    picky = ChatTemplate(
        "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system turns') }}{% endif %}"
        "{{ m.content }}<|eot_id|>{% endfor %}",
        {},
        CONTROL,
    )
    with pytest.raises(DataError, match=r"a\.jsonl:3: the model's chat template refuses it \(no system turns\)"):
        picky.write([Message("system", "Be kind.")], source="a.jsonl:3")


REFUSED = {
    "{% for": "cannot be used",
    "{{ messages[0]['role'].__class__.__mro__ }}{{ messages | nothing }}": "cannot be used",
    "{{ ''.__class__.__mro__[1].__subclasses__() }}<|eot_id|>": "cannot be used",
    "{% for m in messages %}{{ m.content }}\n{% endfor %}": "ends answers with no control token",
}


@pytest.mark.parametrize("source", REFUSED)
def test_a_template_that_cannot_be_used_is_refused(source: str) -> None:
    with pytest.raises(CheckpointError, match=REFUSED[source]):
        ChatTemplate(source, {}, CONTROL)


PLAIN = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>{{ '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant{{ '\n' }}{% endif %}"
)


@pytest.mark.parametrize(
    ("source", "same"),
    [
        (PLAIN, True),
        (CHATML, False),  # says a system prompt that nobody wrote
        (PLAIN.replace("m['content']", "m['content'] | trim"), False),
        (PLAIN.replace("m['content']", "m['content'].split('</think>')[-1]"), False),
        (PLAIN.replace("assistant{{", "assistant\n<think>{{"), False),
        (LLAMA3, False),
    ],
)
def test_chatml_is_known_by_what_it_writes(source: str, same: bool) -> None:
    assert writes_chatml(ChatTemplate(source, NAMES, [*CONTROL, *QWEN_TOKENS])) == same
