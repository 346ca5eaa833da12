"""A reward model as a judge of answers, without what length alone adds to its scores where that is asked for."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from trivium.compute import Compute
from trivium.feedback.store import LabelledPair
from trivium.model.heads import RewardModel
from trivium.phases.align.reward import Read, read_answer, read_pair, score
from trivium.records import Message
from trivium.text.tokenizer import Tokenizer


class Scorer(NamedTuple):
    model: RewardModel
    tokenizer: Tokenizer
    compute: Compute
    length_slope: float = 0.0  # reward per token of the answer that is taken off

    def rewards(self, prompts: Sequence[Sequence[Message]], answers: Sequence[str]) -> Tensor:
        """(A,) reward of each answer, read as voters read it: as text, with its end. Equal prompts side by side."""
        length = self.model.config.context_length
        asked = zip(prompts, answers, strict=True)
        return self._scored([read_answer(prompt, answer, self.tokenizer, length) for prompt, answer in asked])

    def of_pairs(self, pairs: Sequence[LabelledPair]) -> tuple[Tensor, Tensor]:
        """First answer minus second, (pairs,) each: the difference in reward, and in length in tokens."""
        length = self.model.config.context_length
        read = [one for pair in pairs for one in read_pair(pair, self.tokenizer, length)]
        rewards, lengths = self._scored(read).view(-1, 2), _lengths(read).view(-1, 2)
        return rewards[:, 0] - rewards[:, 1], lengths[:, 0] - lengths[:, 1]

    def _scored(self, read: Sequence[Read]) -> Tensor:
        rewards = score(self.model, read, self.tokenizer.pad, self.compute)
        return rewards - self.length_slope * _lengths(read) if self.length_slope else rewards


def _lengths(read: Sequence[Read]) -> Tensor:
    return torch.tensor([float(len(one.answer)) for one in read])
