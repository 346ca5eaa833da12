"""The votes that a round of phase III learns from, and the model that it starts from."""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import msgspec

from trivium.errors import RunError
from trivium.feedback.agreement import agreement, implied_accuracy
from trivium.feedback.standings import win_matrix
from trivium.feedback.store import LabelledPair, Store
from trivium.feedback.votes import IMPORTED
from trivium.phases.align.questions import world_questions
from trivium.phases.align.sampling import import_pairs, sample_pairs, vote_simulated
from trivium.plan import choose_pairs
from trivium.publish import write_text
from trivium.records import Pair
from trivium.runs import Round, votes_of
from trivium.shelf import open_model, stands, weights_fingerprint
from trivium.story.teller import Teller
from trivium.story.trusting import Votes
from trivium.text.corpus import is_judged, load_pairs
from trivium.text.schemas import quiet
from trivium.text.split import held_out as is_held_out
from trivium.text.split import pair_key
from trivium.wording import counted

ATTEMPTS = 4  # to get as many votes as are wanted: equal answers are no pair
JUDGED_TWICE = 50  # pairs, of which people's agreement is known to within about .14


def has_judge(teller: Teller) -> bool:
    """Whether answers are judged by somebody who knows the truth."""
    return is_judged(teller.recipe.data)


def policy_before(teller: Teller, number: int) -> Path:
    """The model that a round starts from: the last round's, in the first round instruct.

    Unless people, who compared both blindly, like the one that the last round started from better: then that one.
    """
    run = teller.run
    if number == 1:
        return run.instruct
    round = run.round(number)
    if (round.path / "votes.json").exists() and (start := _settled(round).start):
        return run.path / start
    last = run.round(number - 1).aligned
    passed_over = not stands(last) or is_beaten(teller, last, number - 1)  # nothing stands where nothing may be learned
    return policy_before(teller, number - 1) if passed_over else last


def is_beaten(teller: Teller, last: Path, number: int) -> bool:
    """Whether blind votes surely prefer the model that a round started from to the one that it made."""
    with Store.look(votes_place(teller)) as store:
        matrix = win_matrix(store.comparisons())
    place = {model: i for i, model in enumerate(matrix.models)}
    ours, theirs = (place.get(weights_fingerprint(model)) for model in (last, policy_before(teller, number)))
    rate = matrix.rates[ours][theirs] if ours is not None and theirs is not None else None
    return rate is not None and rate.high < 0.5


def collect_votes(teller: Teller, round: Round) -> Votes:
    """All votes so far; in a world with a judge, fresh answers are sampled and voted on first.

    Where files hold pairs out, these are measured on, and no vote on their prompts is learned from, however it came.
    raises  RunError when nobody has voted
    """
    teller.show.heading(f"III. Align, round {round.number}", "answers that people preferred over others")
    recipe = teller.recipe
    settle_votes(teller)
    settled = _settled_votes(teller, round)
    with Store.open(votes_place(teller)) as store:
        labelled = store.labelled_pairs(include_simulated=recipe.votes.simulated, among=frozenset(settled.votes))
        counts = store.counts()
    apart = [_as_labelled(pair) for pair in load_pairs(recipe.data, quiet).held_out]
    measured = {pair_key(pair.decided()) for pair in apart}
    labelled = [pair for pair in labelled if pair_key(pair.decided()) not in measured]
    if not labelled:
        _unsettle(teller, round)
        raise RunError(
            f"{teller.run.path}: nobody has voted yet; vote with `trivium vote {teller.run.path}`, "
            f"then `trivium run {teller.run.path} --round`"
        )
    people = counts.votes - counts.simulated_votes
    teller.show.say(f"  {counts.simulated_votes:,} simulated votes and {people:,} others on {counts.pairs:,} pairs")
    if apart:
        return Votes(labelled, apart, settled.fingerprint)  # whose voters nobody knows
    train, held_out = part(labelled, recipe.reward.held_out_share)
    return Votes(train, held_out, settled.fingerprint, ceiling_of(teller, held_out, settled))


