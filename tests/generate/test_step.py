"""A step with shapes that never change says what the growing one says. A GPU records the same code."""

from collections.abc import Callable, Sequence

import pytest
import torch

from trivium.generate.decoder import Piece, Start, TorchDecoder
from trivium.generate.sampling import Sampling, random_stream
from trivium.generate.step import FixedStep, step_rows
from trivium.model.cache import Cache
from trivium.model.transformer import Transformer

MakeModel = Callable[..., Transformer]
WARM = Sampling(temperature=1.3, max_new_tokens=12)
STOP = (4, 9)
PROMPTS = [[11, 12, 13], [20], [31, 32, 33, 34, 35, 36, 37, 38], [20, 21]]
on_a_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")


def decoder(model: Transformer, *, fixed: bool, bfloat16: bool = False, sampling: Sampling = WARM) -> TorchDecoder:
    """Rows that have read the prompts; the last may write three tokens only."""
    made = TorchDecoder(model, sampling, stop=STOP, rows=4, positions=24, fixed=fixed, bfloat16=bfloat16)
    made.read({row: Start(prompt, random_stream(row, 3 if row == 3 else 12)) for row, prompt in enumerate(PROMPTS)})
    return made


def whole_answers(decoder: TorchDecoder, steps: int) -> list[Piece]:
    found, rows = [Piece([], []) for _ in PROMPTS], list(range(4))
    while rows:
        for row, piece in zip(list(rows), decoder.write(rows, steps), strict=True):
            found[row].tokens.extend(piece.tokens)
            found[row].logprobs.extend(piece.logprobs)
            if piece.tokens[-1] in STOP or len(found[row].tokens) == (3 if row == 3 else 12):
                rows.remove(row)
    return found


def agree(found: Sequence[Piece], expected: Sequence[Piece]) -> None:
    assert [piece.tokens for piece in found] == [piece.tokens for piece in expected]
    for piece, other in zip(found, expected, strict=True):
        assert piece.logprobs == pytest.approx(other.logprobs, abs=1e-5)


@pytest.mark.parametrize("steps", [1, 5, 16])
@pytest.mark.parametrize("sampling", [WARM, WARM._replace(temperature=0), WARM._replace(top_k=5, min_p=0.1)])
def test_several_fixed_steps_without_a_look_write_what_single_steps_write(
    steps: int, sampling: Sampling, small_model: MakeModel
) -> None:
    model = small_model()
    expected = whole_answers(decoder(model, fixed=False, sampling=sampling), 1)
    agree(whole_answers(decoder(model, fixed=True, sampling=sampling), steps), expected)
    assert len({len(piece.tokens) for piece in expected}) > 1, "some end before others"


def test_how_far_a_fixed_step_looks_is_a_power_of_two_or_all(small_model: MakeModel) -> None:
    model = small_model(context_length=600)
    step = FixedStep(model, Cache(model.config, 1, 600, dtype=torch.float32, device=torch.device("cpu")), 1)
    assert [step.reach(farthest) for farthest in (0, 127, 128, 300, 511, 512, 599)] == [
        128,
        128,
        256,
        512,
        512,
        600,
        600,
    ]


@torch.no_grad()
def test_a_fixed_step_is_one_piece_of_code_for_a_compiler_and_stays_it(small_model: MakeModel) -> None:
    """Nothing in it waits for a number from the device, or depends on one: so that a graph can be recorded."""
    model, compiled = small_model(), []

    def counting(graph: torch.fx.GraphModule, inputs: list[torch.Tensor]) -> Callable[..., object]:
        compiled.append(graph)
        return graph.forward

    device, shape = torch.device("cpu"), (model.config, 3, 40)
    ours, theirs = (Cache(*shape, dtype=torch.float32, device=device) for _ in range(2))
    ours.filled = theirs.filled = 40
    step = torch.compile(step_rows, backend=counting, fullgraph=True, dynamic=False)
    for place in range(4):
        last, position = torch.tensor([5, 6 + place, 7]), torch.tensor([place, place + 9, 2 * place])
        torch.testing.assert_close(step(model, ours, last, position), step_rows(model, theirs, last, position))
    assert len(compiled) == 1


def test_bfloat16_is_near_to_float32_and_leaves_the_model_as_it_was(small_model: MakeModel) -> None:
    model = small_model()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    exact, near = (decoder(model, fixed=True, bfloat16=bfloat16).logits([0, 1, 2, 3]) for bfloat16 in (False, True))
    assert (exact.log_softmax(-1) - near.log_softmax(-1)).abs().max() < 0.1
    assert (exact - near).abs().max() > 1e-4, "it is bfloat16"
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


@on_a_gpu
def test_a_replayed_graph_writes_what_single_steps_write(small_model: MakeModel) -> None:
    model = small_model().to("cuda")
    agree(whole_answers(decoder(model, fixed=True), 16), whole_answers(decoder(model, fixed=False), 1))
