"""What a person sees while a run goes on: progress on stderr, one line in the same columns for every phase."""

import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn
from rich.table import Table
from rich.text import Text

LINE_SECONDS = 10.0  # between lines where there is no terminal to redraw
REDRAW_SECONDS = 0.2  # between looks of the bar where there is one
PAGE = 120  # columns where there is no terminal to ask, and COLUMNS does not say


def console_for(*, stderr: bool = False, quiet: bool = False) -> Console:
    """A console that is as wide as its terminal; a pipe or a file is a page wide."""
    console = Console(stderr=stderr, quiet=quiet, highlight=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = PAGE
    return console


class Show:
    """Speaks on stderr while something goes on; results go to stdout."""

    def __init__(self, *, stderr: bool = True, quiet: bool = False) -> None:
        self.console = console_for(stderr=stderr, quiet=quiet)
        self._bar: Progress | None = None
        self._task: Any = None
        self._begun = self._spoken = time.monotonic()
        self._first_step = 0
        self._doing = ""

    def say(self, line: str) -> None:
        self.console.print(Text(printable(line)), style="dim" if line.startswith(" ") else "", soft_wrap=True)

    def warn(self, line: str) -> None:
        self.console.print(Text(printable(f"Warning: {line}.")), style="bold yellow", soft_wrap=True)

    def heading(self, title: str, told: str) -> None:
        self.console.print()
        self.console.print(Text.assemble((title, "bold"), f"  {told}"))

    def begin(self, phase: str, done: int, steps: int) -> None:
        """A phase starts, or goes on from `done`."""
        self._begun = self._spoken = time.monotonic()
        self._first_step = done
        if self.console.is_terminal:
            self._start_bar(phase, done, steps)

    def _start_bar(self, name: str, done: int, total: int | None) -> None:
        self._bar = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[line]}"),
            console=self.console,
            transient=True,
        )
        self._bar.start()
        self._task = self._bar.add_task(name, total=total, completed=done, line="")

    def _bar_to(self, done: int, line: str) -> None:
        assert self._bar is not None
        self._bar.update(self._task, completed=done, line=line)

    @contextmanager
    def watching(self) -> Iterator[Callable[[str, int, int | None], None]]:
        """Tell inside what is done with text, how many bytes are done, and of how many where that is known."""
        try:
            yield self._progress
        finally:
            self.end()

    def _progress(self, doing: str, done: int, total: int | None) -> None:
        now = time.monotonic()
        if doing != self._doing:
            self._doing, self._begun, self._spoken = doing, now, now
        if now - self._spoken < (REDRAW_SECONDS if self.console.is_terminal else LINE_SECONDS):
            return
        self._spoken = now
        speed = done / max(1e-3, now - self._begun)
        left = f"  eta {duration((total - done) / max(1.0, speed))}" if total else ""
        line = f"{done / 1e6:,.0f}{f' of {total / 1e6:,.0f}' if total else ''} MB  {speed / 1e6:.1f} MB/s{left}"
        if not self.console.is_terminal:
            self.say(f"  {doing:<9} {line}")
            return
        if self._bar is None:
            self._start_bar(doing, done, total)
        self._bar_to(done, line)

    def step(self, record: Mapping[str, Any], steps: int) -> None:
        now = time.monotonic()
        done = record["step"] - self._first_step
        left = (steps - record["step"]) * (now - self._begun) / max(1, done)
        line = columns(record, left)
        if self._bar is not None:
            self._bar_to(record["step"], line)
        elif now - self._spoken >= LINE_SECONDS or record["step"] == steps:
            self._spoken = now
            self.say(f"  {record['phase']:<9} {line}")

    def end(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
        self._doing = ""

    def measured(self, record: Mapping[str, Any], evaluation: Mapping[str, float]) -> None:
        found = "  ".join(f"{name.replace('_', ' ')} {number(value)}" for name, value in evaluation.items())
        self.say(f"  step {record['step']:<6} loss {record['loss']:.3f} nats  {found}")

    def quote(self, prompt: str, answer: str) -> None:
        """Something that the model said."""
        told = Text("  ")
        told.append(f"{shorten(prompt, 60)}  ", style="cyan")
        told.append(shorten(answer, 220), style="italic")
        self.console.print(told, soft_wrap=not self.console.is_terminal)

    def compare(self, title: str, names: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """The same prompts answered by several models."""
        table = Table(*names, title=title, title_justify="left", title_style="bold", show_lines=True, expand=True)
        for row in rows:
            table.add_row(*(Text(shorten(cell, 400)) for cell in row))
        self.console.print(table)

    def table(self, title: str, names: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        table = Table(title=title, title_justify="left", title_style="bold")
        for i, name in enumerate(names):
            table.add_column(name, justify="left" if i == 0 else "right")
        for row in rows:
            table.add_row(*row)
        if not self.console.is_terminal:  # where nothing bounds it, no cell is cut short
            unbounded = self.console.options.update(max_width=sys.maxsize)
            self.console.width = max(self.console.width, self.console.measure(table, options=unbounded).maximum)
        self.console.print(table)


def columns(record: Mapping[str, Any], left: float) -> str:
    """One step in the columns that every phase shares."""
    return (
        f"step {record['step']:<6} loss {record['loss']:.3f} nats  "
        f"tokens/s {thousands(record['tokens_per_second']):>6}  lr x{record['learning_rate']:.2f}  eta {duration(left)}"
    )


def thousands(value: float) -> str:
    return f"{value / 1000:.1f}k" if value >= 1000 else f"{value:.0f}"


def duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}m{rest:02}s" if minutes else f"{rest}s"


def number(value: float) -> str:
    return f"{value:.3f}" if abs(value) < 100 else f"{value:,.0f}"


def shorten(text: str, limit: int) -> str:
    """In one line that is safe to show."""
    flat = printable(" ".join(text.split()))
    return flat if len(flat) <= limit else flat[: limit - 1] + "…"


def printable(text: str) -> str:
    """What is safe to show: a model may write any byte, those that steer a terminal too."""
    return "".join(c if c.isprintable() or c in "\n\t" else "\ufffd" for c in text)
