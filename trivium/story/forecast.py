"""What a run would be, before it is spent: this machine, the dial's choices, time, steps, memory, disk. Trains nothing.

Steps and tokens are estimates from the speed of large products; a run settles them from the speed of its own steps.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

from trivium import plan
from trivium.compute import best_device, compiling_obstacle, prepare
from trivium.config import OptimizerConfig, Recipe, Settings, merge, read_settings, resolve
from trivium.distributed.world import join_world
from trivium.feedback.store import Store
from trivium.model.shape import ModelConfig
from trivium.plan import SHARES, Dial
from trivium.runs import Run, read_run, votes_of
from trivium.shelf import is_done
from trivium.show import Show, console_for, duration
from trivium.story.needs import disk_of, layers_in_cpp, layout_of, memory_of
from trivium.story.opening import DEFAULT_MINUTES, begin, go_on, name_of, would_compile
from trivium.story.sizing import STEPPING, gains_by_compiling
from trivium.story.start import with_start
from trivium.story.trusting import EPOCHS
from trivium.text.corpus import check_files, is_judged, load_pairs
from trivium.text.schemas import quiet
from trivium.wording import counted, size

Forecast = dict[str, Any]  # what `trivium plan --json` prints

TAKEN = ("start", "model")  # sections that a folder decides
ALIGN_COST = 2.0  # a step of reinforcement, in training steps on its answers: it also writes and scores them, roughly


class Stage(NamedTuple):
    """A part of the run. None where there is nothing to tell."""

    name: str
    minutes: float
    steps: int | None
    tokens: int | None  # positions that are computed, padding included
    settled: bool  # steps were said, or are chosen already
    done: bool


def forecast(target: Path | None, *, minutes: float | None, flags: Settings) -> Forecast:
    """What `trivium run` with the same words would train.

    target  a recipe file, a run folder, or None for the defaults
    raises  whatever `trivium run` would raise before it trains
    """
    if target is not None and target.is_dir():
        return forecast_of_run(read_run(target), minutes=minutes, flags=flags)
    said = merge(read_settings(target) if target is not None else {}, flags)
    out = Path("runs") / name_of(target)
    first = resolve(said)
    check_files(first.data)
    with join_world(first.compute.device) as world, TemporaryDirectory() as folder:
        compute = prepare(first.compute, world.device, Path(folder))
        settings, dial = begin(with_start(said), DEFAULT_MINUTES if minutes is None else minutes, compute)
    recipe = resolve(settings)
    found = describe(recipe, dial, stages_of(recipe, dial, done=set()), device=compute.device.type)
    found |= {"run": None, "exists": str(out) if (out / "recipe.toml").exists() else None, "given": dict(flat(said))}
    found["chosen"] = {key: value for key, value in flat(settings) if key not in found["given"]}
    if recipe.start.folder:  # it decides, not the dial
        found["taken"] = {key: found["chosen"].pop(key) for key in [*found["chosen"]] if key.split(".")[0] in TAKEN}
    if not recipe.compute.compile and would_compile(said, dial.minutes, recipe):
        found["obstacle"] = compiling_obstacle(compute.device)
    return found


def forecast_of_run(run: Run, *, minutes: float | None, flags: Settings) -> Forecast:
    """What is settled in a run that was begun, and what is still open."""
    settings, dial = go_on(run, flags, minutes, new_round=False)
    recipe = resolve(settings)
    done = set(done_stages(run))
    device = best_device(recipe.compute.device)
    found = describe(recipe, dial, stages_of(recipe, dial, done=done), device=device)
    keys = plan.open_keys({})
    still_open = found["open"]
    found |= {"run": str(run.path), "exists": str(run.path), "given": {}}
    if found["waits_for_votes"]:
        with Store.look(votes_of(run, recipe.votes.database)) as store:
            found["waits_for_votes"] = not store.counts().votes
    found["chosen"] = {key: plan.get_key(settings, key) for key in keys if key not in still_open}
    return found


def done_stages(run: Run) -> Iterator[str]:
    """The stages that have left their result; of phase III, those of the last round that has begun."""
    if is_done(run.base):
        yield "pretrain"
    if is_done(run.instruct):
        yield "instruct"
    for round in run.rounds()[-1:]:
        if (round.path / "votes.json").exists():
            yield "votes"
        if is_done(round.reward):
            yield "reward"
        if is_done(round.aligned):
            yield "align"
    if run.measures.exists():
        yield "measure"


def flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every setting by its dotted name."""
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def stages_of(recipe: Recipe, dial: Dial | None, *, done: set[str]) -> list[Stage]:
    """Each stage's time and steps, one after the other: what one leaves over, the next ones divide."""
    if dial is None:
        counts = {name: getattr(recipe, name).steps for name in ("pretrain", "instruct", "reward", "align")}
        return [Stage(name, 0, counts.get(name), None, True, name in done) for name in SHARES]
    dial = msgspec.structs.replace(dial, open=list(dial.open))
    stages = []
    for name in SHARES:
        stage = _stage(name, recipe, dial, done=name in done)
        dial.spent += 0 if stage.done else 60 * stage.minutes
        stages.append(stage)
    return stages


