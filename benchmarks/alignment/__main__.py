"""Phase III measured on TinyWorld, whose judge knows the truth: rewards, reinforcement, over-optimisation, votes.

    python -m benchmarks.alignment [--out OUT] [--run RUN] [--minutes 8] [--seeds 8 [--first 0]] [--only PART …]
                                   [--stop-after 60] [--threads 0] [--data DATA [--pairs NAME …]] [--quick] [--json]

Every trial leaves a record in OUT/records, one whose training diverges too; the same command goes on with the next one,
and says at its end what the records so far come to, of how many seeds, also on a page, OUT/summary.html. --quick has a
folder of its own, OUT/quick, and no record is taken for one that was made at another scale or from other weights. The
seeds share one base and instruct: of RUN, or trained in OUT/foundation for --minutes. Agreement is that of two voters;
all votes are the simulated judge's. DATA holds real preferences (pref_convarg, pref_chitchat_style, pref_blimp), each
learned from a base of its own kind of text, beside the rule that the longer answer wins.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.alignment import real
from benchmarks.alignment.foundation import FULL, MEMBERS, QUICK, Scale, fresh_pairs, make_foundation
from benchmarks.alignment.page import write_page
from benchmarks.alignment.policies import algorithm, length_alone, longer, try_policy, without_price
from benchmarks.alignment.records import Record, Records, stamp_of
from benchmarks.alignment.rewards import try_best_of, try_reward, try_votes
from benchmarks.alignment.summary import Summary, summarise, tell
from trivium.errors import DivergedError, Interrupted, TriviumError

AGREEMENTS = (85, 63, 73, 100)
ALGORITHMS = ("grpo", "rloo", "ppo")
PARTS = ("reward", "policy", "length", "best", "over", "votes", "real")


class Trial(NamedTuple):
    name: str  # of its record
    part: str
    run: Callable[[], Record]


class Bench:
    """All trials, in the order in which they are worth doing: every seed whole before the next begins."""

    def __init__(self, out: Path, foundation: Path, scale: Scale) -> None:
        self.out, self.foundation, self.scale = out, foundation, scale
        self.fresh = fresh_pairs(foundation, out, scale.fresh)

    def trials(self, first: int, seeds: int) -> Iterator[Trial]:
        for seed in range(first, first + seeds):
            yield from self._of_seed(seed)

    def real_trials(self, data: Path, names: list[str], *, quick: bool) -> Iterator[Trial]:
        for name in names:
            yield Trial(f"real-{name}", "real", partial(real.try_pairs, self.out, data, name, quick=quick))

    def _of_seed(self, seed: int) -> Iterator[Trial]:
        base, fresh, scale = self.foundation, self.fresh, self.scale

        def place(name: str) -> Path:
            return self.out / "trials" / f"{name}-{seed}"

        whole = place(f"reward-{AGREEMENTS[0]}")

        def policy(name: str, changes: Any) -> Trial:
            part = {"length": "length"}.get(name, "over" if name.startswith("over") else "policy")
            like = whole if changes.get("reward", {}).get("members", 1) == 1 else None

            def run() -> Record:
                pushed = part == "over"
                return try_policy(base, place(name), seed, AGREEMENTS[0], scale, changes, like=like, unseen=pushed)

            return Trial(f"{name}-{seed}", part, run)

        def reward(agreement: int) -> Trial:
            name = f"reward-{agreement}"
            return Trial(
                f"{name}-{seed}", "reward", lambda: try_reward(base, place(name), fresh, seed, agreement, scale)
            )

        yield reward(AGREEMENTS[0])
        for name in ALGORITHMS:
            yield policy(name, algorithm(name))
        yield policy("grpo-long", longer(scale))
        yield policy("over-one", without_price(scale, members=1))
        yield policy("over-ensemble", without_price(scale, members=MEMBERS))
        yield policy("length", length_alone())
        yield Trial(f"best-{seed}", "best", lambda: try_best_of(base, whole, seed, AGREEMENTS[0], scale))
        yield Trial(f"votes-{seed}", "votes", lambda: try_votes(base, whole, fresh, seed, AGREEMENTS[0], scale))
        for agreement in AGREEMENTS[1:]:
            yield reward(agreement)


def work(trials: Iterator[Trial], records: Records, only: list[str], seconds: float) -> None:
    """Do what has no record yet, until the time is over. A trial whose training diverges has a record that says so; one
    that fails otherwise leaves its reason, and no record."""
    begun = time.monotonic()
    for one in trials:
        if records.has(one.name) or one.part not in only:
            continue
        if time.monotonic() - begun > seconds:
            print(f"{seconds / 60:g} minutes are over; the same command goes on with {one.name}", file=sys.stderr)
            return
        started = time.monotonic()
        print(f"{one.name} …", file=sys.stderr, flush=True)
        try:
            found = one.run()
        except DivergedError as reason:
            print(f"{one.name}: {reason}; it counts as collapsed", file=sys.stderr)
            found = {"collapsed": True, "diverged": str(reason)}
        except TriviumError as reason:
            print(f"{one.name}: {type(reason).__name__}: {reason}", file=sys.stderr)
            continue
        records.keep(one.name, found | {"part": one.part, "seconds": round(time.monotonic() - started, 1)})


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("runs/alignment"))
    parser.add_argument("--run", type=Path, help="a finished run whose base and instruct are taken")
    parser.add_argument("--minutes", type=float, default=8.0, help="of phases I and II, where no run is given")
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--first", type=int, default=0, help="seed: several processes may share OUT and the seeds")
    parser.add_argument("--threads", type=int, default=0, help="of each process; 0: all cores")
    parser.add_argument("--only", nargs="*", default=list(PARTS), choices=PARTS)
    parser.add_argument("--stop-after", type=float, default=1e9, help="minutes after which no trial is begun")
    parser.add_argument("--data", type=Path, help="folder of real preferences")
    parser.add_argument("--pairs", nargs="*", default=list(real.NAMES), choices=list(real.NAMES), help="which of them")
    parser.add_argument("--quick", action="store_true", help="a tiny model, one seed, few steps: does it run?")
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args()
    out: Path = chosen.out / "quick" if chosen.quick else chosen.out
    try:
        foundation = make_foundation(out, run=chosen.run, minutes=chosen.minutes, quick=chosen.quick)
        records = Records(out / "records", stamp_of(foundation, quick=chosen.quick))
        scale = (QUICK if chosen.quick else FULL)._replace(threads=chosen.threads)
        bench = Bench(out, foundation, scale)
        trials = bench.trials(chosen.first, 1 if chosen.quick else chosen.seeds)
        if chosen.data:
            trials = chain(bench.real_trials(chosen.data, chosen.pairs, quick=chosen.quick), trials)
        work(trials, records, chosen.only, 60 * chosen.stop_after)
    except Interrupted:
        print("stopped; the same command goes on from here", file=sys.stderr)
        return 130
    except TriviumError as reason:
        print(f"{type(reason).__name__}: {reason}", file=sys.stderr)
        return 2
    found: Summary = summarise(records.all())
    write_page(out / "summary.html", found)
    print(json.dumps(found.as_json()) if chosen.json else tell(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
