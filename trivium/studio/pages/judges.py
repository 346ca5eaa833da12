"""The judges' page: how far raters agree, how they vote, what somebody should look at. Nobody's votes are left out."""

from typing import Any

from fastapi import APIRouter
from starlette.responses import Response

from trivium.feedback.agreement import Interval
from trivium.feedback.raters import Assessment
from trivium.feedback.stats import summarise
from trivium.report import charts
from trivium.report.charts import Mark
from trivium.story.exchanging import plain
from trivium.studio.auth import Reader
from trivium.studio.studio import Here, Json, show

routes = APIRouter()
SHARES = (
    ("agreement", "agrees with others", "nobody else has voted on these pairs"),
    ("consistency", "agrees with itself", "no pair was asked again yet"),
    ("known_right", "known answers right", "no pair with a known answer yet"),
    ("left", "takes the left", ""),
    ("ties", "ties", ""),
)


@routes.get("/judges")
def judges(here: Here, who: Reader) -> Response:
    found = summarise(here.store)
    raters = sorted(found.raters, key=lambda one: (one.simulated, -one.votes))
    rows = [row_of(one) for one in raters]
    return show(here, who, "judges", rows=rows, team=found.agreement, ceiling=found.ceiling)


def row_of(one: Assessment) -> dict[str, Any]:
    """The figures as they are told, with a track for each share."""
    shares = [(title, told(getattr(one, key)), drawn(title, getattr(one, key)), empty) for key, title, empty in SHARES]
    return {
        "name": one.rater,
        "simulated": one.simulated,
        "votes": f"{one.votes:,}",
        "skipped": f"{one.skips:,} skipped" if one.skips else "",
        "shares": shares,
        "seconds": f"{one.seconds:.1f} s" if one.seconds is not None else "–",
        "paced": "in the median" if one.seconds is not None else "no time was taken",
        "drift": f"{100 * one.drift:+.0f} points" if one.drift is not None else "–",
        "drifted": "of agreement, later against earlier" if one.drift is not None else "too little to compare",
        "flags": [flag.reason for flag in one.flags],
    }


def told(found: Interval | None) -> str:
    return f"{found.rate:.0%}" if found else "–"


def drawn(label: str, found: Interval | None) -> str:
    if found is None:
        return ""
    told = f"{label}: {found.rate:.0%}, {found.low:.0%} to {found.high:.0%}"
    return charts.track(told, [Mark("aligned", found.rate, found.low, found.high)])


@routes.get("/api/judges")
def figures(here: Here, who: Reader) -> Response:
    """The same as numbers, with 99 % intervals."""
    return Json(plain(summarise(here.store)))