def _stage(name: str, recipe: Recipe, dial: Dial, *, done: bool) -> Stage:
    seconds = dial.seconds_for(name)
    if name not in ("pretrain", "instruct", "reward", "align"):
        return Stage(name, 0 if done else seconds / 60, None, None, f"{name}.pairs" not in dial.open, done)
    phase: OptimizerConfig = getattr(recipe, name)
    per_step = seconds_per_step(name, recipe, dial)
    settled = done or f"{name}.steps" not in dial.open
    if settled:
        steps = phase.steps
    elif name == "reward":  # as often over the votes as a run goes, however long it takes
        steps = plan.steps_over(EPOCHS * votes_to_learn_from(recipe, dial), phase.rows_per_step)
    else:
        training = STEPPING * seconds if name in ("pretrain", "instruct") else seconds
        steps = max(1, int(training / per_step / (recipe.pretrainings if name == "pretrain" else 1)))
    if settled or name == "reward":
        seconds = steps * per_step
    rows, length = layout_of(name, recipe)
    tokens = steps * rows * length
    return Stage(name, 0 if done else seconds / 60, steps, tokens, settled, done)


def seconds_per_step(name: str, recipe: Recipe, dial: Dial) -> float:
    """From the operations of a step and the speed that training reaches, phases I and II compiled or not."""
    compiled = gains_by_compiling(recipe) and name in ("pretrain", "instruct")
    rows, length = layout_of(name, recipe)
    model = recipe.model.model_copy(update={"context_length": length})
    flop = plan.multiplied(model, recipe.pretrain.candidates if name == "pretrain" else 0).training_flop(rows * length)
    cost = ALIGN_COST if name == "align" else 1.0
    return cost * flop / dial.flops(compiled=compiled)


def pairs_to_vote_on(recipe: Recipe, dial: Dial | None) -> int:
    if dial is None or "votes.pairs" not in dial.open:
        return recipe.votes.pairs
    return plan.choose_pairs(dial.minutes)


def votes_to_learn_from(recipe: Recipe, dial: Dial | None) -> float:
    if recipe.data.pairs:
        pairs = load_pairs(recipe.data, quiet)
        return len(pairs.train)
    return pairs_to_vote_on(recipe, dial) * (1 - recipe.reward.held_out_share)


