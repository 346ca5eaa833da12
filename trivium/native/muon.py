"""Muon's step in C++ for processors: momentum, orthogonal blocks and the move as one pass over each block.

muon.cpp does the work. PyTorch's way (train/optimizer.py) is its reference, and takes its place where there is no
compiler, or blocks have another size.
"""

import ctypes
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor, nn

from trivium.native.build import is_wanted, open_library

WHOLE = 32  # what a block's height and width must be multiples of: whole vectors, of two numbers each, on any processor
PLAIN = (Tensor, nn.Parameter)  # not spread over ranks


class Moved(ctypes.Structure):
    """`Moved` of muon.cpp, field by field."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("weight", "gradient", "momentum")),
        *((name, ctypes.c_int64) for name in ("rows", "columns", "neurons", "by_column")),
        ("step", ctypes.c_double),
    )


class MuonStruct(ctypes.Structure):
    """`Muon` of muon.cpp, field by field."""

    _fields_ = (
        ("moved", ctypes.POINTER(Moved)),
        *((name, ctypes.c_int64) for name in ("matrices", "rounds", "bfloat16")),
        *((name, ctypes.c_double) for name in ("momentum", "kept", "a", "b", "c")),
    )


class Matrix(NamedTuple):
    """What one parameter is moved by."""

    weight: Tensor  # (m, n) float32, as are the two that follow
    gradient: Tensor
    momentum: Tensor
    neurons: int  # in a block
    by_column: bool  # whether its neurons are columns
    step: float  # what the orthogonal block is multiplied by

    @property
    def fits(self) -> bool:
        """Whether C++ moves such a matrix."""
        width = self.weight.shape[not self.by_column]
        plain = all(
            type(x) in PLAIN and x.is_cpu and x.dtype == torch.float32 and x.is_contiguous()
            for x in (self.weight, self.gradient, self.momentum)
        )
        return plain and self.neurons % WHOLE == 0 and width % WHOLE == 0


@cache
def library() -> ctypes.CDLL | str:
    """The compiled step, or why there is none here."""
    return open_library("muon", {"muon_step": [ctypes.POINTER(MuonStruct)]}, "-fopenmp")


def serves(matrices: Sequence[Matrix]) -> bool:
    """Whether C++ can move all of these."""
    return is_wanted() and all(matrix.fits for matrix in matrices) and not isinstance(library(), str)


def move(
    matrices: Sequence[Matrix],
    *,
    momentum: float,
    kept: float,
    rounds: int,
    coefficients: tuple[float, float, float],
    bfloat16: bool = True,
) -> None:
    """A step of all of them, in place.

    kept      of the weights, which decay
    bfloat16  whether products are in it, where the processor has it
    """
    found = library()
    assert not isinstance(found, str), found
    described = (Moved * len(matrices))(*(_describe(matrix) for matrix in matrices))
    found.muon_step(MuonStruct(described, len(matrices), rounds, bfloat16, momentum, kept, *coefficients))


def _describe(matrix: Matrix) -> Moved:
    pointers = (x.data_ptr() for x in (matrix.weight, matrix.gradient, matrix.momentum))
    return Moved(*pointers, *matrix.weight.shape, matrix.neurons, matrix.by_column, matrix.step)
