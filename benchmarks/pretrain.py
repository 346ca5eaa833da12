"""Tokens per second of pretraining: ours beside transformers' plain loop and its Trainer, the same shapes and text.

    python benchmarks/pretrain.py [--sizes S M] [--json] [--quick]

A step is 4,096 tokens in rows of 256, data and optimizer included; ours is the whole phase I, with isolated documents,
blanks and Muon. Where the dial would tell only some of the vocabulary apart (decision 027; choices.py says what that is
worth in bits per byte), ours does, and stands there a second time with all tokens apart, as the peers have them. Peers
run Qwen3 in the same shape with AdamW (fused), eager and compiled, in bfloat16 where the processor has it; compiled
with both attentions, PyTorch's own (sdpa) and the one written out, which the compiler fuses. As it comes is what a peer
does on a CPU unless told otherwise: float32, nothing compiled, Trainer with 8 rows. Each contender runs in its best
setting, the fastest by the median of interleaved tries; then all of them are repeated, interleaved, in one process
whose freed memory is kept, which helps peers too. Only steps are timed, after others to warm up. The ceiling is the
time of the contender's own matrix products and nothing else, in the same turns. Run it on a quiet machine.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from enum import Enum
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("GOMP_SPINCOUNT", "2000")  # as the command line does, before torch

import numpy as np
import torch
from transformers import PrinterCallback, Qwen3Config, Qwen3ForCausalLM, Trainer, TrainerCallback, TrainingArguments
from transformers.utils import logging

sys.path.insert(0, str(Path(__file__).parents[1]))  # started by its path, it finds its siblings

from benchmarks.school import compiles
from benchmarks.shapes import SHAPES, spread
from trivium import plan
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
WARM = 2  # steps that are not timed
TRIES, TRIED = 3, 4  # of each setting, and steps in each
REPEATS, QUICK_REPEATS, BLOCK = 7, 3, 8  # of each contender's best setting, and steps in each
CHARACTERS = 1_500_000
ATTENTIONS = ("sdpa", "eager")
TRAINER_ROWS = 8  # the Trainer's own per_device_train_batch_size
AT_ONCE = (4, TRAINER_ROWS, ROWS)
Timed = Callable[[int], float]  # takes so many optimizer steps; their seconds


class Kind(Enum):
    OURS = "ours"
    AT_ITS_BEST = "at its best"
    AS_IT_COMES = "as it comes"


class Contender(NamedTuple):
    name: str
    kind: Kind
    settings: dict[str, Timed]  # of which the fastest counts
    known: int  # tokens that its loss tells apart, by which its products differ


class Result(NamedTuple):
    """What a contender's best setting came to, in tokens per second of each repeat."""

    name: str
    kind: Kind
    setting: str
    speeds: list[float]
    ceiling: list[float]  # if a step were its matrix products

    @property
    def median(self) -> float:
        return statistics.median(self.speeds)

    @property
    def share(self) -> float:
        """Of the ceiling, in the median repeat: the machine may be slower in another."""
        return statistics.median(self.over(self.ceiling))

    def over(self, speeds: list[float]) -> list[float]:
        return [a / b for a, b in zip(self.speeds, speeds, strict=True)]


class Found(NamedTuple):
    tried: dict[str, list[float]]  # tokens per second of each setting
    results: list[Result]  # ours first

    def ours(self) -> list[Result]:
        return [one for one in self.results if one.kind is Kind.OURS]

    def fastest(self, kind: Kind) -> Result:
        return max((one for one in self.results if one.kind is kind), key=lambda one: one.median)

    def ratios(self, ours: Result, kind: Kind) -> list[float]:
        """Of ours over the fastest such peer."""
        return ours.over(self.fastest(kind).speeds)


