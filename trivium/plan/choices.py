"""The smaller choices of the dial, and which keys of a recipe it has still to fill in."""

from collections.abc import Mapping
from math import ceil
from typing import Any

from trivium.config import EvaluateConfig, Settings, VotesConfig, merge
from trivium.plan.steps import Follow

ECHO_STEPS = 320  # of passages said twice: that many teach looking things up (docs/log.md) ...
MOST_ECHOES = 0.35  # ... where they are no more than that share of all steps; of fewer steps there are ...
SHORT_ECHOES, FEWEST_ECHOES = 240, 200  # ... so many at most, and fewer than the last teach nothing


def choose_echoes(steps: int, *, world: bool) -> int:
    """How many of phase I's steps passages said twice take.

    world  whether TinyWorld is in the text, which asks for what stands in a passage; other text is the worse for them
    """
    most = int(MOST_ECHOES * steps)
    if not world or most < FEWEST_ECHOES:
        return 0
    return ECHO_STEPS if most >= ECHO_STEPS else min(SHORT_ECHOES, most)


WARMUP = {"pretrain": 0.02, "instruct": 0.02, "reward": 0.02, "align": 0.05}  # share of the steps first chosen


def steps_over(rows: float, rows_per_step: int) -> int:
    """Steps that go over so many rows."""
    return max(1, ceil(rows / rows_per_step))


def choose_warmup(stage: str, steps: int) -> int:
    """In how many of a phase's steps the learning rate rises."""
    return round(WARMUP[stage] * steps)


PHASES = tuple(WARMUP)
STEPS = tuple(f"{phase}.steps" for phase in PHASES)

FOLLOWING = tuple(f"pretrain.{name}" for name in Follow._fields)
MICROBATCHES = tuple(f"{phase}.microbatch_rows" for phase in PHASES)


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
        "data.hub_megabytes",
        "data.file_megabytes",
        *FOLLOWING,
        *MICROBATCHES,
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
FULL_VOTES_MINUTES = 2.0  # shorter runs ask the simulated judge about fewer pairs
FEWEST_PAIRS = 100


def choose_pairs(minutes: float) -> int:
    """How many pairs the simulated judge votes on: a vote is worth its time up to the default number.

    Below, as the square of the time: what every stage begins with leaves half the time less than half the work.
    """
    full = VotesConfig().pairs
    return max(FEWEST_PAIRS, int(full * min(1.0, minutes / FULL_VOTES_MINUTES) ** 2))
