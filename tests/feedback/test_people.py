"""People: one invitation, one person; secrets kept as digests; sessions that end when they are ended."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy as sa

from trivium.errors import DataError
from trivium.feedback import tables
from trivium.feedback.people import People, Person
from trivium.feedback.store import Store


@pytest.fixture
def people(store: Store) -> People:
    return People(store)


@pytest.fixture
def owner(people: People) -> Person:
    return people.found("Olga", "a long password")


def test_an_invitation_opens_once(people: People, owner: Person) -> None:
    token = people.invite("rater", by=owner, note="for Ann")
    assert [(found.role, found.note) for found in people.invitations()] == [("rater", "for Ann")]
    ann, session = people.accept(token, "  Ann ")
    assert (ann.name, ann.role, ann.rater_id is None) == ("Ann", "rater", False)
    assert people.person_of(session) == ann
    with pytest.raises(DataError, match="was used, was cancelled or is too old"):
        people.accept(token, "Bob")
    assert people.invitations() == []


def test_of_many_who_use_an_invitation_at_once_one_comes_in(people: People, owner: Person) -> None:
    token = people.invite("viewer", by=owner)

    def come_in(number: int) -> bool:
        try:
            people.accept(token, f"guest {number}")
        except DataError:
            return False
        return True

    with ThreadPoolExecutor(8) as threads:
        assert sum(threads.map(come_in, range(8))) == 1
    assert len(people.people()) == 2


def test_a_name_that_is_taken_does_not_use_up_the_invitation(people: People, owner: Person, store: Store) -> None:
    store.add_rater("Ann")
    token = people.invite("rater", by=owner)
    for name in ("olga", "ANN"):
        with pytest.raises(DataError, match="somebody has it already"):
            people.accept(token, name)
    with pytest.raises(DataError, match="are for simulated raters"):
        people.accept(token, "simulated judge")
    assert people.accept(token, "Bob")[0].name == "Bob"


def test_cancelled_and_old_invitations_open_nothing(people: People, owner: Person, store: Store) -> None:
    cancelled, old = people.invite("rater", by=owner), people.invite("rater", by=owner)
    people.cancel(people.invitations()[0].id)
    with store._writer.begin() as connection:
        connection.execute(sa.update(tables.invitations), {"expires_at": "2020-01-01T00:00:00.000000+00:00"})
    for token in (cancelled, old, "guessed"):
        with pytest.raises(DataError, match="ask the owner for another"):
            people.accept(token, "Ann")


def test_only_owners_invite_and_the_first_owner_comes_once(people: People, owner: Person) -> None:
    ann, _ = people.accept(people.invite("rater", by=owner), "Ann")
    with pytest.raises(DataError, match="Ann: only an owner invites others"):
        people.invite("owner", by=ann)
    with pytest.raises(DataError, match="there is an owner already"):
        people.found("Eve")
    with pytest.raises(DataError, match='role "king" is unknown'):
        people.invite("king", by=owner)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="hours = 0: must be positive"):
        people.invite("rater", by=owner, hours=0)


def test_sessions_end_when_they_are_revoked_signed_out_or_old(people: People, owner: Person, store: Store) -> None:
    one, two, three = (people.open_session(owner.id, agent=f"browser {number}\n") for number in range(3))
    assert [session.agent for session in people.sessions(owner.id)] == [f"browser {number}" for number in range(3)]
    assert [people.session_of(token) for token in (one, two, three)] == [session.id for session in people.sessions()]
    people.revoke(people.sessions()[0].id)
    people.sign_out(two)
    assert [people.session_of(token) for token in (one, "guessed")] == [None, None]
    assert [people.person_of(token) for token in (one, two, three, "guessed")] == [None, None, owner, None]
    old = people.open_session(owner.id)
    with store._writer.begin() as connection:
        connection.execute(sa.update(tables.sessions), {"expires_at": "2020-01-01T00:00:00.000000+00:00"})
    assert people.person_of(old) is None


def test_whoever_signs_in_is_refused_in_the_same_words_whatever_is_wrong(people: People, owner: Person) -> None:
    people.accept(people.invite("rater", by=owner), "Ann")  # without a password
    person, session = people.sign_in("Olga", "a long password")
    assert (person, people.person_of(session)) == (owner, owner)
    for name, password in (("Olga", "another password"), ("Nobody", "a long password"), ("Ann", "")):
        with pytest.raises(DataError, match=r"^name or password is wrong"):
            people.sign_in(name, password)
    people.set_password(owner.id, "a new long password")
    assert people.person_of(session) is None
    assert people.sign_in("Olga", "a new long password")[0] == owner
    with pytest.raises(DataError, match="password: must have 10 to 1,000 characters"):
        people.set_password(owner.id, "short")


def test_no_secret_is_written_down(people: People, owner: Person, store: Store) -> None:
    secrets = [people.invite("rater", by=owner), people.open_session(owner.id), "a long password"]
    with store._reader.connect() as connection:
        written = repr([connection.execute(sa.select(table)).all() for table in tables.schema.sorted_tables])
    assert "argon2id" in written
    assert [secret for secret in secrets if secret in written] == []
