"""What the pages' calls answer: the journal as it grows, answers as they are written, votes as they were cast."""

import json
import sqlite3
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError

from trivium.errors import CheckpointError, ConfigError
from trivium.feedback import queries
from trivium.feedback.store import Store
from trivium.feedback.votes import Comparison, Vote
from trivium.publish import write_text
from trivium.report.reading import Model, read_models
from trivium.runs import Journal, Run, holder
from trivium.story.voices import Voice
from trivium.studio import watching
from trivium.studio.desk import Desk
from trivium.studio.studio import Limits, open_studio
from trivium.studio.watching import Log, Seen, told
from trivium.studio.work import State, Work

from .conftest import ENVIRONMENT, TINY, Place

RESTING = State(False, False, "", "")
ASKED = {"model": "instruct", "messages": [{"role": "user", "content": "Where is Ada?"}]}


@pytest.fixture
def log(run: Run) -> Iterator[Log]:
    with Store.open(run.feedback) as store:
        yield Log(run, store)


def test_only_what_is_new_in_the_journal_is_told(run: Run, log: Log) -> None:
    first = told(log.look(), RESTING)
    assert [phase["name"] for phase in first["phases"]] == ["pretrain", "instruct", "reward-001", "align-001"]
    assert first["state"]["title"] == "Finished"
    assert [stop["status"] for stop in first["stations"]] == ["done"] * 4
    assert told(log.look(first["cursor"]), RESTING)["phases"] == []
    line = {
        "phase": "align-002",
        "step": 1,
        "loss": 1.0,
        "learning_rate": 1.0,
        "tokens_per_second": 9.0,
        "seconds": 0.5,
    }
    Journal(run.journal).write({**line, "metrics": {"reward": 0.25}})
    with run.journal.open("ab") as file:
        file.write(b'{"phase": "align-002", "st')  # a line in the making
    news = told(log.look(first["cursor"]), State(True, True, "", ""))
    assert [phase["name"] for phase in news["phases"]] == ["align-002"]
    assert news["state"]["title"] == "III Align"
    assert news["state"]["detail"].endswith(" · 2 s left")  # three steps of half a second
    assert {figure["title"] for figure in news["phases"][0]["figures"]} >= {"Reward", "Loss"}


def test_a_journal_that_was_rewound_is_told_anew(run: Run, log: Log) -> None:
    before = log.look().cursor
    Journal(run.journal).rewind("align-001", 2)
    assert len(told(log.look(before), RESTING)["phases"]) == 4


