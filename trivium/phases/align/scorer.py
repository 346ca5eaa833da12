"""Reward models as a judge of answers: one or several, without what length alone adds where that is asked for."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from trivium.compute import Compute
from trivium.config import RewardConfig
from trivium.feedback.store import LabelledPair
from trivium.model.heads import RewardModel
from trivium.phases.align.reward import Read, read_answer, read_pair, score
from trivium.records import Message
from trivium.text.tokenizer import Tokenizer


class Ensemble(NamedTuple):
    """How several members' scores become one."""

    others: Sequence[RewardModel] = ()  # beside the first
    levels: Sequence[float] = ()  # what each member gives on average: votes fix only differences
    combine: str = "mean"
    caution: float = 1.0

    def combined(self, scores: Tensor) -> Tensor:
        """One reward for each answer. Coste et al. 2023, section 3, arXiv:2310.02743

        scores   (M, A), of each member
        returns  (A,)
        """
        if self.levels:
            scores = scores - torch.tensor(self.levels)[:, None]
        if self.combine == "worst":
            return scores.amin(0)
        mean = scores.mean(0)
        return mean - self.caution * scores.var(0, correction=0) if self.combine == "uncertain" else mean


ALONE = Ensemble()


class Scorer(NamedTuple):
    model: RewardModel
    tokenizer: Tokenizer
    compute: Compute
    length_slope: float = 0.0  # reward per token of the answer that is taken off
    ensemble: Ensemble = ALONE

    @property
    def members(self) -> list[RewardModel]:
        return [self.model, *self.ensemble.others]

    def rewards(self, prompts: Sequence[Sequence[Message]], answers: Sequence[str]) -> Tensor:
        """(A,) reward of each answer, read as voters read it: as text, with its end. Equal prompts side by side."""
        return self._scored(self._read(prompts, answers))

    def of_members(self, prompts: Sequence[Sequence[Message]], answers: Sequence[str]) -> Tensor:
        """(M, A) reward of each answer by each member: where they differ, a vote tells most (feedback/pairs.py)."""
        return self._each(self._read(prompts, answers))

    def of_pairs(self, pairs: Sequence[LabelledPair]) -> tuple[Tensor, Tensor]:
        """First answer minus second, (pairs,) each: the difference in reward, and in length in tokens."""
        read = self._read_pairs(pairs)
        rewards, lengths = self._scored(read).view(-1, 2), _lengths(read).view(-1, 2)
        return rewards[:, 0] - rewards[:, 1], lengths[:, 0] - lengths[:, 1]

    def of_pairs_by_member(self, pairs: Sequence[LabelledPair]) -> Tensor:
        """(M, pairs) first answer minus second, by each member."""
        rewards = self._each(self._read_pairs(pairs)).view(len(self.members), -1, 2)
        return rewards[..., 0] - rewards[..., 1]

    def levelled(self, pairs: Sequence[LabelledPair]) -> "Scorer":
        """The same, with what each member gives these answers on average taken off its scores; without any, nothing."""
        if not self.ensemble.others:
            return self
        levels = self._each(self._read_pairs(pairs)).mean(1).tolist() if pairs else [0.0] * len(self.members)
        return self._replace(ensemble=self.ensemble._replace(levels=levels))

    def _read(self, prompts: Sequence[Sequence[Message]], answers: Sequence[str]) -> list[Read]:
        length, asked = self.model.config.context_length, zip(prompts, answers, strict=True)
        return [read_answer(prompt, answer, self.tokenizer, length) for prompt, answer in asked]

    def _read_pairs(self, pairs: Sequence[LabelledPair]) -> list[Read]:
        length = self.model.config.context_length
        return [one for pair in pairs for one in read_pair(pair, self.tokenizer, length)]

    def _each(self, read: Sequence[Read]) -> Tensor:
        return torch.stack([score(member, read, self.tokenizer.pad, self.compute) for member in self.members])

    def _scored(self, read: Sequence[Read]) -> Tensor:
        rewards = self.ensemble.combined(self._each(read))
        return rewards - self.length_slope * _lengths(read) if self.length_slope else rewards


def as_ensemble(members: Sequence[RewardModel], settings: RewardConfig, levels: Sequence[float] = ()) -> Ensemble:
    """What stands beside the first member; of a single one there is nothing to combine."""
    return Ensemble(members[1:], levels, settings.combine, settings.caution) if len(members) > 1 else ALONE


def _lengths(read: Sequence[Read]) -> Tensor:
    return torch.tensor([float(len(one.answer)) for one in read])
