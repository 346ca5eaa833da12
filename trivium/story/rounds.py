"""Phase III as stages of a run: votes → reward → aligned, round after round."""

import dataclasses
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from trivium import plan
from trivium.batch import TokenBatch
from trivium.errors import RewardError
from trivium.evaluate.preference import GLANCE
from trivium.feedback.store import LabelledPair
from trivium.model.hub import load_reward
from trivium.model.transformer import Transformer
from trivium.phases import instruct
from trivium.phases.align import algorithms, trust
from trivium.phases.align.questions import (
    Question,
    Questions,
    known_answers,
    listed_questions,
    prompts_of,
    world_questions,
)
from trivium.phases.align.rollout import Writers
from trivium.phases.align.rules import read_rules
from trivium.phases.align.task import Replay, Task
from trivium.phases.align.watch import watch
from trivium.records import Dialogue, Message
from trivium.runs import Round
from trivium.shelf import is_done, open_model, parent_at, stands
from trivium.story.collecting import collect_votes, has_judge, has_votes, policy_before
from trivium.story.keeping import encode, fooled, keep_best, kept_metrics
from trivium.story.stages import dialogue_rows, keep_answers
from trivium.story.teller import Teller, fingerprint_texts
from trivium.story.trusting import NO_VOTES, Votes, is_refused, make_reward, open_scorer
from trivium.terms import read_term
from trivium.text.corpus import load_pairs
from trivium.text.dialogue import fit_all
from trivium.text.packing import microbatches
from trivium.text.schemas import quiet
from trivium.text.tokenizer import Tokenizer
from trivium.train.phase import Phase
from trivium.train.runner import measured
from trivium.wording import counted

REPLAYED = 10_000  # dialogues with answers known to be right, learned on beside the reward


def learning_questions(teller: Teller) -> Questions:
    """What the policy is asked while it learns."""
    if has_judge(teller):
        return world_questions(teller.recipe, held_out=False)
    return listed_questions(_prompts(teller, held_out=False), known_answers(teller.dialogues().train))


def measuring_questions(teller: Teller) -> list[Question]:
    """Held-out questions for blind comparisons."""
    count = teller.recipe.evaluate.comparisons
    if has_judge(teller):
        ask, different = world_questions(teller.recipe, held_out=True), count
    else:
        prompts = _prompts(teller, held_out=True)
        ask = listed_questions(prompts, known_answers(teller.dialogues().held_out))
        different = len(set(prompts))
    return [ask(i) for i in range(min(count, different))]


def _prompts(teller: Teller, *, held_out: bool) -> list[tuple[Message, ...]]:
    return prompts_of(load_pairs(teller.recipe.data, quiet), teller.dialogues(), held_out=held_out)


def repeated(teller: Teller) -> list[Dialogue]:
    """The dialogues that are learned again, beside the reward: those whose answers are known to be right."""
    if not teller.recipe.align.replay:
        return []
    return [dialogue for dialogue in teller.dialogues().train if dialogue.accepted][:REPLAYED]


def lessons(teller: Teller, tokenizer: Tokenizer) -> Replay | None:
    """Micro-batches of them; None where there are none."""
    known = repeated(teller)
    if not known:
        return None
    recipe, count = teller.recipe, teller.recipe.instruct.microbatch_rows
    length, bad_rows = recipe.model.context_length, recipe.data.bad_rows
    rows = instruct.dialogue_rows(known, tokenizer, recipe.instruct, length, recipe.seed, quiet, bad_rows=bad_rows)

    def lesson(number: int) -> TokenBatch:
        return microbatches(rows.row, number, rows_per_step=count, rank=0, ranks=1, microbatch_rows=count)[0]

    return Replay(lesson, teller.objective)


def forget_aims(teller: Teller, round: Round) -> None:
    """A round after the first takes its steps without what an earlier one aimed at on its way."""
    begun = teller.run.state(f"align-{round.number:03}").exists()
    if not begun and any(stands(each.aligned) for each in teller.run.rounds() if each.number < round.number):
        teller.settle_all({"align": {"aims": ()}})


