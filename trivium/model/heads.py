"""A scalar on top of the decoder: the reward model. Written down as Hugging Face's ForSequenceClassification.

A answers, B rows, T time, D width.
"""

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
        mask = self.trunk.branch_mask(answers.trees, answers.branches)
        hidden = self.trunk.hidden(answers.tokens, answers.positions, mask)  # (B, T, D)
        last = hidden.flatten(0, 1)[answers.ends]  # (A, D)
        return (last.float() * self.score.weight[0]).sum(-1)  # in float32, whatever the trunk computes in


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
