"""What is made of a group of answers, and what it costs: worked by hand, and whole however a step is split."""

import copy
import math
from typing import Any

import pytest
import torch

from tests.phases.align.scene import ASK, COMPUTE, MakeModel, built, each, joined, recipe, rolled, task
from trivium.batch import Answered, RolloutBatch, TokenBatch
from trivium.compute import Compute
from trivium.distributed.world import World, alone
from trivium.errors import ConfigError
from trivium.evaluate.preference import answer_logprobs
from trivium.losses.language_model import entropy
from trivium.losses.policy import group_mean_advantages, kl_k2_loss, leave_one_out_advantages
from trivium.model.heads import RewardModel, add_reward_head
from trivium.phases.align import algorithms, policy
from trivium.phases.align.questions import Question
from trivium.phases.align.rollout import Writers
from trivium.phases.align.rules import Rules
from trivium.phases.align.scorer import Scorer
from trivium.phases.align.task import Replay
from trivium.phases.pretrain import next_token_objective
from trivium.records import Message
from trivium.text.tokenizer import Tokenizer
from trivium.train.loop import accumulate, train


def test_only_what_the_policy_wrote_is_supervised_its_end_token_too(writers: Writers) -> None:
    found = rolled(writers, max_new_tokens=30)
    for i, reply in enumerate(found.replies):
        answers = found.written[i // 4]
        mine = answers.owners == i % 4
        assert answers.targets[mine].tolist() == reply.tokens
        places = [*answers.sources[mine].tolist()[1:], answers.ends[i % 4].item()]
        assert answers.tokens.flatten()[places].tolist() == reply.tokens
    assert sum(len(answers.targets) for answers in found.written) == sum(len(reply.tokens) for reply in found.replies)


def test_the_first_ratio_is_exactly_one_and_the_reference_has_its_own_word(writers: Writers) -> None:
    for part in built(writers).batches(0):
        now = answer_logprobs(writers.policy, part.answers, temperature=1.5)
        assert torch.equal(now, part.old_logprobs)
        with torch.no_grad():
            theirs = answer_logprobs(writers.reference, part.answers, temperature=1.5)
        assert torch.equal(theirs, part.reference_logprobs)


def test_the_first_ratio_is_exactly_one_in_half_precision_too(writers: Writers) -> None:
    half = Compute(torch.device("cpu"), torch.bfloat16, False)
    phase = built(writers, half)
    for part in phase.batches(0):
        part = part._replace(sampled_logprobs=None)
        loss, metrics = phase.objective(writers.policy, part)
        assert torch.equal(loss, -(part.advantages * part.weights).sum())  # each ratio is one
        assert metrics["clipped"] == 0
        assert not torch.equal(answer_logprobs(writers.policy, part.answers, temperature=1.5), part.old_logprobs)


def test_what_an_answer_earns_by_hand(writers: Writers) -> None:
    """The reward, less KL at its price, less the penalty for not ending; then minus the mean of the others."""
    told: Any = {"kl": 0.1, "unended_penalty": 0.5, "max_new_tokens": 30, "temperature": 5.0, "algorithm": "rloo"}
    found = rolled(writers, **told)
    batches = policy.compared(found, recipe(**told).align, torch.device("cpu"))
    assert found.kl is not None
    assert {reply.ended for reply in found.replies} == {True, False}
    earned = []
    for i, reply in enumerate(found.replies):
        before_end = writers.tokenizer.encode(reply.text or "\n")[-1]
        assert found.rewards[i].item() == pytest.approx(before_end / 100)
        batch = batches[i // 4]
        assert batch.old_logprobs is not None
        kl = (batch.old_logprobs - batch.reference_logprobs)[batch.answers.owners == i % 4].sum()
        assert found.kl[i].item() == pytest.approx(kl.item(), abs=1e-5)
        earned.append(before_end / 100 - 0.1 * kl.item() - 0.5 * (not reply.ended))
    table = torch.tensor(earned).view(3, 4)
    expected = (table - (table.sum(1, keepdim=True) - table) / 3).flatten()
    torch.testing.assert_close(each(batches, "advantages"), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("algorithm", ["grpo", "rloo"])
def test_the_algorithms_differ_only_in_their_advantages(algorithm: str, writers: Writers) -> None:
    advantages = each(list(built(writers, algorithm=algorithm).batches(0)), "advantages")
    plain = {"grpo": group_mean_advantages, "rloo": leave_one_out_advantages}[algorithm]
    assert policy.ADVANTAGES[algorithm] is plain
    torch.testing.assert_close(advantages.view(3, 4).sum(1), torch.zeros(3), atol=1e-5, rtol=0)


def test_each_choice_of_the_loss_costs_what_it_says(writers: Writers) -> None:
    """Worked anew from its parts, away from ratio one."""
    for batch in built(writers).batches(0):
        owners, old = batch.answers.owners, batch.old_logprobs
        now = old + 0.1 * torch.sin(torch.arange(len(old)))
        gained = batch.advantages
        plain = -torch.minimum((now - old).exp() * gained, (now - old).exp().clamp(0.8, 1.28) * gained)
        lengths = owners.bincount().float()
        shared = torch.zeros(4).index_add(0, owners, now - old) / lengths
        together = -torch.minimum(shared.exp()[owners] * gained, shared.exp().clamp(0.8, 1.28)[owners] * gained)
        drift = 0.3 * kl_k2_loss(now, old, batch.reference_logprobs, owners)
        counted = (old - batch.sampled_logprobs).exp()  # the sampler's numbers are a little coarser than ours
        assert (counted - 1).abs().max() < 0.1
        for settings, expected in (
            ({}, plain),
            ({"ratio": "sequence"}, together),
            ({"kl_loss": 0.3}, plain + drift),
        ):
            losses = policy.token_losses(now, batch, recipe(**settings).align)
            torch.testing.assert_close(losses, expected * counted)


def test_a_token_that_the_sampler_drew_too_rarely_counts_for_more_but_not_for_much_more(writers: Writers) -> None:
    (batch, *_) = built(writers, epochs=2).batches(0)
    settings = recipe(epochs=2).align

    def costs(gap: float) -> torch.Tensor:
        apart = batch._replace(sampled_logprobs=batch.old_logprobs - gap)
        return policy.token_losses(batch.old_logprobs, apart, settings)

    alike = policy.token_losses(batch.old_logprobs, batch._replace(sampled_logprobs=None), settings)
    torch.testing.assert_close(costs(0.0), alike)
    torch.testing.assert_close(costs(math.log(1.5)), 1.5 * alike)
    torch.testing.assert_close(costs(-math.log(4)), alike / 4)
    torch.testing.assert_close(costs(5.0), policy.MOST_IMPORTANT * alike)


def test_rejection_imitates_the_best_of_each_group(writers: Writers) -> None:
    best = each(list(built(writers, algorithm="rejection").batches(0)), "advantages").view(3, 4)
    assert best.sum(1).tolist() == [1, 1, 1]
    divided = each(list(built(writers, spread=True).batches(0)), "advantages").view(3, 4)
    torch.testing.assert_close(divided.std(1), torch.ones(3))


def test_what_phase_two_taught_is_weighed_by_the_mean_token_beside_what_is_rewarded(writers: Writers) -> None:
    teach = next_token_objective(COMPUTE)
    ids = torch.arange(10, 34).view(4, 6)
    order, zeros = torch.arange(6).expand(4, 6), torch.zeros(4, 6, dtype=torch.int64)
    supervised = torch.arange(6).expand(4, 6) >= torch.tensor([0, 1, 4, 5])[:, None]

    def lesson(number: int) -> TokenBatch:
        return TokenBatch(*(field[number : number + 1] for field in (ids, ids + 1, supervised, order, zeros)))

    plain = built(writers, replay=0.5)
    both = algorithms.build(task(writers, replay=0.5)._replace(replay=Replay(lesson, teach)))
    for number, (rewarded, beside) in enumerate(zip(plain.batches(0), both.batches(0), strict=True)):
        taught = teach(writers.policy, lesson(number))[0] / lesson(number).count
        expected = plain.objective(writers.policy, rewarded)[0] + 0.5 * taught * rewarded.count
        torch.testing.assert_close(both.objective(writers.policy, beside)[0], expected)
    later = both.batches(1)[0].lesson  # there are three micro-batches in a step
    assert later is not None
    assert torch.equal(later.tokens, lesson(3).tokens)


@pytest.mark.parametrize(
    ("algorithm", "more"),
    [
        ("grpo", {}),
        ("grpo", {"minibatches": 2, "microbatch_rows": 16}),
        ("rloo", {}),
        ("rejection", {}),
        ("ppo", {}),
        ("online-dpo", {}),
    ],
)
def test_the_policy_comes_to_write_what_is_rewarded(
    algorithm: str, more: dict[str, Any], tokenizer: Tokenizer, small_model: MakeModel
) -> None:
    """A reward for one token: after a few steps it is written far more often."""
    wanted = 40

    class Wants(RewardModel):
        def forward(self, answers: Answered) -> torch.Tensor:
            return torch.zeros(len(answers.ends)).index_add(0, answers.owners, (answers.targets == wanted).float())

    live = small_model(vocab_size=tokenizer.vocab_size, tie_embeddings=True)
    with torch.no_grad():
        live.lm_head.weight.mul_(0.1)  # begin by writing anything
    judge = Scorer(Wants(live), tokenizer, COMPUTE)
    writers = Writers(live, small_model(vocab_size=tokenizer.vocab_size), judge, tokenizer)
    steps = (40 if algorithm == "ppo" else 25) * more.get("minibatches", 1)  # its value model learns too
    settings: Any = {"steps": steps, "rows_per_step": 32, "microbatch_rows": 32, "group": 8, "learning_rate": 0.02}
    settings |= {"unended_penalty": 0.0} | ({} if algorithm == "online-dpo" else {"kl": 0.0}) | more
    phase = built(writers, algorithm=algorithm, **settings)
    rewards = []
    for _ in train(phase, alone(), steps=range(steps)):
        rewards.append(phase.observe()["reward"])
    assert sum(rewards[:3]) / 3 < 0.3
    assert sum(rewards[-3:]) / 3 > 1.5


def test_the_blind_comparison_is_measured_where_a_judge_knows_the_truth(writers: Writers) -> None:
    def gold(answer: str, ended: bool) -> float:
        return float(len(answer))

    judged = [Question((Message("user", f"Say {i}"),), gold) for i in range(5)]

    def found(writers: Writers, asked: list[Question]) -> dict[str, float]:
        return algorithms.build(task(writers)._replace(measure=asked)).evaluate()

    assert 0 <= found(writers, judged)["win_rate"] <= 1
    assert "win_rate" not in found(writers, [question._replace(gold=None) for question in judged])
    near = found(writers._replace(reference=writers.policy), judged)
    assert near["win_rate"] == 0.5
    assert near["kl"] == 0


def test_a_reward_head_makes_no_difference_to_the_policys_own_weights(
    tokenizer: Tokenizer, small_model: MakeModel
) -> None:
    trunk = small_model(vocab_size=tokenizer.vocab_size)
    before = [p.detach().clone() for p in trunk.parameters()]
    add_reward_head(trunk, 0)
    assert all(map(torch.equal, before, trunk.parameters()))


@pytest.mark.parametrize("algorithm", ["grpo", "rloo", "rejection", "ppo", "dpo", "online-dpo"])
def test_every_algorithm_is_examined_alike(algorithm: str, writers: Writers) -> None:
    """Reward, where there is one, KL, entropy, length, endings, and whether answers differ: at every evaluation."""
    phase = algorithms.build(task(writers, algorithm=algorithm)._replace(measure=[ASK(i) for i in range(3)]))
    found = phase.evaluate()
    assert {"kl", "entropy", "length", "ended", "distinct"} <= found.keys()
    assert ("reward" in found) is (algorithm != "dpo")
    assert found["entropy"] > 0


@pytest.mark.parametrize("choice", ["tokens", "answers", "constant"])
@pytest.mark.parametrize("algorithm", ["grpo", "ppo"])
def test_loss_and_gradient_do_not_depend_on_how_a_step_is_split(algorithm: str, choice: str, writers: Writers) -> None:
    """Also where some answers are left out: weights and items are sums, never means of means.

    The answers were written before the policy moved, so that some tokens are clipped.
    """
    found, wrote = [], copy.deepcopy(writers.policy.state_dict())
    for rows in (12, 4, 2):
        phase = built(
            writers,
            algorithm=algorithm,
            weigh=choice,
            overlong="skip",
            microbatch_rows=rows,
            kl_loss=0.1,
            entropy=0.01,
            max_new_tokens=30,
            temperature=5.0,
        )
        batches = list(phase.batches(0))
        assert 0 < (joined(batches, "weights") == 0).float().mean() < 1
        phase.model.zero_grad()
        move(writers.policy)
        loss, _, metrics = accumulate(phase.model, phase.objective, batches, alone())
        gradients = [p.grad.clone() for p in phase.model.parameters() if p.grad is not None]
        assert 0 < metrics["clipped"] < 1
        whole = [] if choice == "constant" else [metrics["clipped"], metrics["entropy"]]
        found.append((loss, *whole, *gradients))
        writers.policy.load_state_dict(wrote)
    for other in found[1:]:
        torch.testing.assert_close(other, found[0], atol=2e-5, rtol=1e-3)


@torch.no_grad()
def move(model: torch.nn.Module) -> None:
    """Changes every weight a little, always in the same way."""
    generator = torch.Generator().manual_seed(0)
    for weight in model.parameters():
        weight.add_(0.2 * torch.randn(weight.shape, generator=generator))


@pytest.mark.parametrize("ratio", ["token", "sequence"])
def test_the_share_that_is_clipped_is_of_the_ratios_that_are_used(ratio: str, writers: Writers) -> None:
    """A token that is clipped gets no gradient; with one ratio to an answer, all of an answer's tokens or none."""
    phase = built(writers, ratio=ratio, epochs=2)
    settings, batches = recipe(ratio=ratio, epochs=2).align, list(phase.batches(0))
    move(writers.policy)
    shares = []
    for batch in batches:
        now = answer_logprobs(writers.policy, batch.answers, temperature=1.5).detach().requires_grad_()
        (taught,) = torch.autograd.grad(policy.token_losses(now, batch, settings).sum(), now)
        told = phase.objective(writers.policy, batch)[1]["clipped"].item()
        silent = (taught == 0) & (batch.advantages != 0)
        assert told == pytest.approx((silent * batch.weights).sum().item())
        shares.append(told / max(batch.count.item(), 1))
    assert 0 < max(shares) < 1


def test_what_is_looked_at_before_the_first_step_is_what_is_learned_from(writers: Writers) -> None:
    looked, unseen = built(writers), built(writers)
    assert looked.observe()["distinct"] > 0
    one, other = (joined(list(phase.batches(0)), "advantages") for phase in (looked, unseen))
    assert torch.equal(one, other)
    assert not torch.equal(joined(list(looked.batches(1)), "advantages"), one)


def test_what_tokens_weigh_by_hand() -> None:
    owners, learned = torch.tensor([0, 0, 0, 1, 2, 2]), torch.tensor([True, True, False])

    def weighed(choice: str) -> tuple[list[float], float]:
        weights, items = policy.weights_of(owners, learned, recipe(weigh=choice).align)
        return [round(weight, 4) for weight in weights.tolist()], items.item()

    assert weighed("tokens") == ([1, 1, 1, 1, 0, 0], 4)
    assert weighed("answers") == ([0.3333, 0.3333, 0.3333, 1, 0, 0], 2)
    assert weighed("constant") == ([1, 1, 1, 1, 0, 0], 18)  # three answers of at most six tokens


def test_from_a_group_that_earns_all_the_same_nothing_is_learned(writers: Writers) -> None:
    """Not even by the differences of its KL; and a step without any other leaves the weights alone."""
    dull = writers._replace(scorer=None, rules=Rules(0.0, []))
    phase = built(dull, unended_penalty=0.0)
    batches = list(phase.batches(0))
    assert joined(batches, "weights").abs().sum() == 0
    before = [p.detach().clone() for p in phase.model.parameters()]
    (report,) = train(phase, alone(), steps=range(1))
    assert not report.skipped
    assert report.loss == 0
    assert all(map(torch.equal, before, phase.model.parameters()))


def test_answers_that_never_end_can_be_left_out_of_the_loss(writers: Writers) -> None:
    told: Any = {"max_new_tokens": 30, "temperature": 5.0}
    replies = rolled(writers, **told).replies
    found = policy.compared(rolled(writers, **told, overlong="skip"), recipe(overlong="skip").align, COMPUTE.device)
    assert (each(found, "weights") > 0).tolist() == [reply.ended for reply in replies]
    assert {reply.ended for reply in replies} == {True, False}


def test_the_entropy_in_the_loss_is_that_of_the_whole_vocabulary(writers: Writers) -> None:
    phase, with_bonus = built(writers, kl=0.0), built(writers, kl=0.0, entropy=0.5)
    for batch in phase.batches(0):
        loss, estimated = phase.objective(writers.policy, batch)
        more, exact = with_bonus.objective(writers.policy, batch)
        logits = writers.policy.lm_head(policy.answer_hidden(writers.policy, batch.answers))
        each_token = entropy(logits / 1.5)
        torch.testing.assert_close(more, loss - 0.5 * (each_token * batch.weights).sum(), rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(exact["entropy"], (each_token * batch.weights).sum())
        drawn = -answer_logprobs(writers.policy, batch.answers, temperature=1.5) @ batch.weights
        torch.testing.assert_close(estimated["entropy"], drawn)


def test_several_steps_learn_from_what_was_written_at_once(writers: Writers) -> None:
    """Two passes of three mini-batches: every micro-batch once in each pass, and never the first ratio again."""
    phase = built(writers, epochs=2, minibatches=3, steps=12)
    assert phase.stride == 6
    seen: list[list[RolloutBatch]] = [list(phase.batches(step)) for step in range(6)]
    assert [len(part) for part in seen] == [1] * 6
    for turns in (seen[:3], seen[3:]):
        assert len({id(part[0].answers) for part in turns}) == 3
    assert {id(part[0].answers) for part in seen[:3]} == {id(part[0].answers) for part in seen[3:]}
    assert id(phase.batches(6)[0].answers) not in {id(part[0].answers) for part in seen}


def test_the_ratio_is_to_the_policy_that_wrote_however_often_it_has_moved_since(writers: Writers) -> None:
    phase = built(writers, kl=0.0, epochs=2, steps=4, learning_rate=0.02)
    reports = train(phase, alone(), steps=range(4))
    next(reports)
    (first, *_) = phase.batches(1)
    assert first.old_logprobs is not None
    now = answer_logprobs(writers.policy, first.answers, temperature=1.5)
    ratio = (now - first.old_logprobs).exp()
    assert (ratio - 1).abs().max() > 0.01
    loss, _ = phase.objective(writers.policy, first)
    clipped = ratio.clamp(0.8, 1.28)
    losses = -torch.minimum(ratio * first.advantages, clipped * first.advantages)
    expected = (losses * (first.old_logprobs - first.sampled_logprobs).exp() * first.weights).sum()
    torch.testing.assert_close(loss, expected)
    assert next(reports).metrics["clipped"] > 0


def test_ranks_that_could_not_share_a_step_evenly_are_told_so(writers: Writers) -> None:
    crowd = World(0, 2, COMPUTE.device)
    with pytest.raises(ConfigError, match=r"align.rows_per_step = 12: cannot be shared out evenly among 2 ranks"):
        algorithms.build(task(writers)._replace(world=crowd))  # three groups
    algorithms.build(task(writers, rows_per_step=16)._replace(world=crowd))
