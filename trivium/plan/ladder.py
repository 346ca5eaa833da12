"""The shape of the model: the rung of a ladder that will have learned most when the time is over.

What a shape learns follows from the law (scaling.py) and from how much text it reads by then, which follows from its
speed: at first that of large products here, then, where there is a timer, real steps of the rungs that look best.
"""

from collections.abc import Callable, Iterator, Mapping
from math import inf, isfinite, log
from typing import Any, NamedTuple

import msgspec

from trivium.config import PretrainConfig, Settings, merge, resolve
from trivium.model.shape import ModelConfig
from trivium.plan.machine import Machine
from trivium.plan.scaling import LAWS
from trivium.plan.steps import multiplied

# (num_layers, width), SwiGLU of three widths; the last ones are the sizes of GPT-2 small and medium, and 1.3 billion
LADDER = (
    (2, 64), (3, 96), (4, 128), (4, 160), (5, 192), (6, 256), (6, 384), (8, 512), (10, 640), (12, 768), (16, 1024),
    (24, 1024), (24, 1536), (24, 2048),
)  # fmt: skip
VOCABULARIES = {  # below a width; 0: above all
    "tinyworld": ((192, 2048), (384, 4096), (768, 8192), (1536, 16_384), (0, 32_768)),  # it has few words
    "text": ((768, 8192), (1536, 16_384), (0, 32_768)),
}
FEWEST_TOKENS, BYTES_PER_TOKEN = 1024, 1000  # of a vocabulary; and of text for each, to be known by: docs/log.md
HEADS = ((384, 32), (1536, 64), (0, 128))  # how wide one is, likewise
USUAL = PretrainConfig()
MOST_TRIALS = 5  # of shapes
TURNS = 3  # each is timed
HARDLY = 0.003  # of the bits per byte expected: less than any law here can tell
COMPILED_GAIN = 1.15  # compiled steps are so many times as fast as plain ones, roughly: docs/log.md
USUAL_SHARE = 0.4  # of the speed of large products that plain steps reach ...
HALF_REACHED = 2e5  # ... and parameters of a shape that reaches half of that

Timer = Callable[[ModelConfig, int, int], float | None]  # (shape, rows at once, in a step) -> tokens/s; None: no time
Fits = Callable[[Settings], bool]  # whether a recipe fits into memory


class Trial(msgspec.Struct, frozen=True):
    """Real steps of a shape, timed."""

    num_layers: int
    width: int
    rows: int  # at once
    tokens_per_second: float

    def is_of(self, model: ModelConfig) -> bool:
        return (self.num_layers, self.width) == (model.num_layers, model.width)


class Choice(msgspec.Struct, frozen=True):
    """What the dial reckoned with when it chose. Kept in plan.json."""

    law: str
    share: float  # of the speed of large products that plain training steps reach
    tokens: int  # that the time allows, or the recipe's steps
    read: float  # bytes of text that they stand for
    unique: float | None  # bytes of text there are; None: more than is known
    bits: float  # per held-out byte, expected of phase I
    trials: list[Trial] = []

    @property
    def epochs(self) -> float:
        """How often each text is read; less than once where more is there than is known."""
        return self.read / self.unique if self.unique else 0.0


class Budget(NamedTuple):
    """What phase I may use."""

    seconds: float
    machine: Machine
    compiled: bool
    law: str = "text"
    unique: float = inf  # bytes of text
    lifetime: float = 1.0  # times as much will teach the model in all, phase II included, which has the same shape


def choose_shape(
    settings: Mapping[str, Any], budget: Budget, *, timer: Timer | None = None, fits: Fits = lambda settings: True
) -> tuple[Settings, Choice]:
    """Fill in the model's shape where the recipe leaves it open."""
    rungs = shapes(settings.get("model", {}), budget.law, budget.unique)
    all_of_them = [merge(settings, {"model": shape}) for shape in rungs]
    found = [each for each in all_of_them if fits(each)] or all_of_them[:1]
    ladder = {resolve(each).model: each for each in found}
    reckoner = Reckoner(settings.get("pretrain", {}), budget)
    models = sorted(ladder, key=lambda model: model.matrix_parameters)
    models = [model for model in models if reckoner.wants(model)] or models[:1]
    best = reckoner.best(models)
    while timer and (wanted := reckoner.untried(models, best)) and len(reckoner.speeds) < MOST_TRIALS:
        if not reckoner.listen(wanted, timer):
            break
        best = reckoner.best(models)
    if timer and reckoner.listen_again(timer):
        best = reckoner.best(models)
    return ladder[best], reckoner.choice(best)


