"""Adapters: nothing at first, all that is trained, and gone when the model is published."""

from collections.abc import Callable

import torch
from torch import Tensor

from trivium.config import InstructConfig
from trivium.distributed.shard import whole_model
from trivium.distributed.world import alone
from trivium.model.lora import LowRank, has_adapters, merged_state
from trivium.model.transformer import Transformer, adapt
from trivium.train.optimizer import Muon, build_optimizers
from trivium.train.runner import trained

MakeModel = Callable[..., Transformer]


def logits(model: Transformer) -> Tensor:
    tokens = torch.arange(40)[None]
    found: Tensor = model(tokens, tokens, torch.zeros_like(tokens))
    return found


def adapted(model: Transformer, *, seed: int = 0) -> Transformer:
    """With something in its adapters."""
    adapt(model, rank=2, alpha=8.0, seed=seed)
    generator = torch.Generator().manual_seed(3)
    for module in model.modules():
        if isinstance(module, LowRank):
            up = torch.randn(module.adapter_up.shape, generator=generator)
            module.adapter_up.data.copy_(0.1 * up)
    return model


def test_fresh_adapters_change_nothing(small_model: MakeModel) -> None:
    torch.testing.assert_close(logits(adapt(small_model(), rank=4, alpha=8.0, seed=0)), logits(small_model()))


def test_a_merged_model_says_what_the_adapted_one_says(small_model: MakeModel) -> None:
    for architecture in ("qwen3", "qwen2", "llama"):
        model = adapted(small_model(architecture=architecture))
        merged = whole_model(model, alone())
        torch.testing.assert_close(logits(merged), logits(model), atol=1e-4, rtol=1e-4)
        assert not has_adapters(merged)
        assert not torch.allclose(logits(merged), logits(small_model(architecture=architecture)), atol=0.1)
        assert merged.state_dict().keys() == small_model(architecture=architecture).state_dict().keys()


def test_a_model_without_adapters_is_not_copied(small_model: MakeModel) -> None:
    model = small_model()
    assert whole_model(model, alone()) is model
    assert merged_state(model.state_dict()).keys() == model.state_dict().keys()


def test_every_matrix_of_the_layers_has_an_adapter_and_nothing_else_is_trained(small_model: MakeModel) -> None:
    model = adapted(small_model())
    logits(model).square().mean().backward()
    learning = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert learning == {name for name in trained(model) if "scale" not in name}
    assert len(learning) == 2 * 7 * 2  # factors, matrices of a layer, layers
    for name, parameter in model.named_parameters():
        assert (name in learning) is ("adapter" in name), name
        if name in learning:
            assert parameter.grad is not None
            assert parameter.grad.abs().max() > 0, name


def test_optimizer_and_checkpoint_hold_adapters_alone_and_muon_has_nothing_to_do(small_model: MakeModel) -> None:
    whole = small_model()
    everything = sum(p.numel() for p in whole.parameters())
    model = adapted(small_model())
    optimizers = build_optimizers(model, InstructConfig())
    held = [p for optimizer in optimizers for group in optimizer.param_groups for p in group["params"]]
    assert not any(isinstance(optimizer, Muon) for optimizer in optimizers)
    assert sum(p.numel() for p in held) < everything / 2
    assert all("adapter" in name for name in trained(model))
    assert trained(whole).keys() == whole.state_dict().keys()


def test_the_same_seed_makes_the_same_adapters(small_model: MakeModel) -> None:
    one, same, other = (adapted(small_model(), seed=seed).state_dict() for seed in (1, 1, 2))
    name = "layers.0.mlp.up_proj.adapter_down"
    assert torch.equal(one[name], same[name])
    assert not torch.equal(one[name], other[name])