def describe(recipe: Recipe, dial: Dial | None, stages: list[Stage], *, device: str) -> Forecast:
    """What is known of a new run and of an old one alike."""
    shape: ModelConfig = recipe.model
    done = {stage.name for stage in stages if stage.done}
    if "pretrain" in done:
        done.add("model")  # its vocabulary stands since the tokenizer does
    machine = dial.machine if dial else None
    memory = memory_of(recipe, dtype_bytes=2 if machine and machine.precision == "bfloat16" else 4)
    return {
        "minutes": dial.minutes if dial else None,
        "spent_minutes": dial.spent / 60 if dial else None,
        "machine": {"device": device, **msgspec.structs.asdict(machine)} if machine else None,
        "choice": msgspec.to_builtins(dial.choice) if dial and dial.choice else None,
        "compiled": recipe.compute.compile,
        "in_cpp": layers_in_cpp(recipe),
        "obstacle": "",  # why steps are not compiled, where they should be
        "taken": {},  # what the folder decides that the run starts from
        "start": recipe.start.model_dump(mode="json"),
        "model": {"parameters": shape.parameters, **shape.model_dump(mode="json")},
        "stages": [stage._asdict() for stage in stages],
        "waits_for_votes": not recipe.data.pairs and not (is_judged(recipe.data) and recipe.votes.simulated),
        "pairs_to_vote_on": 0 if recipe.data.pairs else pairs_to_vote_on(recipe, dial),
        "memory_bytes": memory.likely,
        "memory_most_bytes": memory.most,
        "disk_bytes": disk_of(recipe),
        "open": [key for key in dial.open if key.partition(".")[0] not in done] if dial else [],
    }


# For people

NAMES = {
    "pretrain": "I    pretrain",
    "instruct": "II   instruct",
    "votes": "III  votes",
    "reward": "III  reward",
    "align": "III  align",
    "measure": "     measure",
}


def print_forecast(found: Forecast) -> None:
    console = console_for()
    _grid(console, summary(found))
    names = ["", "minutes, at most", "steps", "tokens"]
    rows = _stage_rows(found)
    if any(stage["done"] for stage in found["stages"]):
        names, rows = (
            [*names, ""],
            [[*row, "done" if s["done"] else ""] for row, s in zip(rows, found["stages"], strict=True)],
        )
    Show(stderr=False).table(_title(found), names, rows)
    if found["open"]:
        told = f"~ an estimate; the run settles {', '.join(found['open'])} as it goes, from the speed of its own steps."
        console.print(Text(told, style="dim"))
    if found["waits_for_votes"]:
        console.print("Phase III waits for votes: of people, by `trivium vote`, or of files, in data.pairs.")
    console.print()
    for title, settings in (
        ("Given", found["given"]),
        (f"Taken from {found['start']['folder']}", found["taken"]),
        ("Settled" if found["run"] else "Chosen by the dial", found["chosen"]),
    ):
        if settings:
            console.print(Text(title, style="bold"))
            _grid(console, by_section(settings))
    for line in _warnings(found):
        console.print(Text(line, style="yellow"))


def _grid(console: Console, lines: Iterable[tuple[str, str]]) -> None:
    """Names with what there is to tell about each."""
    grid = Table.grid(padding=(0, 2))
    for name, told in lines:
        grid.add_row(Text(f"  {name}", style="cyan"), Text(told))
    console.print(grid, "", sep="\n")


