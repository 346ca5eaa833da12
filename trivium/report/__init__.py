"""The report: one self-contained HTML page of a run. It trains nothing, measures nothing and loads no model."""

from pathlib import Path

from trivium.publish import write_text
from trivium.report.page import render
from trivium.report.reading import read_story
from trivium.runs import read_run

__all__ = ["write_report"]


def write_report(run_folder: Path) -> Path:
    """Writes report.html into the run folder, in place of an earlier one; the run may be unfinished or at work.

    raises  RunError when there is no run, or nothing in it to report yet
    """
    run = read_run(run_folder)
    write_text(run.report, render(read_story(run)))
    return run.report
