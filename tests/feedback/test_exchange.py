"""Votes go out and come in again the same; rows of other tools become votes."""

import json
from pathlib import Path

import pytest
import sqlalchemy as sa

from tests.feedback.ballots import PROMPT, pair, vote
from trivium.errors import DataError
from trivium.feedback.exchange import KINDS, Carried, Kind, carried, rows_of
from trivium.feedback.importing import import_votes, read_votes
from trivium.feedback.store import Answer, NewPair, NewQueued, NewVote, Store
from trivium.records import Message
from trivium.text import preferences
from trivium.text.rows import Row

LONG = (
    Message("system", "Be kind."),
    Message("user", "Hi\n\nHuman: not me\n\nAssistant: nor me"),
    Message("assistant", "Yes?"),
    Message("user", "Where is 🜁 Ada?\x00\u2028"),
)


@pytest.fixture
def varied(store: Store) -> Store:
    """Votes of every sort, withdrawn and repeated ones too."""
    ann, judge = store.add_rater("Ann Ä"), store.add_rater("simulated judge", simulated=True)
    choices = ("first", "second", "tie", "both_bad", "skip")
    ids = store.add_pairs(
        [NewPair(LONG, f"answer {number} ", f"\n other {number}", 2, "m1", "m2", "file:3") for number in range(5)]
    )
    for pair_id, choice in zip(ids, choices, strict=True):
        store.add_vote(NewVote(pair_id, ann.id, choice, f"a{pair_id}", pair_id % 2 == 0, 1.25, "why \ud800?"))
        store.add_vote(NewVote(pair_id, judge.id, choice, f"j{pair_id}"))
    store.add_vote(NewVote(ids[0], ann.id, "second", "again", True, 2.0, repeat=1))
    store.enqueue(
        [NewQueued(pair(7), "active", 0.25, None, 0.5, (False, True)), NewQueued(pair(8), "known", known="first")]
    )
    for number, showing in enumerate(store.next_showings(ann.id)):
        store.answer(Answer(showing.id, ann.id, "left", f"n{number}"))
    store.undo(ann.id, "undone")
    (showing,) = store.next_showings(ann.id, count=1)
    store.answer(Answer(showing.id, ann.id, "right", "better"))
    return store


def written(votes: list[Carried], kind: Kind, folder: Path) -> Path:
    path = folder / f"{kind}.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows_of(votes, kind)), encoding="utf-8")
    return path


@pytest.mark.parametrize("kind", KINDS)
def test_votes_that_go_out_come_in_again_the_same(varied: Store, tmp_path: Path, kind: Kind) -> None:
    sent = carried(varied)
    path = written(sent, kind, tmp_path)
    with Store.open(tmp_path / "other.db") as other:
        assert import_votes(other, read_votes(path, round=9)) == len(sent) == 13
        assert carried(other) == sent
        assert other.fingerprint() == varied.fingerprint()
        assert import_votes(other, read_votes(path, round=9)) == 0
        assert carried(other) == sent


def test_votes_come_in_by_the_hundred_and_not_one_by_one(store: Store) -> None:
    came = [
        Carried(pair(number), "Ann", False, "first", f"{number} {turn}", withdrawn_at=None if turn else "2026-01-01")
        for number in range(300)
        for turn in range(2)
    ]
    asked: list[str] = []
    sa.event.listen(store._reader, "before_cursor_execute", lambda *told: asked.append(told[2]))
    assert import_votes(store, came) == 600
    assert 5 < len(asked) < 60
    assert [(one.attempt, one.withdrawn_at) for one in store.history()] == [(0, "2026-01-01"), (1, None)] * 300


@pytest.mark.parametrize("prompt", [PROMPT, ()])
@pytest.mark.parametrize("kind", ["trl", "trl-conversational", "trl-implicit", "hh", "arena"])
def test_what_we_write_is_recognised_as_pairs_without_our_column(
    store: Store, kind: Kind, prompt: tuple[Message, ...]
) -> None:
    ann = store.add_rater("Ann")
    ids = store.add_pairs([pair(number)._replace(prompt=prompt) for number in (1, 2)])
    store.add_votes([vote(ids[0], ann.id, "second", swapped=True), vote(ids[1], ann.id, "tie")])
    found = []
    for number, row in enumerate(rows_of(carried(store), kind)):
        del row["trivium"]
        at = Row(row, f"{number}")
        found += preferences.recognise(at).read(at)
    assert (found[0].chosen, found[0].rejected, found[0].tie) == (pair(1).second, pair(1).first, False)
    assert found[1].tie
    assert {one.prompt for one in found} == {prompt}


