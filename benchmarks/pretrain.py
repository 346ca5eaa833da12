"""Tokens per second of pretraining: ours beside transformers' plain loop and its Trainer, the same shapes and text.

    python benchmarks/pretrain.py [--json] [--quick]

A step is 4,096 tokens in rows of 256, data and optimizer included; ours is the whole phase I, with isolated documents,
blanks and Muon. Peers run Qwen3 in the same shape with AdamW (fused). Every way of both is tried for a few steps, and
the fastest of each are repeated, interleaved, in one process whose freed memory is kept, which helps peers too; default
is what the peer does on a CPU unless told otherwise: Trainer in float32. The ceiling is the time of the step's own
matrix products in bfloat16 where the processor has them, and nothing else. Run it on a quiet machine.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("GOMP_SPINCOUNT", "2000")  # as the command line does, before torch

import numpy as np
import torch
from transformers import PrinterCallback, Qwen3Config, Qwen3ForCausalLM, Trainer, TrainingArguments
from transformers.utils import logging

sys.path.insert(0, str(Path(__file__).parents[1]))  # started by its path, it finds its siblings

from benchmarks.shapes import SHAPES, spread
from trivium.compute import Compute, prepare
from trivium.config import resolve
from trivium.distributed.world import alone
from trivium.model.shape import ModelConfig
from trivium.model.transformer import Transformer, initialise
from trivium.phases import pretrain
from trivium.text import shards
from trivium.text.tokenizer import Tokenizer
from trivium.text.tokenizer import train as train_tokenizer
from trivium.train.loop import train
from trivium.worlds.tinyworld import stories as tinyworld

ROW, ROWS = 256, 16
BLOCK = 8  # steps timed at once
Steps = Callable[[int], None]  # take so many optimizer steps


class Way(NamedTuple):
    name: str
    rows: int  # in one pass; a step is always ROWS rows
    steps: Steps


class Found(NamedTuple):
    ours: list[float]  # tokens per second, of each repeat
    best: list[float]
    default: list[float]
    peer: str  # the fastest way of the peers
    ceiling: float  # tokens per second, if a step were its matrix products


def texts(characters: int) -> list[str]:
    found, index = list[str](), 0
    while characters > 0:
        found.append(tinyworld.story(0, index))
        characters, index = characters - len(found[-1]), index + 1
    return found


def our_steps(shape: dict[str, Any], tokenizer: Tokenizer, shard: shards.Shard, compute: Compute, rows: int) -> Steps:
    """Phase I as it is, so many rows at once, which the dial tries too."""
    model_shape = {**shape, "vocab_size": tokenizer.vocab_size, "context_length": ROW}
    recipe = resolve({"model": model_shape, "pretrain": {"rows_per_step": ROWS, "microbatch_rows": rows}})
    model = initialise(Transformer(recipe.model), 0)
    objective = pretrain.next_token_objective(compute)
    settings = recipe.model_copy(update={"pretrain": recipe.pretrain.model_copy(update={"echo_steps": 0})})
    phase = pretrain.build(settings, model, tokenizer, shard, [], objective, compute, alone())
    place = 0

    def steps(number: int) -> None:
        nonlocal place
        for _ in train(phase, alone(), steps=range(place, place + number)):
            pass
        place += number

    return steps


def our_ways(shape: dict[str, Any], tokenizer: Tokenizer, shard: shards.Shard, compute: Compute) -> Iterator[Way]:
    for rows in (8, ROWS):
        yield Way(f"{rows} rows at once", rows, our_steps(shape, tokenizer, shard, compute, rows))


def qwen(shape: dict[str, Any], vocab_size: int) -> Qwen3ForCausalLM:
    config = Qwen3Config(
        vocab_size=vocab_size,
        hidden_size=shape["width"],
        intermediate_size=shape["mlp_width"],
        num_hidden_layers=shape["num_layers"],
        num_attention_heads=shape["num_heads"],
        num_key_value_heads=shape["num_kv_heads"],
        head_dim=shape["width"] // shape["num_heads"],
        max_position_embeddings=ROW,
        tie_word_embeddings=True,
        use_cache=False,
    )
    return Qwen3ForCausalLM(config)


def plain_loop(shape: dict[str, Any], ids: torch.Tensor, rows: int, dtype: torch.dtype, *, compiled: bool) -> Steps:
    """The loop that everybody writes: forward with labels, backward, clip, step."""
    model = qwen(shape, int(ids.max()) + 1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
    forward = torch.compile(model, dynamic=False) if compiled else model
    place = 0

    def steps(number: int) -> None:
        nonlocal place
        for _ in range(number):
            for _ in range(ROWS // rows):
                batch = ids[torch.arange(place, place + rows) % len(ids)]
                place += rows
                with torch.autocast("cpu", dtype=dtype, enabled=dtype != torch.float32):
                    loss = forward(input_ids=batch, labels=batch).loss
                (loss * rows / ROWS).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

    return steps


def trainer(shape: dict[str, Any], ids: torch.Tensor, *, bf16: bool) -> Steps:
    """transformers' Trainer: each call trains anew for so many steps."""
    model = qwen(shape, int(ids.max()) + 1)
    rows = [{"input_ids": row, "labels": row} for row in ids]

    def steps(number: int) -> None:
        with tempfile.TemporaryDirectory() as folder:
            arguments = TrainingArguments(
                output_dir=folder,
                max_steps=number,
                per_device_train_batch_size=ROWS,
                use_cpu=True,
                bf16=bf16,
                report_to=[],
                save_strategy="no",
                logging_strategy="no",
                disable_tqdm=True,
            )
            asked = Trainer(model=model, args=arguments, train_dataset=rows)
            asked.remove_callback(PrinterCallback)  # it would tell its progress on stdout, where the results belong
            asked.train()

    return steps


