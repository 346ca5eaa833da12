"""Charts as inline SVG: numbers in, markup out. Colours and hover are the page's CSS; no script, no files."""

from collections.abc import Callable, Sequence
from itertools import accumulate, pairwise
from math import ceil, floor, log10
from typing import Literal, NamedTuple

from markupsafe import Markup

from trivium.wording import counted

Point = tuple[float, float]
Scale = Callable[[float], float]

WIDTH, HEIGHT = 360, 196  # user units; the page scales them
LEFT, RIGHT, TOP, BOTTOM = 42, 352, 24, 172
MOST_BUCKETS = 160  # of a raw line; each keeps its lowest and highest value
MOST_STOPS = 60  # places where the pointer finds a value
FEW_POINTS = 24  # up to here each point is marked
FLAT = 1e-6  # differences below this share are no difference
DESCENT = 0.03  # share of a line's first points that may leave the frame: a loss falls from far above


class Series(NamedTuple):
    """One line, x rising. The first of a chart is what the pointer reads."""

    name: str
    points: Sequence[Point]
    style: Literal["line", "raw", "dots"] = "line"


class Mark(NamedTuple):
    """A value on a track from 0 to 1, with its interval where it has one."""

    css: str
    value: float
    low: float | None = None
    high: float | None = None


class Unit(NamedTuple):
    """How values are written: one of them, and one on an axis whose ticks lie `step` apart."""

    told: Callable[[float], str]
    tick: Callable[[float, float], str]


def _decimals(step: float) -> int:
    return max(0, -floor(log10(step) + 1e-9))


def _told(value: float) -> str:
    digits = 3 if abs(value) < 10 else 1 if abs(value) < 1000 else 0
    return f"{value:,.{digits}f}"


NUMBER = Unit(_told, lambda value, step: f"{value:.{_decimals(step)}f}")
SHARE = Unit(lambda value: f"{value:.1%}", lambda value, step: f"{value:.{_decimals(100 * step)}%}")


def ticks(low: float, high: float, *, most: int = 5) -> list[float]:
    """At most `most` round numbers (1, 2 or 5 times a power of ten apart) from low to high; low < high."""
    rough = (high - low) / max(1, most - 1)
    power = 10.0 ** floor(log10(rough))
    step = next(power * nice for nice in (1, 2, 5, 10) if power * nice >= rough * (1 - 1e-9))
    return [round(i * step, 12) for i in range(ceil(low / step - 1e-9), floor(high / step + 1e-9) + 1)]


def smooth(points: Sequence[Point], *, share: float = 0.02) -> list[Point]:
    """The mean of a window of this share of the points around each; centred, so that it does not lag."""
    half = max(1, int(share * len(points) / 2)) if len(points) >= FEW_POINTS else 0
    sums = [0.0, *accumulate(y for _, y in points)]
    smoothed = []
    for i, (x, _) in enumerate(points):
        first, end = max(0, i - half), min(len(points), i + half + 1)
        smoothed.append((x, (sums[end] - sums[first]) / (end - first)))
    return smoothed


def thin(points: Sequence[Point], most: int = MOST_BUCKETS) -> list[Point]:
    """The lowest and the highest point of each of `most` buckets, in their order: spikes stay visible."""
    if len(points) <= 2 * most:
        return list(points)
    edges = [round(i * len(points) / most) for i in range(most + 1)]
    kept: list[Point] = []
    for first, end in pairwise(edges):
        bucket = points[first:end]
        kept += sorted({min(bucket, key=lambda p: p[1]), max(bucket, key=lambda p: p[1])})
    return kept


def bounds(series: Sequence[Series], guides: Sequence[float]) -> tuple[float, float]:
    """The values a chart shows, with some air; of a long line the first descent may leave the frame."""
    values = list(guides)
    for one in series:
        if one.style != "raw" or len(one.points) <= MOST_BUCKETS:  # the spikes of a long line would press it flat
            values += [y for _, y in one.points[int(DESCENT * len(one.points)) :]]
    low, high = min(values), max(values)
    spread = high - low
    air = 0.06 * spread if spread > FLAT * abs(high) else 0.1 * abs(high)
    return low - max(FLAT, air), high + max(FLAT, air)


