"""The run as the page sees it: the journal read as it grows, each phase's curves, what is done, running and to come."""

import threading
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import msgspec

from trivium.config import read_settings, resolve
from trivium.feedback.store import Store
from trivium.report import charts, page, results, words
from trivium.report.charts import SHARE
from trivium.report.page import Figure
from trivium.report.reading import NAMED, PhaseLog, Story, read_models, read_phases, stamp_of, story_of
from trivium.runs import Run
from trivium.studio.work import State

RECENT = 24  # steps by whose speed the time left is told
PHASES_OF = {"base": ("pretrain",), "instruct": ("instruct",), "aligned": ("reward", "imitate", "align")}


class Seen(NamedTuple):
    """What a look found, all of one moment."""

    story: Story | None  # None before the first step
    cursor: str  # names the moment
    changed: set[str]  # the phases that have new lines since the moment that was asked about
    recent: list[dict[str, Any]]  # the newest steps of the phase that is under way, without its evaluations


class Log:
    """A run as it grows, of which only what is new is read. Threads may share it."""

    def __init__(self, run: Run, store: Store) -> None:
        self.run = run
        self._store = store
        self._lines = 0  # read so far; with the epoch it names a moment
        self._epoch = 0  # how often the journal was begun anew: a run that goes on writes some lines again
        self._file = (0, 0)  # inode, bytes read
        self._records: dict[str, list[dict[str, Any]]] = defaultdict(list)
        self._phases: dict[str, PhaseLog] = {}
        self._stale: set[str] = set()  # phases with lines that came after they were summed up
        self._changed_at: dict[str, int] = {}  # the line at which a phase changed last
        self._beside: tuple[tuple[object, ...], Story] | None = None  # what lies beside the journal, and its stamp
        self._lock = threading.Lock()

    def look(self, cursor: str = "") -> Seen:
        """Everything that the run folder tells now.

        cursor  of an earlier look; empty for everything
        """
        votes = self._store.counts()  # before the lock: others need not wait for a database
        with self._lock:
            self._read()
            story = replace(self._story(), votes=votes) if self._records else None
            under_way = current(story) if story else None
            recent = self._last_steps(under_way.name) if under_way else []
            return Seen(story, f"{self._epoch}.{self._lines}", self._changed_since(cursor), recent)

    def _story(self) -> Story:
        stamp = stamp_of(self.run)
        if self._beside is None or self._beside[0] != stamp:
            recipe = resolve(read_settings(self.run.recipe))
            self._beside = stamp, story_of(self.run, recipe, read_models(self.run), [], None)
        told = self._beside[1]
        published = {model.phase for model in told.models}
        for name, records in self._records.items():
            if name in self._stale or not self._phases[name].is_done:
                (self._phases[name],) = read_phases(records, told.recipe, published=published)
        self._stale.clear()
        return replace(told, phases=[self._phases[name] for name in self._records])

    def _changed_since(self, cursor: str) -> set[str]:
        """The phases that have new lines, of those that have been read."""
        epoch, _, lines = cursor.partition(".")
        if epoch != str(self._epoch) or not lines.isdecimal():
            return set(self._records)
        return {name for name, at in self._changed_at.items() if at > int(lines)}

    def _last_steps(self, name: str) -> list[dict[str, Any]]:
        return [record for record in self._records[name][-2 * RECENT :] if "evaluation" not in record][-RECENT:]

    def _read(self) -> None:
        """The lines that are new. A torn last line is left for the next time."""
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
            return
        whole = data[: data.rfind(b"\n") + 1]
        self._file = (found.st_ino, done + len(whole))
        for line in whole.splitlines():
            record = msgspec.json.decode(line, type=dict[str, Any])
            self._lines += 1
            self._stale.add(record["phase"])
            self._records[record["phase"]].append(record)
            self._changed_at[record["phase"]] = self._lines

    def _forget(self) -> None:
        if self._records:
            self._epoch += 1
        self._lines, self._file = 0, (0, 0)
        self._records.clear()
        self._phases.clear()
        self._stale.clear()
        self._changed_at.clear()


def told(seen: Seen, state: State) -> dict[str, Any]:
    """What has changed since the look before, for the story page."""
    story = seen.story
    if story is None:
        return {"cursor": seen.cursor, "state": state_of(seen, state), "stations": [], "phases": []}
    return {
        "cursor": seen.cursor,
        "state": state_of(seen, state),
        "stations": stations(story, state),
        "phases": [phase_of(phase, story) for phase in story.phases if phase.name in seen.changed],
    }


def current(story: Story) -> PhaseLog | None:
    """The phase that is under way, whether somebody is at work on it or not."""
    return next((phase for phase in reversed(story.phases) if not phase.is_done), None)


def state_of(seen: Seen, state: State) -> dict[str, Any]:
    """Where the run stands, in figures and words."""
    story = seen.story
    told: dict[str, Any] = {"working": state.working, "is_ours": state.can_stop, "complaint": state.complaint}
    if story is None:
        title, detail = between(state.doing) if state.working else ("Nothing has been trained yet", "")
        return {**told, "title": title, "detail": detail}
    phase = current(story)
    if phase is not None and phase.planned:
        kind = words.KINDS.get(phase.name.split("-")[0])
        title = f"{kind.roman} {kind.title}" if kind else phase.name
        left = seconds_left(phase, seen.recent)
        share = min(1.0, phase.steps / phase.planned)
        detail = f"step {phase.steps:,} of {phase.planned:,}"
        if not state.working:
            detail = f"paused at {detail}"
        elif left is not None:
            detail += f" · {words.minutes(left)} left"
        return {**told, "title": title, "detail": detail, "share": share, "phase": phase.name}
    if state.working:
        title, detail = between(state.doing)
        return {**told, "title": title, "detail": detail, "phase": ""}
    missing = [name for name in NAMED if name not in {model.name.split(",")[0] for model in story.models}]
    if missing == [NAMED[-1]] and is_refused(story):
        detail = "the reward model is not surely better than chance and than the longer answer; vote more, then go on"
        return {**told, "title": "Paused", "detail": detail, "finished": True}
    if missing or not story.measures:
        return {**told, "title": "Paused", "detail": f"still to come: {', '.join(missing) or 'the examination'}"}
    seconds = story.plan.spent if story.plan else sum(phase.seconds for phase in story.phases)
    return {**told, "title": "Finished", "detail": f"in {words.minutes(seconds)}", "finished": True}


def is_refused(story: Story) -> bool:
    """Whether nothing may learn from the newest reward model: other votes make another, in another round."""
    if not story.rewards:
        return False
    report = story.rewards[-1][1]
    return bool(report["accuracy_low"] <= 0.5 or report["over_longer_low"] <= 0)


def between(doing: str) -> tuple[str, str]:
    """Title and detail where no phase is under way, from what the command line said last: two spaces end a heading."""
    if not doing:
        return "Starting", ""
    heading, gap, rest = doing.partition("  ")
    return (heading, rest.strip()) if gap else ("Preparing", doing)


def seconds_left(phase: PhaseLog, recent: Sequence[dict[str, Any]]) -> float | None:
    """Of the phase, at the speed of its last steps."""
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
