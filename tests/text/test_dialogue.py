import json
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trivium.errors import DataError
from trivium.records import Message
from trivium.text.dialogue import Fitted, fit, render, render_prompt, told_of_cuts
from trivium.text.tokenizer import SPECIAL, train

# Tempted to merge newlines and the edges of special tokens, wherever the cutting of words permits it.
TEMPTING = ["\n\n", "\n  \n\n", "!\n", "!<|", "<|<|", "|>!", "|>|>", "!!|>\n", " <|"]
TOKENIZER = train(["system user assistant: The cat sat on the mat.", *TEMPTING] * 20, vocab_size=400)
PRIVATE_MARKERS = st.characters(exclude_categories=["Cs", "Co"])  # transformers drops its own from messages
PLAIN = st.text(PRIVATE_MARKERS) | st.text("\n\r\t <|>!a1", max_size=12)
SPELLED = st.lists(PLAIN | st.sampled_from(SPECIAL), max_size=5).map("".join)


def dialogues(contents):
    turn = st.builds(Message, st.sampled_from(["system", "user", "assistant"]), contents)
    return st.builds(lambda turns, last: [*turns, Message("assistant", last)], st.lists(turn, max_size=4), contents)


def as_dicts(messages):
    return [message._asdict() for message in messages]


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """What transformers makes of the exported folder of a Qwen3 model."""
    from transformers import AutoTokenizer

    folder = tmp_path_factory.mktemp("model")
    TOKENIZER.save(folder, context_length=100_000)
    (folder / "config.json").write_text(json.dumps({"model_type": "qwen3", "architectures": ["Qwen3ForCausalLM"]}))
    return AutoTokenizer.from_pretrained(folder)


MULTI_TURN = [
    Message("system", "You are a cat."),
    Message("user", "Sit!"),
    Message("assistant", "On the mat?"),
    Message("user", "Yes."),
    Message("assistant", "No."),
]
BY_HAND = [
    MULTI_TURN,
    [Message("user", ""), Message("assistant", "")],
    [Message("assistant", "alone")],
    [Message("user", "čeština, 漢字, 👩\u200d🚀, e\u0301\u0000"), Message("assistant", "\u2028 \u0085 \xa0x\xa0")],
    [Message("user", "\n\n  \nindented\n\n"), Message("assistant", "  \r\n\n answer \n")],
]


@pytest.mark.parametrize("messages", BY_HAND)
def test_the_exported_template_gives_our_ids(reference, messages):
    ours = render(messages, TOKENIZER).ids.tolist()
    assert reference.apply_chat_template(as_dicts(messages), return_dict=False) == ours


@given(messages=dialogues(PLAIN.filter(lambda text: not any(name in text for name in SPECIAL))))
def test_the_exported_template_gives_our_ids_for_any_text_that_spells_no_special_token(reference, messages):
    ours = render(messages, TOKENIZER).ids.tolist()
    assert reference.apply_chat_template(as_dicts(messages), return_dict=False) == ours


@given(messages=dialogues(SPELLED))
def test_the_exported_template_gives_our_ids_for_any_text_when_told_to_sanitize(reference, messages):
    theirs = reference.apply_chat_template(as_dicts(messages), return_dict=False, sanitize_control_tokens=True)
    assert theirs == render(messages, TOKENIZER).ids.tolist()


@given(messages=dialogues(SPELLED))
def test_the_exported_template_gives_our_prompt(reference, messages):
    theirs = reference.apply_chat_template(
        as_dicts(messages[:-1] or messages), return_dict=False, sanitize_control_tokens=True, add_generation_prompt=True
    )
    assert theirs == render_prompt(messages[:-1] or messages, TOKENIZER).tolist()


def test_transformers_decodes_ours_without_the_control_tokens(reference):
    ids = render(MULTI_TURN[1:3], TOKENIZER).ids
    assert reference.decode(ids, skip_special_tokens=True) == "user\nSit!\nassistant\nOn the mat?\n"


