"""Opening a run: a new one from a recipe and the dial, an old one exactly as it was begun, or one only to look at."""

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from trivium import plan
from trivium.compute import Compute, compiling_obstacle, prepare
from trivium.config import OptimizerConfig, Recipe, Settings, merge, read_settings, resolve
from trivium.distributed.world import World, join_world
from trivium.errors import ConfigError, RunError
from trivium.lineage import LINEAGE, read_lineage
from trivium.runs import Run, open_run, read_run
from trivium.shelf import stands
from trivium.show import Show
from trivium.story.needs import READING, layers_in_cpp, shortage_of_memory
from trivium.story.sizing import choose_before
from trivium.story.start import with_start
from trivium.story.teller import Teller
from trivium.text.corpus import check_files
from trivium.train.interrupt import listen

DEFAULT_MINUTES = 10.0
LAST = "measure"  # stage of a run
LATER = ("votes", "reward", "align", "watch", "evaluate")  # settings that a new round may change


@contextmanager
def open_story(
    target: Path | None,
    *,
    out: Path | None,
    minutes: float | None,
    flags: Settings,
    new_round: bool = False,
    must_exist: bool = False,
    through: str = "",
    taught: tuple[str, ...] = (),
    begun: float | None = None,
) -> Iterator[Teller]:
    """A run, ready to go on.

    target  a recipe file, or a run folder; None: the defaults, TinyWorld
    flags   settings that were said on the command line
    new_round   whether the settings of phase III may differ from those that the run was begun with
    must_exist  whether only a run folder will do, unless the settings name weights to start from
    through     the stage that ends when the minutes are over; empty: the whole run's
    begun       of time.monotonic(), since when the time counts; None: from now on
    taught      of a new run that starts from a folder, the phases that this folder is taken to have been through
    """
    begun = time.monotonic() if begun is None else begun
    whole = (DEFAULT_MINUTES if minutes is None else minutes) / (plan.share_through(through) if through else 1.0)
    if target is not None and target.is_dir() and out is not None:
        raise ConfigError(f"out = {out}: {target} is a folder already; name a recipe file, or drop --out")
    if must_exist and target is not None and not target.exists():
        raise RunError(f"{target}: no such run; name a folder that `trivium run` made")
    told = read_settings(target) if target is not None and not target.is_dir() else {}
    said = merge(told, flags)
    must_exist = must_exist and not said.get("start", {}).get("folder")
    if must_exist and told:
        raise RunError(f"{target}: no such run; name a folder that `trivium run` made")
    path = out or (target if target is not None and target.is_dir() else Path("runs") / name_of(target))
    is_new = not (path / "recipe.toml").exists()
    if is_new and must_exist:
        raise RunError(f"{path}: no such run; name a folder that `trivium run` made")
    if is_new and target is not None and target.is_dir():
        raise RunError(f"{target}: is not a run; name a recipe file, or a folder that `trivium run` made")
    first = resolve(said if is_new else read_settings(path / "recipe.toml"))
    said = with_start(said, taught) if is_new else said
    if not (path / "base").exists():
        check_files(first.data)
    with (
        listen() as interrupt,
        join_world(first.compute.device) as world,
        opened(path, world) as run,
    ):
        compute = prepare(first.compute, world.device, run.cache / "compiled")
        dial: plan.Dial | None
        if is_new:
            settings, dial = world.from_first(begin(said, whole, compute, through=through, ranks=world.size))
        else:
            settings, dial = go_on(run, said, None if minutes is None else whole, new_round=new_round)
        check_ranks(resolve(settings), world.size, phases_to_come(run, through))
        wanted, obstacle = resolve(settings).compute.compile, compiling_obstacle(world.device)
        compute = compute._replace(compiled=wanted and not obstacle)
        teller = Teller(run, settings, dial, compute, world, interrupt, Show(quiet=not world.first), begun=begun)
        if obstacle and (wanted or (is_new and dial and would_compile(said, dial.minutes, resolve(settings)))):
            teller.show.say(f"Steps are not compiled: {obstacle}.")
        if is_new and dial and world.size == 1:  # of several ranks each may hold a part
            warn_of_memory(teller, dial, through)
        teller.keep_time()  # first: a recipe without a plan would have its minutes forgotten
        teller.keep_recipe()
        try:
            yield teller
        finally:  # interrupted too
            teller.keep_time()


