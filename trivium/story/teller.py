"""What every stage of a run shares: the folder, the recipe as far as it is settled, the time, and who listens."""

import hashlib
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from math import ceil
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import numpy as np
import torch
from torch import nn

from trivium import plan
from trivium.compute import Compute
from trivium.config import Recipe, Settings, merge, resolve, to_toml
from trivium.distributed.world import World
from trivium.errors import RunError
from trivium.model.heads import RewardModel
from trivium.model.transformer import Transformer
from trivium.phases.pretrain import next_token_objective
from trivium.publish import write_text
from trivium.records import Dialogue
from trivium.runs import Run
from trivium.shelf import Origin, Parent, is_done, publish_model
from trivium.show import Show, duration
from trivium.text.corpus import load_dialogues, load_documents
from trivium.text.documents import Corpus
from trivium.text.schemas import Say, quiet
from trivium.text.split import Split
from trivium.text.tokenizer import Tokenizer
from trivium.train.interrupt import Interrupt
from trivium.train.loop import train
from trivium.train.phase import Phase
from trivium.train.runner import measured, run_phase, seconds_of_steps
from trivium.wording import counted

M = TypeVar("M", bound=nn.Module)
TIMED_STEPS = 6  # the first also compiles
FIRST_WORDS_SECONDS = 5.0  # of training before the model is asked to say something


