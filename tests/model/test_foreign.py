"""Others' folders: the same logits from the same weights, more rows where words were added, and no guessing."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import Tensor

from tests.foreign import SORTS, write_folder
from trivium.errors import CheckpointError
from trivium.generate.engine import Request, generate
from trivium.generate.sampling import Sampling
from trivium.model import hub
from trivium.model.rope import stretched
from trivium.model.shape import ModelConfig
from trivium.model.transformer import Transformer, grow

MakeModel = Callable[..., Transformer]


def ids(vocabulary: int = 380) -> Tensor:
    return torch.randint(vocabulary, (3, 100), generator=torch.Generator().manual_seed(5))


@torch.no_grad()
def logits(model: Transformer, tokens: Tensor) -> Tensor:
    positions = torch.arange(tokens.shape[1]).expand_as(tokens)
    return model(tokens, positions, torch.zeros_like(tokens))


@torch.no_grad()
def their_logits(folder: Path, tokens: Tensor) -> Tensor:
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    found: Tensor = model(tokens).logits
    return found


@pytest.mark.parametrize("sort", SORTS)
def test_logits_are_those_of_transformers(sort: str, tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "m", **SORTS[sort])
    expected = their_logits(folder, ids())
    torch.testing.assert_close(logits(hub.load(folder), ids()), expected, atol=1e-4, rtol=1e-4)
    assert expected.std() > 0.5
    assert (len(hub.weight_files(folder)) > 1) is ("sharded" in sort)


@pytest.mark.parametrize("sort", [sort for sort in SORTS if "llama" in sort])
def test_what_is_read_is_written_back_the_same(sort: str, tmp_path: Path) -> None:
    model = hub.load(write_folder(tmp_path / "m", **SORTS[sort]))
    (tmp_path / "ours").mkdir()
    hub.save(model, tmp_path / "ours", stop_tokens=[1], pad_token=2)
    assert hub.read_config(tmp_path / "ours") == model.config
    torch.testing.assert_close(their_logits(tmp_path / "ours", ids()), logits(model, ids()), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("sort", [sort for sort in SORTS if "llama" in sort])
def test_what_is_written_with_stretched_positions_is_what_is_learned(sort: str, tmp_path: Path) -> None:
    model = hub.load(write_folder(tmp_path / "m", **SORTS[sort]))
    prompt = ids()[0, :60].tolist()
    written = generate(model, [Request(prompt, 0)], Sampling(temperature=0, max_new_tokens=20), stop=[])[0].tokens
    whole = torch.tensor([[*prompt, *written]])
    assert logits(model, whole)[0, 59:-1].argmax(-1).tolist() == written


def test_llama_3_slows_what_turns_seldom_and_leaves_what_turns_often() -> None:
    """In 1024 positions: 0.5, 1, 2.5, 4 and 8 turns; low 1, high 4, factor 8."""
    turns = torch.tensor([0.5, 1.0, 2.5, 4.0, 8.0])
    slower = stretched(turns * 2 * torch.pi / 1024, (8.0, 1.0, 4.0, 1024.0)) * 1024 / (2 * torch.pi)
    torch.testing.assert_close(slower, torch.tensor([0.5 / 8, 1 / 8, 2.5 * (0.5 + 0.5 / 8), 4.0, 8.0]))


@pytest.mark.parametrize("scaling", [[0.5], [2.0, 3.0], [8.0, 4.0, 1.0, 64.0]])
def test_a_stretching_that_nobody_knows_is_refused(scaling: list[float]) -> None:
    with pytest.raises(ValueError, match="rope_scaling"):
        ModelConfig.model_validate({"rope_scaling": scaling})


@pytest.mark.parametrize("tied", [True, False])
def test_added_words_start_as_the_mean_of_the_others_and_change_no_other_logit(
    tied: bool, small_model: MakeModel
) -> None:
    model, before = small_model(tie_embeddings=tied), small_model(tie_embeddings=tied)
    grow(model, known=61, tokens=64)
    assert model.config.vocab_size == 64
    assert (model.lm_head.weight is model.embed_tokens.weight) is tied
    for layer in ("embed_tokens", "lm_head"):
        rows, old = model.get_parameter(f"{layer}.weight"), before.get_parameter(f"{layer}.weight")
        assert torch.equal(rows[:61], old)
        torch.testing.assert_close(rows[61:], old.mean(0).expand(3, -1))
    torch.testing.assert_close(logits(model, ids(61)[:, :40])[..., :61], logits(before, ids(61)[:, :40]))
    assert {name for name, _ in model.named_parameters()} == {name for name, _ in before.named_parameters()}


def test_added_words_take_rows_of_the_padding_first(small_model: MakeModel) -> None:
    model, before = small_model(), small_model()
    grow(model, known=50, tokens=53)
    assert model.config.vocab_size == 61
    rows, old = model.embed_tokens.weight, before.embed_tokens.weight
    assert torch.equal(torch.cat([rows[:50], rows[53:]]), torch.cat([old[:50], old[53:]]))
    torch.testing.assert_close(rows[50:53], old[:50].mean(0).expand(3, -1))


def complaint(folder: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        hub.check_weights(folder)
    with pytest.raises(CheckpointError) as again:
        hub.load(folder)
    assert str(again.value) == str(caught.value)
    return str(caught.value)


def rewrite_tensors(folder: Path, **changed: Tensor) -> Path:
    tensors = load_file(folder / "model.safetensors")
    save_file({**tensors, **changed}, folder / "model.safetensors")
    return folder


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "m", shard="20KB")
    gone = hub.weight_files(folder)[1]
    gone.unlink()
    assert f"{gone.name} is missing, model.safetensors.index.json names it" in complaint(folder)


@pytest.mark.parametrize("index", ["{", "[]", '{"weight_map": {"a": 3}}', '{"weight_map": null}'])
def test_a_malformed_index_is_named(index: str, tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "m", shard="20KB")
    (folder / hub.INDEX).write_text(index)
    assert "index.json: cannot be read" in complaint(folder)


def test_an_index_reads_no_file_outside_of_the_folder(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "m", shard="20KB")
    described = json.loads((folder / hub.INDEX).read_text())
    described["weight_map"] = dict.fromkeys(described["weight_map"], "../outside.safetensors")
    (folder / hub.INDEX).write_text(json.dumps(described))
    (tmp_path / "outside.safetensors").write_bytes(b"")
    assert "outside.safetensors is missing" in complaint(folder)


def test_a_tensor_without_a_place_is_not_left_out_in_silence(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "m", kind="Llama")
    rewrite_tensors(folder, **{"model.layers.0.self_attn.q_proj.bias": torch.zeros(24)})
    assert "model.layers.0.self_attn.q_proj.bias has no place in the model" in complaint(folder)


def test_frequencies_that_old_folders_keep_are_passed_over(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "m", kind="Llama")
    rewrite_tensors(folder, **{"model.layers.0.self_attn.rotary_emb.inv_freq": torch.zeros(3)})
    hub.load(folder)


def test_numbers_that_are_quantised_are_refused(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "m", kind="Llama")
    rewrite_tensors(folder, **{"model.norm.weight": torch.zeros(24, dtype=torch.float8_e4m3fn)})
    assert "model.norm.weight is of F8_E4M3; fetch the model in one of F32, F16, BF16" in complaint(folder)


def test_an_output_that_is_said_to_be_the_embedding_must_be_it(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "m", tie_word_embeddings=True)
    embedding = load_file(folder / "model.safetensors")["model.embed_tokens.weight"]
    hub.load(rewrite_tensors(folder, **{"lm_head.weight": embedding.clone()}))
    rewrite_tensors(folder, **{"lm_head.weight": embedding + 1})
    with pytest.raises(CheckpointError, match=r"lm_head\.weight differs from the embedding"):
        hub.load(folder)


def test_pickles_are_not_opened(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "m")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    assert "its weights are missing, it has no model.safetensors; convert its .bin files" in complaint(folder)


UNSUPPORTED: dict[str, dict[str, Any]] = {
    "quantization_config": {"quantization_config": {"quant_method": "gptq"}},
    "use_mrope": {"use_mrope": True},
    "model_type": {"model_type": "qwen3_moe"},
    "rope_type": {"rope_parameters": {"rope_type": "dynamic", "factor": 4.0, "rope_theta": 1e4}},
    "cannot be read": {"rope_parameters": {"rope_type": "llama3", "factor": 4.0, "rope_theta": 1e4}},
}


@pytest.mark.parametrize("what", UNSUPPORTED)
def test_what_cannot_be_done_exactly_is_refused_by_name(what: str, tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "m")
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | UNSUPPORTED[what]))
    assert what in complaint(folder)


def test_the_fingerprint_names_the_weights(tmp_path: Path) -> None:
    whole, parts = write_folder(tmp_path / "a"), write_folder(tmp_path / "b", shard="20KB")
    assert hub.fingerprint(whole) == hub.fingerprint(write_folder(tmp_path / "c"))
    before = hub.fingerprint(parts)
    assert before != hub.fingerprint(whole)
    last = hub.weight_files(parts)[-1]
    last.write_bytes(last.read_bytes() + b" ")
    assert hub.fingerprint(parts) != before
