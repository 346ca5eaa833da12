"""The run as the page sees it: the journal read as it grows, each phase's curves, what is done, running and to come."""

import threading
from collections import defaultdict
from typing import Any

import msgspec

from trivium.config import read_settings, resolve
from trivium.errors import RunError
from trivium.report import charts, page, results, words
from trivium.report.charts import SHARE
from trivium.report.page import Figure
from trivium.report.reading import NAMED, PhaseLog, Story, read_models, read_phases, story_of
from trivium.runs import Run
from trivium.studio.work import State

RECENT = 24  # steps by whose speed the time left is told
PHASES_OF = {"base": ("pretrain",), "instruct": ("instruct",), "aligned": ("reward", "imitate", "align")}


class Log:
    """The journal of a run, of which only what is new is read. Threads may share it."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.lines = 0  # read so far; with `epoch` it names a state
        self.epoch = 0  # how often the journal was begun anew: a run that goes on writes some lines again
        self._file = (0, 0)  # inode, bytes read
        self._records: dict[str, list[dict[str, Any]]] = defaultdict(list)
        self._phases: dict[str, PhaseLog] = {}
        self._changed_at: dict[str, int] = {}  # the line at which a phase changed last
        self._lock = threading.Lock()

    def look(self) -> Story | None:
        """Everything that the run folder tells now; None before the first step."""
        with self._lock:
            touched = self._read()
            if not self._records:
                return None
            recipe, models = resolve(read_settings(self.run.recipe)), read_models(self.run)
            published = {model.phase for model in models}
            for name, records in self._records.items():
                if name in touched or not self._phases[name].is_done:
                    (self._phases[name],) = read_phases(records, recipe, published=published)
            return story_of(self.run, recipe, models, [self._phases[name] for name in self._records])

    def changed_since(self, cursor: str) -> set[str]:
        """The phases that have new lines, of those that have been read."""
        epoch, _, lines = cursor.partition(".")
        if epoch != str(self.epoch) or not lines.isdecimal():
            return set(self._records)
        return {name for name, at in self._changed_at.items() if at > int(lines)}

    @property
    def cursor(self) -> str:
        return f"{self.epoch}.{self.lines}"

    def last_steps(self, name: str) -> list[dict[str, Any]]:
        """The newest steps of a phase, without its evaluations."""
        return [record for record in self._records[name][-2 * RECENT :] if "evaluation" not in record][-RECENT:]

    def _read(self) -> set[str]:
        """The phases of the lines that are new. A torn last line is left for the next time."""
        try:
            with self.run.journal.open("rb") as file:
                found = self.run.journal.stat()
                inode, done = self._file
                if found.st_ino != inode or found.st_size < done:
                    self._forget()
                    done = 0
                file.seek(done)
                data = file.read()
        except FileNotFoundError:
            self._forget()
            return set()
        whole = data[: data.rfind(b"\n") + 1]
        self._file = (found.st_ino, done + len(whole))
        touched = set()
        for line in whole.splitlines():
            record = msgspec.json.decode(line, type=dict[str, Any])
            self.lines += 1
            touched.add(record["phase"])
            self._records[record["phase"]].append(record)
            self._changed_at[record["phase"]] = self.lines
        return touched

    def _forget(self) -> None:
        if self._records:
            self.epoch += 1
        self.lines, self._file = 0, (0, 0)
        self._records.clear()
        self._phases.clear()
        self._changed_at.clear()


def told(log: Log, state: State, cursor: str) -> dict[str, Any]:
    """What has changed since the cursor, for the story page.

    cursor  what an earlier answer called so; empty for everything
    """
    story = log.look()
    if story is None:
        return {"cursor": log.cursor, "state": state_of(None, log, state), "stations": [], "phases": []}
    changed = log.changed_since(cursor)
    return {
        "cursor": log.cursor,
        "state": state_of(story, log, state),
        "stations": stations(story, state),
        "phases": [phase_of(phase, story) for phase in story.phases if phase.name in changed],
    }


def current(story: Story) -> PhaseLog | None:
    """The phase that is under way, whether somebody is at work on it or not."""
    return next((phase for phase in reversed(story.phases) if not phase.is_done), None)


def state_of(story: Story | None, log: Log, state: State) -> dict[str, Any]:
    """Where the run stands, in figures and words."""
    told: dict[str, Any] = {"working": state.working, "is_ours": state.can_stop, "complaint": state.complaint}
    if story is None:
        return {**told, "title": "Starting" if state.working else "Nothing has been trained yet", "detail": ""}
    phase = current(story)
    if phase is not None and phase.planned:
        kind = words.KINDS.get(phase.name.split("-")[0])
        title = f"{kind.roman} {kind.title}" if kind else phase.name
        left = seconds_left(log, phase)
        share = min(1.0, phase.steps / phase.planned)
        detail = f"step {phase.steps:,} of {phase.planned:,}"
        if state.working:
            detail += f" · {words.minutes(left)} left" if left is not None else ""
        return {**told, "title": title, "detail": detail, "share": share, "phase": phase.name}
    if state.working:
        return {**told, "title": state.doing or "Between two phases", "detail": "", "phase": ""}
    missing = [name for name in NAMED if name not in {model.name.split(",")[0] for model in story.models}]
    if missing or not story.measures:
        return {**told, "title": "Paused", "detail": f"still to come: {', '.join(missing) or 'the examination'}"}
    seconds = story.plan.spent if story.plan else sum(phase.seconds for phase in story.phases)
    return {**told, "title": "Finished", "detail": f"in {words.minutes(seconds)}", "finished": True}


def seconds_left(log: Log, phase: PhaseLog) -> float | None:
    """Of the phase, at the speed of its last steps."""
    recent = log.last_steps(phase.name)
    if not recent or phase.planned is None:
        return None
    per_step: float = sum(record["seconds"] for record in recent) / len(recent)
    return (phase.planned - phase.steps) * per_step


def stations(story: Story, state: State) -> list[dict[str, Any]]:
    """Text, base, instruct, aligned: the report's road, and how far each part of it is walked."""
    made = {model.name.split(",")[0] for model in story.models}
    under_way = current(story)
    told = []
    for station in results.road(story):
        status, share = "done", 1.0
        if station.name != "text" and station.name not in made:
            status, share = "to come", 0.0
        if under_way and under_way.planned and under_way.name.split("-")[0] in PHASES_OF.get(station.name, ()):
            status = "running" if state.working else "paused"
            share = min(1.0, under_way.steps / under_way.planned)
        told.append(station._asdict() | {"status": status, "share": share})
    return told


