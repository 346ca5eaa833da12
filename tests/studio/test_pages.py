"""What the pages' calls answer: the journal as it grows, answers as they are written, a run as it is started."""

import json
import shutil
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from trivium.errors import CheckpointError, ConfigError
from trivium.feedback.store import Store
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


@pytest.mark.parametrize(
    ("said", "title", "detail"),
    [
        ("", "Starting", ""),
        ("Examination  on held-out data", "Examination", "on held-out data"),
        ("400 votes on 400 pairs", "Preparing", "400 votes on 400 pairs"),
    ],
)
def test_between_phases_the_page_tells_what_the_command_line_said(log: Log, said: str, title: str, detail: str) -> None:
    state = told(log.look(), State(True, True, said, ""))["state"]
    assert (state["title"], state["detail"]) == (title, detail)


def test_every_curve_says_what_it_means(log: Log) -> None:
    figures = [figure for phase in told(log.look(), RESTING)["phases"] for figure in phase["figures"]]
    assert len(figures) > 10
    assert [figure["title"] for figure in figures if figure["told"] == "Measured along the way."] == []


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
    journal, ended, found = Journal(run.journal), threading.Event(), list[Seen]()

    def watch() -> None:
        while not ended.is_set():
            found.append(log.look())

    with ThreadPoolExecutor(4) as pool:
        watchers = [pool.submit(watch) for _ in range(4)]
        step = 0
        while len(found) < 60 and not any(one.done() for one in watchers):
            step += 1
            journal.write({"step": step, **line, "metrics": {}})
            time.sleep(0.001)
        ended.set()
    journal.close()
    assert [one.result() for one in watchers] == [None] * 4
    for seen in found:
        phase = seen.story and seen.story.phase("align-002")
        assert int(seen.cursor.partition(".")[2]) - before == (phase.steps if phase else 0)


def test_before_the_first_step_the_pages_say_how_to_start(place: Place) -> None:
    run = place.studio.run
    run.journal.unlink()
    for folder in (run.base, run.instruct, run.path / "rounds"):
        shutil.rmtree(folder)
    client = place.come_in("owner")
    assert "Nothing has been trained yet" in client.get("/").text
    for path, title in (("/playground", "No model yet"), ("/vote", "Nothing to vote on yet")):
        text = client.get(path).text
        assert title in text
        assert f"/static{path}.js" not in text  # which would look for what is not there


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
    assert state["detail"].startswith("paused at step ")
    assert not state["working"]
    assert 0 < state["share"] < 1


def test_whose_votes_a_round_learns_from_is_asked_each_time(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    started = list[tuple[str, ...]]()
    monkeypatch.setattr(Work, "start", lambda self, *flags: started.append(flags))
    client = place.come_in("owner")
    for order in ({}, {"people_only": True}, {"people_only": False}):
        assert client.post("/api/work", json={"next_round": True, **order}).status_code == 202
    assert started == [("--round",), ("--round", "--votes.no-simulated"), ("--round", "--votes.simulated")]
    assert '"judged": true, "people_only": false' in client.get("/").text
    recipe = place.studio.run.recipe
    write_text(recipe, recipe.read_text().replace("simulated = true", "simulated = false"))
    assert '"judged": true, "people_only": true' in client.get("/").text


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