def targets(rendered):
    return TOKENIZER.decode(rendered.ids[rendered.supervised], keep_special=True)


def test_the_answers_and_their_ends_are_supervised_and_nothing_else():
    rendered = render(MULTI_TURN, TOKENIZER)
    assert targets(rendered) == "On the mat?<|im_end|>No.<|im_end|>"
    assert TOKENIZER.decode(rendered.ids, keep_special=True) == "".join(
        f"<|im_start|>{role}\n{content}<|im_end|>\n" for role, content in MULTI_TURN
    )


def test_only_the_last_answer_is_supervised_when_asked():
    assert targets(render(MULTI_TURN, TOKENIZER, loss_on="last")) == "No.<|im_end|>"


@given(dialogues(SPELLED), st.sampled_from(["all", "last"]), st.sets(st.integers(0, 4)))
def test_the_mask_covers_exactly_the_learned_answers_with_their_ends(messages, loss_on, only_read):
    answers = [i for i, message in enumerate(messages) if message.role == "assistant"]
    learned = set(answers if loss_on == "all" else answers[-1:]) - only_read
    if not learned:
        with pytest.raises(DataError, match="not one token has loss"):
            render(messages, TOKENIZER, loss_on=loss_on, only_read=only_read)
        return
    rendered = render(messages, TOKENIZER, loss_on=loss_on, only_read=only_read)
    expected, at = np.zeros(len(rendered.ids), dtype=bool), 0
    for i, message in enumerate(messages):  # by the places of the control tokens, not by lengths
        stop = at + rendered.ids[at:].tolist().index(TOKENIZER.turn_end) + 1
        begin = at + 1 + len(TOKENIZER.encode(f"{message.role}\n"))
        expected[begin:stop] = i in learned
        at = stop + len(TOKENIZER.encode("\n"))
    assert rendered.supervised.tolist() == expected.tolist()


def test_an_answer_of_weight_0_stays_to_be_read():
    rendered = render(MULTI_TURN, TOKENIZER, only_read=(2,))
    assert targets(rendered) == "No.<|im_end|>"
    assert rendered.ids.tolist() == render(MULTI_TURN, TOKENIZER).ids.tolist()


def test_a_dialogue_of_which_nothing_is_learned_is_refused():
    with pytest.raises(DataError, match=r"^a\.jsonl:3: not one token has loss: every weight is 0; give an"):
        render(MULTI_TURN, TOKENIZER, only_read=(2, 4), source="a.jsonl:3")
    with pytest.raises(DataError, match=r"not one token has loss: its last answer has weight 0, and instruct.loss_on"):
        fit(MULTI_TURN, TOKENIZER, 99, loss_on="last", only_read=(4,))


def test_a_dialogue_whose_only_learned_answer_would_be_cut_is_left_out():
    length = len(render(MULTI_TURN, TOKENIZER).ids) - 1
    assert fit(MULTI_TURN, TOKENIZER, length, only_read=(2,)).rendered is not None
    assert fit(MULTI_TURN, TOKENIZER, length, only_read=(4,)).rendered is None


def test_what_is_cut_is_told_in_one_line():
    whole, none = render(MULTI_TURN, TOKENIZER), None
    assert told_of_cuts([Fitted(whole, 0)] * 3, 9) == ""
    assert told_of_cuts([Fitted(whole, 0), Fitted(whole, 2)], 9) == (
        "1 of 2 dialogues is longer than 9 tokens: 1 without their oldest turns "
        "(system turns and the last exchange stay)"
    )
    assert told_of_cuts([Fitted(none, 5), Fitted(none, 2)], 1000) == (
        "2 of 2 dialogues are longer than 1,000 tokens: 2 left out, as nothing of them to learn fits"
    )


def test_an_empty_answer_still_teaches_to_stop():
    assert targets(render([Message("assistant", "")], TOKENIZER)) == "<|im_end|>"


