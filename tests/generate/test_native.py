"""The decode step in C++ against the full forward pass: whatever the shape, and to the bit whatever the company."""

import dataclasses
import random
from collections.abc import Callable, Iterator, Sequence

import pytest
import torch
from torch import Tensor

from trivium.generate.decoder import Start
from trivium.generate.engine import Request, generate
from trivium.generate.native import NativeDecoder, decoder_in_use, library, native_library
from trivium.generate.sampling import Sampling, choose, random_stream
from trivium.model.transformer import Transformer

MakeModel = Callable[..., Transformer]
LIBRARY = library()

needs_library = pytest.mark.skipif(isinstance(LIBRARY, str), reason=str(LIBRARY))
has_bfloat16 = not isinstance(LIBRARY, str) and bool(LIBRARY.has_bfloat16())


@dataclasses.dataclass(frozen=True)
class Shape:
    architecture: str = "qwen3"
    head_dim: int = 32
    num_heads: int = 4
    num_kv_heads: int = 4
    tie_embeddings: bool = True
    width: int = 128
    mlp_width: int = 96
    vocab_size: int = 257
    rope_theta: float = 10_000.0
    norm_eps: float = 1e-6


SHAPES = [
    Shape(),
    Shape("qwen2", head_dim=16, num_kv_heads=2, tie_embeddings=False),
    Shape("llama", head_dim=24, num_heads=6, num_kv_heads=1, width=100, mlp_width=37, vocab_size=61),
    Shape("qwen3", head_dim=64, num_heads=3, num_kv_heads=3, width=80, rope_theta=500.0, norm_eps=1e-2),
    Shape("llama", head_dim=128, num_heads=2, num_kv_heads=1, tie_embeddings=False, vocab_size=1001),
    Shape("qwen2", head_dim=6, num_heads=5, num_kv_heads=5, width=30, mlp_width=8, vocab_size=8),
    Shape("qwen3", head_dim=2, num_heads=1, num_kv_heads=1, width=9, vocab_size=16),
    Shape("qwen3", head_dim=112, num_heads=2, num_kv_heads=2, width=64, vocab_size=33),
]


@pytest.fixture
def two_threads() -> Iterator[None]:
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(1)


def make(small_model: MakeModel, shape: Shape) -> Transformer:
    """With weights such as training leaves: every logit matters, and none is out of all proportion."""
    model = small_model(**dataclasses.asdict(shape), context_length=96)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" not in name:
                parameter *= parameter.shape[-1] ** -0.5 / 0.3
    return model


def decoder(model: Transformer, *, bfloat16: bool, rows: int = 8, sampling: Sampling | None = None) -> NativeDecoder:
    assert not isinstance(LIBRARY, str)
    return NativeDecoder(
        model, sampling or Sampling(), stop=(), rows=rows, positions=90, bfloat16=bfloat16, library=LIBRARY
    )


def texts(model: Transformer, lengths: Sequence[int]) -> list[list[int]]:
    generator = torch.Generator().manual_seed(5)
    return [torch.randint(0, model.config.vocab_size, (n,), generator=generator).tolist() for n in lengths]


@torch.no_grad()
def full(model: Transformer, text: Sequence[int]) -> Tensor:
    tokens = torch.tensor([text])
    return model(tokens, torch.arange(len(text))[None], torch.zeros_like(tokens))[0, -1]


LENGTHS = (1, 2, 15, 16, 17, 33, 64, 80, 80)


def native_and_full(model: Transformer, *, bfloat16: bool) -> tuple[Tensor, Tensor]:
    """Log-probabilities of the next token after texts of several lengths."""
    native, prompts = decoder(model, bfloat16=bfloat16, rows=len(LENGTHS)), texts(model, LENGTHS)
    native.read({row: Start(text, torch.zeros(1)) for row, text in enumerate(prompts)})
    found = native.logits(range(len(LENGTHS))).log_softmax(-1)
    expected = torch.stack([full(model, text) for text in prompts]).float().log_softmax(-1)
    return found, expected


def rms(x: Tensor) -> float:
    return float(x.square().mean().sqrt())


@needs_library
@pytest.mark.parametrize("shape", SHAPES, ids=lambda s: f"{s.architecture}-{s.head_dim}")
def test_in_float32_logprobs_are_those_of_the_full_forward(shape: Shape, small_model: MakeModel) -> None:
    found, expected = native_and_full(make(small_model, shape), bfloat16=False)
    assert expected.std(-1).min() > 0.2, "flat distributions would prove nothing"
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)


