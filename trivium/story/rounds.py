"""Phase III as stages of a run: votes → reward → aligned, round after round."""

import dataclasses
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from trivium.batch import TokenBatch
from trivium.errors import RunError
from trivium.evaluate.preference import GLANCE
from trivium.feedback.standings import win_matrix
from trivium.feedback.store import LabelledPair, Store
from trivium.feedback.votes import IMPORTED
from trivium.model.hub import load_reward
from trivium.model.transformer import Transformer
from trivium.phases import instruct
from trivium.phases.align import algorithms
from trivium.phases.align.questions import Question, Questions, listed_questions, world_questions
from trivium.phases.align.rollout import Writers
from trivium.phases.align.rules import read_rules
from trivium.phases.align.sampling import import_pairs, sample_pairs, vote_simulated
from trivium.phases.align.task import Replay, Task
from trivium.phases.align.watch import watch
from trivium.plan import choose_pairs
from trivium.publish import write_text
from trivium.records import Dialogue, Message, Pair
from trivium.runs import Round, votes_of
from trivium.shelf import is_done, open_model, parent_at, stands, weights_fingerprint
from trivium.story.keeping import encode, fooled, keep_best, kept_metrics
from trivium.story.stages import dialogue_rows, keep_answers
from trivium.story.teller import Teller, fingerprint_texts
from trivium.story.trusting import NO_VOTES, Votes, is_refused, make_reward, open_scorer, round_up
from trivium.text.corpus import is_judged, load_pairs
from trivium.text.packing import microbatches
from trivium.text.schemas import quiet
from trivium.text.split import held_out as is_held_out
from trivium.text.split import pair_key
from trivium.text.tokenizer import Tokenizer
from trivium.train.phase import Phase
from trivium.train.runner import measured

ATTEMPTS = 4  # to get as many votes as are wanted: equal answers are no pair
REPLAYED = 10_000  # dialogues with answers known to be right, learned on beside the reward


def has_judge(teller: Teller) -> bool:
    """Whether answers are judged by somebody who knows the truth."""
    return is_judged(teller.recipe.data)


def learning_questions(teller: Teller) -> Questions:
    """What the policy is asked while it learns."""
    if has_judge(teller):
        return world_questions(teller.recipe, held_out=False)
    expected = {dialogue.prompt: dialogue.accepted or (dialogue.answer,) for dialogue in teller.dialogues().train}
    return listed_questions(_prompts(teller, held_out=False), expected)


def measuring_questions(teller: Teller) -> list[Question]:
    """Held-out questions for blind comparisons."""
    count = teller.recipe.evaluate.comparisons
    if has_judge(teller):
        ask = world_questions(teller.recipe, held_out=True)
        return [ask(i) for i in range(count)]
    return [Question(prompt, None) for prompt in dict.fromkeys(_prompts(teller, held_out=True))][:count]


def _prompts(teller: Teller, *, held_out: bool) -> list[tuple[Message, ...]]:
    """Of the pairs on file, else of the dialogues."""
    recipe = teller.recipe
    pairs = load_pairs(recipe.data, quiet)
    if pairs.train:
        return [pair.prompt for pair in (pairs.held_out if held_out else pairs.train)]
    dialogues = teller.dialogues()
    return [dialogue.prompt for dialogue in (dialogues.held_out if held_out else dialogues.train)]


def policy_before(teller: Teller, number: int) -> Path:
    """The model that a round starts from: the last round's, in the first round instruct.

    Unless people, who compared both blindly, like the one that the last round started from better: then that one.
    """
    run = teller.run
    if number == 1:
        return run.instruct
    settled = run.round(number).path / "votes.json"
    if settled.exists() and (start := msgspec.json.decode(settled.read_bytes(), type=SettledVotes).start):
        return run.path / start
    last = run.round(number - 1).aligned
    passed_over = not stands(last) or is_beaten(teller, last, number - 1)  # nothing stands where nothing may be learned
    return policy_before(teller, number - 1) if passed_over else last


def is_beaten(teller: Teller, last: Path, number: int) -> bool:
    """Whether blind votes surely prefer the model that a round started from to the one that it made."""
    if not teller.recipe.align.uses_model:
        return False
    with Store.look(_place(teller)) as store:
        matrix = win_matrix(store.comparisons())
    place = {model: i for i, model in enumerate(matrix.models)}
    ours, theirs = (place.get(weights_fingerprint(model)) for model in (last, policy_before(teller, number)))
    rate = matrix.rates[ours][theirs] if ours is not None and theirs is not None else None
    return rate is not None and rate.high < 0.5