def test_battles_of_an_arena_keep_their_models_their_judge_and_who_won(tmp_path: Path) -> None:
    talk = [[{"role": "user", "content": "Hi"}, {"role": "assistant", "content": text}] for text in ("Yo", "Hello")]
    row = {"model_a": "x", "model_b": "y", "judge": "j7", "conversation_a": talk[0], "conversation_b": talk[1]}
    rows = [row | {"winner": winner} for winner in ("model_b", "tie", "tie (bothbad)")]
    for number, one in enumerate(rows):
        (tmp_path / f"{number}.jsonl").write_text(json.dumps(one))
    won, tied, bad = (read_votes(tmp_path / f"{number}.jsonl", round=3)[0] for number in range(3))
    assert (won.pair.first, won.pair.first_model, won.choice, won.rater) == ("Hello", "y", "first", "j7")
    assert won.shown_swapped  # the winner stood on the right
    assert (tied.choice, bad.choice, tied.pair.round) == ("tie", "both_bad", 3)


def test_argilla_records_and_unpaired_labels_of_others_become_votes(tmp_path: Path) -> None:
    answers = [{"value": "response_b", "user_id": "7", "status": "submitted"}, {"value": "tie", "user_id": "8"}]
    record = {"fields": {"prompt": "Hi", "response_a": "Yo", "response_b": "Hello"}, "responses": {"best": answers}}
    (tmp_path / "a.jsonl").write_text(json.dumps(record))
    found = read_votes(tmp_path / "a.jsonl", round=1)
    assert [(one.rater, one.choice) for one in found] == [("argilla 7", "second"), ("argilla 8", "tie")]
    rows = [{"prompt": "Hi", "completion": text, "label": label} for text, label in (("Yo", 0), ("Hello", True))]
    (tmp_path / "u.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (made,) = read_votes(tmp_path / "u.jsonl", round=1)
    assert (made.pair.first, made.pair.second, made.choice, made.rater) == ("Hello", "Yo", "first", "imported")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"trivium": {"pair": 3}}, 'bad.jsonl:1: "trivium" holds no vote'),
        ({"prompt": "Hi", "completion": "Yo", "label": 5}, "bad.jsonl:1: unpaired preferences need"),
        ({"prompt": "Hi", "completion": "Yo", "label": 1}, "bad.jsonl: holds no votes"),
        ({"fields": {"prompt": "Hi"}, "responses": {"q": []}}, "bad.jsonl:1: an Argilla record needs"),
        ({"text": "Hi"}, "bad.jsonl:1: no known schema has"),
    ],
)
def test_a_row_that_is_no_vote_is_named(tmp_path: Path, row: dict[str, object], message: str) -> None:
    (tmp_path / "bad.jsonl").write_text(json.dumps(row))
    with pytest.raises(DataError) as refused:
        read_votes(tmp_path / "bad.jsonl", round=1)
    assert message in str(refused.value)


def test_every_good_answer_meets_a_bad_one_and_drafts_are_no_votes(tmp_path: Path) -> None:
    said = [("a", 1), ("b", 1), ("c", 0), ("d", 1), ("e", 0)]
    rows = [{"prompt": "Hi", "completion": text, "label": label} for text, label in said]
    (tmp_path / "u.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = read_votes(tmp_path / "u.jsonl", round=1)
    assert [(one.pair.first, one.pair.second) for one in found] == [("a", "c"), ("b", "e")]
    answers = [
        {"value": "first", "user_id": "1", "status": "discarded"},
        {"value": None, "user_id": "2", "status": "draft"},
        {"value": "second", "user_id": "3", "status": "submitted"},
    ]
    record = {"fields": {"prompt": "Hi", "first": "Yo", "second": "Hello"}, "responses": {"best": answers}}
    (tmp_path / "a.jsonl").write_text(json.dumps(record))
    assert [(one.rater, one.choice) for one in read_votes(tmp_path / "a.jsonl", round=1)] == [("argilla 3", "second")]
