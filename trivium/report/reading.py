"""A run folder → what its report tells, as plain values. Reads only; knows nothing of HTML."""

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import msgspec

from trivium.config import Recipe, read_settings, resolve
from trivium.errors import DataError, RunError
from trivium.evaluate.measures import Measures
from trivium.feedback.store import Counts, Store
from trivium.lineage import LINEAGE, Lineage, read_lineage
from trivium.publish import MANIFEST, file_fingerprint
from trivium.runs import Journal, Run, votes_of
from trivium.text.corpus import is_judged

T = TypeVar("T")
Point = tuple[int, float]  # step, value
NAMED = ("base", "instruct", "aligned")
WEIGHTS = "model.safetensors"  # as model/hub.py names it, which would import torch
PHASE_OF = {"reward": "reward", "imitator": "imitate", "aligned": "align"}  # by which a round makes each model


@dataclass(frozen=True)
class PhaseLog:
    """What the journal says of one phase."""

    name: str
    columns: Mapping[str, list[Point]]  # loss, learning_rate, metrics: at each step where it was finite
    evaluations: Mapping[str, list[Point]]  # measured on held-out data, or along the way
    steps: int  # done
    planned: int | None  # while it is under way; None when its model is published
    seconds: float
    tokens: float  # processed; of RL, written as well

    @property
    def is_done(self) -> bool:
        return self.planned is None or self.steps >= self.planned


class Sample(msgspec.Struct, frozen=True):
    """What a model answered, or how it went on."""

    model: str
    prompt: str
    answer: str


class Model(NamedTuple):
    """A published model folder and where it came from."""

    name: str
    phase: str  # that made it
    fingerprint: str  # of the weights, as lineages name their parents
    parent: str  # name of the parent where it stands in this run, else its fingerprint, else ""
    lineage: Lineage


class Machine(msgspec.Struct, frozen=True):
    """What plan.json says of the machine."""

    name: str
    cores: int
    memory: int  # bytes


class Plan(msgspec.Struct, frozen=True):
    """What plan.json says of the time."""

    minutes: float  # asked for
    spent: float  # seconds
    machine: Machine


@dataclass(frozen=True)
class Story:
    """All that a report tells."""

    name: str
    recipe: Recipe
    plan: Plan | None
    phases: list[PhaseLog]
    measures: Measures  # empty until the examination
    samples: list[Sample]
    rewards: list[tuple[int, Measures]]  # round, reward report
    endings: list[tuple[int, Measures]]  # round, how its reinforcement ended
    models: list[Model]
    votes: Counts | None

    @property
    def judge_is_simulated(self) -> bool:
        """Whether blind comparisons are decided by the built-in world's judge, who knows the truth."""
        return is_judged(self.recipe.data)

    @property
    def votes_are(self) -> str:
        """`simulated`, `partly simulated`, or nothing when people cast all votes that count."""
        if not self.recipe.votes.simulated:
            return ""
        if self.votes is None or not self.votes.votes:
            return "simulated" if self.judge_is_simulated else ""
        if self.votes.simulated_votes == self.votes.votes:
            return "simulated"
        return "partly simulated" if self.votes.simulated_votes else ""

    def phase(self, name: str) -> PhaseLog | None:
        return next((phase for phase in self.phases if phase.name == name), None)

    @property
    def missing(self) -> list[str]:
        """What a finished run has and this one has not, in the order in which it comes."""
        here = {model.name.split(",")[0] for model in self.models}
        told = [f"{p.name}, now at step {p.steps:,} of {p.planned:,}" for p in self.phases if not p.is_done]
        told += [f"the {name} model" for name in NAMED if name not in here]
        if "aligned" not in here and not self.judge_is_simulated and not (self.votes and self.votes.votes):
            told.append("votes, as nobody has voted yet")
        return told if self.measures else [*told, "the final examination"]


def read_story(run: Run) -> Story:
    """raises  RunError when no step was taken yet; DataError, ConfigError or CheckpointError naming a damaged file"""
    records = Journal(run.journal).read()
    if not records:
        raise RunError(f"{run.journal}: no step has been taken yet; start with `trivium run --out {run.path}`")
    recipe, models = resolve(read_settings(run.recipe)), read_models(run)
    phases = read_phases(records, recipe, published={model.phase for model in models})
    return story_of(run, recipe, models, phases, _count_votes(votes_of(run, recipe.votes.database)))


def story_of(run: Run, recipe: Recipe, models: list[Model], phases: list[PhaseLog], votes: Counts | None) -> Story:
    """All that lies in the run folder beside its journal and its votes. Raises as `read_story` does."""
    reports = [(round.number, _read_json(round.reward_report)) for round in run.rounds()]
    endings = [(round.number, _read_json(round.aligned_report)) for round in run.rounds()]
    return Story(
        name=run.path.resolve().name,
        recipe=recipe,
        plan=_read_plan(run.plan),
        phases=phases,
        measures=_read_json(run.measures),
        samples=_read_samples(run.samples),
        rewards=[(number, report) for number, report in reports if report],
        endings=[(number, report) for number, report in endings if report],
        models=models,
        votes=votes,
    )


