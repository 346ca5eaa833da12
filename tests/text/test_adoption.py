"""Somebody else's vocabulary: its tokens stay, what is missing is added, and dialogues have one rendering."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, decoders, normalizers

from tests.foreign import CHATML, LLAMA3, learned, write_tokenizer
from trivium.config import InstructConfig
from trivium.errors import CheckpointError, DataError
from trivium.phases.instruct import dialogue_rows
from trivium.records import Dialogue, Message
from trivium.text import adoption
from trivium.text.adoption import adopt
from trivium.text.blanks import cut, prompt
from trivium.text.dialogue import fit, fit_all, render, render_prompt, told_of_cuts, told_of_faults
from trivium.text.tokenizer import Tokenizer

SORTS = {"qwen": (False, CHATML), "llama 3": (True, LLAMA3), "llama without a template": (True, None)}
# hypothesis also tries the strings that the code holds, such as "<|fim_middle|>"
PLAIN = st.text(st.characters(exclude_categories=["Cs", "Co"])).map(str.strip).filter(lambda text: "<|" not in text)
DIALOGUE = [
    Message("system", "Be kind."),
    Message("user", "Sit!"),
    Message("assistant", "On the mat?"),
    Message("user", "Yes."),
    Message("assistant", "No."),
]


@pytest.fixture(scope="module", params=SORTS)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    llama, template = SORTS[request.param]
    made = tmp_path_factory.mktemp("foreign")
    write_tokenizer(made, llama=llama, template=template)
    return made


@pytest.fixture(scope="module")
def adopted(folder: Path) -> adoption.Adopted:
    return adopt(folder)


@pytest.fixture(scope="module")
def theirs(adopted: adoption.Adopted, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What transformers reads from the folder that we write."""
    made = tmp_path_factory.mktemp("ours")
    adopted.tokenizer.save(made)
    return transformers.AutoTokenizer.from_pretrained(made)


def as_dicts(messages: list[Message]) -> list[dict[str, str]]:
    return [message._asdict() for message in messages]


def test_every_token_keeps_its_id_and_ours_come_after_them(adopted: adoption.Adopted, folder: Path) -> None:
    before = json.loads((folder / "tokenizer.json").read_text())
    tokenizer = adopted.tokenizer
    assert adopted.known == 380
    assert {tokenizer.encode(word)[0] for word in ("a", " the")} <= set(range(380))
    for token in before["added_tokens"]:
        assert tokenizer.decode([token["id"]], keep_special=True) == token["content"]
    assert tokenizer.pad >= 380
    assert tokenizer.pad not in (tokenizer.end_of_text, tokenizer.turn_end)


@given(
    text=st.text() | st.lists(st.sampled_from(["<|eot_id|>", "<|im_end|>", "<|fim_prefix|>", "\n", " "])).map("".join)
)
def test_text_comes_back_and_never_becomes_a_control_token(text: str, adopted: adoption.Adopted) -> None:
    tokenizer = adopted.tokenizer
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert not set(ids) & set(tokenizer.special)
    assert b"".join(map(tokenizer.token_bytes, ids)) == text.encode()


def test_what_is_adopted_is_saved_and_loaded_as_it_is(adopted: adoption.Adopted, tmp_path: Path) -> None:
    adopted.tokenizer.save(tmp_path)
    loaded = Tokenizer.load(tmp_path)
    assert loaded.fingerprint() == adopted.tokenizer.fingerprint()
    assert render(DIALOGUE, loaded).ids.tolist() == render(DIALOGUE, adopted.tokenizer).ids.tolist()
    assert (loaded.turn_end, loaded.opening) == (adopted.tokenizer.turn_end, adopted.tokenizer.opening)
    again = adopt(tmp_path)
    assert again.known == loaded.vocab_size
    assert again.tokenizer.fingerprint() == loaded.fingerprint()


@given(contents=st.lists(PLAIN, min_size=3, max_size=3))
@settings(max_examples=40)
def test_the_exported_template_gives_our_ids(contents: list[str], adopted: adoption.Adopted, theirs: Any) -> None:
    messages = [Message("system", contents[0]), Message("user", contents[1]), Message("assistant", contents[2])]
    for said in (messages, messages[1:]):
        found = theirs.apply_chat_template(as_dicts(said), return_dict=False, date_string="26 Jul 2024")
        assert found == render(said, adopted.tokenizer).ids.tolist()
    asked = theirs.apply_chat_template(
        as_dicts(messages[:-1]), return_dict=False, add_generation_prompt=True, date_string="26 Jul 2024"
    )
    assert asked == render_prompt(messages[:-1], adopted.tokenizer).tolist()


