"""Five hundred ways to slip a script into a page, as prompts, answers, names and comments: none runs."""

import itertools
from collections.abc import Iterator
from typing import Any

import pytest

from trivium.feedback.people import People
from trivium.feedback.store import Answer, NewPair, NewQueued, NewVote, Store
from trivium.records import Message
from trivium.runs import Run

from .conftest import Served, serve
from .test_browser import Visit

pytestmark = pytest.mark.browser
RUN = ("window.hacked=1", "parent.hacked=1", "this.ownerDocument.defaultView.hacked=1", "top['hac'+'ked']=1")
AROUND = ("{}", '"{}', "'>{}", "</p>{}", "</script>{}", '"}}]{}', "<!--{}-->", "</textarea>{}", "]]>{}", "\\u003c{}")
CARRIERS = (
    "<script>{}</script>",
    "<ScRiPt/x>{}</sCrIpT>",
    "<img src=x onerror={}>",
    "<svg onload={}>",
    "<svg><script>{}</script></svg>",
    "<body onload={}>",
    "<iframe srcdoc='<script>{}</script>'></iframe>",
    "<a href=javascript:{} autofocus onfocus={}>x</a>",
    "<details open ontoggle={}>x</details>",
    "<style>@import 'javascript:{}';</style>",
    "<math><mtext><script>{}</script></mtext></math>",
    "<input autofocus onfocus={}>",
    "{{{{constructor.constructor('{}')()}}}}",
)


def payloads() -> list[str]:
    made = (
        around.format(carrier.format(*[run] * 2)) for run, carrier, around in itertools.product(RUN, CARRIERS, AROUND)
    )
    return list(dict.fromkeys(made))[:500]


@pytest.fixture
def served(run: Run) -> Iterator[Served]:
    """A run in which everything that people and models say is a payload."""
    with Store.open(run.feedback) as store:
        names = [text[:60] for text in payloads()[::25]]
        raters = [store.add_rater(name) for name in names]
        people = People(store)
        owner = people.found("me")
        for name in names[:10]:
            people.invite("rater", by=owner, note=name)
        said = payloads()
        pairs = [NewPair((Message("user", text),), text + "1", text + "2", 1, "a" * 16, "b" * 16) for text in said]
        ids = store.add_pairs(pairs)
        store.add_votes(
            NewVote(pair, raters[i % len(raters)].id, "first", f"k{i}", seconds=1.0, comment=said[i])
            for i, pair in enumerate(ids)
        )
        store.enqueue(NewQueued(NewPair((Message("user", text),), text + "3", text, 2)) for text in said[::50])
        (showing,) = store.next_showings(owner.rater_id or 0, round=2, count=1)
        store.answer(Answer(showing.id, owner.rater_id or 0, "left", "x"))
    (run.path / "guidelines.md").write_text("\n\n".join(said[::20]))
    lines = [f'{{"model": "instruct", "prompt": {as_json(text)}, "answer": {as_json(text)}}}' for text in said[::10]]
    run.samples.write_text("\n".join(lines) + "\n")
    made = serve(run)
    yield made
    made.stop()


def as_json(text: str) -> str:
    import json

    return json.dumps(text)


def test_no_payload_runs_on_any_page(chromium: Any, served: Served) -> None:
    assert len(payloads()) == 500
    visit = Visit(chromium, served, (1280, 800))
    page = visit.page

    def unharmed() -> None:
        assert page.evaluate("() => window.hacked") is None
        assert page.locator("main :is(iframe, [onload], [onerror], [onfocus], [ontoggle], style, base)").count() == 0

    for path in ("/", "/playground", "/vote", "/judges", "/standings", "/team", "/data#pairs"):
        page.goto(served.origin + path)
        page.wait_for_timeout(150)
        unharmed()
    page.goto(f"{served.origin}/data#votes")
    seen = 0
    for _ in range(12):
        page.wait_for_selector(".vote-record")
        seen += page.locator(".vote-record").count()
        unharmed()
        page.locator("#pager button").last.click()
        page.wait_for_timeout(40)
    assert seen > 100
    page.goto(f"{served.origin}/playground")
    image, frame = (next(text for text in payloads() if kind in text) for kind in ("<img", "<iframe"))
    for text in (image, frame):
        page.fill("#prompt", text)
        page.keyboard.press("Enter")
        page.wait_for_function(
            "text => [...document.querySelectorAll('.turn')].some(e => e.textContent == text)", arg=text
        )
    page.fill("#blank", frame + " ___")
    page.click("#fill button")
    page.wait_for_selector(".candidate")
    unharmed()
    assert visit.trouble == []
    visit.context.close()
