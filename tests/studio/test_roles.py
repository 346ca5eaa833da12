"""Every route says who may call it, and means it."""

from collections.abc import Iterator
from typing import Any

import pytest
from fastapi import HTTPException
from fastapi.routing import APIRoute

from trivium.feedback.people import Role
from trivium.studio.auth import EVERYBODY, Allow, AllowAnyone
from trivium.studio.entrance import owner_of
from trivium.studio.tries import Tries

from .conftest import Place

OPEN = {"/static/{name}", "/open", "/join", "/api/join", "/enter", "/api/enter"}

COOKIE = "trivium-8000"


def declared(route: APIRoute) -> list[Any]:
    """What the route's dependencies say of roles."""
    return [one.call for one in route.dependant.dependencies if isinstance(one.call, (Allow, AllowAnyone))]


def routes(place: Place) -> Iterator[tuple[APIRoute, str]]:
    for route in place.app.routes:
        assert isinstance(route, APIRoute), route
        for method in route.methods:
            yield route, method


def test_every_route_declares_who_may_call_it_and_few_are_open(place: Place) -> None:
    for route, _ in routes(place):
        assert len(declared(route)) == 1, route.path
    assert {route.path for route, _ in routes(place) if isinstance(declared(route)[0], AllowAnyone)} == OPEN


@pytest.mark.parametrize("role", [None, *EVERYBODY])
def test_each_role_gets_what_its_routes_declare_and_nothing_else(place: Place, role: Role | None) -> None:
    client = place.come_in(role)
    seen = 0
    for route, method in routes(place):
        allow = declared(route)[0]
        if isinstance(allow, AllowAnyone) or "/work" in route.path or route.path in ("/api/leave", "/api/password"):
            continue  # those do something: they have tests of their own
        path = route.path.replace("{number}", "2147483")
        answer = client.request(method, path, json={} if method != "GET" else None)
        may = role in allow.roles
        assert (answer.status_code in (401, 403)) != may, (method, path, role, answer.status_code)
        if not may:
            assert answer.status_code == (401 if role is None else 403)
        seen += 1
    assert seen > 15


@pytest.mark.parametrize("role", [None, "rater", "viewer"])
def test_only_the_owner_starts_and_pauses(place: Place, role: Role | None) -> None:
    client = place.come_in(role)
    for path in ("/api/work", "/api/work/pause"):
        assert client.post(path, json={}).status_code in (401, 403)
    assert not place.studio.work.state().working


def test_the_navigation_shows_a_rater_only_what_a_rater_may_open(place: Place) -> None:
    text = place.come_in("rater").get("/").text
    assert 'href="/vote"' in text
    assert 'href="/team"' not in text
    assert 'href="/standings"' not in text


def test_an_invitation_opens_once_and_a_session_can_be_ended(place: Place) -> None:
    owner, ada, eve = place.come_in("owner"), place.come_in(), place.come_in()
    secret = owner.post("/api/invitations", json={"role": "rater", "note": "Ada"}).json()["secret"]
    assert ada.get("/vote").status_code == 401
    assert ada.post("/api/join", json={"secret": secret, "name": "me"}).status_code == 400  # the owner's name
    assert ada.post("/api/join", json={"secret": secret, "name": " Ada "}).json() == {"name": "Ada", "role": "rater"}
    assert ada.get("/vote").status_code == 200
    assert eve.post("/api/join", json={"secret": secret, "name": "Eve"}).status_code == 400
    sessions = owner.get("/api/team").json()["sessions"]
    assert {one["name"]: one["ours"] for one in sessions} == {"me": True, "Ada": False}
    session = next(one for one in sessions if one["name"] == "Ada")
    assert owner.request("DELETE", f"/api/sessions/{session['id']}", json={}).status_code == 200
    assert ada.get("/vote").status_code == 401


def test_whoever_is_shut_out_does_not_come_in_again_by_a_password(place: Place) -> None:
    owner, ada, elsewhere = place.come_in("owner"), place.come_in(), place.come_in()
    secret = owner.post("/api/invitations", json={"role": "rater"}).json()["secret"]
    credentials = {"name": "Ada", "password": "a long password"}
    assert ada.post("/api/join", json={"secret": secret, **credentials}).status_code == 201
    assert elsewhere.post("/api/enter", json=credentials).status_code == 201
    told = owner.get("/api/team").json()
    (person,) = told["people"]
    assert (person["name"], person["role"]) == ("Ada", "rater")
    mine = next(one["person_id"] for one in told["sessions"] if one["name"] == "me")
    assert ada.request("DELETE", f"/api/people/{person['id']}", json={}).status_code == 403
    assert owner.request("DELETE", f"/api/people/{mine}", json={}).status_code == 400
    assert owner.request("DELETE", f"/api/people/{person['id']}", json={}).status_code == 200
    assert ada.get("/vote").status_code == elsewhere.get("/vote").status_code == 401
    assert elsewhere.post("/api/enter", json=credentials).status_code == 400
    told = owner.get("/api/team").json()
    assert ([one["name"] for one in told["sessions"]], told["people"]) == (["me"], [])