class Text(NamedTuple):
    """What everybody learns."""

    tokenizer: Tokenizer
    shard: shards.Shard
    ids: torch.Tensor  # (rows, ROW) the same, from end to end

    @classmethod
    def learned(cls, vocab_size: int, folder: Path) -> "Text":
        stories = list(tinyworld_texts(CHARACTERS))
        tokenizer = train_tokenizer(stories, vocab_size=vocab_size)
        shard = shards.write(stories, tokenizer, folder, key="benchmark")
        whole = np.concatenate([shard.document(index) for index in range(len(shard))])
        ids = torch.from_numpy(whole[: len(whole) // ROW * ROW].reshape(-1, ROW).astype(np.int64))
        return cls(tokenizer, shard, ids)


def tinyworld_texts(characters: int) -> Iterator[str]:
    index = 0
    while characters > 0:
        yield (story := tinyworld.story(0, index))
        characters, index = characters - len(story), index + 1


def by_the_clock(steps: Callable[[int], None]) -> Timed:
    """After steps to warm up."""
    steps(WARM)

    def timed(number: int) -> float:
        start = time.perf_counter()
        steps(number)
        return time.perf_counter() - start

    return timed


def ours(text: Text, shape: dict[str, Any], compute: Compute, rows: int, known: int = 0) -> Timed:
    """Phase I as it is, so many rows at once, which the dial tries too.

    known  tokens that its loss tells apart; 0: all
    """
    pretraining = {"rows_per_step": ROWS, "microbatch_rows": rows, "candidates": known}
    recipe = resolve({"model": {**shape, "context_length": ROW}, "pretrain": pretraining})
    model = initialise(Transformer(recipe.model), 0)
    objective = pretrain.next_token_objective(compute)
    settings = recipe.model_copy(update={"pretrain": recipe.pretrain.model_copy(update={"echo_steps": 0})})
    phase = pretrain.build(settings, model, text.tokenizer, text.shard, [], objective, compute, alone())
    place = 0

    def steps(number: int) -> None:
        nonlocal place
        for _ in train(phase, alone(), steps=range(place, place + number)):
            pass
        place += number

    return by_the_clock(steps)


class Peer(NamedTuple):
    """How transformers trains."""

    begin: Callable[["Peer", dict[str, Any], torch.Tensor], Timed]
    dtype: torch.dtype
    compiled: bool
    attention: str  # sdpa, or eager: written out
    rows: int  # in one pass; a step is always ROWS rows

    def __str__(self) -> str:
        return f"{str(self.dtype).removeprefix('torch.')}, {self.attention}, {self.rows} rows"

    def model(self, shape: dict[str, Any]) -> Qwen3ForCausalLM:
        config = Qwen3Config(
            vocab_size=shape["vocab_size"],
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
        model = Qwen3ForCausalLM(config)
        model.set_attn_implementation(self.attention)
        return model


def plain_loop(peer: Peer, shape: dict[str, Any], ids: torch.Tensor) -> Timed:
    """The loop that everybody writes: forward with labels, backward, clip, step."""
    model = peer.model(shape)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
    forward = torch.compile(model, dynamic=False) if peer.compiled else model
    place = 0

    def steps(number: int) -> None:
        nonlocal place
        for _ in range(number):
            for _ in range(ROWS // peer.rows):
                batch = ids[torch.arange(place, place + peer.rows) % len(ids)]
                place += peer.rows
                with torch.autocast("cpu", dtype=peer.dtype, enabled=peer.dtype != torch.float32):
                    loss = forward(input_ids=batch, labels=batch).loss
                (loss * peer.rows / ROWS).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

    return by_the_clock(steps)


class StepEnds(TrainerCallback):
    """The time at the end of each step."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def on_step_end(self, *_: object, **__: object) -> None:
        self.times.append(time.perf_counter())


def trainer(peer: Peer, shape: dict[str, Any], ids: torch.Tensor) -> Timed:
    """transformers' Trainer, which begins anew each time, warms up, and is timed from step to step."""
    ends = StepEnds()
    arguments = TrainingArguments(
        output_dir=tempfile.gettempdir(),  # where nothing is saved
        per_device_train_batch_size=peer.rows,
        gradient_accumulation_steps=ROWS // peer.rows,
        use_cpu=True,
        bf16=peer.dtype == torch.bfloat16,
        torch_compile=peer.compiled,
        report_to=[],
        save_strategy="no",
        logging_strategy="no",
        disable_tqdm=True,
    )
    rows = [{"input_ids": row, "labels": row} for row in ids]
    asked = Trainer(model=peer.model(shape), args=arguments, train_dataset=rows, callbacks=[ends])
    asked.remove_callback(PrinterCallback)  # it would tell its progress on stdout, where the results belong

    def timed(number: int) -> float:
        asked.args.max_steps = WARM + number
        asked.train()
        return ends.times[-1] - ends.times[-1 - number]

    timed(1)  # compiles
    return timed


def peers(dtype: torch.dtype, *, quick: bool) -> dict[str, list[Peer]]:
    """The settings of each contender; quick has one for each of a few."""
    if quick:
        return {
            "plain loop, compiled": [Peer(plain_loop, dtype, True, "eager", 4)],
            "Trainer, eager": [Peer(trainer, dtype, False, "sdpa", ROWS)],
            "Trainer as it comes": [Peer(trainer, torch.float32, False, "sdpa", TRAINER_ROWS)],
        }
    found = {}
    for name, begin in (("plain loop", plain_loop), ("Trainer", trainer)):
        found[f"{name}, compiled"] = [Peer(begin, dtype, True, a, rows) for a in ATTENTIONS for rows in AT_ONCE]
        found[f"{name}, eager"] = [Peer(begin, dtype, False, "sdpa", rows) for rows in AT_ONCE]
    found["plain loop as it comes"] = [Peer(plain_loop, torch.float32, False, "sdpa", rows) for rows in AT_ONCE]
    found["Trainer as it comes"] = [Peer(trainer, torch.float32, False, "sdpa", TRAINER_ROWS)]
    return found


def contenders(text: Text, shape: dict[str, Any], compute: Compute, *, quick: bool) -> Iterator[Contender]:
    """Ours, then the peers, each setting compiled and warm."""
    everything = shape["vocab_size"]
    known = plan.choose_candidates(ModelConfig(**shape, context_length=ROW)) or everything
    at_once = (ROWS,) if quick else (8, ROWS)
    for each in dict.fromkeys((known, everything)):
        settings = {f"{rows} rows": ours(text, shape, compute, rows, each) for rows in at_once}
        yield Contender("ours" if each == known else "ours, all tokens apart", Kind.OURS, settings, each)
    for name, tried in peers(compute.dtype, quick=quick).items():
        kind = Kind.AS_IT_COMES if Kind.AS_IT_COMES.value in name else Kind.AT_ITS_BEST
        yield Contender(name, kind, {str(peer): peer.begin(peer, shape, text.ids) for peer in tried}, everything)


def interleaved(ways: dict[str, Timed], turns: int, steps: int) -> dict[str, list[float]]:
    """Tokens per second of each way, in each turn."""
    found: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(turns):
        for name, timed in ways.items():
            found[name].append(steps * ROWS * ROW / timed(steps))
    return found


def products(shape: dict[str, Any], dtype: torch.dtype) -> Timed:
    """A step's own matrix products, forward and both backward ones, and nothing else."""
    model = ModelConfig(**shape, context_length=ROW)
    width, head, layers = model.width, model.head_dim, model.num_layers
    queries, keys = model.num_heads * head, model.num_kv_heads * head
    layer = [(width, queries + 2 * keys), (queries, width), (width, 2 * model.mlp_width), (model.mlp_width, width)]
    factors = [(layers, pair) for sizes in layer for pair in three_products(*sizes, dtype)]
    factors += [(1, pair) for pair in three_products(width, model.vocab_size, dtype)]
    scores = torch.randn(ROWS * model.num_heads, ROW, head, dtype=dtype)
    weights = torch.randn(ROWS * model.num_heads, ROW, ROW, dtype=dtype)
    factors += [(3 * layers, (scores, scores.mT)), (3 * layers, (weights, scores))]

    def steps(number: int) -> None:
        for times, (left, right) in number * factors:
            for _ in range(times):
                left @ right

    return by_the_clock(steps)


def three_products(inputs: int, outputs: int, dtype: torch.dtype) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """The factors of y = x wᵀ, of its gradient in x, and of that in w."""
    x, y = (torch.randn(ROWS * ROW, size, dtype=dtype) for size in (inputs, outputs))
    w = torch.randn(outputs, inputs, dtype=dtype)
    return [(x, w.T), (y, w), (y.T, x)]


def compare(text: Text, shape: dict[str, Any], compute: Compute, *, quick: bool) -> Found:
    every = list(contenders(text, shape, compute, quick=quick))
    ways = {f"{who.name}, {setting}": timed for who in every for setting, timed in who.settings.items()}
    tried = interleaved(ways, 1 if quick else TRIES, TRIED)
    best = {
        who.name: max(who.settings, key=lambda setting: statistics.median(tried[f"{who.name}, {setting}"]))
        for who in every
    }
    chosen = {who.name: who.settings[best[who.name]] for who in every}
    ceilings = {
        f"ceiling {known}": products({**shape, "vocab_size": known}, compute.dtype)
        for known in {who.known for who in every}
    }
    speeds = interleaved(chosen | ceilings, QUICK_REPEATS if quick else REPEATS, BLOCK)
    results = [
        Result(who.name, who.kind, best[who.name], speeds[who.name], speeds[f"ceiling {who.known}"]) for who in every
    ]
    return Found(tried, results)


def summary(found: Found) -> dict[str, Any]:
    """Of ours; where it tells some tokens apart, also "all_tokens", of ours that does not."""
    first, *rest = [
        {
            "ratio": statistics.median(found.ratios(ours, Kind.AT_ITS_BEST)),
            "ratio_default": statistics.median(found.ratios(ours, Kind.AS_IT_COMES)),
            "ceiling": ours.share,
        }
        for ours in found.ours()
    ]
    return first | ({"all_tokens": rest[0]} if rest else {})


def told(speeds: list[float]) -> str:
    return f"{statistics.median(speeds):,.0f} ({min(speeds):,.0f} to {max(speeds):,.0f})"


def show(name: str, found: Found) -> None:
    print(f"{name}  {'contender':<23} {'its best setting':<25} {'tokens/s (least to most)':<26} ceiling  ours / theirs")
    first, *others = found.results
    for one in found.results:
        ratio = spread(first.over(one.speeds)) if one in others else ""
        print(f"   {one.name:<23} {one.setting:<25} {told(one.speeds):<26} {one.share:>7.0%}  {ratio}")
    for ours in found.ours():
        best, usual = (spread(found.ratios(ours, kind)) for kind in (Kind.AT_ITS_BEST, Kind.AS_IT_COMES))
        print(f"   {ours.name}: {best} of the best peer, {usual} of the best as it comes")
        print(f"   {'':<{len(ours.name)}}  its products alone {told(ours.ceiling)} tokens/s")
    print(f"   {'tried':<49} tokens/s (least to most)")
    for way, speeds in found.tried.items():
        print(f"   {way:<49} {told(speeds)}")
    print(flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", nargs="+", choices=list(SHAPES), default=list(SHAPES))
    parser.add_argument("--quick", action="store_true", help="S alone, few settings of the peers, fewer repeats")
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args()
    logging.set_verbosity_error()
    torch._dynamo.config.recompile_limit = 64  # beyond it a setting would run uncompiled
    torch._dynamo.config.automatic_dynamic_shapes = False  # else one setting's rows would unfix those of the next
    result = {}
    with tempfile.TemporaryDirectory() as folder:
        compute = prepare(
            resolve({"compute": {"compile": compiles()}}).compute, torch.device("cpu"), Path(folder) / "cache"
        )
        for name in ["S"] if chosen.quick else chosen.sizes:
            text = Text.learned(SHAPES[name]["vocab_size"], Path(folder) / name)
            found = compare(text, SHAPES[name], compute, quick=chosen.quick)
            result[name] = summary(found)
            if not chosen.json:
                show(name, found)
    if chosen.json:
        print(json.dumps(result))
    elif chosen.quick:
        print("quick: S alone, and most settings of the peers left out")
    return 0


if __name__ == "__main__":
    sys.exit(main())
