"""Reinforcement is stopped when its reward is gamed, and the best model is kept: by hand, and on a run that is."""

import dataclasses
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from trivium.compute import Compute
from trivium.config import WatchConfig, resolve
from trivium.distributed.world import alone
from trivium.errors import RunError
from trivium.model.transformer import Transformer
from trivium.phases.align import algorithms
from trivium.phases.align.examine import gold_scores
from trivium.phases.align.questions import Question
from trivium.phases.align.rollout import Writers
from trivium.phases.align.rules import Rules, Weighed
from trivium.phases.align.task import Task
from trivium.phases.align.watch import most_fooled, ranks, watch
from trivium.records import Message
from trivium.runs import Run
from trivium.text.tokenizer import Tokenizer
from trivium.train.interrupt import Interrupt
from trivium.train.phase import Measured, Phase, Verdict
from trivium.train.runner import measured, recall, run_phase

COMPUTE = Compute(torch.device("cpu"), torch.float32, False)
FINE = {"ended": 1.0, "distinct": 0.9, "length": 20.0, "kl": 1.0}


def seen(*rates: float, **changing: list[float]) -> list[Measured]:
    """Evaluations at steps 10, 20, …; the reward rises by 1 each time."""
    return [
        Measured(10 * (i + 1), {**FINE, "reward": float(i), "win_rate": rate, **{k: v[i] for k, v in changing.items()}})
        for i, rate in enumerate(rates)
    ]


def test_while_the_answers_win_nothing_is_stopped_and_the_last_is_kept() -> None:
    assert watch([], WatchConfig()) == Verdict(0, 0, "")
    assert watch(seen(0.6, 0.7, 0.65), WatchConfig()) == Verdict(20, 30, "")


def test_a_fall_is_counted_as_it_is_written() -> None:
    """.71 less .61 is a little less than .1 where numbers are binary."""
    assert watch(seen(0.71, 0.61), WatchConfig()) == Verdict(10, 10, "")


def test_one_bad_comparison_is_no_reason_to_stop_but_not_what_is_kept() -> None:
    assert watch(seen(0.6, 0.7, 0.58), WatchConfig()) == Verdict(20, 20, "")
    assert watch(seen(0.6, 0.7, 0.58, 0.66), WatchConfig()) == Verdict(20, 40, "")


def test_a_reward_that_rises_while_the_answers_lose_is_gamed() -> None:
    found = watch(seen(0.6, 0.7, 0.58, 0.55), WatchConfig())
    assert found[:2] == (20, 20)
    assert found.reason == (
        "the win rate fell from 70% at step 20 to 55% (watch.fall = 0.1) while the reward rose from 1.00 to 3.00: "
        "it is being gamed"
    )
    assert watch(seen(0.6, 0.7, 0.58, 0.55), WatchConfig(stop=False)) == Verdict(20, 20, "")
    assert watch(seen(0.6, 0.7, 0.58, 0.55), WatchConfig(patience=3)) == Verdict(20, 20, "")


def test_of_few_comparisons_only_a_fall_that_chance_does_not_make_counts() -> None:
    found = seen(0.6, 0.7, 0.45, 0.45)
    assert watch(found, WatchConfig(), comparisons=100).reason
    assert watch(found, WatchConfig(), comparisons=10) == Verdict(20, 40, "")


def test_what_never_beat_its_beginning_ends_as_it_began() -> None:
    assert watch(seen(0.45, 0.38, 0.3), WatchConfig())[:2] == (0, 0)
    falling = seen(0.45, 0.38, 0.3, reward=[3.0, 2.0, 1.0])
    assert watch(falling, WatchConfig()).reason == "the win rate fell from 50% at step 0 to 30% (watch.fall = 0.1)"


@pytest.mark.parametrize(
    ("what", "values", "reason"),
    [
        ("ended", [1.0, 0.4, 0.3], "only 30% of its answers end"),
        ("distinct", [0.9, 0.14, 0.13], "only 13% of its answers differ"),
        ("length", [20.0, 81.0, 90.0], "its answers grew from 20 to 90 tokens"),
        ("kl", [1.0, 101.0, 150.0], "it is 150.0 nats from where it started"),
    ],
)
def test_answers_that_nobody_judges_have_faults_too(what: str, values: list[float], reason: str) -> None:
    unjudged = [Measured(one.step, {k: v for k, v in one.found.items() if k != "win_rate"}) for one in seen(*[0.5] * 3)]
    faulty = [Measured(one.step, {**one.found, what: v}) for one, v in zip(unjudged, values, strict=True)]
    found = watch(faulty, WatchConfig())
    assert found[:2] == (10, 10)
    assert found.reason.startswith(reason)
    assert watch(unjudged, WatchConfig()) == Verdict(30, 30, "")


def test_what_was_wrong_from_the_first_is_not_the_doing_of_reinforcement() -> None:
    found = watch(seen(0.5, 0.5, 0.5, ended=[0.1, 0.2, 0.1], distinct=[0.1, 0.1, 0.1]), WatchConfig())
    assert found == Verdict(0, 30, "")


def test_where_the_judge_gives_marks_they_say_which_is_best_and_not_how_often_it_won() -> None:
    marked = seen(0.6, 0.7, 0.65, gold=[0.5, 0.6, 0.8])
    assert watch(marked, WatchConfig()) == Verdict(30, 30, "")
    assert watch(seen(0.6, 0.4, gold=[0.5, 0.9]), WatchConfig()).best == 0, "but none that loses more than it wins"


