"""What is stored comes back as it was."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy.dialects import postgresql

from tests.feedback.ballots import filled, vote
from trivium.feedback import tables
from trivium.feedback.store import NewPair, NewVote, Store
from trivium.records import Message


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with Store.open(tmp_path_factory.mktemp("shared") / "feedback.db") as opened:
        yield opened


def joined(text: str) -> str:
    """Half surrogates that meet become the character they spell, as in every UTF-16."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")


any_text = st.text(st.characters(exclude_categories=())).map(joined) | st.sampled_from(
    ["\x00", "\ud800", '"', "\\u0000", "🜁"]
)


@settings(max_examples=40, deadline=None)
@given(
    messages=st.lists(st.builds(Message, st.just("user"), any_text), min_size=1, max_size=3),
    texts=st.tuples(any_text, any_text),
    comment=any_text,
)
def test_any_text_comes_back_as_it_was(
    shared: Store, messages: list[Message], texts: tuple[str, str], comment: str
) -> None:
    new = NewPair(tuple(messages), *texts, round=1)
    (pair_id,) = shared.add_pairs([new])
    stored = next(found for found in shared.pairs() if found.id == pair_id)
    assert (stored.prompt, stored.first, stored.second) == (new.prompt, new.first, new.second)
    assert stored.key == new.key
    rater = shared.add_rater(f"rater {len(shared.raters())}")
    asked = vote(pair_id, rater.id)._replace(comment=comment)
    assert shared.add_vote(asked).comment == comment


def test_a_vote_comes_back_with_all_its_fields(store: Store) -> None:
    (pair_id,), rater = filled(store, 1), store.add_rater("Ann")
    new = NewVote(pair_id, rater.id, "both_bad", "k", shown_swapped=True, seconds=2.25, comment="neither")
    stored = store.add_vote(new)
    assert NewVote(*(getattr(stored, field) for field in NewVote._fields)) == new
    assert (stored.rater, stored.simulated) == ("Ann", False)
    assert stored.created_at.endswith("+00:00")


def test_votes_outlive_the_store(tmp_path: Path) -> None:
    with Store.open(tmp_path / "feedback.db") as store:
        (pair_id,), rater = filled(store, 1), store.add_rater("Ann")
        kept = store.add_vote(vote(pair_id, rater.id))
    with Store.open(f"sqlite:///{tmp_path}/feedback.db") as store:
        assert store.votes() == [kept]


def test_the_tables_can_be_made_in_postgresql() -> None:
    dialect = postgresql.dialect()  # type: ignore[no-untyped-call]
    for table in tables.schema.sorted_tables:
        assert "CREATE TABLE" in str(sa.schema.CreateTable(table).compile(dialect=dialect))
