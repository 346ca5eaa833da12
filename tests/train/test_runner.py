"""A phase run to its end, stopped, damaged and gone on with: the same bits as if nothing had happened."""

import json
import random
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from trivium.batch import TokenBatch
from trivium.compute import Compute
from trivium.config import OptimizerConfig
from trivium.distributed.world import alone
from trivium.errors import DivergedError, Interrupted
from trivium.model.shape import ModelConfig
from trivium.model.transformer import Transformer, initialise
from trivium.phases.pretrain import next_token_objective
from trivium.runs import Journal, Run
from trivium.train.interrupt import Interrupt
from trivium.train.optimizer import build_optimizers
from trivium.train.phase import Phase
from trivium.train.runner import Progress, is_due, run_phase

STEPS = 8
NEXT_TOKEN = next_token_objective(Compute(torch.device("cpu"), torch.float32, False))
SHAPE = ModelConfig(vocab_size=29, num_layers=2, width=16, num_heads=2, num_kv_heads=2, mlp_width=24, context_length=16)


def rows(step: int) -> TokenBatch:
    generator = torch.Generator().manual_seed(step)
    tokens = torch.randint(29, (3, 17), generator=generator)
    return TokenBatch(
        tokens[:, :-1],
        tokens[:, 1:],
        torch.rand(3, 16, generator=generator) < 0.7,
        torch.arange(16).expand(3, 16),
        torch.zeros(3, 16, dtype=torch.int64),
    )


