"""Going on from others' weights: all three phases, folders that anybody loads, nothing lost by a kill, no guessing."""

import functools
import json
import re
import shutil
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from tests.foreign import SORTS, write_folder
from trivium import plan
from trivium.cli import main
from trivium.config import PretrainConfig, resolve
from trivium.errors import CheckpointError, ConfigError
from trivium.lineage import read_lineage
from trivium.model import hub
from trivium.publish import verify
from trivium.records import Message
from trivium.shelf import open_model
from trivium.story.start import SLOWER, first_model, longest_of, shape_of, with_start
from trivium.text import corpus
from trivium.text.dialogue import render, render_prompt
from trivium.text.tokenizer import PAD

MODELS = ("base", "instruct", "rounds/001/aligned")
DIALOGUE = [Message("user", "Who are you?"), Message("assistant", "A baker."), Message("user", "Where?")]


@pytest.fixture(scope="module")
def shapeless(recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny recipe with the folder's shape."""
    path = tmp_path_factory.mktemp("shapeless") / "tiny.toml"
    path.write_text(
        re.sub(r"\[model\].*?(?=\[pretrain\])", "[model]\ncontext_length = 112\n", recipe.read_text(), flags=re.S)
    )
    return path


@pytest.fixture(scope="module", params=SORTS)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("models") / "theirs", **SORTS[request.param])


