"""What test_two_ranks.py lets one rank do, and two under torchrun: a few steps whose gradients are kept, and a verb.

share_of_the_work.py OUT VERB RECIPE --out RUN: VERB is what the run begins with, then follows `align`.
"""

import copy
import sys
from contextlib import nullcontext
from pathlib import Path

import torch
from safetensors.torch import save_file

from trivium import cli
from trivium.batch import TokenBatch
from trivium.compute import Compute
from trivium.config import OptimizerConfig
from trivium.distributed.shard import gather, shard
from trivium.distributed.world import World, join_world
from trivium.model.shape import ModelConfig
from trivium.model.transformer import Transformer, initialise
from trivium.phases.pretrain import next_token_objective
from trivium.story import opening
from trivium.train.loop import accumulate, train
from trivium.train.optimizer import build_optimizers
from trivium.train.phase import Phase

ROWS, LENGTH = 8, 12
SHAPE = ModelConfig(vocab_size=31, num_layers=2, width=16, num_heads=2, num_kv_heads=1, mlp_width=24, context_length=12)


def rows(step: int) -> TokenBatch:
    """Rows with one to twelve targets each: ranks hold very different counts."""
    generator = torch.Generator().manual_seed(step)
    tokens = torch.randint(31, (ROWS, LENGTH + 1), generator=generator)
    supervised = torch.arange(LENGTH) < torch.tensor([1, 12, 1, 11, 2, 12, 1, 7])[:, None]
    positions = torch.arange(LENGTH).expand(ROWS, LENGTH)
    return TokenBatch(tokens[:, :-1], tokens[:, 1:], supervised, positions, torch.zeros_like(positions))


def keep_gradients(out: Path, world: World) -> None:
    model = initialise(Transformer(SHAPE), seed=0)
    with torch.no_grad():
        for parameter in model.parameters():  # nothing may be zero, as the layers' outputs are at first
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    held = copy.deepcopy(model)
    shard(model, world)

    def batches(step: int) -> list[TokenBatch]:
        mine = TokenBatch(*(field[world.rank :: world.size] for field in rows(step)))
        return [TokenBatch(*(field[i : i + 2] for field in mine)) for i in range(0, ROWS // world.size, 2)]

    objective = next_token_objective(Compute(torch.device("cpu"), torch.float32, False))
    loss, items, _ = accumulate(model, objective, batches(0), world)
    found = {"loss": loss, "items": items}
    found |= gather({f"gradient/{name}": p.grad for name, p in model.named_parameters() if p.grad is not None})
    model.zero_grad(set_to_none=True)
    accumulate(held, objective, batches(0), world)
    found |= {f"held/{name}": p.grad for name, p in held.named_parameters() if p.grad is not None}

    settings = OptimizerConfig(steps=5, max_grad_norm=0.5)
    phase = Phase("p", model, objective, batches, dict, build_optimizers(model, settings), settings, 0)
    reports = list(train(phase, world, steps=range(5)))
    found["losses"] = torch.tensor([report.loss for report in reports])
    found["norms"] = torch.tensor([report.grad_norm for report in reports])
    found |= gather({f"weight/{name}": p for name, p in model.named_parameters()})
    assert world.any(world.rank == world.size - 1)
    assert not world.any(False)
    if world.first:
        save_file({name: tensor.detach().contiguous().clone() for name, tensor in found.items()}, out)


def main(out: Path, verb: list[str]) -> None:
    torch.set_num_threads(1)
    with join_world("cpu") as world:
        keep_gradients(out, world)
        opening.join_world = lambda device: nullcontext(world)  # a process joins a world only once
        cli.main(verb)
        cli.main(["align", verb[-1]])


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
