"""`trivium feedback`: the votes of a run, from files, to files, and what they come to."""

from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from trivium.flags import AsJson, RunFolder, print_json

feedback = App(name="feedback", help="The votes of a run: from files, to files, and what they come to.")


@feedback.command(name="import")
def import_feedback(
    run: RunFolder,
    files: Annotated[list[Path], Parameter(help="votes or pairs: .jsonl, .json, .csv or .parquet")],
    *,
    round: Annotated[
        int | None, Parameter(help="the round that learns from pairs of other tools  [default: the next]")
    ] = None,
    json: AsJson = False,
) -> None:
    """Votes from files in the common preference schemas. The same file twice changes nothing."""
    from trivium.story.exchanging import import_feedback, told_of_import

    found = import_feedback(run, files, round=round)
    print_json(found) if json else print(told_of_import(found))


@feedback.command(name="export")
def export_feedback(
    run: RunFolder,
    *,
    to: Annotated[
        str, Parameter(help="trl, trl-conversational, trl-implicit, trl-unpaired, hh, arena, argilla, votes")
    ],
    out: Annotated[Path | None, Parameter(help="a .jsonl file  [default: stdout]")] = None,
) -> None:
    """Every vote as a row of a common preference schema; imported again, they are the same votes."""
    from trivium.story.exchanging import export_feedback

    export_feedback(run, to=to, out=out)


@feedback.command(name="stats")
def feedback_stats(run: RunFolder, *, json: AsJson = False) -> None:
    """Who voted how, how far the voters agree, and what the votes are enough for."""
    from trivium.story.exchanging import feedback_stats, print_stats

    found = feedback_stats(run)
    print_json(found) if json else print_stats(found)