class SettledVotes(msgspec.Struct):
    """What a round learns from, whoever votes while it learns. In votes.json of the round."""

    fingerprint: str
    votes: list[int]  # ids
    start: str = ""  # the model that it starts from, in the run's folder
    noise: float | None = None  # share of this round's simulated votes that are wrong
    accuracy: float | None = None  # how often a person's vote is right at most, where enough pairs were judged twice


def ceiling_of(teller: Teller, pairs: Sequence[LabelledPair], settled: SettledVotes) -> float | None:
    """How often even the truth would agree with the votes on these pairs, at most; None where nobody can say."""
    rounds = {pair.round for pair in pairs if pair.simulated}  # of votes that were imported, those of another run
    noises = {n: _settled(r).noise for n in rounds if ((r := teller.run.round(n)).path / "votes.json").exists()}
    mistaken = None if settled.accuracy is None else 1 - settled.accuracy
    shares = [noises.get(pair.round) if pair.simulated else mistaken for pair in pairs]
    known = [share for share in shares if share is not None]
    return 1 - sum(known) / len(known) if known and len(known) == len(shares) else None


def accuracy_of(store: Store) -> float | None:
    """How often a person's vote is right, at most, by how often two of them agree; None where too few pairs tell.

    That all pairs are equally hard is the case in which it is highest: `ceiling_range`.
    """
    cast = [vote for vote in store.votes() if not (vote.simulated or vote.repeat)]
    found = agreement((vote.pair_id, vote.choice) for vote in cast if vote.choice in ("first", "second"))
    return implied_accuracy(found.rate) if found and found.pairs >= JUDGED_TWICE else None


def _settled_votes(teller: Teller, round: Round) -> SettledVotes:
    """The votes there are when the round begins; where a judge knows the truth, he votes first, on the first rank."""
    path, recipe = round.path / "votes.json", teller.recipe
    if teller.world.first and not path.exists():
        with Store.open(votes_place(teller)) as store:
            _gather(teller, round, store)
            round.path.mkdir(parents=True, exist_ok=True)
            votes = [vote.id for vote in store.votes() if recipe.votes.simulated or not vote.simulated]
            start = policy_before(teller, round.number)
            last = teller.run.round(round.number - 1).aligned if round.number > 1 else start
            if start != last and stands(last):
                teller.show.say("  blind votes prefer the model before the last round's: this one starts from it")
            begins = str(start.relative_to(teller.run.path))
            settled = SettledVotes(store.fingerprint(), votes, begins, recipe.votes.noise, accuracy_of(store))
            write_text(path, msgspec.json.encode(settled).decode())
    teller.world.barrier()
    return _settled(round)


def _settled(round: Round) -> SettledVotes:
    return msgspec.json.decode((round.path / "votes.json").read_bytes(), type=SettledVotes)


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
            f"  the simulated judge voted on {counted(votes, 'pair')} of fresh answers; "
            f"{recipe.votes.noise:.0%} of its votes are wrong"
        )


def part(labelled: Sequence[LabelledPair], share: float) -> tuple[list[LabelledPair], list[LabelledPair]]:
    """Votes to learn from and votes to measure on, parted by prompt."""
    apart = [is_held_out(pair_key(pair.decided()), share=share) for pair in labelled]
    if len(set(apart)) == 1:  # too few to part by chance; a single one is learned from
        apart = [i == 0 < len(labelled) - 1 for i in range(len(labelled))]
    train = [pair for pair, out in zip(labelled, apart, strict=True) if not out]
    return train, [pair for pair, out in zip(labelled, apart, strict=True) if out]


def _as_labelled(pair: Pair) -> LabelledPair:
    preference = 0.5 if pair.tie else 1.0
    return LabelledPair(pair.prompt, pair.chosen, pair.rejected, preference, 1, False, 0, pair.source, 0)


def has_votes(teller: Teller) -> bool:
    """Whether anybody has voted in this run."""
    with Store.look(votes_place(teller)) as store:
        return store.counts().votes > 0


def votes_place(teller: Teller) -> Path | str:
    """Where the votes are kept."""
    return votes_of(teller.run, teller.recipe.votes.database)
