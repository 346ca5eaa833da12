"""A phase, run to its end: journal, evaluations, checkpoints, and stopping without loss. It does not know the phase."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from math import nan
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from trivium.distributed.shard import gather, part_of
from trivium.distributed.world import World
from trivium.errors import DivergedError, Interrupted, RunError
from trivium.runs import Journal, Run
from trivium.train import checkpoint
from trivium.train.interrupt import Interrupt
from trivium.train.loop import StepReport, train
from trivium.train.phase import B, Measured, Phase
from trivium.train.schedule import aimed_at

MOST_SKIPS = 10  # steps in a row without a finite loss before we give up


class Progress(NamedTuple):
    """Where a phase stands after a step."""

    phase: str
    step: int
    steps: int
    record: Mapping[str, Any]  # the journal's line
    evaluation: Mapping[str, float] | None  # what was measured after this step, if it was


def run_phase(
    phase: Phase[B],
    run: Run,
    world: World,
    interrupt: Interrupt,
    *,
    save_seconds: float,
    say: Callable[[str], None],
    until: int | None = None,
) -> Iterator[Progress]:
    """Train to the last step, from the newest checkpoint if there is one; yield after every step.

    A phase that its own watch ends does no further step, also when it is run again; its best weights are kept aside.

    until   stop after this step, or the first after it that can be gone on from, with a checkpoint
    raises  Interrupted after saving, when asked to stop; DivergedError when the loss stays infinite
    """
    state = run.state(phase.name)
    done = restore(phase, checkpoint.latest(state, say))
    journal = Journal(run.journal)
    if world.first:
        journal.rewind(phase.name, done)
    world.barrier()
    seen = measured(run, phase.name)
    if phase.watch(seen).reason:
        return
    world.barrier()  # every rank has read the same
    if phase.from_start and not seen and not done:
        seen.append(Measured(0, phase.evaluate()))
        if world.first:
            journal.write({"phase": phase.name, "step": 0, "evaluation": seen[0].found})
    last = min(-(-(until or phase.settings.steps) // phase.stride) * phase.stride, phase.settings.steps)
    times = max(phase.evaluations, 1 if phase.from_start else 0)  # where what it began with may be kept
    saved = begun = time.monotonic()
    skips = 0
    with interrupt.deferred():
        for report in islice(train(phase, world, steps=range(done, phase.settings.steps)), max(0, last - done)):
            now = time.monotonic()
            record = journal_line(phase.name, report, now - begun, phase.observe())
            due = is_due(report.step, phase.settings.steps, times, phase.settings.aims)
            evaluation = phase.evaluate() if due else None
            ended = ""
            if evaluation is not None:
                seen.append(Measured(report.step, evaluation))
                verdict = phase.watch(seen)
                ended = verdict.reason
                if verdict.best == report.step:
                    keep(phase, run, report.step, world)
            if world.first:
                journal.write(record)
                if evaluation is not None:
                    journal.write({"phase": phase.name, "step": report.step, "evaluation": evaluation})
            skips = skips + 1 if report.skipped else 0
            if skips == MOST_SKIPS:
                told = f"{skips} steps in a row without a finite loss"
                raise DivergedError(f"{phase.name}: {told}; lower the learning rate")
            rests = report.step % phase.stride == 0 or report.step == last
            stopping = world.any(interrupt.requested) and rests
            late = world.any(time.monotonic() - saved >= save_seconds) and rests
            if stopping or late or ended or report.step == last:
                journal.sync()  # first: a journal behind its checkpoint would have a gap
                save(phase, run, report.step, world)
                saved = time.monotonic()
            if stopping:
                raise Interrupted(f"stopped at step {report.step} of {phase.name}; the same command goes on from here")
            begun = time.monotonic()
            yield Progress(phase.name, report.step, phase.settings.steps, record, evaluation)
            if ended:
                break
    journal.close()


def journal_line(name: str, report: StepReport, seconds: float, observed: Mapping[str, float]) -> dict[str, Any]:
    """One step, the same columns in every phase; units: nats, tokens per second, seconds."""
    line: dict[str, Any] = {
        "phase": name,
        "step": report.step,
        "loss": report.loss,
        "grad_norm": report.grad_norm,
        "learning_rate": report.learning_rate,
        "items": report.items,
        "tokens_per_second": round(report.tokens / seconds, 1),
        "seconds": round(seconds, 4),
    }
    if report.skipped:
        line["skipped"] = True
    metrics = {**report.metrics, **observed}
    return line | ({"metrics": metrics} if metrics else {})


def is_due(step: int, steps: int, times: int, aims: Sequence[tuple[int, int]] = ()) -> bool:
    """Whether one of `times` evaluations, evenly spread and the last at the end, falls on this step.

    aims  as train/schedule.py has them: what was measured towards another end is not measured again
    """

    def so_far(done: int) -> int:
        return done * times // aimed_at(done, steps, aims)

    return so_far(step) > max(so_far(step - 1), *(so_far(turn) for turn, _ in aims if turn < step), 0)


def save(phase: Phase[B], run: Run, step: int, world: World) -> None:
    """Weights and optimizers as they are after `step`. All ranks gather, the first writes."""
    tensors, meta = checkpoint.flatten(
        {"model": trained(phase.model), "optimizers": [o.state_dict() for o in phase.optimizers]}
    )
    whole = gather(tensors)
    if world.first:
        checkpoint.save(run.state(phase.name), step, whole, meta)
    world.barrier()


def measured(run: Run, phase: str) -> list[Measured]:
    """What the journal says was measured along a phase; what was no number is none again."""
    lines = [line for line in Journal(run.journal).read() if line.get("phase") == phase and "evaluation" in line]
    return [
        Measured(
            cast(int, line["step"]),
            {k: nan if v is None else v for k, v in cast(dict[str, float | None], line["evaluation"]).items()},
        )
        for line in lines
    ]


def seconds_of_steps(run: Run, phase: str) -> list[float]:
    """How long each step of a phase took, as far as it has come."""
    lines = Journal(run.journal).read()
    return [cast(float, line["seconds"]) for line in lines if line.get("phase") == phase and "seconds" in line]


def keep(phase: Phase[B], run: Run, step: int, world: World) -> None:
    """The weights as they are after `step`, the best so far, beside the phase's own checkpoints."""
    tensors, meta = checkpoint.flatten({"model": trained(phase.model)})
    whole = gather(tensors)
    if world.first:
        checkpoint.save(run.best(phase.name), step, whole, meta)
    world.barrier()


