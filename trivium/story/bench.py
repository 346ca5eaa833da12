"""Speed here, against this machine's own ceiling: products of matrices, training, writing. Nothing is kept.

Model FLOP utilisation is (6 N + 12 L H d T) tokens/s / peak: N parameters that are multiplied with every token, L
layers, H heads of size d, rows of T positions; causal masking is not credited. Kaplan et al. 2020, arXiv:2001.08361,
table 1.
"""

import re
import statistics
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import torch

from trivium.batch import TokenBatch
from trivium.compute import Compute, compiling_obstacle, prepare
from trivium.config import ComputeConfig, PretrainConfig
from trivium.distributed.world import alone, join_world
from trivium.generate.engine import Request, generate
from trivium.generate.sampling import Sampling
from trivium.model.shape import ModelConfig
from trivium.model.transformer import Transformer, initialise
from trivium.native import layer as native
from trivium.phases.pretrain import next_token_objective
from trivium.plan import Machine, measure_machine
from trivium.show import Show
from trivium.train.candidates import Candidates
from trivium.train.loop import train
from trivium.train.optimizer import build_optimizers
from trivium.train.phase import Phase
from trivium.wording import counted

# Dense bfloat16, TFLOP/s, from the makers' data sheets; the first name that the card's name holds in whole words counts
PEAKS = {
    "H100 PCIe": 756, "H100 NVL": 835, "H100": 989, "H200 NVL": 835, "H200": 989, "GH200": 989, "B200": 2250,
    "GB200": 2500, "A100": 312, "A10G": 70, "A10": 125, "L40S": 362, "L40": 181, "L4": 121,
    "RTX 6000 Ada": 364, "RTX 5090": 209, "RTX 4090": 165, "RTX 3090": 71,
}  # fmt: skip
ANOTHER_CHIP = re.compile(r"\b(Ti|D|Laptop|MIG)\b")  # beside the same name: a variant, or a part of the card


class Size(NamedTuple):
    """A model, and the rows that it learns from in one step."""

    model: ModelConfig
    rows: int  # in a step
    at_once: int
    candidates: int = 0  # tokens that a micro-batch tells apart; 0: all, as are that many


