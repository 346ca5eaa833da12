"""The decode step in C++: holds its memory, says what to write, and calls decode.cpp.

B rows, V vocabulary.
"""

import ctypes
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from trivium.generate.decoder import Piece, Start
from trivium.generate.packing import MatrixStruct, other_weights, packed_matrices, up
from trivium.generate.sampling import Sampling, choose
from trivium.generate.texts import Texts
from trivium.losses.language_model import token_logprobs
from trivium.model.shape import ModelConfig
from trivium.model.transformer import Transformer
from trivium.native.build import is_wanted, open_library

GROUP = 16  # rows that a thread takes through several steps: their cache and the weights stay near
READ_ROWS = 64  # tokens of prompts that a thread reads at once


class ModelStruct(ctypes.Structure):
    """`Model` of decode.cpp, field by field."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in ("bfloat16", "layers", "width", "heads", "kv_heads", "head_dim")),
        *((name, ctypes.c_int64) for name in ("mlp_width", "vocab_size", "positions")),
        ("norm_eps", ctypes.c_double),
        *(
            (name, ctypes.c_void_p)
            for name in ("embedding", "cos", "sin", "input_norm", "attention_norm", "final_norm")
        ),
        *((name, ctypes.c_void_p) for name in ("q_norm", "k_norm", "bias", "qkv", "out", "gate_up", "down", "head")),
        *((name, ctypes.c_void_p) for name in ("keys", "values", "space")),
        ("space_floats", ctypes.c_int64),
    )


class WritingStruct(ctypes.Structure):
    """`Writing` of decode.cpp, field by field."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in ("rows", "steps", "group", "stops", "stream")),
        ("temperature", ctypes.c_double),
        *((name, ctypes.c_void_p) for name in ("row", "stop", "most", "position", "last", "written", "uniform")),
        *((name, ctypes.c_void_p) for name in ("count", "token", "logprob", "logits")),
    )


@cache
def library() -> ctypes.CDLL | str:
    """The compiled decode step, or why there is none."""
    model, pointer, number = ctypes.POINTER(ModelStruct), ctypes.c_void_p, ctypes.c_int
    functions: dict[str, list[Any]] = {
        "pack_matrices": [ctypes.POINTER(MatrixStruct), ctypes.c_int64, number, number],
        "read_rows": [model, pointer, pointer, ctypes.c_int64, number, number],
        "write_rows": [model, ctypes.POINTER(WritingStruct), number, number],
    }
    return open_library("decode", functions)


def native_library(device: torch.device) -> ctypes.CDLL | str:
    """The compiled decode step for models on this device, or why PyTorch does its work."""
    if device.type != "cpu":
        return f"the model is on {device.type}"
    return library() if is_wanted() else "TRIVIUM_NATIVE=0"


def decoder_in_use(device: torch.device) -> str:
    """What writes answers on this device, and why: one line."""
    found = native_library(device)
    if isinstance(found, str):
        return f"PyTorch ({found})"
    return f"C++ ({'bfloat16 when sampling, float32 when greedy' if found.has_bfloat16() else 'float32'})"


