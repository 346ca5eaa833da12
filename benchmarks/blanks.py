"""What cutting blanks into a share of the documents costs in next-word loss, and what filling blanks it buys.

    python benchmarks/blanks.py [FOLDER] [--json] [--quick]

A small model learns TinyWorld, and the texts in FOLDER if one is named, from as many rows each time; nothing but the
share and the seed differs. Held-out bits per byte are those of whole documents; the blanks are held-out words. Cost is
the mean over seeds of the difference to no blanks at the same seed, with its least and most.
"""

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from trivium.compute import Compute, prepare
from trivium.config import Recipe, resolve
from trivium.distributed.world import alone
from trivium.evaluate.bits import document_batches, surprise
from trivium.evaluate.blanks import blank_accuracy
from trivium.model.transformer import Transformer, initialise
from trivium.phases import pretrain
from trivium.text import shards
from trivium.text.blanks import held_out_blanks
from trivium.text.corpus import load_documents
from trivium.text.tokenizer import train as train_tokenizer
from trivium.train.loop import train

SHARES = (0.0, 0.15, 0.5, 0.9)
SHAPE = {"num_layers": 2, "width": 96, "num_heads": 3, "num_kv_heads": 3, "mlp_width": 288, "vocab_size": 1024}
CHARACTERS = 3_000_000  # of the texts, at most


class Found(NamedTuple):
    bits_per_byte: list[float]  # by seed
    accuracy: list[float]


def recipe_of(text: str, share: float, seed: int, steps: int) -> Recipe:
    phase = {"steps": steps, "rows_per_step": 16, "microbatch_rows": 16, "blanks": share, "echo_steps": 0}
    data = {"text": [text], "stories": 12_000}
    return resolve({"seed": seed, "data": data, "model": {**SHAPE, "context_length": 128}, "pretrain": phase})


def compare(text: str, *, steps: int, seeds: int, shares: tuple[float, ...]) -> dict[str, Found]:
    """One text; by the share of its documents that are cut."""
    found = {f"{share:g}": Found([], []) for share in shares}
    with tempfile.TemporaryDirectory() as folder:
        compute = prepare(resolve({}).compute, torch.device("cpu"), Path(folder) / "cache")
        documents = load_documents(recipe_of(text, 0, 0, steps).data, 0, lambda line: None)
        texts, room = list[str](), CHARACTERS
        for document in documents.train:
            if room > 0:
                texts.append(document.text)
                room -= len(document.text)
        tokenizer = train_tokenizer(texts, vocab_size=int(SHAPE["vocab_size"]))
        shard = shards.write(texts, tokenizer, Path(folder), key="benchmark")
        held_out = [document.text for document in documents.held_out[:300]]
        whole = [np.append(ids, np.int32(tokenizer.end_of_text)) for ids in tokenizer.encode_many(held_out)]
        blanks = held_out_blanks(held_out, 0, 200)
        exact = Compute(compute.device, torch.float32, False)
        objective = pretrain.next_token_objective(compute)
        for seed in range(seeds):
            for share in shares:
                recipe = recipe_of(text, share, seed, steps)
                recipe = recipe.model_copy(
                    update={"model": recipe.model.model_copy(update={"vocab_size": tokenizer.vocab_size})}
                )
                model = initialise(Transformer(recipe.model), seed)
                phase = pretrain.build(recipe, model, tokenizer, shard, whole, objective, compute, alone())
                for _ in train(phase, alone(), steps=range(steps)):
                    pass
                batches = document_batches(whole, tokenizer, row_length=recipe.model.context_length)
                here = found[f"{share:g}"]
                here.bits_per_byte.append(surprise(model, batches, tokenizer, exact).bits_per_byte)
                here.accuracy.append(blank_accuracy(model, tokenizer, blanks))
                print(f"{text}: seed {seed}, share {share:g}: {here.bits_per_byte[-1]:.4f}", file=sys.stderr)
    return found


def summary(found: dict[str, Found]) -> dict[str, Any]:
    """Means over seeds; cost in percent of the bits per byte without blanks."""
    base = found["0"].bits_per_byte
    told: dict[str, Any] = {}
    for share, here in found.items():
        costs = [100 * (mine / none - 1) for mine, none in zip(here.bits_per_byte, base, strict=True)]
        told[share] = {
            "bits_per_byte": statistics.mean(here.bits_per_byte),
            "cost_percent": statistics.mean(costs),
            "cost_percent_least": min(costs),
            "cost_percent_most": max(costs),
            "blank_accuracy": statistics.mean(here.accuracy),
        }
    return told


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", help="a file or folder of text to learn beside TinyWorld")
    parser.add_argument("--quick", action="store_true", help="one seed, three shares, fewer steps")
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args()
    steps, seeds, shares = (100, 1, (0.0, 0.15, 0.9)) if chosen.quick else (200, 3, SHARES)
    result = {}
    for text in ["tinyworld", *([chosen.folder] if chosen.folder else [])]:
        name = Path(text).name
        result[name] = summary(compare(text, steps=steps, seeds=seeds, shares=shares))
        if not chosen.json:
            print(f"{name}\n  share  bits/byte   cost (least to most)       blanks filled")
            for share, told in result[name].items():
                span = f"{told['cost_percent_least']:+.1f} to {told['cost_percent_most']:+.1f}"
                cost = f"{told['cost_percent']:+.1f} % ({span})"
                print(f"  {share:>5}  {told['bits_per_byte']:9.4f}   {cost:25}  {told['blank_accuracy']:.1%}")
    if chosen.json:
        print(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
