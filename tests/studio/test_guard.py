"""What no page of ours would send is refused before anybody reads it, on every route, method and stream."""

import asyncio
import json
import re
import socket
import threading

import httpx
import pytest
from fastapi.routing import APIRoute

from trivium.generate.writer import Answering, Token, Writer
from trivium.studio.files import known
from trivium.studio.guard import HEADERS, LARGEST_BODY
from trivium.studio.server import addresses

from .conftest import Place

FOREIGN_HOSTS = ["evil.example", "evil.example:8000", "127.0.0.1:9000", "127.0.0.1", "127.0.0.1:8000.evil.example", ""]
FOREIGN_ORIGINS = [
    "http://evil.example",
    "null",
    "http://127.0.0.1:9000",
    "file://",
    "http://127.0.0.1:8000@evil.example",
]
METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND"]


def paths(place: Place) -> list[str]:
    found = {route.path for route in place.app.routes if isinstance(route, APIRoute)}
    assert len(found) > 25
    return sorted(path.replace("{number}", "1").replace("{name}", "studio.js") for path in found)


@pytest.mark.parametrize("header", ["host", "origin"])
def test_a_foreign_host_or_origin_is_refused_on_every_route_method_and_stream(place: Place, header: str) -> None:
    client = place.come_in("owner")
    before = place.studio.store.counts()
    foreign, code = (FOREIGN_HOSTS, 421) if header == "host" else (FOREIGN_ORIGINS, 403)
    for i, path in enumerate(paths(place)):
        for method in METHODS:
            headers = {header: foreign[i % len(foreign)], "content-type": "application/json"}
            answer = client.request(method, path, headers=headers)
            assert answer.status_code == code, (method, path, headers)
            assert answer.headers["content-security-policy"] == HEADERS["Content-Security-Policy"]
    for value in foreign:
        assert client.get("/api/story", headers={header: value}).status_code == code
    assert place.studio.store.counts() == before


def test_our_own_names_are_let_in(place: Place) -> None:
    client = place.come_in("owner")
    for name in ("127.0.0.1:8000", "LOCALHOST:8000", "[::1]:8000"):
        answer = client.get("/static/studio.js", headers={"host": name, "origin": f"http://{name}"})
        assert answer.status_code == 200


def test_writes_need_json(place: Place) -> None:
    client = place.come_in("owner")
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", ""):
        answer = client.post("/api/votes", content=b"{}", headers={"content-type": kind})
        assert answer.status_code == 415, kind


@pytest.mark.parametrize("declared", [True, False])
def test_a_body_may_have_so_many_bytes_and_no_more(place: Place, declared: bool) -> None:
    client = place.come_in("owner")
    data = b'{"text": "' + b"x" * LARGEST_BODY + b'"}'
    sent = data if declared else iter([data[:1000], data[1000:]])
    answer = client.put("/api/guidelines", content=sent, headers={"content-type": "application/json"})
    assert answer.status_code in (400, 413)
    assert not (place.studio.run.path / "guidelines.md").exists()


def test_pages_and_scripts_bring_the_headers_that_bind_a_browser(place: Place) -> None:
    client = place.come_in("owner")
    for path in ("/", "/vote", "/static/studio.js", "/api/story", "/nowhere"):
        headers = client.get(path).headers
        for name, value in HEADERS.items():
            assert headers[name] == value
    policy = HEADERS["Content-Security-Policy"]
    assert "unsafe" not in policy
    assert "*" not in policy


def test_pages_hold_no_script_and_no_style_of_their_own(place: Place) -> None:
    client = place.come_in("owner")
    for path in ("/", "/playground", "/vote", "/judges", "/standings", "/data", "/team", "/join", "/enter", "/me"):
        text = client.get(path).text
        assert "<style" not in text
        assert " style=" not in text
        assert " onclick=" not in text
        for script in text.split("<script")[1:]:
            assert 'src="/static/' in script.split(">")[0] or 'type="application/json"' in script.split(">")[0]


def test_only_files_of_a_list_are_served(place: Place) -> None:
    client = place.come_in("owner")
    for name in ("..%2fserver.py", "%2e%2e/server.py", "server.py", "people.db", "studio.js%00", "....//x"):
        assert client.get(f"/static/{name}").status_code in (401, 404)


def test_the_cookie_is_strict_and_out_of_reach_of_scripts(place: Place) -> None:
    client = place.come_in()
    answer = client.get("/open?token=sesame", follow_redirects=False)
    assert answer.status_code == 303
    told = answer.headers["set-cookie"].lower()
    assert "samesite=strict" in told
    assert "httponly" in told
    assert "sesame" not in told
    assert client.get("/").status_code == 200
    assert client.get("/open?token=guess").status_code == 401


def test_names_that_others_reach_it_by_are_added_only_where_others_can() -> None:
    assert addresses("127.0.0.1", 80, []) == {"127.0.0.1:80", "localhost:80", "[::1]:80"}
    assert "studio.example.org" in addresses("0.0.0.0", 80, ["studio.example.org"])


def test_scripts_put_text_into_pages_as_text_only() -> None:
    scripts = [path for path in known().values() if path.suffix == ".js" and path.name != "plotly.min.js"]
    assert len(scripts) > 8
    for path in scripts:
        found = re.findall(
            r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function", path.read_text()
        )
        assert found == [], path.name


def test_the_studio_asks_nothing_of_any_network(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is asked of it: no address is looked up, none is connected to."""
    client = place.come_in("owner")

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the server asked the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    link = "http://127.0.0.1:9/secret"
    asked = {"model": "instruct", "messages": [{"role": "user", "content": link}], "max_new_tokens": 2}
    assert client.post("/api/write", json=asked).status_code == 200
    assert client.put("/api/guidelines", json={"text": link}).status_code == 200
    for path in (
        "/",
        "/playground",
        "/vote",
        "/judges",
        "/standings",
        "/data",
        "/team",
        "/me",
        f"/api/votes?words={link}",
    ):
        assert client.get(path).status_code == 200, path


def test_others_are_answered_while_an_answer_is_being_written(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Writing stands on a thread of its own, never on the event loop."""
    begun, go_on, step = threading.Event(), threading.Event(), Writer.step

    def slow(writer: Writer) -> list[tuple[Answering, Token]]:
        begun.set()
        assert go_on.wait(20)
        return step(writer)

    monkeypatch.setattr(Writer, "step", slow)
    cookies = dict(place.come_in("owner").cookies)
    asked = {"model": "instruct", "messages": [{"role": "user", "content": "Hi"}], "max_new_tokens": 2}

    async def both() -> tuple[int, str]:
        transport = httpx.ASGITransport(app=place.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8000", cookies=cookies) as client:
            writing = asyncio.create_task(client.post("/api/write", json=asked))
            assert await asyncio.to_thread(begun.wait, 20)
            meanwhile = await asyncio.wait_for(client.get("/api/story"), 10)
            go_on.set()
            return meanwhile.status_code, (await writing).text

    status, answer = asyncio.run(both())
    assert status == 200
    assert "done" in json.loads(answer.splitlines()[-1])
