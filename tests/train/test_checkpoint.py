"""The state of a phase comes back to the bit, from the newest checkpoint that is whole."""

import json
import os
import random
import signal
import time
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from trivium.publish import publish
from trivium.train.checkpoint import flatten, latest, save, unflatten

pytestmark = pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")

DTYPES = [
    torch.bfloat16, torch.float16, torch.float32, torch.float64, torch.float8_e4m3fn, torch.complex64,
    torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.uint16, torch.uint64,
]  # fmt: skip


def silent(told: str) -> None:
    raise AssertionError(told)


def raw(tensor: Tensor) -> Tensor:
    """Its bytes: as values, NaN is unequal to itself and -0 equals 0."""
    return tensor.detach().contiguous().reshape(-1).view(torch.uint8)


def round_trip(folder: Path, state: object) -> object:
    tensors, meta = flatten(state)
    save(folder, 1, tensors, meta)
    loaded = latest(folder, silent)
    assert loaded
    return unflatten(loaded.tensors, loaded.meta)


def assert_same(one: object, other: object) -> None:
    """Equal in type, structure and bits."""
    assert type(one) is type(other)
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        assert (one.dtype, one.shape) == (other.dtype, other.shape)
        assert torch.equal(raw(one), raw(other))
    elif isinstance(one, dict) and isinstance(other, dict):
        assert list(one) == list(other)
        for key in one:
            assert_same(one[key], other[key])
    elif isinstance(one, list | tuple) and isinstance(other, list | tuple):
        assert len(one) == len(other)
        for left, right in zip(one, other, strict=True):
            assert_same(left, right)
    else:
        assert repr(one) == repr(other)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_dtype_and_shape_comes_back_to_the_bit(tmp_path: Path, dtype: torch.dtype) -> None:
    size = torch.empty(0, dtype=dtype).element_size()
    noise = torch.randint(0, 2 if dtype == torch.bool else 256, (24 * size,), dtype=torch.uint8)
    values = noise.view(dtype)  # any bit pattern: NaN with payload, infinities, -0, denormals
    tensors = {
        "matrix": values.view(4, 6),
        "number": values[3].clone(),
        "empty": values[:0].clone(),
        "turned": values.view(4, 6).t(),
    }
    save(tmp_path, 7, tensors, {"best": float("inf"), "worst": float("nan"), "seed": 2**63, "rate": 0.1})
    loaded = latest(tmp_path, silent)
    assert loaded
    assert_same(dict(sorted(loaded.tensors.items())), dict(sorted(tensors.items())))
    assert repr(loaded.meta) == "{'best': inf, 'worst': nan, 'seed': 9223372036854775808, 'rate': 0.1}"
    assert loaded.step == 7


def test_tensors_that_share_memory_come_back_and_tied_ones_are_tied_again(tmp_path: Path) -> None:
    memory = torch.arange(1000.0)
    tensors = {"whole": memory, "tied": memory, "turned": memory.view(10, 100).t(), "flat": memory.view(10, 100)}
    tensors |= {"slice": memory[5:9], "strided": memory[::7], "tied.weight": nn.Parameter(memory)}
    save(tmp_path, 1, tensors, {})
    loaded = latest(tmp_path, silent)
    assert loaded
    for name, tensor in tensors.items():
        assert torch.equal(loaded.tensors[name], tensor)
    assert loaded.tensors["tied"] is loaded.tensors["whole"] is loaded.tensors["tied.weight"]
    assert loaded.tensors["flat"].data_ptr() != loaded.tensors["whole"].data_ptr()
    # whole, turned and flat in full, but not the tied ones
    assert (tmp_path / "step-000001" / "state.safetensors").stat().st_size < 4 * 4000


def train(model: nn.Module, optimizers: list[torch.optim.Optimizer], steps: range) -> None:
    for step in steps:
        inputs = torch.randn(8, 6, generator=torch.Generator().manual_seed(step))
        model(inputs).square().mean().backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()


def adamw_and_muon() -> tuple[nn.Module, list[torch.optim.Optimizer]]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 4))
    matrices: list[Tensor] = [parameter for parameter in model.parameters() if parameter.ndim == 2]
    vectors: list[Tensor] = [parameter for parameter in model.parameters() if parameter.ndim == 1]
    groups: list[dict[str, Any]] = [{"params": vectors[:1], "lr": 0.1}, {"params": vectors[1:]}]
    adamw = torch.optim.AdamW(groups, fused=True, amsgrad=True, lr=torch.tensor(0.01))
    return model, [adamw, torch.optim.Muon(matrices, lr=0.01, momentum=0.9)]


def test_adamw_and_muon_go_on_to_the_bit_after_a_round_trip(tmp_path: Path) -> None:
    model, optimizers = adamw_and_muon()
    train(model, optimizers, range(3))
    state: dict[str, Any] = {
        "model": dict(model.state_dict()),
        "optimizers": [optimizer.state_dict() for optimizer in optimizers],
    }
    assert {"exp_avg", "exp_avg_sq", "max_exp_avg_sq", "step"} == state["optimizers"][0]["state"][0].keys()
    assert state["optimizers"][1]["state"][0].keys() == {"momentum_buffer"}
    loaded: Any = round_trip(tmp_path, state)
    assert_same(loaded, state)

    resumed, resumed_optimizers = adamw_and_muon()
    resumed.load_state_dict(loaded["model"])
    for optimizer, its_state in zip(resumed_optimizers, loaded["optimizers"], strict=True):
        optimizer.load_state_dict(its_state)
    train(model, optimizers, range(3, 6))
    train(resumed, resumed_optimizers, range(3, 6))
    assert_same(dict(resumed.state_dict()), dict(model.state_dict()))


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
keys = st.integers() | st.sampled_from(["0", "a", "b", "a/b", "tensor", "dict", "list", "tuple", ""])
tensors_of_any_kind = st.builds(lambda number: torch.tensor(number), st.integers(-9, 9) | st.booleans() | st.floats())
states = st.recursive(
    scalars | tensors_of_any_kind,
    lambda inner: (
        st.lists(inner, max_size=3) | st.lists(inner, max_size=3).map(tuple) | st.dictionaries(keys, inner, max_size=4)
    ),
    max_leaves=12,
)