def shown_range(series: Sequence[Series], unit: Unit, guides: Sequence[tuple[str, float]]) -> tuple[float, float]:
    """The same with the guides of a chart; shares end at 0 and 1."""
    low, high = bounds(series, [height for _, height in guides])
    if unit is SHARE and low < 1 and high > 0:
        return max(low, 0.0), min(high, 1.0)
    return low, high


def _scale(low: float, high: float, start: float, end: float) -> Scale:
    """Values to user units."""
    width = (high - low) or 1.0
    return lambda value: round(start + (end - start) * (value - low) / width, 1)


def _inside(scale: Scale) -> Scale:
    """The same up the chart, with what leaves the frame at its edge."""
    return lambda value: min(BOTTOM, max(TOP, scale(value)))


def line_chart(
    label: str,
    series: Sequence[Series],
    unit: Unit,
    *,
    guides: Sequence[tuple[str, float]] = (),
    along: str = "step",
) -> Markup:
    """Lines over steps, with a readout under the pointer.

    label   what a screen reader says
    series  the first is never empty
    guides  names and heights of dashed lines to compare with
    along   what the readout calls a place across
    """
    drawn = [one for one in series if one.points]
    xs = [x for one in drawn for x, _ in one.points]
    x = _scale(min(0, *xs) if len(xs) > 1 else 0, max(xs), LEFT, RIGHT)
    low, high = shown_range(drawn, unit, guides)
    y = _scale(low, high, BOTTOM, TOP)
    parts = [_grid(x, y, max(xs), low, high, unit), *(_guide(y(height), name) for name, height in guides)]
    behind_first = sorted(drawn, key=lambda one: ("raw", "line", "dots").index(one.style))
    frame = Markup('<svg x="{0}" y="{1}" width="{2}" height="{3}" viewBox="{0} {1} {2} {3}">')  # what leaves it is cut
    parts += [frame.format(LEFT, TOP - 2, RIGHT - LEFT, BOTTOM - TOP + 4)]
    parts += [*(_path(one, x, y) for one in behind_first), Markup("</svg>")]
    parts += [_points(one, x, _inside(y)) for one in behind_first]
    parts.append(_stops(drawn, x, _inside(y), unit, along))
    return _svg(label, WIDTH, HEIGHT, parts)


def _svg(label: str, width: int, height: int, parts: Sequence[Markup]) -> Markup:
    opening = Markup('<svg class="chart" viewBox="0 0 {} {}" role="img" aria-label="{}">')
    return opening.format(width, height, label) + Markup("").join(parts) + Markup("</svg>")


def _grid(x: Scale, y: Scale, last: float, low: float, high: float, unit: Unit) -> Markup:
    across, up = ticks(0, max(last, 1), most=5), ticks(low, high)
    step = up[1] - up[0] if len(up) > 1 else 1.0
    line = Markup('<path class="grid" d="M{} {}H{}"/><text class="tick" x="{}" y="{}" text-anchor="end">{}</text>')
    below = Markup('<text class="tick" x="{}" y="{}" text-anchor="{}">{}</text>')
    lines = [line.format(LEFT, y(v), RIGHT, LEFT - 6, y(v) + 3.5, unit.tick(v, step)) for v in up]
    names = [
        below.format(x(v), BOTTOM + 17, "end" if x(v) > RIGHT - 12 else "middle", f"{v:,.0f}")
        for v in across
        if v == int(v) and v <= last
    ]
    return Markup("").join(lines + names)


def _guide(height: float, name: str) -> Markup:
    return Markup(
        '<path class="guide" d="M{} {}H{}"/><text class="tick guided" x="{}" y="{}" text-anchor="end">{}</text>'
    ).format(LEFT, height, RIGHT, RIGHT, height - 4, name)


def _path(one: Series, x: Scale, y: Scale) -> Markup:
    path = " ".join(f"{x(a)},{y(b)}" for a, b in thin(one.points))
    return Markup('<polyline class="{}" points="{}"/>').format(one.style, path)


def _points(one: Series, x: Scale, y: Scale) -> Markup:
    """Each point of a line that has few."""
    if one.style == "raw" or len(one.points) > FEW_POINTS:
        return Markup("")
    mark = Markup('<circle class="{}" cx="{}" cy="{}" r="2.6"/>')
    return Markup("").join(mark.format(one.style, x(a), y(b)) for a, b in one.points)


