"""Models in and out: imported, fine-tuned, exported, and the same in every program that opens them."""

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file

from tests.foreign import write_folder
from tests.harness import CHOOSING, QUESTIONS, harness_finds, mats_preferred
from tests.model.test_foreign import logits, their_logits
from trivium.cli import main
from trivium.errors import CheckpointError, ConfigError
from trivium.lineage import read_lineage
from trivium.model import gguf, hub
from trivium.publish import verify
from trivium.shelf import open_model
from trivium.story import carrying
from trivium.story.carrying import export, take_in
from trivium.text import llama_cpp

KINDS: dict[str, dict[str, Any]] = {
    "Llama": {
        "rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4},
        "tie_word_embeddings": False,
    },
    "Qwen2": {"tie_word_embeddings": True, "rows": 400},
    "Qwen3": {"head_dim": 12, "tie_word_embeddings": False},
}
WIDE = {"hidden_size": 32, "intermediate_size": 64}  # rows that q8_0 can hold
FINE_TUNING = {"full": [], "lora": ["--instruct.lora-rank", "4"]}


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("answers") / "answers.jsonl"
    rows = [{"question": f"What is {i} and {i}?", "answer": f"It is {i + i}."} for i in range(60)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="module")
def tuning(recipe: Path, answers: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny recipe for a folder of any shape, with answers of one's own, and steps that are seen in the weights."""
    head, rest = recipe.read_text().split("[model]")
    text = head + "[pretrain]" + rest.split("[pretrain]")[1]
    text = text.replace("[data]\n", f'[data]\nanswers = ["{answers}"]\n')
    text = text.replace("[instruct]\n", "[instruct]\nlearning_rate = 0.01\n")
    path = tmp_path_factory.mktemp("tuning") / "tuning.toml"
    path.write_text(text)
    return path


@pytest.fixture(scope="module", params=KINDS)
def imported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("imported")
    folder = write_folder(place / "theirs", kind=request.param, **KINDS[request.param], **WIDE)
    take_in(folder, out=place / "ours")
    tokens = torch.arange(300)[None, :100]
    ours = logits(hub.load(place / "ours"), tokens)[..., :380]
    torch.testing.assert_close(ours, their_logits(folder, tokens)[..., :380], atol=1e-4, rtol=1e-4)
    return place / "ours"


@pytest.mark.parametrize("way", FINE_TUNING)
def test_a_folder_of_transformers_is_imported_fine_tuned_exported_and_loaded_again(
    way: str, imported: Path, tuning: Path, stable: Any, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    stable.finish("instruct", tuning, "--from", imported, "--out", run, *FINE_TUNING[way], folder=run)
    before, after = (load_file(folder / hub.WEIGHTS) for folder in (imported, run / "instruct"))
    assert before.keys() == after.keys()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == ({name for name in before if is_matrix_of_a_layer(name)} if way == "lora" else set(before))
    if way == "lora":
        ranks = [torch.linalg.matrix_rank(after[name] - before[name], rtol=1e-4) for name in changed]
        assert all(1 <= rank <= 4 for rank in ranks)

    export(run / "instruct", to="hf", numbers="f16", out=tmp_path / "copy")
    model, tokenizer = open_model(run / "instruct")
    ids = torch.tensor([tokenizer.encode(llama_cpp.PROBES[0])])
    expected = logits(model, ids)
    torch.testing.assert_close(their_logits(tmp_path / "copy", ids), expected, atol=1e-4, rtol=1e-4)
    assert (
        transformers.AutoTokenizer.from_pretrained(tmp_path / "copy").encode(llama_cpp.PROBES[0])[-ids.shape[1] :]
        == ids[0].tolist()
    )
    verify(tmp_path / "copy")

    for numbers, most in (("f32", 1e-5), ("q8_0", 1.5)):
        found = export(run / "instruct", to="gguf", numbers=numbers, out=tmp_path / "m.gguf")
        contents = gguf.read(tmp_path / "m.gguf")
        copy = logits(gguf.model_of(contents, model.config.rope_scaling), ids)
        assert float((copy - expected).abs().max() / expected.std()) <= most
        assert found["same_tokens"] == found["tokens"] or numbers == "q8_0"
        backend = llama_cpp.as_llama_cpp(gguf.vocabulary_of(contents))
        assert backend.encode(llama_cpp.PROBES[0], add_special_tokens=False).ids == ids[0].tolist()
    assert torch.equal(logits(model, ids), expected)


def is_matrix_of_a_layer(name: str) -> bool:
    return name.endswith("_proj.weight")


def test_instruct_from_a_folder_teaches_no_text_and_takes_its_template(
    imported: Path, tuning: Path, stable: Any, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    stable.finish("instruct", tuning, "--from", imported, "--out", run, folder=run)
    journal = [json.loads(line) for line in (run / "journal.jsonl").read_text().splitlines()]
    assert {line["phase"] for line in journal} == {"instruct"}
    assert "text = 0.0\n" in (run / "recipe.toml").read_text()
    assert hub.fingerprint(run / "base") == read_lineage(run / "base").parent == hub.fingerprint(imported)
    assert open_model(run / "instruct").tokenizer.chat_template == open_model(imported).tokenizer.chat_template
    stable.finish("instruct", run, folder=run)


def test_adapters_killed_and_gone_on_with_end_with_the_same_bits(tuning: Path, stable: Any, tmp_path: Path) -> None:
    folder, run, whole = write_folder(tmp_path / "theirs"), tmp_path / "run", tmp_path / "whole"
    command = ("instruct", tuning, "--from", folder, *FINE_TUNING["lora"], "--out")
    stable.finish(*command, whole, folder=whole)
    assert stable.kill(*command, run, folder=run, after=["instruct", 3]).killed
    state = next((run / ".state" / "instruct").glob("step-*")) / "state.safetensors"
    assert all("adapter" in name for name in load_file(state) if name.startswith("model/"))
    stable.finish(*command, run, folder=run)
    assert hub.fingerprint(run / "instruct") == hub.fingerprint(whole / "instruct")


@pytest.mark.parametrize("flag", ["--from", "--start.folder"])
def test_phase_three_begins_with_a_folder_too(
    flag: str, stable: Any, recipe: Path, finished: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    text = recipe.read_text()
    (tmp_path / "third.toml").write_text(
        text[: text.index("[model]")] + "[model]\ncontext_length = 96\n" + text[text.index("[pretrain]") :]
    )
    command = ("reward", tmp_path / "third.toml", flag, finished / "instruct", "--out", run)
    stable.finish(*command, folder=run)
    verify(run / "rounds" / "001" / "reward")
    assert hub.fingerprint(run / "instruct") == hub.fingerprint(finished / "instruct")
    stable.finish("align", run, folder=run)
    assert read_lineage(run / "rounds" / "001" / "aligned").parent == hub.fingerprint(finished / "instruct")


def test_what_a_card_says_of_loading_is_so(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in (finished / "instruct", finished / "rounds" / "001" / "reward"):
        monkeypatch.chdir(folder.parent)
        code = (folder / "README.md").read_text().split("```python\n")[1].split("```")[0]
        given: dict[str, Any] = {}
        exec(code, given)
        assert given["model"].config.num_hidden_layers == 1


def test_what_a_card_says_of_lm_eval_is_so(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("accelerate", reason="of the extra trivium[eval]")
    monkeypatch.chdir(finished)
    (command,) = re.findall(r"^lm_eval (.*) --tasks", (finished / "instruct" / "README.md").read_text(), re.MULTILINE)
    rows = [{"question": question} for question in QUESTIONS]
    found = harness_finds(tmp_path, command.split(), rows, {"choosing": CHOOSING})
    assert found["choosing"]["acc,none"] == mats_preferred(*open_model(finished / "instruct"))


# What cannot be done


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("model")
    take_in(write_folder(place / "theirs", **WIDE), out=place / "ours")
    return place / "ours"


def test_an_export_that_is_not_its_model_is_not_kept(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "m.gguf"
    export(model, to="gguf", numbers="f16", out=out)
    before = out.read_bytes()
    monkeypatch.setitem(carrying.TOLERANCES, "f16", 1e-9)
    with pytest.raises(CheckpointError, match=r"the copy is not its model: greatest difference .* nothing was kept"):
        export(model, to="gguf", numbers="f16", out=out)
    assert out.read_bytes() == before
    assert list(tmp_path.iterdir()) == [out]


def test_numbers_too_great_for_f16_are_refused_and_f32_holds_them(tmp_path: Path) -> None:
    theirs = write_folder(tmp_path / "theirs", **WIDE)
    tensors = load_file(theirs / hub.WEIGHTS)
    tensors["model.layers.0.mlp.up_proj.weight"][0, 0] = 1e5
    hub.save_file(tensors, theirs / hub.WEIGHTS, metadata={"format": "pt"})
    take_in(theirs, out=tmp_path / "ours")
    with pytest.raises(CheckpointError, match=r"up_proj\.weight holds numbers too great for f16; export --type f32"):
        export(tmp_path / "ours", to="gguf", numbers="f16", out=tmp_path / "m.gguf")
    export(tmp_path / "ours", to="gguf", numbers="f32", out=tmp_path / "m.gguf")


def test_files_of_ones_own_are_not_written_over(model: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine.txt"
    mine.write_text("mine")
    with pytest.raises(ConfigError, match="holds something else than a model"):
        export(model, to="gguf", numbers="f16", out=mine)
    with pytest.raises(ConfigError, match="is a folder"):
        export(model, to="gguf", numbers="f16", out=tmp_path)
    with pytest.raises(ConfigError, match="is the model itself"):
        export(model, to="hf", numbers="f16", out=model)
    with pytest.raises(ConfigError, match="is the folder itself"):
        take_in(model, out=model)
    with pytest.raises(CheckpointError, match="holds files that Trivium did not publish"):
        export(model, to="hf", numbers="f16", out=tmp_path)
    assert mine.read_text() == "mine"


def test_without_the_library_the_extra_is_named(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(SystemExit) as end:
        main(["export", str(model), "--to", "gguf", "--out", str(tmp_path / "m.gguf")])
    assert end.value.code == 2
    assert "install it with pip install 'trivium[gguf]'" in capsys.readouterr().err


def test_without_transformers_a_copy_is_read_by_ourselves(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert export(model, to="hf", numbers="f16", out=tmp_path / "a")["by"] == "transformers"
    monkeypatch.setitem(sys.modules, "transformers", None)
    assert export(model, to="hf", numbers="f16", out=tmp_path / "b")["by"] == "this program"
    assert take_in(model, out=tmp_path / "c")["by"] == "this program"


def test_both_verbs_say_what_they_did(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    main(["export", str(model), "--to", "gguf", "--type", "q8_0", "--json"])
    found = json.loads(capsys.readouterr().out)
    assert found["out"] == "ours.q8_0.gguf"
    assert found["bytes"] == Path("ours.q8_0.gguf").stat().st_size
    main(["import", str(model)])
    assert capsys.readouterr().out.startswith("models/ours  qwen3, ")
    verify(Path("models/ours"))


@pytest.mark.parametrize("name", ["absent", "empty"])
def test_a_folder_that_is_no_model_is_one_clear_line(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(SystemExit) as end:
        main(["import", name])
    assert end.value.code == 2
    told = {"absent": "ConfigError: absent: no such folder", "empty": "empty: has no config.json"}
    assert told[name] in capsys.readouterr().err
    assert not Path("models").exists()
