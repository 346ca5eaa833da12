"""Does choosing what to ask about save votes? Reward models of votes on chosen pairs, beside those of random pairs.

    python benchmarks/asking.py RUN [--first 200] [--more 200] [--seeds 5] [--json] [--quick]

RUN is a finished run of TinyWorld. Its instruct model answers prompts three times each. Reward models learn from the
first votes, on random pairs; each way then asks about more; a reward model of all its votes is measured. The judge is
simulated, as noisy as the run's. Accuracy is against the truth, on random pairs of held-out prompts, ties left out.
"""

import argparse
import json
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).parents[1]))  # started by its path, it finds its siblings

import numpy as np
import torch

from trivium.compute import Compute
from trivium.config import Recipe, read_settings, resolve
from trivium.distributed.world import World, join_world
from trivium.evaluate.tasks import reply_to
from trivium.feedback.judges import SimulatedJudge
from trivium.feedback.pairs import Candidate, candidates, choose_pairs
from trivium.feedback.store import LabelledPair
from trivium.generate.sampling import Sampling, stream_seed
from trivium.model.heads import add_reward_head
from trivium.phases.align import reward
from trivium.phases.align.questions import Question, world_questions
from trivium.phases.align.scorer import Scorer
from trivium.runs import Run, read_run
from trivium.shelf import open_model
from trivium.train.loop import train

ANSWERS = 3
MEMBERS = 3  # of the ensemble: other heads, and votes drawn again
EPOCHS = 4
POOL = 4  # prompts that may be asked about for each that is


class Pool(NamedTuple):
    """Answered prompts, and what each answer is truly worth."""

    questions: list[Question]
    texts: list[list[str]]
    golds: list[list[float]]


