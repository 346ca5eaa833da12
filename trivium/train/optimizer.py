"""Muon for the matrices between layers, AdamW for the rest.

S matrices of one shape, m rows, n columns.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from trivium.config import OptimizerConfig
from trivium.distributed.shard import part_of, whole
from trivium.distributed.world import World
from trivium.model.lora import is_adapter


class Muon(torch.optim.Optimizer):
    """Momentum whose update is made orthogonal: every direction of a matrix moves by the same amount.

    Jordan et al. 2024, "Muon: an optimizer for hidden layers in neural networks". Matrices of one shape, lying or
    standing, are stacked, so that the work is a few large products; the update is scaled by sqrt(max(1, m / n)).
    """

    def __init__(self, parameters: list[nn.Parameter], *, lr: float, momentum: float, weight_decay: float) -> None:
        super().__init__(parameters, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})
        self.found_inf: Tensor | None = None  # as AdamW (fused) has it: unless it is 0, a step changes nothing

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        assert closure is None
        for group in self.param_groups:
            alike: dict[tuple[int, ...], list[nn.Parameter]] = defaultdict(list)
            for parameter in group["params"]:
                if parameter.grad is not None:
                    alike[tuple(sorted(parameter.shape))].append(parameter)
            for parameters in alike.values():
                self._step_alike(parameters, group)

    def _step_alike(self, parameters: list[nn.Parameter], group: dict[str, Any]) -> None:
        gradients = [p.grad for p in parameters if p.grad is not None]
        momenta = [self.state[p].setdefault("momentum", torch.zeros_like(p)) for p in parameters]
        scale, kept = group["lr"], 1 - group["lr"] * group["weight_decay"]
        if self.found_inf is not None:
            gradients = [torch.where(self.found_inf == 0, g, m) for g, m in zip(gradients, momenta, strict=True)]
            scale, kept = (torch.where(self.found_inf == 0, a, b) for a, b in ((scale, 0.0), (kept, 1.0)))
        torch._foreach_lerp_(momenta, gradients, 1 - group["momentum"])
        ahead = torch._foreach_lerp(gradients, momenta, group["momentum"])
        updates = orthogonalise(torch.stack([_wide(whole(each)) for each in ahead]))
        for p, update in zip(parameters, updates, strict=True):
            new = update.mT if _is_tall(p) else update
            p.mul_(kept).sub_(part_of(new * (scale * max(1, p.shape[0] / p.shape[1]) ** 0.5), p))


def step_if_sound(optimizers: Sequence[torch.optim.Optimizer], sound: Tensor, world: World) -> None:
    """One step of each, unless loss or gradient were not finite; and the gradients are forgotten.

    sound  () bool. A GPU of its own is not waited for: it is told to change nothing if that is what it finds
    """
    told = sound.device.type != "cpu" and world.size == 1
    if told:
        tell_unsound(optimizers, ~sound)
    if told or sound:
        for optimizer in optimizers:
            optimizer.step()
    for optimizer in optimizers:
        optimizer.zero_grad(set_to_none=True)


def tell_unsound(optimizers: Sequence[torch.optim.Optimizer], unsound: Tensor) -> None:
    """Let the next step of each change nothing if `unsound` () turns out to be true, as a GradScaler would."""
    for optimizer in optimizers:
        optimizer.found_inf = unsound.float()  # type: ignore[attr-defined]


def _is_tall(matrix: Tensor) -> bool:
    return matrix.shape[-2] > matrix.shape[-1]


def _wide(matrix: Tensor) -> Tensor:
    return matrix.mT.contiguous() if _is_tall(matrix) else matrix


def orthogonalise(matrices: Tensor, *, rounds: int = 5) -> Tensor:
    """The nearest semi-orthogonal matrix, roughly: singular values end between about .7 and 1.2.

    matrices  (S, m, n)
    returns   (S, m, n) float32
    Quintic Newton–Schulz iteration in bfloat16, coefficients of Jordan et al. 2024
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    x = _wide(matrices.to(torch.bfloat16))
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(rounds):
        square = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(square, square, square, beta=b, alpha=c), x, beta=a)
    return (x.mT if _is_tall(matrices) else x).float()


def build_optimizers(model: nn.Module, settings: OptimizerConfig) -> list[torch.optim.Optimizer]:
    """Muon over the layers' matrices, AdamW over embeddings, output, head and norms; each group remembers its peak.

    What is frozen is left out. Adapters are AdamW's: their two factors make a matrix only together, and to move each
    factor by the same amount in all directions would not do so for their product.
    """
    matrices: list[nn.Parameter] = []
    rest: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            is_matrix = parameter.ndim == 2 and "layers." in name and not is_adapter(name)
            (matrices if is_matrix else rest).append(parameter)
    optimizers: list[torch.optim.Optimizer] = [
        torch.optim.AdamW(
            rest, lr=settings.learning_rate, betas=(settings.beta1, settings.beta2), weight_decay=0.0, fused=True
        )
    ]
    if matrices:
        optimizers.append(
            Muon(
                matrices,
                lr=settings.matrix_learning_rate,
                momentum=settings.momentum,
                weight_decay=settings.weight_decay,
            )
        )
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["peak"] = group["lr"]
    return optimizers