def make_aligned(
    teller: Teller, round: Round, votes: Votes, *, beside: Callable[[Transformer], dict[str, float]] = lambda _: {}
) -> Path:
    """Learning from the reward model and what else the recipe rewards, or from the votes themselves → aligned.

    beside  what else is measured of the policy along the way
    """
    if teller.is_done(round.aligned, f"align-{round.number:03}"):
        return round.aligned
    device = teller.compute.device
    scorer = open_scorer(teller, round) if teller.recipe.align.uses_model else None
    rules = read_rules(teller.recipe.align.rewards, Path(teller.recipe.data.folder))
    tell_unknown(teller)
    start = make_imitator(teller, round, votes)
    model, tokenizer = open_model(start, device=device)
    reference = open_model(reference_of(teller), device=device).model
    reference.requires_grad_(False)
    reads_reward = teller.recipe.align.algorithm == "ppo" and scorer is not None
    foreseer = load_reward(round.reward, device=device) if reads_reward else None
    learn, measure, replay = learning_questions(teller), measuring_questions(teller), lessons(teller, tokenizer)
    compared = sum(question.gold is not None for question in measure[:GLANCE])

    def writers(model: Transformer) -> Writers:
        return Writers(model, reference, scorer, tokenizer, rules, foreseer)

    def build(model: Transformer) -> Phase[Any]:
        shared = (teller.recipe, writers(model), learn, measure, teller.compute, round.number, teller.world)
        made = algorithms.build(Task(*shared, replay, votes.train, votes.held_out))
        return dataclasses.replace(
            made,
            watch=partial(watch, settings=teller.recipe.watch, comparisons=compared),
            observe=lambda: made.observe() | rules.observed(),
            evaluate=lambda: made.evaluate() | beside(model),
        )

    if teller.recipe.align.algorithm == "dpo":
        teller.settle_passes("align", 2 * teller.recipe.align.epochs * len(votes.train))
    else:
        forget_aims(teller, round)
        teller.settle_steps("align", build, model)
    teller.train(build, model)
    phase = f"align-{round.number:03}"
    report = keep_best(teller, build(model), model, start)
    report.fooled = fooled(writers(model), measure, teller.recipe)
    keep_answers(teller, name_of(round), model, tokenizer, teller.dialogues().held_out)
    teller.publish(
        round.aligned,
        model,
        tokenizer,
        phase=phase,
        parent=parent_at(start),
        data=name_repeated(teller),
        votes=votes.fingerprint or None,
        metrics=kept_metrics(report, measured(teller.run, phase)),
        beside={round.aligned_report.name: encode(report)},
    )
    return round.aligned


def tell_unknown(teller: Teller) -> None:
    """That rules which compare with what is right earn nothing where nobody told what that is."""
    rules = [text for text in teller.recipe.align.rewards if read_term(text).kind in ("exact", "number")]
    if not rules or has_judge(teller):
        return
    asked = set(_prompts(teller, held_out=False))
    if unknown := len(asked - known_answers(teller.dialogues().train).keys()):
        teller.show.say(
            f"  {' and '.join(rules)}: {unknown:,} of {len(asked):,} prompts earn nothing by this, as data.answers has "
            "no answer to them"
        )


def name_repeated(teller: Teller) -> dict[str, str]:
    """For the lineage: what is learned again."""
    known, sources = repeated(teller), ", ".join(teller.recipe.data.answers)
    return {f"right answers, again: {sources}": fingerprint_texts(d.answer for d in known)} if known else {}


def name_of(round: Round) -> str:
    return "aligned" if round.number == 1 else f"aligned {round.number}"


def reference_of(teller: Teller) -> Path:
    """What no round may drift too far from: what the first one started from."""
    first = teller.run.round(1).imitator
    return first if is_done(first) else teller.run.instruct


def preferred_answers(pairs: Sequence[LabelledPair]) -> list[Dialogue]:
    """Those that were not sampled here. Earlier answers of the same dialogue are read, for nobody preferred them."""
    return [
        Dialogue(
            (*pair.prompt, Message("assistant", pair.decided().chosen)),
            pair.source,
            only_read=tuple(i for i, turn in enumerate(pair.prompt) if turn.role == "assistant"),
        )
        for pair in pairs
        if pair.prompt and pair.preference != 0.5 and pair.source != "sampled"
    ]


def fitting(teller: Teller, tokenizer: Tokenizer, pairs: Sequence[LabelledPair]) -> list[Dialogue]:
    """The preferred answers of which something to learn fits into the context."""
    preferred, settings = preferred_answers(pairs), teller.recipe.instruct
    length = teller.recipe.model.context_length
    fitted = fit_all(preferred, tokenizer, length, loss_on=settings.loss_on, bad_rows="skip")
    return [each for each, fits in zip(preferred, fitted, strict=True) if fits.rendered is not None]