def fresh_phase(*, steps: int = STEPS, poison: Sequence[int] = (), stride: int = 1) -> Phase[TokenBatch]:
    """The same phase every time it is built; on the steps of `poison` its loss is not a number.

    stride  so many steps learn from rows that were drawn by the weights before the first of them
    """
    model = initialise(Transformer(SHAPE), seed=1)
    settings = OptimizerConfig(steps=steps, rows_per_step=3, microbatch_rows=3)
    asked: list[int] = []

    drawn: dict[int, int] = {}

    def batches(step: int) -> list[TokenBatch]:
        asked.append(step)
        if stride == 1:
            return [rows(step)]
        weighed = int(1e6 * model.embed_tokens.weight.abs().sum().item())
        return [rows(drawn.setdefault(step // stride, weighed) + step)]

    def objective(model: Transformer, batch: TokenBatch) -> tuple[Tensor, dict[str, Tensor]]:
        loss, metrics = NEXT_TOKEN(model, batch)
        return (loss * float("nan") if asked[-1] in poison else loss), metrics

    def evaluate() -> dict[str, float]:
        return {"weight": model.embed_tokens.weight.sum().item()}

    optimizers = build_optimizers(model, settings)
    return Phase("p", model, objective, batches, evaluate, optimizers, settings, evaluations=2, stride=stride)


class Attempt:
    """One process' worth of a run: the same phase, built anew, in the same folder."""

    def __init__(self, folder: Path, **phase: Any) -> None:
        folder.mkdir(exist_ok=True)
        self.run, self.interrupt, self.said = Run(folder), Interrupt(), list[str]()
        self.phase = fresh_phase(**phase)

    def progress(self, *, save_seconds: float = 0.0) -> Any:
        return run_phase(self.phase, self.run, alone(), self.interrupt, save_seconds=save_seconds, say=self.said.append)

    def until(self, step: int, *, save_seconds: float = 0.0) -> None:
        """Work up to a step, and vanish before the next."""
        for progress in self.progress(save_seconds=save_seconds):
            if progress.step == step:
                return

    def asked_to_stop_after(self, step: int) -> str:
        """What it says when somebody asks it to stop after a step."""
        try:
            for progress in self.progress(save_seconds=1e9):
                self.interrupt.requested |= progress.step == step
        except Interrupted as reason:
            return str(reason)
        return ""

    def to_the_end(self, *, save_seconds: float = 0.0) -> list[Progress]:
        return list(self.progress(save_seconds=save_seconds))

    @property
    def weights(self) -> list[Tensor]:
        return [p.detach() for p in self.phase.model.parameters()]

    @property
    def lines(self) -> list[dict[str, Any]]:
        """The journal without what the clock says."""
        read = [json.loads(line) for line in self.run.journal.read_text().splitlines()]
        return [{k: v for k, v in line.items() if k not in ("seconds", "tokens_per_second")} for line in read]

    def checkpoints(self) -> list[str]:
        return sorted(path.name for path in self.run.state("p").iterdir())


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Attempt:
    attempt = Attempt(tmp_path_factory.mktemp("whole"))
    attempt.to_the_end()
    return attempt


def assert_same(attempt: Attempt, other: Attempt) -> None:
    assert attempt.lines == other.lines
    assert all(map(torch.equal, attempt.weights, other.weights))


def test_the_journal_has_a_line_for_every_step_in_the_same_columns(uninterrupted: Attempt) -> None:
    steps = [line for line in Journal(uninterrupted.run.journal).read() if "evaluation" not in line]
    assert [line["step"] for line in steps] == list(range(1, STEPS + 1))
    columns = ["phase", "step", "loss", "grad_norm", "learning_rate", "items", "tokens_per_second", "seconds"]
    assert all(list(line) == columns for line in steps)
    assert steps[0]["items"] == int(rows(0).supervised.sum())


def test_evaluations_are_evenly_spread_and_the_last_is_at_the_end(uninterrupted: Attempt) -> None:
    measured = [(line["step"], line["evaluation"]) for line in uninterrupted.lines if "evaluation" in line]
    assert [step for step, _ in measured] == [4, 8]
    assert measured[-1][1] == {"weight": pytest.approx(uninterrupted.weights[0].sum().item())}
    for steps, times in ((10, 3), (7, 7), (5, 20), (1000, 8)):
        due = [step for step in range(1, steps + 1) if is_due(step, steps, times)]
        assert due[-1] == steps
        assert len(due) == min(steps, times)
    assert not any(is_due(step, 10, 0) for step in range(1, 11))


def test_what_was_measured_towards_another_end_is_not_measured_again() -> None:
    """Half of 8 are 4 steps; of 10 in all they are not half, and the fifth is no second half."""
    assert [step for step in range(1, 11) if is_due(step, 10, 2, [(4, 8)])] == [4, 10]
    assert [step for step in range(1, 7) if is_due(step, 6, 2, [(3, 8)])] == [4, 6]  # it is late already
    assert [step for step in range(1, 13) if is_due(step, 12, 4, [(6, 8), (7, 20)])] == [2, 4, 6, 12]


def test_who_iterates_hears_of_every_step(tmp_path: Path) -> None:
    heard = Attempt(tmp_path).to_the_end()
    assert [(p.phase, p.step, p.steps, p.evaluation is not None) for p in heard] == [
        ("p", step, STEPS, step in (4, 8)) for step in range(1, STEPS + 1)
    ]


@pytest.mark.parametrize("step", range(1, STEPS + 1))
def test_a_run_that_vanished_after_any_step_goes_on_to_the_same_bits(
    step: int, uninterrupted: Attempt, tmp_path: Path
) -> None:
    Attempt(tmp_path).until(step)
    again = Attempt(tmp_path)
    heard = again.to_the_end()
    # the step at which it vanished was saved; what lies behind it is not done again
    assert [p.step for p in heard] == list(range(step + 1, STEPS + 1))
    assert_same(again, uninterrupted)


def test_a_run_that_vanishes_again_and_again_ends_with_the_same_bits(uninterrupted: Attempt, tmp_path: Path) -> None:
    chance = random.Random(1)
    for _ in range(6):
        Attempt(tmp_path).until(chance.randint(1, STEPS), save_seconds=chance.choice((0.0, 1e9)))
    last = Attempt(tmp_path)
    last.to_the_end()
    assert_same(last, uninterrupted)


def test_what_was_not_saved_is_done_again_and_told_only_once(uninterrupted: Attempt, tmp_path: Path) -> None:
    Attempt(tmp_path).until(3)
    Attempt(tmp_path).until(6, save_seconds=1e9)  # three steps more, none of them saved
    again = Attempt(tmp_path)
    assert [p.step for p in again.to_the_end()] == [4, 5, 6, 7, 8]
    assert_same(again, uninterrupted)


def test_a_finished_phase_trains_nothing_and_has_the_finished_weights(uninterrupted: Attempt, tmp_path: Path) -> None:
    shutil.copytree(uninterrupted.run.path, tmp_path / "run")
    again = Attempt(tmp_path / "run")
    assert again.to_the_end() == []
    assert_same(again, uninterrupted)


def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(uninterrupted: Attempt, tmp_path: Path) -> None:
    Attempt(tmp_path).until(5)
    tensors = Run(tmp_path).state("p") / "step-000005" / "state.safetensors"
    content = bytearray(tensors.read_bytes())
    content[len(content) // 2] ^= 1
    tensors.write_bytes(content)
    again = Attempt(tmp_path)
    assert [p.step for p in again.to_the_end()] == [5, 6, 7, 8]
    assert len(again.said) == 1
    assert "step-000005" in again.said[0]
    assert "going on from step 4" in again.said[0]
    assert_same(again, uninterrupted)


def test_time_decides_when_to_save_and_the_last_step_is_always_saved(tmp_path: Path) -> None:
    rare = Attempt(tmp_path / "rare")
    rare.to_the_end(save_seconds=1e9)
    assert rare.checkpoints() == ["step-000008"]
    often = Attempt(tmp_path / "often")
    often.to_the_end()
    assert often.checkpoints() == ["step-000007", "step-000008"]


@pytest.mark.parametrize("step", [1, 4, STEPS - 1])
def test_a_request_to_stop_is_followed_after_the_step_with_everything_saved(
    step: int, uninterrupted: Attempt, tmp_path: Path
) -> None:
    attempt = Attempt(tmp_path)
    told = attempt.asked_to_stop_after(step)
    assert told == f"stopped at step {step + 1} of p; the same command goes on from here"
    assert attempt.checkpoints() == [f"step-{step + 1:06}"]
    again = Attempt(tmp_path)
    again.to_the_end()
    assert_same(again, uninterrupted)


def test_a_request_after_the_last_step_is_not_forgotten(uninterrupted: Attempt, tmp_path: Path) -> None:
    attempt = Attempt(tmp_path)
    assert attempt.asked_to_stop_after(STEPS)
    assert_same(attempt, uninterrupted)
    assert attempt.checkpoints() == [f"step-{STEPS:06}"]


def test_requests_are_noted_only_while_the_phase_runs(tmp_path: Path) -> None:
    attempt = Attempt(tmp_path)
    assert not attempt.interrupt._deferred
    for _ in attempt.progress():
        assert attempt.interrupt._deferred
    assert not attempt.interrupt._deferred


def test_skipped_steps_are_told_in_the_journal_and_passed_over(tmp_path: Path) -> None:
    attempt = Attempt(tmp_path, poison=range(2, 4))
    attempt.to_the_end()
    skipped = [line["step"] for line in attempt.lines if line.get("skipped")]
    assert skipped == [3, 4]
    assert [line["loss"] for line in attempt.lines if line.get("skipped")] == [None, None]  # JSON has no NaN
    assert all(w.isfinite().all() for w in attempt.weights)


def test_ten_steps_in_a_row_without_a_finite_loss_end_the_run(tmp_path: Path) -> None:
    attempt = Attempt(tmp_path, poison=range(1, 11), steps=30)
    with pytest.raises(DivergedError, match="p: 10 steps in a row without a finite loss; lower the learning rate"):
        attempt.to_the_end()
    assert attempt.lines[-1]["step"] == 11


def test_nine_bad_steps_a_good_one_and_nine_more_do_not_end_the_run(tmp_path: Path) -> None:
    attempt = Attempt(tmp_path, poison=[step for step in range(21) if step % 10], steps=21)
    attempt.to_the_end()
    assert sum("skipped" in line for line in attempt.lines) == 18


@pytest.mark.parametrize("stopped", [1, 3, 4, 6])
def test_steps_that_hang_together_are_done_again_together(stopped: int, tmp_path: Path) -> None:
    """What was drawn by weights that are gone cannot be drawn again: saved is only where nothing of it is to come."""
    whole = Attempt(tmp_path / "whole", stride=3)
    whole.to_the_end()
    cut = Attempt(tmp_path / "cut", stride=3)
    cut.until(stopped)
    assert [int(path.name[-6:]) % 3 for path in cut.run.state("p").glob("step-*")] == [0] * (stopped // 3)
    again = Attempt(tmp_path / "cut", stride=3)
    again.to_the_end()
    assert again.lines == whole.lines
    assert all(map(torch.equal, again.weights, whole.weights))


def test_asked_to_stop_in_the_midst_it_first_ends_what_hangs_together(tmp_path: Path) -> None:
    whole, cut = Attempt(tmp_path / "whole", stride=3), Attempt(tmp_path / "cut", stride=3)
    whole.to_the_end()
    assert cut.asked_to_stop_after(4).startswith("stopped at step 6 of p")
    again = Attempt(tmp_path / "cut", stride=3)
    again.to_the_end()
    assert all(map(torch.equal, again.weights, whole.weights))
