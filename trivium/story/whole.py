"""All of a run: the three phases, the examination, the report, and what to try next."""

import json
from pathlib import Path

import msgspec

from trivium.errors import RewardError
from trivium.evaluate.measures import Measures, models_in
from trivium.phases.align.rules import read_rules
from trivium.publish import write_text
from trivium.runs import Run
from trivium.shelf import stands, weights_fingerprint
from trivium.show import duration
from trivium.story.measure import measure_run, models_of, table_rows
from trivium.story.members import make_members
from trivium.story.rounds import may_align, tell_latest
from trivium.story.stages import make_base, make_instruct
from trivium.story.teller import Teller


def tell_whole(teller: Teller, *, new_round: bool) -> Measures:
    """Every stage that is not done yet; what was measured at the end."""
    run, show = teller.run, teller.show
    if not run.base.exists():  # a function that cannot be found is told before phase I, not after
        read_rules(teller.recipe.align.rewards, Path(teller.recipe.data.folder))
    make_base(teller)
    make_members(teller)
    make_instruct(teller)
    examined = teller.world.from_first(examined_models(run))
    unfinished = bool(examined) and examined != newest_models(run)
    if unfinished and new_round:
        show.say("  the last round was not examined yet: that first, and the same command again begins the next one")
    refusal: RewardError | None = None
    if may_align(teller):
        try:
            tell_latest(teller, begin_next=new_round and not unfinished)
        except RewardError as reason:  # what was learned before is examined all the same
            refusal = reason
    else:
        show.say(f"\nNobody has voted yet. Vote with `trivium vote {run.path}`, then `trivium run {run.path} --round`.")
    if examined and examined == newest_models(run):
        found: Measures = json.loads(run.measures.read_text(encoding="utf-8"))
        show.say(f"{run.path} is finished.")
    else:
        show.heading("Examination", "on held-out data that no phase has seen")
        found = {**measure_run(teller), "weights": newest_models(run)}
        if teller.world.first:
            write_text(run.measures, msgspec.json.format(msgspec.json.encode(found), indent=2).decode() + "\n")
    teller.keep_time()
    _conclude(teller, found)
    if refusal:
        raise refusal
    return found


def examined_models(run: Run) -> list[str]:
    """The weights that the examination has seen, by their fingerprints; none where there was no examination."""
    if not run.measures.exists():
        return []
    found = json.loads(run.measures.read_bytes())
    known = models_in(found) == [name for name, folder in models_of(run).items() if stands(folder)]
    weights: list[str] = found.get("weights") or (newest_models(run) if known else [""])  # an older version wrote none
    return weights


def newest_models(run: Run) -> list[str]:
    """The weights that there are to be examined."""
    return [weights_fingerprint(folder) for folder in models_of(run).values() if stands(folder)]


def _conclude(teller: Teller, found: Measures) -> None:
    run, show = teller.run, teller.show
    samples = [json.loads(line) for line in run.samples.read_bytes().splitlines()]
    answers = {(sample["model"], sample["prompt"]): sample["answer"] for sample in samples}
    asked = list(dict.fromkeys(sample["prompt"] for sample in samples if sample["model"] == "instruct"))
    wrote = dict.fromkeys(sample["model"] for sample in samples)
    rounds = [name for name in wrote if name not in ("base", "instruct")]
    names = [name for name in ("base", "instruct", *rounds[-1:]) if name in wrote]
    show.compare(
        "The same prompts, before and after each phase",
        ["prompt", *names],
        [[prompt, *(answers.get((name, prompt), "") for name in names)] for prompt in asked],
    )
    show.table("On held-out data", *table_rows(found))
    if found.get("votes", {}).get("simulated"):
        show.say("The votes, and the judge of the win rate, are simulated: TinyWorld's judge knows the truth.")
    if teller.dial:
        show.say(f"{duration(teller.dial.spent)} of {duration(60 * teller.dial.minutes)}")
    show.say(f'\nTry next:\n  trivium chat {run.path}\n  trivium fill {run.path} "He was hungry, so he ate the ___."')
    show.say(f"  trivium report {run.path}\n  trivium vote {run.path}   then   trivium run {run.path} --round")
