"""What the tests of phase III share: three questions, a reward that can be worked by hand, and a recipe."""

from collections.abc import Callable
from typing import Any

import torch

from trivium.batch import Answered, RolloutBatch
from trivium.compute import Compute
from trivium.config import Recipe, resolve
from trivium.distributed.world import alone
from trivium.model.heads import RewardModel
from trivium.model.transformer import Transformer
from trivium.phases.align import algorithms
from trivium.phases.align.questions import listed_questions
from trivium.phases.align.rollout import Rollout, Writers, roll_out
from trivium.phases.align.task import Task
from trivium.records import Message
from trivium.train.phase import Phase

MakeModel = Callable[..., Transformer]
COMPUTE = Compute(torch.device("cpu"), torch.float32, False)
ASK = listed_questions([(Message("user", f"Say {i}"),) for i in range(3)])


def recipe(**settings: Any) -> Recipe:
    told = {"steps": 3, "rows_per_step": 12, "microbatch_rows": 4, "group": 4, "max_new_tokens": 6, "temperature": 1.5}
    return resolve({"model": {"context_length": 48}, "align": {**told, **settings}})


class LastWord(RewardModel):
    """Scores an answer by its last token but one: known, and different from answer to answer."""

    def forward(self, answers: Answered) -> torch.Tensor:
        end = answers.owners.bincount().cumsum(0) - 1  # where each answer's end token stands among the targets
        return answers.tokens.flatten()[answers.sources[end]].float() / 100


def task(writers: Writers, compute: Compute = COMPUTE, **settings: Any) -> Task:
    return Task(recipe(**settings), writers, ASK, [], compute, round=1)


def built(writers: Writers, compute: Compute = COMPUTE, **settings: Any) -> Phase[Any]:
    return algorithms.build(task(writers, compute, **settings))


def rolled(writers: Writers, number: int = 0, seed: int = 5, **settings: Any) -> Rollout:
    return roll_out(writers, ASK, recipe(**settings).align, COMPUTE, alone(), seed=seed, number=number)


def joined(batches: list[RolloutBatch], field: str) -> torch.Tensor:
    """A field of all micro-batches."""
    return torch.cat([getattr(batch, field) for batch in batches])


def each(batches: list[RolloutBatch], field: str) -> torch.Tensor:
    """(A,) what the tokens of each answer have in common."""
    found = []
    for batch in batches:
        ends = batch.answers.owners.bincount().cumsum(0) - 1
        found.append(getattr(batch, field)[ends])
    return torch.cat(found)