class Reckoner:
    """What shapes come to, as far as their speed is known."""

    def __init__(self, pretrain: Mapping[str, Any], budget: Budget) -> None:
        self.pretrain, self.budget, self.law = pretrain, budget, LAWS[budget.law]
        self.rows = int(pretrain.get("rows_per_step", USUAL.rows_per_step))
        self.speeds: dict[ModelConfig, Trial] = {}

    def best(self, models: list[ModelConfig]) -> ModelConfig:
        """The smallest of those that the law can hardly tell apart: it is the fastest in use too.

        models  the smallest first
        """
        bits = {model: self.bits_at_last(model) for model in models}
        return next(model for model in models if bits[model] <= (1 + HARDLY) * min(bits.values()))

    def untried(self, models: list[ModelConfig], best: ModelConfig) -> ModelConfig | None:
        """The best of them, then its neighbours, unless their speed is known."""
        place = models.index(best)
        near = [best, *models[place + 1 : place + 2], *models[max(0, place - 1) : place]]
        return next((model for model in near if model not in self.speeds), None)

    def listen(self, model: ModelConfig, timer: Timer) -> bool:
        at_once = self.pretrain.get("microbatch_rows", USUAL.microbatch_rows)
        speed = timer(model, at_once, self.rows)
        if speed is not None:
            known = self.speeds[model].tokens_per_second if model in self.speeds else 0.0
            self.speeds[model] = Trial(model.num_layers, model.width, at_once, max(known, speed))
        return speed is not None

    def listen_again(self, timer: Timer) -> bool:
        """To all that ran, in turns while there is time: on a machine that others use some moments are slow."""
        ran = [model for model, trial in self.speeds.items() if trial.tokens_per_second]
        heard = [self.listen(model, timer) for _ in range(TURNS - 1) for model in ran]
        return any(heard)

    def wants(self, model: ModelConfig) -> bool:
        """Whether the text of said steps is enough for the shape."""
        enough = self.law.bytes_per_parameter * model.matrix_parameters
        return not self.said(model) or self.budget.lifetime * self.read(model) >= enough

    def share(self, model: ModelConfig) -> float:
        """Of the speed of large products that plain steps reach: measured, or as its nearest measured neighbour."""
        ran = [tried for tried, trial in self.speeds.items() if trial.tokens_per_second]
        if not ran:
            return usual_share(self.multiplied(model))
        near = min(ran, key=lambda tried: abs(log(tried.matrix_parameters / model.matrix_parameters)))
        asked, timed = self.multiplied(model), self.multiplied(near)
        measured = self.speeds[near].tokens_per_second * timed.training_flop(1) / self.budget.machine.matmul_flops
        return measured * usual_share(asked) / usual_share(timed)

    def tokens(self, model: ModelConfig) -> int:
        flops = self.budget.machine.matmul_flops * self.share(model) * (COMPILED_GAIN if self.budget.compiled else 1.0)
        in_time = self.budget.seconds * flops / self.multiplied(model).training_flop(1)
        return int(max(self.per_step(model), min(in_time, self.said(model) or inf)))

    def multiplied(self, model: ModelConfig) -> ModelConfig:
        """What a step's time depends on."""
        return multiplied(model, self.pretrain.get("candidates"))

    def said(self, model: ModelConfig) -> int:
        """Tokens of the recipe's steps; 0 where they are open."""
        return int(self.pretrain.get("steps", 0)) * self.per_step(model)

    def per_step(self, model: ModelConfig) -> int:
        return self.rows * model.context_length

    def read(self, model: ModelConfig) -> float:
        """Bytes of text."""
        return self.law.bytes_in(self.tokens(model), model.vocab_size)

    def bits_at_last(self, model: ModelConfig) -> float:
        """After all that will teach it, which the shape is chosen by; infinite when one no larger did not even run."""
        failed = [tried.matrix_parameters for tried, trial in self.speeds.items() if not trial.tokens_per_second]
        if model.matrix_parameters >= min(failed, default=inf):
            return inf
        return self.law.bits(model.matrix_parameters, self.read(model), self.budget.unique, self.budget.lifetime)

    def choice(self, model: ModelConfig) -> Choice:
        tokens = self.said(model) or self.tokens(model)  # said steps are taken, however long that takes
        read = self.law.bytes_in(tokens, model.vocab_size)
        return Choice(
            law=self.budget.law,
            share=self.share(model),
            tokens=tokens,
            read=read,
            unique=self.budget.unique if isfinite(self.budget.unique) else None,
            bits=self.law.bits(model.matrix_parameters, read, self.budget.unique),
            trials=list(self.speeds.values()),
        )


def shapes(given: Mapping[str, Any], law: str = "text", unique: float = inf) -> Iterator[Settings]:
    """Every rung, with what was said in its place.

    law, unique  of the text, as a Budget has them
    """
    step = 2 * int(given.get("num_heads") or given.get("num_kv_heads") or 1)
    for layers, width in LADDER:
        width = given.get("width", max(step, round(width / step) * step))
        shape: Settings = {"num_layers": layers, "width": width, "mlp_width": 3 * width}
        shape["vocab_size"] = vocabulary(width, law, unique)
        shape["num_heads"] = given.get("num_heads", fitting_heads(width, given.get("num_kv_heads", 1)))
        shape["num_kv_heads"] = shape["num_heads"]
        yield merge(shape, given)


def fitting_heads(width: int, kv_heads: int) -> int:
    """The number of heads that makes them nearest to how wide they should be, among those that fit.

    kv_heads  must divide it
    """
    ideal = _by_width(HEADS, width)
    fits = [n for n in range(kv_heads, width // 2 + 1, kv_heads) if width % n == 0 and width // n % 2 == 0]
    return min(fits, key=lambda n: abs(log(width / n / ideal)), default=kv_heads)


def vocabulary(width: int, law: str = "text", unique: float = inf) -> int:
    """Tokens worth knowing at a width, of so many bytes of text: a power of two."""
    most = _by_width(VOCABULARIES[law], width)
    while most > max(FEWEST_TOKENS, unique / BYTES_PER_TOKEN):
        most //= 2
    return most


def _by_width(table: tuple[tuple[int, int], ...], width: int) -> int:
    return next(value for below, value in table if width < below or not below)


def usual_share(model: ModelConfig) -> float:
    """Of the speed of large products that plain training steps of a shape reach, before any was timed."""
    return USUAL_SHARE * model.matrix_parameters / (model.matrix_parameters + HALF_REACHED)
