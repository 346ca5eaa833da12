"""A scalar on top of the decoder: the reward model, and the value model that begins as one.

Written down as Hugging Face's ForSequenceClassification. A answers of N tokens, B rows, T time, D width.
"""

import copy

import torch
from torch import Tensor, nn

from trivium.batch import Answered
from trivium.model.transformer import Transformer


class RewardModel(nn.Module):
    """Reads prompt and answer, and scores the answer at its end token."""

    def __init__(self, trunk: Transformer) -> None:
        super().__init__()
        self.trunk = trunk
        self.config = trunk.config
        self.score = nn.Linear(trunk.config.width, 1, bias=False)

    def forward(self, answers: Answered) -> Tensor:
        """One reward per answer, read at its last token.

        returns  (A,) float32, in the units of log-odds between two answers
        """
        return self.scores(answers, answers.ends)

    def scores(self, answers: Answered, places: Tensor) -> Tensor:
        """The scalar at some places of the flattened rows, in float32, whatever the trunk computes in."""
        mask = self.trunk.branch_mask(answers.trees, answers.branches)
        hidden = self.trunk.hidden_at(places, answers.tokens, answers.positions, mask)  # (N, D)
        return (hidden.float() * self.score.weight[0]).sum(-1)


class ValueModel(RewardModel):
    """Says before each token of an answer what it expects the whole to earn."""

    def forward(self, answers: Answered) -> Tensor:
        """returns  (N,) float32, in the unit of rewards"""
        return self.scores(answers, answers.sources)


class ActorCritic(nn.Module):
    """A policy, and the value model that is trained beside it."""

    def __init__(self, policy: Transformer, value: ValueModel) -> None:
        super().__init__()
        self.policy, self.value = policy, value


@torch.no_grad()
def add_reward_head(trunk: Transformer, seed: int) -> RewardModel:
    """A reward model over a trained decoder; the head starts with spread 1 / sqrt(D + 1).

    Stiennon et al. 2020, arXiv:2009.01325; Huang et al. 2024, arXiv:2403.17031
    """
    model = RewardModel(trunk)
    generator = torch.Generator().manual_seed(seed)
    width = trunk.config.width
    model.score.weight.copy_(torch.randn(1, width, generator=generator) * (width + 1) ** -0.5)
    return model


def value_from(reward: RewardModel) -> ValueModel:
    """A value model with the weights of a reward model, which stays as it is.

    Huang et al. 2024, arXiv:2403.17031: so values start out near the rewards that they are to foresee
    """
    model = ValueModel(copy.deepcopy(reward.trunk))
    model.score = copy.deepcopy(reward.score)
    return model.requires_grad_(True)