def test_of_a_run_that_rests_nothing_is_read_or_opened_again(
    run: Run, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, read = log.look(), list[Run]()

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the store is open already")

    def look_up(run: Run) -> list[Model]:
        read.append(run)
        return read_models(run)

    monkeypatch.setattr("sqlalchemy.create_engine", refuse)
    monkeypatch.setattr(watching, "read_models", look_up)
    assert log.look() == first
    assert read == []
    write_text(run.measures, '{"aligned": {}}')
    story = log.look().story
    assert story is not None
    assert (story.measures, read) == ({"aligned": {}}, [run])


def test_after_a_recipe_that_cannot_be_read_was_mended_all_is_told(run: Run, log: Log) -> None:
    whole = run.recipe.read_text()
    write_text(run.recipe, "[pretrain")
    with pytest.raises(ConfigError):
        log.look()
    write_text(run.recipe, whole)
    assert len(told(log.look(), RESTING)["phases"]) == 4


def test_what_several_watch_is_of_one_moment_for_each(run: Run, log: Log) -> None:
    before = int(log.look().cursor.partition(".")[2])
    line = {"phase": "align-002", "loss": 1.0, "learning_rate": 1.0, "tokens_per_second": 9.0, "seconds": 0.5}
    journal, ended = Journal(run.journal), threading.Event()

    def watch() -> list[Seen]:
        seen = []
        while not ended.is_set():
            seen.append(log.look())
        return seen

    with ThreadPoolExecutor(4) as pool:
        watchers = [pool.submit(watch) for _ in range(4)]
        for step in range(1, 200):
            journal.write({"step": step, **line, "metrics": {}})
        ended.set()
    journal.close()
    found = [seen for one in watchers for seen in one.result()]
    assert len(found) > 4
    for seen in found:
        phase = seen.story and seen.story.phase("align-002")
        assert int(seen.cursor.partition(".")[2]) - before == (phase.steps if phase else 0)


def test_before_the_first_step_the_page_says_how_to_start(place: Place) -> None:
    place.studio.run.journal.unlink()
    assert "Nothing has been trained yet" in place.come_in("owner").get("/").text


def test_an_answer_comes_in_pieces_and_its_tokens_spell_it(place: Place) -> None:
    client = place.come_in("owner")
    for model in ("base", "instruct", "round-1"):
        answers = []
        for seed in range(24):  # some models end at once, and some write what has no text of its own
            told = {**ASKED, "model": model, "seed": seed, "temperature": 0.9, "max_new_tokens": 6}
            with client.stream("POST", "/api/write", json=told) as answer:
                answers.append([json.loads(line) for line in answer.iter_lines()])
        spelled = [p for p in answers if not {"\\", "<"} & set("".join(t["text"] for t in p[-1]["tokens"]))]
        pieces = max(spelled, key=len)
        assert len(pieces) > 2
        for each in spelled:
            assert "".join(t["text"] for t in each[-1]["tokens"]) == "".join(p.get("text", "") for p in each)
        for token in pieces[-1]["tokens"]:
            assert 0 <= token["probability"] <= 1
            assert token["beside"] == sorted(token["beside"], key=lambda pair: -pair[1])


def test_what_hinders_an_answer_is_its_last_line(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    def damaged(voice: Voice) -> Desk:
        raise CheckpointError("weights: are damaged; take others")

    monkeypatch.setattr(place.studio.voices, "desk", damaged)
    answer = place.come_in("owner").post("/api/write", json=ASKED)
    assert [json.loads(line) for line in answer.text.splitlines()] == [{"error": "weights: are damaged; take others"}]


def test_an_answer_is_a_function_of_its_seed(place: Place) -> None:
    client = place.come_in("owner")
    said = [client.post("/api/write", json={**ASKED, "seed": seed, "temperature": 1.5}).text for seed in (1, 1, 2)]
    texts = [[json.loads(line).get("text") for line in one.splitlines()] for one in said]
    assert texts[0] == texts[1] != texts[2]


def test_a_vote_that_cannot_be_stored_now_may_come_again(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """409 says never again; the page then forgets the vote."""

    def locked(*_: object) -> Vote:
        raise OperationalError("", None, sqlite3.OperationalError("database is locked"))

    client = place.come_in("owner")
    (ballot,) = pairs_for(place, client, 1)
    told = {"showing": ballot["id"], "shown": "left", "key": "a"}
    with monkeypatch.context() as patched:
        patched.setattr(queries, "insert_votes", locked)
        answer = client.post("/api/votes", json=told)
    assert (answer.status_code, "database is locked" in answer.text) == (503, True)
    assert client.post("/api/votes", json=told).status_code == 201


def test_blanks_are_filled_with_candidates_and_probabilities(place: Place) -> None:
    client = place.come_in("owner")
    found = client.post("/api/fill", json={"text": "The ___ sat on the ___."}).json()
    assert len(found["blanks"]) == 2
    assert found["pieces"] == ["The", " sat on the", "."]
    for blank in found["blanks"]:
        assert 0 < sum(filling["probability"] for filling in blank["fillings"]) <= 1.001
    assert client.post("/api/fill", json={"text": "no blank"}).status_code == 400
    assert client.post("/api/fill", json={"text": "___ " * 9}).status_code == 400


def test_what_is_too_much_is_refused(place: Place) -> None:
    client = place.come_in("owner")
    for change in ({"max_new_tokens": 100_000}, {"temperature": -1}, {"messages": []}, {"extra": 1}, {"top_p": 0}):
        assert client.post("/api/write", json={**ASKED, **change}).status_code == 422
    assert client.post("/api/write", json={**ASKED, "model": "../base"}).status_code == 400
    long = [{"role": "user", "content": "x" * 20_001}]
    assert client.post("/api/write", json={**ASKED, "messages": long}).status_code == 422


def test_a_full_queue_says_429(run: Run) -> None:
    from fastapi.testclient import TestClient

    from trivium.studio.entrance import cookie_of, owner_of
    from trivium.studio.server import build_app

    studio = open_studio(run, Limits(writing=0, waiting=0))
    client = TestClient(build_app(studio, names={"127.0.0.1:8000"}, secret="s"), base_url="http://127.0.0.1:8000")
    key = studio.people.open_session(owner_of(studio).id)
    client.cookies.set(cookie_of(client.base_url), key)  # type: ignore[arg-type]
    assert client.post("/api/write", json=ASKED).status_code == 429
    assert client.post("/api/fill", json={"text": "The ___."}).headers["retry-after"] == "2"
    studio.close()


def pairs_for(place: Place, client: Any, count: int) -> list[dict[str, Any]]:
    """Wait until so many were written."""
    for _ in range(200):
        found: list[dict[str, Any]] = client.get(f"/api/pairs?count={count}").json()["pairs"]
        if len(found) == count:
            return found
        time.sleep(0.05)
    raise AssertionError(place.studio.ballots.asker.trouble or "no pairs")


def test_a_vote_means_the_answer_that_was_seen_on_that_side(place: Place) -> None:
    client = place.come_in("rater")
    store, swapped = place.studio.store, set()
    for number, ballot in enumerate(pairs_for(place, client, 12)):
        side = ("left", "right")[number % 2]
        told = {"showing": ballot["id"], "shown": side, "key": f"k{number}", "seconds": 1.5, "comment": "why not"}
        answer = client.post("/api/votes", json=told)
        assert answer.status_code == 201
        vote = store.votes()[-1]
        (pair,) = [pair for pair in store.pairs() if pair.id == vote.pair_id]
        assert {"first": pair.first, "second": pair.second}[vote.choice] == ballot[side]
        assert (vote.seconds, vote.comment) == (1.5, "why not")
        swapped.add(vote.shown_swapped)
    assert swapped == {True, False}
    assert answer.json()["progress"]["mine"] == 12


def test_a_vote_that_is_sent_again_is_one_vote(place: Place) -> None:
    client = place.come_in("rater")
    (ballot,) = pairs_for(place, client, 1)
    told = {"showing": ballot["id"], "shown": "left", "key": "once"}
    first, second = client.post("/api/votes", json=told).json(), client.post("/api/votes", json=told).json()
    assert first == second
    assert first["progress"]["mine"] == 1
    assert client.post("/api/votes", json={**told, "shown": "right"}).status_code == 400
    assert client.post("/api/votes", json={**told, "key": "other"}).status_code == 400
    assert client.post("/api/votes", json={**told, "showing": 10**9}).status_code == 400
    assert place.come_in("rater").post("/api/votes", json={**told, "key": "theirs"}).status_code == 400


def test_the_last_vote_is_taken_back_and_its_pair_asked_again(place: Place) -> None:
    client = place.come_in("rater")
    ballot, other = pairs_for(place, client, 2)
    assert client.post("/api/votes/undo", json={"key": "none"}).status_code == 409
    client.post("/api/votes", json={"showing": ballot["id"], "shown": "left", "key": "a"})
    back = client.post("/api/votes/undo", json={"key": "u"}).json()
    assert back["progress"]["mine"] == 0
    assert ballot in pairs_for(place, client, 2)
    client.post("/api/votes", json={"showing": ballot["id"], "shown": "right", "key": "b"})
    mine = [vote for vote in place.studio.store.history() if not vote.simulated]
    assert [vote.withdrawn_at is None for vote in mine] == [False, True]
    assert client.get("/api/pairs?count=1").json()["pairs"] == [other]


def test_a_vote_that_was_cast_on_another_page_meanwhile_is_not_taken_back(place: Place) -> None:
    client = place.come_in("rater")
    here, elsewhere = pairs_for(place, client, 2)
    mine = client.post("/api/votes", json={"showing": here["id"], "shown": "left", "key": "a"}).json()["vote"]
    client.post("/api/votes", json={"showing": elsewhere["id"], "shown": "tie", "key": "b"})
    for _ in range(2):  # once more, as when the first answer was lost on its way
        assert client.post("/api/votes/undo", json={"key": "u", "vote": mine}).json()["vote"] == mine
    assert client.post("/api/votes/undo", json={"key": "w", "vote": mine}).status_code == 409
    assert [vote.choice for vote in place.studio.store.votes() if not vote.simulated] == ["tie"]
    assert place.come_in("rater").post("/api/votes/undo", json={"key": "x", "vote": mine + 1}).status_code == 409


def test_a_ballot_does_not_tell_whose_answers_they_are(place: Place) -> None:
    client = place.come_in("rater")
    text = json.dumps(pairs_for(place, client, 12)) + client.get("/vote").text
    pairs = place.studio.store.pairs(2)
    models = {pair.first_model for pair in pairs} | {pair.second_model for pair in pairs}
    models.discard("")  # of answers that nobody wrote: those that are known to be right and wrong
    assert len(models) == 2  # the new policy, and every fourth time the one before it
    assert not [model for model in models if model in text]
    assert "round-1" not in text


def test_guidelines_are_a_file_of_the_run(place: Place) -> None:
    owner, rater = place.come_in("owner"), place.come_in("rater")
    assert "Prefer" in rater.get("/api/guidelines").json()["text"]
    owner.put("/api/guidelines", json={"text": "Be kind."})
    assert rater.get("/api/guidelines").json()["text"] == "Be kind."
    (place.studio.run.path / "guidelines.md").write_bytes(b"\xff\xfe")
    assert rater.get("/vote").status_code == 409


def test_votes_are_found_by_words_and_exported_whole(place: Place) -> None:
    client = place.come_in("owner")
    (ballot,) = pairs_for(place, client, 1)
    client.post("/api/votes", json={"showing": ballot["id"], "shown": "tie", "key": "k", "comment": "=HYPERLINK(1)"})
    found = client.get("/api/votes?words=hyperlink").json()
    assert found["total"] == 1
    assert client.get("/api/votes?choice=tie&rater=me&words=hyper").json()["total"] == 1
    lines = client.get("/api/votes/export").text.splitlines()
    assert len(lines) == len(place.studio.store.history())
    assert "'=HYPERLINK(1)" in client.get("/api/votes/export?form=csv").text


@pytest.mark.parametrize("sort", ["documents", "dialogues", "pairs"])
def test_the_data_are_shown_as_the_model_sees_them(place: Place, sort: str) -> None:
    found = place.come_in("viewer").get(f"/api/data?sort={sort}").json()
    assert found["total"] > 5
    kinds = {kind for record in found["records"] for _, kind in record["tokens"]}
    assert "l" in kinds or "L" in kinds
    assert place.come_in("viewer").get(f"/api/data?sort={sort}&words=zzzz").json()["total"] == 0


def test_the_standings_take_one_look_at_the_votes(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    looked, look = [], place.studio.store.comparisons

    def count() -> list[Comparison]:
        looked.append(True)
        return look()

    client = place.come_in("viewer")
    monkeypatch.setattr(place.studio.store, "comparisons", count)
    assert client.get("/standings").status_code == 200
    assert len(looked) == 1


def test_raters_are_judged_and_models_stand_in_order(place: Place) -> None:
    rater = place.come_in("rater")
    for number, ballot in enumerate(pairs_for(place, rater, 12)):
        rater.post("/api/votes", json={"showing": ballot["id"], "shown": "tie", "key": f"k{number}", "seconds": 2})
    viewer = place.come_in("viewer")
    judged = {one["rater"]: one for one in viewer.get("/api/judges").json()["raters"]}
    mine = next(one for name, one in judged.items() if name.startswith("rater"))
    assert mine["votes"] == 12
    assert mine["ties"]["rate"] == 1
    ladder = viewer.get("/api/standings").json()
    assert {model["name"] for model in ladder["models"]} == {"instruct", "round 1"}
    for model in ladder["models"]:
        assert model["plain"][0] == pytest.approx(0, abs=1e-3)  # nothing but ties
    assert viewer.get("/judges").status_code == viewer.get("/standings").status_code == 200


def test_a_run_is_started_paused_found_again_and_gone_on_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", ENVIRONMENT["OMP_NUM_THREADS"])
    (tmp_path / "long").mkdir()
    run = Run(tmp_path / "long")
    run.recipe.write_text(TINY.replace("steps = 30", "steps = 20000", 1))
    first = Work(run)
    first.start()
    assert first.state().working
    wait_for(lambda: len(run.journal.read_bytes()) > 0 if run.journal.exists() else False)
    second = Work(run)  # as a studio that was started again
    assert second.state() == State(True, True, second.state().doing, "")
    assert holder(run) is not None
    with pytest.raises(Exception, match="at work already"):
        second.start()
    second.pause()
    wait_for(lambda: not second.state().working and not first.state().working)
    assert first.state().complaint == ""  # it saved: that is no failure
    with Store.open(run.feedback) as store:
        state = told(Log(run, store).look(), second.state())["state"]
    assert state["title"] == "I Pretrain"
    assert not state["working"]
    assert 0 < state["share"] < 1


def test_why_a_run_gave_up_is_told(run: Run) -> None:
    run.recipe.write_text(run.recipe.read_text().replace("width = 16", 'width = "wide"'))
    work = Work(run)
    work.start("--round")
    wait_for(lambda: not work.state().working)
    assert "ConfigError" in work.state().complaint


def wait_for(what: object, seconds: float = 60) -> None:
    until = time.monotonic() + seconds
    while not what():  # type: ignore[operator]
        assert time.monotonic() < until
        time.sleep(0.1)
