"""`trivium run`: three phases in one folder, and nothing twice."""

import json
import shutil
from pathlib import Path
from typing import Any

from trivium.lineage import read_lineage
from trivium.publish import file_fingerprint, verify
from trivium.report.reading import read_story
from trivium.runs import Run


def test_a_run_leaves_a_whole_model_of_every_phase(finished: Path) -> None:
    run = Run(finished)
    folders = [run.base, run.instruct, run.round(1).reward, run.round(1).aligned]
    for folder in folders:
        verify(folder)
        names = {path.name for path in folder.iterdir()}
        assert {"config.json", "model.safetensors", "tokenizer.json", "README.md", "lineage.json"} <= names
    parents = [read_lineage(folder).parent for folder in folders]
    base, instruct = (file_fingerprint(folder, "model.safetensors") for folder in folders[:2])
    assert parents == [None, base, instruct, instruct]


def test_a_run_leaves_no_checkpoints_and_nothing_half_done(finished: Path) -> None:
    assert not any((finished / ".state").glob("*"))
    assert [str(p) for p in finished.rglob("*") if p.name.startswith((".tmp-", ".old-", "damaged-"))] == []


def test_every_step_of_every_phase_is_in_the_journal(finished: Path) -> None:
    lines = [json.loads(line) for line in (finished / "journal.jsonl").read_text().splitlines()]
    steps = [(line["phase"], line["step"]) for line in lines if "evaluation" not in line]
    wanted = [("pretrain", 8), ("instruct", 8), ("reward-001", 6), ("align-001", 6)]
    assert steps == [(phase, step) for phase, count in wanted for step in range(1, count + 1)]
    assert len({tuple(k for k in line if k != "metrics") for line in lines if "evaluation" not in line}) == 1


def test_each_phase_moves_the_weights(finished: Path, facts: Any) -> None:
    found = facts(finished)
    assert len({found[name] for name in found if name.endswith("model.safetensors")}) == 4


def test_the_examination_measures_every_model(finished: Path) -> None:
    found = json.loads((finished / "measures.json").read_text())
    for name in ("base", "instruct", "aligned"):
        assert 0 < found[name]["bits_per_byte"] < 12
        assert 0 <= found[name]["instruction_accuracy"] <= 1
    assert (
        0 <= found["aligned"]["win_rate_low"] <= found["aligned"]["win_rate"] <= found["aligned"]["win_rate_high"] <= 1
    )
    assert found["votes"] == {"simulated": True, "round": 1}
    assert "ceiling" in found["reward"]


def test_the_lineage_of_instruct_names_the_answers_and_the_text_among_them(finished: Path) -> None:
    base, instruct = (read_lineage(finished / name).data for name in ("base", "instruct"))
    assert list(instruct) == ["tinyworld", "text among them: tinyworld"]
    assert instruct["text among them: tinyworld"] == base["tinyworld"] != instruct["tinyworld"]


def test_the_report_finds_what_the_phases_left(finished: Path) -> None:
    story = read_story(Run(finished))
    assert [(model.name, model.parent) for model in story.models] == [
        ("base", ""),
        ("instruct", "base"),
        ("reward, round 1", "instruct"),
        ("aligned, round 1", "instruct"),
    ]
    assert [(number, report["pairs"]) for number, report in story.rewards] == [(1, story.measures["reward"]["pairs"])]
    assert story.missing == []


def test_the_same_recipe_and_seed_train_the_same_bits(
    finished: Path, recipe: Path, stable: Any, facts: Any, tmp_path: Path
) -> None:
    again = tmp_path / "again"
    stable.finish("run", recipe, "--out", again, folder=again)
    assert facts(again) == facts(finished)


def test_another_seed_trains_other_weights(
    finished: Path, recipe: Path, stable: Any, tmp_path: Path, facts: Any
) -> None:
    other = tmp_path / "other"
    stable.finish("pretrain", recipe, "--seed", "1", "--out", other, folder=other)
    assert (other / "base" / "model.safetensors").read_bytes() != (finished / "base" / "model.safetensors").read_bytes()


def test_a_finished_run_says_so_and_trains_nothing(finished: Path, stable: Any, facts: Any, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*") if path.is_file()}
    ended = stable.finish("run", run, folder=run)
    assert f"{run} is finished." in " ".join(ended.said.split())
    changed = {path.name for path, when in before.items() if path.stat().st_mtime_ns != when}
    assert changed <= {"recipe.toml", "plan.json", ".lock", "feedback.db", "report.html"}
    assert facts(run) == facts(finished)


def test_the_verbs_of_the_phases_make_the_same_models_one_by_one(
    finished: Path, recipe: Path, stable: Any, facts: Any, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    stable.finish("pretrain", recipe, "--out", run, folder=run)
    assert not (run / "instruct").exists()
    stable.finish("instruct", recipe, "--out", run, folder=run)
    assert not (run / "rounds").exists()
    stable.finish("reward", run, folder=run)
    assert not (run / "rounds" / "001" / "aligned").exists()
    stable.finish("align", run, folder=run)
    assert not (run / "measures.json").exists()
    stable.finish("run", run, folder=run)
    assert facts(run) == facts(finished)
