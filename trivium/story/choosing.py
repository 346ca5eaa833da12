"""Which pairs people are asked about: fresh answers of the newest models, chosen by the reward models that there are.

The one place for the studio and the terminal. It writes answers and scores them; it keeps no queue and trains nothing.
"""

import itertools
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from trivium.compute import Compute
from trivium.config import Recipe
from trivium.errors import RunError
from trivium.evaluate.tasks import Reply, reply_to
from trivium.feedback.pairs import Floats, candidates, choose_pairs
from trivium.feedback.store import NewPair, NewQueued
from trivium.generate.sampling import Sampling, stream_seed
from trivium.model.hub import load_reward
from trivium.phases.align.questions import (
    Question,
    Questions,
    known_answers,
    listed_questions,
    prompts_of,
    world_questions,
)
from trivium.phases.align.scorer import Scorer
from trivium.records import Message
from trivium.runs import Run
from trivium.shelf import Opened, stands, weights_fingerprint
from trivium.text.corpus import is_judged, load_dialogues, load_pairs
from trivium.text.schemas import quiet
from trivium.text.tokenizer import Tokenizer

BATCH = 8  # pairs written at once
RIVALS = 4  # every so many-th pair sets two models side by side, where there are two
WIDER = 2  # prompts that are answered for each that is asked about, where there is something to choose by
ANSWERS = 3  # to each of those
KNOWN = 2  # every so many-th batch brings a pair whose right answer is known
LATELY = 64  # prompts asked before, that new ones should differ from
PATIENCE = 1000  # known prompts in a row, beyond as many as are known, before we believe that no other is left

Prompt = tuple[Message, ...]
Open = Callable[[Path], Opened]


def answering_model(run: Run) -> Path:
    """The policy as it is now: the latest aligned model, else instruct; raises RunError when there is neither."""
    rounds = [round.aligned for round in run.rounds() if stands(round.aligned)]
    if rounds:
        return rounds[-1]
    if not stands(run.instruct):
        raise RunError(f"{run.path}: has no model yet that answers; make one with `trivium run {run.path}`, then vote")
    return run.instruct


def model_before(run: Run, source: Path) -> Path | None:
    """The model that the last round started from; None when there is only instruct."""
    made = [run.instruct, *(round.aligned for round in run.rounds())]
    earlier = [folder for folder in made if folder != source and stands(folder)]
    return earlier[-1] if source != run.instruct and earlier else None


def coming_round(run: Run) -> int:
    """The round whose training will use a vote that is given now: one that has its reward model learns no more."""
    rounds = run.rounds()
    if not rounds:
        return 1
    last = rounds[-1]
    return last.number + 1 if stands(last.reward) or stands(last.aligned) else last.number


def reward_models(run: Run) -> list[Path]:
    """Those of the newest round that has one: its whole ensemble where it has several."""
    round = next((round for round in reversed(run.rounds()) if stands(round.reward)), None)
    if round is None:
        return []
    others = {int(path.name[7:]): path for path in round.path.glob("reward-*") if path.name[7:].isdecimal()}
    return [round.reward, *(others[number] for number in sorted(others) if stands(others[number]))]


def learning_prompts(recipe: Recipe) -> Questions:
    """What the policy is asked while it learns, with the answers known to be right; prompts from files in a drawn
    order."""
    if is_judged(recipe.data):
        return world_questions(recipe, held_out=False)
    dialogues = load_dialogues(recipe.data, recipe.seed, quiet)
    prompts = prompts_of(load_pairs(recipe.data, quiet), dialogues, held_out=False)
    order = np.random.Generator(np.random.Philox(np.random.SeedSequence((recipe.seed, 9))))
    order.shuffle(prompts)
    return listed_questions(prompts, known_answers(dialogues.train))


def new_prompts(ask: Questions, known: Collection[Prompt], first: int) -> Iterator[Question]:
    """Questions from the first-th on, each prompt once and none that is known; ends when no other is left."""
    seen, misses = set(known), 0
    for index in itertools.count(first):
        question = ask(index)
        misses = misses + 1 if question.prompt in seen else 0
        if misses > PATIENCE + len(seen):
            return
        if not misses:
            seen.add(question.prompt)
            yield question


@dataclass
class Prompts:
    """What is still to be asked: new questions first, then those that were looked at and not chosen."""

    new: Iterator[Question]
    asked: deque[str] = field(default_factory=lambda: deque(maxlen=LATELY))  # the texts of the last ones
    _left: deque[Question] = field(default_factory=deque)

    def take(self, count: int) -> list[Question]:
        found = list(itertools.islice(self.new, count))
        while len(found) < count and self._left:
            found.append(self._left.popleft())
        return found

    def put_back(self, questions: Sequence[Question]) -> None:
        self._left.extend(questions)


class Writers(NamedTuple):
    """Who answers, who judges what is worth asking, and what is asked, until the next round begins."""

    round: int  # whose training will use the votes
    source: Path  # the newest model
    before: Path | None  # the one before it
    rewards: list[Path]
    recipe: Recipe
    prompts: Prompts
    open: Open


