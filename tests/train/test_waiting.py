"""A step asks the device for everything before it waits for anything. Tried on one that has no answers: meta."""

import traceback
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import pytest
import torch

from trivium.batch import TokenBatch
from trivium.compute import Compute
from trivium.config import OptimizerConfig
from trivium.distributed.world import alone
from trivium.model.shape import ModelConfig
from trivium.model.transformer import Transformer, initialise
from trivium.phases.pretrain import next_token_objective
from trivium.train import loop, optimizer
from trivium.train.optimizer import build_optimizers, step_if_sound, tell_unsound
from trivium.train.phase import Phase

SHAPE = ModelConfig(vocab_size=64, num_layers=2, width=16, num_heads=2, num_kv_heads=1, mlp_width=24, context_length=12)


class Silent(Compute):
    """On a device that cannot be asked what it holds."""

    def autocast(self) -> AbstractContextManager[object]:
        return nullcontext()


def batch() -> TokenBatch:
    tokens = torch.arange(24).view(2, 12)
    places = torch.arange(12).expand(2, 12)
    return TokenBatch(tokens, tokens + 1, tokens % 5 > 0, places, places // 6)


def test_a_step_waits_for_the_device_once_at_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    silent = torch.device("meta")
    model = Transformer(SHAPE).to(silent)
    settings = OptimizerConfig(steps=1)
    objective: Any = next_token_objective(Silent(silent, torch.float32, False))
    optimizers = build_optimizers(model, settings)
    for group in optimizers[0].param_groups:
        group["fused"] = False  # which meta does not know, and only fused AdamW can be told
    monkeypatch.setattr(optimizer, "tell_unsound", lambda both, unsound: tell_unsound(both[1:], unsound))
    phase = Phase("p", model, objective, lambda step: [batch()], dict, optimizers, settings, 0)
    with pytest.raises((NotImplementedError, RuntimeError)) as failed:
        next(loop.train(phase, alone(silent), steps=range(1)))
    frames = [frame for frame in traceback.extract_tb(failed.tb) if frame.filename == loop.__file__]
    assert frames[-1].line is not None
    assert frames[-1].line.endswith(".tolist()")
    assert all(parameter.grad is None for parameter in model.parameters())  # the step was asked for before


def trained(told: torch.Tensor | None, steps: int = 3) -> Transformer:
    """A small model after some steps whose optimizers are told each time whether the gradients are sound."""
    model = initialise(Transformer(SHAPE), 0)
    optimizers = build_optimizers(model, OptimizerConfig(weight_decay=0.1))
    objective = next_token_objective(Compute(torch.device("cpu"), torch.float32, False))
    for _ in range(steps):
        loop.accumulate(model, objective, [batch()], alone())
        if told is not None:
            tell_unsound(optimizers, ~told)
        for each in optimizers:
            each.step()
            each.zero_grad(set_to_none=True)
    return model


def test_optimizers_that_are_told_all_is_well_step_as_ever() -> None:
    for told, untold in zip(trained(torch.tensor(True)).parameters(), trained(None).parameters(), strict=True):
        torch.testing.assert_close(told, untold, atol=1e-6, rtol=0)


def test_optimizers_that_are_told_otherwise_change_nothing_and_go_on_as_if_nothing_had_been() -> None:
    model, other = (initialise(Transformer(SHAPE), 0) for _ in range(2))
    settings = OptimizerConfig(weight_decay=0.1)
    objective = next_token_objective(Compute(torch.device("cpu"), torch.float32, False))
    optimizers, others = build_optimizers(model, settings), build_optimizers(other, settings)
    for sound in (True, False, True):
        for each, its in ((model, optimizers), (other, others)):
            if not sound and each is other:
                continue  # never meets the bad step
            loop.accumulate(each, objective, [batch()], alone())
            if not sound:
                for parameter in each.parameters():
                    assert parameter.grad is not None
                    parameter.grad.fill_(torch.nan)
            tell_unsound(its, torch.tensor(not sound))
            step_if_sound(its, torch.tensor(True), alone())
    for mine, its in zip(model.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(mine, its, atol=0, rtol=0)
