"""What each round of phase III learned from and what it changed, in figures with their intervals."""

from collections.abc import Set
from typing import Any, NamedTuple

import msgspec
from markupsafe import Markup

from trivium.evaluate.preference import GLANCE
from trivium.feedback.agreement import wilson_interval
from trivium.feedback.standings import WinMatrix, win_matrix
from trivium.feedback.store import Store
from trivium.publish import MANIFEST, file_fingerprint
from trivium.report import charts
from trivium.report.charts import Mark
from trivium.report.reading import WEIGHTS, Story
from trivium.runs import Round, Run


class Row(NamedTuple):
    name: str
    value: str
    meaning: str
    track: Markup | str = ""


class Told(NamedTuple):
    number: int
    rows: list[Row]


def told(run: Run, story: Story, store: Store) -> list[Told]:
    """Every round that has begun, the newest first."""
    won, people = win_matrix(store.comparisons()), store.cast_by_people()
    return [
        Told(round.number, [*rows_of(round, story, people), *blind_rows(run, round, won)])
        for round in reversed(run.rounds())
    ]


def learned_from(round: Round, people: Set[int]) -> tuple[int, str]:
    """How many votes a round learns from, and who cast them: nothing is said where people cast them all.

    people  the votes that people cast
    """
    settled = round.path / "votes.json"
    votes = msgspec.json.decode(settled.read_bytes(), type=dict[str, Any])["votes"] if settled.exists() else []
    simulated = len(votes) - len(people & set(votes))
    return len(votes), "" if not simulated else "simulated" if simulated == len(votes) else f"{simulated:,} simulated"


def blind_rows(run: Run, round: Round, matrix: WinMatrix) -> list[Row]:
    """How often people preferred this round's model to the one before it."""
    before = run.round(round.number - 1).aligned if round.number > 1 else run.instruct
    if not all((folder / MANIFEST).exists() for folder in (round.aligned, before)):
        return []
    place = {model: i for i, model in enumerate(matrix.models)}
    ours, theirs = (place.get(file_fingerprint(folder, WEIGHTS)) for folder in (round.aligned, before))
    won = matrix.rates[ours][theirs] if ours is not None and theirs is not None else None
    rival = "instruct" if round.number == 1 else f"round {round.number - 1}"
    name = "in your votes"
    if won is None:
        return [Row(name, "–", f"not compared with {rival} yet; every fourth pair to vote on does so blindly")]
    told = f"of blind votes it beats {rival}, {won.low:.0%} to {won.high:.0%}"
    return [Row(name, f"{won.rate:.0%}", told, charts.track(name, [Mark("aligned", won.rate, won.low, won.high)]))]


def rows_of(round: Round, story: Story, people: Set[int]) -> list[Row]:
    rows = []
    votes, whose = learned_from(round, people)
    if votes:
        rows.append(Row("votes", f"{votes:,}", f"it learns from{whose and f', {whose}'}"))
    report = dict(story.rewards).get(round.number)
    if report:
        interval = Mark("aligned", report["accuracy"], report["accuracy_low"], report["accuracy_high"])
        ceiling = f"; {report['ceiling']:.0%} is the most that is possible" if report.get("ceiling") else ""
        rows.append(
            Row(
                "reward model",
                f"{report['accuracy']:.0%}",
                f"of held-out votes, {report['accuracy_low']:.0%} to {report['accuracy_high']:.0%}{ceiling}",
                charts.track("Agreement with held-out votes", [interval]),
            )
        )
    log = story.phase(f"align-{round.number:03}")
    if log and log.evaluations.get("win_rate"):
        rows.append(win_row(round, story, log.evaluations["win_rate"][-1][1]))
    if log and log.evaluations.get("kl"):
        rows.append(Row("moved", f"{log.evaluations['kl'][-1][1]:.2f} nats", "from instruct"))
    if not log:
        rows.append(Row("policy", "to come", "reinforcement learning has not begun"))
    return rows


def win_row(round: Round, story: Story, last: float) -> Row:
    """Over instruct: by the examination for the newest round, else by the glance along the way."""
    found = story.measures.get("aligned", {})
    newest = story.measures.get("votes", {}).get("round") == round.number
    if newest and found.get("win_rate") is not None:
        rate, low, high = found["win_rate"], found["win_rate_low"], found["win_rate_high"]
    else:
        rate = last
        compared = min(GLANCE, story.recipe.evaluate.comparisons)
        low, high = wilson_interval(rate * compared, compared)
    judge = ", by the simulated judge" if story.judge_is_simulated else ""
    track = charts.track("Win rate over instruct", [Mark("aligned", rate, low, high)])
    return Row("beats instruct", f"{rate:.0%}", f"of blind comparisons, {low:.0%} to {high:.0%}{judge}", track)