def by_section(settings: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Each section of a recipe, and its settings in one line."""
    sections: dict[str, list[str]] = {}
    for key, value in settings.items():
        section, _, name = key.rpartition(".")
        sections.setdefault(section or "recipe", []).append(f"{name} {json.dumps(value, ensure_ascii=False)}")
    for section, told in sections.items():
        yield section, ", ".join(told)


def summary(found: Forecast) -> Iterator[tuple[str, str]]:
    """Name and text of each line above the table."""
    machine, model = found["machine"], found["model"]
    if machine:
        speed = f"{machine['matmul_flops'] / 1e9:,.0f} GFLOP/s in {machine['precision']}"
        yield "machine", f"{machine['name']}, {counted(machine['cores'], 'core')}, {size(machine['memory'])}; {speed}"
    heads = counted(model["num_heads"], "head")
    yield (
        "model",
        f"{model['parameters']:,} parameters: {counted(model['num_layers'], 'layer')}, width {model['width']}, "
        f"{heads}, context {model['context_length']}, vocabulary {model['vocab_size']:,}",
    )
    start = found["start"]
    yield "weights", f"from {start['folder']} ({start['weights']})" if start["folder"] else "fresh"
    plain = "layers in C++" if found["in_cpp"] else "steps are not compiled"
    steps = "compiled steps" if found["compiled"] else plain
    steps += f": {found['obstacle']}" if found["obstacle"] else ""
    most = f", up to {size(found['memory_most_bytes'])} while answers do not end"
    more = most if found["memory_most_bytes"] > found["memory_bytes"] else ""
    yield "memory", f"about {size(found['memory_bytes'])} at the peak{more}; {steps}"
    yield "disk", f"about {size(found['disk_bytes'])}"
    if found["choice"]:
        yield from reasons(found["choice"], fresh=not start["folder"])


UNTRIED = "no steps, the run is too short: sizes follow from the speed of large products"


def reasons(choice: dict[str, Any], *, fresh: bool) -> Iterator[tuple[str, str]]:
    """What the dial reckoned with."""
    trials: dict[str, list[str]] = {}
    for each in choice["trials"]:
        shape = f"{counted(each['num_layers'], 'layer')} of {each['width']}"
        trials.setdefault(shape, []).append(
            f"{short(each['tokens_per_second'])} with {counted(each['rows'], 'row')} at once"
        )
    told = "; ".join(f"{shape} {', '.join(speeds)}" for shape, speeds in trials.items())
    yield "tried", f"tokens/s of plain steps: {told}" if told else UNTRIED
    if fresh:
        law = plan.LAWS[choice["law"]]
        told = f"{law.floor:g} + {law.size:g} N^-{law.power:g} + {law.text:g} D^-{law.power:g}"
        if leap := law.leap:
            told += f", {leap.bits:g} less where D N^{leap.power:g} is well above {leap.text:.2g}:"
        yield "law", f"{told} bits/byte of N parameters after D bytes ({choice['law']}): {choice['bits']:.3f} expected"
    text = f"{short(choice['tokens'])} tokens in phase I, about {short(choice['read'])}B"
    if choice["unique"]:
        epochs = choice["read"] / choice["unique"]
        text += f"; there are {short(choice['unique'])}B: read {epochs:.1f} times"
    yield "text", text


def _title(found: Forecast) -> str:
    if found["minutes"] is None:
        return "The phases"
    spent = f", {duration(60 * found['spent_minutes'])} of them spent" if found["spent_minutes"] else ""
    return f"{counted(found['minutes'], 'minute')}{spent}"


def _stage_rows(found: Forecast) -> list[list[str]]:
    rows = []
    for stage in (Stage(**told) for told in found["stages"]):
        about = "" if stage.settled else "~"
        steps = "" if stage.steps is None else f"{about}{stage.steps:,}"
        if stage.name == "votes" and found["pairs_to_vote_on"]:
            steps = counted(found["pairs_to_vote_on"], "pair")
        exact = stage.settled and stage.name in ("pretrain", "instruct")
        tokens = "" if stage.tokens is None else f"{'' if exact else '~'}{short(stage.tokens)}"
        minutes = "" if stage.done or found["minutes"] is None else f"{stage.minutes:.1f}"
        rows.append([NAMES[stage.name], minutes, steps, tokens])
    return rows


def _warnings(found: Forecast) -> Iterator[str]:
    machine = found["machine"]
    if machine and found["memory_most_bytes"] > machine["memory"]:
        yield "That may be more memory than there is; lower microbatch_rows of pretrain, instruct and align."
    if found["exists"] and not found["run"]:
        yield f"{found['exists']} exists: `trivium run` would go on with it as it was begun; choose another --out."


def short(count: float) -> str:
    """A large number for people."""
    return f"{count / 1e6:,.1f}M" if count >= 1e6 else f"{count / 1e3:,.0f}k" if count >= 1e4 else f"{count:,.0f}"
