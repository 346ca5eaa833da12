"""All records → what they come to, each figure with its number of seeds, as text and as one object."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from benchmarks.alignment.curves import (
    ACCURACY,
    WIN_RATE,
    Fit,
    Mean,
    Point,
    final_over_peak,
    fit,
    gains,
    kept_by_watch,
    mean,
    votes_ratio,
    win_rate_at,
)

Record = dict[str, Any]
ALGORITHMS = ("grpo", "rloo", "ppo", "grpo-long", "length")
SIXTEEN = 16
FURTHER = 5  # times the KL at which a single reward model turns over


class Outcome(NamedTuple):
    """Of an algorithm's seeds; those that diverged count as collapsed, and are in no mean."""

    seeds: int
    win_rate: Mean
    least: float  # of the seeds' win rates
    gold: Mean  # less instruct's
    kl: Mean
    length: Mean
    collapses: int
    best_of: Mean | None  # win rate of best-of-n at the same KL, of the seeds where n suffices
    over_best: Mean | None  # win rate less that, seed by seed
    over_sixteen: Mean | None  # win rate less that of best-of-16, of seeds of which both are known


class Pushed(NamedTuple):
    """A reward that was pushed without a price on KL: all seeds' points, and the curves fitted to them."""

    gold: list[Point]  # (root of the KL, gain)
    reward: list[Point]
    gold_fit: Fit | None
    reward_fit: Fit | None
    final_over_peak: Mean | None
    kept_at: Mean  # nats of KL of what the watch keeps
    seeds: int


class Summary(NamedTuple):
    rewards: dict[int, dict[str, Mean]]  # agreement → figure → mean
    outcomes: dict[str, Outcome]
    pushed: dict[str, Pushed]  # one, ensemble
    best: dict[int, dict[str, Mean]]  # n → kl, win_rate, gold
    votes: dict[str, list[Point]]  # way → mean win rate by votes, of the best of n by such a reward model
    votes_ratio: Mean | None
    votes_ratio_in_accuracy: Mean | None
    real: list[Record]
    diverged: list[str]  # records of trials whose training did, which are in no mean

    def as_json(self) -> Record:
        main = self.rewards.get(85, {})
        ensemble = self.pushed.get("ensemble")
        return {
            **{name: _algorithm(one) for name, one in self.outcomes.items()},
            "reward": {
                key: main[key].value if key in main else None
                for key in ("share_of_ceiling", "ece", "length_correlation")
            },
            "reward_by_agreement": {
                agreement: {key: one._asdict() for key, one in found.items()}
                for agreement, found in self.rewards.items()
            },
            "best_of": {n: {key: one._asdict() for key, one in found.items()} for n, found in self.best.items()},
            "votes_ratio": self.votes_ratio.value if self.votes_ratio else None,
            "votes_ratio_in_accuracy": self.votes_ratio_in_accuracy.value if self.votes_ratio_in_accuracy else None,
            "final_over_peak": ensemble.final_over_peak.value if ensemble and ensemble.final_over_peak else None,
            "kept_at_kl": {name: one.kept_at.value for name, one in self.pushed.items()},
            "turns_over_at_kl": {name: _turn(one) for name, one in self.pushed.items()},
            "real": self.real,
            "diverged": self.diverged,
        }


def _algorithm(one: Outcome) -> Record:
    rate = one.win_rate
    return {
        "seeds": one.seeds,
        "collapses": one.collapses,
        "win_rate": rate.value,
        "low": rate.low,
        "high": rate.high,
        "kl": one.kl.value,
        "best_of_at_equal_kl": one.best_of.value if one.best_of else None,
    }


def _turn(one: Pushed) -> float | None:
    """Nats at which the fitted gold turns over, within what was reached."""
    peak = one.gold_fit.peak if one.gold_fit else None
    return peak**2 if peak and one.gold and peak < one.gold[-1][0] else None


