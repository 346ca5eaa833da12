"""`trivium evaluate`: every model of a run, or one alone; what was learned beside what was forgotten."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from trivium.cli import main
from trivium.story.measure import change_rows, changes
from trivium.text import corpus

LANGUAGE = {"bits_per_byte", "blank_accuracy", "instruction_accuracy"}
FEW = ("--evaluate.documents", "3", "--evaluate.comparisons", "2", "--evaluate.instructions", "3")


@pytest.fixture(autouse=True)
def little_to_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corpus, "HELD_OUT", 24)  # as in the finished run


@pytest.fixture
def questions(tmp_path: Path) -> Path:
    path = tmp_path / "questions.jsonl"
    rows = [{"question": f"What is {i}?", "answer": f"It is {i}.", "accepted": [f"It is {i}.", str(i)]} for i in (1, 2)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def asked(capsys: pytest.CaptureFixture[str], *words: str | Path) -> Any:
    main(["evaluate", *map(str, words), "--json"])
    return json.loads(capsys.readouterr().out)


def test_a_run_has_all_figures_of_all_models_and_what_each_phase_changed(
    finished: Path, questions: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = asked(capsys, finished, "--questions", questions, *FEW)
    for name in ("base", "instruct", "aligned"):
        assert found[name].keys() >= LANGUAGE | {"instruction_f1", "format_accuracy", "by_format"}
        assert found[name]["questions"].keys() == {"exact_match", "f1", "ended", "count"}
        assert found[name]["questions"]["count"] == 2
    assert "loss" in found["instruct"]
    assert found["aligned"].keys() >= {"win_rate", "win_rate_low", "win_rate_high", "kl", "mean_length"}
    assert found["reward"].keys() >= {
        "accuracy", "accuracy_low", "accuracy_high", "ceiling", "ece", "length_correlation",
    }  # fmt: skip
    before, after = (found[name]["bits_per_byte"] for name in ("base", "instruct"))
    assert found["changes"]["instruct"]["bits_per_byte"] == pytest.approx(after - before)
    assert found["changes"].keys() == {"instruct", "aligned"}


def test_a_model_alone_is_measured_on_what_it_learned_from(
    finished: Path, questions: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    alone = asked(capsys, finished / "instruct", "--questions", questions, *FEW)
    assert alone["model"] == str(finished / "instruct")
    assert alone.keys() >= LANGUAGE | {"questions", "format_accuracy"}
    whole = asked(capsys, finished, *FEW)["instruct"]
    assert {name: alone[name] for name in LANGUAGE} == {name: whole[name] for name in LANGUAGE}
    main(["evaluate", str(finished / "instruct"), *FEW, "--questions", str(questions)])
    told = capsys.readouterr().out
    parts = ["bits per byte", "formats kept", "  one sentence", "questions, exact match"]  # formats below their share
    assert sorted(parts, key=told.index) == parts


def test_while_a_run_is_measured_it_says_which_model_is_at_its_turn(
    finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["evaluate", str(finished), "--json", *FEW])
    assert capsys.readouterr().err.splitlines()[-3:] == ["  base", "  instruct", "  aligned"]


def test_a_model_is_asked_and_not_changed(finished: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    folder = shutil.copytree(finished / "rounds" / "001" / "aligned", tmp_path / "aligned")
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    assert asked(capsys, folder, *FEW).keys() >= LANGUAGE
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


FOUND: dict[str, Any] = {
    "base": {"bits_per_byte": 1.0, "instruction_accuracy": 0.1},
    "instruct": {"bits_per_byte": 1.25, "instruction_accuracy": 0.6},
    "aligned": {"bits_per_byte": 1.25, "instruction_accuracy": 0.5, "win_rate": 0.7},
}


def test_what_was_forgotten_is_said() -> None:
    assert changes(FOUND)["instruct"] == pytest.approx({"bits_per_byte": 0.25, "instruction_accuracy": 0.5})
    names, rows = change_rows(FOUND)
    assert names == ["", "base", "instruct", "aligned"]
    assert rows == [
        ["bits per byte", "1.000", "1.250 (+0.250, worse)", "1.250 (+0.000)"],
        ["instructions, exact match", "10.0%", "60.0% (+50.0%)", "50.0% (-10.0%, worse)"],
    ]


def test_questions_that_cannot_be_read_are_one_clear_line(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"question": "What?"}\n')
    with pytest.raises(SystemExit) as end:
        main(["evaluate", str(finished), "--questions", str(bad)])
    assert end.value.code == 2
    assert "bad.jsonl:1" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["evaluate", str(finished), "--questions", str(tmp_path / "baad.jsonl")])
    assert 'baad.jsonl": no such file; did you mean' in (told := capsys.readouterr().err)
    assert told.startswith("ConfigError: --questions = ")
