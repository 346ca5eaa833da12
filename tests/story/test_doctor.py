"""The doctor: what is found is true of this machine, and what is wrong says what to do about it."""

import json
import sqlite3
from pathlib import Path

import pytest
import torch

from trivium import cli
from trivium.native import layer
from trivium.story import doctor


def states(examined: dict[str, object]) -> dict[str, str]:
    findings = examined["findings"]
    assert isinstance(findings, list)
    return {finding["name"]: finding["state"] for finding in findings}


def test_this_machine_is_fit_and_the_object_says_what_will_be_used(capsys: pytest.CaptureFixture[str]) -> None:
    cli.main(["doctor", "--json"])
    examined = json.loads(capsys.readouterr().out)
    assert examined["fit"]
    found = {finding["name"]: finding["found"] for finding in examined["findings"]}
    assert found["torch"] == torch.__version__
    assert found["SQLite"].startswith(sqlite3.sqlite_version)
    assert {"Python", "device", "threads", "precision", "training steps", "writing", "memory", "disk"} <= found.keys()


def test_what_is_not_as_it_might_be_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    monkeypatch.setattr(layer, "library", lambda: "there is no C++ compiler")  # it may have been asked before
    monkeypatch.setattr(doctor, "free_memory", lambda: 2**20)
    examined = doctor.examine(folder=tmp_path)
    assert not examined["fit"]
    assert states(examined)["memory"] == "bad"
    assert states(examined)["training steps"] == "note"
    assert all(finding["remedy"] for finding in examined["findings"] if finding["state"] != "good")


def test_a_machine_that_is_not_fit_exits_with_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(doctor, "free_memory", lambda: 2**20)
    with pytest.raises(SystemExit) as ended:
        cli.main(["doctor"])
    assert ended.value.code == 1
    said = capsys.readouterr().out
    assert "close other programs" in said
    assert "not fit: see BAD" in said


def test_a_container_that_gives_little_memory_is_not_fit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(doctor, "memory_limits", lambda system: [2**20])
    (memory,) = (found for found in doctor.of_room(tmp_path) if found.name == "memory")
    assert (memory.state, memory.found) == ("bad", "0.0 GiB free")


def test_a_database_of_votes_is_tried_and_its_password_is_not_told(tmp_path: Path) -> None:
    assert doctor.reached(f"sqlite:///{tmp_path / 'votes.db'}").state == "good"
    away = doctor.reached("postgresql://rater:secret@127.0.0.1:1/votes")
    assert away.state == "bad"
    assert away.remedy
    assert "secret" not in away.found
    assert doctor.reached("mysql://127.0.0.1/votes").remedy == "mend the URL"
