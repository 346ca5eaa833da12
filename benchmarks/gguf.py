"""Does llama.cpp do with an exported file what we do with the model? Token ids, logits and greedy tokens.

    python benchmarks/gguf.py [MODEL ...] [--json] [--quick]

Needs llama-cpp-python. Without a model it makes three of random weights, one of each architecture, over a vocabulary
learned from TinyWorld. Logits: their greatest difference, as a share of their spread. Keys and values are kept in
float32; with q8_0, llama.cpp rounds the other factor to 8 bits too.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from llama_cpp import Llama

HERE = Path(__file__).parent  # started by its path, it must not be taken for the library of its name
sys.path[:] = [str(HERE.parent), *(path for path in sys.path if Path(path).resolve() != HERE)]

from trivium.config import resolve
from trivium.generate.engine import Request, generate
from trivium.generate.sampling import Sampling
from trivium.model.shape import ModelConfig
from trivium.model.transformer import Transformer, initialise
from trivium.shelf import Opened, Origin, open_model, publish_model
from trivium.story.carrying import export, probe_ids
from trivium.text.llama_cpp import PROBES
from trivium.text.tokenizer import train as train_tokenizer
from trivium.worlds.tinyworld import stories as tinyworld

SHAPE = {"num_layers": 3, "width": 128, "num_heads": 4, "num_kv_heads": 2, "mlp_width": 256, "context_length": 256}
SORTS: dict[str, dict[str, Any]] = {
    "qwen3": {"tie_embeddings": True},
    "qwen2": {"tie_embeddings": False, "rope_scaling": [2.0]},
    "llama": {"tie_embeddings": False, "rope_scaling": [8.0, 1.0, 4.0, 64.0], "rope_theta": 500.0},
}
NUMBERS = ("f32", "f16", "q8_0")
GREEDY = 48  # tokens


def random_models(folder: Path) -> Iterator[Path]:
    """One of each architecture, with nothing at zero in it."""
    stories = [tinyworld.story(0, index) for index in range(300)]
    tokenizer = train_tokenizer(stories, vocab_size=1024)
    for architecture, sort in SORTS.items():
        shape = {**SHAPE, **sort, "architecture": architecture, "vocab_size": tokenizer.vocab_size}
        model = initialise(Transformer(ModelConfig.model_validate(shape)), 0)
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
        recipe = resolve({"model": shape})
        publish_model(folder / architecture, model, tokenizer, recipe, Origin("random", None, {}, None, {}), beside={})
        yield folder / architecture


def compare(folder: Path, numbers: Any, path: Path) -> dict[str, Any]:
    """What llama.cpp says of the exported file beside what we say of the model."""
    export(folder, to="gguf", numbers=numbers, out=path)
    ours = open_model(folder)
    context = ours.model.config.context_length
    theirs = Llama(str(path), n_ctx=context, logits_all=True, verbose=False, type_k=0, type_v=0, n_threads=2)
    same_ids = sum(
        theirs.tokenize(text.encode(), add_bos=False, special=False) == ours.tokenizer.encode(text) for text in PROBES
    )
    differences, spreads = [], []
    for prompt in probe_ids(ours.tokenizer, context):
        expected, found = our_logits(ours, prompt), their_logits(theirs, prompt)
        differences.append(float((expected - found).abs().max()))
        spreads.append(float(expected.std()))
    prompt = probe_ids(ours.tokenizer, context)[0][: context // 4]
    written = generate(ours.model, [Request(prompt, 0)], Sampling(temperature=0, max_new_tokens=GREEDY), stop=[])[0]
    likely = their_logits(theirs, [*prompt, *written.tokens])[len(prompt) - 1 : -1].argmax(-1).tolist()
    return {
        "model": folder.name,
        "type": numbers,
        "same_ids": same_ids,
        "texts": len(PROBES),
        "difference": max(differences) / max(spreads),
        "same_tokens": sum(a == b for a, b in zip(likely, written.tokens, strict=True)),
        "tokens": len(written.tokens),
    }


@torch.no_grad()
def our_logits(ours: Opened, prompt: list[int]) -> torch.Tensor:
    tokens = torch.tensor([prompt])
    found: torch.Tensor = ours.model(tokens, torch.arange(len(prompt))[None], torch.zeros_like(tokens))[0]
    return found


def their_logits(theirs: Llama, prompt: list[int]) -> torch.Tensor:
    theirs.reset()
    theirs.eval(prompt)
    return torch.from_numpy(theirs.scores[: len(prompt)].copy())


def line(found: dict[str, Any]) -> str:
    ids, tokens = (f"{found[f'same_{what}']} of {found[of]}" for what, of in (("ids", "texts"), ("tokens", "tokens")))
    return f"{found['model']:<12}{found['type']:<6}{ids:>20}{found['difference']:>20.2g}{tokens:>22}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*", type=Path, help="model folders; without any, random ones are made")
    parser.add_argument("--quick", action="store_true", help=f"{NUMBERS[0]} alone")
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args()
    every = []
    if not chosen.json:
        print(f"{'model':<12}{'type':<6}{'texts of equal ids':>20}{'logits, of spread':>20}{'equal greedy tokens':>22}")
    with tempfile.TemporaryDirectory() as place:
        for folder in chosen.models or random_models(Path(place)):
            for numbers in NUMBERS[: 1 if chosen.quick else None]:
                found = compare(folder, numbers, Path(place) / f"{folder.name}.{numbers}.gguf")
                every.append(found)
                if not chosen.json:
                    print(line(found), flush=True)
    if chosen.json:
        print(json.dumps({"files": every}))
    return 0 if all(found["same_ids"] == found["texts"] for found in every) else 1


if __name__ == "__main__":
    sys.exit(main())