def test_a_value_that_is_no_number_is_a_fault_whichever_it_is() -> None:
    broken = seen(0.6, 0.9, 0.95, 0.99, reward=[0.0, math.nan, math.nan, math.inf])
    assert watch(broken, WatchConfig()) == Verdict(10, 10, "its reward is no number any more")
    assert watch(seen(0.6, math.nan, 0.7), WatchConfig()) == Verdict(30, 30, "")


def test_all_is_compared_with_what_was_before_the_first_step() -> None:
    before = Measured(0, {**FINE, "reward": -1.0, "win_rate": 0.65, "length": 20.0})
    longer = seen(0.6, 0.64, 0.6, length=[90.0, 30.0, 90.0])
    assert watch([before, *longer], WatchConfig()) == Verdict(0, 0, "")  # a later round wins before it begins
    assert watch([before, *longer, *seen(0.6, 0.6, 0.6, 0.6)[3:]], WatchConfig()) == Verdict(0, 40, "")
    told = watch([before, *seen(0.6, 0.6, 0.6, length=[30.0, 90.0, 91.0])], WatchConfig())
    assert told.reason == "its answers grew from 20 to 91 tokens (watch.longer = 4)"


def test_what_a_judge_likes_at_a_faulty_step_is_not_the_best() -> None:
    assert watch(seen(0.6, 0.9, 0.65, ended=[1.0, 0.2, 1.0]), WatchConfig())[:2] == (30, 30)


def test_the_most_fooled_are_highest_by_reward_and_lowest_by_truth() -> None:
    assert ranks([0.3, 0.1, 0.3]) == [1.5, 0.0, 1.5]
    assert most_fooled([9, 1, 8, 2, 5, 5], [0.1, 0.2, 0.3, 0.9, 0.8, 0.9], 5) == [0, 2]
    assert most_fooled([1, 2, 3], [1, 2, 3], 5) == []


# A reward that is right about one "the" and wrong about the tenth


WANTED = 2


def thes(text: str) -> int:
    return text.lower().count("the")


def truth(answer: str, ended: bool) -> float:
    return -abs(thes(answer) - WANTED)


def question(number: int) -> Question:
    return Question((Message("user", f"Say {number % 3}"),), truth)


def gamed(live: Transformer, reference: Transformer, tokenizer: Tokenizer, **settings: Any) -> Phase[Any]:
    """Without a price on KL, learning from a reward that never has enough."""
    told = {"steps": 60, "rows_per_step": 32, "microbatch_rows": 32, "group": 8, "max_new_tokens": 12, "kl": 0.0}
    told |= {"learning_rate": 0.02, "matrix_learning_rate": 0.05, "unended_penalty": 0.0}
    chosen = resolve({"model": {"context_length": 64}, "align": told, "watch": {"ended": 0.0, "distinct": 0.0}})
    rules = Rules(0.0, [Weighed(1.0, lambda question, reply: float(thes(reply.text)))])
    writers = Writers(live, reference, None, tokenizer, rules)
    made = algorithms.build(Task(chosen, writers, question, [question(i) for i in range(60)], COMPUTE, round=1))
    settings = chosen.watch.model_copy(update=settings)
    return dataclasses.replace(made, watch=partial(watch, settings=settings), evaluations=20)


def test_a_run_that_over_optimises_is_stopped_goes_on_stopped_and_keeps_its_best(
    tokenizer: Tokenizer, small_model: Callable[..., Transformer], tmp_path: Path
) -> None:
    run = Run(tmp_path)
    live, reference = (small_model(vocab_size=tokenizer.vocab_size, context_length=64) for _ in range(2))

    def go(phase: Phase[Any], until: int | None = None) -> int:
        steps = list(run_phase(phase, run, alone(), Interrupt(), save_seconds=0.0, say=lambda line: None, until=until))
        return steps[-1].step if steps else 0

    go(gamed(live, reference, tokenizer), until=7)
    last = go(gamed(small_model(vocab_size=tokenizer.vocab_size, context_length=64), reference, tokenizer))
    found = measured(run, "align-001")
    assert found[0].step == 0
    assert found[0].found["win_rate"] == 0.5
    assert found[0].found["kl"] == 0
    verdict = watch(found, WatchConfig(ended=0.0, distinct=0.0))
    assert last == found[-1].step < 60
    assert 0 < verdict.best < last
    assert "it is being gamed" in verdict.reason
    assert found[-1].found["reward"] > WANTED + 2
    again = gamed(small_model(vocab_size=tokenizer.vocab_size, context_length=64), reference, tokenizer)
    assert go(again) == 0, "it does no further step"
    asked = [question(i) for i in range(60)]
    gamed_worth = sum(gold_scores(again.model, tokenizer, asked, 0))  # type: ignore[arg-type]
    recall(again, run, verdict.keep, lambda line: None)
    assert sum(gold_scores(again.model, tokenizer, asked, 0)) > gamed_worth + 60  # type: ignore[arg-type]
    with pytest.raises(RunError, match=r"the weights of step 999, the best of align-001, are not there; delete"):
        recall(again, run, 999, lambda line: None)
    run.forget("align-001")
    assert not run.best("align-001").exists()
