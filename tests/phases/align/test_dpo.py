"""Direct preference optimisation on votes and on fresh answers: the reference's word, ties, ratio zero at the start."""

import math
from typing import Any

import pytest
import torch

from tests.phases.align.scene import ASK, built, rolled, task
from trivium.batch import PreferenceBatch
from trivium.distributed.world import World, alone
from trivium.evaluate.preference import answer_logprobs
from trivium.feedback.store import LabelledPair
from trivium.generate.sampling import stream_seed
from trivium.phases.align import algorithms
from trivium.phases.align.dpo import extremes
from trivium.phases.align.reward import read_pair
from trivium.phases.align.rollout import Writers
from trivium.phases.align.rules import Rules
from trivium.train.loop import accumulate, train
from trivium.train.phase import Phase


def vote(number: int, preference: float = 1.0) -> LabelledPair:
    prompt = ASK(number).prompt
    first, second = f"The cat {number} sat. " + "It was. " * (number % 3), f"Was it {number}?"
    return LabelledPair(prompt, first, second, preference, 1, False, 1, "sampled", number)


VOTES = [vote(i, 1.0 if i % 3 else 0.0) for i in range(10)] + [vote(10, 0.5)]


def on_votes(writers: Writers, **settings: Any) -> Phase[PreferenceBatch]:
    given = task(writers, algorithm="dpo", rows_per_step=12, microbatch_rows=4, **settings)
    return algorithms.build(given._replace(votes=VOTES, held_out=VOTES[:4]))


@pytest.mark.parametrize("settings", [{}, {"per_token": True}])
def test_the_first_loss_is_log_two_for_every_pair(settings: dict[str, Any], writers: Writers) -> None:
    """Where the policy still is its reference: exactly, for both are read by the same forward pass."""
    phase = on_votes(writers._replace(reference=writers.policy), **settings)
    for batch in phase.batches(0):
        loss, _ = phase.objective(writers.policy, batch)
        assert loss.item() == pytest.approx(2 * math.log(2), abs=1e-6)


def test_every_vote_is_learned_from_once_in_each_pass(writers: Writers) -> None:
    """Both answers whole, up to their end token, and never the prompt."""
    phase = on_votes(writers)
    seen = []
    for step in range(11):  # six of eleven pairs a step: six whole passes
        for batch in phase.batches(step):
            sizes = batch.answers.owners.bincount().tolist()
            tokens = [tuple(part.tolist()) for part in batch.answers.targets.split(sizes)]
            seen += list(zip(tokens[::2], tokens[1::2], batch.preference.tolist(), strict=True))
    read = [(read_pair(pair, writers.tokenizer, 48), pair.preference) for pair in VOTES]
    expected = [(tuple(one.answer), tuple(other.answer), preference) for (one, other), preference in read]
    assert sorted(seen) == sorted(expected * 6)
    assert all(pair[0][-1] == pair[1][-1] == writers.tokenizer.turn_end for pair in seen)


def test_a_step_worked_anew_from_its_parts(writers: Writers) -> None:
    phase = on_votes(writers, beta=0.3, smoothing=0.1)
    for batch in phase.batches(0):
        margins = []
        for model in (writers.policy, writers.reference):
            logprobs = answer_logprobs(model, batch.answers, temperature=1.5)
            sums = [logprobs[batch.answers.owners == i].sum() for i in range(len(batch.answers.ends))]
            margins.append(torch.stack([one - other for one, other in zip(sums[::2], sums[1::2], strict=True)]))
        wins = torch.sigmoid(0.3 * (margins[0] - margins[1]))
        target = 0.8 * batch.preference + 0.1
        loss, metrics = phase.objective(writers.policy, batch)
        torch.testing.assert_close(loss, -(target * wins.log() + (1 - target) * (1 - wins).log()).sum())
        right = (((wins > 0.5).float() == batch.preference).float() + 0.5 * (batch.preference == 0.5)).sum()
        assert metrics["accuracy"] == right