def test_whoever_has_a_password_comes_in_again_elsewhere_by_a_new_session(place: Place) -> None:
    owner, ada, elsewhere = place.come_in("owner"), place.come_in(), place.come_in()
    secret = owner.post("/api/invitations", json={"role": "rater"}).json()["secret"]
    planted = {"cookie": f"{COOKIE}=planted"}  # a session that somebody put there before is nobody's, and is not kept
    assert ada.get("/vote", headers=planted).status_code == 401
    assert ada.post("/api/join", json={"secret": secret, "name": "Ada", "password": "too short"}).status_code == 422
    told = {"secret": secret, "name": "Ada", "password": "a long password"}
    assert ada.post("/api/join", json=told, headers=planted).status_code == 201
    first = ada.cookies[COOKIE]
    assert first != "planted"
    for name, password in (("Eve", "a long password"), ("Ada", "another password")):
        assert elsewhere.post("/api/enter", json={"name": name, "password": password}).status_code == 400
    entered = elsewhere.post("/api/enter", json={"name": "Ada", "password": "a long password"})
    assert entered.json() == {"name": "Ada", "role": "rater"}
    assert elsewhere.cookies[COOKIE] != first
    renewed = elsewhere.put("/api/password", json={"password": "another password"})
    assert renewed.status_code == 201
    assert ada.get("/vote").status_code == 401  # everywhere else the session has ended
    assert elsewhere.get("/vote").status_code == 200
    flags = renewed.headers["set-cookie"].lower()
    assert all(flag in flags for flag in ("httponly", "samesite=strict", "path=/"))


def test_secrets_cannot_be_guessed_at_leisure(place: Place) -> None:
    for path, told in (
        ("/api/enter", {"name": "me", "password": "guess"}),
        ("/api/join", {"secret": "guess", "name": "Eve"}),
        ("/open?token=guess", None),
    ):
        place.studio.tries.__init__(most=4)  # type: ignore[misc]
        eve = place.come_in()
        codes = [(eve.post(path, json=told) if told else eve.get(path)).status_code for _ in range(6)]
        assert codes[3] in (400, 401), path
        assert codes[4:] == [429, 429], path


def test_vain_tries_are_forgiven_in_time() -> None:
    now = 0.0
    tries = Tries(most=2, span=60, clock=lambda: now)
    tries.count("a")
    tries.require_room("a")
    tries.count("a")
    with pytest.raises(HTTPException) as told:
        tries.require_room("b", "a")
    assert told.value.headers == {"Retry-After": "61"}
    tries.require_room("b")
    now = 61.0
    tries.require_room("a")


def test_an_invitation_that_is_too_old_opens_nothing(place: Place) -> None:
    secret = place.studio.people.invite("rater", by=owner_of(place.studio), hours=1e-9)
    assert place.come_in().post("/api/join", json={"secret": secret, "name": "Eve"}).status_code == 400


def test_a_withdrawn_or_invented_invitation_opens_nothing(place: Place) -> None:
    owner, eve = place.come_in("owner"), place.come_in()
    made = owner.post("/api/invitations", json={"role": "viewer"}).json()
    owner.request("DELETE", f"/api/invitations/{made['invitations'][0]['id']}", json={})
    for secret in (made["secret"], "guess", "\u2028", "' OR 1=1 --"):
        assert eve.post("/api/join", json={"secret": secret, "name": "Eve"}).status_code == 400


def test_no_secret_is_kept_readable(place: Place) -> None:
    owner = place.come_in("owner")
    secret = owner.post("/api/invitations", json={}).json()["secret"]
    data = b"".join(path.read_bytes() for path in place.studio.run.path.glob("feedback.db*"))
    assert secret.encode() not in data
    assert next(iter(owner.cookies.values())).encode() not in data


def test_leaving_ends_the_session_not_only_the_cookie(place: Place) -> None:
    viewer = place.come_in("viewer")
    key = dict(viewer.cookies)
    assert viewer.post("/api/leave", json={}).status_code == 200
    viewer.cookies.update(key)
    assert viewer.get("/").status_code == 401
