"""`trivium feedback`: a run's votes out, in, and what they come to."""

import json
from pathlib import Path

import pytest

from tests.feedback.ballots import filled, vote
from trivium.cli import main
from trivium.config import resolve
from trivium.errors import ConfigError
from trivium.feedback.store import Store
from trivium.runs import Run, open_run, votes_of


@pytest.fixture
def run(tmp_path: Path) -> Run:
    with open_run(tmp_path / "voted", create=True) as made, Store.open(made.feedback) as store:
        raters = [store.add_rater(name) for name in ("Ann", "Bob")]
        for number, pair_id in enumerate(filled(store, 40)):
            store.add_vote(vote(pair_id, raters[0].id, swapped=number % 2 == 0))
            store.add_vote(vote(pair_id, raters[1].id, "second", swapped=number % 2 == 0))
    return made


def test_what_is_exported_is_imported_into_another_run(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["feedback", "export", str(run.path), "--to", "trl", "--out", str(tmp_path / "votes.jsonl")])
    with open_run(tmp_path / "other", create=True) as other:
        pass
    main(["feedback", "import", str(other.path), str(tmp_path / "votes.jsonl")])
    main(["feedback", "import", str(other.path), str(tmp_path / "votes.jsonl")])
    assert capsys.readouterr().out == "80 votes imported\n0 votes imported, 80 were there already\n"
    with Store.look(run.feedback) as mine, Store.look(other.feedback) as theirs:
        assert theirs.fingerprint() == mine.fingerprint()


def test_the_stats_say_how_far_raters_agree_and_what_is_missing(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    main(["feedback", "stats", str(run.path)])
    told = capsys.readouterr().out
    assert "80 votes: 80 of people, 0 simulated" in told
    assert "look at Ann: agrees with others in 0%" in told
    assert "Raters agree on 0% (0% to 9%) of 40 pairs." in told
    assert "more votes of people are enough to tell a win rate of 60% from a coin" in told
    main(["feedback", "stats", str(run.path), "--json"])
    found = json.loads(capsys.readouterr().out)
    assert (found["votes"], found["agreement"]["pairs"], found["raters"][0]["left"]["rate"]) == (80, 40, 0.5)


def test_a_schema_or_a_file_that_is_not_known_is_named(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    for tokens, message in (
        (["export", str(run.path), "--to", "arenas"], "to = arenas: must be one of trl,"),
        (["import", str(run.path), "none.jsonl"], "none.jsonl: there is no such file"),
        (["import", str(run.path), __file__, "--round", "0"], "round = 0: must be at least 1"),
    ):
        with pytest.raises(SystemExit):
            main(["feedback", *tokens])
        assert message in capsys.readouterr().err


def test_the_environment_and_a_setting_name_another_database(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert votes_of(run, "postgresql://me@host/votes") == "postgresql://me@host/votes"
    monkeypatch.setenv("TRIVIUM_DATABASE", f"sqlite:///{tmp_path}/elsewhere.db")
    assert votes_of(run, "postgresql://me@host/votes") == f"sqlite:///{tmp_path}/elsewhere.db"
    main(["feedback", "stats", str(run.path)])
    assert "0 votes: 0 of people" in capsys.readouterr().out
    for url, message in (
        ("mysql://h/x", "must be a postgresql:// URL"),
        ("postgresql://me:pw@h/x", "no password"),
        ("postgresql://me@h/x?sslmode=require&password=pw", "no password"),
    ):
        with pytest.raises(ConfigError, match=message) as refused:
            resolve({"votes": {"database": url}})
        assert "votes.database" in str(refused.value)
