"""Reinforcement, one seed of one algorithm at a time: where it ends under the gold judge, and how it came there."""

import shutil
import statistics
from math import isfinite, nan
from pathlib import Path
from typing import Any

from benchmarks.alignment.foundation import Scale, trial
from benchmarks.alignment.rewards import settings_of
from trivium.config import Settings, merge
from trivium.evaluate.preference import GLANCE, compare, drift, golden
from trivium.evaluate.tasks import prompt_ids
from trivium.model.transformer import Transformer
from trivium.phases.align.examine import blind_replies, gold_scores
from trivium.runs import Run
from trivium.shelf import open_model
from trivium.story.collecting import collect_votes
from trivium.story.rounds import make_aligned, measuring_questions
from trivium.story.trusting import NO_VOTES, make_reward
from trivium.text.tokenizer import Tokenizer
from trivium.train.phase import Measured
from trivium.train.runner import measured

Record = dict[str, Any]
LENGTH = 60  # tokens that the control is rewarded for
HALVES = ("gold_of_half", "gold_of_other_half")  # of the questions that the watch does not see
ALONG = ("reward", "kl", "gold", "win_rate", "length", "ended", "distinct", *HALVES)
FEW = 0.5  # of the answers end, or differ: collapsed


def try_policy(
    foundation: Path,
    place: Path,
    seed: int,
    agreement: int,
    scale: Scale,
    changes: Settings,
    *,
    like: Path | None,
    unseen: bool = False,
) -> Record:
    """A run of phase III with these changes; its curve, and its end on all comparisons.

    like    a trial of the same seed and agreement, whose reward model is taken
    unseen  whether the curve is measured on questions too that the watch does not see
    """
    told: Settings = {
        "align": {
            "steps": scale.steps,
            "warmup_steps": scale.steps // 20,
            "rows_per_step": scale.rows,
            "microbatch_rows": scale.rows,
        },
        "evaluate": {"along_the_way": scale.evaluations},
    }
    told = merge(merge(settings_of(agreement, scale), told), changes)
    with trial(foundation, place, seed, told, like=like) as teller:
        round = teller.run.round(1)
        votes = NO_VOTES
        if teller.recipe.align.uses_model:
            votes = collect_votes(teller, round)
            make_reward(teller, round, votes)
        questions, tokenizer = measuring_questions(teller), Tokenizer.load(teller.run.instruct)

        def gold_of_halves(model: Transformer) -> dict[str, float]:
            halves = questions[GLANCE::2], questions[GLANCE + 1 :: 2]
            worth = [statistics.fmean(gold_scores(model, tokenizer, half, seed)) for half in halves]
            return dict(zip(HALVES, worth, strict=True))

        make_aligned(teller, round, votes, **({"beside": gold_of_halves} if unseen else {}))
        found = examine(teller.run, questions, seed)
        seen = measured(teller.run, "align-001")
    shutil.rmtree(place)  # the record stays
    return found | {"curve": [along(one) for one in seen]}


def along(one: Measured) -> Record:
    """What a record keeps of an evaluation; None for what was not measured, or is no number."""
    return {"step": one.step, **{name: v if isfinite(v := one.found.get(name, nan)) else None for name in ALONG}}


def examine(run: Run, questions: list[Any], seed: int) -> Record:
    """Against instruct, on held-out prompts, with the same random numbers."""
    model, tokenizer = open_model(run.round(1).aligned)
    before = open_model(run.instruct).model
    replies = blind_replies(model, tokenizer, questions, seed)
    ours = golden([question.gold for question in questions], replies)
    theirs = gold_scores(before, tokenizer, questions, seed)
    rate = compare(ours, theirs)
    prompts = prompt_ids(model, tokenizer, [question.prompt for question in questions])
    ended = sum(reply.ended for reply in replies) / len(replies)
    distinct = len({reply.text for reply in replies}) / len(replies)
    return {
        "win_rate": rate.rate,
        "gold": sum(ours) / len(ours),
        "gold_of_instruct": sum(theirs) / len(theirs),
        "gold_at_first": sum(theirs[:GLANCE]) / len(theirs[:GLANCE]),  # of the questions that the curve is measured on
        "kl": drift(model, before, prompts, replies, tokenizer.pad).kl,
        "length": sum(len(reply.tokens) for reply in replies) / len(replies),
        "ended": ended,
        "distinct": distinct,
        "collapsed": ended < FEW or distinct < FEW or rate.high < 0.5,
    }


def algorithm(name: str) -> Settings:
    return {"align": {"algorithm": name}}


def longer(scale: Scale) -> Settings:
    """GRPO with the steps that the price of KL lets it use: what is held beside the best of n at equal KL."""
    return {"align": {"steps": scale.long_steps}}


def length_alone() -> Settings:
    """The control: a policy that is rewarded for its length and nothing else."""
    return {"align": {"rewards": [f"length {LENGTH}"]}, "watch": {"stop": False}}


def without_price(scale: Scale, *, members: int) -> Settings:
    """Nothing holds it near instruct, and nobody stops it: what the reward model is worth when it is pushed."""
    return {
        "align": {"kl": 0.0, "steps": scale.long_steps, "replay": 0.0},
        "watch": {"stop": False, "fall": 1.0},
        "reward": {"members": members, "combine": "worst" if members > 1 else "mean"},
        "evaluate": {"comparisons": scale.unseen},
    }