class Teller:
    """A run in progress. Stages (stages.py, rounds.py) ask it to settle, to train and to publish."""

    def __init__(
        self,
        run: Run,
        settings: Settings,
        dial: plan.Dial | None,
        compute: Compute,
        world: World,
        interrupt: Interrupt,
        show: Show,
        *,
        writes: bool = True,
        begun: float | None = None,
    ) -> None:
        """
        writes  whether texts that are gathered are kept in the run's folder
        begun   of time.monotonic(), since when the time counts; None: from now on
        """
        self.run, self.dial, self.compute, self.world = run, dial, compute, world
        self.interrupt, self.show = interrupt, show
        self.settings = settings
        self.recipe = resolve(settings)
        self.objective = next_token_objective(compute)  # one for all phases: nothing is compiled twice
        self._writes = writes
        self._documents: Corpus | None = None
        self._dialogues: Split[Dialogue] | None = None
        self._heard: set[str] = set()  # the phases whose model has said something
        self._clock = time.monotonic() if begun is None else begun

    def documents(self, say: Say = quiet) -> Corpus:
        """The texts on disk, which are gathered once; the first rank gathers them, the others wait and open them."""
        load = partial(
            load_documents, self.recipe.data, self.recipe.seed, folder=self.run.cache / "texts", keep=self._writes
        )
        if self._documents is None:
            if self.world.first:
                with self.show.watching() as progress:
                    self._documents = load(say, progress=progress)
            self.world.barrier()
        self._documents = self._documents or load(quiet)
        return self._documents

    def dialogues(self, say: Say = quiet) -> Split[Dialogue]:
        """The instructions and their answers, which are read once."""
        self._dialogues = self._dialogues or load_dialogues(self.recipe.data, self.recipe.seed, say)
        return self._dialogues

    def hold_to(self, phase: str, named: str, fingerprint: str) -> None:
        """Go on with a phase that was begun on the same data only: on other rows it would be another phase.

        named   the setting that names the data
        raises  RunError
        """
        noted = self.run.data(phase)
        was = noted.read_text(encoding="utf-8") if noted.exists() and self.run.state(phase).exists() else ""
        if was and was != fingerprint:
            raise RunError(
                f"{self.run.path}: {phase} was begun on other data ({named}, fingerprint {was}, now {fingerprint}); "
                "put the files back as they were, or choose another --out"
            )
        self.world.barrier()
        if self.world.first and not was:
            noted.parent.mkdir(exist_ok=True)
            write_text(noted, fingerprint)

    def settle(self, key: str, value: object, *, for_good: bool = True) -> None:
        """Write one of the dial's choices into the recipe; the first rank's choice is everybody's.

        for_good  whether it is the last one
        """
        self.settings = plan.set_key(self.settings, key, self.world.from_first(value))
        if for_good and self.dial and key in self.dial.open:
            self.dial.open.remove(key)
        self.keep_recipe()

    def settle_all(self, values: Settings) -> None:
        """Write several choices into the recipe at once, which stay the dial's."""
        self.settings = merge(self.settings, self.world.from_first(values))
        self.keep_recipe()

    def keep_recipe(self) -> None:
        self.recipe = resolve(self.settings)
        if self.world.first:
            write_text(self.run.recipe, to_toml(self.recipe))
        self.keep_time()

    def keep_time(self) -> None:
        """Note the time spent, so that a run that was interrupted still keeps to its minutes."""
        now = time.monotonic()
        if self.dial:
            self.dial.spent += now - self._clock
            if self.world.first:
                write_text(self.run.plan, msgspec.json.encode(self.dial).decode())
        self._clock = now

    def is_done(self, folder: Path, phase: str) -> bool:
        """Whether the phase has left its model here; what its checkpoints still hold is then swept away."""
        done = is_done(folder)
        if done and self.world.first:
            self.run.forget(phase)
        return done

    def is_open(self, key: str) -> bool:
        """Whether the dial has still to decide this."""
        return self.dial is not None and key in self.dial.open

    def settle_steps(self, stage: str, build: Callable[[Any], Phase[Any]], model: nn.Module) -> None:
        """Time the phase's own steps, and choose how many fit into its share of the time.

        The choice is looked at again in `train`, when more is known than how fast the first steps were.
        """
        if self.dial is None:
            return
        if self.is_open(f"{stage}.steps"):
            self._choose_steps(stage, self.measure_pace(build(model)))
        self.settle_warmup(stage)

    def _choose_steps(self, stage: str, pace: plan.Pace) -> None:
        assert self.dial is not None
        self.keep_time()
        seconds, begun = self.dial.seconds_for(stage), self.dial.spent
        evaluations = self.recipe.evaluate.along_the_way
        times = self.recipe.pretrainings if stage == "pretrain" else 1.0
        steps = self.world.from_first(pace.steps_in(seconds / times, evaluations))
        look = plan.Look(stage, steps, begun, begun + seconds / times)
        self.dial.look = look if look.pays else None
        self.settle(f"{stage}.steps", steps)
        fit = f"fit{'s' * (steps == 1)} into {duration(seconds / times)}"
        self.show.say(f"  {counted(steps, 'step')} of {pace.step * 1000:.0f} ms {fit}")
        if steps < plan.FEWEST_STEPS:
            enough = self.dial.minutes_with(stage, times * pace.seconds_of(plan.ENOUGH_STEPS, evaluations))
            self.show.warn(
                f"{stage} takes {counted(steps, 'step')}, too few to learn from: {duration(seconds)} were left for it "
                f"when it began, {duration(begun)} were spent on what comes before, such as reading and measuring; "
                f"give --minutes {ceil(10 * enough) / 10:g} or more and another --out, or less text"
            )

    def settle_passes(self, stage: str, rows: float) -> None:
        """How many steps go over so many rows, where the dial decides that: in every round anew, for votes come in."""
        if self.is_open(f"{stage}.steps"):
            steps = plan.steps_over(rows, getattr(self.recipe, stage).rows_per_step)
            self.settle(f"{stage}.steps", steps, for_good=False)
        self.settle_warmup(stage, for_good=False)

    def settle_warmup(self, stage: str, *, for_good: bool = True) -> None:
        """In how many steps the learning rate rises, once the phase's steps are known."""
        if self.is_open(key := f"{stage}.warmup_steps"):
            self.settle(key, plan.choose_warmup(stage, getattr(self.recipe, stage).steps), for_good=for_good)

    def measure_pace(self, phase: Phase[Any]) -> plan.Pace:
        """Seconds of one step at its best and of one evaluation; the same on every rank.

        The last steps of the phase are taken, which are like most of them; those that hang together are timed together.
        They leave the weights as they are: a copy would take memory that training does not.
        """
        for optimizer in phase.optimizers:
            for group in optimizer.param_groups:
                group["peak"] = 0.0
        stride, times = phase.stride, [time.monotonic()]
        strides = max(1, phase.settings.steps // stride)
        for done in train(phase, self.world, steps=range(max(0, strides - TIMED_STEPS) * stride, strides * stride)):
            if done.step % stride == 0:
                times.append(time.monotonic())
        phase.evaluate()
        times.append(time.monotonic())
        gaps = np.diff(times)
        pace = torch.tensor([float(gaps[:-1].min()) / stride, float(gaps[-1])], device=self.world.device)
        step, evaluation = (self.world.sum(pace) / self.world.size).tolist()
        return plan.Pace(step, evaluation)

    def train(
        self, build: Callable[[M], Phase[Any]], model: M, *, sample: Callable[[], None] | None = None
    ) -> dict[str, float]:
        """Run a phase before the listener's eyes; returns what it measured last.

        build   makes the phase of the model, as the recipe says; again whenever the dial has looked at its steps
        sample  shows something the model says; called once early, and after each evaluation
        """
        phase = build(model)
        while self.dial and (look := self.dial.look) and look.stage == phase.name.partition("-")[0]:
            done = min(-(-look.step // phase.stride) * phase.stride, look.steps)
            self._follow(phase, sample, until=done)
            if done == look.steps or phase.watch(measured(self.run, phase.name)).reason:
                self._look_again(look, look.steps, look.steps)  # for the last time: nothing is left to choose
            else:
                self.keep_time()
                seconds = seconds_of_steps(self.run, phase.name)
                self._look_again(look, done, look.steps_by(done, self.dial.spent, seconds))
            phase = build(model)
        return self._follow(phase, sample)

    def _look_again(self, look: plan.Look, done: int, steps: int) -> None:
        """Go on to so many steps in all, which were chosen when so many were done."""
        assert self.dial is not None
        steps = self.world.from_first(steps)
        aims = [aim for aim in getattr(self.recipe, look.stage).aims if aim[0] < done]
        if steps != look.steps:
            self.show.say(f"  going on to {counted(steps, 'step')} at the speed so far")
            aims.append((done, look.steps))
        self.dial.look = look.next(done, steps)
        self.settle_all({look.stage: {"steps": steps, "aims": aims}})

    def _follow(
        self, phase: Phase[Any], sample: Callable[[], None] | None, *, until: int | None = None
    ) -> dict[str, float]:
        """Train up to a step, or to the end."""
        found: dict[str, float] = last_evaluation(self.run, phase.name)
        begun, started = time.monotonic(), False
        self.keep_time()
        for progress in run_phase(
            phase,
            self.run,
            self.world,
            self.interrupt,
            save_seconds=self.recipe.compute.save_seconds,
            say=self.show.say,
            until=until,
        ):
            if time.monotonic() - self._clock >= self.recipe.compute.save_seconds:
                self.keep_time()  # as often as weights are kept, lest a run that is killed has its time twice
            if not self.world.first:
                continue
            if not started:
                self.show.begin(phase.name, progress.step - 1, progress.steps)
                started = True
            self.show.step(progress.record, progress.steps)
            if progress.evaluation is not None:
                found = dict(progress.evaluation)
                self.show.measured(progress.record, found)
            early = phase.name not in self._heard and time.monotonic() - begun > FIRST_WORDS_SECONDS
            if sample and self.world.size == 1 and (early or progress.evaluation is not None):
                sample()
                self._heard.add(phase.name)
        self.show.end()
        return found

    def publish(
        self,
        folder: Path,
        model: Transformer | RewardModel,
        tokenizer: Tokenizer,
        *,
        phase: str,
        parent: Parent | None,
        data: Mapping[str, str],
        votes: str | None,
        metrics: Mapping[str, float],
        beside: Mapping[str, str] | None = None,
        recipe: Recipe | None = None,
    ) -> None:
        """Put a finished model on the shelf; its checkpoints are no longer needed.

        recipe  that it was made by, where that is not the run's
        beside  further files by name, and their text
        """
        if self.world.first:
            origin = Origin(phase, parent, data, votes, metrics)
            publish_model(folder, model, tokenizer, recipe or self.recipe, origin, beside=beside or {})
            self.run.forget(phase)
        self.world.barrier()
        self.keep_time()


def last_evaluation(run: Run, phase: str) -> dict[str, float]:
    """What the journal says was measured last, for a phase that has no step left to do."""
    return dict(seen[-1].found) if (seen := measured(run, phase)) else {}


def fingerprint_texts(texts: Iterable[str]) -> str:
    """16 hexadecimal digits that name some texts in their order."""
    digest = hashlib.blake2b(digest_size=8)
    for text in texts:
        digest.update(text.encode("utf-8", "surrogatepass") + b"\0")
    return digest.hexdigest()


def name_data(names: Sequence[str], fingerprint: str) -> dict[str, str]:
    """For the lineage: what the recipe calls the data, with the fingerprint of all of it."""
    return {", ".join(names): fingerprint}
