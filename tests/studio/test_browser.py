"""A person's way through the studio in Chromium, at a desk and on a phone: watch, talk, fill, vote, go round."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from trivium.runs import Run

from .conftest import Served, serve

pytestmark = pytest.mark.browser
SIZES = {"phone": (390, 844), "desktop": (1280, 800)}  # the one at a desk goes a round, so it comes last
WAIT = 30_000  # ms


@pytest.fixture(scope="module")
def served(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """One studio for all visits, by one person."""
    made = serve(Run(Path(shutil.copytree(finished, tmp_path_factory.mktemp("visited") / "tiny"))))
    yield made
    made.stop()


class Visit:
    """A page that is open, and what went wrong in it."""

    def __init__(self, chromium: Any, served: Served, size: tuple[int, int]) -> None:
        width, height = size
        phone = width < 500
        viewport = {"width": width, "height": height}
        self.context = chromium.new_context(viewport=viewport, has_touch=phone, is_mobile=phone)
        self.page = self.context.new_page()
        self.trouble: list[str] = []
        self.page.on("console", lambda message: self.trouble.append(message.text) if message.type == "error" else None)
        self.page.on("pageerror", lambda error: self.trouble.append(str(error)))
        self.page.on("request", lambda request: self.note(request.url, served))
        self.page.set_default_timeout(WAIT)
        self.page.goto(served.address)

    def note(self, url: str, served: Served) -> None:
        if not url.startswith((served.origin, "data:", "blob:")):
            self.trouble.append(f"asked the network for {url}")

    def go(self, title: str) -> None:
        self.page.get_by_role("navigation", name="Studio").get_by_role("link", name=title).click()
        self.page.wait_for_load_state()

    def fits(self) -> None:
        """Nothing is wider than the screen."""
        wide = self.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert wide <= 0, (self.page.url, wide)


def test_the_keys_lead_everywhere(chromium: Any, served: Served) -> None:
    visit = Visit(chromium, served, SIZES["desktop"])
    page = visit.page
    for key, path in (
        ("p", "/playground"),
        ("v", "/vote"),
        ("j", "/judges"),
        ("n", "/standings"),
        ("d", "/data"),
        ("t", "/team"),
    ):
        page.evaluate("document.activeElement.blur()")
        page.keyboard.press("g")
        page.keyboard.press(key)
        page.wait_for_url(f"**{path}*")
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("?")
    assert page.locator("#keys[open]").count() == 1
    page.keyboard.press("Escape")
    page.goto(f"{served.origin}/")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    assert visit.trouble == []
    visit.context.close()


def test_two_presses_of_a_key_are_not_two_votes(chromium: Any, served: Served) -> None:
    visit = Visit(chromium, served, SIZES["desktop"])
    visit.go("Vote")
    visit.page.wait_for_selector(".answer")
    before = int(visit.page.inner_text("#count"))
    visit.page.wait_for_timeout(300)
    visit.page.evaluate(
        "() => { for (let i = 0; i < 3; i++)"
        " document.body.dispatchEvent(new KeyboardEvent('keydown', { key: 'ArrowLeft', bubbles: true })); }"
    )
    visit.page.wait_for_function("old => document.getElementById('count').textContent != old", arg=str(before))
    visit.page.wait_for_timeout(200)
    assert visit.page.inner_text("#count") == str(before + 1)
    visit.context.close()


def test_a_pair_without_a_prompt_says_so(chromium: Any, served: Served) -> None:
    """On both pages that show pairs, whose prompts are taken out on their way."""

    def without_prompts(route: Any) -> None:
        found = route.fetch()
        bare = re.sub(r'"prompt": ?("[^"]*"|\[[^\]]*\])', lambda at: f'"prompt":{at[1][0]}{at[1][-1]}', found.text())
        route.fulfill(response=found, body=bare)

    visit = Visit(chromium, served, SIZES["desktop"])
    for pattern in ("**/vote", "**/api/pairs?*", "**/api/votes?*"):
        visit.page.route(pattern, without_prompts)
    visit.go("Vote")
    visit.page.wait_for_selector(".answer")
    assert visit.page.inner_text(".turns") == "No prompt: two texts by themselves"
    visit.go("Data")
    visit.page.get_by_role("tab", name="Votes").click()
    visit.page.wait_for_selector(".vote-record")
    assert visit.page.inner_text(".vote-record .prompt") == "no prompt"
    assert visit.trouble == []
    visit.context.close()


@pytest.mark.parametrize("clipboard", ["there", "undefined"])  # undefined: on other machines, without https
def test_an_invitation_is_copied_as_it_stands(chromium: Any, served: Served, clipboard: str) -> None:
    visit = Visit(chromium, served, SIZES["desktop"])
    page = visit.page
    if clipboard == "undefined":
        page.add_init_script("Object.defineProperty(navigator, 'clipboard', { value: undefined })")
    visit.go("Team")
    page.click("#invite button")
    page.click("#link button")
    page.wait_for_selector(".toast:has-text('Copied')")
    page.focus("#note")
    page.keyboard.press("Control+V")
    assert page.input_value("#note") == page.input_value("#link input")[:80]
    assert visit.trouble == []
    visit.context.close()


@pytest.mark.parametrize("size", SIZES)
def test_a_person_watches_talks_votes_and_goes_round(chromium: Any, served: Served, size: str) -> None:
    visit = Visit(chromium, served, SIZES[size])
    page = visit.page
    assert "token" not in page.url
    page.wait_for_selector(".plot .main-svg")  # a curve was drawn
    assert page.locator("#road li[data-status=done]").count() == 4
    visit.fits()

    visit.go("Playground")
    page.locator("#temperature").evaluate("knob => { knob.value = 1.5; knob.dispatchEvent(new Event('input')); }")
    page.fill("#prompt", "Where is Ada?")
    page.keyboard.press("Enter")
    page.wait_for_function(
        "() => document.querySelectorAll('.thread .measure').length == 3 && "
        "[...document.querySelectorAll('.thread .measure')].every(one => one.textContent.includes('tokens'))"
    )
    page.fill("#blank", "The cat sat on the ___.")
    page.click("#fill button")
    page.wait_for_selector(".candidate")
    assert "%" in page.inner_text(".candidate")
    visit.fits()

    visit.go("Vote")
    cast = 20 if size == "desktop" else 8
    votes = int(page.inner_text("#count")) + cast
    for number in range(cast):
        page.wait_for_selector(".answer")
        shown = page.get_attribute("#ballot", "data-pair")
        page.wait_for_timeout(240)
        if number == cast - 1:
            page.click("#comment")
            page.keyboard.type("It is kinder.")
            page.keyboard.press("Enter")
        if size == "phone" and number % 2:
            page.locator(".answer").nth(1).tap()
        else:
            page.keyboard.press(("ArrowLeft", "ArrowRight", "1", "2", "t", "b")[number % 6])
        page.wait_for_function("old => document.getElementById('ballot').dataset.pair != old", arg=shown)
    page.wait_for_function("arg => document.getElementById('count').textContent == arg", arg=str(votes))
    last = page.get_attribute("#ballot", "data-pair")
    page.click("#undo")
    page.wait_for_function("arg => document.getElementById('count').textContent == arg", arg=str(votes - 1))
    page.wait_for_timeout(300)
    assert page.input_value("#remark-text") == "It is kinder."
    page.keyboard.press("2")
    page.wait_for_function("arg => document.getElementById('count').textContent == arg", arg=str(votes))
    assert page.get_attribute("#ballot", "data-pair") == last
    visit.fits()

    visit.go("Judges")
    assert str(votes) in page.inner_text('.rater[data-rater="me"]')
    visit.fits()
    visit.go("Standings")
    page.wait_for_selector("#ladder .main-svg")
    visit.fits()
    for title in ("Data", "Team"):
        visit.go(title)
        page.wait_for_selector(".record, .line")
        visit.fits()

    if size == "phone":
        assert visit.trouble == []
        visit.context.close()
        return
    visit.go("Story")
    page.click("#go")
    page.click("#round-start")
    page.wait_for_selector("#pause")
    page.wait_for_selector("#tabs button:has-text('round 2')[aria-selected=true]", timeout=60_000)
    page.wait_for_selector(".plot .main-svg")  # of the phase that is at work, on the page that was open before it began
    page.wait_for_selector('#rounds [data-round="2"]', timeout=60_000)
    page.wait_for_selector("#go", timeout=60_000)
    visit.go("Playground")
    page.wait_for_selector(".chip:has-text('round 2')")
    assert visit.trouble == []
    visit.context.close()