def phase_of(phase: PhaseLog, story: Story) -> dict[str, Any]:
    """A phase with its charts, thinned to what a screen can show."""
    chapter = page.chapter(phase, story)
    return {
        "name": chapter.name,
        "title": chapter.title,
        "roman": chapter.kind.roman,
        "css": chapter.kind.css,
        "told": chapter.kind.told,
        "facts": chapter.facts,
        "done": phase.is_done,
        "figures": [figure_of(figure) for figure in chapter.figures],
    }


def figure_of(figure: Figure) -> dict[str, Any]:
    low, high = charts.shown_range([one for one in figure.lines if one.points], figure.unit, figure.guides)
    return {
        "title": figure.title,
        "told": figure.told,
        "label": figure.label,
        "share": figure.unit is SHARE,
        "range": [low, high],
        "lines": [
            {
                "name": one.name,
                "style": one.style,
                "points": [[x, float(f"{y:.6g}")] for x, y in charts.thin(one.points)],
            }
            for one in figure.lines
            if one.points
        ],
        "guides": [{"name": name, "height": height} for name, height in figure.guides],
    }


def require_story(log: Log) -> Story:
    """raises  RunError where no step was taken yet"""
    story = log.look()
    if story is None:
        raise RunError(f"{log.run.path}: no step has been taken yet; start it on the story page")
    return story