def collect_votes(teller: Teller, round: Round) -> Votes:
    """All votes so far; in a world with a judge, fresh answers are sampled and voted on first.

    raises  RunError when nobody has voted
    """
    teller.show.heading(f"III. Align, round {round.number}", "answers that people preferred over others")
    recipe = teller.recipe
    settle_votes(teller)
    settled = _settled_votes(teller, round)
    with Store.open(_place(teller)) as store:
        labelled = store.labelled_pairs(include_simulated=recipe.votes.simulated, among=frozenset(settled.votes))
        counts = store.counts()
    if not labelled:
        _unsettle(teller, round)
        raise RunError(
            f"{teller.run.path}: nobody has voted yet; vote with `trivium vote {teller.run.path}`, "
            f"then `trivium run {teller.run.path} --round`"
        )
    people = counts.votes - counts.simulated_votes
    teller.show.say(f"  {counts.simulated_votes:,} simulated votes and {people:,} others on {counts.pairs:,} pairs")
    train, held_out = part(labelled, recipe.reward.held_out_share)
    apart = [_as_labelled(pair) for pair in load_pairs(recipe.data, quiet).held_out]
    simulated = sum(pair.simulated for pair in labelled)
    return Votes(labelled if apart else train, apart or held_out, settled.fingerprint, simulated)


class SettledVotes(msgspec.Struct):
    """What a round learns from, whoever votes while it learns. In votes.json of the round."""

    fingerprint: str
    votes: list[int]  # ids
    start: str = ""  # the model that it starts from, in the run's folder


def _settled_votes(teller: Teller, round: Round) -> SettledVotes:
    """The votes there are when the round begins; where a judge knows the truth, he votes first, on the first rank."""
    path, recipe = round.path / "votes.json", teller.recipe
    if teller.world.first and not path.exists():
        with Store.open(_place(teller)) as store:
            _gather(teller, round, store)
            round.path.mkdir(parents=True, exist_ok=True)
            votes = [vote.id for vote in store.votes() if recipe.votes.simulated or not vote.simulated]
            start = policy_before(teller, round.number)
            last = teller.run.round(round.number - 1).aligned if round.number > 1 else start
            if start != last and stands(last):
                teller.show.say("  blind votes prefer the model before the last round's: this one starts from it")
            settled = SettledVotes(store.fingerprint(), votes, str(start.relative_to(teller.run.path)))
            write_text(path, msgspec.json.encode(settled).decode())
    teller.world.barrier()
    return msgspec.json.decode(path.read_bytes(), type=SettledVotes)


def _unsettle(teller: Teller, round: Round) -> None:
    """There was nothing to learn from: the votes that are cast from now on are this round's."""
    teller.world.barrier()  # every rank has read what was settled
    if teller.world.first:
        (round.path / "votes.json").unlink()
        with suppress(OSError):
            round.path.rmdir()


def settle_votes(teller: Teller) -> None:
    """How many pairs the simulated judge sees, where the dial still decides it."""
    if teller.is_open("votes.pairs") and teller.dial:
        teller.settle("votes.pairs", choose_pairs(teller.dial.minutes))


def _gather(teller: Teller, round: Round, store: Store) -> None:
    recipe, number = teller.recipe, round.number
    if recipe.data.pairs and number == 1:
        found = load_pairs(recipe.data, teller.show.say)
        import_pairs(store, found.train, round=number, rater=IMPORTED)
    if has_judge(teller) and recipe.votes.simulated:
        source = policy_before(teller, number)
        model, tokenizer = open_model(source, device=teller.compute.device)
        ask, wanted = world_questions(recipe, held_out=False), recipe.votes.pairs
        stamp, votes = weights_fingerprint(source), 0
        for attempt in range(ATTEMPTS):
            first = ((number - 1) * ATTEMPTS + attempt) * wanted
            asked = [ask(first + i) for i in range(min(wanted, 2 * (wanted - votes)))]
            prompts = [question.prompt for question in asked]
            sampled = sample_pairs(model, tokenizer, prompts, recipe, round=number, fingerprint=stamp, seed=attempt)
            votes += vote_simulated(store, sampled[: wanted - votes], asked, recipe)
            if votes >= wanted:
                break
        teller.show.say(
            f"  the simulated judge voted on {votes:,} pairs of fresh answers; "
            f"{recipe.votes.noise:.0%} of its votes are wrong"
        )