def warn_of_memory(teller: Teller, dial: plan.Dial, through: str) -> None:
    """Explicit sizes win over the dial, and so does the folder that is started from: then it is said."""
    if shortage := shortage_of_memory(teller.recipe, dial.machine, through=through):
        teller.show.warn(shortage)


@contextmanager
def look_into(path: Path, *, flags: Settings) -> Iterator[Teller]:
    """A run as it is, to be asked and not changed: takes no lock and writes nothing, whoever is at work on it.

    flags   settings of phase III and of the examination that hold for this look only
    raises  RunError when there is no run, or when the flags say otherwise than it was begun
    """
    run = read_run(path)
    settings, _ = go_on(run, flags, None, new_round=True)
    recipe = resolve(settings)
    with listen() as interrupt, join_world(recipe.compute.device) as world:
        compute = prepare(recipe.compute, world.device, run.cache / "compiled")._replace(compiled=False)
        yield Teller(run, settings, None, compute, world, interrupt, Show(quiet=not world.first), writes=False)


@contextmanager
def look_at(folder: Path, *, flags: Settings) -> Iterator[Teller]:
    """A model by itself, to be asked and not changed, with the settings of its lineage and the flags.

    raises  CheckpointError when the lineage is malformed, ConfigError when its settings are of another version
    """
    settings = merge(read_lineage(folder).config if (folder / LINEAGE).exists() else {}, flags)
    recipe = resolve(settings)
    with listen() as interrupt, join_world(recipe.compute.device) as world:
        compute = prepare(recipe.compute, world.device, folder / ".cache")._replace(compiled=False)
        yield Teller(Run(folder), settings, None, compute, world, interrupt, Show(quiet=not world.first), writes=False)


@contextmanager
def opened(path: Path, world: World) -> Iterator[Run]:
    """The run folder, locked by the first rank for all of them."""
    if world.first:
        with open_run(path, create=True) as run:
            world.barrier()
            yield run
            world.barrier()
    else:
        world.barrier()
        yield Run(path)
        world.barrier()


def name_of(recipe: Path | None) -> str:
    return "tinyworld" if recipe is None else recipe.stem.lower()


def phases_to_come(run: Run, through: str) -> list[str]:
    """Of phases I and II, those that are not done and not beyond what was asked for."""
    wanted = {"pretrain": run.base} | ({} if through == "pretrain" else {"instruct": run.instruct})
    return [phase for phase, folder in wanted.items() if not stands(folder)]


def check_ranks(recipe: Recipe, ranks: int, phases: Sequence[str]) -> None:
    """raises  ConfigError when the rows of a step cannot be shared out, of phase II too: before phase I is trained"""
    for phase in phases:
        settings: OptimizerConfig = getattr(recipe, phase)
        if settings.rows_per_step % ranks:
            unit = math.lcm(ranks, settings.microbatch_rows)
            told = f"{phase}.rows_per_step = {settings.rows_per_step}: must divide among {ranks} ranks"
            raise ConfigError(f"{told}; try {max(1, round(settings.rows_per_step / unit)) * unit}")


def begin(
    said: Settings, minutes: float, compute: Compute, *, through: str = "", ranks: int = 1
) -> tuple[Settings, plan.Dial]:
    """Settings of a new run: what was said, and what the dial chooses before anything is trained.

    said     with what follows from the folder that it starts from
    minutes  for the whole run
    through  the stage whose end was asked for; empty: the last
    ranks    that train together, as fast as this one
    """
    if not 0 < minutes < math.inf:
        raise ConfigError(f"minutes = {minutes:g}: must be above 0 and finite; try {DEFAULT_MINUTES:g}")
    machine = plan.measure_machine(compute, ranks=ranks)
    obstacle = compiling_obstacle(compute.device)
    first = resolve(merge(said, {"model": next(plan.shapes(said.get("model", {})))}))  # others fit as it does
    settings = plan.set_default(said, "compute.compile", would_compile(said, minutes, first) and not obstacle)
    if settings["compute"]["compile"] and obstacle:
        raise ConfigError(f"compute.compile = true: {obstacle}, or set it to false")
    settings = plan.choose_exam(settings, minutes)
    lenient = minutes < plan.GATE_FROM_MINUTES and not says_gate(said)
    if lenient:
        settings = plan.set_key(settings, "align.gate", False)
    dial = plan.Dial(minutes, plan.open_keys(said), machine, through=through or LAST, lenient=lenient)
    settings = choose_before(settings, dial, compute, ranks)
    phases = READING[: READING.index(through) + 1] if through in READING else READING
    if "compile" not in said.get("compute", {}):  # the shape is known by now
        recipe = resolve(settings)
        is_open = any(f"{phase}.steps" in dial.open for phase in phases)
        time = minutes if is_open else min(minutes, minutes_of_steps(recipe, phases, machine))  # may be done sooner
        settings = plan.set_key(settings, "compute.compile", would_compile(said, time, recipe) and not obstacle)
    return settings, dial


