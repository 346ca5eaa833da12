"""Every route says who may call it, and means it."""

from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.routing import APIRoute

from trivium.feedback.people import Role
from trivium.studio.auth import EVERYBODY, Allow, AllowAnyone

from .conftest import Place

OPEN = {"/static/{name}", "/open", "/join", "/api/join"}


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
        if isinstance(allow, AllowAnyone) or "/work" in route.path or route.path == "/api/leave":
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
    session = next(one for one in owner.get("/api/team").json()["sessions"] if one["name"] == "Ada")
    assert owner.request("DELETE", f"/api/sessions/{session['id']}", json={}).status_code == 200
    assert ada.get("/vote").status_code == 401


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
