"""What the dial chooses before anything is trained, where the recipe leaves it open: shape, steps, text, memory."""

import math
from collections.abc import Mapping
from typing import Any

import msgspec

from trivium import plan
from trivium.compute import Compute
from trivium.config import DataConfig, Recipe, Settings, merge, resolve
from trivium.model.shape import ModelConfig
from trivium.story.needs import (
    ANSWERING,
    DIALOGUE_TOKENS,
    LIBRARIES,
    READING,
    STORY_TOKENS,
    answering_memory,
    layers_in_cpp,
    memory_of,
    reading_memory,
)
from trivium.story.trials import Trials
from trivium.text.amount import text_on_file
from trivium.text.corpus import TINYWORLD, bytes_of_files, has_world, hub_sets, worlds_of
from trivium.text.documents import MEGABYTE

STORY_BYTES = 700  # of a TinyWorld story, roughly
FRESH_RECORDS = 400_000  # are written for a run that can read them; a longer one reads them again ...
MOST_EPOCHS = 4  # ... up to so many times, which costs next to nothing
FEWEST_RECORDS = 2000
FEWEST_MEGABYTES, AMPLE = 16, 2.0  # of text are taken; times as much as will be read
STEPPING = 0.75  # of the time of a phase goes into its steps
AT_ONCE = (8, 16, 4, 32, 64)  # rows, in the order in which they are tried
WORTH_IT = 1.03  # times as fast must another number of rows be


def choose_before(settings: Settings, dial: plan.Dial, compute: Compute, ranks: int = 1) -> Settings:
    """The settings with all that is chosen now; what the dial reckoned with is left in `dial.choice`."""
    recipe = resolve({**settings, "model": {}})  # what was said of the shape may need the rest of it to be whole
    budget = plan.Budget(
        seconds=STEPPING * dial.seconds_for("pretrain") / recipe.pretrainings,
        machine=dial.machine,
        compiled=gains_by_compiling(recipe),
        law=law_of(recipe),
        unique=text_there_is(settings, recipe),
        lifetime=1.0 if dial.through == "pretrain" else 1 + plan.SHARES["instruct"] / plan.SHARES["pretrain"],
    )
    apart = settings.get("pretrain", {}).get("candidates")
    timer = Trials(compute, dial.minutes, dial.machine.matmul_flops, ranks, apart)
    settings, choice = plan.choose_shape(
        settings, budget, timer=timer, fits=lambda chosen: _fits(narrowed(chosen, dial), dial.machine)
    )
    dial.choice = choice
    whole = resolve(settings)
    following = plan.follow(whole.model, choice.tokens, choice.epochs)._asdict()
    if "pretrain.microbatch_rows" not in dial.open:  # which was said, and a step is at least that
        following["rows_per_step"] = max(following["rows_per_step"], whole.pretrain.microbatch_rows)
    unit = math.lcm(ranks, whole.pretrain.microbatch_rows) if ranks > 1 else 1
    following["rows_per_step"] = unit * math.ceil(following["rows_per_step"] / unit)
    before = recipe.pretrain.rows_per_step
    for key in dial.settled(*(f"pretrain.{name}" for name in following)):
        settings = plan.set_key(settings, key, following[key.split(".")[1]])
    if "pretrain.steps" not in dial.open:  # as many steps of more rows read more
        recipe = resolve(settings)
        dial.choice = reading(choice, recipe.model, recipe.pretrain.rows_per_step / before)
    settings = choose_rows_at_once(settings, dial, timer)
    settings = narrowed(settings, dial)
    dial.settled(*plan.MICROBATCHES)
    return choose_amounts(settings, dial)


def gains_by_compiling(recipe: Recipe) -> bool:
    """Whether compiled steps are faster than plain ones, which are those that are timed."""
    return recipe.compute.compile and not layers_in_cpp(recipe)


def law_of(recipe: Recipe) -> str:
    """Which law the text obeys."""
    worlds = [name for name, _ in worlds_of(recipe.data, "text")]
    return TINYWORLD if worlds == [TINYWORLD] * len(recipe.data.text) else "text"


def text_there_is(settings: Mapping[str, Any], recipe: Recipe) -> float:
    """Bytes of different text; infinite where TinyWorld writes as much as is needed."""
    stories = settings.get("data", {}).get("stories", math.inf) if has_world(recipe.data, "text") else 0
    return STORY_BYTES * stories + text_on_file(recipe.data)


def reading(choice: plan.Choice, model: ModelConfig, more: float) -> plan.Choice:
    """The choice for so many times as much text."""
    read = more * choice.read
    unique = math.inf if choice.unique is None else choice.unique
    bits = plan.LAWS[choice.law].bits(model.matrix_parameters, read, unique)
    return msgspec.structs.replace(choice, tokens=int(more * choice.tokens), read=read, bits=bits)