def stamp_of(run: Run) -> tuple[object, ...]:
    """Another one as soon as a file has changed that `story_of` and `read_models` read; for whoever looks often."""
    reports = [report for round in run.rounds() for report in (round.reward_report, round.aligned_report)]
    seals = [folder / MANIFEST for _, _, folder in _folders(run)]
    return tuple(_state(file) for file in (run.recipe, run.plan, run.measures, run.samples, *reports, *seals))


def _state(file: Path) -> tuple[int, int, int] | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


def read_phases(records: Iterable[Mapping[str, Any]], recipe: Recipe, *, published: Container[str]) -> list[PhaseLog]:
    """The journal, phase by phase in the order in which they began; a step that was repeated counts as it was last."""

    def planned(name: str) -> int | None:
        return None if name in published else getattr(getattr(recipe, name.split("-")[0], None), "steps", None)

    steps: dict[str, dict[int, Mapping[str, Any]]] = {}
    measured: dict[str, dict[int, Mapping[str, Any]]] = {}
    for record in records:
        kept = measured if "evaluation" in record else steps
        for log in (steps, measured):
            log.setdefault(record["phase"], {})
        kept[record["phase"]][record["step"]] = record
    return [_phase_log(name, steps[name], measured[name], planned(name)) for name in steps]


def _phase_log(
    name: str, steps: Mapping[int, Mapping[str, Any]], measured: Mapping[int, Mapping[str, Any]], planned: int | None
) -> PhaseLog:
    lines = list(steps.values())
    return PhaseLog(
        name=name,
        columns=_columns((line["step"], {**line, **line.get("metrics", {})}) for line in lines),
        evaluations=_columns((step, line["evaluation"]) for step, line in measured.items()),
        steps=max(steps, default=0),
        planned=planned,
        seconds=sum(line["seconds"] for line in lines),
        tokens=sum(line["tokens_per_second"] * line["seconds"] for line in lines),
    )


def _columns(rows: Iterable[tuple[int, Mapping[str, Any]]]) -> dict[str, list[Point]]:
    """Each numeric column as points with rising steps; what was not finite is null in the journal, and left out."""
    columns: dict[str, list[Point]] = {}
    for step, row in sorted(rows, key=lambda pair: pair[0]):
        for key, value in row.items():
            if isinstance(value, (int, float)) and not isinstance(value, bool) and key != "step":
                columns.setdefault(key, []).append((step, float(value)))
    return columns


def _read_json(path: Path) -> Measures:
    """raises  DataError when it is not a JSON object; empty when there is no such file"""
    return _read_as(path, Measures) or {}


def _read_plan(path: Path) -> Plan | None:
    return _read_as(path, Plan)


def _read_as(path: Path, kind: type[T]) -> T | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except FileNotFoundError:
        return None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read ({error}); restore it from a copy, or delete it") from error


def _read_samples(path: Path) -> list[Sample]:
    lines = path.read_bytes().splitlines() if path.exists() else []  # of bytes: a text may hold U+2028
    read = []
    for number, line in enumerate(lines, start=1):
        try:
            read.append(msgspec.json.decode(line, type=Sample))
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise DataError(f"{path}:{number}: is not a sample ({error}); delete that line") from error
    return read


def _folders(run: Run) -> list[tuple[str, str, Path]]:
    """Where each model stands or will stand: its name, and the phase that makes it; parents first."""
    named = [("base", "pretrain", run.base)]
    for folder in sorted(run.path.glob("members/[0-9]*"), key=lambda path: int(path.name)):
        named.append((f"base of member {folder.name}", f"member-{int(folder.name):03}", folder))
    named.append(("instruct", "instruct", run.instruct))
    for round in run.rounds():
        for folder in sorted(round.path.glob("reward-[0-9]*"), key=lambda path: int(path.name.split("-")[1])):
            member = folder.name.split("-")[1]
            named.append(
                (f"reward, member {member}, round {round.number}", f"reward-{round.number:03}-{member}", folder)
            )
        folders = {"reward": round.reward, "imitator": round.imitator, "aligned": round.aligned}
        for name, folder in folders.items():
            named.append((f"{name}, round {round.number}", f"{PHASE_OF[name]}-{round.number:03}", folder))
    return named


def read_models(run: Run) -> list[Model]:
    """Those that are published, parents first."""
    found = [one for one in _folders(run) if all((one[2] / file).exists() for file in (MANIFEST, LINEAGE))]
    prints = [file_fingerprint(folder, WEIGHTS) for _, _, folder in found]
    names = {print_: name for print_, (name, _, _) in zip(prints, found, strict=True)}
    models = []
    for print_, (name, phase, folder) in zip(prints, found, strict=True):
        lineage = read_lineage(folder)
        parent = lineage.parent or ""
        models.append(Model(name, phase, print_, names.get(parent, parent), lineage))
    return models


def _count_votes(place: Path | str) -> Counts | None:
    if isinstance(place, Path) and not place.exists():
        return None
    with Store.look(place) as store:
        return store.counts()
