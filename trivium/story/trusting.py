"""The reward model as a stage of a run: votes → a model that scores answers, and whether it may be learned from."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from trivium.batch import LabelBatch, PairBatch
from trivium.compute import Compute
from trivium.config import Recipe, RewardConfig
from trivium.errors import RewardError
from trivium.feedback.store import LabelledPair
from trivium.model.heads import RewardModel, add_reward_head
from trivium.model.hub import load_reward
from trivium.phases.align import reward, trust
from trivium.phases.align.scorer import Scorer, as_ensemble
from trivium.plan import GATE_FROM_MINUTES
from trivium.records import Label, Pair
from trivium.runs import Round
from trivium.shelf import open_model, parent_at, stands
from trivium.story.members import make_members, seed_of, trunk_of
from trivium.story.teller import Teller
from trivium.text.labels import read_labels
from trivium.text.split import pair_key
from trivium.text.tokenizer import Tokenizer
from trivium.train.loop import train
from trivium.train.phase import Phase
from trivium.wording import counted

EPOCHS = 2  # over the votes, where the recipe does not say how many steps


class Votes(NamedTuple):
    """The votes a round learns from, parted by prompt."""

    train: list[LabelledPair]
    held_out: list[LabelledPair]
    fingerprint: str
    ceiling: float | None = None  # the most that even the truth would agree with those held out; None when unknown


NO_VOTES = Votes([], [], "")


def make_reward(teller: Teller, round: Round, votes: Votes) -> Path:
    """Instruct + votes → a reward model, or several, and the report that says how far to trust them."""
    numbers, name = range(1, teller.recipe.reward.members + 1), f"reward-{round.number:03}"
    if teller.is_done(round.reward, name):
        for number in numbers:
            teller.run.forget(member_phase(round, number))
        return round.reward
    make_members(teller)
    labels = labelled_answers(teller.recipe, votes.held_out)
    teller.settle_passes("reward", EPOCHS * (len(votes.train) + len(labels)))
    teller.show.say(
        f"  reward model: {counted(len(votes.train), 'vote')} to learn from, {len(votes.held_out):,} held out, "
        f"{counted(teller.recipe.reward.steps, 'step')}{told_members(teller)}"
    )
    others = [learn_member(teller, round, votes, labels, number) for number in numbers[1:]]
    model, tokenizer = teach_member(teller, round, votes, labels, 1), Tokenizer.load(teller.run.instruct)
    first = Scorer(model, tokenizer, teller.compute)
    scorer = first._replace(ensemble=as_ensemble([model, *others], teller.recipe.reward)).levelled(votes.train)
    debias = teller.recipe.reward.debias_length
    report = trust.measure(scorer, votes.held_out, ceiling=votes.ceiling, debias_length=debias)
    if teller.recipe.reward.learning_curve and len(votes.train) > 1:
        half = learned_from_half(teller, votes, labels, tokenizer)
        report = report._replace(curve=trust.learning_curve(first, half, votes.held_out, votes=len(votes.train)))
    publish_reward(teller, round.reward, name, model, votes, report)
    tell_trust(teller, report)
    return round.reward


def member_phase(round: Round, number: int) -> str:
    return f"reward-{round.number:03}" + (f"-{number}" if number > 1 else "")


def told_members(teller: Teller) -> str:
    """From where the members differ, where there are several."""
    count = teller.recipe.reward.members
    if count == 1:
        return ""
    apart = sum(teller.run.member(number).exists() for number in range(2, count + 1))
    since = "pretraining" if apart == count - 1 else "the votes on only, as they share one base"
    return f"; {count} members that differ from {since}, their {teller.recipe.reward.combine} counts"


def teach_member(teller: Teller, round: Round, votes: Votes, labels: list[Label], number: int) -> RewardModel:
    """A member that has learned from the votes, in an order of its own."""
    recipe = teller.recipe.model_copy(update={"seed": seed_of(teller.recipe, number)})
    trunk, tokenizer = open_model(trunk_of(teller, number), device=teller.compute.device)

    def build(model: RewardModel) -> Phase[PairBatch | LabelBatch]:
        return reward.build(
            recipe,
            model,
            tokenizer,
            votes.train,
            votes.held_out,
            teller.compute,
            teller.world,
            name=member_phase(round, number),
            labels=labels,
        )

    model = add_reward_head(trunk, recipe.seed).to(teller.compute.device)
    teller.train(build, model)
    return model.requires_grad_(False)


def learn_member(teller: Teller, round: Round, votes: Votes, labels: list[Label], number: int) -> RewardModel:
    """The same, kept in a folder of its own; opened where it is done."""
    folder = round.member(number)
    if not teller.is_done(folder, member_phase(round, number)):
        model = teach_member(teller, round, votes, labels, number)
        publish_reward(teller, folder, member_phase(round, number), model, votes, None, number=number)
        return model
    return load_reward(folder, device=teller.compute.device).requires_grad_(False)


def publish_reward(
    teller: Teller,
    folder: Path,
    phase: str,
    model: RewardModel,
    votes: Votes,
    report: trust.RewardReport | None,
    *,
    number: int = 1,
) -> None:
    """report  of all members, beside the first"""
    values = report._asdict() if report else {}
    teller.publish(
        folder,
        model,
        Tokenizer.load(teller.run.instruct),
        phase=phase,
        parent=parent_at(trunk_of(teller, number)),
        data={"feedback.db": votes.fingerprint},
        votes=votes.fingerprint,
        metrics={name: value for name, value in values.items() if isinstance(value, (int, float))},
        beside={"report.json": encode_report(report)} if report else {},
        recipe=teller.recipe.model_copy(update={"seed": seed_of(teller.recipe, number)}),
    )


def encode_report(report: trust.RewardReport) -> str:
    curve = report.curve._asdict() if report.curve else None
    return msgspec.json.encode(report._asdict() | {"curve": curve}).decode()


def labelled_answers(recipe: Recipe, held_out: Sequence[LabelledPair]) -> list[Label]:
    """Single answers that were called good or bad, but for those to prompts whose votes only measure.

    held_out  those votes
    """
    folder, measured = Path(recipe.data.folder), {pair_key(pair.decided()) for pair in held_out}
    found = read_labels([str(folder / name) for name in recipe.reward.labels], bad_rows=recipe.data.bad_rows)
    return [each for each in found if pair_key(Pair(each.prompt, each.answer, "", each.source)) not in measured]


def learned_from_half(teller: Teller, votes: Votes, labels: list[Label], tokenizer: Tokenizer) -> Scorer:
    """A reward model of half of the votes, which is not kept: how much better the whole is tells what votes buy.

    labels  are learned from by both, as often
    """
    recipe, half = teller.recipe, votes.train[::2]
    share = (len(half) + len(labels)) / (len(votes.train) + len(labels))
    steps = max(1, round(share * recipe.reward.steps))
    recipe = recipe.model_copy(update={"reward": recipe.reward.model_copy(update={"steps": steps})})
    model = add_reward_head(open_model(teller.run.instruct).model, recipe.seed).to(teller.compute.device)
    phase = reward.build(recipe, model, tokenizer, half, [], teller.compute, teller.world, name="half", labels=labels)
    for _ in train(phase, teller.world, steps=range(steps)):
        pass
    return Scorer(model, tokenizer, teller.compute)


def tell_trust(teller: Teller, report: trust.RewardReport) -> None:
    told = f", at most {report.ceiling:.3f} is possible against such votes" if report.ceiling else ""
    teller.show.say(
        f"  agrees with {report.accuracy:.3f} of held-out votes ({report.accuracy_low:.3f} to "
        f"{report.accuracy_high:.3f}){told}; the longer answer wins {report.longer_wins:.3f}; "
        f"calibration error {report.ece:.3f} at temperature {report.temperature:.2f}, "
        f"{report.mistaken_votes:.0%} of the votes being mistaken"
    )
    if len(report.members) > 1:
        alone = ", ".join(f"{accuracy:.3f}" for accuracy in report.members)
        teller.show.say(f"  its members alone agree with {alone}, and differ by {report.spread:.2f} on average")
    if curve := report.curve:
        teller.show.say(
            f"  {curve.votes:,} more votes would buy about {100 * curve.gain:.1f} points "
            f"({100 * curve.gain_low:.1f} to {100 * curve.gain_high:.1f}), if they buy what the last half bought"
        )


def open_scorer(teller: Teller, round: Round) -> Scorer:
    """The round's reward models, to be learned from.

    raises  RewardError when nothing should learn from them, unless align.gate says otherwise
    """
    report = trust.read_report(round.reward_report.read_bytes())
    if reason := trust.objection(report):
        if refuses(teller, report):
            raise RewardError(
                f"{round.reward}: {reason}; vote more (`trivium vote {teller.run.path}`, then `trivium run "
                f"{teller.run.path} --round`), or set align.gate = false"
            )
        told = "as align.gate = false says"
        if teller.dial and teller.dial.lenient:
            told = f"as it is better on the few votes that a run of less than {GATE_FROM_MINUTES:g} minutes holds out"
        teller.show.say(f"  do not trust this reward model: {reason}. Learned from all the same, {told}")
    return scorer_of(round, teller.recipe.reward, teller.compute)


def is_refused(teller: Teller, round: Round) -> bool:
    """Whether the round has reward models from which nothing may learn: other votes make others."""
    if not (teller.recipe.align.uses_model and stands(round.reward)):
        return False
    report = trust.read_report(round.reward_report.read_bytes())
    return bool(trust.objection(report)) and refuses(teller, report)


def refuses(teller: Teller, report: trust.RewardReport) -> bool:
    """Whether nothing may learn from a reward model that is not surely better than chance and than the longer answer.

    Where it is the dial that left the gate open, as few votes are held out, nothing may if it is no better on those.
    """
    lenient = teller.dial is not None and teller.dial.lenient
    return teller.recipe.align.gate or (lenient and not trust.is_better(report))


def scorer_of(round: Round, settings: RewardConfig, compute: Compute) -> Scorer:
    """The round's reward models as they are, without the pull of length where that is asked for."""
    report = trust.read_report(round.reward_report.read_bytes())
    folders = [round.member(number + 1) for number in range(max(1, len(report.levels)))]
    members = [load_reward(folder, device=compute.device).requires_grad_(False) for folder in folders]
    slope = report.length_slope if settings.debias_length else 0.0
    ensemble = as_ensemble(members, settings, report.levels)
    return Scorer(members[0], Tokenizer.load(round.reward), compute, slope, ensemble)
