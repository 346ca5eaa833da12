"""For all tests: one thread and the same examples each time, so that results depend neither on machine nor on luck."""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # threads of several processes must not spin on the same core

from collections.abc import Callable

import hypothesis
import pytest
import torch

from trivium.model.shape import ModelConfig
from trivium.model.transformer import Transformer
from trivium.text.tokenizer import Tokenizer, train

torch.set_num_threads(1)
hypothesis.settings.register_profile("fuzz", deadline=None, max_examples=1000)  # make fuzz: new examples, more of them
hypothesis.settings.register_profile("same", deadline=None, derandomize=True)
hypothesis.settings.load_profile("same")

SMALL = {
    "vocab_size": 61,
    "num_layers": 2,
    "width": 24,
    "num_heads": 4,
    "num_kv_heads": 2,
    "head_dim": 8,
    "mlp_width": 40,
    "context_length": 48,
}


@pytest.fixture
def small_model() -> Callable[..., Transformer]:
    """Makes a small decoder with no zero, no one and no symmetry in it: `initialise` starts every layer as identity."""

    def make(*, seed: int = 0, **shape: object) -> Transformer:
        model = Transformer(ModelConfig.model_validate({**SMALL, **shape}))
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                about = 1.0 if name.endswith("norm.weight") else 0.0
                parameter.copy_(about + 0.3 * torch.randn(parameter.shape, generator=generator))
        return model

    return make


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    """A vocabulary of 293 tokens, all that a little text gives."""
    return train(
        [f"The cat number {i} sat on the warm mat. Was it {i + 1}?\nIt was!" for i in range(50)], vocab_size=293
    )