def says_gate(said: Settings) -> bool:
    return "gate" in said.get("align", {})


def would_compile(said: Settings, minutes: float, recipe: Recipe) -> bool:
    """Whether it is the dial that decides about compiling, and compiling would pay: not where layers are C++."""
    is_open = "compile" not in said.get("compute", {})
    return is_open and minutes >= plan.COMPILE_FROM_MINUTES and not layers_in_cpp(recipe)


def minutes_of_steps(recipe: Recipe, phases: Sequence[str], machine: plan.Machine) -> float:
    """The minutes of a run, roughly, in which the recipe's steps of its first phases are as many as fit."""
    chosen: list[OptimizerConfig] = [getattr(recipe, phase) for phase in phases]
    tokens = sum(phase.steps * phase.rows_per_step for phase in chosen) * recipe.model.context_length
    speed = machine.matmul_flops * plan.usual_share(recipe.model)
    return recipe.model.training_flop(tokens) / speed / 60 / plan.share_through(phases[-1])


def go_on(run: Run, said: Settings, minutes: float | None, *, new_round: bool) -> tuple[Settings, plan.Dial | None]:
    """Settings of a run that was begun before; raises RunError where the command says otherwise."""
    begun = resolve(read_settings(run.recipe)).model_dump(mode="json")  # whole, whichever version wrote it
    dial = read_dial(run)
    if dial and says_gate(said):
        dial = msgspec.structs.replace(dial, lenient=False)
    if dial and minutes is not None and minutes != dial.minutes:
        said_then = f"--minutes {dial.minutes * plan.share_through(dial.through):g}"
        until = f" for what ends with {dial.through}" if dial.through != LAST else " for the whole run"
        raise RunError(f"{run.path}: was begun with {said_then}{until}; drop --minutes, or choose another --out")
    given: Settings = {}  # what the dial has not decided yet, and need not any more
    for section, key, value in leaves(resolve(said) if said else None, said):
        name = f"{section}.{key}" if key else section
        is_open = dial and name in dial.open and section != "model"  # whose shape the tokenizer has by now
        if dial and is_open and (new_round or not has_begun(run, section)):
            dial.settled(name)
            given = plan.set_key(given, name, value)
            continue
        if new_round and section in LATER:
            continue
        mine = begun.get(section, {}).get(key, "unknown") if key else begun[section]
        if mine != value:
            raise RunError(f"{run.path}: was begun with {name} = {mine}, not {value}; choose another --out")
    if dial and dial.look and new_round and "steps" in said.get(dial.look.stage, {}):
        dial.look = None  # what is said is not looked at again
    return merge(begun, said if new_round else given), dial


def has_begun(run: Run, phase: str) -> bool:
    """Whether the last round has begun this phase: what the dial chose for it stands until the next round."""
    return any(
        run.state(f"{phase}-{last.number:03}").exists() or stands(last.reward if phase == "reward" else last.aligned)
        for last in run.rounds()[-1:]
    )


def read_dial(run: Run) -> plan.Dial | None:
    """What the dial had decided; raises RunError when plan.json is damaged."""
    if not run.plan.exists():
        return None
    try:
        return msgspec.json.decode(run.plan.read_bytes(), type=plan.Dial)
    except msgspec.MsgspecError as reason:
        raise RunError(f"{run.plan}: is damaged ({reason}); delete it, and the recipe stands as it is") from reason


def leaves(resolved: Recipe | None, said: Mapping[str, Any]) -> Iterator[tuple[str, str, Any]]:
    """(section, key, value) of everything that was said, as the recipe file writes it."""
    if resolved is None:
        return
    written = resolved.model_dump(mode="json")
    for section, value in said.items():
        if isinstance(value, Mapping):
            for key in value:
                yield section, key, written[section][key]
        else:
            yield section, "", written[section]
