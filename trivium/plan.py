"""The dial: from minutes to model size, tokens and steps, by measuring this machine. What `trivium plan` prints.

It chooses only what the recipe leaves open. The shape is settled before training begins; how many steps a phase has is
settled when the phase begins, from the speed of its own steps and the time that is left, and written into recipe.toml.
"""

import os
import time
from collections.abc import Mapping
from math import ceil, log, sqrt
from typing import Any, NamedTuple

import msgspec
import torch

from trivium.compute import Compute
from trivium.config import EvaluateConfig, Settings, VotesConfig, merge
from trivium.losses.language_model import positions_at_once
from trivium.model.attention import scores_computed
from trivium.model.shape import ModelConfig

# Shares of the time, in the order of the story. What a stage leaves over, those after it divide among themselves.
SHARES = {"pretrain": 42.0, "instruct": 29.0, "votes": 2.0, "reward": 6.0, "align": 15.0, "measure": 6.0}


def share_through(stage: str) -> float:
    """Of a run's time, what has passed when this stage ends."""
    stages = list(SHARES)
    return sum(SHARES[name] for name in stages[: stages.index(stage) + 1]) / sum(SHARES.values())


# Tokens per matrix parameter: compute-optimal for small models (Karpathy 2025, nanochat: about 10.5, 1e18 to 1e19 FLOP)
TOKENS_PER_PARAMETER = 10.5
SHARE_OF_PEAK = {True: 0.4, False: 0.25}  # of the measured matmul speed that a training step reaches, compiled or not

# (num_layers, width): heads of 32 to 64, SwiGLU of three widths
LADDER = ((2, 64), (3, 96), (4, 128), (4, 160), (5, 192), (6, 256), (6, 384), (8, 512), (12, 768), (16, 1024))
COMPILE_FROM_MINUTES = 4.0  # below, compiling takes longer than it saves


class Machine(msgspec.Struct, frozen=True):
    """What was measured here."""

    name: str
    cores: int
    memory: int  # bytes
    precision: str
    matmul_flops: float  # floating-point operations per second, large products in that precision


def measure_machine(compute: Compute, *, seconds: float = 1.0) -> Machine:
    """A second of large matrix products."""
    size = 1024 if compute.device.type == "cpu" else 8192
    a = torch.randn(size, size, device=compute.device, dtype=compute.dtype)
    b = torch.randn(size, size, device=compute.device, dtype=compute.dtype)
    best, end = 0.0, time.monotonic() + seconds
    while time.monotonic() < end:
        begun = time.monotonic()
        a @ b
        if compute.device.type == "cuda":
            torch.cuda.synchronize()
        best = max(best, 2 * size**3 / (time.monotonic() - begun))
    return Machine(
        name=machine_name(compute),
        cores=os.cpu_count() or 1,
        memory=_memory(compute),
        precision=str(compute.dtype).removeprefix("torch."),
        matmul_flops=best,
    )