class NativeDecoder:
    """Several steps at a time, each thread with rows of its own."""

    def __init__(
        self,
        model: Transformer,
        sampling: Sampling,
        *,
        stop: Sequence[int],
        rows: int,
        positions: int,
        bfloat16: bool,
        library: ctypes.CDLL,
    ) -> None:
        c, positions = model.config, up(positions)
        self.sampling, self.library, self.threads = sampling, library, torch.get_num_threads()
        self.rows, self.vocab_size = min(rows, GROUP * self.threads), c.vocab_size
        self.lanes = library.vector_lanes()
        self.tensors = packed_matrices(model, library, bfloat16=bfloat16, threads=self.threads) | other_weights(model)
        cells, dtype = (self.rows, c.num_layers, c.num_kv_heads), torch.bfloat16 if bfloat16 else torch.float32
        head = up(c.head_dim)
        self.tensors["keys"] = torch.empty(*cells, positions // self.lanes, head, self.lanes, dtype=dtype)
        self.tensors["values"] = torch.empty(*cells, positions, head, dtype=dtype)
        self.tensors["space"] = torch.empty(self.threads, _space(c) + positions)
        self.keys, self.values = (_as_array(self.tensors[name]) for name in ("keys", "values"))
        shape = {name: getattr(c, name) for name in ("width", "head_dim", "mlp_width", "vocab_size", "norm_eps")}
        heads = {"layers": c.num_layers, "heads": c.num_heads, "kv_heads": c.num_kv_heads}
        space = {"positions": positions, "space_floats": self.tensors["space"].shape[1]}
        pointers = {name: tensor.data_ptr() for name, tensor in self.tensors.items()}
        self.model = ModelStruct(bfloat16=bfloat16, **shape, **heads, **space, **pointers)
        self.uniform = torch.zeros(self.rows, sampling.max_new_tokens)
        self.stop = np.array(stop, dtype=np.int32)
        self.position, self.last, self.written, self.most, self.count = np.zeros((5, self.rows), dtype=np.int32)
        self.texts = Texts(self.rows, positions)

    def read(self, starts: Mapping[int, Start]) -> None:
        for start in starts.values():
            if not 0 <= min(start.prompt) <= max(start.prompt) < self.vocab_size:
                raise IndexError(f"a prompt holds a token outside of 0 to {self.vocab_size - 1}")
        self._read_prompts({row: start.prompt for row, start in starts.items()})
        for row, start in starts.items():
            self.position[row], self.last[row] = len(start.prompt) - 1, start.prompt[-1]
            self.written[row], self.most[row] = 0, len(start.uniform)
            self.uniform[row, : len(start.uniform)] = start.uniform

    def _read_prompts(self, prompts: Mapping[int, Sequence[int]]) -> None:
        """All but the last token of each, which is the first step's."""
        reading = self.texts.begin(prompts)
        for copy in reading.before:
            self._copy(*copy)
        self._read_fresh({row: (len(prompts[row]) - 1 - len(new), new) for row, new in reading.unread.items()})
        for copy in reading.after:
            self._copy(*copy)

    def _copy(self, source: int, row: int, positions: int) -> None:
        blocks = -(-positions // self.lanes)
        self.keys[row, :, :, :blocks] = self.keys[source, :, :, :blocks]
        self.values[row, :, :, :positions] = self.values[source, :, :, :positions]

    def _read_fresh(self, unread: Mapping[int, tuple[int, Sequence[int]]]) -> None:
        """Tokens of each row from a position on."""
        rows, units = [], [0]  # a unit is some prompts that one thread reads together
        for row, (first, tokens) in unread.items():
            rows += [(row, position, token) for position, token in enumerate(tokens, start=first)]
            if len(rows) - units[-1] >= READ_ROWS // 2:
                units.append(len(rows))
        flat, bounds = np.array(rows, dtype=np.int32), np.array([*units, len(rows)], dtype=np.int32)
        self.library.read_rows(self.model, _at(flat), _at(bounds), len(units), READ_ROWS, self.threads)

    def write(self, rows: Sequence[int], steps: int) -> list[Piece]:
        if self.sampling.restricted:
            return self._write_restricted(rows)
        tokens, logprobs = np.empty((self.rows, steps), np.int32), np.empty((self.rows, steps), np.float32)
        self.count[:] = 0
        self._call(rows, steps, token=_at(tokens), logprob=_at(logprobs))
        counts = self.count.tolist()
        return [Piece(tokens[row, : counts[row]].tolist(), logprobs[row, : counts[row]].tolist()) for row in rows]

    def _write_restricted(self, rows: Sequence[int]) -> list[Piece]:
        """One step, by the rules of sampling.py."""
        logits, at = self.logits(rows), np.array(rows)
        new = choose(logits, self.sampling, self.uniform[at, self.written[at]])
        logprobs = token_logprobs(logits, new, temperature=self.sampling.temperature or 1.0)
        self.last[at] = new.numpy()
        self.position[at] += 1
        self.written[at] += 1
        return [Piece([t], [p]) for t, p in zip(new.tolist(), logprobs.tolist(), strict=True)]

    def logits(self, rows: Sequence[int]) -> Tensor:
        """(B, V) after the last token of each row, nothing chosen yet."""
        logits = torch.empty(len(rows), self.vocab_size)
        self._call(rows, 1, logits=logits.data_ptr())
        return logits

    def take(self, rows: Sequence[int], tokens: Sequence[int]) -> None:
        at = np.array(rows)
        self.last[at] = tokens
        self.position[at] += 1
        for row, token in zip(rows, tokens, strict=True):
            self.texts.add(row, token)

    def _call(self, rows: Sequence[int], steps: int, **results: int) -> None:
        chosen = np.array(rows, dtype=np.int32)
        numbers = {"rows": len(rows), "steps": steps, "stops": len(self.stop), "stream": self.uniform.shape[1]}
        arrays = {name: _at(getattr(self, name)) for name in ("stop", "most", "position", "last", "written", "count")}
        writing = WritingStruct(
            **numbers,
            group=min(GROUP, -(-len(rows) // self.threads)),
            temperature=self.sampling.temperature,
            row=_at(chosen),
            uniform=self.uniform.data_ptr(),
            **arrays,
            **results,
        )
        self.library.write_rows(self.model, writing, READ_ROWS, self.threads)


def _space(c: ModelConfig) -> int:
    """Numbers that a thread works on, as `Pass` of decode.cpp divides them, without the scores of all positions."""
    queries, everything = c.num_heads * up(c.head_dim), (c.num_heads + 2 * c.num_kv_heads) * up(c.head_dim)
    width, mlp = up(c.width), up(c.mlp_width)
    widest = max(everything, 2 * mlp, up(c.vocab_size))
    return READ_ROWS * (width + widest + max(width, queries, mlp)) + everything


def _as_array(tensor: Tensor) -> np.ndarray:
    """The same memory. What numpy moves starts none of torch's threads, which would wait for a busy processor."""
    found: np.ndarray = (tensor.view(torch.int16) if tensor.dtype == torch.bfloat16 else tensor).numpy()
    return found


def _at(array: np.ndarray) -> int:
    return array.ctypes.data
