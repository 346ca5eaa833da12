"""Next-token losses, against numbers worked by hand."""

import math

import pytest
import torch

from trivium.losses import language_model
from trivium.losses.language_model import (
    Step,
    bits_per_byte,
    entropy,
    in_few_sizes,
    linear_cross_entropy,
    linear_logprobs,
    logits_gradient,
    next_token_loss,
    token_logprobs,
)
from trivium.native import linear as native_linear


def test_an_even_guess_costs_the_log_of_the_vocabulary_for_every_supervised_target() -> None:
    supervised = torch.tensor([[True, False, True], [False, False, True]])
    loss = next_token_loss(torch.zeros(2, 3, 10), torch.zeros(2, 3, dtype=torch.int64), supervised)
    assert loss.item() == pytest.approx(3 * math.log(10))


def test_a_loss_worked_by_hand() -> None:
    logits = torch.tensor([[0.0, math.log(3.0)]])  # probabilities 1/4 and 3/4
    found = [next_token_loss(logits, torch.tensor([target]), torch.tensor([True])).item() for target in (0, 1)]
    assert found == pytest.approx([math.log(4), math.log(4 / 3)])


def test_targets_without_supervision_neither_count_nor_teach() -> None:
    logits = torch.randn(2, 4, 7, generator=torch.Generator().manual_seed(0)).requires_grad_()
    supervised = torch.tensor([[True, True, False, False], [False, True, False, False]])
    targets = torch.randint(7, (2, 4), generator=torch.Generator().manual_seed(1))
    next_token_loss(logits, targets, supervised).backward()
    assert logits.grad is not None
    assert torch.equal(logits.grad.abs().sum(-1) > 0, supervised)
    other = targets.masked_fill(~supervised, 3)
    assert torch.equal(next_token_loss(logits, other, supervised), next_token_loss(logits, targets, supervised))


def test_the_loss_is_computed_in_float32_whatever_the_logits_are_in() -> None:
    logits = torch.randn(1, 512, 50, generator=torch.Generator().manual_seed(0)).to(torch.bfloat16)
    targets, all_of_them = torch.zeros(1, 512, dtype=torch.int64), torch.ones(1, 512, dtype=torch.bool)
    loss = next_token_loss(logits, targets, all_of_them)
    assert loss.dtype == torch.float32
    assert loss.item() == next_token_loss(logits.float(), targets, all_of_them).item()


@pytest.mark.parametrize("share", [1.0, 0.4])
@pytest.mark.parametrize("positions", [0, 5, 128, 150])  # none, and chunks of 64: in part, whole, and both
@pytest.mark.parametrize("step", [logits_gradient, in_few_sizes(logits_gradient)])
def test_a_loss_without_logits_is_that_of_the_logits(
    positions: int, share: float, step: Step, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(language_model, "LOGITS_AT_ONCE", 64 * 11)
    for module in (language_model, native_linear):
        monkeypatch.setattr(module, "WHOLE", 64)
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(positions, 6, generator=generator, requires_grad=True)
    weight = torch.randn(11, 6, generator=generator, requires_grad=True)
    targets = torch.randint(11, (positions,), generator=generator)
    supervised = torch.rand(positions, generator=generator) < share
    slowly = next_token_loss(hidden @ weight.T, targets, supervised)
    found = linear_cross_entropy(hidden, weight, targets, supervised.nonzero()[:, 0], step)
    torch.testing.assert_close(found, slowly)
    gradients = (torch.autograd.grad(loss / 7, (hidden, weight)) for loss in (found, slowly))
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("step", [logits_gradient, in_few_sizes(logits_gradient)])
def test_a_token_that_stands_for_several_counts_as_if_they_were_there(step: Step) -> None:
    """Logits of the others are the same, and the target is one of them."""
    generator, copies = torch.Generator().manual_seed(0), torch.tensor([1, 3, 2, 1])
    hidden = torch.randn(9, 6, generator=generator, requires_grad=True)
    weight = torch.randn(4, 6, generator=generator, requires_grad=True)
    targets, all_of_them = torch.randint(4, (9,), generator=generator), torch.arange(9)
    there = next_token_loss(hidden @ weight.repeat_interleave(copies, 0).T, copies.cumsum(0)[targets] - 1, targets >= 0)
    found = linear_cross_entropy(hidden, weight, targets, all_of_them, step, copies.log())
    torch.testing.assert_close(found, there)
    gradients = (torch.autograd.grad(loss, (hidden, weight)) for loss in (found, there))
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("positions", [0, 5])
def test_logprobs_without_logits_are_those_of_the_logits_and_so_is_what_they_teach(positions: int) -> None:
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(positions, 6, generator=generator, requires_grad=True)
    weight = torch.randn(11, 6, generator=generator, requires_grad=True)
    targets, slopes = torch.randint(11, (positions,), generator=generator), torch.randn(positions, generator=generator)
    slowly, found = token_logprobs(hidden @ weight.T, targets), linear_logprobs(hidden, weight, targets)
    torch.testing.assert_close(found, slowly)
    gradients = (torch.autograd.grad((each * slopes).sum(), (hidden, weight)) for each in (found, slowly))
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_logprobs_are_those_of_the_softmax_at_that_temperature(temperature: float) -> None:
    logits = torch.randn(3, 5, 7, generator=torch.Generator().manual_seed(0))
    targets = torch.randint(7, (3, 5), generator=torch.Generator().manual_seed(1))
    expected = (logits / temperature).log_softmax(-1).gather(-1, targets[..., None])[..., 0]
    torch.testing.assert_close(token_logprobs(logits, targets, temperature=temperature), expected)


def test_entropy_lies_between_certainty_and_an_even_guess() -> None:
    even, sure = torch.zeros(6), torch.tensor([100.0, 0, 0, 0, 0, 0])
    found = entropy(torch.stack([even, sure]))
    assert found.tolist() == pytest.approx([math.log(6), 0.0], abs=1e-6)


def test_eight_bits_of_surprise_for_each_byte_when_bytes_are_guessed_evenly() -> None:
    assert bits_per_byte(5 * math.log(256), 5) == pytest.approx(8.0)