def machine_name(compute: Compute) -> str:
    """The processor's name, as the system tells it."""
    if compute.device.type == "cuda":
        return torch.cuda.get_device_name(compute.device)
    try:
        with open("/proc/cpuinfo") as file:  # noqa: PTH123 - not a file of ours
            return next(line.split(":", 1)[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        import platform

        return platform.processor() or platform.machine()


def _memory(compute: Compute) -> int:
    if compute.device.type == "cuda":
        return int(torch.cuda.mem_get_info(compute.device)[1])
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def choose_shape(settings: Mapping[str, Any], minutes: float, flops: float, *, compiled: bool) -> Settings:
    """Fill in the model's shape where the recipe leaves it open.

    flops  measured, per second
    The number of parameters N follows from the operations C that the time allows: C = 6 N D and D = r N tokens, so
    N = sqrt(C / 6 r). Hoffmann et al. 2022, arXiv:2203.15556
    """
    given = dict(settings.get("model", {}))
    compute = flops * SHARE_OF_PEAK[compiled] * 60 * minutes * share_through("pretrain")
    wanted = sqrt(compute / (6 * TOKENS_PER_PARAMETER))
    layers, width = min(LADDER, key=lambda rung: abs(log(_parameters(*rung)) - log(wanted)))
    step = 2 * int(given.get("num_heads") or given.get("num_kv_heads") or 1)
    width = given.get("width", max(step, round(width / step) * step))
    shape: Settings = {"num_layers": layers, "width": width, "mlp_width": 3 * width, "vocab_size": vocabulary(width)}
    shape["num_heads"] = given.get("num_heads", fitting_heads(width, given.get("num_kv_heads", 1)))
    shape["num_kv_heads"] = shape["num_heads"]
    return merge(settings, {"model": merge(shape, given)})


def fitting_heads(width: int, kv_heads: int) -> int:
    """The number of heads that makes them nearest to 32 wide (64 in wide models), among those that fit.

    kv_heads  must divide it
    """
    ideal = 32 if width < 384 else 64
    fits = [n for n in range(kv_heads, width // 2 + 1, kv_heads) if width % n == 0 and width // n % 2 == 0]
    return min(fits, key=lambda n: abs(log(width / n / ideal)), default=kv_heads)


def vocabulary(width: int) -> int:
    """Tokens worth knowing at a width: the output matrix must not outweigh the layers."""
    return 2048 if width < 192 else 4096 if width < 384 else 8192


def _parameters(layers: int, width: int) -> int:
    shape = {"num_layers": layers, "width": width, "mlp_width": 3 * width, "num_heads": 1, "num_kv_heads": 1}
    return ModelConfig.model_validate({**shape, "vocab_size": vocabulary(width)}).matrix_parameters


def estimate_steps(recipe_model: ModelConfig, rows: int, seconds: float, flops: float, *, compiled: bool) -> int:
    """Steps that fit into some seconds, before any was timed."""
    per_step = recipe_model.training_flop(rows * recipe_model.context_length)
    return max(1, int(seconds * flops * SHARE_OF_PEAK[compiled] / per_step))


class Kept(NamedTuple):
    """What a step keeps for its way back, in numbers: benchmarks/memory.py measures what they come to."""

    width: int  # float32, per position, layer and unit of width
    mlp_width: int  # in the products' precision, per position, layer and unit of mlp_width
    scores: int  # bytes per attention score and layer
    logits: int  # bytes per logit


KEPT = {False: Kept(width=10, mlp_width=8, scores=5, logits=20), True: Kept(width=6, mlp_width=3, scores=4, logits=12)}
SCORES_AT_WORK = 12  # bytes per attention score of the one layer at work
WEIGHTS = 20  # bytes per parameter: weight, gradient, two moments, and the update in the making
MEMORY_SLACK = 1.1  # what the allocator holds and cannot use


def peak_memory(model: ModelConfig, rows: int, dtype_bytes: int, *, compiled: bool, targets: int | None = None) -> int:
    """Bytes that training on the CPU takes beside the libraries: weights and optimizer, activations, scores, logits.

    rows      of context_length positions, computed at once
    targets   positions whose logits are computed and kept; None: of some positions at a time, and none is kept
    """
    kept, tokens = KEPT[compiled], rows * model.context_length
    activations = tokens * (4 * kept.width * model.width + dtype_bytes * kept.mlp_width * model.mlp_width)
    scores = rows * model.num_heads * scores_computed(model.context_length)
    attention = scores * (kept.scores * model.num_layers + SCORES_AT_WORK)
    predicted = min(tokens, positions_at_once(model.vocab_size)) if targets is None else targets
    logits = kept.logits * predicted * model.vocab_size
    return int(MEMORY_SLACK * (WEIGHTS * model.parameters + model.num_layers * activations + attention + logits))


class Pace(NamedTuple):
    """How long a phase's parts take."""

    step: float  # seconds
    evaluation: float  # seconds

    def steps_in(self, seconds: float, evaluations: int) -> int:
        return max(1, int((seconds - evaluations * self.evaluation) / self.step))


SECOND_LOOK = 0.25  # of the steps first chosen: then the dial looks at the clock again
STILL_FLAT = 0.8  # of the steps before the learning rate falls may be taken by then
FEWEST_STEPS = 20  # that are worth a second look
MOST_GROWTH = 1.5  # of the steps first chosen


class Look(msgspec.Struct, frozen=True):
    """A phase whose steps the dial has chosen, and will once more when it knows their speed."""

    stage: str
    steps: int  # first chosen
    flat: float  # share of the steps after which the learning rate falls
    begun: float  # of Dial.spent, when the phase began
    end: float  # likewise, when it should end

    @property
    def step(self) -> int:
        """After how many steps."""
        return int(min(SECOND_LOOK, STILL_FLAT * self.flat) * self.steps)

    @property
    def pays(self) -> bool:
        return self.steps >= FEWEST_STEPS and self.step > 0

    def steps_by(self, spent: float) -> int:
        """Steps in all, when that much was spent by then; at least so many that the rate has not begun to fall."""
        pace = max(1e-6, spent - self.begun) / self.step
        fitting = self.step + max(1, int((self.end - spent) / pace))
        return max(ceil(self.step / self.flat), min(fitting, int(MOST_GROWTH * self.steps)))


class Dial(msgspec.Struct):
    """What the dial has to decide in a run, and the time it has for it. Kept in plan.json."""

    minutes: float
    open: list[str]  # keys that the dial still decides, such as "pretrain.steps"
    machine: Machine
    spent: float = 0.0  # seconds of training so far, over all processes that worked on the run
    look: Look | None = None

    def seconds_for(self, stage: str) -> float:
        """What the stage may take: its share of the time that is left."""
        left = max(0.0, 60 * self.minutes - self.spent)
        stages = list(SHARES)
        to_come = stages[stages.index(stage) :]
        return left * SHARES[stage] / sum(SHARES[name] for name in to_come)


ECHO_STEPS = 240  # of words said twice: that many teach looking things up (docs/log.md) ...
MOST_ECHOES = 0.25  # ... and a run that has no more than four times as many goes without


def choose_echoes(steps: int) -> int:
    """How many of phase I's steps words said twice take."""
    return ECHO_STEPS if MOST_ECHOES * steps >= ECHO_STEPS else 0


WARMUP = {"pretrain": 0.02, "instruct": 0.02, "reward": 0.02, "align": 0.05}  # share of the steps first chosen


def choose_warmup(stage: str, steps: int) -> int:
    """In how many of a phase's steps the learning rate rises."""
    return round(WARMUP[stage] * steps)


PHASES = tuple(WARMUP)
STEPS = tuple(f"{phase}.steps" for phase in PHASES)


def open_keys(settings: Mapping[str, Any]) -> list[str]:
    """Which of the dial's keys the settings leave open."""
    keys = [
        *STEPS,
        *(f"{phase}.warmup_steps" for phase in PHASES),
        "pretrain.echo_steps",
        "model.vocab_size",
        "votes.pairs",
        "data.stories",
        "data.dialogues",
    ]
    return [key for key in keys if key.split(".")[1] not in settings.get(key.split(".")[0], {})]


def set_key(settings: Mapping[str, Any], key: str, value: object) -> Settings:
    """The settings with one dotted key set."""
    section, name = key.split(".")
    return merge(settings, {section: {name: value}})


def get_key(settings: Mapping[str, Any], key: str) -> Any:
    """The value of one dotted key."""
    section, name = key.split(".")
    return settings[section][name]


def set_default(settings: Mapping[str, Any], key: str, value: object) -> Settings:
    """The settings with one dotted key set, unless it already is."""
    section, name = key.split(".")
    return merge({section: {name: value}}, settings)


FULL_EXAM_MINUTES = 5.0  # shorter runs ask fewer questions, lest measuring outweighs learning


def choose_exam(settings: Mapping[str, Any], minutes: float) -> Settings:
    """How much is measured at the end, where the recipe leaves it open."""
    scale = min(1.0, minutes / FULL_EXAM_MINUTES)
    counts = {name: field.default for name, field in EvaluateConfig.model_fields.items()}
    sizes = {name: count for name, count in counts.items() if name not in ("along_the_way", "best_of")}
    chosen = {name: max(20, round(size * scale)) for name, size in sizes.items()}
    return merge({"evaluate": chosen}, settings)


GATE_FROM_MINUTES = 15.0  # shorter runs hold too few votes out to say surely what a reward model is worth
FULL_VOTES_MINUTES = 10.0  # shorter runs ask the simulated judge about fewer pairs
FEWEST_PAIRS = 100


def choose_pairs(minutes: float) -> int:
    """How many pairs the simulated judge votes on: a vote is worth its time up to the default number."""
    full = VotesConfig().pairs
    return max(FEWEST_PAIRS, min(full, int(full * minutes / FULL_VOTES_MINUTES)))
