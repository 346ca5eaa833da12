"""The loss in C++ against PyTorch's: the same loss, and the same gradient."""

import pytest
import torch

from trivium.losses.language_model import linear_cross_entropy, linear_logprobs, logits_gradient
from trivium.native import cross_entropy

pytestmark = pytest.mark.skipif(isinstance(cross_entropy.library(), str), reason="C++ cannot be compiled here")
CPU = torch.device("cpu")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("vocab_size", [16, 48, 2048])
@pytest.mark.parametrize("spread", [0.1, 10.0])  # of the logits, up to certainty
@pytest.mark.parametrize("stands_for", [None, 20.0])  # tokens, at most
def test_loss_and_gradient_are_those_of_the_reference(
    dtype: torch.dtype, vocab_size: int, spread: float, stands_for: float | None
) -> None:
    generator = torch.Generator().manual_seed(0)
    hidden = (spread * torch.randn(37, 8, generator=generator)).to(dtype)
    weight = torch.randn(vocab_size, 8, generator=generator).to(dtype)
    targets = torch.randint(vocab_size, (37,), generator=generator)
    counted = (torch.rand(37, generator=generator) < 0.7).float()
    offsets = stands_for and (1 + (stands_for - 1) * torch.rand(vocab_size, generator=generator)).log()
    losses, gradient = cross_entropy.logits_gradient(hidden, weight, targets, counted, offsets)
    expected, slope = logits_gradient(hidden, weight, targets, counted, offsets)
    torch.testing.assert_close(losses, expected)
    torch.testing.assert_close(gradient, slope)
    assert gradient.dtype == dtype


def test_whole_it_teaches_as_the_reference_does() -> None:
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(70, 8, generator=generator, requires_grad=True)
    weight = torch.randn(64, 8, generator=generator, requires_grad=True)
    targets, supervised = torch.randint(64, (70,), generator=generator), torch.arange(0, 70, 2)
    ours, theirs = (
        torch.autograd.grad(linear_cross_entropy(hidden, weight, targets, supervised, step), (hidden, weight))
        for step in (cross_entropy.logits_gradient, logits_gradient)
    )
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_logprobs_teach_as_the_reference_does(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(70, 8, generator=generator).to(dtype).requires_grad_()
    weight = torch.randn(64, 8, generator=generator, requires_grad=True)
    targets, slopes = torch.randint(64, (70,), generator=generator), torch.randn(70, generator=generator)
    ours, theirs = (
        torch.autograd.grad((linear_logprobs(hidden, weight, targets, step) * slopes).sum(), (hidden, weight))
        for step in (cross_entropy.logits_gradient, logits_gradient)
    )
    torch.testing.assert_close(ours, theirs)
    assert [each.dtype for each in ours] == [dtype, torch.float32]


def test_the_number_of_threads_does_not_show() -> None:
    hidden, weight, targets = torch.randn(50, 8), torch.randn(64, 8), torch.randint(64, (50,))
    before, found = torch.get_num_threads(), []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        found.append(cross_entropy.logits_gradient(hidden, weight, targets, torch.ones(50)))
    torch.set_num_threads(before)
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


def test_a_logit_that_is_no_number_is_not_hidden() -> None:
    hidden, weight = torch.ones(1, 8), torch.ones(16, 8)
    weight[3] = torch.nan
    losses, _ = cross_entropy.logits_gradient(hidden, weight, torch.tensor([5]), torch.ones(1))
    assert losses.isnan().all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
def test_other_numbers_are_refused_rather_than_misread(dtype: torch.dtype) -> None:
    with pytest.raises(AssertionError, match="float"):
        cross_entropy.logits_gradient(
            torch.ones(1, 8, dtype=dtype), torch.ones(16, 8, dtype=dtype), torch.tensor([5]), torch.ones(1)
        )


def test_other_vocabularies_are_left_to_pytorch() -> None:
    assert cross_entropy.serves(2048, CPU)
    assert not cross_entropy.serves(2047, CPU)
    assert not cross_entropy.serves(2048, torch.device("meta"))
