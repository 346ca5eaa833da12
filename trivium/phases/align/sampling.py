"""Pairs of fresh answers to vote on, and the simulated judge's votes where people have not spoken."""

from collections.abc import Sequence

from trivium.config import Recipe
from trivium.evaluate.tasks import reply_to
from trivium.feedback.judges import SimulatedJudge
from trivium.feedback.store import NewPair, NewVote, Store
from trivium.generate.sampling import Sampling, stream_seed
from trivium.model.transformer import Transformer
from trivium.phases.align.questions import Question
from trivium.records import Message, Pair
from trivium.text.tokenizer import Tokenizer

JUDGE = "simulated judge"


def sample_pairs(
    model: Transformer,
    tokenizer: Tokenizer,
    prompts: Sequence[tuple[Message, ...]],
    recipe: Recipe,
    *,
    round: int,
    fingerprint: str,
    seed: int = 0,
) -> list[tuple[NewPair, tuple[bool, bool]]]:
    """Two answers of the model to each prompt, and whether they ended; pairs with equal answers are left out.

    fingerprint  of the model, kept with the pair
    """
    asked = [prompt for prompt in prompts for _ in range(2)]
    seeds = [stream_seed(recipe.seed, 5, round, seed, i) for i in range(len(asked))]
    sampling = Sampling(temperature=recipe.votes.temperature, max_new_tokens=recipe.align.max_new_tokens)
    replies = reply_to(model, tokenizer, asked, sampling, seeds=seeds)
    return [
        (
            NewPair(prompt, first.text, second.text, round, fingerprint, fingerprint),
            (first.ended, second.ended),
        )
        for prompt, first, second in zip(prompts, replies[::2], replies[1::2], strict=True)
        if first.text != second.text
    ]


def vote_simulated(
    store: Store,
    sampled: Sequence[tuple[NewPair, tuple[bool, bool]]],
    asked: Sequence[Question],
    recipe: Recipe,
) -> int:
    """Let the simulated judge vote on pairs of the questions' prompts; doing it twice changes nothing.

    returns  how many votes there are on these pairs
    """
    golds = {question.prompt: question.gold for question in asked}

    def worth(item: tuple[Message, ...], answer: str) -> float:
        raise AssertionError("scores are given, not asked for")

    judge = SimulatedJudge(score=worth, noise=recipe.votes.noise, seed=recipe.seed, name=JUDGE)
    rater = store.add_rater(JUDGE, simulated=True)
    ids = store.add_pairs([pair for pair, _ in sampled])
    votes = []
    for (pair, (first_ended, second_ended)), pair_id in zip(sampled, ids, strict=True):
        gold = golds[pair.prompt]
        assert gold is not None
        choice = judge.choose(pair.key, gold(pair.first, first_ended), gold(pair.second, second_ended))
        votes.append(NewVote(pair_id, rater.id, choice, idempotency_key=f"{JUDGE}:{pair.key}"))
    return len(store.add_votes(votes))


def import_pairs(store: Store, pairs: Sequence[Pair], *, round: int, rater: str) -> int:
    """Pairs from files become votes of one rater, named after where they came from; twice changes nothing."""
    known = store.add_rater(rater)
    new = [NewPair(pair.prompt, pair.chosen, pair.rejected, round, source=pair.source) for pair in pairs]
    ids = store.add_pairs(new)
    votes = {
        pair_id: NewVote(pair_id, known.id, "tie" if pair.tie else "first", idempotency_key=f"{rater}:{made.key}")
        for pair, made, pair_id in zip(pairs, new, ids, strict=True)
    }
    return len(store.add_votes(list(votes.values())))