def write_batch(writers: Writers, judges: Sequence[Scorer], batch: int) -> list[NewQueued] | None:
    """Pairs to ask about, in the order to ask; fewer, even none, where answers are equal. None when no prompt is left.

    judges  the opened reward models
    batch   its number; the same one gives the same pairs
    """
    prompts, rivals = writers.prompts, BATCH // RIVALS if writers.before else 0
    compared = prompts.take(rivals)
    wide = prompts.take((BATCH - rivals) * (WIDER if judges else 1))
    if not compared and not wide:
        return None
    found = _compared(writers, compared, batch)
    found += _chosen(writers, judges, wide, count=BATCH - rivals, batch=batch)
    if batch % KNOWN == 0 and (known := _known([*compared, *wide], writers.round)):
        found.append(known)
    prompts.asked.extend(_text(new.pair.prompt) for new in found)
    order = np.random.default_rng(stream_seed(writers.recipe.seed, 15, writers.round, batch)).permutation(len(found))
    return [found[place] for place in order]


def _compared(writers: Writers, questions: Sequence[Question], batch: int) -> list[NewQueued]:
    """Of each prompt an answer by the newest model and one by the model before it; which comes first is drawn."""
    if writers.before is None or not questions:
        return []
    asked = [question.prompt for question in questions]
    both = [_replies(writers, folder, asked, 1, batch, key=16 + i) for i, folder in enumerate(_pair_of(writers))]
    stamps = [weights_fingerprint(folder) for folder in _pair_of(writers)]
    found = []
    for number, (prompt, *said) in enumerate(zip(asked, *both, strict=True)):
        order = (0, 1) if stream_seed(writers.recipe.seed, 13, writers.round, batch, number) & 1 else (1, 0)
        one, other = (said[place][0] for place in order)
        if one.text != other.text:
            models = [stamps[place] for place in order]
            pair = NewPair(prompt, one.text, other.text, writers.round, *models)
            found.append(NewQueued(pair, "comparison", ended=(one.ended, other.ended)))
    return found


def _pair_of(writers: Writers) -> tuple[Path, Path]:
    assert writers.before is not None
    return writers.source, writers.before


def _chosen(
    writers: Writers, judges: Sequence[Scorer], questions: Sequence[Question], *, count: int, batch: int
) -> list[NewQueued]:
    """Of several answers of the newest model to each prompt, the pairs that are worth a vote."""
    answers = ANSWERS if judges else 2
    prompts = [question.prompt for question in questions]
    replies = _replies(writers, writers.source, prompts, answers, batch, key=14)
    found, margins = candidates(_scores(judges, prompts, replies))
    differ = [
        i for i, one in enumerate(found) if replies[one.prompt][one.first].text != replies[one.prompt][one.second].text
    ]
    found, margins = [found[i] for i in differ], margins[differ]
    picks = choose_pairs(
        [_text(prompt) for prompt in prompts],
        found,
        margins,
        count=count,
        asked=writers.prompts.asked,
        seed=stream_seed(writers.recipe.seed, 12, writers.round, batch),
    )
    stamp, chosen = weights_fingerprint(writers.source), []
    for pick in picks:
        place, *two = found[pick.candidate]
        first, second = (replies[place][number] for number in two)
        pair = NewPair(prompts[place], first.text, second.text, writers.round, stamp, stamp)
        ended = (first.ended, second.ended)
        chosen.append(NewQueued(pair, pick.policy, pick.score, None, pick.probability, ended))
    taken, able = {found[pick.candidate].prompt for pick in picks}, {one.prompt for one in found}
    writers.prompts.put_back([questions[place] for place in sorted(able - taken)])
    return chosen


def _replies(
    writers: Writers, folder: Path, prompts: Sequence[Prompt], count: int, batch: int, *, key: int
) -> list[list[Reply]]:
    """So many answers to each prompt."""
    recipe = writers.recipe
    sampling = Sampling(temperature=recipe.votes.temperature, max_new_tokens=recipe.align.max_new_tokens)
    asked = [prompt for prompt in prompts for _ in range(count)]
    seeds = [stream_seed(recipe.seed, key, writers.round, batch, number) for number in range(len(asked))]
    replies = reply_to(*writers.open(folder), asked, sampling, seeds=seeds) if asked else []
    return [replies[start : start + count] for start in range(0, len(replies), count)]


def _scores(judges: Sequence[Scorer], prompts: Sequence[Prompt], replies: Sequence[Sequence[Reply]]) -> Floats:
    """(P, K, M) what each judge thinks of each answer."""
    shape = (len(prompts), len(replies[0]) if replies else 2)
    asked = [prompt for prompt, said in zip(prompts, replies, strict=True) for _ in said]
    texts = [reply.text for said in replies for reply in said]
    with torch.no_grad():
        scores = [np.asarray(judge.rewards(asked, texts), np.float64).reshape(shape) for judge in judges]
    return np.stack(scores, -1) if scores else np.zeros((*shape, 0))


def _known(questions: Sequence[Question], round: int) -> NewQueued | None:
    """A right answer, the first, beside one that is right for another question: whoever takes that one did not read."""
    able = [question for question in questions if question.expected]
    for asked, other in itertools.permutations(able, 2):
        if not {*asked.expected} & {*other.expected}:
            pair = NewPair(asked.prompt, asked.expected[0], other.expected[0], round)
            return NewQueued(pair, "known", known="first")
    return None


def open_judges(folders: Sequence[Path], device: torch.device) -> list[Scorer]:
    """The reward models, ready to score."""
    compute = Compute(device, torch.float32, False)
    return [
        Scorer(load_reward(folder, device=device).requires_grad_(False), Tokenizer.load(folder), compute)
        for folder in folders
    ]


def _text(prompt: Prompt) -> str:
    return "\n".join(message.content for message in prompt)
