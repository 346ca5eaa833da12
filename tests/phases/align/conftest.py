"""Who writes and who scores, for all tests of phase III."""

import pytest

from tests.phases.align.scene import COMPUTE, LastWord, MakeModel
from trivium.phases.align.rollout import Writers
from trivium.phases.align.scorer import Scorer
from trivium.text.tokenizer import Tokenizer


@pytest.fixture
def writers(tokenizer: Tokenizer, small_model: MakeModel) -> Writers:
    seeds = (5, 1, 2)  # of the first one's answers some end
    live, reference, trunk = (small_model(seed=seed, vocab_size=tokenizer.vocab_size) for seed in seeds)
    return Writers(live, reference, Scorer(LastWord(trunk), tokenizer, COMPUTE), tokenizer)