@pytest.fixture(scope="module")
def run(folder: Path, shapeless: Path, stable: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("runs") / "run"
    stable.finish("run", shapeless, "--from", folder, "--out", made, folder=made)
    return made


@torch.no_grad()
def test_every_phase_leaves_a_folder_that_transformers_reads_as_we_do(run: Path) -> None:
    for name in MODELS:
        model, tokenizer = open_model(run / name)
        theirs, told = transformers.AutoModelForCausalLM.from_pretrained(run / name, output_loading_info=True)
        assert not any(told.values()), told
        their_tokenizer = transformers.AutoTokenizer.from_pretrained(run / name)
        asked = their_tokenizer.apply_chat_template(
            [m._asdict() for m in DIALOGUE], return_dict=False, add_generation_prompt=True, date_string="26 Jul 2024"
        )
        assert asked == render_prompt(DIALOGUE, tokenizer).tolist()
        tokens = torch.tensor([asked])
        found = model(tokens, torch.arange(len(asked))[None], torch.zeros_like(tokens))
        torch.testing.assert_close(found, theirs(tokens).logits, atol=1e-4, rtol=1e-4)
        assert theirs.generation_config.eos_token_id == [tokenizer.turn_end, tokenizer.end_of_text]
        assert their_tokenizer.pad_token == PAD


def test_the_shape_and_the_vocabulary_are_the_folders(run: Path, folder: Path) -> None:
    theirs, ours = hub.read_config(folder), hub.read_config(run / "base")
    kept = {"vocab_size": theirs.vocab_size, "context_length": theirs.context_length}
    assert ours.model_copy(update=kept) == theirs
    assert ours.context_length == 112
    tokenizer = open_model(run / "base").tokenizer
    assert tokenizer.vocab_size > 380
    assert ours.vocab_size == max(theirs.vocab_size, tokenizer.vocab_size)


def test_the_lineage_names_the_folder_and_its_weights(run: Path, folder: Path) -> None:
    base, instruct = read_lineage(run / "base"), read_lineage(run / "instruct")
    assert (base.parent_folder, base.parent) == (str(folder), hub.fingerprint(folder))
    assert (instruct.parent_folder, instruct.parent) == (str(run / "base"), hub.fingerprint(run / "base"))
    assert f"from `{folder}`" in (run / "base" / "README.md").read_text()


def test_the_recipe_says_what_it_started_from_and_learns_slowly_without_echoes(run: Path, folder: Path) -> None:
    recipe = resolve(tomllib.loads((run / "recipe.toml").read_text()))
    assert recipe.start.folder == str(folder)
    assert recipe.start.weights == hub.fingerprint(folder)
    assert recipe.pretrain.echo_steps == 0
    assert recipe.pretrain.learning_rate == pytest.approx(PretrainConfig().learning_rate / SLOWER)
    assert "learning_rate = 0.0006\n" in (run / "recipe.toml").read_text()
    first = json.loads((run / "journal.jsonl").read_text().splitlines()[0])
    assert 1 < first["loss"] < 60


def test_the_first_model_is_the_folders(run: Path, folder: Path) -> None:
    recipe = resolve(tomllib.loads((run / "recipe.toml").read_text()))
    model, theirs = first_model(recipe), hub.load(folder)
    tokens = torch.arange(100)[None]
    with torch.no_grad():
        both = [each(tokens, tokens, torch.zeros_like(tokens))[..., :380] for each in (model, theirs)]
    torch.testing.assert_close(*both)


LLAMA = "llama 3, bfloat16, stretched"


def test_killed_in_every_phase_it_ends_with_the_same_bits(
    shapeless: Path, stable: Any, facts: Any, tmp_path: Path
) -> None:
    folder = write_folder(tmp_path / "theirs", **SORTS[LLAMA])
    run, whole = tmp_path / "run", tmp_path / "whole"
    command = ("run", shapeless, "--from", folder, "--out")
    stable.finish(*command, whole, folder=whole)
    wanted: list[dict[str, Any]] = [
        {"seen": "tokenizer"},
        *({"after": [phase, 3]} for phase in ("pretrain", "instruct", "reward-001", "align-001")),
    ]
    killed = [stable.kill(*command, run, folder=run, **where).killed for where in wanted]
    shutil.rmtree(folder)  # once base is there nothing else is needed
    stable.finish(*command, run, folder=run)
    assert all(killed)
    assert facts(run) == facts(whole)


def test_the_recipe_of_a_run_trains_the_same_thing_again(shapeless: Path, stable: Any, tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "theirs")
    run, again = tmp_path / "run", tmp_path / "again"
    stable.finish("pretrain", shapeless, "--from", folder, "--out", run, folder=run)
    shutil.copy(run / "recipe.toml", tmp_path / "copy.toml")
    stable.finish("pretrain", tmp_path / "copy.toml", "--out", again, folder=again)
    assert hub.fingerprint(again / "base") == hub.fingerprint(run / "base")
    assert hub.fingerprint(run / "base") != hub.fingerprint(folder)


def test_one_goes_on_from_ones_own_model_too(finished: Path, stable: Any, shapeless: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    text = shapeless.read_text().replace("context_length = 112", "context_length = 96")
    (tmp_path / "own.toml").write_text(text)
    stable.finish("pretrain", tmp_path / "own.toml", "--from", finished / "instruct", "--out", run, folder=run)
    assert read_lineage(run / "base").parent == hub.fingerprint(finished / "instruct")
    one, other = (run / "tokenizer" / "tokenizer.json", finished / "tokenizer" / "tokenizer.json")
    assert one.read_bytes() == other.read_bytes()
    assert hub.read_config(run / "base") == hub.read_config(finished / "instruct")
    verify(run / "base")


# What cannot be done

Type = Callable[..., tuple[int, str]]


@pytest.fixture
def typed(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Type:
    """Types a command in an empty folder; returns its exit code and the last line on stderr."""
    monkeypatch.setenv("COLUMNS", "300")
    monkeypatch.setattr(plan, "measure_machine", functools.partial(plan.measure_machine, seconds=0.01))
    monkeypatch.setattr(corpus, "HELD_OUT", 8)
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str | Path) -> tuple[int, str]:
        code = 0
        try:
            main([str(argument) for argument in arguments])
        except SystemExit as end:
            code = int(end.code or 0)
        said = capsys.readouterr()
        assert "Traceback" not in said.err
        return code, said.err.strip().splitlines()[-1] if code else said.out

    return run


def change(file: str, **changed: object) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        described = json.loads((folder / file).read_text())
        (folder / file).write_text(json.dumps(described | changed))

    return write


BAD: dict[str, tuple[Callable[[Path], Any], str]] = {
    "no folder": (shutil.rmtree, "no such folder"),
    "a folder of something else": (lambda folder: [path.unlink() for path in folder.iterdir()], "has no config.json"),
    "no config": (lambda folder: (folder / "config.json").unlink(), "has no config.json"),
    "another architecture": (change("config.json", model_type="gpt2"), "model_type 'gpt2' is not one of qwen3, qwen2"),
    "a sliding window": (change("config.json", use_sliding_window=True), "use_sliding_window = True is not supported"),
    "no weights": (lambda folder: (folder / "model.safetensors").unlink(), "its weights are missing"),
    "another shape": (change("config.json", intermediate_size=48), "config.json says (24, 48)"),
    "no tokenizer": (lambda folder: (folder / "tokenizer.json").unlink(), "has no tokenizer.json"),
    "a damaged tokenizer": (
        lambda folder: (folder / "tokenizer.json").write_text("{"),
        "tokenizer.json: cannot be read",
    ),
    "a damaged template": (lambda folder: (folder / "chat_template.jinja").write_text("{% if"), "chat template cannot"),
}


@pytest.mark.parametrize("what", BAD)
@pytest.mark.parametrize("verb", ["run", "plan"])
def test_a_bad_folder_is_one_clear_line(verb: str, what: str, typed: Type, tmp_path: Path) -> None:
    spoil, told = BAD[what]
    folder = write_folder(tmp_path / "theirs")
    spoil(folder)
    code, line = typed(verb, "--from", folder, "--minutes", "0.1")
    assert code == 2
    assert re.match(r"(ConfigError|CheckpointError): ", line)
    assert told in line
    assert str(folder) in line
    assert not (tmp_path / "runs").exists()


CONTRADICTIONS = [
    (["--model.width", "32"], "model.width = 32: {folder} has 24; leave it out, the folder decides"),
    (["--model.vocab-size", "380"], "model.vocab_size = 380: {folder} has 381"),
    (["--model.context-length", "500"], "model.context_length = 500: {folder} has at most 128 positions"),
    (["--pretrain.echo_steps", "10"], "pretrain.echo_steps = 10: they are for fresh weights; set it to 0"),
    (["--start.weights", "0" * 16], 'start.weights = "0000000000000000": {folder} now holds '),
]


@pytest.mark.parametrize(("flags", "told"), CONTRADICTIONS)
def test_a_setting_that_contradicts_the_folder_is_refused_with_both_values(
    flags: list[str], told: str, typed: Type, tmp_path: Path
) -> None:
    folder = write_folder(tmp_path / "theirs", kind="Qwen3")
    code, line = typed("plan", "--from", folder, *flags)
    assert code == 2
    assert told.format(folder=folder) in line


def test_sizes_that_agree_with_the_folder_may_be_said(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "theirs")
    shape = shape_of(folder).model_dump(mode="json")
    settings = with_start({"start": {"folder": str(folder)}, "model": {**shape, "context_length": 64}})
    assert settings["model"] == {**shape, "context_length": 64}


def test_a_short_context_of_the_folder_is_the_runs(tmp_path: Path) -> None:
    settings = with_start({"start": {"folder": str(write_folder(tmp_path / "theirs"))}})
    assert settings["model"]["context_length"] == 128


def test_a_context_that_is_cut_short_is_known_and_so_is_a_folder_that_is_gone(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "theirs")
    begun = resolve(with_start({"start": {"folder": str(folder)}, "model": {"context_length": 16}}))
    assert longest_of(begun) == shape_of(folder).context_length > begun.model.context_length
    assert longest_of(resolve({})) == 0
    folder.rename(tmp_path / "there")
    with pytest.raises(ConfigError, match="no such folder"):
        longest_of(begun)


def test_learning_rates_that_were_said_are_kept(tmp_path: Path) -> None:
    folder = str(write_folder(tmp_path / "theirs"))
    settings = with_start({"start": {"folder": folder}, "instruct": {"learning_rate": 0.7}})
    assert settings["instruct"]["learning_rate"] == 0.7
    assert settings["align"]["learning_rate"] < 1e-3


def test_fingerprints_without_a_folder_are_refused() -> None:
    with pytest.raises(ConfigError, match=r'start\.weights = "ab": of which folder\? give start\.folder'):
        with_start({"start": {"weights": "ab"}})


def test_a_tokenizer_that_knows_more_words_than_the_weights_is_refused(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "theirs", rows=370)
    with pytest.raises(CheckpointError, match=r"holds 380 tokens, config\.json says vocab_size = 370"):
        shape_of(folder)


def test_weights_that_changed_since_the_run_was_begun_are_refused(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "theirs")
    recipe = resolve(with_start({"start": {"folder": str(folder)}}))
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-4] + b"abcd")
    with pytest.raises(CheckpointError, match=r"its weights are .*, the run was begun with .*; put them back"):
        first_model(recipe)


def test_a_plan_says_where_the_weights_come_from(typed: Type, tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "theirs")
    _, told = typed("plan", "--from", folder, "--minutes", "1")
    assert f"from {folder} ({hub.fingerprint(folder)})" in told
    assert f"Taken from {folder}" in told
    _, told = typed("plan", "--minutes", "1")
    assert re.search(r"weights +fresh", told)


def test_inspect_shows_what_the_folders_model_will_see(typed: Type, tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "theirs", **SORTS[LLAMA])
    _, told = typed("inspect", "--from", folder, "--show", "1", "--data.stories", "20", "--data.dialogues", "20")
    assert f"that of {folder}" in " ".join(told.split())
    assert "<|start_header_id|>" in told
    assert "<|begin_of_text|>" in told


def test_the_end_of_an_answer_is_learned_in_every_format(run: Path) -> None:
    tokenizer = open_model(run / "instruct").tokenizer
    rendered = render([*DIALOGUE, Message("assistant", "Here.")], tokenizer)
    assert int(rendered.ids[rendered.supervised][-1]) == tokenizer.turn_end
