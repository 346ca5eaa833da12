"""Reinforcement learning as a stream of batches: pure in (seed, step, weights), and worked by hand where it can be."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from trivium.batch import Answered, TokenBatch
from trivium.compute import Compute
from trivium.config import Recipe, resolve
from trivium.distributed.world import alone
from trivium.evaluate.preference import answer_logprobs
from trivium.evaluate.tasks import Reply, as_reply, prompt_ids
from trivium.generate.engine import Answer
from trivium.losses.policy import group_mean_advantages, leave_one_out_advantages
from trivium.model.heads import RewardModel, add_reward_head
from trivium.model.transformer import Transformer
from trivium.phases.align import policy
from trivium.phases.align.questions import Question, listed_questions
from trivium.phases.align.rollout import Rollout, Writers, reward_answers, roll_out
from trivium.phases.align.rules import read_rules
from trivium.phases.align.scorer import Scorer
from trivium.phases.pretrain import next_token_objective
from trivium.records import Message
from trivium.text.tokenizer import Tokenizer
from trivium.train.loop import train

MakeModel = Callable[..., Transformer]
COMPUTE = Compute(torch.device("cpu"), torch.float32, False)
ASK = listed_questions([(Message("user", f"Say {i}"),) for i in range(3)])


def recipe(**settings: Any) -> Recipe:
    told = {"steps": 3, "rows_per_step": 12, "microbatch_rows": 4, "group": 4, "max_new_tokens": 6, "temperature": 1.5}
    return resolve({"model": {"context_length": 48}, "align": {**told, **settings}})


class LastWord(RewardModel):
    """Scores an answer by its last token but one: known, and different from answer to answer."""

    def forward(self, answers: Answered) -> torch.Tensor:
        end = answers.owners.bincount().cumsum(0) - 1  # where each answer's end token stands among the targets
        return answers.tokens.flatten()[answers.sources[end]].float() / 100


@pytest.fixture
def writers(tokenizer: Tokenizer, small_model: MakeModel) -> Writers:
    live, reference, trunk = (small_model(seed=seed, vocab_size=tokenizer.vocab_size) for seed in (0, 1, 2))
    return Writers(live, reference, Scorer(LastWord(trunk), tokenizer, COMPUTE), tokenizer)


def rolled(writers: Writers, step: int = 0, seed: int = 5, **settings: Any) -> Rollout:
    return roll_out(writers, ASK, leave_one_out_advantages, recipe(**settings).align, COMPUTE, seed=seed, step=step)


def test_the_answers_of_a_step_are_a_pure_function_of_seed_step_and_weights(writers: Writers) -> None:
    first, again = rolled(writers), rolled(writers)
    assert first.replies == again.replies
    assert len(first.batches) == len(again.batches) == 3
    for one, other in zip(first.batches, again.batches, strict=True):
        assert all(map(torch.equal, one.answers, other.answers))
        assert all(map(torch.equal, one[1:-1], other[1:-1]))  # there is no lesson
    assert rolled(writers, step=1).replies != first.replies
    assert rolled(writers, seed=6).replies != first.replies
    with torch.no_grad():
        writers.policy.norm.weight.mul_(1.5)
    assert rolled(writers).replies != first.replies


def test_each_prompt_is_answered_by_a_whole_group_and_prompts_take_turns(writers: Writers) -> None:
    asked = [question.prompt[0].content for question in rolled(writers).questions]
    assert asked == ["Say 0"] * 4 + ["Say 1"] * 4 + ["Say 2"] * 4
    assert len({tuple(reply.tokens) for reply in rolled(writers).replies}) > 8


def test_only_what_the_policy_wrote_is_supervised_its_end_token_too(writers: Writers) -> None:
    found = rolled(writers, max_new_tokens=30)
    for i, reply in enumerate(found.replies):
        answers = found.batches[i // 4].answers
        mine = answers.owners == i % 4
        assert answers.targets[mine].tolist() == reply.tokens
        places = [*answers.sources[mine].tolist()[1:], answers.ends[i % 4].item()]
        assert answers.tokens.flatten()[places].tolist() == reply.tokens
    assert sum(batch.count for batch in found.batches) == sum(len(reply.tokens) for reply in found.replies)


def test_the_first_ratio_is_exactly_one_and_the_reference_has_its_own_word(writers: Writers) -> None:
    found = rolled(writers)
    for part in found.batches:
        now = answer_logprobs(writers.policy, part.answers, temperature=1.5)
        assert torch.equal(now, part.old_logprobs)
        with torch.no_grad():
            theirs = answer_logprobs(writers.reference, part.answers, temperature=1.5)
        assert torch.equal(theirs, part.reference_logprobs)


def test_the_first_ratio_is_exactly_one_in_half_precision_too(writers: Writers) -> None:
    half = Compute(torch.device("cpu"), torch.bfloat16, False)
    found = roll_out(writers, ASK, leave_one_out_advantages, recipe().align, half, seed=5, step=0)
    built = policy.build(recipe(), writers, ASK, [], half, round=1)
    for part in found.batches:
        loss, _ = built.objective(writers.policy, part)
        assert torch.equal(loss, -part.advantages[part.answers.owners].sum())  # each ratio is one
        assert not torch.equal(answer_logprobs(writers.policy, part.answers, temperature=1.5), part.old_logprobs)


def test_what_an_answer_earns_by_hand(writers: Writers) -> None:
    """The reward, less KL at its price, less the penalty for not ending; then minus the mean of the others."""
    found = rolled(writers, kl=0.1, unended_penalty=0.5, max_new_tokens=30, temperature=5.0)
    assert {reply.ended for reply in found.replies} == {True, False}
    earned = []
    for i, reply in enumerate(found.replies):
        before_end = writers.tokenizer.encode(reply.text or "\n")[-1]
        assert found.rewards[i].item() == pytest.approx(before_end / 100)
        batch = found.batches[i // 4]
        kl = (batch.old_logprobs - batch.reference_logprobs)[batch.answers.owners == i % 4].sum()
        assert found.kl[i].item() == pytest.approx(kl.item(), abs=1e-5)
        earned.append(before_end / 100 - 0.1 * kl.item() - 0.5 * (not reply.ended))
    table = torch.tensor(earned).view(3, 4)
    expected = (table - (table.sum(1, keepdim=True) - table) / 3).flatten()
    gained = torch.cat([batch.advantages for batch in found.batches])
    torch.testing.assert_close(gained, expected, atol=1e-5, rtol=1e-5)


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
    assert found.kl.abs().max() == 0


def test_micro_batches_hold_all_answers_in_order(writers: Writers) -> None:
    """Also where a group is cut in two."""
    (whole,) = rolled(writers, microbatch_rows=12).batches
    parts = rolled(writers, microbatch_rows=6).batches
    assert [len(part.answers.ends) for part in parts] == [6, 6]
    assert whole.answers.targets.tolist() == [token for reply in rolled(writers).replies for token in reply.tokens]
    assert torch.equal(torch.cat([part.answers.targets for part in parts]), whole.answers.targets)
    for field in ("advantages", "old_logprobs", "reference_logprobs"):
        found = torch.cat([getattr(part, field) for part in parts])
        torch.testing.assert_close(found, getattr(whole, field), atol=1e-5, rtol=1e-5)


def test_a_prompt_is_read_once_for_its_group(writers: Writers) -> None:
    for batch in rolled(writers, max_new_tokens=4).batches:
        (prompt,) = prompt_ids(writers.policy, writers.tokenizer, [ASK(0).prompt])
        answers = batch.answers
        assert ((answers.branches == 0) & (answers.trees >= 0)).sum() == len(prompt)
        assert answers.branches.max() == 4


def test_a_step_is_described_by_what_its_answers_were_like(writers: Writers) -> None:
    found = rolled(writers)
    told = policy.describe(found)
    assert told["reward"] == pytest.approx(found.rewards.mean().item())
    assert told["length"] == pytest.approx(sum(len(reply.tokens) for reply in found.replies) / 12)
    assert told["ended"] == pytest.approx(sum(reply.ended for reply in found.replies) / 12)
    assert 0 < told["distinct"] <= 1
    assert told["entropy"] == pytest.approx(-torch.cat([b.old_logprobs for b in found.batches]).mean().item())


@pytest.mark.parametrize("algorithm", ["grpo", "rloo"])
def test_the_algorithms_differ_only_in_their_advantages(algorithm: str, writers: Writers) -> None:
    built = policy.build(recipe(algorithm=algorithm), writers, ASK, [], COMPUTE, round=1)
    advantages = torch.cat([batch.advantages for batch in built.batches(0)])
    plain = {"grpo": group_mean_advantages, "rloo": leave_one_out_advantages}[algorithm]
    assert policy.ADVANTAGES[algorithm] is plain
    torch.testing.assert_close(advantages.view(3, 4).sum(1), torch.zeros(3), atol=1e-5, rtol=0)


def test_each_choice_of_the_loss_costs_what_it_says(writers: Writers) -> None:
    """Worked anew from its parts, away from ratio one."""
    found = rolled(writers)
    for batch in found.batches:
        owners, old = batch.answers.owners, batch.old_logprobs
        now = old + 0.1 * torch.sin(torch.arange(len(old)))
        gained = batch.advantages[owners]
        plain = -torch.minimum((now - old).exp() * gained, (now - old).exp().clamp(0.8, 1.28) * gained)
        lengths = owners.bincount().float()
        shared = torch.zeros(4).index_add(0, owners, now - old) / lengths
        together = -torch.minimum(shared.exp()[owners] * gained, shared.exp().clamp(0.8, 1.28)[owners] * gained)
        drift = 0.3 * (now - batch.reference_logprobs).square() / 2
        for settings, expected in (
            ({}, plain),
            ({"weigh": "answers"}, plain * (len(old) / 4 / lengths)[owners]),
            ({"ratio": "sequence"}, together),
            ({"kl_loss": 0.3}, plain + drift),
        ):
            losses = policy.token_losses(now, batch, recipe(**settings).align)
            torch.testing.assert_close(losses, expected)


def test_rejection_imitates_the_best_of_each_group(writers: Writers) -> None:
    built = policy.build(recipe(algorithm="rejection"), writers, ASK, [], COMPUTE, round=1)
    best = torch.cat([batch.advantages for batch in built.batches(0)]).view(3, 4)
    assert best.sum(1).tolist() == [1, 1, 1]
    spread = policy.build(recipe(spread=True), writers, ASK, [], COMPUTE, round=1)
    divided = torch.cat([batch.advantages for batch in spread.batches(0)]).view(3, 4)
    torch.testing.assert_close(divided.std(1), torch.ones(3))


def test_what_phase_two_taught_is_weighed_by_the_mean_token_beside_what_is_rewarded(writers: Writers) -> None:
    teach = next_token_objective(COMPUTE)
    ids = torch.arange(10, 34).view(4, 6)
    order, zeros = torch.arange(6).expand(4, 6), torch.zeros(4, 6, dtype=torch.int64)
    supervised = torch.arange(6).expand(4, 6) >= torch.tensor([0, 1, 4, 5])[:, None]

    def lesson(number: int) -> TokenBatch:
        return TokenBatch(*(field[number : number + 1] for field in (ids, ids + 1, supervised, order, zeros)))

    plain = policy.build(recipe(replay=0.5), writers, ASK, [], COMPUTE, round=1)
    both = policy.build(recipe(replay=0.5), writers, ASK, [], COMPUTE, round=1, replay=policy.Replay(lesson, teach))
    for number, (rewarded, beside) in enumerate(zip(plain.batches(0), both.batches(0), strict=True)):
        taught = teach(writers.policy, lesson(number))[0] / lesson(number).count
        expected = plain.objective(writers.policy, rewarded)[0] + 0.5 * taught * rewarded.count
        torch.testing.assert_close(both.objective(writers.policy, beside)[0], expected)
    later = both.batches(1)[0].lesson  # there are three micro-batches in a step
    assert later is not None
    assert torch.equal(later.tokens, lesson(3).tokens)


def test_the_policy_comes_to_write_what_is_rewarded(tokenizer: Tokenizer, small_model: MakeModel) -> None:
    """A reward for one token: after a few steps it is written far more often."""
    wanted = 40

    class Wants(RewardModel):
        def forward(self, answers: Answered) -> torch.Tensor:
            return torch.zeros(len(answers.ends)).index_add(0, answers.owners, (answers.targets == wanted).float())

    live = small_model(vocab_size=tokenizer.vocab_size)
    with torch.no_grad():
        live.lm_head.weight.mul_(0.1)  # begin by writing anything
    judge = Scorer(Wants(live), tokenizer, COMPUTE)
    writers = Writers(live, small_model(vocab_size=tokenizer.vocab_size), judge, tokenizer)
    settings = recipe(
        kl=0.0, steps=25, rows_per_step=32, microbatch_rows=32, group=8, learning_rate=0.02, unended_penalty=0.0
    )
    built = policy.build(settings, writers, ASK, [], COMPUTE, round=1)
    rewards = []
    for _ in train(built, alone(), steps=range(25)):
        rewards.append(built.evaluate()["reward"])
    assert sum(rewards[:3]) / 3 < 0.3
    assert sum(rewards[-3:]) / 3 > 1.5


def test_the_blind_comparison_is_measured_where_a_judge_knows_the_truth(writers: Writers) -> None:
    def gold(answer: str, ended: bool) -> float:
        return float(len(answer))

    judged = [Question((Message("user", f"Say {i}"),), gold) for i in range(5)]
    built = policy.build(recipe(), writers, ASK, judged, COMPUTE, round=1)
    assert 0 <= built.evaluate()["win_rate"] <= 1
    unjudged = policy.build(
        recipe(), writers, ASK, [question._replace(gold=None) for question in judged], COMPUTE, round=1
    )
    assert "win_rate" not in unjudged.evaluate()
    same = policy.build(recipe(), writers._replace(reference=writers.policy), ASK, judged, COMPUTE, round=1)
    assert same.evaluate()["win_rate"] == 0.5


def test_a_reward_head_makes_no_difference_to_the_policys_own_weights(
    tokenizer: Tokenizer, small_model: MakeModel
) -> None:
    trunk = small_model(vocab_size=tokenizer.vocab_size)
    before = [p.detach().clone() for p in trunk.parameters()]
    add_reward_head(trunk, 0)
    assert all(map(torch.equal, before, trunk.parameters()))
