"""`trivium generate`: many prompts at once, and whatever is asked to be told of them, the same answers."""

import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.story.speakers import make_run
from trivium.cli import main
from trivium.model import hub
from trivium.story.generating import Wanted, generate_answers
from trivium.story.manner import Manner, Plain
from trivium.text.answers import read_dialogues
from trivium.text.tokenizer import Tokenizer

SHORT = Plain(temperature=1.0, max_tokens=12)
PROMPTS = ["Who are you?", "Where is the goose, and who fed it?", "Why?"]
Type = Callable[..., str]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Look, do not touch."""
    return make_run(tmp_path_factory.mktemp("runs") / "spoken")


@pytest.fixture
def typed(capsys: pytest.CaptureFixture[str]) -> Type:
    def type_it(*arguments: str | Path) -> str:
        main(["generate", *map(str, arguments)])
        return capsys.readouterr().out

    return type_it


def answers(run: Path, wanted: Wanted = Wanted(), manner: Manner = SHORT, prompts: list[str] = PROMPTS) -> list[str]:  # noqa: B008
    rows = generate_answers(run, prompts, None, wanted, manner)["answers"]
    return [row["completion"] if "prompt" in row else row["messages"][-1]["content"] for row in rows]


def test_an_answer_depends_on_its_prompt_its_number_and_the_seed_alone(run: Path) -> None:
    several = answers(run, Wanted(n=2))
    assert answers(run, Wanted(n=2), prompts=PROMPTS[:1]) == several[:2]
    assert several[0::2] == answers(run)
    assert several[0] != several[1]
    assert answers(run, manner=SHORT.changed("seed", 5)) != answers(run)


@pytest.mark.parametrize("change", [{}, {"temperature": 0.0}, {"top_k": 5}, {"top_p": 0.8}, {"min_p": 0.1}])
def test_to_look_at_every_token_changes_no_answer(change: dict[str, float], run: Path) -> None:
    manner = SHORT.model_copy(update=change)
    exact = Wanted(precision="float32")
    assert answers(run, exact._replace(logprobs=2), manner) == answers(run, exact, manner)


def test_logprobs_are_those_of_the_model(run: Path) -> None:
    wanted = Wanted(raw=True, logprobs=3, precision="float32")
    (row,) = generate_answers(run, PROMPTS[:1], None, wanted, SHORT)["answers"]
    folder = run / "rounds" / "001" / "aligned"
    tokenizer = Tokenizer.load(folder)
    assert len(row["logprobs"]) == row["tokens"] > 0
    ids = tokenizer.encode(row["prompt"])
    with torch.no_grad():
        tokens = torch.tensor([ids])
        logits = hub.load(folder)(tokens, torch.arange(len(ids))[None], torch.zeros_like(tokens))[0, -1]
    first, best = row["logprobs"][0], logits.log_softmax(-1).topk(3)
    assert [logprob for _, logprob in first["beside"]] == pytest.approx(best.values.tolist(), abs=1e-5)
    written = [tokenizer.token_bytes(id) for id in best.indices.tolist()]  # some are parts of a character
    assert [text for text, _ in first["beside"]] == [data.decode("utf-8", "backslashreplace") for data in written]


def test_a_stop_text_ends_the_answer_before_it(run: Path) -> None:
    (whole,) = answers(run, Wanted(precision="float32", logprobs=0), prompts=PROMPTS[:1])
    for begin in range(2, len(whole) - 2):
        stop = whole[begin : begin + 3]
        (row,) = generate_answers(run, PROMPTS[:1], None, Wanted(precision="float32", stop=(stop,)), SHORT)["answers"]
        assert row["messages"][-1]["content"] == whole[: whole.index(stop)].strip()
        assert row["ended"]


def test_repetition_makes_what_was_there_rarer(run: Path) -> None:
    cold = Plain(temperature=0, max_tokens=40)
    (before,) = answers(run, manner=cold, prompts=PROMPTS[:1])
    (after,) = answers(run, manner=cold.changed("repetition", 5), prompts=PROMPTS[:1])
    assert len(set(after)) / len(after) > len(set(before)) / len(before)


def test_base_goes_on_with_a_text_and_others_when_told_so(run: Path, typed: Type) -> None:
    found = json.loads(typed(run / "base", "The baker", "--max-tokens", "4", "--json"))
    assert found["model"] == str(run / "base")
    assert found["answers"][0]["prompt"] == "The baker"
    chatted, raw = (json.loads(typed(run, "The baker", "--max-tokens", "4", "--json", *how)) for how in ([], ["--raw"]))
    assert chatted["answers"][0]["messages"][0] == {"role": "user", "content": "The baker"}
    assert raw["answers"][0]["prompt"] == "The baker"


def test_lines_of_stdin_and_rows_of_a_file_are_prompts(
    run: Path, typed: Type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("Who are you?\n\nWhy?\n"))
    found = json.loads(typed(run, "--max-tokens", "3", "--json", "--system", "Be kind."))["answers"]
    asked = [[m["content"] for m in row["messages"][:-1]] for row in found]
    assert asked == [["Be kind.", "Who are you?"], ["Be kind.", "Why?"]]
    file = tmp_path / "prompts.jsonl"
    file.write_text('{"question": "Why?", "answer": "So."}\n')
    found = json.loads(typed(run, "Where?", "--file", file, "--max-tokens", "3", "--json"))["answers"]
    assert [row["messages"][0]["content"] for row in found] == ["Where?", "Why?"]


def test_what_is_written_to_a_file_is_read_again_as_answers(run: Path, typed: Type, tmp_path: Path) -> None:
    for name, model in (("chatted", run), ("raw", run / "base")):
        out = tmp_path / f"{name}.jsonl"
        assert typed(model, *PROMPTS, "--n", "2", "--max-tokens", "9", "--temperature", "1", "--out", out) == ""
        assert [dialogue.prompt[-1].content for dialogue in read_dialogues([str(out)])] == [
            prompt for prompt in PROMPTS for _ in range(2)
        ]


def test_one_answer_is_printed_as_it_is_and_several_below_their_prompts(run: Path, typed: Type) -> None:
    (one,) = answers(run, prompts=PROMPTS[:1])
    flags = ["--temperature", "1", "--max-tokens", "12"]
    assert typed(run, PROMPTS[0], *flags) == f"{one}\n"
    both = typed(run, *PROMPTS[:2], *flags)
    assert both.index(PROMPTS[0]) < both.index(one.split("\n")[0]) < both.index(PROMPTS[1])


def test_log_probabilities_are_printed_below_their_answer(run: Path, typed: Type) -> None:
    flags = ("--temperature", "0", "--max-tokens", "3", "--logprobs", "2")
    (row,) = json.loads(typed(run, "Why?", *flags, "--json"))["answers"]
    answer, *lines = typed(run, "Why?", *flags).rstrip("\n").rsplit("\n", 3)  # there are other ends of lines in it
    assert answer == row["messages"][-1]["content"]
    assert len(lines) == len(row["logprobs"]) == 3
    for line, told in zip(lines, row["logprobs"], strict=True):
        beside = [f"{json.dumps(token, ensure_ascii=False)} {logprob:.3f}" for token, logprob in told["beside"]]
        alone = json.dumps(told["token"], ensure_ascii=False)
        assert line.strip().startswith(alone)
        assert line.endswith(f"{told['logprob']:.3f}  of  {'  '.join(beside)}")


def test_a_prompt_that_is_not_read_whole_is_told(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["generate", str(run), "word " * 200, "Why?", "--n", "2", "--max-tokens", "2"])
    assert "1 of 2 prompts is longer than 120 tokens: only the end is read" in capsys.readouterr().err
    main(["generate", str(run), "Why?", "--max-tokens", "2"])
    assert "longer" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["Hi", "--n", "0"], "n = 0: must be at least 1"),
        (["Hi", "--logprobs", "50"], "logprobs = 50: must be from 0 to 20"),
        (["Hi", "--precision", "flaot32"], "precision = flaot32: is not known; did you mean float32?"),
        (["Hi", "--temperature", "-1"], "temperature = '-1': input should be greater"),
        (["Hi", "--stop", ""], "stop: an empty text"),
        ([""], "prompts: one is empty"),
        (["Hi", "--out", "answers.txt"], "--out = answers.txt: must end with .jsonl"),
        (["--file", "none.jsonl"], "none.jsonl: is no file"),
    ],
)
def test_mistakes_are_named(
    arguments: list[str], told: str, run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    with pytest.raises(SystemExit) as end:
        main(["generate", str(run), *arguments])
    assert end.value.code == 2
    assert told in capsys.readouterr().err