def _stops(series: Sequence[Series], x: Scale, y: Scale, unit: Unit, along: str) -> Markup:
    """The readout: of the last step at rest, of the step under the pointer otherwise."""
    main = series[0].points
    every = max(1, ceil(len(main) / MOST_STOPS))
    stops = [*main[: len(main) - 1 : every], main[-1]]
    middles = [LEFT, *((x(a[0]) + x(b[0])) / 2 for a, b in pairwise(stops)), RIGHT]
    band = Markup(
        '<g class="stop"><rect x="{:.1f}" y="0" width="{:.1f}" height="{}"/><path d="M{} {}V{}"/>'
        '<circle cx="{}" cy="{}" r="3.4"/><text x="{}" y="13" text-anchor="end">{}</text></g>'
    )
    read = Markup('<text class="rest" x="{}" y="13" text-anchor="end">{}</text>')
    bands = [
        band.format(
            start, max(0.1, end - start), HEIGHT, x(a), TOP, BOTTOM, x(a), y(b), RIGHT, _read(series, a, unit, along)
        )
        for (a, b), (start, end) in zip(stops, pairwise(middles), strict=True)
    ]
    return Markup("").join([read.format(RIGHT, _read(series, main[-1][0], unit, along)), *bands])


def _read(series: Sequence[Series], step: float, unit: Unit, along: str) -> str:
    """`step 120 · 3.412 · held out 3.520`: of each series the newest value at that step."""
    told = [f"{along} {step:,.0f}" if step == int(step) else f"{along} {step:,.2f}"]
    for i, one in enumerate(series):
        newest = [y for x, y in one.points if x <= step][-1:]
        if newest and one.style != "raw":
            told.append(f"{one.name if i else ''} {unit.told(newest[0])}".strip())
    return " · ".join(told)


def calibration_chart(label: str, bins: Sequence[tuple[float, float, float, float, int]]) -> Markup:
    """How sure (0.5 to 1) beside how often right (0 to 1), with intervals; on the diagonal both are the same.

    bins  (confidence, accuracy, low, high, pairs)
    """
    x, y = _scale(0.5, 1.0, LEFT, RIGHT), _scale(0.0, 1.0, BOTTOM, TOP)
    line = Markup('<path class="grid" d="M{} {}H{}"/><text class="tick" x="{}" y="{}" text-anchor="end">{}</text>')
    below = Markup('<text class="tick" x="{}" y="{}" text-anchor="{}">{}</text>')
    stop = Markup(
        '<g class="stop shown"><rect x="{:.1f}" y="{}" width="16" height="{}"/><path class="whisker" d="M{} {}V{}"/>'
        '<circle cx="{}" cy="{}" r="4"/><text x="{}" y="13" text-anchor="end">{}</text></g>'
    )
    parts = [line.format(LEFT, y(v), RIGHT, LEFT - 6, y(v) + 3.5, f"{v:.0%}") for v in (0, 0.25, 0.5, 0.75, 1)]
    parts += [
        below.format(x(v), BOTTOM + 17, "end" if v == 1 else "middle", f"{v:.0%}") for v in (0.5, 0.6, 0.7, 0.8, 0.9, 1)
    ]
    parts.append(Markup('<path class="guide" d="M{} {}L{} {}"/>').format(LEFT, y(0.5), RIGHT, y(1)))
    for sure, right, low, high, pairs in bins:
        told = f"{sure:.0%} sure · {right:.0%} right of {counted(pairs, 'pair')}"
        at = x(sure)
        parts.append(stop.format(at - 8, TOP, BOTTOM - TOP, at, y(low), y(high), at, y(right), RIGHT, told))
    return _svg(label, WIDTH, HEIGHT, parts)


def track(label: str, marks: Sequence[Mark]) -> Markup:
    """Marks on a line from 0 to 1, for a table's cell."""
    x = _scale(0.0, 1.0, 5, 155)
    parts = [Markup('<path class="grid" d="M5 8H155M5 5V11M80 5V11M155 5V11"/>')]
    for mark in marks:
        if mark.low is not None and mark.high is not None:
            parts.append(Markup('<path class="whisker {}" d="M{} 8H{}"/>').format(mark.css, x(mark.low), x(mark.high)))
    parts += [Markup('<circle class="{}" cx="{}" cy="8" r="4"/>').format(mark.css, x(mark.value)) for mark in marks]
    opening = Markup('<svg class="track" viewBox="0 0 160 16" role="img" aria-label="{}">')
    return opening.format(label) + Markup("").join(parts) + Markup("</svg>")