class Bench:
    """What all ways share."""

    def __init__(self, run: Run, world: World) -> None:
        self.recipe: Recipe = resolve(read_settings(run.recipe))
        self._instruct, self._world = run.instruct, world
        self._compute = Compute(world.device, torch.float32, False)

    def pool(self, first: int, count: int, *, held_out: bool, seed: int) -> Pool:
        ask = world_questions(self.recipe, held_out=held_out)
        questions = [ask(first + number) for number in range(count)]
        prompts = [question.prompt for question in questions for _ in range(ANSWERS)]
        sampling = Sampling(self.recipe.votes.temperature, max_new_tokens=self.recipe.align.max_new_tokens)
        seeds = [stream_seed(seed, 1, number) for number in range(len(prompts))]
        replies = reply_to(*open_model(self._instruct, device=self._world.device), prompts, sampling, seeds=seeds)
        said = [replies[start : start + ANSWERS] for start in range(0, len(replies), ANSWERS)]
        golds = [
            [q.gold(r.text, r.ended) if q.gold else 0.0 for r in own] for q, own in zip(questions, said, strict=True)
        ]
        return Pool(questions, [[reply.text for reply in own] for own in said], golds)

    def vote(self, pool: Pool, asked: Sequence[Candidate], seed: int) -> list[LabelledPair]:
        judge = SimulatedJudge[object](score=lambda item, answer: 0.0, noise=self.recipe.votes.noise, seed=seed)
        worth = {"first": 1.0, "second": 0.0, "tie": 0.5}
        return [
            LabelledPair(pool.questions[place].prompt, pool.texts[place][one], pool.texts[place][other], worth[choice],
                         1, True, 1, "sampled", number)
            for number, (place, one, other) in enumerate(asked)
            for choice in [judge.choose(f"{place}:{one}:{other}", pool.golds[place][one], pool.golds[place][other])]
        ]  # fmt: skip

    def learn(self, votes: Sequence[LabelledPair], seed: int) -> Scorer:
        """A reward model of these votes."""
        steps = max(1, EPOCHS * len(votes) // self.recipe.reward.rows_per_step)
        settings = self.recipe.reward.model_copy(update={"steps": steps, "warmup_steps": max(1, steps // 10)})
        recipe = self.recipe.model_copy(update={"reward": settings, "seed": seed})
        opened = open_model(self._instruct, device=self._world.device)
        model = add_reward_head(opened.model, seed).to(self._world.device)
        phase = reward.build(recipe, model, opened.tokenizer, votes, [], self._compute, self._world, name="asking")
        for _ in train(phase, self._world, steps=range(steps)):
            pass
        return Scorer(model.requires_grad_(False), opened.tokenizer, self._compute)

    def ensemble(self, votes: Sequence[LabelledPair], seed: int) -> list[Scorer]:
        found = []
        for member in range(MEMBERS):
            drawn = np.random.default_rng((seed, member)).integers(len(votes), size=len(votes))
            found.append(
                self.learn([votes[place] for place in drawn] if member else votes, stream_seed(seed, 2, member))
            )
        return found

    def ask(self, pool: Pool, judges: Sequence[Scorer], count: int, seed: int) -> list[Candidate]:
        """By these judges; without any, at random."""
        found, margins = scored(pool, judges)
        prompts = ["\n".join(message.content for message in question.prompt) for question in pool.questions]
        picks = choose_pairs(prompts, found, margins, count=count, random_share=0.0 if judges else 1.0, seed=seed)
        return [found[pick.candidate] for pick in picks]


def scored(pool: Pool, judges: Sequence[Scorer]) -> tuple[list[Candidate], Any]:
    """Every pair of different answers, and its margins."""
    prompts = [question.prompt for question in pool.questions for _ in range(ANSWERS)]
    texts = [text for own in pool.texts for text in own]
    shape = (len(pool.texts), ANSWERS)
    with torch.no_grad():
        scores = [np.asarray(judge.rewards(prompts, texts), np.float64).reshape(shape) for judge in judges]
    found, margins = candidates(np.stack(scores, -1) if scores else np.zeros((*shape, 0)))
    differ = [i for i, (place, one, other) in enumerate(found) if pool.texts[place][one] != pool.texts[place][other]]
    return [found[i] for i in differ], margins[differ]


def accuracy(judge: Scorer, held_out: Pool) -> float:
    """Share of decided pairs that it puts in the right order."""
    found, margins = scored(held_out, [judge])
    truth = np.array([held_out.golds[place][one] - held_out.golds[place][other] for place, one, other in found])
    decided = np.abs(truth) > 1e-9
    return float(np.mean((margins[:, 0] * truth > 0)[decided]))


def measure(bench: Bench, *, first: int, more: int, seeds: int, held_out: int) -> dict[str, list[float]]:
    """Accuracy by way, one for each seed."""
    found: dict[str, list[float]] = {}
    measured = bench.pool(0, held_out, held_out=True, seed=0)
    for seed in range(seeds):
        begun = bench.pool(100_000 * (seed + 1), first, held_out=False, seed=seed)
        known = bench.vote(begun, bench.ask(begun, [], first, seed), seed)
        judges = bench.ensemble(known, seed)
        pool = bench.pool(100_000 * (seed + 1) + first, POOL * more, held_out=False, seed=seed)
        ways = {"random": ([], more), "one model": (judges[:1], more), "ensemble": (judges, more)}
        ways["random, twice as many"] = ([], 2 * more)
        found.setdefault("the first votes", []).append(accuracy(judges[0], measured))
        for name, (asking, count) in ways.items():
            votes = [*known, *bench.vote(pool, bench.ask(pool, asking, count, seed), seed + 1000)]
            found.setdefault(name, []).append(accuracy(bench.learn(votes, stream_seed(seed, 2, 0)), measured))
    return found


def spread(values: Sequence[float]) -> float:
    """Standard error of the mean."""
    return statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else float("nan")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="a finished run of TinyWorld")
    parser.add_argument("--first", type=int, default=200, help="votes on random pairs before anybody chooses")
    parser.add_argument("--more", type=int, default=200, help="votes by each way")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="few votes, two seeds: whether it works")
    parser.add_argument("--json", action="store_true")
    said = parser.parse_args()
    size = {"first": said.first, "more": said.more, "seeds": said.seeds, "held_out": 400}
    if said.quick:
        size = {"first": 64, "more": 32, "seeds": 2, "held_out": 60}
    with join_world("auto") as world:
        found = measure(Bench(read_run(said.run), world), **size)
    if said.json:
        print(json.dumps({"votes": size["first"] + size["more"], **found}))
        return
    print(f"{'pairs asked for':<20}{'right':>16}{'points beside random':>24}")
    for name, values in found.items():
        gain = [value - base for value, base in zip(values, found["random"], strict=True)]
        right = f"{statistics.mean(values):.1%} (± {100 * spread(values):.1f})"
        beside = f"{100 * statistics.mean(gain):+.1f} (± {100 * spread(gain):.1f})"
        print(f"{name:<20}{right:>16}{beside:>24}")


if __name__ == "__main__":
    main()
