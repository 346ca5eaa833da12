"""Low-rank adapters on the linear layers: what is trained is small, what is published is the model with them in it.

Hu et al. 2021, arXiv:2106.09685. r rank.
"""

from collections.abc import Mapping
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

M = TypeVar("M", bound=nn.Module)
_DOWN, _UP, _SCALE = "adapter_down", "adapter_up", "adapter_scale"


class LowRank(nn.Linear):
    """x W^T + b + scale x down^T up^T, of which only down (r, in) and up (out, r) are trained."""

    adapter_scale: Tensor

    def __init__(self, linear: nn.Linear, *, rank: int, alpha: float, generator: torch.Generator) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.weight, self.bias = linear.weight, linear.bias
        device = linear.weight.device
        down = torch.randn(rank, linear.in_features, generator=generator) * linear.in_features**-0.5
        self.adapter_down = nn.Parameter(down.to(device))
        self.adapter_up = nn.Parameter(
            torch.zeros(linear.out_features, rank, device=device)
        )  # at first it adds nothing
        self.register_buffer(_SCALE, torch.tensor(alpha / rank, device=device))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight, self.bias) + self.addition(x)

    def addition(self, x: Tensor) -> Tensor:
        """What the adapter adds to the layer's output."""
        return F.linear(F.linear(x, self.adapter_down), self.adapter_up) * self.adapter_scale


def add_adapters(layers: nn.Module, *, rank: int, alpha: float, seed: int) -> None:
    """Put an adapter on every linear layer within `layers`, in place."""
    generator = torch.Generator().manual_seed(seed)
    for module in list(layers.modules()):
        for name, child in list(module.named_children()):
            if type(child) is nn.Linear:
                setattr(module, name, LowRank(child, rank=rank, alpha=alpha, generator=generator))


def freeze_all_but_adapters(model: nn.Module) -> None:
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(is_adapter(name))


def is_adapter(name: str) -> bool:
    """Whether a parameter of this name belongs to an adapter."""
    return name.endswith((_DOWN, _UP))


def merged_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state_dict without adapters: what they add is in the weights. One without any is returned as it is."""
    merged = {name: tensor for name, tensor in state.items() if not name.endswith((_DOWN, _UP, _SCALE))}
    for name in (name for name in state if name.endswith(_UP)):
        layer = name.removesuffix(_UP)
        product = state[name] @ state[layer + _DOWN]
        merged[f"{layer}weight"] = merged[f"{layer}weight"] + state[layer + _SCALE] * product
    return merged


def has_adapters(model: nn.Module) -> bool:
    return any(isinstance(module, LowRank) for module in model.modules())
