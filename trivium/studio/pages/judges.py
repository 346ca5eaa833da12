"""The judges' page: how far raters agree, how they vote, what somebody should look at. Nobody's votes are left out."""

from typing import Any

from fastapi import APIRouter
from starlette.responses import Response

from trivium.feedback.agreement import Interval, ceiling_range
from trivium.feedback.raters import RaterStatistics, rater_statistics, team_agreement
from trivium.report import charts
from trivium.report.charts import Mark
from trivium.studio.auth import Reader
from trivium.studio.studio import Here, Json, show

routes = APIRouter()


@routes.get("/judges")
def judges(here: Here, who: Reader) -> Response:
    votes = here.store.votes()
    team = team_agreement(votes)
    return show(
        here,
        who,
        "judges",
        rows=[row_of(one) for one in rater_statistics(votes)],
        team=team,
        ceiling=ceiling_range(team.rate) if team else None,
    )


def row_of(one: RaterStatistics) -> dict[str, Any]:
    """The figures as they are told, with a track for each share."""
    return {
        "name": one.name,
        "simulated": one.simulated,
        "votes": f"{one.votes:,}",
        "skipped": f"{one.skipped:,} skipped" if one.skipped else "",
        "ties": f"{one.ties:.0%}",
        "agreement": told(one.agreement),
        "agreement_track": drawn("agrees with others", one.agreement),
        "pairs": f"on {one.agreement_pairs:,} pairs" if one.agreement else "",
        "left": told(one.left),
        "left_track": drawn("takes the left answer", one.left),
        "seconds": f"{one.seconds:.1f} s" if one.seconds is not None else "–",
        "drift": f"{100 * one.drift:+.0f} points" if one.drift is not None else "–",
        "flags": one.flags,
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
    """The same as numbers."""
    return Json({"raters": [one._asdict() for one in rater_statistics(here.store.votes())]})
