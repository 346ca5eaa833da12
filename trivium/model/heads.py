"""A scalar on top of the decoder: the reward model. Written down as Hugging Face's ForSequenceClassification.

B rows, T time, D width.
"""

import torch
from torch import Tensor, nn

from trivium.model.attention import document_mask
from trivium.model.transformer import Transformer


class RewardModel(nn.Module):
    """Reads prompt and answer, and scores the answer at its end token."""

    def __init__(self, trunk: Transformer) -> None:
        super().__init__()
        self.trunk = trunk
        self.config = trunk.config
        self.score = nn.Linear(trunk.config.width, 1, bias=False)

    def forward(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        """One reward per row, read at the last real token.

        tokens   (B, T) int64, padded on the right
        lengths  (B,) int64; real tokens in each row
        returns  (B,) float32, in the units of log-odds between two answers
        """
        positions = torch.arange(tokens.shape[1], device=tokens.device).expand_as(tokens)
        mask = document_mask(torch.zeros_like(tokens))  # padding stands after everything that is read
        hidden = self.trunk.hidden(tokens, positions, mask)  # (B, T, D)
        last = hidden[torch.arange(len(tokens), device=tokens.device), lengths - 1]
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