def _size(layers: int, width: int, heads: int, mlp_width: int, vocabulary: int, length: int, rows: int) -> Size:
    shape = {"num_layers": layers, "width": width, "num_heads": heads, "num_kv_heads": heads, "mlp_width": mlp_width}
    shape |= {"vocab_size": vocabulary, "context_length": length, "tie_embeddings": True}  # as GPT-2's are
    whole = ModelConfig.model_validate(shape)
    return Size(whole, rows, rows if length > 256 else rows // 2)


def sizes(device: str) -> dict[str, Size]:
    """Those of the benchmarks on a processor; on a GPU GPT-2's small, medium and the 1.3 billion of GPT-3's table."""
    if device == "cpu":
        return {"S": _size(4, 128, 4, 384, 2048, 256, 16), "M": _size(6, 384, 6, 1024, 8192, 256, 16)}
    return {
        "124M": _size(12, 768, 12, 2048, 50_304, 1024, 32),
        "350M": _size(24, 1024, 16, 2752, 50_304, 1024, 16),
        "1.3B": _size(24, 2048, 16, 5504, 50_304, 1024, 8),
    }


def peak_of(name: str) -> float | None:
    """What the maker promises of a GPU, FLOP/s; None for one that is not in the table, and for processors."""
    if ANOTHER_CHIP.search(name):
        return None
    return next((peak * 1e12 for chip, peak in PEAKS.items() if re.search(rf"\b{chip}\b", name)), None)


def measure_speed(device: str, *, quick: bool) -> dict[str, Any]:
    """The machine, and for each size training and writing in tokens per second with their shares of the ceiling.

    quick   only the smallest size, with fewer steps
    raises  ConfigError when the device is not there
    """
    with join_world(device) as world, tempfile.TemporaryDirectory() as folder:
        in_cpp = native.is_here(world.device)
        obstacle = "" if in_cpp else compiling_obstacle(world.device)
        compute = prepare(ComputeConfig(compile=not obstacle and not in_cpp), world.device, Path(folder))
        machine = measure_machine(compute)
        found = dict(list(sizes(world.device.type).items())[: 1 if quick else None])
        measured = {name: measure_size(size, compute, machine, quick=quick) for name, size in found.items()}
    peak = peak_of(machine.name)
    return {
        "machine": {
            "name": machine.name,
            "cores": machine.cores,
            "device": compute.device.type,
            "precision": machine.precision,
            "matmul_flops": machine.matmul_flops,
            "peak_flops": peak,
        },
        "compiled": compute.compiled,
        "obstacle": obstacle,
        "sizes": measured,
    }


def measure_size(size: Size, compute: Compute, machine: Machine, *, quick: bool) -> dict[str, Any]:
    """Of one size; of one that does not fit into the GPU's memory its parameters alone."""
    told: dict[str, Any] = {"parameters": size.model.parameters}
    try:
        model = initialise(Transformer(size.model), 0).to(compute.device)
        speed = training_speed(model, size, compute, steps=4 if quick else 12)
        writing = {str(rows): writing_speed(model, rows) for rows in (1, 16)}
    except torch.cuda.OutOfMemoryError:
        return told | {"fits": False}
    flops, peak = size.model.training_flop(1) * speed, peak_of(machine.name)
    return told | {
        "fits": True,
        "tokens_per_second": speed,
        "share_of_matmul": flops / machine.matmul_flops,
        "utilisation": flops / peak if peak else None,
        "writing_tokens_per_second": writing,
    }


def training_speed(model: Transformer, size: Size, compute: Compute, *, steps: int) -> float:
    """Tokens per second of whole steps, optimizer included; the median. The first two compile and are not counted."""
    times = step_times(model, size, compute, steps=steps + 2)
    return size.rows * size.model.context_length / statistics.median(times[2:])


def step_times(model: Transformer, size: Size, compute: Compute, *, steps: int) -> list[float]:
    """Seconds of each whole step, optimizer included, on random tokens."""
    settings = PretrainConfig(steps=steps, rows_per_step=size.rows, microbatch_rows=size.at_once)
    objective, known = next_token_objective(compute), size.candidates
    narrowed = 0 < known < size.model.vocab_size
    among = Candidates(torch.arange(known), torch.zeros(known)) if narrowed else None
    rows = [random_rows(size) for _ in range(size.rows // size.at_once)]
    phase = Phase(
        name="bench",
        model=model,
        objective=lambda model, batch: objective(model, batch, among),
        batches=lambda step: rows,
        evaluate=dict,
        optimizers=build_optimizers(model, settings),
        settings=settings,
        evaluations=0,
        ahead=True,
    )
    times = [time.perf_counter()]
    for _ in train(phase, alone(compute.device), steps=range(steps)):
        times.append(time.perf_counter())
    return [b - a for a, b in pairwise(times)]


def random_rows(size: Size) -> TokenBatch:
    """Random tokens, three documents to a row, every token a target."""
    length = size.model.context_length
    tokens = torch.randint(size.candidates or size.model.vocab_size, (size.at_once, length))
    places = torch.arange(length).expand(size.at_once, -1)
    return TokenBatch(
        tokens, tokens.roll(-1, 1), torch.ones_like(tokens, dtype=torch.bool), places, places * 3 // length
    )


def writing_speed(model: Transformer, rows: int, *, prompt: int = 32, new: int = 96) -> float:
    """New tokens per second of so many answers at once, drawn at temperature 1; the better of two."""
    sampling = Sampling(temperature=1.0, max_new_tokens=new)
    requests = [Request(list(range(8, 8 + prompt)), seed) for seed in range(rows)]
    speeds = []
    for _ in range(2):
        start = time.perf_counter()
        written = sum(len(answer.tokens) for answer in generate(model, requests, sampling, stop=[]))
        speeds.append(written / (time.perf_counter() - start))
    return max(speeds)


def print_speed(found: dict[str, Any]) -> None:
    machine, show = found["machine"], Show(stderr=False)
    show.say(f"{machine['name']}, {counted(machine['cores'], 'core')}, training in {machine['precision']}")
    ceiling = f"{machine['matmul_flops'] / 1e12:,.2f} TFLOP/s measured in large matrix products"
    peak = machine["peak_flops"]
    show.say(
        ceiling + (f"; the maker promises {peak / 1e12:,.0f}" if peak else "; no promise of the maker is known here")
    )
    if found["obstacle"]:
        show.say(f"Steps are not compiled: {found['obstacle']}.")
    names = [
        "",
        "parameters",
        "training, tokens/s",
        "of the products",
        "of the promise",
        "writing 1, tokens/s",
        "16 at once",
    ]
    show.table("Speed", names, [_row(name, told) for name, told in found["sizes"].items()])
    told = "N parameters, L layers, H heads of d, T positions in a row"
    show.say(f"Shares are (6 N + 12 L H d T) tokens/s over products or promise, model FLOP utilisation: {told}.")


def _row(name: str, told: dict[str, Any]) -> list[str]:
    parameters = f"{told['parameters'] / 1e6:,.1f}M"
    if not told["fits"]:
        return [name, parameters, "does not fit", "", "", "", ""]
    promised = "" if told["utilisation"] is None else f"{told['utilisation']:.0%}"
    writing = [f"{speed:,.0f}" for speed in told["writing_tokens_per_second"].values()]
    return [name, parameters, f"{told['tokens_per_second']:,.0f}", f"{told['share_of_matmul']:.0%}", promised, *writing]