def choose_rows_at_once(settings: Settings, dial: plan.Dial, timer: plan.Timer) -> Settings:
    """Of phase I, and of phase II as many of them as part its steps; what is compiled serves both."""
    choice, recipe = dial.choice, resolve(settings)
    if "pretrain.microbatch_rows" not in dial.open or choice is None:
        return settings
    both = "instruct.microbatch_rows" in dial.open
    shared = recipe.instruct.rows_per_step if both and recipe.compute.compile else 0
    whole = math.gcd(recipe.pretrain.rows_per_step, shared)
    tried = {trial.rows: trial.tokens_per_second for trial in choice.trials if trial.is_of(recipe.model)}
    for rows in AT_ONCE if tried else ():
        chosen = with_rows(settings, rows, both=both)
        if whole % rows or rows in tried or not _fits(chosen, dial.machine):
            continue
        if (speed := timer(recipe.model, rows, recipe.pretrain.rows_per_step)) is None:
            break
        tried[rows] = speed
        trial = plan.Trial(recipe.model.num_layers, recipe.model.width, rows, speed)
        dial.choice = choice = msgspec.structs.replace(choice, trials=[*choice.trials, trial])
    usual = recipe.pretrain.microbatch_rows
    speeds = {rows: speed for rows, speed in tried.items() if speed}  # others do not fit
    best = max(speeds, key=lambda rows: speeds[rows], default=usual)
    gain = speeds[best] / speeds.get(usual, speeds[best]) if speeds else 1.0
    if best == usual or (usual in speeds and gain < WORTH_IT):
        return settings
    more = gain if "pretrain.steps" in dial.open else 1.0
    dial.choice = msgspec.structs.replace(
        choice, share=gain * choice.share, tokens=int(more * choice.tokens), read=more * choice.read
    )
    return with_rows(settings, best, both=both)


def with_rows(settings: Settings, rows: int, *, both: bool) -> Settings:
    """So many rows at once in phase I, and in both phases, if phase II's steps can be parted so."""
    second = {"microbatch_rows": math.gcd(rows, resolve(settings).instruct.rows_per_step)}
    return merge(settings, {"pretrain": {"microbatch_rows": rows}} | ({"instruct": second} if both else {}))


def narrowed(settings: Settings, dial: plan.Dial) -> Settings:
    """Fewer rows at once where they would not fit into memory, in the phases whose micro-batch is open."""
    machine = dial.machine
    for phases, memory in ((READING, reading_memory), (ANSWERING, answering_memory)):
        open_ones = [phase for phase in phases if f"{phase}.microbatch_rows" in dial.open]
        while not machine.holds(LIBRARIES + memory(recipe := resolve(settings), dtype_bytes=machine.dtype_bytes)):
            rows = {phase: getattr(recipe, phase).microbatch_rows for phase in open_ones}
            halves = {phase: count // 2 for phase, count in rows.items() if count % 2 == 0}
            if not halves:
                break
            settings = merge(settings, {phase: {"microbatch_rows": half} for phase, half in halves.items()})
    return settings


def _fits(settings: Settings, machine: plan.Machine) -> bool:
    return machine.holds(memory_of(resolve(settings), dtype_bytes=machine.dtype_bytes).likely)


def _file_megabytes(data: DataConfig, ample: float) -> float:
    """What is taken of files whose epoch is far more than so many megabytes; 0: all.

    All too where something else is mixed in, whose share of an epoch would grow.
    """
    epoch = 0.0 if worlds_of(data, "text") or hub_sets(data) else bytes_of_files(data, in_an_epoch=True) / MEGABYTE
    return ample * bytes_of_files(data) / MEGABYTE / epoch if epoch > 2 * ample else 0.0


def choose_amounts(settings: Settings, dial: plan.Dial) -> Settings:
    """How many stories and dialogues TinyWorld writes: as many as will be read, or a fourth of them. And how
    much of the text on file is gathered: that takes time."""
    recipe, choice = resolve(settings), dial.choice
    assert choice is not None
    flops = dial.flops(compiled=gains_by_compiling(recipe)) / recipe.model.training_flop(1)
    tokens = {"data.stories": choice.tokens, "data.dialogues": int(STEPPING * dial.seconds_for("instruct") * flops)}
    if "instruct.steps" not in dial.open:
        steps = recipe.instruct.steps * recipe.instruct.rows_per_step
        tokens["data.dialogues"] = steps * recipe.model.context_length
    ample = float(max(FEWEST_MEGABYTES, math.ceil(AMPLE * choice.read / MEGABYTE)))
    if dial.settled("data.hub_megabytes") and hub_sets(recipe.data):
        settings = plan.set_key(settings, "data.hub_megabytes", ample)
    if dial.settled("data.file_megabytes") and (taken := _file_megabytes(recipe.data, ample)):
        settings = plan.set_key(settings, "data.file_megabytes", taken)
    written = {"data.stories": has_world(recipe.data, "text"), "data.dialogues": has_world(recipe.data, "answers")}
    for key in filter(written.get, dial.settled(*tokens)):
        wanted = tokens[key] // (STORY_TOKENS if key == "data.stories" else DIALOGUE_TOKENS)
        wanted = min(wanted, max(FRESH_RECORDS, wanted // MOST_EPOCHS))
        settings = plan.set_key(settings, key, max(FEWEST_RECORDS, wanted))
    if law_of(recipe) == TINYWORLD:
        unique = STORY_BYTES * settings["data"]["stories"]
        dial.choice = msgspec.structs.replace(choice, unique=float(unique))
    return settings
