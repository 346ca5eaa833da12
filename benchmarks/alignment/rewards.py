"""Reward models against the truth, best-of-n under them, and what it saves to ask where they disagree."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from benchmarks.alignment.foundation import MEMBERS, Floats, Fresh, Scale, noise_at, trial
from trivium.config import Settings
from trivium.evaluate.preference import compare
from trivium.evaluate.tasks import Reply, reply_to
from trivium.feedback.pairs import Candidate, choose_pairs
from trivium.feedback.store import LabelledPair
from trivium.generate.sampling import Sampling, stream_seed
from trivium.model.heads import add_reward_head
from trivium.phases.align import reward, trust
from trivium.phases.align.examine import gold_scores, golden_of
from trivium.phases.align.questions import Question
from trivium.phases.align.scorer import Scorer, as_ensemble
from trivium.shelf import open_model
from trivium.story.collecting import collect_votes
from trivium.story.members import seed_of, trunk_of
from trivium.story.rounds import measuring_questions
from trivium.story.teller import Teller
from trivium.story.trusting import EPOCHS, make_reward, open_scorer
from trivium.train.loop import train

Record = dict[str, Any]
FEWER = 1500  # fresh pairs, where many models are asked
CHOSEN_FROM = 16  # answers, likewise


def settings_of(agreement: int, scale: Scale, *, members: int = 1) -> Settings:
    """members  more than one are combined by their worst case"""
    return {
        "compute": {"threads": scale.threads},
        "votes": {"pairs": scale.pairs, "noise": noise_at(agreement)},
        "reward": {
            "members": members,
            "combine": "worst" if members > 1 else "mean",
            "learning_curve": False,
            "steps": max(1, EPOCHS * scale.pairs * 85 // 100 // 32),  # but for ties, of which there are few
            "warmup_steps": 2,
        },
        "align": {"gate": False},
        "evaluate": {"comparisons": scale.comparisons},
    }


def judged(teller: Teller) -> Scorer:
    """The reward model of the first round, made where it is missing."""
    round = teller.run.round(1)
    make_reward(teller, round, collect_votes(teller, round))
    return open_scorer(teller, round)


def try_reward(foundation: Path, place: Path, fresh: Fresh, seed: int, agreement: int, scale: Scale) -> Record:
    """How near a reward model comes to what votes of this agreement allow, on pairs whose truth is known."""
    noise = noise_at(agreement)
    with trial(foundation, place, seed, settings_of(agreement, scale)) as teller:
        scorer = judged(teller)
        report = trust.read_report(teller.run.round(1).reward_report.read_bytes())
    margin, longer = (found.numpy().astype(np.float64) for found in scorer.of_pairs(fresh.pairs))
    truth, even = np.sign(fresh.gap), margin - report.length_slope * longer
    votes = np.where(np.random.default_rng(seed).random(len(truth)) < noise, -truth, truth)
    accuracy = float((margin * votes > 0).mean())
    sure = trust.confidence(np.abs(margin), report.temperature, report.mistaken_votes)
    return {
        "truth": float((margin * truth > 0).mean()),
        "accuracy": accuracy,
        "ceiling": 1 - noise,
        "share_of_ceiling": accuracy / (1 - noise),
        "ece": trust.calibration_error(trust.calibration(sure, margin * votes > 0)),
        "length_correlation": trust.partial_correlation(margin, longer, fresh.gap),
        "truth_debiased": float((even * truth > 0).mean()),
        "length_correlation_debiased": trust.partial_correlation(even, longer, fresh.gap),
        "longer_wins": float(((longer * votes > 0) + 0.5 * (longer == 0)).mean()),
        "pairs": len(truth),
    }


class Sampled(NamedTuple):
    """Answers of instruct, so many to each question, from which a reward model chooses."""

    questions: list[Question]
    replies: list[Reply]  # those to the first question, those to the second, ...
    gold: Tensor  # (questions, answers)
    plain: list[float]  # the gold of one answer to each, against which the chosen are compared

    def best_of(self, scorer: Scorer, counts: Sequence[int]) -> list[Record]:
        """Of the first n answers the one that the reward model likes best; KL = log n - (n - 1) / n."""
        each = self.gold.shape[1]
        prompts = [question.prompt for question in self.questions for _ in range(each)]
        proxy = scorer.rewards(prompts, [reply.text for reply in self.replies]).view(-1, each)
        return [self._chosen(proxy, n) for n in counts]

    def _chosen(self, proxy: Tensor, n: int) -> Record:
        best = proxy[:, :n].argmax(1, keepdim=True)
        taken = self.gold.gather(1, best)[:, 0].tolist()
        return {
            "n": n,
            "kl": math.log(n) - (n - 1) / n,
            "gold": sum(taken) / len(taken),
            "reward": float(proxy.gather(1, best).mean()),
            "win_rate": compare(taken, self.plain).rate,
        }


def sample(teller: Teller, seed: int, each: int) -> Sampled:
    questions = measuring_questions(teller)
    model, tokenizer = open_model(teller.run.instruct)
    asked = [question for question in questions for _ in range(each)]
    seeds = [stream_seed(seed, 9, i) for i in range(len(asked))]
    replies = reply_to(model, tokenizer, [q.prompt for q in asked], Sampling(max_new_tokens=96), seeds=seeds)
    worth = torch.tensor(golden_of(asked, replies)).view(-1, each)
    return Sampled(questions, replies, worth, gold_scores(model, tokenizer, questions, seed))


def try_best_of(foundation: Path, place: Path, seed: int, agreement: int, scale: Scale) -> Record:
    """Of 2, 4, 8, … answers of instruct the one that the reward model likes best."""
    with trial(foundation, place, seed, settings_of(agreement, scale)) as teller:
        scorer, sampled = judged(teller), sample(teller, seed, scale.best_of)
    counts = [2**i for i in range(1, scale.best_of.bit_length())]
    plain = sampled.plain
    return {"points": sampled.best_of(scorer, counts), "gold_of_instruct": sum(plain) / len(plain)}


def try_votes(foundation: Path, place: Path, fresh: Fresh, seed: int, agreement: int, scale: Scale) -> Record:
    """What so many votes are worth, on pairs drawn at random, and where three members disagree.

    Each way a list of (votes, accuracy against the truth, win rate against instruct of the best of 16 of its answers).
    """
    with trial(foundation, place, seed, settings_of(agreement, scale)) as teller:
        votes, sampled = (
            collect_votes(teller, teller.run.round(1)),
            sample(teller, seed, min(scale.best_of, CHOSEN_FROM)),
        )
        pool = [pair for pair in [*votes.train, *votes.held_out] if pair.preference != 0.5]
        some = fresh.some(FEWER)
        return {way: grow(teller, pool, some, sampled, scale, way, seed) for way in ("random", "active")}


def grow(
    teller: Teller, pool: list[LabelledPair], fresh: Fresh, sampled: Sampled, scale: Scale, way: str, seed: int
) -> list[tuple[int, float, float]]:
    """As the votes become more; both ways begin with the same ones."""
    order = np.random.default_rng(seed).permutation(len(pool)).tolist()
    known, rest = order[: scale.asked], order[scale.asked :]
    found = []
    while True:
        scorer = taught(teller, [pool[i] for i in known])
        right = scorer.of_pairs(fresh.pairs)[0].numpy() * fresh.gap > 0
        (chosen,) = sampled.best_of(scorer, [sampled.gold.shape[1]])
        found.append((len(known), float(right.mean()), chosen["win_rate"]))
        if len(known) >= 0.6 * len(pool):  # beyond, nothing is left to choose from
            return found
        if way == "active":
            margins: Floats = scorer.of_pairs_by_member([pool[i] for i in rest]).T.numpy().astype(np.float64)
            prompts = [pool[i].prompt[-1].content for i in rest]
            each = [Candidate(place, 0, 1) for place in range(len(rest))]
            picks = choose_pairs(prompts, each, margins, count=scale.asked, random_share=0.0, seed=seed)
            more = [rest[pick.candidate] for pick in picks]
        else:
            more = rest[: scale.asked]
        known += more
        rest = [i for i in rest if i not in set(more)]


def taught(teller: Teller, pairs: list[LabelledPair], members: int = MEMBERS - 1) -> Scorer:
    """Members that have learned from these votes, twice over."""
    models = []
    for number in range(1, members + 1):
        trunk, tokenizer = open_model(trunk_of(teller, number))
        steps = max(1, 2 * len(pairs) // 32)
        settings = teller.recipe.reward.model_copy(update={"steps": steps, "warmup_steps": 2})
        recipe = teller.recipe.model_copy(update={"seed": seed_of(teller.recipe, number), "reward": settings})
        model = add_reward_head(trunk, recipe.seed)
        phase = reward.build(recipe, model, tokenizer, pairs, [], teller.compute, teller.world, name="votes")
        for _ in train(phase, teller.world, steps=range(steps)):
            pass
        models.append(model.requires_grad_(False))
    settings = teller.recipe.reward.model_copy(update={"combine": "mean"})
    return Scorer(models[0], tokenizer, teller.compute, ensemble=as_ensemble(models, settings))
