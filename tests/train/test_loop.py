"""The loop: it sums before it divides, so that a step is the same however it is cut up; and it steps on no nonsense."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from trivium.batch import PairBatch, RolloutBatch, TokenBatch
from trivium.compute import Compute
from trivium.config import OptimizerConfig
from trivium.distributed.world import World, alone
from trivium.evaluate.preference import answer_logprobs
from trivium.losses.policy import clipped_policy_loss
from trivium.losses.preference import bradley_terry_loss, centering_penalty
from trivium.model.heads import RewardModel, add_reward_head
from trivium.model.shape import ModelConfig
from trivium.model.transformer import Transformer, initialise
from trivium.phases.pretrain import next_token_objective
from trivium.text.branches import pack_answers
from trivium.text.packing import PackedRows, microbatches
from trivium.train.loop import StepReport, accumulate, shorten, train
from trivium.train.optimizer import build_optimizers
from trivium.train.phase import Objective, Phase, Stream

MakeModel = Callable[..., Transformer]
NEXT_TOKEN = next_token_objective(Compute(torch.device("cpu"), torch.float32, False))


def rows(step: int, count: int = 4, length: int = 12) -> TokenBatch:
    """Rows with very different numbers of targets, each of two documents."""
    generator = torch.Generator().manual_seed(step)
    tokens = torch.randint(61, (count, length + 1), generator=generator)
    share = torch.tensor([0.05, 0.3, 0.6, 0.95])[:count, None]
    supervised = torch.rand(count, length, generator=generator) < share
    documents = (torch.arange(length) >= 5).long().expand(count, length)
    positions = torch.cat([torch.arange(5), torch.arange(length - 5)]).expand(count, length)
    return TokenBatch(tokens[:, :-1], tokens[:, 1:], supervised, positions, documents)


def cut(batch: Any, size: int) -> list[Any]:
    return [type(batch)(*(field[i : i + size] for field in batch)) for i in range(0, len(batch[0]), size)]


def gradients(model: nn.Module, objective: Objective[Any], batches: Sequence[Any]) -> tuple[list[Tensor], float]:
    model.zero_grad(set_to_none=True)
    loss, _, _ = accumulate(model, objective, batches, alone())
    return [p.grad.clone() for p in model.parameters() if p.grad is not None], loss.item()


def assert_same_gradient(
    model: nn.Module, objective: Objective[Any], whole: Any, parts: Sequence[Sequence[Any]]
) -> None:
    expected, loss = gradients(model, objective, [whole])
    assert expected
    assert max(g.abs().max() for g in expected) > 1e-3
    for batches in parts:
        found, same_loss = gradients(model, objective, batches)
        assert same_loss == pytest.approx(loss, abs=1e-6)
        for a, b in zip(found, expected, strict=True):
            torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-5)


def test_one_big_batch_and_four_micro_batches_give_the_same_gradient(small_model: MakeModel) -> None:
    whole = rows(0)
    assert len(set(whole.supervised.sum(1).tolist())) > 2
    assert_same_gradient(small_model(), NEXT_TOKEN, whole, [cut(whole, 1), cut(whole, 2), cut(whole, 3)])


def test_a_row_of_padding_changes_nothing(small_model: MakeModel) -> None:
    whole = rows(0)
    empty = TokenBatch(*(field[:1].clone() for field in whole))._replace(
        supervised=torch.zeros(1, 12, dtype=torch.bool)
    )
    padded = TokenBatch(*(torch.cat(parts) for parts in zip(whole, empty, strict=True)))
    assert_same_gradient(small_model(), NEXT_TOKEN, whole, [[padded], [whole, empty]])


def pair_objective(model: RewardModel, batch: PairBatch) -> tuple[Tensor, dict[str, Tensor]]:
    first, second = model(batch.answers).view(-1, 2).T
    losses = bradley_terry_loss(first - second, batch.preference, smoothing=0.05)
    return (losses + 0.01 * centering_penalty(first, second)).sum(), {}


def drawn(lengths: Sequence[int], seed: int) -> list[list[int]]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(61, (length,), generator=generator).tolist() for length in lengths]


def test_pairs_in_one_batch_and_in_four_with_other_packing_give_the_same_gradient(small_model: MakeModel) -> None:
    """Whichever pairs stand together, however many share a row, and however much of it is padding."""
    prompts, written = drawn([5, 2, 3, 1], seed=3), drawn([9, 1, 3, 10, 6, 6, 2, 7], seed=4)
    preference = torch.tensor([1.0, 0.5, 1.0, 0.0])

    def pairs(chosen: list[int], row_length: int) -> PairBatch:
        asked = [prompts[i] for i in chosen for _ in range(2)]
        answers = pack_answers(asked, [written[2 * i + side] for i in chosen for side in range(2)], row_length, 6)
        return PairBatch(answers, preference[chosen])

    whole = pairs([0, 1, 2, 3], 48)
    parts = [pairs([0], 1), pairs([1], 40), pairs([2], 16), pairs([3], 8)]
    assert [tuple(batch.tokens.shape) for batch in (whole, *parts)] == [(2, 48), (2, 16), (1, 16), (1, 16), (2, 8)]
    model = add_reward_head(small_model(), 0)
    other_order = [pairs([2, 0], 20), pairs([3, 1], 100)]
    assert_same_gradient(model, pair_objective, whole, [parts, other_order, [pairs([3, 2, 1, 0], 8)]])


def policy_objective(model: Transformer, batch: RolloutBatch) -> tuple[Tensor, dict[str, Tensor]]:
    logprobs = answer_logprobs(model, batch.answers)
    assert batch.old_logprobs is not None
    return clipped_policy_loss(logprobs, batch.old_logprobs, batch.advantages, low=0.2, high=0.28).sum(), {}


def rollouts(model: Transformer, chosen: Sequence[int], row_length: int) -> RolloutBatch:
    """Some of six answers of very different lengths: three to the first prompt, two to the second, one to the third."""
    prompts, written = drawn([4, 7, 1], seed=4), drawn([8, 3, 5, 1, 12, 2], seed=5)
    asked = [prompts[(0, 0, 0, 1, 1, 2)[i]] for i in chosen]
    answers = pack_answers(asked, [written[i] for i in chosen], row_length, 6)
    with torch.no_grad():
        old = answer_logprobs(model, answers)
    advantages = torch.tensor([1.0, -0.5, 0.25, -0.75, 0.5, -1.0])[list(chosen)][answers.owners]
    return RolloutBatch(answers, advantages, torch.ones_like(old), torch.tensor(float(len(old))), old, old)


def test_answers_in_one_batch_and_in_six_and_with_other_packing_give_the_same_gradient(small_model: MakeModel) -> None:
    """Also where a group is cut in two, so that its prompt is read in both micro-batches."""
    model = small_model()
    whole = rollouts(model, range(6), 48)
    assert whole.tokens.shape == (1, 48)
    each = [rollouts(model, [i], 1) for i in range(6)]
    halves = [rollouts(model, part, 24) for part in ([0, 1], [2, 3, 4], [5])]
    wider = [rollouts(model, range(6), 100)]
    assert_same_gradient(
        model, policy_objective, whole, [each, halves, wider, [rollouts(model, [5, 0, 3, 2, 4, 1], 16)]]
    )


def test_the_first_ratio_is_exactly_one(small_model: MakeModel) -> None:
    model = small_model()
    batch = rollouts(model, range(6), 24)
    logprobs = answer_logprobs(model, batch.answers)  # now with a gradient
    assert batch.old_logprobs is not None
    assert torch.equal((logprobs - batch.old_logprobs).exp(), torch.ones_like(logprobs))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        now = answer_logprobs(model, batch.answers)
        with torch.no_grad():
            before = answer_logprobs(model, batch.answers)
    assert torch.equal(now, before)
    assert not torch.equal(now, logprobs), "without autocast this proves nothing"


def phase_of(
    model: nn.Module, batches: Stream[Any], objective: Objective[Any] = NEXT_TOKEN, **settings: float
) -> Phase[Any]:
    config = OptimizerConfig.model_validate({"steps": 100, "learning_rate": 1e-2, **settings})
    optimizers = build_optimizers(model, config)
    return Phase("p", model, objective, batches, dict, optimizers, config, evaluations=0)


def run(phase: Phase[Any], steps: range, world: World | None = None) -> list[StepReport]:
    return list(train(phase, world or alone(), steps=steps))


def test_a_step_reports_nats_per_target_and_counts_everything(small_model: MakeModel) -> None:
    batch = rows(1)
    (report,) = run(phase_of(small_model(), lambda step: cut(batch, 2)), range(1))
    with torch.no_grad():
        expected = NEXT_TOKEN(small_model(), batch)[0] / batch.count
    assert report.loss == pytest.approx(expected.item(), rel=1e-5)
    assert (report.step, report.items, report.tokens, report.skipped) == (1, int(batch.supervised.sum()), 48, False)


def test_metrics_are_per_counted_item(small_model: MakeModel) -> None:
    def objective(model: Transformer, batch: TokenBatch) -> tuple[Tensor, dict[str, Tensor]]:
        return NEXT_TOKEN(model, batch)[0], {"threes": 3 * batch.count}

    (report,) = run(phase_of(small_model(), lambda step: cut(rows(1), 1), objective), range(1))
    assert report.metrics == {"threes": pytest.approx(3.0)}


def test_long_gradients_are_shortened_and_short_ones_are_not(small_model: MakeModel) -> None:
    seen: list[float] = []

    def length_at_step(limit: float) -> float:
        model = small_model()
        phase = phase_of(model, lambda step: [rows(0)], max_grad_norm=limit)

        def listening(optimizer: torch.optim.Optimizer, *rest: object) -> None:
            seen.append(math.sqrt(sum(p.grad.square().sum().item() for p in model.parameters() if p.grad is not None)))

        phase.optimizers[0].register_step_pre_hook(listening)
        (report,) = run(phase, range(1))
        assert seen[-1] == pytest.approx(min(report.grad_norm, limit), rel=1e-4)
        return report.grad_norm

    assert length_at_step(1e-3) == pytest.approx(length_at_step(1e3), rel=1e-5)  # what is reported is the true length


def nonsense(where: str) -> Objective[TokenBatch]:
    def objective(model: Transformer, batch: TokenBatch) -> tuple[Tensor, dict[str, Tensor]]:
        loss, metrics = NEXT_TOKEN(model, batch)
        if where == "gradient":  # a finite loss with an infinite slope
            return loss + (model.norm.weight * 0).sum().sqrt(), metrics
        return loss * float(where), metrics

    return objective


@pytest.mark.parametrize("where", ["nan", "inf", "gradient"])
def test_what_is_not_finite_leaves_weights_and_optimizers_untouched_and_is_reported(
    where: str, small_model: MakeModel
) -> None:
    good = phase_of(small_model(), lambda step: [rows(step)])
    run(good, range(2))
    weights = [p.detach().clone() for p in good.model.parameters()]
    state = [repr(optimizer.state_dict()["state"]) for optimizer in good.optimizers]
    bad = Phase(good.name, good.model, nonsense(where), good.batches, dict, good.optimizers, good.settings, 0)
    (report,) = run(bad, range(2, 3))
    assert report.skipped
    assert all(map(torch.equal, weights, good.model.parameters()))
    assert state == [repr(optimizer.state_dict()["state"]) for optimizer in good.optimizers]
    assert all(p.grad is None for p in good.model.parameters())
    (after,) = run(good, range(3, 4))
    assert not after.skipped
    assert math.isfinite(after.loss)
    assert not all(map(torch.equal, weights, good.model.parameters()))


def test_a_step_without_a_single_target_is_skipped(small_model: MakeModel) -> None:
    empty = rows(0)._replace(supervised=torch.zeros(4, 12, dtype=torch.bool))
    (report,) = run(phase_of(small_model(), lambda step: [empty]), range(1))
    assert report.skipped


def test_the_learning_rate_follows_the_schedule_of_the_whole_phase_also_after_a_resume(small_model: MakeModel) -> None:
    whole = run(phase_of(small_model(), lambda step: [rows(step)], warmup_steps=2, decay=0.5), range(10))
    assert [round(report.learning_rate, 4) for report in whole] == [0.5, 1, 1, 1, 1, 1, 0.8, 0.6, 0.4, 0.2]
    later = run(phase_of(small_model(), lambda step: [rows(step)], warmup_steps=2, decay=0.5), range(6, 10))
    assert [report.learning_rate for report in later] == [report.learning_rate for report in whole[6:]]
    assert [report.step for report in later] == [7, 8, 9, 10]


def test_nothing_is_computed_before_it_is_asked_for(small_model: MakeModel) -> None:
    asked: list[int] = []

    def batches(step: int) -> list[TokenBatch]:
        asked.append(step)
        return [rows(step)]

    steps = train(phase_of(small_model(), batches), alone(), steps=range(5))
    next(steps)
    next(steps)
    assert asked == [0, 1]


GOLDEN = {
    True: [4.4176, 3.9962, 3.5886, 3.2277, 2.9673],
    False: [4.8725, 4.0783, 3.2937, 2.7093, 2.2107],
}  # tied embeddings or not


@pytest.mark.parametrize("tied", GOLDEN)
def test_the_first_five_losses_are_those_that_were_recorded(tied: bool) -> None:
    """A change of any of model, packing, loss, schedule or optimizer shows here; record anew only with a reason."""
    text = np.frombuffer(b"".join(b"the %d sat on the %d mat. " % (i % 7, i % 3) for i in range(60)), dtype=np.uint8)
    ids = (text % 61).astype(np.int32)
    lengths = np.full(24, len(ids) // 24)

    def fetch(epoch: int, item: int, start: int, stop: int) -> tuple[Any, Any]:
        here = ids[item * lengths[0] :][start:stop]
        return here, np.ones(len(here), dtype=np.bool_)

    packed = PackedRows(lengths, fetch, row_length=48, seed=1, pad=0)
    sizes: Any = {"vocab_size": 61, "num_layers": 2, "width": 24, "num_heads": 2, "num_kv_heads": 1, "mlp_width": 48}
    model = initialise(Transformer(ModelConfig(**sizes, context_length=48, tie_embeddings=tied)), seed=1)

    def batches(step: int) -> list[TokenBatch]:
        return microbatches(packed.row, step, rows_per_step=4, rank=0, ranks=1, microbatch_rows=2)

    reports = run(phase_of(model, batches, matrix_learning_rate=4e-3, warmup_steps=0, decay=0.2), range(5))
    assert [report.loss for report in reports] == pytest.approx(GOLDEN[tied], abs=1e-3)


@pytest.mark.parametrize(("longest", "left"), [(1.0, [0.6, 0.8]), (6.0, [3.0, 4.0])])
def test_a_gradient_is_shortened_only_where_it_is_too_long(longest: float, left: list[float]) -> None:
    """3 and 4, in two parameters, are 5 long."""
    parameters = [nn.Parameter(torch.zeros(1)) for _ in range(3)]
    for parameter, slope in zip(parameters, (3.0, 4.0), strict=False):  # the last one has none
        parameter.grad = torch.tensor([slope])
    assert float(shorten(parameters, longest)) == pytest.approx(5.0)
    assert [float(p.grad) for p in parameters if p.grad is not None] == pytest.approx(left, rel=1e-5)


def test_a_gradient_that_is_not_finite_is_left_as_it_is() -> None:
    parameter = nn.Parameter(torch.zeros(2))
    parameter.grad = torch.tensor([float("nan"), 3.0])
    assert shorten([parameter], 1.0).isnan()
    assert float(parameter.grad[1]) == 3.0