@pytest.mark.parametrize("choice", [{}, {"pair_loss": "squared"}, {"per_token": True}])
def test_loss_and_gradient_do_not_depend_on_how_the_votes_are_split(choice: dict[str, Any], writers: Writers) -> None:
    found = []
    for rows in (12, 4, 2):
        given = task(writers, algorithm="dpo", rows_per_step=12, microbatch_rows=rows, **choice)
        phase = algorithms.build(given._replace(votes=VOTES))
        phase.model.zero_grad()
        loss, _, _ = accumulate(phase.model, phase.objective, phase.batches(0), alone())
        found.append((loss, *(p.grad.clone() for p in phase.model.parameters() if p.grad is not None)))
    for other in found[1:]:
        torch.testing.assert_close(other, found[0], atol=1e-5, rtol=1e-3)


def test_ranks_share_out_the_votes_of_a_step(writers: Writers) -> None:
    whole = [tuple(batch.answers.targets.tolist()) for batch in on_pairs(writers, alone())]
    worlds = [World(rank, 2, alone().device) for rank in (0, 1)]
    shares = [[tuple(batch.answers.targets.tolist()) for batch in on_pairs(writers, world)] for world in worlds]
    assert sorted(whole) == sorted([*shares[0], *shares[1]])
    assert len(shares[0]) == len(shares[1]) == 3


def on_pairs(writers: Writers, world: World) -> list[PreferenceBatch]:
    given = task(writers, algorithm="dpo", rows_per_step=12, microbatch_rows=2)
    return list(algorithms.build(given._replace(votes=VOTES, world=world)).batches(0))


@pytest.mark.parametrize("choice", [{}, {"pair_loss": "squared", "beta": 0.05}, {"per_token": True, "beta": 2.0}])
def test_the_policy_comes_to_agree_with_the_votes(choice: dict[str, Any], writers: Writers) -> None:
    phase = on_votes(writers, steps=12, learning_rate=0.01, **choice)
    reports = list(train(phase, alone(), steps=range(12)))
    assert reports[-1].loss < reports[0].loss
    assert phase.evaluate()["accuracy"] == 1


def test_of_each_group_the_best_answer_and_the_worst_make_a_pair(writers: Writers) -> None:
    rollout = rolled(writers, algorithm="online-dpo")
    for group, pair in zip(rollout.groups, extremes(rollout), strict=True):
        assert pair.earned.tolist() == [group.earned.max(), group.earned.min()]
        assert pair.question == group.question
        assert group.replies.index(pair.replies[0]) == int(group.earned.argmax())


def test_answers_that_are_equally_good_are_a_tie(writers: Writers) -> None:
    dull = writers._replace(scorer=None, rules=Rules(0.0, []))
    phase = built(dull, algorithm="online-dpo", unended_penalty=0.0)
    assert torch.cat([batch.preference for batch in phase.batches(0)]).tolist() == [0.5] * 3
    sharp = built(writers, algorithm="online-dpo")
    earned = rolled(writers, seed=stream_seed(0, 1), algorithm="online-dpo").earned.tolist()
    expected = [1.0 if len(set(row)) > 1 else 0.5 for row in earned]
    assert torch.cat([batch.preference for batch in sharp.batches(0)]).tolist() == expected
    assert 1.0 in expected


def test_fresh_pairs_keep_the_tokens_that_were_written(writers: Writers) -> None:
    """Nothing is tokenized again on the way from the sampler to the loss."""
    phase = built(writers, algorithm="online-dpo")
    written = {tuple(reply.tokens) for reply in phase_rollout(writers)}
    for batch in phase.batches(0):
        sizes = batch.answers.owners.bincount().tolist()
        assert {tuple(part.tolist()) for part in batch.answers.targets.split(sizes)} <= written


def phase_rollout(writers: Writers) -> list[Any]:
    return rolled(writers, seed=stream_seed(0, 1), algorithm="online-dpo").replies