@pytest.mark.parametrize("sort", ["qwen", "llama 3"])
def test_the_folders_own_template_is_kept_and_gives_our_ids(sort: str, tmp_path: Path) -> None:
    llama, template = SORTS[sort]
    write_tokenizer(tmp_path, llama=llama, template=template)
    original, tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path), adopt(tmp_path).tokenizer
    assert tokenizer.chat_template == template
    for said in (DIALOGUE, DIALOGUE[1:]):
        found = original.apply_chat_template(as_dicts(said), return_dict=False, date_string="26 Jul 2024")
        assert found == render(said, tokenizer).ids.tolist()


def test_a_template_that_writes_as_we_do_becomes_ours(tmp_path: Path) -> None:
    same = CHATML.replace("You are helpful.", "").replace("messages[0]['role'] != 'system'", "false")
    write_tokenizer(tmp_path, llama=False, template=same)
    assert adopt(tmp_path).tokenizer.template is None


def test_the_answers_and_their_ends_are_supervised_and_nothing_else(adopted: adoption.Adopted) -> None:
    tokenizer = adopted.tokenizer
    end = tokenizer.decode([tokenizer.turn_end], keep_special=True)
    for loss_on, told in (("all", f"On the mat?{end}No.{end}"), ("last", f"No.{end}")):
        rendered = render(DIALOGUE, tokenizer, loss_on=loss_on)  # type: ignore[arg-type]
        assert tokenizer.decode(rendered.ids[rendered.supervised], keep_special=True) == told


def test_a_prompt_is_the_beginning_of_its_dialogue(adopted: adoption.Adopted) -> None:
    rendered, asked = render(DIALOGUE, adopted.tokenizer), render_prompt(DIALOGUE[:-1], adopted.tokenizer)
    assert rendered.ids[: len(asked)].tolist() == asked.tolist()
    assert rendered.supervised[len(asked)]


def test_the_oldest_exchange_is_cut_first_and_the_system_turn_stays(adopted: adoption.Adopted) -> None:
    tokenizer = adopted.tokenizer
    whole, kept = render(DIALOGUE, tokenizer), render([DIALOGUE[0], *DIALOGUE[3:]], tokenizer)
    assert fit(DIALOGUE, tokenizer, len(whole.ids)).turns_cut == 0
    for length in (len(whole.ids) - 1, len(kept.ids)):
        fitted = fit(DIALOGUE, tokenizer, length)
        assert fitted.turns_cut == 2
        assert fitted.rendered is not None
        assert fitted.rendered.ids.tolist() == kept.ids.tolist()
    assert fit(DIALOGUE, tokenizer, len(kept.ids) - 1).rendered is None


def test_texts_and_blanks_open_as_the_vocabulary_asks(adopted: adoption.Adopted) -> None:
    tokenizer = adopted.tokenizer
    (whole,) = tokenizer.encode_documents(["The cat sat on the mat."])
    said = tokenizer.encode("The cat sat on the mat.")
    assert whole.tolist() == [*tokenizer.opening, *said, tokenizer.end_of_text]
    for seed in range(20):
        ids = cut(whole, tokenizer, np.random.default_rng(seed), max_length=99)
        assert tuple(ids[: len(tokenizer.opening) + 1]) == (*tokenizer.opening, tokenizer.blank_prefix)
        assert sum(id in tokenizer.opening for id in ids) == len(tokenizer.opening)
    assert tuple(prompt("a", "b", tokenizer)[: len(tokenizer.opening)]) == tokenizer.opening


def test_a_long_dialogue_loses_as_little_as_must_be_and_is_not_written_for_every_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_tokenizer(tmp_path, llama=True, template=LLAMA3)
    tokenizer = adopt(tmp_path).tokenizer
    talk = [m for i in range(30) for m in (Message("user", f"{i}? " * (i % 7 + 1)), Message("assistant", f"{i}. " * i))]
    sizes = [len(render(talk[cut:], tokenizer).ids) for cut in range(0, len(talk), 2)]
    for length in (sizes[-1] - 1, sizes[-1], 200, 555, sizes[1], sizes[0] - 1, sizes[0]):
        fitting = [2 * i for i, size in enumerate(sizes) if size <= length]
        fitted = fit(talk, tokenizer, length)
        assert fitted.turns_cut == (fitting[0] if fitting else len(talk))
        assert (fitted.rendered is None) is (not fitting)
    written: list[int] = []
    assert tokenizer.template
    write = tokenizer.template.write
    monkeypatch.setattr(
        tokenizer.template, "write", lambda said, **how: written.append(len(said)) or write(said, **how)
    )
    assert fit(talk, tokenizer, 200, loss_on="last").rendered
    assert len(written) <= 8  # of 30 cuts: halving, and the answer's prompt


def test_an_answer_that_melts_into_its_header_is_refused_with_its_source(tmp_path: Path) -> None:
    source = "{% for m in messages %}{{ m.role }} th{{ m.content }}<|eot_id|>{% endfor %}"
    source += "{% if add_generation_prompt %}assistant th{% endif %}"
    write_tokenizer(tmp_path, llama=True, template=source)
    tokenizer = adopt(tmp_path).tokenizer
    render([Message("user", "Hi"), Message("assistant", " Hello.")], tokenizer)
    with pytest.raises(
        DataError, match=r"a\.jsonl:3: the model's chat template does not write turn 2, an answer, after its prompt"
    ):
        render([Message("user", "Hi"), Message("assistant", "e cat.")], tokenizer, source="a.jsonl:3")


