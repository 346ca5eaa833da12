"""A run whose models were never trained: they speak, and each speaks differently."""

from collections.abc import Sequence
from pathlib import Path

import torch

from trivium.config import resolve, to_toml
from trivium.model.transformer import Transformer
from trivium.publish import write_text
from trivium.runs import open_run
from trivium.shelf import Origin, publish_model
from trivium.text.tokenizer import train as train_tokenizer
from trivium.worlds import tinyworld

SHAPE = {"num_layers": 1, "width": 16, "num_heads": 2, "num_kv_heads": 2, "mlp_width": 32}


def make_run(path: Path, *, context_length: int = 160) -> Path:
    """A run with base, instruct and one round; greedy, they never end an answer by themselves."""
    tokenizer = train_tokenizer((tinyworld.story(0, i, held_out=False) for i in range(100)), vocab_size=320)
    shape = {**SHAPE, "vocab_size": 320, "context_length": context_length}
    recipe = resolve({"model": shape, "compute": {"device": "cpu"}})
    with open_run(path, create=True) as run:
        write_text(run.recipe, to_toml(recipe))
        for seed, folder in enumerate((run.base, run.instruct, run.round(1).aligned)):
            model = made_up(Transformer(recipe.model), seed, never=tokenizer.special)
            publish_model(folder, model, tokenizer, recipe, Origin("instruct", None, {}, None, {}), beside={})
    return path


@torch.no_grad()
def made_up(model: Transformer, seed: int, *, never: Sequence[int]) -> Transformer:
    """Every layer does something: what is said depends on all that was said before.

    never  tokens that are not the most probable, so that greedy answers do not end
    """
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        parameter.copy_(float("norm" in name) + 0.4 * torch.randn(parameter.shape, generator=generator))
    for weight in (model.embed_tokens.weight, model.lm_head.weight):
        weight[list(never)] = 0
    return model
