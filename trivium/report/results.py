"""What a run reached, in figures: the road at the top, the final table, instructions by kind."""

from collections.abc import Sequence
from typing import NamedTuple

from markupsafe import Markup

from trivium.evaluate.measures import Measures, models_in
from trivium.report import charts, words
from trivium.report.charts import NUMBER, SHARE, Mark, Unit
from trivium.report.reading import NAMED, Story
from trivium.wording import counted


class Station(NamedTuple):
    """One stop of the road from text to aligned."""

    css: str
    name: str
    figure: str
    told: str
    simulated: bool
    road: str  # the phase that leads here
    road_told: str


def facts(story: Story) -> list[str]:
    """The line under the title: when, where, how long, how large."""
    shape = story.recipe.model
    told = [f"{words.count(shape.parameters)} parameters"]
    if story.models:
        told.insert(0, max(model.lineage.created for model in story.models)[:10])
    seconds = story.plan.spent if story.plan else sum(phase.seconds for phase in story.phases)
    asked_for = f" of {story.plan.minutes:g} min" if story.plan else ""
    told.append(f"{words.minutes(seconds)}{asked_for}")
    if story.plan:
        machine = story.plan.machine
        told.append(f"{machine.name}, {counted(machine.cores, 'core')}, {machine.memory / 2**30:.0f} GiB")
    elif story.models:
        told.append(story.models[-1].lineage.machine)
    return told


def road(story: Story) -> list[Station]:
    """Text → base → instruct → aligned, with the figure that counts at each."""
    first = story.phase("pretrain")
    data = ", ".join(story.recipe.data.text)
    read = words.count(first.tokens) if first else "0"
    stations = [Station("text", "text", read, f"tokens read, of {data}", False, "", "")]
    for name, (css, phases) in {
        "base": ("base", ("pretrain",)),
        "instruct": ("instruct", ("instruct",)),
        "aligned": ("aligned", ("reward", "imitate", "align")),
    }.items():
        kind = words.KINDS[phases[-1]]
        logs = [phase for phase in story.phases if phase.name.split("-")[0] in phases]
        spent = words.minutes(sum(log.seconds for log in logs)) if logs else "not begun"
        figure, told, simulated = _key_figure(name, story)
        stations.append(Station(css, name, figure, told, simulated, f"{kind.roman} {kind.title.lower()}", spent))
    return stations


def _key_figure(name: str, story: Story) -> tuple[str, str, bool]:
    """Figure, what it is, and whether a simulated judge decided it."""
    found = story.measures.get(name)
    if found is None:
        return _figure_so_far(name, story)
    if name == "base":
        blanks = f"; {found['blank_accuracy']:.0%} of blanks filled" if "blank_accuracy" in found else ""
        return f"{found['bits_per_byte']:.2f}", f"bits per byte{blanks}", False
    if name == "instruct":
        return f"{found['instruction_accuracy']:.0%}", "of unseen instructions done", False
    if found["win_rate"] is None:
        return f"{found['kl']:.2f}", "nats from instruct; nobody compared them yet", False
    interval = f"{found['win_rate_low']:.0%} to {found['win_rate_high']:.0%}"
    return f"{found['win_rate']:.0%}", f"win rate over instruct ({interval})", story.judge_is_simulated


SO_FAR = {
    "base": ("pretrain", "bits_per_byte", "bits per byte, so far"),
    "instruct": ("instruct", "accuracy", "of some unseen instructions done, so far"),
    "aligned": ("align", "win_rate", "win rate over instruct, so far"),
}


def _figure_so_far(name: str, story: Story) -> tuple[str, str, bool]:
    """What was measured last along the way."""
    phase, measure, told = SO_FAR[name]
    points = [p for log in story.phases if log.name.startswith(phase) for p in log.evaluations.get(measure, [])]
    if not points:
        return "–", "not measured yet", False
    value = points[-1][1]
    figure = f"{value:.0%}" if words.unit_of(measure) is SHARE else f"{value:.2f}"
    return figure, told, measure == "win_rate" and story.judge_is_simulated


class Cell(NamedTuple):
    told: str
    interval: str = ""


COLUMNS: Sequence[tuple[str, str, str, Unit]] = (
    ("bits_per_byte", "bits / byte", "less is better", NUMBER),
    ("blank_accuracy", "blanks", "filled right", SHARE),
    ("instruction_accuracy", "instructions", "done as asked", SHARE),
    ("win_rate", "win rate", "over instruct, 95%", SHARE),
    ("kl", "KL, nats", "from instruct", NUMBER),
    ("mean_length", "length", "tokens", NUMBER),
)


def results(story: Story) -> list[tuple[str, list[Cell]]]:
    """The final table: a model per row."""
    rows = []
    for name in models_in(story.measures):
        found = dict(story.measures[name])
        if name == "instruct" and "aligned" in story.measures:
            found["mean_length"] = story.measures["aligned"].get("instruct_mean_length")
        rows.append((name, [_cell(found, key, unit) for key, _, _, unit in COLUMNS]))
    return rows


def _cell(found: Measures, key: str, unit: Unit) -> Cell:
    value = found.get(key)
    if value is None:
        return Cell("no judge" if key in found else "")
    low, high = found.get(f"{key}_low"), found.get(f"{key}_high")
    interval = f"{unit.told(low)} to {unit.told(high)}" if low is not None and high is not None else ""
    return Cell(unit.told(value), interval)


def kinds(found: Measures) -> list[tuple[str, list[tuple[str, str]], Markup]]:
    """Instructions by kind: the kind, a share per model, and all of them on one line."""
    models = [name for name in NAMED if name in found]
    names = sorted({kind for model in models for kind in found[model].get("by_kind", {})})
    rows = []
    for kind in names:
        marks = [Mark(model, found[model]["by_kind"].get(kind, 0.0)) for model in models]
        told = ", ".join(f"{mark.css} {mark.value:.0%}" for mark in marks)
        cells = [(mark.css, f"{mark.value:.0%}") for mark in marks]
        rows.append((kind.replace("_", " "), cells, charts.track(told, marks)))
    return rows