def test_with_skip_what_melts_is_left_out_and_told(tmp_path: Path) -> None:
    source = "{% for m in messages %}{{ m.role }} th{{ m.content }}<|eot_id|>{% endfor %}"
    source += "{% if add_generation_prompt %}assistant th{% endif %}"
    write_tokenizer(tmp_path, llama=True, template=source)
    tokenizer = adopt(tmp_path).tokenizer
    good, bad = (
        Dialogue((Message("user", "Hi"), Message("assistant", t)), f"a.jsonl:{t}") for t in (" Yes.", "e cat.")
    )
    with pytest.raises(DataError, match="does not write turn 2"):
        fit_all([good, bad], tokenizer, 99, loss_on="all")
    fitted = fit_all([good, bad], tokenizer, 99, loss_on="all", bad_rows="skip")
    assert [each.rendered is None for each in fitted] == [False, True]
    assert told_of_faults(fitted).startswith("1 of 2 dialogues skipped, the first: a.jsonl:e cat.: the model's chat")
    assert told_of_cuts(fitted, 99) == ""  # it is not too long
    said: list[str] = []
    rows = dialogue_rows([good, bad], tokenizer, InstructConfig(), 99, 0, said.append, bad_rows="skip")
    assert rows.row(0).tokens[: len(fitted[0].rendered.ids)].tolist() == fitted[0].rendered.ids.tolist()
    assert said == [told_of_faults(fitted)]
    with pytest.raises(DataError, match="does not write turn 2"):
        dialogue_rows([bad], tokenizer, InstructConfig(), 99, 0, said.append, bad_rows="skip")


def broken(folder: Path, **changed: Any) -> Path:
    described = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps(described | changed))
    return folder


def test_a_tokenizer_that_is_not_byte_level_is_refused(tmp_path: Path) -> None:
    backend = tokenizers.Tokenizer.from_str(learned(True))
    backend.normalizer = normalizers.Prepend("▁")
    backend.decoder = decoders.Metaspace()
    backend.save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(CheckpointError, match=r"its tokenizer turns .* only byte-level ones can be used"):
        adopt(tmp_path)


def test_a_control_token_that_eats_the_spaces_beside_it_is_refused(tmp_path: Path) -> None:
    write_tokenizer(tmp_path, llama=True, template=LLAMA3)
    described = json.loads((tmp_path / "tokenizer.json").read_text())
    for token in described["added_tokens"]:
        token["rstrip"] = True
    (tmp_path / "tokenizer.json").write_text(json.dumps(described))
    with pytest.raises(CheckpointError, match="its control tokens change the text beside them"):
        adopt(tmp_path)


def test_a_template_inside_the_settings_or_beside_them_is_found(tmp_path: Path) -> None:
    write_tokenizer(tmp_path, llama=True, template=LLAMA3)
    (tmp_path / "chat_template.jinja").unlink()
    assert adopt(tmp_path).tokenizer.template is None
    for form in (LLAMA3, [{"name": "tool_use", "template": "x"}, {"name": "default", "template": LLAMA3}]):
        found = adopt(broken(tmp_path, chat_template=form)).tokenizer.template
        assert found is not None
        assert found.source == LLAMA3


def test_settings_that_are_no_json_are_named(tmp_path: Path) -> None:
    write_tokenizer(tmp_path, llama=True, template=None)
    (tmp_path / "tokenizer_config.json").write_text("[]")
    with pytest.raises(CheckpointError, match=r"tokenizer_config\.json: cannot be read"):
        adopt(tmp_path)


def test_the_fingerprint_names_all_that_is_read_and_nothing_else(tmp_path: Path) -> None:
    write_tokenizer(tmp_path, llama=True, template=LLAMA3)
    found = [adoption.fingerprint(tmp_path)]
    (tmp_path / "README.md").write_text("anything")
    assert adoption.fingerprint(tmp_path) == found[0]
    for name in ("chat_template.jinja", "tokenizer_config.json", "tokenizer.json"):
        (tmp_path / name).write_text((tmp_path / name).read_text() + " ")
        found.append(adoption.fingerprint(tmp_path))
    assert len(set(found)) == 4


def test_a_length_limit_in_the_file_does_not_cut_texts(tmp_path: Path) -> None:
    backend = tokenizers.Tokenizer.from_str(learned(False))
    backend.enable_truncation(4)
    backend.enable_padding(length=8)
    backend.add_special_tokens([AddedToken("<|pad|>", special=True)])
    backend.save(str(tmp_path / "tokenizer.json"))
    assert len(adopt(tmp_path).tokenizer.encode("one two three four five six")) > 8
