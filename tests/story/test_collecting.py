"""The votes that a round learns from: whose they are, and how often even the truth would agree with them."""

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from trivium.feedback.store import LabelledPair, NewPair, NewVote, Store
from trivium.records import Message
from trivium.runs import Run
from trivium.story.collecting import JUDGED_TWICE, SettledVotes, accuracy_of, ceiling_of, part


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "feedback.db") as opened:
        yield opened


def judged_twice(store: Store, agreed: int, differed: int) -> None:
    pairs = [NewPair((Message("user", f"Say {i}"),), "yes", "no", 1) for i in range(agreed + differed)]
    ids, raters = store.add_pairs(pairs), [store.add_rater(name).id for name in ("ada", "ben")]
    store.add_votes(NewVote(pair, raters[0], "first", f"a{pair}") for pair in ids)
    store.add_votes(
        NewVote(pair, raters[1], "first" if i < agreed else "second", f"b{pair}") for i, pair in enumerate(ids)
    )


def test_how_often_people_are_right_follows_from_how_often_they_agree(store: Store) -> None:
    """Of votes of which each is right 9 times in 10, two agree with .9 * .9 + .1 * .1 = .82."""
    judged_twice(store, 82, 18)
    assert accuracy_of(store) == pytest.approx(0.9)


def test_of_a_few_pairs_nothing_follows(store: Store) -> None:
    judged_twice(store, JUDGED_TWICE - 1, 0)
    assert accuracy_of(store) is None


def pair(round: int, *, simulated: bool) -> LabelledPair:
    return LabelledPair((Message("user", "Say so"),), "yes", "no", 1.0, 1, simulated, round, "sampled", 1)


def teller_of(run: Run, *noises: float | None) -> Any:
    for number, noise in enumerate(noises, 1):
        round = run.round(number)
        round.path.mkdir(parents=True)
        (round.path / "votes.json").write_bytes(msgspec.json.encode(SettledVotes("f", [], "", noise)))
    return SimpleNamespace(run=run)


def test_the_ceiling_is_that_of_each_rounds_own_voters(tmp_path: Path) -> None:
    teller = teller_of(Run(tmp_path), 0.15, 0.05)
    settled = SettledVotes("f", [], "", 0.05, accuracy=0.7)
    first, second, people = pair(1, simulated=True), pair(2, simulated=True), pair(2, simulated=False)
    assert ceiling_of(teller, [first], settled) == pytest.approx(0.85)
    assert ceiling_of(teller, [first, second], settled) == pytest.approx(0.9)
    assert ceiling_of(teller, [second, people], settled) == pytest.approx((0.95 + 0.7) / 2)
    unknown = msgspec.structs.replace(settled, accuracy=None)
    assert ceiling_of(teller, [second, people], unknown) is None
    assert ceiling_of(teller, [], settled) is None


def test_simulated_votes_of_another_run_have_a_noise_that_nobody_knows(tmp_path: Path) -> None:
    teller = teller_of(Run(tmp_path), 0.15)
    assert ceiling_of(teller, [pair(1, simulated=True), pair(2, simulated=True)], SettledVotes("f", [])) is None


def test_what_an_earlier_version_settled_on_says_nothing_of_its_noise(tmp_path: Path) -> None:
    teller = teller_of(Run(tmp_path), None)
    (tmp_path / "rounds" / "001" / "votes.json").write_text(json.dumps({"fingerprint": "f", "votes": []}))
    assert ceiling_of(teller, [pair(1, simulated=True)], SettledVotes("f", [])) is None


def about(prompt: str, number: int) -> LabelledPair:
    return pair(1, simulated=False)._replace(prompt=(Message("user", prompt),), pair_id=number)


def test_votes_are_parted_by_prompt() -> None:
    pairs = [about(f"prompt {i % 40}", i) for i in range(400)]
    train, held_out = part(pairs, 0.2)
    assert sorted([*train, *held_out]) == sorted(pairs)
    assert not {p.prompt for p in train} & {p.prompt for p in held_out}
    assert 20 < len(held_out) < 160
    assert part(pairs, 0.2) == (train, held_out)


@pytest.mark.parametrize("count", [2, 3, 5])
def test_of_a_few_votes_too_some_teach_and_some_measure(count: int) -> None:
    for seed in range(20):
        train, held_out = part([about(f"prompt {seed} {i}", i) for i in range(count)], 0.15)
        assert train
        assert held_out


def test_a_single_vote_is_learned_from() -> None:
    for seed in range(40):
        train, held_out = part([about(f"prompt {seed}", 0)], 0.15)
        assert (len(train), held_out) == (1, [])
