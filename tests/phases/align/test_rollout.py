"""Rollouts: pure in (seed, number, weights), and worked by hand where they can be."""

from pathlib import Path

import pytest
import torch

from tests.phases.align.scene import ASK, COMPUTE, LastWord, built, joined, recipe, rolled
from trivium.batch import Answered
from trivium.distributed.world import World, alone
from trivium.evaluate.tasks import Reply, as_reply, prompt_ids
from trivium.generate.engine import Answer
from trivium.phases.align.questions import Question
from trivium.phases.align.rollout import ELSEWHERE, Writers, describe, reward_answers, roll_out, write_groups
from trivium.phases.align.rules import Rules, Weighed, read_rules
from trivium.phases.align.scorer import Scorer


def test_the_answers_of_a_step_are_a_pure_function_of_seed_step_and_weights(writers: Writers) -> None:
    first, again = rolled(writers), rolled(writers)
    assert first.replies == again.replies
    assert len(first.written) == len(again.written) == 3
    for one, other in zip(first.written, again.written, strict=True):
        assert all(map(torch.equal, one, other))
    for field in ("old_logprobs", "reference_logprobs"):
        assert all(map(torch.equal, getattr(first, field), getattr(again, field)))
    assert torch.equal(first.earned, again.earned)
    assert rolled(writers, number=1).replies != first.replies
    assert rolled(writers, seed=6).replies != first.replies
    with torch.no_grad():
        writers.policy.norm.weight.mul_(1.5)
    assert rolled(writers).replies != first.replies


def test_each_prompt_is_answered_by_a_whole_group_and_prompts_take_turns(writers: Writers) -> None:
    groups = rolled(writers).groups
    assert [group.question.prompt[0].content for group in groups] == ["Say 0", "Say 1", "Say 2"]
    assert [len(group.replies) for group in groups] == [4, 4, 4]
    assert len({tuple(reply.tokens) for reply in rolled(writers).replies}) > 8


def test_an_answer_is_rewarded_as_the_text_that_voters_would_read(writers: Writers) -> None:
    """However it was cut into tokens, with its end whether or not it came to one, and without the space around it."""
    end, encoded, spaced = writers.tokenizer.turn_end, *map(writers.tokenizer.encode, ("warm", " warm "))
    letters = [writers.tokenizer.encode(letter)[0] for letter in "warm"]
    assert encoded != letters
    answers = [Answer(encoded, end), Answer(letters, None), Answer(spaced, end)]
    replies = [as_reply(answer, writers.tokenizer) for answer in answers]
    seen: list[Answered] = []

    class Listening(LastWord):
        def forward(self, answers: Answered) -> torch.Tensor:
            seen.append(answers)
            return super().forward(answers)

    asked = [ASK(0)] * 3
    listening = Scorer(Listening(writers.policy), writers.tokenizer, COMPUTE)
    rewards = reward_answers(writers._replace(scorer=listening), asked, replies)
    assert seen[0].targets.tolist() == [*encoded, end] * 3
    assert len(set(rewards.tolist())) == 1


def test_rules_are_added_to_what_the_reward_model_says_or_stand_alone(writers: Writers) -> None:
    replies = [Reply("warm", True, [1, 2]), Reply("cold", False, [3])]
    asked = [ASK(0)] * 2
    plain = reward_answers(writers, asked, replies)
    both = writers._replace(rules=read_rules(["0.5 * model", "2 * ended"], Path()))
    torch.testing.assert_close(reward_answers(both, asked, replies), 0.5 * plain + torch.tensor([2.0, 0.0]))
    alone_ = writers._replace(scorer=None, rules=read_rules(["2 * ended"], Path()))
    assert reward_answers(alone_, asked, replies).tolist() == [2, 0]


def test_near_oneself_there_is_no_kl(writers: Writers) -> None:
    found = rolled(writers._replace(reference=writers.policy))
    assert found.kl is not None
    assert found.kl.abs().max() == 0


def test_micro_batches_hold_all_answers_in_order(writers: Writers) -> None:
    """Also where a group is cut in two."""
    (whole,) = built(writers, microbatch_rows=12).batches(0)
    parts = built(writers, microbatch_rows=6).batches(0)
    assert [len(part.answers.ends) for part in parts] == [6, 6]
    assert torch.equal(torch.cat([part.answers.targets for part in parts]), whole.answers.targets)
    for field in ("advantages", "weights", "old_logprobs", "reference_logprobs"):
        torch.testing.assert_close(joined(parts, field), getattr(whole, field), atol=1e-5, rtol=1e-5)