def part(labelled: Sequence[LabelledPair], share: float) -> tuple[list[LabelledPair], list[LabelledPair]]:
    """Votes to learn from and votes to measure on, parted by prompt."""
    apart = [is_held_out(pair_key(pair.decided()), share=share) for pair in labelled]
    if len(labelled) > 1 and len(set(apart)) == 1:  # too few to part by chance
        apart = [i == 0 for i in range(len(labelled))]
    train = [pair for pair, out in zip(labelled, apart, strict=True) if not out]
    return train, [pair for pair, out in zip(labelled, apart, strict=True) if out]


def _as_labelled(pair: Pair) -> LabelledPair:
    preference = 0.5 if pair.tie else 1.0
    return LabelledPair(pair.prompt, pair.chosen, pair.rejected, preference, 1, False, 0, pair.source, 0)


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


def make_aligned(teller: Teller, round: Round, votes: Votes) -> Path:
    """Learning from the reward model and what else the recipe rewards, or from the votes themselves → aligned."""
    if teller.is_done(round.aligned, f"align-{round.number:03}"):
        return round.aligned
    device = teller.compute.device
    scorer = open_scorer(teller, round) if teller.recipe.align.uses_model else None
    rules = read_rules(teller.recipe.align.rewards, Path(teller.recipe.data.folder))
    start = make_imitator(teller, round, votes)
    model, tokenizer = open_model(start, device=device)
    reference = open_model(start if start == round.imitator else teller.run.instruct, device=device).model
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
        )

    if teller.recipe.align.algorithm == "dpo":
        settle_passes(teller, len(votes.train))
    teller.settle_steps("align", build, model)
    teller.train(build, model)
    phase = f"align-{round.number:03}"
    report = keep_best(teller, build(model), model, start)
    report.fooled = fooled(writers(model), measure, teller.recipe.seed)
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


def name_repeated(teller: Teller) -> dict[str, str]:
    """For the lineage: what is learned again."""
    known, sources = repeated(teller), ", ".join(teller.recipe.data.answers)
    return {f"right answers, again: {sources}": fingerprint_texts(d.answer for d in known)} if known else {}


def settle_passes(teller: Teller, votes: int) -> None:
    """How many steps go through the votes as often as the recipe says, where the dial leaves it open."""
    if teller.is_open("align.steps"):
        settings = teller.recipe.align
        teller.settle("align.steps", max(1, round_up(settings.epochs * votes * 2 / settings.rows_per_step)))


def name_of(round: Round) -> str:
    return "aligned" if round.number == 1 else f"aligned {round.number}"


def make_imitator(teller: Teller, round: Round, votes: Votes) -> Path:
    """Where reinforcement starts. Of pairs on file the preferred answers are imitated first: the policy, which learned
    other answers, would hardly ever write them, and what is never written is never rewarded."""
    before = policy_before(teller, round.number)
    folder = round.imitator
    epochs = teller.recipe.align.imitation_epochs
    preferred = [
        Dialogue(
            (*pair.prompt, Message("assistant", pair.first if pair.preference > 0.5 else pair.second)), pair.source
        )
        for pair in votes.train
        if pair.preference != 0.5 and pair.source != "sampled"
    ]
    if round.number > 1 or not preferred or not epochs:
        return before
    if is_done(folder):
        return folder
    model, tokenizer = open_model(before, device=teller.compute.device)
    rows = dialogue_rows(teller, tokenizer, preferred)
    rows_per_step = teller.recipe.instruct.rows_per_step
    steps = max(1, round_up(epochs * rows.rows_per_epoch(0) / rows_per_step))
    quarter = {"steps": steps, "learning_rate": teller.recipe.instruct.learning_rate / 4}
    quarter["matrix_learning_rate"] = teller.recipe.instruct.matrix_learning_rate / 4
    recipe = teller.recipe.model_copy(update={"instruct": teller.recipe.instruct.model_copy(update=quarter)})
    teller.show.say(f"  imitating {len(preferred):,} preferred answers first: {steps} steps")

    def build(model: Transformer) -> Phase[TokenBatch]:
        return instruct.build(
            recipe,
            model,
            tokenizer,
            rows.row,
            preferred[:200],
            teller.objective,
            teller.compute,
            teller.world,
            name=f"imitate-{round.number:03}",
        )

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


def has_votes(teller: Teller) -> bool:
    """Whether anybody has voted in this run."""
    with Store.look(_place(teller)) as store:
        return store.counts().votes > 0


def _place(teller: Teller) -> Path | str:
    """Where the votes are kept."""
    return votes_of(teller.run, teller.recipe.votes.database)
