"""Votes through the page's calls: cast once, taken back, told by who cast them; what the pages show of them."""

import json
import shutil
import sqlite3
import time
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError

from trivium.feedback import queries
from trivium.feedback.votes import Comparison, NewPair, NewVote, Vote
from trivium.publish import MANIFEST, publish, write_text
from trivium.records import Message

from .conftest import Place


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


def test_the_page_of_votes_says_what_more_of_them_would_buy(place: Place) -> None:
    file = place.studio.run.round(1).reward_report
    curve = {"votes": 1730, "half_accuracy": 0.7, "gain": 0.025, "gain_low": -0.013, "gain_high": 0.062}
    told = json.loads(file.read_text()) | {"curve": curve}

    def write(fresh: Path) -> None:
        for part in file.parent.iterdir():
            if part.name != MANIFEST:
                shutil.copy(part, fresh)
        (fresh / file.name).write_text(json.dumps(told))

    publish(file.parent, write)
    text = place.come_in("rater").get("/vote").text
    assert f"came of 24 simulated votes. It agrees with {told['accuracy']:.0%} of those held out" in text
    assert "1,730 more would add about 2.5 points (-1.3 to 6.2)" in text
    shutil.rmtree(place.studio.run.rounds()[0].path)
    assert "What votes buy" not in place.come_in("rater").get("/vote").text


def test_a_round_that_learned_from_a_simulated_judge_says_so_when_people_vote_later(place: Place) -> None:
    client = place.come_in("owner")
    (ballot,) = pairs_for(place, client, 1)
    client.post("/api/votes", json={"showing": ballot["id"], "shown": "left", "key": "k"})
    settled = place.studio.run.round(1).path / "votes.json"
    assert "it learns from, simulated<" in client.get("/").text
    (mine,) = place.studio.store.cast_by_people()
    write_text(settled, json.dumps({"votes": [*json.loads(settled.read_text())["votes"], mine]}))
    assert "it learns from, 24 simulated<" in client.get("/").text


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


def test_two_who_agreed_on_ties_alone_can_be_looked_at(place: Place) -> None:
    """How often people are right cannot be told then."""
    (pair,) = place.studio.store.add_pairs([NewPair((Message("user", "Say so"),), "yes", "no", 1)])
    for name in ("Ann", "Bob"):
        rater = place.studio.store.add_rater(name)
        place.studio.store.add_vote(NewVote(pair, rater.id, "tie", f"{name} 1", seconds=2))
    page = place.come_in("viewer").get("/judges")
    assert page.status_code == 200
    assert "two people choose the same answer" in page.text
    assert "is the most that any reward model" not in page.text
