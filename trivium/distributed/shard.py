"""A model spread over the ranks of a world, and put together again. FSDP2 throughout; one rank needs nothing."""

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, TypeGuard

from torch import Tensor, nn

from trivium.distributed.world import World
from trivium.model.lora import has_adapters, merged_state
from trivium.model.transformer import Transformer

if TYPE_CHECKING:  # it takes a second to import, and one rank needs nothing of it
    from torch.distributed.tensor import DTensor


def shard(model: nn.Module, world: World) -> nn.Module:
    """Split every layer's parameters over the ranks; their gradients arrive as the *sum* over ranks.

    Zhao et al. 2023, arXiv:2304.11277. The loop divides by the global count, so ranks must not average again.
    """
    if world.size == 1:
        return model
    from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method

    layers = next(module for module in model.modules() if isinstance(module, nn.ModuleList))
    for layer in layers:
        fully_shard(layer)
    fully_shard(model)
    for module in model.modules():
        if isinstance(module, Transformer):
            register_fsdp_forward_method(module, "hidden")  # it is read by that, and not only by calling it
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.set_gradient_divide_factor(1.0)
            module.set_force_sum_reduction_for_comms(True)  # plain sums: gloo knows no others
    return model


def sum_gradients(model: nn.Module, world: World) -> None:
    """Where every rank holds the whole model, its gradients become their sum over ranks; of a spread one they are."""
    for parameter in model.parameters():
        if world.size > 1 and parameter.grad is not None and not is_spread(parameter.grad):
            parameter.grad = world.sum(parameter.grad)


def is_spread(tensor: Tensor) -> "TypeGuard[DTensor]":
    """Whether it is a rank's share of a larger one, which there is only where somebody has imported them."""
    shares = sys.modules.get("torch.distributed.tensor")
    return shares is not None and isinstance(tensor, shares.DTensor)


def whole(tensor: Tensor) -> Tensor:
    """The full tensor behind a shard, on every rank; a plain tensor is returned as it is."""
    return tensor.full_tensor() if is_spread(tensor) else tensor


def whole_model(model: Transformer, world: World) -> Transformer:
    """The model itself; if it is spread or has adapters, a copy without. All ranks must call it together."""
    if world.size == 1 and not has_adapters(model):
        return model
    plain = Transformer(model.config)
    plain.load_state_dict(merged_state(gather(model.state_dict())))
    return plain.to(world.device)


def part_of(full: Tensor, like: Tensor) -> Tensor:
    """This rank's share of `full`, laid out like `like`."""
    if not is_spread(like):
        return full
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(full, like.device_mesh, like.placements, src_data_rank=None)


def gather(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Every tensor whole, by name; all ranks must call it together."""
    return {name: whole(tensor.detach()) for name, tensor in tensors.items()}
