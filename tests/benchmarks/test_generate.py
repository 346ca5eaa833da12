"""The benchmark of writing: everybody writes as much, and the fastest of the peers is who is compared with."""

from benchmarks.generate import Case, compare, line

TINY = {"num_layers": 1, "width": 16, "num_heads": 2, "num_kv_heads": 1, "mlp_width": 16, "vocab_size": 40}


def test_a_case_holds_as_many_speeds_as_repeats() -> None:
    (case,) = compare("tiny", TINY, (2,), repeats=2, new=3)
    assert {name: len(speeds) for name, speeds in case.tokens_per_second.items()} == {
        "native": 2,
        "torch": 2,
        "transformers": 2,
    }
    assert all(speed > 0 for speeds in case.tokens_per_second.values() for speed in speeds)
    assert case.peer in {f"{cache} {dtype}" for cache in ("dynamic", "static") for dtype in ("float32", "bfloat16")}


def test_ratios_are_of_the_same_repeat() -> None:
    case = Case("S", 16, "static float32", {"native": [40, 90], "torch": [1, 1], "transformers": [10, 10]})
    assert case.ratios == [4, 9]
    assert "6.5 (4.0..9.0)" in line(case)
