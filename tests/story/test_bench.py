"""`trivium bench`: what it counts, and what it says."""

import json

import pytest
import torch

from trivium import cli
from trivium.compute import Compute
from trivium.model.shape import ModelConfig
from trivium.native import layer
from trivium.plan import Machine
from trivium.story import bench

TINY = ModelConfig(vocab_size=64, num_layers=1, width=16, num_heads=2, num_kv_heads=2, mlp_width=32, context_length=128)


def test_sizes_have_the_parameters_of_their_names() -> None:
    millions = {name: size.model.parameters / 1e6 for name, size in bench.sizes("cuda").items()}
    assert millions == {
        "124M": pytest.approx(124, rel=0.02),
        "350M": pytest.approx(350, rel=0.02),
        "1.3B": pytest.approx(1300, rel=0.02),
    }
    assert bench.sizes("cpu")["S"].model.width == 128


@pytest.mark.parametrize(
    ("name", "teraflops"),
    [
        ("NVIDIA H100 80GB HBM3", 989),
        ("NVIDIA H100 PCIe", 756),
        ("NVIDIA L4", 121),
        ("NVIDIA L40S", 362),
        ("NVIDIA L40", 181),
        ("NVIDIA A100-SXM4-80GB", 312),
        ("NVIDIA A10G", 70),
        ("NVIDIA H200 NVL", 835),
        ("NVIDIA GH200 480GB", 989),
        ("NVIDIA RTX A1000", None),
        ("NVIDIA GeForce RTX 4090", 165),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", None),
        ("NVIDIA A100-SXM4-40GB MIG 1g.5gb", None),
        ("AMD EPYC", None),
    ],
)
def test_a_gpu_is_known_by_its_name(name: str, teraflops: float | None) -> None:
    assert bench.peak_of(name) == (None if teraflops is None else teraflops * 1e12)


def test_shares_are_operations_of_the_tokens_over_products_and_promise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "training_speed", lambda *_, **__: 1000.0)
    monkeypatch.setattr(bench, "writing_speed", lambda model, rows: 10.0 * rows)
    machine = Machine("NVIDIA L4", 1, 2**30, "float32", 1e9)
    told = bench.measure_size(
        bench.Size(TINY, 2, 1), Compute(torch.device("cpu"), torch.float32, False), machine, quick=True
    )
    n = 16 * (4 * 16 + 3 * 32) + 64 * 16
    flops = 1000 * (6 * n + 12 * 1 * 2 * 8 * 128)
    assert told["share_of_matmul"] == pytest.approx(flops / 1e9)
    assert told["utilisation"] == pytest.approx(flops / 121e12)


def test_the_verb_measures_training_and_writing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    measure = bench.measure_machine
    monkeypatch.setattr(bench, "measure_machine", lambda compute: measure(compute, seconds=0.01))
    monkeypatch.setattr(bench, "sizes", lambda device: {"tiny": bench.Size(TINY, 4, 2), "more": bench.Size(TINY, 4, 2)})
    monkeypatch.setattr(layer, "is_here", lambda device: False)
    monkeypatch.setattr(bench, "compiling_obstacle", lambda device: "it would take a while")
    threads = torch.get_num_threads()
    try:
        cli.main(["bench", "--device", "cpu", "--quick", "--json"])
        found = json.loads(capsys.readouterr().out)
        bench.print_speed(found)
    finally:
        torch.set_num_threads(threads)
    assert list(found["sizes"]) == ["tiny"]
    assert found["sizes"]["tiny"]["tokens_per_second"] > 0
    assert found["sizes"]["tiny"]["writing_tokens_per_second"].keys() == {"1", "16"}
    assert found["machine"]["peak_flops"] is None
    said = capsys.readouterr().out
    assert "TFLOP/s measured in large matrix products" in said
    assert "it would take a while" in said