def recall(phase: Phase[B], run: Run, step: int, say: Callable[[str], None]) -> None:
    """Put the weights that were kept after `step` back into the phase's model.

    raises  RunError when they are gone
    """
    kept = checkpoint.latest(run.best(phase.name), say)
    if kept is None or kept.step != step:
        raise RunError(
            f"{run.best(phase.name)}: the weights of step {step}, the best of {phase.name}, are not there; "
            f"delete {run.state(phase.name)} and run again"
        )
    fill(phase.model, cast(dict[str, Any], checkpoint.unflatten(kept.tensors, kept.meta))["model"])


@torch.no_grad()
def fill(model: nn.Module, weights: Mapping[str, Tensor]) -> None:
    for name, mine in trained(model).items():
        mine.copy_(part_of(weights[name], mine))


def trained(model: nn.Module) -> dict[str, Tensor]:
    """What a checkpoint holds of a model: what is frozen is as the phase began with it."""
    frozen = {name for name, each in model.named_parameters(remove_duplicate=False) if not each.requires_grad}
    return {name: tensor for name, tensor in model.state_dict().items() if name not in frozen}


def restore(phase: Phase[B], saved: checkpoint.Checkpoint | None) -> int:
    """Put a checkpoint back into model and optimizers; returns the steps it had done."""
    if saved is None:
        return 0
    state = cast(dict[str, Any], checkpoint.unflatten(saved.tensors, saved.meta))
    fill(phase.model, state["model"])
    for optimizer, kept in zip(phase.optimizers, state["optimizers"], strict=True):
        optimizer.load_state_dict(kept)
        for parameter, values in optimizer.state.items():
            for key, value in values.items():
                if isinstance(value, Tensor) and value.shape == parameter.shape:
                    values[key] = part_of(value, parameter)
    return saved.step
