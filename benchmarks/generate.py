"""Tokens per second of writing: our decoders in C++ and PyTorch beside transformers' generate, the same weights.

    python benchmarks/generate.py [--json] [--quick]

Prompts of 32 tokens, 128 new ones, drawn at temperature 1. transformers is given its best: dynamic and static cache,
float32 and bfloat16 are tried twice, and the fastest is repeated. Repeats are interleaved; run it on a quiet machine.
--json prints {"S": {"1": …, "16": …, "64": …}, "M": {…}}: C++ over transformers, medians of the ratios of each repeat.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from transformers import AutoModelForCausalLM, GenerationConfig
from transformers.utils import logging

from trivium.generate.engine import Request, generate
from trivium.generate.native import decoder_in_use
from trivium.generate.sampling import Sampling
from trivium.model.hub import save
from trivium.model.shape import ModelConfig
from trivium.model.transformer import Transformer, initialise

SMALL = {"num_layers": 4, "width": 128, "num_heads": 4, "num_kv_heads": 4, "mlp_width": 384, "vocab_size": 2048}
MIDDLE = {"num_layers": 6, "width": 384, "num_heads": 6, "num_kv_heads": 6, "mlp_width": 1024, "vocab_size": 8192}
SHAPES = {"S": SMALL, "M": MIDDLE}
PROMPT, NEW = 32, 128

Writer = Callable[[list[list[int]]], int]  # prompts in, how many tokens were written out


class Case(NamedTuple):
    shape: str
    rows: int
    peer: str  # the fastest way of transformers
    tokens_per_second: dict[str, list[float]]  # of each repeat

    @property
    def ratios(self) -> list[float]:
        """Native to transformers, of each repeat."""
        of = self.tokens_per_second
        return [ours / theirs for ours, theirs in zip(of["native"], of["transformers"], strict=True)]


@contextmanager
def native_allowed(allowed: bool) -> Iterator[None]:
    before = os.environ.pop("TRIVIUM_NATIVE", None)
    os.environ["TRIVIUM_NATIVE"] = "1" if allowed else "0"
    yield
    os.environ.pop("TRIVIUM_NATIVE")
    if before is not None:
        os.environ["TRIVIUM_NATIVE"] = before


def our_writer(model: Transformer, *, native: bool, new: int) -> Writer:
    def write(prompts: list[list[int]]) -> int:
        requests = [Request(prompt, seed) for seed, prompt in enumerate(prompts)]
        with native_allowed(native):
            answers = generate(model, requests, Sampling(max_new_tokens=new), stop=())
        return sum(len(answer.tokens) for answer in answers)

    return write


def transformers_writers(folder: Path, *, new: int) -> dict[str, Writer]:
    """Every way in which transformers may be fastest."""
    found: dict[str, Writer] = {}
    for dtype in (torch.float32, torch.bfloat16):
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).eval()
        for cache in ("dynamic", "static"):
            found[f"{cache} {str(dtype).removeprefix('torch.')}"] = _transformers_writer(model, cache, new)
    return found


def _transformers_writer(model: Any, cache: str, new: int) -> Writer:
    model.generation_config = GenerationConfig(pad_token_id=0)  # no end token: everybody writes as much
    how = {"max_new_tokens": new, "do_sample": True, "top_k": 0, "cache_implementation": cache}

    def write(prompts: list[list[int]]) -> int:
        tokens = torch.tensor(prompts)
        out = model.generate(tokens, attention_mask=torch.ones_like(tokens), **how)
        return int(out[:, tokens.shape[1] :].numel())

    return write


def compare(name: str, shape: dict[str, Any], rows: tuple[int, ...], *, repeats: int, new: int = NEW) -> Iterator[Case]:
    """Each case warm: what came first is thrown away; of transformers, that finds the fastest way."""
    model = initialise(Transformer(ModelConfig(**shape)), seed=0)
    with tempfile.TemporaryDirectory() as folder:
        save(model, Path(folder), stop_tokens=[0], pad_token=0)
        peers = transformers_writers(Path(folder), new=new)
    ours = {"native": our_writer(model, native=True, new=new), "torch": our_writer(model, native=False, new=new)}
    for count in rows:
        generator = torch.Generator().manual_seed(count)
        prompts = torch.randint(1, shape["vocab_size"], (count, PROMPT), generator=generator).tolist()
        for writer in ours.values():
            speed(writer, prompts)
        tried = {peer: max(speed(writer, prompts) for _ in range(2)) for peer, writer in peers.items()}
        best = max(tried, key=lambda peer: tried[peer])
        writers = {**ours, "transformers": peers[best]}
        found: dict[str, list[float]] = {writer: [] for writer in writers}
        for _ in range(repeats):
            for who, write in writers.items():
                found[who].append(speed(write, prompts))
        yield Case(name, count, best, found)


def speed(write: Writer, prompts: list[list[int]]) -> float:
    """Tokens per second."""
    start = time.perf_counter()
    written = write(prompts)
    return written / (time.perf_counter() - start)


def line(case: Case) -> str:
    middle = {name: f"{statistics.median(speeds):,.0f}" for name, speeds in case.tokens_per_second.items()}
    ratio = f"{statistics.median(case.ratios):.1f} ({min(case.ratios):.1f}..{max(case.ratios):.1f})"
    columns = f"{middle['native']:>10}{middle['torch']:>10}{middle['transformers']:>14}   {ratio:<22}{case.peer}"
    return f"{case.shape:<6}{case.rows:>5}{columns}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="S alone, two repeats")
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    if not chosen.json:
        print(f"native: {decoder_in_use(torch.device('cpu'))}; {torch.get_num_threads()} threads; medians, tokens/s")
        print("shape  rows    native     torch  transformers   native / transformers of transformers")
    found: dict[str, dict[str, float]] = {}
    for name, shape in SHAPES.items():
        if chosen.quick and name != "S":
            continue
        for case in compare(name, shape, (1, 16, 64), repeats=2 if chosen.quick else 5):
            found.setdefault(name, {})[str(case.rows)] = round(statistics.median(case.ratios), 2)
            if not chosen.json:
                print(line(case), flush=True)
    if chosen.json:
        print(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