def summarise(records: Sequence[Record]) -> Summary:
    parts: dict[str, dict[str, list[Record]]] = defaultdict(lambda: defaultdict(list))
    lost = [record for record in records if "diverged" in record]
    for record in records:
        if record not in lost:
            parts[record["part"]][_kind(record)].append(record)
    best = {_seed(record): record for record in parts["best"]["best"]}
    asked = parts["votes"]["votes"]
    return Summary(
        rewards={int(name.split("-")[1]): _means(found) for name, found in sorted(parts["reward"].items())},
        outcomes={
            name: _outcome(found, best, diverged=sum(_kind(record) == name for record in lost))
            for name in ALGORITHMS
            if (found := parts["policy"].get(name) or parts["length"].get(name))
        },
        pushed=_both_pushed(parts["over"]),
        best=_best(list(best.values())),
        votes={way: _grown(asked, way) for way in ("random", "active")},
        votes_ratio=_ratios(asked, WIN_RATE),
        votes_ratio_in_accuracy=_ratios(asked, ACCURACY),
        real=[record for found in parts["real"].values() for record in found],
        diverged=[record["name"] for record in lost],
    )


def _kind(record: Record) -> str:
    """`grpo-long-3` → grpo-long"""
    return str(record["name"]).rpartition("-")[0]


def _seed(record: Record) -> int:
    return int(record["name"].rpartition("-")[2])


def _means(records: Sequence[Record]) -> dict[str, Mean]:
    keys = (
        *("truth", "accuracy", "ceiling", "share_of_ceiling", "ece", "length_correlation", "longer_wins"),
        *("truth_debiased", "length_correlation_debiased"),
    )
    return {key: mean([record[key] for record in records]) for key in keys}


def _outcome(records: Sequence[Record], best: Mapping[int, Record], *, diverged: int) -> Outcome:
    beside, above, over = [], [], []
    for record in records:
        if found := best.get(_seed(record)):
            points = [(0.0, 0.5), *((one["kl"], one["win_rate"]) for one in found["points"])]
            if (rate := win_rate_at(points, record["kl"])) is not None:
                beside.append(rate)
                above.append(record["win_rate"] - rate)
            over += [record["win_rate"] - one["win_rate"] for one in found["points"] if one["n"] == SIXTEEN]
    return Outcome(
        len(records) + diverged,
        mean([record["win_rate"] for record in records]),
        min(record["win_rate"] for record in records),
        mean([record["gold"] - record["gold_of_instruct"] for record in records]),
        mean([record["kl"] for record in records]),
        mean([record["length"] for record in records]),
        sum(record["collapsed"] for record in records) + diverged,
        mean(beside) if beside else None,
        mean(above) if above else None,
        mean(over) if over else None,
    )


def _both_pushed(parts: Mapping[str, list[Record]]) -> dict[str, Pushed]:
    """The ensemble as far as five times the KL at which one reward model turns over."""
    one = {"one": _pushed(parts["over-one"])} if parts.get("over-one") else {}
    turn = _turn(one["one"]) if one else None
    found = parts.get("over-ensemble")
    return one | ({"ensemble": _pushed(found, FURTHER * turn if turn else None)} if found else {})


def _pushed(records: Sequence[Record], kl: float | None = None) -> Pushed:
    """kl  how far the watch is followed, in nats; None: to the end"""
    gold, reward = gains(records, "gold"), gains(records, "reward")
    shares = [share for record in records if (share := final_over_peak(record, kl)) is not None]
    kept = mean([kept_by_watch(record, kl)[0]["kl"] for record in records])
    return Pushed(gold, reward, fit(gold), fit(reward), mean(shares) if shares else None, kept, len(records))


def _best(records: Sequence[Record]) -> dict[int, dict[str, Mean]]:
    by_n: dict[int, list[Record]] = defaultdict(list)
    for record in records:
        for one in record["points"]:
            by_n[one["n"]].append(one | {"gold": one["gold"] - record["gold_of_instruct"]})
    return {
        n: {key: mean([one[key] for one in found]) for key in ("kl", "win_rate", "gold")} for n, found in by_n.items()
    }


def _ratios(records: Sequence[Record], column: int) -> Mean | None:
    ratios = [ratio for record in records if (ratio := votes_ratio(record, column))]
    return mean(ratios) if ratios else None


def _grown(records: Sequence[Record], way: str) -> list[Point]:
    by_votes: dict[int, list[float]] = defaultdict(list)
    for record in records:
        for one in record[way]:
            if len(one) > WIN_RATE:
                by_votes[one[0]].append(one[WIN_RATE])
    return [(votes, sum(found) / len(found)) for votes, found in sorted(by_votes.items())]


