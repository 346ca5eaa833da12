"""The summary as one self-contained page: the lines, and the curves behind them."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from markupsafe import Markup

from benchmarks.alignment.curves import Fit, Point
from benchmarks.alignment.summary import Summary, Table, seeds_told, tables
from trivium.publish import write_text
from trivium.report import charts
from trivium.report.charts import NUMBER, SHARE, Series, Unit

SHEET = Path(charts.__file__).with_name("page.css")
PAGE = Markup(
    '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
    "<title>Phase III, measured</title><style>{css}</style><body><main><h1>Phase III, measured</h1>"
    "<p>TinyWorld: all votes and the gold judge are <b>simulated</b>. Intervals: 95 %, over seeds.</p>"
    '{tables}<div class="figures">{figures}</div></main></body></html>'
)
TABLE = Markup('<h2>{}</h2><div class="wide"><table><tr>{}</tr>{}</table></div>')
ROW, HEAD, CELL = Markup("<tr>{}</tr>"), Markup("<th>{}</th>"), Markup("<td>{}</td>")
LOOK = """main { max-width: 76rem } table { font-size: .85rem } h2 { margin: 2.5rem 0 .5rem }
td, th { text-align: left; padding: .4rem 1rem .4rem 0 } .wide { overflow-x: auto } polyline.dots { display: none }"""
FIGURE = Markup("<figure><figcaption><b>{}</b> {}</figcaption>{}</figure>")
DRAWN = 40  # points of a fitted curve
AVERAGED = 14  # dots
ROOT = "root of the KL to instruct, in nats"


def write_page(path: Path, found: Summary) -> None:
    css = Markup(SHEET.read_text(encoding="utf-8") + LOOK)
    made = Markup("").join(TABLE.format(one.title, _cells(HEAD, one.head), _rows(one)) for one in tables(found))
    write_text(path, PAGE.format(css=css, tables=made, figures=Markup("").join(figures(found))))


def _rows(table: Table) -> Markup:
    return Markup("").join(ROW.format(_cells(CELL, row)) for row in table.rows)


def _cells(cell: Markup, texts: Sequence[str]) -> Markup:
    return Markup("").join(cell.format(text) for text in texts)


def figures(found: Summary) -> list[Markup]:
    drawn = []
    for name, pushed in found.pushed.items():
        for what, points, curve in (
            ("Gold", pushed.gold, pushed.gold_fit),
            ("Proxy", pushed.reward, pushed.reward_fit),
        ):
            told = f"Gain by {ROOT}, {seeds_told(pushed.seeds)}. Line: fit of Gao et al. 2022; dots: means seen."
            title = f"{what} reward without a price on KL: {name}"
            drawn += _figure(title, told, fitted(curve, points), averaged(points), NUMBER)
    if found.best:
        points = [(math.sqrt(one["kl"].value), one["win_rate"].value) for one in found.best.values()]
        ends = [(math.sqrt(one.kl.value), one.win_rate.value) for one in found.outcomes.values() if one.kl.value > 0]
        told = f"Win rate against instruct by {ROOT}. Line: best-of-n; dots: " + ", ".join(found.outcomes) + "."
        drawn += _figure("Best-of-n and reinforcement at equal KL", told, sorted(points), sorted(ends), SHARE)
    if found.votes:
        told = (
            "Win rate of the best of n by the votes its judge has seen. Line: where members disagree; dots: at random."
        )
        drawn += _figure("Which pairs to ask about", told, found.votes["active"], found.votes["random"], SHARE)
    if found.rewards:
        points = [(float(agreement), one["share_of_ceiling"].value) for agreement, one in sorted(found.rewards.items())]
        drawn += _figure("Reward model", "Share of the ceiling, by how far two voters agree, in %.", points, [], SHARE)
    return drawn


def _figure(title: str, told: str, line: Sequence[Point], dots: Sequence[Point], unit: Unit) -> list[Markup]:
    if not line:
        return []
    series = [Series("", line), Series("dots", dots, "dots")]
    return [FIGURE.format(title, told, charts.line_chart(title, series, unit, along="at"))]


def averaged(points: Sequence[Point]) -> list[Point]:
    """Means of neighbours, equally many."""
    parts = np.array_split(np.array(points), min(AVERAGED, len(points)))
    return [(float(part[:, 0].mean()), float(part[:, 1].mean())) for part in parts]


def fitted(curve: Fit | None, points: Sequence[Point]) -> list[Point]:
    """The curve as far as there are points; without one, the points themselves."""
    if curve is None or not points:
        return list(points)
    end = points[-1][0]
    return [(end * i / DRAWN, curve.at(end * i / DRAWN)) for i in range(DRAWN + 1)]