@given(dialogues(SPELLED))
def test_control_tokens_stand_only_where_turns_begin_and_end(messages):
    ids = render(messages, TOKENIZER).ids
    control = [id for id in ids.tolist() if id < len(SPECIAL)]
    assert control == [TOKENIZER.turn_start, TOKENIZER.turn_end] * len(messages)


@given(dialogues(SPELLED))
def test_a_prompt_and_its_answer_make_the_dialogue(messages):
    rendered = render([Message("user", "?"), *messages], TOKENIZER)
    prompt = render_prompt([Message("user", "?"), *messages[:-1]], TOKENIZER)
    answer = [*TOKENIZER.encode(messages[-1].content), TOKENIZER.turn_end, *TOKENIZER.encode("\n")]
    assert rendered.ids.tolist() == [*prompt, *answer]
    assert rendered.supervised[len(prompt) :].tolist() == [True] * (len(answer) - 1) + [False]


@given(dialogues(SPELLED), dialogues(SPELLED))
def test_the_ids_of_a_turn_do_not_depend_on_its_neighbours(one, other):
    joined = np.concatenate([render(one, TOKENIZER).ids, render(other, TOKENIZER).ids])
    assert render([*one, *other], TOKENIZER).ids.tolist() == joined.tolist()


def test_a_dialogue_that_fits_is_left_whole():
    whole = render(MULTI_TURN, TOKENIZER)
    fitted = fit(MULTI_TURN, TOKENIZER, len(whole.ids))
    assert fitted.turns_cut == 0
    assert fitted.rendered is not None
    assert fitted.rendered.ids.tolist() == whole.ids.tolist()
    assert fitted.rendered.supervised.tolist() == whole.supervised.tolist()


def test_the_oldest_exchange_is_cut_first_and_the_system_turn_stays():
    kept = render([MULTI_TURN[0], *MULTI_TURN[3:]], TOKENIZER)
    longest = len(render(MULTI_TURN, TOKENIZER).ids)
    for length in range(len(kept.ids), longest):
        fitted = fit(MULTI_TURN, TOKENIZER, length)
        assert fitted.turns_cut == 2
        assert fitted.rendered is not None
        assert fitted.rendered.ids.tolist() == kept.ids.tolist()
    assert fit(MULTI_TURN, TOKENIZER, len(kept.ids) - 1).rendered is None


@given(dialogues(SPELLED), st.integers(0, 200))
def test_a_fitted_dialogue_is_no_longer_than_asked_and_ends_with_the_answer(messages, length):
    fitted = fit(messages, TOKENIZER, length).rendered
    if fitted is not None:
        last = render([messages[-1]], TOKENIZER)
        assert len(fitted.ids) <= length
        assert fitted.ids[-len(last.ids) :].tolist() == last.ids.tolist()
        assert fitted.supervised[-len(last.ids) :].tolist() == last.supervised.tolist()


@given(dialogues(SPELLED))
def test_more_room_never_cuts_more_turns(messages):
    cuts = [fit(messages, TOKENIZER, length).turns_cut for length in range(0, 120, 10)]
    assert all(more >= less for more, less in pairwise(cuts))


def test_a_dialogue_without_messages_is_refused():
    for call in (render, render_prompt):
        with pytest.raises(DataError, match=r'^a\.jsonl:3: "messages" is empty; give at least one turn'):
            call([], TOKENIZER, source="a.jsonl:3")


def test_a_dialogue_that_ends_with_the_user_is_refused():
    message = r'^a\.jsonl:3: "messages" ends with role "user"; the last turn must be the assistant\'s'
    with pytest.raises(DataError, match=message):
        render(MULTI_TURN[:2], TOKENIZER, source="a.jsonl:3")
    with pytest.raises(DataError, match=message):
        fit(MULTI_TURN[:2], TOKENIZER, 99, source="a.jsonl:3")


def test_an_unknown_role_is_refused():
    with pytest.raises(DataError, match=r'"messages" holds role "gpt"; use one of system, user, assistant'):
        render([Message("gpt", "hello")], TOKENIZER)  # type: ignore[arg-type]
