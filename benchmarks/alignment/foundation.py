"""What every trial starts from: one base, its instruct, the bases of the ensemble; and pairs whose truth is known."""

import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from trivium.config import Settings, merge, read_settings, resolve, to_toml
from trivium.errors import ConfigError
from trivium.evaluate.tasks import reply_to
from trivium.feedback.agreement import implied_accuracy
from trivium.feedback.store import LabelledPair
from trivium.generate.sampling import Sampling, stream_seed
from trivium.phases.align.questions import world_questions
from trivium.publish import write_text
from trivium.records import Message
from trivium.runs import Run
from trivium.shelf import open_model
from trivium.story.members import make_members
from trivium.story.opening import open_story
from trivium.story.stages import make_base, make_instruct
from trivium.story.teller import Teller

Floats = NDArray[np.float64]
MEMBERS = 4  # of the ensemble
CARRIED = ("base", "instruct", "tokenizer", "members", "recipe.toml")
VOTES, REWARD = "rounds/001/votes.json", "rounds/001/reward"
LITTLE = {"stories": 2000, "dialogues": 4000}  # are enough after phases I and II
TINY: Settings = {
    "data": {"stories": 300, "dialogues": 400},
    "compute": {"compile": False},
    "model": {"vocab_size": 400, "num_layers": 1, "width": 32, "mlp_width": 64, "context_length": 192},
    "pretrain": {"steps": 30},
    "instruct": {"steps": 60},
}


class Scale(NamedTuple):
    """How much is done."""

    pairs: int  # of answers that are voted on
    steps: int  # of reinforcement
    long_steps: int  # of reinforcement without a price on KL
    rows: int  # answers in each of them
    evaluations: int  # along the way
    fresh: int  # prompts for pairs whose truth is known
    comparisons: int
    unseen: int  # comparisons where reinforcement is pushed: the watch sees the first of them, the others judge it
    best_of: int  # answers to each prompt, of which the best are taken
    asked: int  # votes at which active and random choice are compared, and as many again each time
    threads: int = 0  # 0: as many as there are cores


FULL = Scale(2000, 120, 300, 128, 12, 6000, 300, 700, 64, 250)
QUICK = Scale(60, 4, 6, 16, 2, 60, 20, 120, 4, 20)


def make_foundation(out: Path, *, run: Path | None, minutes: float, quick: bool) -> Path:
    """A run folder with base, members and instruct: a copy of `run`, or one that is trained here.

    raises  ConfigError when the one that is there was made by an older version's --quick, and this is not
    """
    place = out / "foundation"
    if not quick and is_tiny(place / "recipe.toml"):
        raise ConfigError(f"{place}: was made by --quick; choose another --out")
    if run and not place.exists():
        carry(Run(run), place, {})
    flags: Settings = merge(TINY if quick else {}, {"reward": {"members": MEMBERS}})
    if place.exists():
        flags = {"reward": flags["reward"]}
    target = place if (place / "recipe.toml").exists() else None
    with open_story(
        target,
        out=None if target else place,
        minutes=None if target else 0.2 if quick else minutes,
        flags=flags,
        new_round=bool(target),
        through="" if target else "instruct",
    ) as teller:
        make_base(teller)
        make_members(teller)
        make_instruct(teller)
    return place


def is_tiny(recipe: Path) -> bool:
    return recipe.exists() and TINY["model"].items() <= read_settings(recipe)["model"].items()


def carry(source: Run, place: Path, settings: Settings, *, more: Sequence[str] = ()) -> None:
    """A run of its own that has been through phases I and II, with other settings for what is to come.

    more  what else of the source's is taken along
    """
    fresh = place.with_name(f".{place.name}")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    for name in (*CARRIED, *more):
        if (source.path / name).is_dir():
            shutil.copytree(source.path / name, fresh / name)
        elif (source.path / name).exists():
            (fresh / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source.path / name, fresh / name)
    told = merge(read_settings(source.recipe), settings)
    write_text(fresh / "recipe.toml", to_toml(resolve(told)))
    fresh.rename(place)


@contextmanager
def trial(
    foundation: Path, place: Path, seed: int, settings: Settings, *, like: Path | None = None
) -> Iterator[Teller]:
    """A run in `place` from the foundation, with its seed and settings; gone on with where it was left.

    like  a trial whose votes and reward model are taken over, where it has them
    """
    if not place.exists():
        data = read_settings(foundation / "recipe.toml")["data"]
        little = {name: min(most, data[name]) for name, most in LITTLE.items()}
        ready = like is not None and (like / REWARD).exists()
        source = like if like is not None and ready else foundation
        told = merge({"seed": seed, "data": little, "compute": {"compile": False}}, settings)
        carry(Run(source), place, told, more=("feedback.db", VOTES, REWARD) if ready else ())
    with open_story(place, out=None, minutes=None, flags={}, new_round=True, must_exist=True) as teller:
        yield teller


def noise_at(agreement: int) -> float:
    """The share of wrong votes under which two voters agree in so many of 100 pairs."""
    return round(1 - implied_accuracy(agreement / 100), 6)


class Fresh(NamedTuple):
    """Pairs of instruct's answers to held-out prompts, and the truth about them."""

    pairs: list[LabelledPair]
    gap: Floats  # true worth of the first minus that of the second; never 0

    def some(self, pairs: int) -> "Fresh":
        return Fresh(self.pairs[:pairs], self.gap[:pairs])


def fresh_pairs(foundation: Path, out: Path, prompts: int) -> Fresh:
    """Written once, and kept."""
    kept = out / f"fresh-{prompts}.json"
    if not kept.exists():
        recipe = resolve(read_settings(foundation / "recipe.toml"))
        model, tokenizer = open_model(foundation / "instruct")
        ask = world_questions(recipe, held_out=True)
        asked = [ask(10_000 + i) for i in range(prompts) for _ in range(2)]
        seeds = [stream_seed(8, i) for i in range(len(asked))]
        replies = reply_to(model, tokenizer, [q.prompt for q in asked], Sampling(max_new_tokens=96), seeds=seeds)
        worth = [q.gold(r.text, r.ended) for q, r in zip(asked, replies, strict=True) if q.gold]
        rows = [
            {
                "prompt": [[m.role, m.content] for m in asked[i].prompt],
                "answers": [replies[i].text, replies[i + 1].text],
                "worth": worth[i : i + 2],
            }
            for i in range(0, len(asked), 2)
        ]
        write_text(kept, json.dumps(rows))
    known: list[dict[str, Any]] = json.loads(kept.read_text())
    known = [row for row in known if abs(row["worth"][0] - row["worth"][1]) > 1e-9]
    pairs = [
        LabelledPair(
            tuple(Message(*turn) for turn in row["prompt"]),
            row["answers"][0],
            row["answers"][1],
            float(row["worth"][0] > row["worth"][1]),
            1,
            True,
            1,
            "sampled",
            i,
        )
        for i, row in enumerate(known)
    ]
    return Fresh(pairs, np.array([row["worth"][0] - row["worth"][1] for row in known]))
