"""One loop for every phase: sum, weigh, step, report. It knows no phase, no data format and no files."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from trivium.batch import Batch
from trivium.distributed.shard import sum_gradients, whole
from trivium.distributed.world import World
from trivium.train.ahead import drawn_ahead
from trivium.train.optimizer import step_if_sound
from trivium.train.phase import B, Objective, Phase
from trivium.train.schedule import warmup_stable_decay


class StepReport(NamedTuple):
    step: int  # steps done, counting this one
    loss: float  # nats per counted item
    grad_norm: float
    learning_rate: float  # share of the peak
    items: int  # counted items in this step, over all micro-batches and ranks
    tokens: int  # positions computed in this step, on all ranks
    metrics: dict[str, float]  # per counted item
    skipped: bool  # the loss or the gradient was not finite, and the weights were left alone


def train(phase: Phase[B], world: World, *, steps: range) -> Iterator[StepReport]:
    """Yield one report per optimizer step; whoever iterates decides when to evaluate, save, show and stop.

    steps  the steps still to do: `range(done, total)` after a resume. Nothing else remembers where we are,
           because the stream is a pure function of the step.
    """
    settings = phase.settings
    parameters = list(phase.model.parameters())
    draw = drawn_ahead if phase.ahead and world.device.type == "cuda" else map
    for step, batches in zip(steps, draw(phase.batches, steps), strict=True):
        loss, items, metrics = accumulate(phase.model, phase.objective, batches, world)
        norm = shorten(parameters, settings.max_grad_norm)
        sound = loss.isfinite() & norm.isfinite()
        share = warmup_stable_decay(
            step, steps.stop, warmup_steps=settings.warmup_steps, decay=settings.decay, aims=settings.aims
        )
        for optimizer in phase.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["peak"] * share
        step_if_sound(phase.optimizers, sound, world)
        # The one moment of a step in which the device is waited for: all of it has been asked by now
        nats, length, count, went_well, *means = torch.stack([loss, norm, items, sound, *metrics.values()]).tolist()
        tokens = world.size * sum(batch.tokens.numel() for batch in batches)
        values = dict(zip(metrics, means, strict=True))
        yield StepReport(step + 1, nats, length, share, int(count), tokens, values, not went_well)


def accumulate(
    model: nn.Module, objective: Objective[B], batches: Sequence[B], world: World
) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """Gradients of the mean loss over every counted item of the step, on all ranks.

    returns  loss () nats per item, items (), metrics per item: the same on every rank
    """
    items = world.sum(total_count(batches).to(world.device))  # before backward: ranks may hold different numbers
    loss = torch.zeros((), device=world.device)
    sums: dict[str, Tensor] = {}
    for batch in batches:
        part, metrics = objective(model, batch)
        (part / items).backward()
        loss += part.detach() / items
        for name, value in metrics.items():
            sums[name] = sums.get(name, torch.zeros((), device=world.device)) + value.detach() / items
    sum_gradients(model, world)
    return world.sum(loss), items, {name: world.sum(value) for name, value in sums.items()}


@torch.no_grad()
def shorten(parameters: Sequence[nn.Parameter], longest: float) -> Tensor:
    """Let the gradient of all be no longer than this; returns how long it was, ()."""
    found = nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
    norm = whole(found)
    if norm.device.type != "cpu" or norm > longest:  # a GPU would be waited for
        nn.utils.clip_grads_with_norm_(parameters, longest, found)
    return norm


def total_count(batches: Sequence[Batch]) -> Tensor:
    return torch.stack([batch.count for batch in batches]).sum()