@needs_library
@pytest.mark.skipif(not has_bfloat16, reason="no products in bfloat16")
@pytest.mark.parametrize("shape", SHAPES, ids=lambda s: f"{s.architecture}-{s.head_dim}")
def test_in_bfloat16_logprobs_are_nearer_to_float32_than_those_of_autocast(
    shape: Shape, small_model: MakeModel
) -> None:
    model = make(small_model, shape)
    found, expected = native_and_full(model, bfloat16=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        _, autocast = native_and_full(model, bfloat16=True)
    assert rms(found - expected) < rms(autocast - expected) < 0.02


@needs_library
@pytest.mark.parametrize("shape", SHAPES, ids=lambda s: f"{s.architecture}-{s.head_dim}")
def test_greedy_answers_are_those_of_pytorch(
    shape: Shape, small_model: MakeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make(small_model, shape)
    requests = [Request(text, 0) for text in texts(model, (3, 20, 7, 7))]
    greedy = Sampling(temperature=0, max_new_tokens=30)
    native = generate(model, requests, greedy, stop=(3,))
    monkeypatch.setenv("TRIVIUM_NATIVE", "0")
    slow = generate(model, requests, greedy, stop=(3,))
    assert [(a.tokens, a.stop) for a in native] == [(a.tokens, a.stop) for a in slow]
    for a, b in zip(native, slow, strict=True):
        assert a.logprobs == pytest.approx(b.logprobs, abs=1e-4)


@needs_library
@pytest.mark.parametrize("precision", ["auto", "float32"])
@pytest.mark.parametrize("shape", SHAPES[:4], ids=lambda s: f"{s.architecture}-{s.head_dim}")
def test_an_answer_is_the_same_to_the_bit_in_any_company_and_on_any_number_of_threads(
    shape: Shape, precision: str, small_model: MakeModel, two_threads: None
) -> None:
    model, chance = make(small_model, shape), random.Random(0)
    requests = [Request(text, 50 + i) for i, text in enumerate(texts(model, (3, 17, 1, 9, 9, 30, 5, 70, 2)))]
    requests += [Request(requests[1].prompt, seed) for seed in range(60, 110)]
    sampling = Sampling(temperature=1.1, max_new_tokens=40)
    torch.set_num_threads(1)
    alone = [generate(model, [request], sampling, stop=(2,), precision=precision)[0] for request in requests]  # type: ignore[arg-type]
    for threads, rows in ((1, 1), (1, 7), (1, 128), (2, 2), (2, 3), (2, 128), (3, 128)):
        torch.set_num_threads(threads)
        chosen = chance.sample(range(len(requests)), chance.randint(20, len(requests)))
        together = generate(
            model,
            [requests[i] for i in chosen],
            sampling,
            stop=(2,),
            batch_rows=rows,
            precision=precision,  # type: ignore[arg-type]
        )
        assert together == [alone[i] for i in chosen], "tokens, stops and log-probabilities"
    assert len({len(answer.tokens) for answer in alone}) > 4, "answers all of one length would prove little"


@needs_library
@pytest.mark.parametrize("temperature", [0.6, 1.0, 3.0])
def test_tokens_are_chosen_as_sampling_says(temperature: float, small_model: MakeModel) -> None:
    """The same uniform numbers, the same logits: the same tokens, but where rounding decides."""
    model = make(small_model, Shape(vocab_size=1001))
    sampling = Sampling(temperature=temperature, max_new_tokens=1)
    uniform = torch.cat(
        [random_stream(1, 997), torch.tensor([0.0, 0.5, 1.0]).nextafter(torch.tensor(0.0)).clamp(min=0)]
    )
    native = decoder(model, bfloat16=False, rows=16, sampling=sampling)
    (text,) = texts(model, (9,))
    found = []
    for first in range(0, 1000, 10):
        native.read({row: Start(text, uniform[first + row : first + row + 1]) for row in range(10)})
        found += native.write(range(10), steps=16)
    logits = full(model, text)
    expected = choose(logits.expand(1000, -1), sampling, uniform)
    tokens = torch.tensor([piece.tokens for piece in found])[:, 0]
    assert (tokens != expected).sum() <= 2
    logprobs = torch.tensor([piece.logprobs for piece in found])[:, 0]
    torch.testing.assert_close(logprobs, (logits / temperature).log_softmax(-1)[tokens], atol=1e-4, rtol=0)


@needs_library
def test_a_model_that_says_nothing_sensible_still_writes_tokens(small_model: MakeModel) -> None:
    for broken in (float("nan"), float("inf"), 1e30):
        model = small_model()
        with torch.no_grad():
            model.lm_head.weight[7:9] = broken
        for temperature in (0.0, 1.0):
            sampling = Sampling(temperature=temperature, max_new_tokens=20)
            answers = generate(model, [Request([1, 2, 3], seed) for seed in range(4)], sampling, stop=())
            assert all(0 <= token < 61 for answer in answers for token in answer.tokens)


@needs_library
def test_weights_that_change_between_two_calls_count(small_model: MakeModel) -> None:
    model, request = small_model(), Request([5, 6, 7], 1)
    before = generate(model, [request], Sampling(), stop=())
    with torch.no_grad():
        model.layers[0].mlp.down_proj.weight += 0.5
    assert generate(model, [request], Sampling(), stop=()) != before


def test_what_writes_is_told_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    processor = torch.device("cpu")
    assert decoder_in_use(processor).startswith("PyTorch (" if isinstance(LIBRARY, str) else "C++ (")
    assert decoder_in_use(torch.device("meta")) == "PyTorch (the model is on meta)"
    monkeypatch.setenv("TRIVIUM_NATIVE", "0")
    assert decoder_in_use(processor) == "PyTorch (TRIVIUM_NATIVE=0)"
    assert native_library(processor) == "TRIVIUM_NATIVE=0"