def peers(shape: dict[str, Any], ids: torch.Tensor, *, quick: bool) -> Iterator[Way]:
    for dtype in (torch.bfloat16,) if quick else (torch.bfloat16, torch.float32):
        name = str(dtype).removeprefix("torch.")
        for compiled in (True,) if quick else (True, False):
            for rows in (ROWS,) if quick else (4, ROWS):
                way = f"plain loop, {'compiled' if compiled else 'eager'}, {name}, {rows} rows"
                yield Way(way, rows, plain_loop(shape, ids, rows, dtype, compiled=compiled))
    yield Way("Trainer, bfloat16", ROWS, trainer(shape, ids, bf16=True))


def speed(steps: Steps, number: int) -> float:
    """Tokens per second."""
    start = time.perf_counter()
    steps(number)
    return number * ROWS * ROW / (time.perf_counter() - start)


def fastest(ways: Iterable[Way]) -> Way:
    """Each takes two steps to warm up."""
    tried = {way: (speed(way.steps, 2), speed(way.steps, BLOCK))[1] for way in ways}
    return max(tried, key=lambda way: tried[way])


def ceiling(shape: dict[str, Any], vocab_size: int, dtype: torch.dtype) -> float:
    """Tokens per second of the step's own products, forward and both backward ones, each shape at its best of five."""
    model = ModelConfig(**{**shape, "vocab_size": vocab_size, "context_length": ROW})
    tokens, width, head = ROWS * ROW, model.width, model.head_dim
    queries, keys = model.num_heads * head, model.num_kv_heads * head
    layer = [(width, queries + 2 * keys), (queries, width), (width, 2 * model.mlp_width), (model.mlp_width, width)]
    seconds = model.num_layers * sum(product_seconds(tokens, *sizes, dtype) for sizes in layer)
    seconds += product_seconds(tokens, width, vocab_size, dtype)
    scores = torch.randn(ROWS * model.num_heads, ROW, head, dtype=dtype)
    weights = torch.randn(ROWS * model.num_heads, ROW, ROW, dtype=dtype)
    seconds += 3 * model.num_layers * (least(lambda: scores @ scores.mT) + least(lambda: weights @ scores))
    return tokens / seconds


def product_seconds(tokens: int, inputs: int, outputs: int, dtype: torch.dtype) -> float:
    x, w = torch.randn(tokens, inputs, dtype=dtype), torch.randn(outputs, inputs, dtype=dtype)
    y = torch.randn(tokens, outputs, dtype=dtype)
    return least(lambda: x @ w.T) + least(lambda: y @ w) + least(lambda: y.T @ x)


def least(product: Callable[[], torch.Tensor]) -> float:
    times = []
    for _ in range(5):
        start = time.perf_counter()
        product()
        times.append(time.perf_counter() - start)
    return min(times)


def compare(shape: dict[str, Any], *, quick: bool, repeats: int) -> Found:
    with tempfile.TemporaryDirectory() as folder:
        corpus = texts(1_500_000)
        tokenizer = train_tokenizer(corpus, vocab_size=shape["vocab_size"])
        shard = shards.write(corpus, tokenizer, Path(folder), key="benchmark")
        whole = np.concatenate([shard.document(index) for index in range(len(shard))])
        ids = torch.from_numpy(whole[: len(whole) // ROW * ROW].reshape(-1, ROW).astype(np.int64))
        compute = prepare(resolve({}).compute, torch.device("cpu"), Path(folder) / "cache")
        shape = {**shape, "vocab_size": tokenizer.vocab_size}
        ours = fastest(our_ways(shape, tokenizer, shard, compute))
        best = fastest(peers(shape, ids, quick=quick))
        default = trainer(shape, ids, bf16=False)
        speed(default, 2)
        found = Found([], [], [], best.name, ceiling(shape, tokenizer.vocab_size, compute.dtype))
        for _ in range(repeats):
            for steps, speeds in ((ours.steps, found.ours), (best.steps, found.best), (default, found.default)):
                speeds.append(speed(steps, BLOCK))
        return found


def ratios(ours: list[float], theirs: list[float]) -> list[float]:
    return [a / b for a, b in zip(ours, theirs, strict=True)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="S alone, fewer ways and repeats")
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args()
    logging.set_verbosity_error()
    result = {}
    for name, shape in SHAPES.items():
        if chosen.quick and name != "S":
            continue
        found = compare(shape, quick=chosen.quick, repeats=3 if chosen.quick else 7)
        best, default = ratios(found.ours, found.best), ratios(found.ours, found.default)
        ours = statistics.median(found.ours)
        result[name] = {
            "ratio": statistics.median(best),
            "ratio_default": statistics.median(default),
            "ceiling": ours / found.ceiling,
        }
        if not chosen.json:
            print(f"{name}: ours {ours:,.0f} tokens/s, {ours / found.ceiling:.0%} of the ceiling {found.ceiling:,.0f}")
            print(f"   {spread(best)} times {found.peer} ({statistics.median(found.best):,.0f})")
            print(f"   {spread(default)} times Trainer as it comes, float32 ({statistics.median(found.default):,.0f})")
    if chosen.json:
        print(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