def make_imitator(teller: Teller, round: Round, votes: Votes) -> Path:
    """Where reinforcement starts. Of pairs on file the preferred answers are imitated first: the policy, which learned
    other answers, would hardly ever write them, and what is never written is never rewarded."""
    before = policy_before(teller, round.number)
    folder = round.imitator
    epochs = teller.recipe.align.imitation_epochs
    preferred = preferred_answers(votes.train)
    if round.number > 1 or not preferred or not epochs:
        return before
    if is_done(folder):
        return folder
    model, tokenizer = open_model(before, device=teller.compute.device)
    rows, held_out = dialogue_rows(teller, tokenizer, preferred), fitting(teller, tokenizer, votes.held_out)
    steps = plan.steps_over(epochs * rows.rows_per_epoch(0), teller.recipe.instruct.rows_per_step)
    quarter = {"steps": steps, "aims": (), "warmup_steps": plan.choose_warmup("instruct", steps)}
    quarter |= {name: getattr(teller.recipe.instruct, name) / 4 for name in ("learning_rate", "matrix_learning_rate")}
    recipe = teller.recipe.model_copy(update={"instruct": teller.recipe.instruct.model_copy(update=quarter)})
    teller.show.say(f"  imitating {len(preferred):,} preferred answers first: {counted(steps, 'step')}")

    def build(model: Transformer) -> Phase[TokenBatch]:
        made = instruct.build(
            recipe,
            model,
            tokenizer,
            rows.row,
            held_out,
            teller.objective,
            teller.compute,
            teller.world,
            name=f"imitate-{round.number:03}",
        )
        return made if held_out else dataclasses.replace(made, evaluations=0)

    metrics = teller.train(build, model)
    teller.publish(
        folder,
        model,
        tokenizer,
        phase=f"imitate-{round.number:03}",
        parent=parent_at(before),
        data={"preferred answers": votes.fingerprint},
        votes=votes.fingerprint,
        metrics=metrics,
    )
    return folder


def tell_round(teller: Teller, number: int) -> Path:
    """A whole round: votes, reward, aligned."""
    round = teller.run.round(number)
    if teller.is_done(round.aligned, f"align-{number:03}"):
        return round.aligned
    if teller.recipe.align.uses_votes:
        votes = collect_votes(teller, round)
        if teller.recipe.align.uses_model:
            make_reward(teller, round, votes)
    else:
        teller.show.heading(
            f"III. Align, round {number}", "answers that earn " + ", ".join(teller.recipe.align.rewards)
        )
        votes = NO_VOTES
    return make_aligned(teller, round, votes)


def tell_latest(teller: Teller, *, begin_next: bool) -> Path:
    """The round in progress or the next one; where a demonstration's first gave nothing to learn from, one more.

    Of few votes a reward model may by chance be no better than the longer answer. People are then told to vote more;
    a simulated judge just does.
    """
    round = current_round(teller, begin_next=begin_next)
    try:
        return tell_round(teller, round.number)
    except RewardError:
        if round.number > 1 or not is_demonstration(teller) or not is_refused(teller, round):
            raise
    reason = trust.objection(trust.read_report(round.reward_report.read_bytes()))
    teller.show.say(
        f"  nothing learns from this reward model: {reason}. The simulated judge votes on as many pairs again"
    )
    return tell_round(teller, round.number + 1)


def is_demonstration(teller: Teller) -> bool:
    """Whether time is short, nobody said how good a reward model must be, and the votes are simulated."""
    lenient = teller.dial is not None and teller.dial.lenient
    return lenient and has_judge(teller) and teller.recipe.votes.simulated


def may_align(teller: Teller) -> bool:
    """Whether there is, or will be, something that says which answers are better."""
    return bool(
        has_judge(teller) or teller.recipe.data.pairs or has_votes(teller) or not teller.recipe.align.uses_votes
    )


def current_round(teller: Teller, *, begin_next: bool = False) -> Round:
    """The round in progress; the next one when a new one is asked for and the last is done, or can never be."""
    rounds = teller.run.rounds()
    if not rounds:
        return teller.run.round(1)
    last = rounds[-1]
    is_over = begin_next and (is_done(last.aligned) or is_refused(teller, last))
    return teller.run.round(last.number + 1) if is_over else last
