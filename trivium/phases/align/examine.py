"""How a policy is watched while it learns, whatever the algorithm: held-out questions, answered blind."""

from collections.abc import Callable, Sequence

from trivium.config import Recipe
from trivium.evaluate.preference import GLANCE, compare, drift, golden
from trivium.evaluate.tasks import Reply, prompt_ids, reply_to
from trivium.generate.sampling import Sampling, stream_seed
from trivium.model.transformer import Transformer
from trivium.phases.align.questions import Question
from trivium.phases.align.rollout import Writers, reward_answers
from trivium.text.tokenizer import Tokenizer


def examiner(writers: Writers, measure: Sequence[Question], recipe: Recipe) -> Callable[[], dict[str, float]]:
    """Asks the policy, as it is when called, the first held-out questions.

    Found are the mean reward, KL to the reference and entropy per token in nats, length, the shares that end and that
    differ, and where a judge knows the truth what he gives, and the share of comparisons with the reference won.
    """
    asked = list(measure[:GLANCE])
    judged = [question for question in asked if question.gold]
    theirs: list[list[float]] = []

    def examine() -> dict[str, float]:
        if not asked:
            return {}
        model, longest = writers.policy, recipe.align.max_new_tokens
        replies = blind_replies(model, writers.tokenizer, asked, recipe.seed, max_new_tokens=longest)
        prompts = prompt_ids(model, writers.tokenizer, [question.prompt for question in asked])
        moved = drift(model, writers.reference, prompts, replies, writers.tokenizer.pad)
        found = {
            "kl": moved.kl,
            "entropy": moved.entropy,
            "length": sum(len(reply.tokens) for reply in replies) / len(replies),
            "ended": sum(reply.ended for reply in replies) / len(replies),
            "distinct": len({reply.text for reply in replies}) / len(replies),
        }
        if recipe.align.algorithm != "dpo":  # which needs nobody who rewards
            found["reward"] = float(reward_answers(writers, asked, replies).mean())
        if judged:
            if not theirs:
                own = gold_scores(writers.reference, writers.tokenizer, judged, recipe.seed, max_new_tokens=longest)
                theirs.append(own)
            ours = golden_of(judged, [reply for q, reply in zip(asked, replies, strict=True) if q.gold])
            found |= {"win_rate": compare(ours, theirs[0]).rate, "gold": sum(ours) / len(ours)}
        return found

    return examine


def blind_replies(
    model: Transformer, tokenizer: Tokenizer, asked: Sequence[Question], seed: int, *, max_new_tokens: int = 96
) -> list[Reply]:
    """Answers at temperature 1 for a blind comparison: the same random numbers for every model."""
    seeds = [stream_seed(seed, 4, i) for i in range(len(asked))]
    sampling = Sampling(temperature=1.0, max_new_tokens=max_new_tokens)
    return reply_to(model, tokenizer, [question.prompt for question in asked], sampling, seeds=seeds)


def best_replies(writers: Writers, asked: Sequence[Question], recipe: Recipe, count: int) -> list[Reply]:
    """To each question the answer with the highest reward among so many of the reference.

    The baseline that an aligned policy has to beat at equal KL: see `best_of_kl`.
    """
    each = [question for question in asked for _ in range(count)]
    seeds = [stream_seed(recipe.seed, 8, i) for i in range(len(each))]
    sampling = Sampling(temperature=1.0, max_new_tokens=recipe.align.max_new_tokens)
    prompts = [question.prompt for question in each]
    replies = reply_to(writers.reference, writers.tokenizer, prompts, sampling, seeds=seeds)
    best = reward_answers(writers, each, replies).view(-1, count).argmax(-1).tolist()
    return [replies[i * count + place] for i, place in enumerate(best)]


def gold_scores(
    model: Transformer, tokenizer: Tokenizer, asked: Sequence[Question], seed: int, *, max_new_tokens: int = 96
) -> list[float]:
    """What the model's answers are truly worth, by the judges of the questions."""
    return golden_of(asked, blind_replies(model, tokenizer, asked, seed, max_new_tokens=max_new_tokens))


def golden_of(asked: Sequence[Question], replies: Sequence[Reply]) -> list[float]:
    golds = [question.gold for question in asked if question.gold is not None]
    assert len(golds) == len(asked), "every question needs its judge here"
    return golden(golds, replies)
