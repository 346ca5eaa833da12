"""What a user types wrong: one clear line that names the thing and the remedy, exit code 2, nothing lost."""

import functools
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from trivium import plan
from trivium.cli import app, main
from trivium.native import layer
from trivium.text import corpus

TINY = """
[data]
text = ["text.txt"]
answers = ["answers.jsonl"]
[compute]
compile = false
precision = "float32"
threads = 1
[model]
vocab_size = 270
num_layers = 1
width = 16
num_heads = 2
num_kv_heads = 2
mlp_width = 24
context_length = 48
[pretrain]
steps = 1
rows_per_step = 2
microbatch_rows = 2
[instruct]
steps = 1
rows_per_step = 2
microbatch_rows = 2
[reward]
steps = 1
rows_per_step = 2
microbatch_rows = 2
[align]
steps = 1
rows_per_step = 4
microbatch_rows = 4
group = 2
max_new_tokens = 4
[evaluate]
along_the_way = 0
documents = 4
blanks = 4
instructions = 4
comparisons = 4
"""


class Said(NamedTuple):
    code: int
    out: str
    err: str


Type = Callable[..., Said]


@pytest.fixture
def typed(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Type:
    """Types a command, and says how it went."""
    monkeypatch.setenv("COLUMNS", "300")
    monkeypatch.setattr(plan, "measure_machine", functools.partial(plan.measure_machine, seconds=0.01))
    monkeypatch.setattr(corpus, "HELD_OUT", 8)

    def run(*arguments: str | Path) -> Said:
        code = 0
        try:
            main([str(argument) for argument in arguments])
        except SystemExit as end:
            code = int(end.code or 0)
        return Said(code, *capsys.readouterr())

    return run


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a tiny recipe and its data, the current one."""
    texts = [f"The cat number {i} sat on mat {i * i}. It was warm." for i in range(60)]
    (tmp_path / "text.txt").write_text("\n<|endoftext|>\n".join(texts))
    rows = [{"prompt": f"What is {i} and one?", "response": f"It is {i + 1}."} for i in range(60)]
    (tmp_path / "answers.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "tiny.toml").write_text(TINY)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def assert_refused(said: Said, *told: str) -> None:
    """One line, of ours, with all of that in it."""
    assert said.code == 2, said
    assert said.out == ""
    line = said.err.strip().splitlines()[-1]
    for words in told:
        assert words in line
    assert re.match(r"(ConfigError|DataError|RunError|CheckpointError|trivium): ", line)
    assert "Traceback" not in said.err
    assert "pydantic" not in said.err


def test_an_empty_file_is_named(here: Path, typed: Type) -> None:
    (here / "text.txt").write_text("")
    assert_refused(typed("run", "tiny.toml"), "DataError: text.txt", "is empty; fill it")


BROKEN = [
    ("answers", "a.jsonl", '{"prompt": "Hi", "response": "Hello."}\n{"prompt": "What'),
    ("answers-held-out", "h.jsonl", '{"prompt": "Hi", "response": "Hello."}\n{"prompt": "Hi", "response": 3}\n'),
    ("pairs", "p.jsonl", '{"prompt": "Hi", "chosen": "A.", "rejected": "B."}\n{"prompt": "Hi", "chosen": "A."}\n'),
    ("text", "t.jsonl", '{"text": "Once upon a time."}\n{"text": 7}\n'),
]


@pytest.mark.parametrize(("setting", "file", "content"), BROKEN)
@pytest.mark.parametrize("verb", ["run", "plan", "pretrain"])
def test_a_broken_second_line_is_named_before_anything_is_trained(
    verb: str, setting: str, file: str, content: str, here: Path, typed: Type
) -> None:
    (here / file).write_text(content)
    assert_refused(typed(verb, "tiny.toml", f"--data.{setting}", file), f"DataError: {file}:2: ", "; ")
    assert not (here / "runs").exists()


def test_a_schema_that_nobody_knows_is_named_before_anything_is_trained(here: Path, typed: Type) -> None:
    (here / "answers.jsonl").write_text('{"frage": "Wo?", "antwort": "Da."}\n')
    told = "answers.jsonl:1: no known schema has the columns frage, antwort; known are messages"
    assert_refused(typed("run", "tiny.toml"), told)
    assert not (here / "runs").exists()


def test_bad_rows_that_are_to_be_skipped_stop_nothing(here: Path, typed: Type) -> None:
    with (here / "answers.jsonl").open("a") as file:
        file.write('{"prompt": "What')
    assert typed("plan", "tiny.toml", "--data.bad-rows", "skip").code == 0


def test_a_broken_line_is_named_with_its_number_and_what_was_trained_is_kept(here: Path, typed: Type) -> None:
    whole = (here / "answers.jsonl").read_text() * 10
    (here / "answers.jsonl").write_text(whole + '{"prompt": "What')
    assert_refused(typed("run", "tiny.toml"), "DataError: answers.jsonl:601")
    assert not (here / "runs").exists()  # it is found before anything is trained
    (here / "answers.jsonl").write_text(whole)
    assert typed("pretrain", "tiny.toml").code == 0
    base = (here / "runs" / "tiny" / "base" / "model.safetensors").read_bytes()
    (here / "answers.jsonl").write_text(whole + '{"prompt": "What')
    assert_refused(typed("instruct", "tiny.toml"), "DataError: answers.jsonl:601")
    (here / "answers.jsonl").write_text(whole)
    assert typed("instruct", "tiny.toml").code == 0
    assert (here / "runs" / "tiny" / "base" / "model.safetensors").read_bytes() == base


def test_a_dialogue_that_ends_with_the_user_is_named(here: Path, typed: Type) -> None:
    turns = [{"role": "assistant", "content": "Yes?"}, {"role": "user", "content": "No."}]
    (here / "answers.jsonl").write_text(json.dumps({"messages": turns}) + "\n")
    assert_refused(
        typed("run", "tiny.toml"), 'answers.jsonl:1: "messages" ends with role "user"; the last turn must be'
    )


def test_a_pair_with_equal_sides_is_named(here: Path, typed: Type) -> None:
    row = {"prompt": "Hi", "chosen": "Hello.", "rejected": "Hello."}
    (here / "pairs.jsonl").write_text(json.dumps(row) + "\n")
    said = typed("run", "tiny.toml", "--data.pairs", "pairs.jsonl")
    assert_refused(said, "pairs.jsonl:1: chosen and rejected are the same text")


def test_a_missing_file_is_named(here: Path, typed: Type) -> None:
    assert_refused(typed("run", "tiny.toml", "--data.text", "txt.text"), 'data.text = "txt.text": no such file')
    refused = typed("run", "tiny.toml", "--data.pairs", "pears.jsonl")
    assert_refused(refused, 'data.pairs = "pears.jsonl": no such file')
    assert not (here / "runs").exists()


def test_an_unknown_setting_is_named_with_the_nearest(here: Path, typed: Type) -> None:
    (here / "wrong.toml").write_text("[pretrain]\nlearning_rte = 1\n")
    assert_refused(
        typed("run", "wrong.toml"), "unknown key pretrain.learning_rte; did you mean pretrain.learning_rate?"
    )
    assert_refused(
        typed("run", "--pretrain.learning_rte", "1"), "--pretrain.learning_rte", "Did you mean --pretrain.learning"
    )
    assert not (here / "runs").exists()


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--model.width", "33"], "model.num_heads = 2: must divide width = 33; try 1 or 3"),
        (["--align.group", "3"], "align.group = 3: must divide rows_per_step = 4"),
        (["--pretrain.steps", "0"], "pretrain.steps = 0: "),
        (["--seed", "x"], "seed"),
        (["--align.group", "one"], "group"),
        (["--minutes", "0"], "minutes = 0: must be above 0"),
        (["--minutes", "nan"], "minutes = nan"),
        (["--minutes", "inf"], "minutes = inf"),
        (["--minutes", "-1"], "minutes = -1"),
        (["--compute.device", "tpu"], "compute.device"),
    ],
)
def test_a_wrong_flag_is_named_and_makes_no_run(flags: list[str], told: str, here: Path, typed: Type) -> None:
    assert_refused(typed("run", "tiny.toml", *flags), told)
    assert not list(here.glob("runs/*/recipe.toml"))


@pytest.mark.parametrize("verb", ["plan", "pretrain"])
def test_without_a_compiler_steps_are_plain_and_that_is_said_once(
    verb: str, here: Path, typed: Type, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("long", "short", "insisting"):
        (here / f"{name}.toml").write_text(TINY.replace("compile = false", 'device = "cpu"'))
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setattr(layer, "library", lambda: "there is no C++ compiler")  # it may have been asked before
    said = typed(verb, "long.toml")
    assert said.code == 0
    assert (said.out + said.err).count("teps are not compiled: there is no C++ compiler") == 1
    assert "no C++ compiler" not in "".join(typed(verb, "short.toml", "--minutes", "1")[1:])
    insisting = typed(verb, "insisting.toml", "--compute.compile")
    assert_refused(insisting, "compute.compile = true: there is no C++ compiler", "or set it to false")


def test_a_gpu_that_is_not_there_is_named(here: Path, typed: Type, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert_refused(typed("run", "tiny.toml", "--compute.device", "cuda"), "compute.device = cuda", "cpu")


def test_a_folder_that_cannot_be_written_is_named(here: Path, typed: Type) -> None:
    told = {"text.txt/run": "cannot be written", "text.txt": "is a file", "/proc/run": "cannot be written"}
    for out, why in told.items():
        assert_refused(typed("run", "tiny.toml", "--out", out), f"{out}: {why}", "choose another with --out")


def test_a_folder_with_other_things_in_it_is_left_alone(here: Path, typed: Type) -> None:
    (here / "mine").mkdir()
    (here / "mine" / "thesis.txt").write_text("years of work")
    assert_refused(typed("run", "tiny.toml", "--out", "mine"), "is neither empty nor a run folder")
    assert [path.name for path in (here / "mine").iterdir()] == ["thesis.txt"]


def test_a_missing_recipe_is_named_with_the_nearest(here: Path, typed: Type) -> None:
    assert_refused(typed("run", "tinny.toml"), "tinny.toml: no such recipe; did you mean tiny.toml?")
    assert_refused(typed("run", "runs/mine"), "runs/mine: no such recipe; a new run's folder is named with --out")


def test_a_recipe_that_is_not_toml_is_named(here: Path, typed: Type) -> None:
    (here / "wrong.toml").write_text("{json: true}")
    assert_refused(typed("run", "wrong.toml"), "wrong.toml: not a TOML file")


def test_an_existing_run_keeps_its_settings(here: Path, typed: Type) -> None:
    assert typed("pretrain", "tiny.toml").code == 0
    before = (here / "runs" / "tiny" / "recipe.toml").read_text()
    refused = typed("pretrain", "tiny.toml", "--pretrain.steps", "3")
    assert_refused(refused, "runs/tiny: was begun with pretrain.steps = 1, not 3; choose another --out")
    assert_refused(typed("pretrain", "tiny.toml", "--seed", "4"), "was begun with seed = 0, not 4")
    assert_refused(
        typed("pretrain", "tiny.toml", "--minutes", "3"), "was begun with --minutes 10 for what ends with pretrain"
    )
    assert (here / "runs" / "tiny" / "recipe.toml").read_text() == before
    assert typed("pretrain", "tiny.toml", "--pretrain.steps", "1").code == 0
    assert typed("pretrain", "runs/tiny").out.strip().endswith("runs/tiny/base")


def test_two_processes_do_not_work_on_one_run(here: Path, typed: Type) -> None:
    held = "from pathlib import Path; from trivium.runs import open_run\n"
    held += "with open_run(Path('runs/tiny'), create=True): print('held', flush=True); input()"
    other = subprocess.Popen([sys.executable, "-c", held], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert other.stdout
    assert other.stdout.readline() == "held\n"
    assert_refused(typed("run", "tiny.toml"), f"another process (pid {other.pid}) is using it; wait, or stop it")
    other.communicate("\n")


def test_a_run_folder_and_out_do_not_go_together(here: Path, typed: Type) -> None:
    (here / "runs" / "a").mkdir(parents=True)
    assert_refused(typed("run", "runs/a", "--out", "runs/b"), "--out")


@pytest.mark.parametrize("verb", ["evaluate", "reward", "align", "vote", "report"])
def test_a_run_that_does_not_exist_is_called_a_run(verb: str, here: Path, typed: Type) -> None:
    assert_refused(typed(verb, "runs/none"), "runs/none", "no such run")
    assert not (here / "runs").exists()


@pytest.mark.parametrize("command", [["chat", "none"], ["fill", "none", "The ___ sat."]])
def test_a_model_that_does_not_exist_is_named(command: list[str], here: Path, typed: Type) -> None:
    assert_refused(
        typed(*command), "none: no such run or model; name a run folder or a model folder such as runs/NAME/base"
    )
    (here / "nine").mkdir()
    assert_refused(typed(*command), "none: no such run or model; did you mean nine?")


def test_a_text_without_blanks_cannot_be_filled(here: Path, typed: Type) -> None:
    assert_refused(typed("fill", "none", "The cat sat."), "has no blank; write three underscores")


def test_values_without_their_flag_are_named_with_the_remedy(here: Path, typed: Type) -> None:
    refused = typed("plan", "--data.text", "a.txt", "b.txt", "c.txt")
    assert_refused(refused, "ConfigError: c.txt: not expected here", "--data.text A --data.text B", "in quotes")


def test_fewer_than_one_filling_cannot_be_shown(here: Path, typed: Type) -> None:
    refused = typed("fill", "none", "The ___ sat.", "--best", "0")
    assert_refused(refused, "best = 0: at least one is shown; give 1 or more")


def test_a_damaged_model_is_named_and_not_written_over(here: Path, typed: Type) -> None:
    typed("pretrain", "tiny.toml")
    weights = here / "runs" / "tiny" / "base" / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    assert_refused(typed("instruct", "tiny.toml"), "base: model.safetensors does not match its manifest", "restore it")
    assert weights.read_bytes() == content


def test_an_unknown_verb_is_named_with_the_nearest(typed: Type) -> None:
    assert_refused(typed("rum"), 'Unknown command "rum". Did you mean "run"?')


def test_a_plan_that_was_damaged_is_named(here: Path, typed: Type) -> None:
    typed("pretrain", "tiny.toml")
    (here / "runs" / "tiny" / "plan.json").write_text('{"minutes": null}')
    assert_refused(typed("pretrain", "tiny.toml"), "plan.json")


def test_results_go_to_stdout_as_one_json_object_and_progress_does_not(here: Path, typed: Type) -> None:
    said = typed("run", "tiny.toml", "--json")
    assert said.code == 0
    assert set(json.loads(said.out)) == {"base", "changes", "instruct", "weights"}
    assert "I. Pretrain" in said.err
    assert "Nobody has voted yet" in said.err


def verbs() -> list[str]:
    return [name for name in app if not name.startswith("-")]


def test_every_verb_says_what_it_does_and_every_flag_too(typed: Type) -> None:
    assert {"run", "plan", "pretrain", "instruct", "reward", "align", "fill", "chat", "vote", "report"} <= set(verbs())
    overview = typed("--help").out
    for verb in verbs():
        said = typed(verb, "--help")
        assert said.code == 0
        assert verb in overview
        assert f"Usage: trivium {verb}" in said.out
        assert len(said.out.splitlines()[2]) > 20, "a sentence on what it does"


def test_flags_are_the_recipes_fields_with_their_units_and_defaults(typed: Type) -> None:
    told = typed("run", "--help").out
    for words in (
        "--pretrain.learning-rate",
        "peak of AdamW: embeddings, output matrix and norms",
        "[default: 0.004]",
        "--minutes chooses",
        "--model.num-layers",
    ):
        assert words in told


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["--version"]])
def test_help_does_not_import_torch(arguments: list[str]) -> None:
    code = f"""
import sys
from trivium.cli import main
try:
    main({arguments!r})
except SystemExit as end:
    assert not end.code
print([name for name in ("torch", "transformers", "pyarrow", "sqlalchemy", "plotly") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_a_mistake_ends_the_process_with_code_two_and_no_traceback(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "trivium", "run", "none.toml"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "ConfigError: none.toml: no such recipe\n"


def test_a_mistake_cannot_steer_the_terminal(here: Path, typed: Type) -> None:
    assert "\ufffd[2J" in typed("fill", "nope\x1b[2J", "The ___.").err
