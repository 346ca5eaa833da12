"""How numbers are computed on this machine: device, threads, precision, compilation, memory. One place decides."""

import ctypes
import os
import shutil
import sys
import sysconfig
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple, TypeVar, cast

import torch
from torch import Tensor

from trivium.allowance import cores
from trivium.config import ComputeConfig

F = TypeVar("F", bound=Callable[..., object])


class Compute(NamedTuple):
    device: torch.device
    dtype: torch.dtype  # of products and activations; weights stay float32
    compiled: bool

    def autocast(self) -> AbstractContextManager[object]:
        """Products in `dtype` inside, float32 outside."""
        return torch.autocast(self.device.type, dtype=self.dtype, enabled=self.dtype != torch.float32)

    def send(self, tensor: Tensor) -> Tensor:
        """The tensor on the device; out of pinned memory a copy that nobody waits for."""
        return tensor.to(self.device, non_blocking=True)

    def compile(self, function: F) -> F:
        """The function, compiled for fixed shapes where that was asked for."""
        return cast(F, torch.compile(function, dynamic=False)) if self.compiled else function


def compiling_obstacle(device: torch.device) -> str:
    """Why steps cannot be compiled here, and what to do about it; empty where they can.

    On the CPU torch writes C++: it takes the compiler that CXX names, else the usual one, and Python's own headers.
    """
    if device.type != "cpu":
        return ""
    compiler = os.environ.get("CXX", "clang++" if sys.platform == "darwin" else "g++")
    if shutil.which(compiler) is None:
        return f"there is no C++ compiler {compiler}; install it, or name another in the environment variable CXX"
    if not Path(sysconfig.get_path("include"), "Python.h").exists():
        return "Python's headers are missing; install them (python3-dev)"
    return ""


def prepare(settings: ComputeConfig, device: torch.device, cache: Path) -> Compute:
    """Settle how this process computes, once, before the first tensor.

    cache  a folder of the run's own for compiled code: a killed compilation can leave a broken file behind, and must
           not break anybody else's
    """
    torch.set_num_threads(settings.threads or cores())
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(cache.resolve()))
    _keep_freed_memory()
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high")  # TF32 for the products that are not in bfloat16
    wanted = {"float32": torch.float32, "bfloat16": torch.bfloat16, "auto": best_dtype(device)}[settings.precision]
    return Compute(device, wanted, settings.compile)


def best_device(wanted: str = "auto") -> str:
    """A GPU where there is one, unless "cpu" is wanted."""
    return "cuda" if wanted != "cpu" and torch.cuda.is_available() else "cpu"


def best_dtype(device: torch.device) -> torch.dtype:
    """bfloat16 where the processor multiplies it natively, else float32."""
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    native = torch.backends.cpu.get_cpu_capability() in ("AVX512", "AMX") and _has_bf16_products()
    return torch.bfloat16 if native else torch.float32


def _has_bf16_products() -> bool:
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def _keep_freed_memory() -> None:
    """Ask glibc to keep what a step frees for the next one: else a step takes tens of thousands of page faults."""
    if sys.platform != "linux":
        return
    try:
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(-4, 0)  # M_MMAP_MAX: no allocation of its own mapping
        libc.mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD: give nothing back
    except (OSError, AttributeError):  # another C library: only slower
        return
