"""Muon for the matrices between layers, AdamW for the rest.

S blocks, m rows, n columns.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from trivium.config import OptimizerConfig
from trivium.distributed.shard import part_of, whole
from trivium.distributed.world import World
from trivium.model.lora import is_adapter
from trivium.model.transformer import Attention, writes_to_stream
from trivium.native import muon as native

ROUNDS, COEFFICIENTS = 5, (3.4445, -4.7750, 2.0315)  # of the Newton–Schulz iteration: Jordan et al. 2024
AT_ONCE = 2**22  # numbers of blocks that are worked on at once


class Muon(torch.optim.Optimizer):
    """Momentum whose update is made orthogonal: every direction of a block of a matrix moves by the same amount.

    parameters  or groups of them, with "columns": whether the neurons of a matrix are its columns, not its rows
    neurons     in a block; 0: all. A matrix whose neurons do not divide so is one block
    Jordan et al. 2024, "Muon: an optimizer for hidden layers in neural networks". The update is scaled so that its
    numbers have a root mean square of 1 / sqrt(n) for any block, as they have there for a whole matrix. Blocks of a
    head cost a fifth of whole matrices; what is learned in equal time and in equal steps: docs/log.md.
    """

    def __init__(
        self, parameters: Iterable[Any], *, lr: float, momentum: float, weight_decay: float, neurons: int = 0
    ) -> None:
        chosen = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "neurons": neurons, "columns": False}
        super().__init__(parameters, chosen)
        self.found_inf: Tensor | None = None  # as AdamW (fused) has it: unless it is 0, a step changes nothing

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        assert closure is None
        for group in self.param_groups:
            if moved := [parameter for parameter in group["params"] if parameter.grad is not None]:
                self._step(moved, group)

    def _step(self, parameters: list[nn.Parameter], group: dict[str, Any]) -> None:
        gradients = [p.grad for p in parameters if p.grad is not None]
        momenta = [self._momentum(p) for p in parameters]
        if self.found_inf is None and self._step_native(parameters, gradients, momenta, group):
            return
        scale, kept = group["lr"], 1 - group["lr"] * group["weight_decay"]
        if self.found_inf is not None:
            gradients = [torch.where(self.found_inf == 0, g, m) for g, m in zip(gradients, momenta, strict=True)]
            scale, kept = (torch.where(self.found_inf == 0, a, b) for a, b in ((scale, 0.0), (kept, 1.0)))
        torch._foreach_lerp_(momenta, gradients, 1 - group["momentum"])
        ahead = torch._foreach_lerp(gradients, momenta, group["momentum"])
        updates = orthogonal_blocks([whole(each) for each in ahead], group["neurons"], columns=group["columns"])
        for p, update in zip(parameters, updates, strict=True):
            p.mul_(kept).sub_(part_of(update * (scale / p.shape[1] ** 0.5), p))

    def _momentum(self, parameter: nn.Parameter) -> Tensor:
        state = self.state[parameter]
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(parameter)
        momentum: Tensor = state["momentum"]
        return momentum

    def _step_native(
        self, parameters: list[nn.Parameter], gradients: list[Tensor], momenta: list[Tensor], group: dict[str, Any]
    ) -> bool:
        """The same in C++, where that serves."""
        moved = []
        for p, gradient, momentum in zip(parameters, gradients, momenta, strict=True):
            height, width = p.shape[::-1] if group["columns"] else p.shape
            neurons = block_height(height, group["neurons"])
            step = group["lr"] * (max(neurons, width) / p.shape[1]) ** 0.5
            moved.append(native.Matrix(p, gradient, momentum, neurons, group["columns"], step))
        if not native.serves(moved):
            return False
        kept = 1 - group["lr"] * group["weight_decay"]
        native.move(moved, momentum=group["momentum"], kept=kept, rounds=ROUNDS, coefficients=COEFFICIENTS)
        return True


def block_height(neurons: int, at_once: int) -> int:
    """How many of a matrix's neurons are a block."""
    return at_once if at_once and neurons % at_once == 0 else neurons


def orthogonal_blocks(matrices: Sequence[Tensor], neurons: int, *, columns: bool) -> list[Tensor]:
    """Each matrix (m, n) with its blocks made orthogonal, and a mean square of 1.

    Blocks of one shape, of whatever matrix, are stacked, so that the work is a few large products.
    """
    lying = [matrix.mT if columns else matrix for matrix in matrices]
    cut = [rows.reshape(-1, block_height(len(rows), neurons), rows.shape[1]) for rows in lying]
    alike: dict[torch.Size, list[int]] = defaultdict(list)
    for index, blocks in enumerate(cut):
        alike[blocks.shape[1:]].append(index)
    made: dict[int, Tensor] = {}
    for shape, indices in alike.items():
        stack = torch.cat([cut[index] for index in indices])
        some = stack.split(max(1, AT_ONCE // shape.numel()))
        done = torch.cat([orthogonalise(blocks) for blocks in some]) * max(shape) ** 0.5
        made |= zip(indices, done.split([len(cut[index]) for index in indices]), strict=True)
    flat = [made[index].flatten(0, 1) for index in range(len(cut))]
    return [rows.mT if columns else rows for rows in flat]


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


def orthogonalise(matrices: Tensor) -> Tensor:
    """The nearest semi-orthogonal matrix, roughly: singular values end between about .7 and 1.2.

    matrices  (S, m, n)
    returns   (S, m, n) float32
    Quintic Newton–Schulz iteration in bfloat16
    """
    a, b, c = COEFFICIENTS
    is_tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.to(torch.bfloat16)
    x = x.mT.contiguous() if is_tall else x
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(ROUNDS):
        square = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(square, square, square, beta=b, alpha=c), x, beta=a)
    return (x.mT if is_tall else x).float()


def build_optimizers(model: nn.Module, settings: OptimizerConfig) -> list[torch.optim.Optimizer]:
    """Muon over the layers' matrices, AdamW over embeddings, output, head and norms; each group remembers its peak.

    What is frozen is left out. Adapters are AdamW's: their two factors make a matrix only together, and to move each
    factor by the same amount in all directions would not do so for their product.
    """
    reading: list[nn.Parameter] = []
    writing: list[nn.Parameter] = []
    rest: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            is_matrix = parameter.ndim == 2 and "layers." in name and not is_adapter(name)
            (rest if not is_matrix else writing if writes_to_stream(name) else reading).append(parameter)
    optimizers: list[torch.optim.Optimizer] = [
        torch.optim.AdamW(
            rest, lr=settings.learning_rate, betas=(settings.beta1, settings.beta2), weight_decay=0.0, fused=True
        )
    ]
    if reading or writing:
        optimizers.append(
            Muon(
                [{"params": reading}, {"params": writing, "columns": True}],
                lr=settings.matrix_learning_rate,
                momentum=settings.momentum,
                weight_decay=settings.weight_decay,
                neurons=next(module.head_dim for module in model.modules() if isinstance(module, Attention)),
            )
        )
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["peak"] = group["lr"]
    return optimizers
