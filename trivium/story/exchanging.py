"""`trivium feedback`: votes of a run from files, to files, and what they come to."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from trivium.config import read_settings, resolve
from trivium.errors import ConfigError, DataError, did_you_mean
from trivium.feedback.exchange import KINDS, carried, rows_of
from trivium.feedback.importing import import_votes, read_votes
from trivium.feedback.stats import summarise
from trivium.feedback.store import Store
from trivium.publish import write_text
from trivium.runs import Run, read_run, votes_of
from trivium.show import Show
from trivium.story.choosing import coming_round
from trivium.wording import counted

Found = dict[str, Any]


def import_feedback(run: Path, files: Sequence[Path], *, round: int | None) -> Found:
    """All files are read before a vote is stored.

    raises  RunError when there is no such run; DataError at the first row that cannot be used
    """
    here = read_run(run)
    number = coming_round(here) if round is None else round
    if number < 1:
        raise ConfigError(f"round = {number}: must be at least 1")
    for file in files:
        if not file.is_file():
            raise DataError(f"{file}: there is no such file")
    votes = [vote for file in files for vote in read_votes(file, round=number)]
    with Store.open(_place(here)) as store:
        new = import_votes(store, votes)
    return {"votes": len(votes), "new": new, "raters": sorted({vote.rater for vote in votes})}


def _place(run: Run) -> Path | str:
    """Where the votes are kept; a run that was only begun has no recipe yet."""
    settings = read_settings(run.recipe) if run.recipe.exists() else {}
    return votes_of(run, resolve(settings).votes.database)


def told_of_import(found: Found) -> str:
    known = found["votes"] - found["new"]
    return f"{counted(found['new'], 'vote')} imported" + (f", {known:,} were there already" if known else "")


def export_feedback(run: Path, *, to: str, out: Path | None) -> None:
    """Rows to a file, or to stdout. Raises ConfigError for an unknown schema."""
    kind = next((kind for kind in KINDS if kind == to), None)
    if kind is None:
        raise ConfigError(f"to = {to}: must be one of {', '.join(KINDS)}{did_you_mean(to, KINDS)}")
    with Store.look(_place(read_run(run))) as store:
        lines = [msgspec.json.encode(row).decode("utf-8") + "\n" for row in rows_of(carried(store), kind)]
    if out is None:
        sys.stdout.writelines(lines)
    else:
        write_text(out, "".join(lines))


def feedback_stats(run: Path) -> Found:
    """What the votes come to, as one object."""
    with Store.look(_place(read_run(run))) as store:
        found: Found = plain(summarise(store))
    return found


def plain(value: Any) -> Any:
    """Records become objects, all the way down."""
    if hasattr(value, "_asdict"):
        return {name: plain(inner) for name, inner in value._asdict().items()}
    if isinstance(value, dict):
        return {name: plain(inner) for name, inner in value.items()}
    return [plain(inner) for inner in value] if isinstance(value, list | tuple) else value


def print_stats(found: Found) -> None:
    show = Show(stderr=False)
    people = found["votes"] - found["simulated"]
    print(
        f"{counted(found['votes'], 'vote')}: {people:,} of people, {found['simulated']:,} simulated; "
        f"{found['withdrawn']:,} more were withdrawn, {counted(found['waiting'], 'pair')} waiting."
    )
    if not found["votes"]:
        return
    rounds = [
        [
            str(one["round"]),
            f"{one['votes']:,}",
            f"{one['simulated']:,}",
            f"{one['pairs']:,}",
            _counted(one["policies"]),
            _counted(one["choices"]),
        ]
        for one in found["rounds"]
    ]
    show.table("By round", ["round", "votes", "simulated", "pairs", "chosen", "choices"], rounds)
    names = ["rater", "votes", "skipped", "agreement", "consistency", "known right", "seconds", "left", "ties"]
    shares = ("agreement", "consistency", "known_right")
    rows = [
        [
            one["rater"],
            f"{one['votes']:,}",
            f"{one['skips']:,}",
            *(_share(one[name]) for name in shares),
            "" if one["seconds"] is None else f"{one['seconds']:.1f}",
            _share(one["left"]),
            _share(one["ties"]),
        ]
        for one in found["raters"]
    ]
    show.table("By rater (99% intervals)", names, rows)
    for one in found["raters"]:
        for flag in one["flags"]:
            print(f"look at {one['rater']}: {flag['reason']}")
    if found["agreement"]:
        print(f"Raters agree on {_share(found['agreement'])} of {counted(found['agreement']['pairs'], 'pair')}.")
    if found["ceiling"]:
        low, high = found["ceiling"]
        print(f"Against single votes a reward model can be right in {low:.0%} to {high:.0%}, not more.")
    goal = found["goal"]
    if people < goal["votes"]:
        print(f"{goal['votes'] - people:,} more votes of people are {goal['meaning']} ({goal['votes']:,}).")


def _counted(choices: dict[str, int]) -> str:
    return ", ".join(f"{count:,} {choice.replace('_', ' ')}" for choice, count in sorted(choices.items()))


def _share(share: dict[str, float] | None) -> str:
    return f"{share['rate']:.0%} ({share['low']:.0%} to {share['high']:.0%})" if share else ""
