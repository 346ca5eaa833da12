"""Whoever only looks at a run changes nothing in it, and need not wait for whoever works on it."""

import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from trivium.cli import main
from trivium.text import corpus

LOOKS = {
    "evaluate": ["evaluate", "RUN", "--evaluate.documents", "3", "--evaluate.comparisons", "2"],
    "chat": ["chat", "RUN"],
    "generate": ["generate", "RUN", "Where is Ada?"],
    "fill": ["fill", "RUN", "The ___ sat on the mat."],
    "inspect": ["inspect", "RUN", "--show", "1"],
    "plan": ["plan", "RUN"],
}


@pytest.fixture(autouse=True)
def little_to_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(corpus, "HELD_OUT", 24)
    monkeypatch.setattr(sys, "stdin", io.StringIO("Where is Ada?\n"))
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))


def state(run: Path) -> dict[str, tuple[int, bytes]]:
    """Every file's content, and when it or its folder was last changed."""
    found = [run, *run.rglob("*")]
    return {str(at): (at.stat().st_mtime_ns, at.read_bytes() if at.is_file() else b"") for at in found}


def look(name: str, run: Path) -> None:
    main([str(run) if word == "RUN" else word for word in LOOKS[name]])


@contextmanager
def held(run: Path) -> Iterator[None]:
    """The run, while another process works on it."""
    code = (
        f"from pathlib import Path; from trivium.runs import open_run\nwith open_run(Path({str(run)!r}), create=False):"
    )
    code += " print(flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout
        other.stdout.readline()
        yield
        other.communicate(b"\n")


@pytest.mark.parametrize("name", LOOKS)
def test_looking_changes_nothing(name: str, finished: Path) -> None:
    before = state(finished)
    look(name, finished)
    assert state(finished) == before


def test_looking_needs_no_lock(finished: Path) -> None:
    with held(finished):
        before = state(finished)
        for name in LOOKS:
            look(name, finished)
        assert state(finished) == before


def test_looking_needs_no_right_to_write(finished: Path) -> None:
    places = [finished, *finished.rglob("*")]
    rights = {place: place.stat().st_mode for place in places}
    try:
        for place in places:
            place.chmod(rights[place] & ~0o222)
        if os.access(finished, os.W_OK):
            pytest.skip("root may write anywhere")
        for name in LOOKS:
            look(name, finished)
    finally:
        for place in places:
            place.chmod(rights[place])


def test_a_report_leaves_its_page_and_nothing_else(finished: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    with held(run):
        before = state(run)
        main(["report", str(run)])
        after = state(run)
    page = str(run / "report.html")
    assert {place for place in after if after[place] != before.get(place)} == {page, str(run)}
    assert after.keys() == before.keys() | {page}


def test_an_evaluation_measures_what_the_examination_did(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["evaluate", str(finished), "--json"])
    found, kept = json.loads(capsys.readouterr().out), json.loads((finished / "measures.json").read_text())
    assert (found["base"], found["instruct"]) == (kept["base"], kept["instruct"])


def test_an_evaluation_does_not_pretend_that_the_run_was_another(
    finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["evaluate", str(finished), "--seed", "5"])
    assert ended.value.code == 2
    assert "was begun with seed = 0, not 5" in capsys.readouterr().err
