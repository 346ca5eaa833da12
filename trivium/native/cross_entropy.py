"""The loss of logits and its gradient in C++ for processors: one pass over each position, in place.

cross_entropy.cpp does the work. PyTorch's way (losses/language_model.py) is its reference, and takes its place where
there is no compiler, or a vocabulary has another size.

N positions, D width, V vocabulary.
"""

import ctypes
from functools import cache

import torch
from torch import Tensor

from trivium.native.build import is_wanted, open_library

WHOLE = 16  # what a vocabulary's size must be a multiple of: whole vectors on every processor


class CrossEntropyStruct(ctypes.Structure):
    """`CrossEntropy` of cross_entropy.cpp, field by field."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in ("bfloat16", "positions", "vocab_size")),
        *((name, ctypes.c_void_p) for name in ("logits", "targets", "counted", "losses", "offsets")),
    )


@cache
def library() -> ctypes.CDLL | str:
    """The compiled step, or why there is none here."""
    return open_library("cross_entropy", {"logits_gradient": [ctypes.POINTER(CrossEntropyStruct)]}, "-fopenmp")


def serves(vocab_size: int, device: torch.device) -> bool:
    """Whether C++ computes the loss over such a vocabulary on this device."""
    fits = device.type == "cpu" and vocab_size % WHOLE == 0
    return fits and is_wanted() and not isinstance(library(), str)


def logits_gradient(
    hidden: Tensor, weight: Tensor, targets: Tensor, counted: Tensor, offsets: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Loss of some positions (N,) float32, and its gradient in their logits (N, V), in the dtype of hidden.

    hidden   (N, D) float32 or bfloat16
    weight   (V, D), likewise
    targets  (N,) int64
    counted  (N,) float32, what each is multiplied by
    offsets  (V,) float32, what the logits count for more in the sum over all
    """
    logits, losses = hidden @ weight.T, torch.empty_like(counted)
    given = [logits, targets, counted, losses, *([] if offsets is None else [offsets])]
    found, pointers = library(), [each.data_ptr() for each in given]
    assert not isinstance(found, str), found
    assert all(each.is_contiguous() for each in given)
    assert logits.dtype in (torch.float32, torch.bfloat16), logits.dtype
    found.logits_gradient(CrossEntropyStruct(logits.dtype == torch.bfloat16, *logits.shape, *pointers))
    return losses, logits