@given(state=states)
@settings(max_examples=60, deadline=None)
def test_flatten_and_unflatten_are_exact_inverses_through_json(state: object) -> None:
    tensors, meta = flatten(state)
    assert_same(unflatten(tensors, json.loads(json.dumps(meta))), state)


def test_names_of_flattened_tensors_say_where_they_are() -> None:
    tensors, _ = flatten({"optimizer": {"state": {0: {"exp_avg": torch.zeros(1)}}}, "a": {"b": torch.zeros(1)}})
    assert list(tensors) == ["optimizer/state/0/exp_avg", "a/b"]


def test_what_cannot_be_kept_is_named() -> None:
    with pytest.raises(TypeError, match="model/0/scale: a Fraction cannot be kept in a checkpoint"):
        flatten({"model": [{"scale": Fraction(1)}]})


def save_step(folder: Path, step: int) -> None:
    save(folder, step, {"weight": torch.full((3000,), float(step))}, {"step": step})


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_newest_two_are_kept(tmp_path: Path) -> None:
    for step in (5, 10, 1_000_000, 999_999_999):
        save_step(tmp_path, step)
    assert names(tmp_path) == ["step-1000000", "step-999999999"]
    loaded = latest(tmp_path, silent)
    assert loaded
    assert loaded.step == 999_999_999


def test_going_back_forgets_the_path_not_taken(tmp_path: Path) -> None:
    for step in (300, 600, 900):
        save_step(tmp_path, step)
    save_step(tmp_path, 650)
    assert names(tmp_path) == ["step-000600", "step-000650"]
    save_step(tmp_path, 650)
    assert names(tmp_path) == ["step-000600", "step-000650"]


def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(tmp_path: Path) -> None:
    for step in (300, 600):
        save_step(tmp_path, step)
    path = tmp_path / "step-000600" / "state.safetensors"
    damaged = bytearray(path.read_bytes())
    damaged[-100] ^= 1
    path.write_bytes(damaged)
    told: list[str] = []
    loaded = latest(tmp_path, told.append)
    assert told == [f"{tmp_path}/step-000600: state.safetensors does not match its manifest; going on from step 300"]
    assert loaded
    assert loaded.step == 300
    assert torch.equal(loaded.tensors["weight"], torch.full((3000,), 300.0))
    # it no longer counts as one of the two that are kept, and goes when a new one stands
    assert names(tmp_path) == ["damaged-step-000600", "step-000300"]
    save_step(tmp_path, 700)
    assert names(tmp_path) == ["step-000300", "step-000700"]


def test_when_every_checkpoint_is_damaged_there_is_none(tmp_path: Path) -> None:
    assert latest(tmp_path / "none yet", silent) is None
    for step in (300, 600):
        save_step(tmp_path, step)
    (tmp_path / "step-000600" / "manifest.json").unlink()
    os.truncate(tmp_path / "step-000300" / "state.json", 3)
    told: list[str] = []
    assert latest(tmp_path, told.append) is None
    assert told == [
        f"{tmp_path}/step-000600: has no manifest.json; no earlier checkpoint is left, this phase starts anew",
        f"{tmp_path}/step-000300: state.json does not match its manifest; "
        "no earlier checkpoint is left, this phase starts anew",
    ]


def test_a_folder_that_holds_something_else_is_no_checkpoint(tmp_path: Path) -> None:
    publish(tmp_path / "step-000009", lambda folder: (folder / "state.json").touch())
    told: list[str] = []
    assert latest(tmp_path, told.append) is None
    assert told[0].startswith(f"{tmp_path}/step-000009: holds no training state (")


def test_a_save_killed_at_any_moment_loses_less_than_one_interval(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        os, "fsync", lambda descriptor: None
    )  # a kill loses no flush, and slow ones would use up the time
    chance, seen = random.Random(5), 0
    for _ in range(25):
        saved, theirs = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                for step in range(seen + 1, seen + 1000):
                    save_step(tmp_path, step)
                    os.write(theirs, b".")
            finally:
                os._exit(1)
        os.close(theirs)
        time.sleep(chance.uniform(0, 0.03))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        with os.fdopen(saved, "rb") as told:
            at_least = seen + len(told.read())
        loaded = latest(tmp_path, silent)
        seen = loaded.step if loaded else 0
        assert at_least <= seen <= at_least + 1
        if loaded:
            assert torch.equal(loaded.tensors["weight"], torch.full((3000,), float(seen)))
    assert seen > 10
    save_step(tmp_path, seen)
    assert len(names(tmp_path)) == 2


def test_a_save_clears_what_a_killed_one_left(tmp_path: Path) -> None:
    (tmp_path / ".tmp-step-000003-00000000").mkdir()
    save_step(tmp_path, 6)
    assert names(tmp_path) == ["step-000006"]