def test_a_prompt_is_read_once_for_its_group(writers: Writers) -> None:
    for answers in rolled(writers, max_new_tokens=4).written:
        (prompt,) = prompt_ids(writers.policy, writers.tokenizer, [ASK(0).prompt])
        assert ((answers.branches == 0) & (answers.trees >= 0)).sum() == len(prompt)
        assert answers.branches.max() == 4


def test_what_nobody_asks_for_is_not_computed(writers: Writers) -> None:
    """Without a price on the KL, and where answers are learned from once, one pass over them is enough."""
    free = rolled(writers, kl=0.0)
    assert free.old_logprobs is None
    assert free.reference_logprobs is None
    assert free.kl is None
    assert "kl" not in describe(free, alone())
    assert rolled(writers, kl=0.0, kl_loss=0.1).reference_logprobs is not None
    assert rolled(writers, kl=0.0, epochs=2).old_logprobs is not None


def test_a_step_is_described_by_what_its_answers_were_like(writers: Writers) -> None:
    found = rolled(writers)
    told = describe(found, alone())
    assert found.kl is not None
    assert abs(told["reward"] - found.rewards.mean().item()) < 1e-6
    assert abs(told["kl"] - found.kl.mean().item()) < 1e-6
    assert told["length"] == sum(len(reply.tokens) for reply in found.replies) / 12
    assert told["ended"] == sum(reply.ended for reply in found.replies) / 12
    assert 0 < told["distinct"] <= 1
    assert told["signal"] == pytest.approx(sum(len(set(row)) > 1 for row in found.earned.tolist()) / 3)


def test_two_ranks_write_together_what_one_writes(writers: Writers) -> None:
    """Every rank whole groups, with the same random numbers as if it wrote alone."""
    settings = recipe(rows_per_step=16).align
    worlds = [alone(), *(World(rank, 2, torch.device("cpu")) for rank in (0, 1))]
    whole, *shares = (write_groups(writers, ASK, settings, world, seed=5, number=3) for world in worlds)
    assert [group.replies for group in whole] == [shares[i % 2][i // 2].replies for i in range(4)]
    assert [group.question for group in whole] == [shares[i % 2][i // 2].question for i in range(4)]


def only_odd(question: Question, reply: Reply) -> float:
    """All answers to "Say 0" and "Say 2" are worth the same."""
    return float(sum(reply.tokens)) if question.prompt[0].content == "Say 1" else 1.0


def test_other_questions_are_asked_in_place_of_those_whose_answers_all_earn_the_same(writers: Writers) -> None:
    judged = writers._replace(scorer=None, rules=Rules(0.0, [Weighed(1.0, only_odd)]))
    told = {"temperature": 5.0, "unended_penalty": 0.0}
    plain = rolled(judged, **told)
    assert [group.question.prompt[0].content for group in plain.groups] == ["Say 0", "Say 1", "Say 2"]
    assert describe(plain, alone())["signal"] == pytest.approx(1 / 3)
    again = rolled(judged, redraws=1, **told)
    wanted = [ASK(ELSEWHERE), ASK(1), ASK(ELSEWHERE + 2)]
    assert [group.question for group in again.groups] == wanted
    assert again.groups[1].replies == plain.groups[1].replies
    assert again.groups[0].replies != plain.groups[0].replies
    assert again.replies == rolled(judged, redraws=1, **told).replies


def test_asking_again_has_an_end(writers: Writers) -> None:
    asked: list[int] = []

    def ask(index: int) -> Question:
        asked.append(index)
        return ASK(index)

    dull = writers._replace(scorer=None, rules=Rules(0.0, []))
    settings = recipe(redraws=3, unended_penalty=0.0).align
    found = roll_out(dull, ask, settings, COMPUTE, alone(), seed=5, number=0)
    assert len(asked) == 3 * (1 + 3)
    assert len(found.groups) == 3


def test_the_penalty_for_length_grows_before_the_longest_answer(writers: Writers) -> None:
    found = rolled(writers, max_new_tokens=30, temperature=5.0, overlong_buffer=20, unended_penalty=3.0)
    assert {reply.ended for reply in found.replies} == {True, False}
    for reply, reward, earned in zip(found.replies, found.rewards, found.earned.flatten(), strict=True):
        share = max(0, len(reply.tokens) - 10) / 20 if reply.ended else 1.0
        assert abs(earned - (reward - 3.0 * share)) < 1e-5