# As text


class Table(NamedTuple):
    """Figures in rows, as people read them."""

    title: str
    head: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]


def tables(found: Summary) -> list[Table]:
    """Means with their 95 % intervals over seeds, all by the simulated judge; without those that have no rows."""
    made = (_rewards(found), _outcomes(found), _pushes(found), _asking(found), _real(found))
    return [table for table in made if table.rows]


def _rewards(found: Summary) -> Table:
    head = (
        *("voters agree", "seeds", "of the ceiling", "with the truth", "calibration error", "length at equal quality"),
        *("without its pull", "with the truth then", "the longer wins"),
    )
    keys = ("share_of_ceiling", "truth", "ece", "length_correlation", "length_correlation_debiased", "truth_debiased")
    rows = [
        (
            f"{agreement} %",
            str(one["truth"].seeds),
            *(told(one[key], share=key not in keys[2:5]) for key in keys),
            f"{one['longer_wins'].value:.1%}",
        )
        for agreement, one in sorted(found.rewards.items())
    ]
    return Table("Reward models", head, rows)


def _outcomes(found: Summary) -> Table:
    head = (
        *(
            "",
            "seeds",
            "wins against instruct",
            "least",
            "KL, nats",
            "best of n at that KL",
            "above it",
            "above best of 16",
        ),
        *("collapsed", "tokens"),
    )
    rows = [
        (
            name,
            str(one.seeds),
            told(one.win_rate),
            f"{one.least:.1%}",
            f"{one.kl.value:.2f}",
            *(told(beside) if beside else "" for beside in (one.best_of, one.over_best, one.over_sixteen)),
            f"{one.collapses} of {one.seeds}",
            f"{one.length.value:.0f}",
        )
        for name, one in found.outcomes.items()
    ]
    return Table("Reinforcement", head, rows)


def _pushes(found: Summary) -> Table:
    head = ("reward", "seeds", "the gold turns over at", "the watch keeps what is at", "of the peak's gain")
    rows = []
    for name, pushed in found.pushed.items():
        turn = _turn(pushed)
        kept = told(pushed.final_over_peak) if pushed.final_over_peak else ""
        at = f"{told(pushed.kept_at, share=False, digits=1)} nats"
        rows.append((name, str(pushed.seeds), f"{turn:.1f} nats" if turn else "not at all", at, kept))
    return Table("Without a price on KL", head, rows)


def _asking(found: Summary) -> Table:
    head = ("to reach", "seeds", "votes at random for each vote where members disagree")
    ways = (("a win rate, best of n", found.votes_ratio), ("an accuracy", found.votes_ratio_in_accuracy))
    rows = [(name, str(ratio.seeds), told(ratio, share=False)) for name, ratio in ways if ratio]
    return Table("Which pairs to ask about", head, rows)


def _real(found: Summary) -> Table:
    rows = [
        (
            record["name"].removeprefix("real-"),
            f"{record['pairs']:,}",
            f"{record['accuracy']:.1%} ({record['low']:.1%} to {record['high']:.1%})",
            f"{record['longer_wins']:.1%}",
            f"{record['longer_text_wins']:.1%}",
        )
        for record in found.real
    ]
    return Table("Real preferences", ("", "held-out pairs", "reward model", "more tokens", "more characters"), rows)


def seeds_told(count: int) -> str:
    return "1 seed" if count == 1 else f"{count} seeds"


def told(one: Mean, *, share: bool = True, digits: int = 3) -> str:
    def written(value: float) -> str:
        return f"{value:.1%}" if share else f"{value:.{digits}f}"

    between = "" if one.low is None or one.high is None else f" ({written(one.low)} to {written(one.high)})"
    return written(one.value) + between


def tell(found: Summary) -> str:
    lines = ["All votes, and the gold judge, are simulated. Intervals: 95 %, over seeds."]
    for table in tables(found):
        widths = [max(map(len, column)) for column in zip(table.head, *table.rows, strict=True)]
        lines += ["", table.title]
        lines += ["  ".join(map(str.ljust, row, widths)).rstrip() for row in (table.head, *table.rows)]
    if found.diverged:
        lines += ["", f"Diverged, and in no mean: {', '.join(found.diverged)}"]
    return "\n".join(lines)
