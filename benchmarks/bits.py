"""Held-out bits per byte of a run's base model beside an interpolated 5-gram Kneser-Ney model of the same tokens.

    python benchmarks/bits.py runs/demo [--json] [--quick]

Both learn from the tokens that the run trained on (each document once), and both predict every token but the first of
the same held-out documents, in the run's own vocabulary.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))  # started by its path, it finds its siblings

from benchmarks.kneser_ney import KneserNey
from trivium.compute import Compute
from trivium.config import read_settings, resolve
from trivium.errors import TriviumError
from trivium.evaluate.bits import document_batches, surprise
from trivium.losses.language_model import bits_per_byte
from trivium.runs import read_run
from trivium.shelf import open_model
from trivium.text.corpus import load_documents
from trivium.text.split import evenly


def compare(folder: Path, *, quick: bool) -> dict[str, float]:
    """Bits per byte of both, on the same bytes."""
    run = read_run(folder)
    recipe = resolve(read_settings(run.recipe))
    model, tokenizer = open_model(run.base)
    documents = load_documents(recipe.data, recipe.seed, lambda line: None)
    limit = len(documents.train) // 10 if quick else len(documents.train)
    end = np.int32(tokenizer.end_of_text)
    train = [np.append(ids, end) for ids in tokenizer.encode_many([d.text for d in documents.train[:limit]])]
    whole = tokenizer.encode_many([d.text for d in evenly(documents.held_out, recipe.evaluate.documents)])
    held_out = [np.append(ids, end)[: recipe.model.context_length] for ids in whole]  # one row each: equal context
    compute = Compute(torch.device("cpu"), torch.float32, False)
    ours = surprise(
        model, document_batches(held_out, tokenizer, row_length=recipe.model.context_length), tokenizer, compute
    )
    baseline = KneserNey(order=5, vocab_size=tokenizer.vocab_size)
    baseline.fit(train)
    nats = -baseline.logprob(held_out, given=1).logprob
    return {
        "model": ours.bits_per_byte,
        "kneser_ney": bits_per_byte(nats, ours.bytes),
        "train_tokens": float(sum(map(len, train))),
        "held_out_bytes": float(ours.bytes),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--quick", action="store_true", help="a tenth of the training documents")
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args()
    try:
        found = compare(chosen.run, quick=chosen.quick)
    except TriviumError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 2
    if chosen.json:
        print(json.dumps(found))
    else:
        print(f"tokens learned from   {found['train_tokens']:>12,.0f}")
        print(f"base model            {found['model']:>12.4f} bits/byte")
        print(f"5-gram Kneser-Ney     {found['kneser_ney']:>12.4f} bits/byte")
    return 0


if __name__ == "__main__":
    sys.exit(main())
