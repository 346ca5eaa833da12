"""The benchmark of pretraining: who is compared with, and that a step is as much text for everybody."""

import pytest
import torch

from benchmarks.pretrain import (
    ROW,
    ROWS,
    Found,
    Kind,
    Peer,
    Result,
    Text,
    contenders,
    interleaved,
    peers,
    plain_loop,
    products,
    summary,
)
from benchmarks.shapes import SHAPES
from trivium.compute import Compute

TINY = {"num_layers": 1, "width": 16, "num_heads": 2, "num_kv_heads": 1, "mlp_width": 16, "vocab_size": 40}


def result(name: str, kind: Kind, speeds: list[float], ceiling: list[float]) -> Result:
    return Result(name, kind, "", speeds, ceiling)


def test_ratios_are_of_the_fastest_peer_in_its_best_setting_and_as_it_comes() -> None:
    ceiling = [50.0, 180.0, 120.0]  # in the first turn a neighbour worked
    ours = result("ours", Kind.OURS, [40.0, 90.0, 60.0], ceiling)
    slow = result("slow", Kind.AT_ITS_BEST, [5.0] * 3, ceiling)
    fast = result("fast", Kind.AT_ITS_BEST, [20.0, 30.0, 20.0], ceiling)
    default = result("as it comes", Kind.AS_IT_COMES, [10.0, 10.0, 10.0], ceiling)
    found = {"ratio": 3.0, "ratio_default": 6.0, "ceiling": 0.5}
    assert summary(Found({}, [ours, slow, fast, default])) == found
    some = result("ours", Kind.OURS, [80.0, 180.0, 120.0], [100.0, 200.0, 150.0])
    ratios = {"ratio": 6.0, "ratio_default": 12.0, "ceiling": 0.8, "all_tokens": found}
    assert summary(Found({}, [some, ours, slow, fast, default])) == ratios


def test_ours_stands_a_second_time_with_all_tokens_where_the_dial_tells_some_apart(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("benchmarks.pretrain.peers", lambda dtype, quick: {})
    monkeypatch.setattr("benchmarks.pretrain.ours", lambda text, shape, compute, rows, known: None)
    text, compute = Text(None, None, torch.empty(0)), Compute(torch.device("cpu"), torch.float32, False)  # type: ignore[arg-type]
    small, middle = (list(contenders(text, SHAPES[size], compute, quick=True)) for size in "SM")
    assert [(who.name, who.known) for who in small] == [("ours", 2048)]
    assert [(who.name, who.known) for who in middle] == [("ours", 1024), ("ours, all tokens apart", 8192)]


def test_every_way_is_timed_in_every_turn() -> None:
    taken: list[tuple[str, int]] = []

    def timed(name: str, seconds: float):
        return lambda steps: (taken.append((name, steps)), seconds * steps)[1]

    found = interleaved({"a": timed("a", 1.0), "b": timed("b", 2.0)}, 2, 3)
    assert taken == [("a", 3), ("b", 3)] * 2
    assert found == {"a": [ROWS * ROW] * 2, "b": [ROWS * ROW / 2] * 2}


def test_peers_come_compiled_and_not_and_as_they_are() -> None:
    found = peers(torch.bfloat16, quick=False)
    assert {peer.attention for peer in found["Trainer, compiled"]} == {"sdpa", "eager"}
    assert {peer.rows for peer in found["Trainer, eager"]} == {4, 8, 16}
    assert all(ROWS % peer.rows == 0 for every in found.values() for peer in every)
    for name in ("plain loop as it comes", "Trainer as it comes"):
        assert {(peer.dtype, peer.compiled) for peer in found[name]} == {(torch.float32, False)}


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_the_plain_loop_runs_with_the_attention_that_was_asked_for(attention: str) -> None:
    peer = Peer(plain_loop, torch.float32, False, attention, 8)
    assert peer.model(TINY).config._attn_implementation == attention
    assert plain_loop(peer, TINY, torch.randint(40, (20, ROW)))(1) > 0


def test_the_ceiling_is_timed_as_steps_are() -> None:
    assert products(TINY, torch.float32)(2) > 0
