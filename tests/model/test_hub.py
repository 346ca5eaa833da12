"""A model folder means the same to transformers and to us, in both directions; and a bad one is named."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import Tensor

from trivium.errors import CheckpointError
from trivium.generate.engine import Request, generate
from trivium.generate.sampling import Sampling
from trivium.model import hub
from trivium.model.heads import add_reward_head
from trivium.model.transformer import Transformer
from trivium.text.branches import pack_answers

MakeModel = Callable[..., Transformer]
ARCHITECTURES = ("qwen3", "qwen2", "llama")
SHAPES: dict[str, dict[str, object]] = {
    "grouped": {},
    "one kv head": {"num_kv_heads": 1},
    "a kv head each": {"num_kv_heads": 4},
    "untied": {"tie_embeddings": False},
    "wide heads, far positions": {"head_dim": 12, "rope_theta": 1e6, "norm_eps": 1e-5},
}


@pytest.fixture(autouse=True)
def _quiet() -> None:
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()


def ids(rows: int = 3, length: int = 40, vocabulary: int = 61) -> Tensor:
    return torch.randint(vocabulary, (rows, length), generator=torch.Generator().manual_seed(5))


@torch.no_grad()
def our_logits(model: Transformer, tokens: Tensor) -> Tensor:
    positions = torch.arange(tokens.shape[1]).expand_as(tokens)
    return model(tokens, positions, torch.zeros_like(tokens))


def write(model: Any, folder: Path) -> Path:
    folder.mkdir()
    hub.save(model, folder, stop_tokens=[2, 3], pad_token=6)
    return folder


def rewrite(folder: Path, **changed: object) -> Path:
    """Change config.json."""
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changed))
    return folder


def complaint(folder: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        hub.load(folder)
    told = str(caught.value)
    assert str(folder) in told
    return told


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("shape", SHAPES)
def test_transformers_computes_the_same_logits_from_the_folder_we_write(
    architecture: str, shape: str, small_model: MakeModel, tmp_path: Path
) -> None:
    model = small_model(architecture=architecture, **SHAPES[shape])
    theirs, told = transformers.AutoModelForCausalLM.from_pretrained(
        write(model, tmp_path / "m"), output_loading_info=True
    )
    assert type(theirs).__name__ == f"{hub.CLASSES[architecture]}ForCausalLM"
    assert not any(told.values()), told
    with torch.no_grad():
        expected = theirs(ids()).logits
    torch.testing.assert_close(our_logits(model, ids()), expected, atol=1e-4, rtol=1e-4)
    assert expected.std() > 0.5, "logits near zero would agree with anything"


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_transformers_writes_the_same_thirty_tokens_from_the_folder_we_write(
    architecture: str, small_model: MakeModel, tmp_path: Path
) -> None:
    model = small_model(architecture=architecture)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(write(model, tmp_path / "m"))
    prompt = ids(1, 9)
    found = theirs.generate(
        prompt,
        attention_mask=torch.ones_like(prompt),
        do_sample=False,
        max_new_tokens=30,
        eos_token_id=None,
        temperature=None,
    )
    ours = generate(model, [Request(prompt[0].tolist(), 0)], Sampling(temperature=0, max_new_tokens=30), stop=[])
    assert ours[0].tokens == found[0, 9:].tolist()


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("tied", [True, False])
def test_a_folder_that_transformers_writes_loads_with_the_same_logits(
    architecture: str, tied: bool, tmp_path: Path
) -> None:
    name = hub.CLASSES[architecture]
    config = getattr(transformers, f"{name}Config")(
        vocab_size=61, hidden_size=24, intermediate_size=40, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=48, tie_word_embeddings=tied, rms_norm_eps=1e-5, rope_theta=5e4,
        initializer_range=0.3, **({"head_dim": 8} if name != "Qwen2" else {}),
    )  # fmt: skip
    torch.manual_seed(1)
    theirs = getattr(transformers, f"{name}ForCausalLM")(config)
    with torch.no_grad():
        for parameter in theirs.parameters():  # biases and norms too
            parameter.add_(0.1 * torch.randn(parameter.shape))
        expected = theirs(ids()).logits
    theirs.save_pretrained(tmp_path / "m")
    loaded = hub.load(tmp_path / "m")
    assert loaded.config.tie_embeddings is tied
    torch.testing.assert_close(our_logits(loaded, ids()), expected, atol=1e-4, rtol=1e-4)


def test_a_folder_in_several_files_loads_whole(small_model: MakeModel, tmp_path: Path) -> None:
    model = small_model()
    folder = write(model, tmp_path / "m")
    tensors = load_file(folder / "model.safetensors")
    names = sorted(tensors)
    (folder / "model.safetensors").unlink()
    for number, part in enumerate((names[:7], names[7:]), start=1):
        save_file({name: tensors[name] for name in part}, folder / f"model-{number:05}-of-00002.safetensors")
    assert torch.equal(our_logits(hub.load(folder), ids()), our_logits(model, ids()))


@pytest.mark.parametrize("tied", [True, False])
def test_what_is_saved_comes_back_to_the_bit(tied: bool, small_model: MakeModel, tmp_path: Path) -> None:
    model = small_model(tie_embeddings=tied)
    loaded = hub.load(write(model, tmp_path / "m"))
    assert loaded.config == model.config
    assert (loaded.lm_head.weight is loaded.embed_tokens.weight) is tied
    for (name, mine), (other, its) in zip(model.state_dict().items(), loaded.state_dict().items(), strict=True):
        assert name == other
        assert torch.equal(mine, its)


def test_the_reward_model_scores_packed_answers_as_transformers_does_rows_padded_on_the_right(
    small_model: MakeModel, tmp_path: Path
) -> None:
    """Three answers beside one prompt in one row for us; a row for each of them for the others."""
    model = add_reward_head(small_model(), seed=3)
    folder = write(model, tmp_path / "m")
    theirs, told = transformers.AutoModelForSequenceClassification.from_pretrained(folder, output_loading_info=True)
    assert type(theirs).__name__ == "Qwen3ForSequenceClassification"
    assert not any(told.values()), told
    lengths = torch.tensor([40, 17, 5])
    tokens = ids().masked_fill(ids() == 6, 7)  # the pad token stands nowhere else
    padding = torch.arange(40) >= lengths[:, None]
    tokens[:, :3] = tokens[0, :3]
    prompts = [row[:3].tolist() for row in tokens]
    written = [row[3:length].tolist() for row, length in zip(tokens, lengths, strict=True)]
    answers = pack_answers(prompts, written, row_length=64, pad=6)
    assert answers.tokens.shape == (1, 56)
    tokens = tokens.masked_fill(padding, 6)
    with torch.no_grad():
        ours = model(answers)
        expected = theirs(tokens, attention_mask=(~padding).long()).logits
    assert expected.shape == (3, 1)
    torch.testing.assert_close(ours, expected[:, 0], atol=1e-4, rtol=1e-4)
    again = hub.load_reward(folder)
    with torch.no_grad():
        assert torch.equal(again(answers), ours)


def test_the_generation_defaults_stop_where_we_stop(small_model: MakeModel, tmp_path: Path) -> None:
    folder = write(small_model(), tmp_path / "m")
    defaults = transformers.GenerationConfig.from_pretrained(folder)
    assert (defaults.eos_token_id, defaults.pad_token_id) == ([2, 3], 6)


def test_a_missing_tensor_is_named(small_model: MakeModel, tmp_path: Path) -> None:
    folder = write(small_model(), tmp_path / "m")
    tensors = load_file(folder / "model.safetensors")
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, folder / "model.safetensors")
    assert "layers.1.mlp.up_proj.weight" in complaint(folder)


def test_a_tensor_of_another_shape_is_named_with_both_shapes(small_model: MakeModel, tmp_path: Path) -> None:
    told = complaint(rewrite(write(small_model(), tmp_path / "m"), intermediate_size=48))
    assert "mlp" in told
    assert "(40, 24)" in told or "(24, 40)" in told
    assert "(48, 24)" in told or "(24, 48)" in told


def test_a_folder_without_weights_is_named(small_model: MakeModel, tmp_path: Path) -> None:
    folder = write(small_model(), tmp_path / "m")
    (folder / "model.safetensors").unlink()
    assert "missing" in complaint(folder)


def test_a_folder_without_config_is_no_model_folder(tmp_path: Path) -> None:
    assert "has no config.json" in complaint(tmp_path)


@pytest.mark.parametrize("kept", [0, 5, 200, -1])
def test_a_truncated_file_of_weights_is_named(kept: int, small_model: MakeModel, tmp_path: Path) -> None:
    folder = write(small_model(), tmp_path / "m")
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:kept])
    assert "model.safetensors" in complaint(folder)


FOREIGN: dict[str, dict[str, object]] = {
    "model_type": {"model_type": "gpt2"},
    "no model_type": {"model_type": None},
    "attention_bias": {"attention_bias": True},
    "mlp_bias": {"model_type": "llama", "mlp_bias": True},
    "rope_type": {"rope_parameters": {"rope_type": "yarn", "factor": 4.0, "rope_theta": 1e4}},
    "as of old, rope_type": {"rope_parameters": None, "rope_scaling": {"type": "dynamic", "factor": 2.0}},
    "use_sliding_window": {"use_sliding_window": True},
    "layer_types": {"layer_types": ["sliding_attention", "full_attention"]},
    "hidden_act": {"hidden_act": "gelu"},
    "partial_rotary_factor": {"partial_rotary_factor": 0.5},
}


@pytest.mark.parametrize("what", FOREIGN)
def test_what_this_decoder_cannot_do_exactly_is_refused(what: str, small_model: MakeModel, tmp_path: Path) -> None:
    assert what.split()[-1] in complaint(rewrite(write(small_model(), tmp_path / "m"), **FOREIGN[what]))


def test_a_sliding_window_is_refused_in_qwen2_too(small_model: MakeModel, tmp_path: Path) -> None:
    folder = write(small_model(architecture="qwen2", head_dim=6), tmp_path / "m")
    assert "use_sliding_window" in complaint(rewrite(folder, use_sliding_window=True))


@pytest.mark.parametrize(
    "broken",
    [
        "{", "[]", "3", '"qwen3"', "\ufeff{}",
        '{"model_type": "qwen3"}',
        '{"model_type": "qwen3", "num_attention_heads": null, "hidden_size": 24}',
        '{"model_type": ["qwen3"]}',
    ],
)  # fmt: skip
def test_a_malformed_config_is_refused(broken: str, small_model: MakeModel, tmp_path: Path) -> None:
    folder = write(small_model(), tmp_path / "m")
    (folder / "config.json").write_text(broken)
    assert "config.json" in complaint(folder)


@pytest.mark.parametrize(
    "changed", [{"num_attention_heads": "four"}, {"rope_parameters": [1]}, {"hidden_size": -24}, {"vocab_size": 0}]
)
def test_a_config_of_wrong_types_is_refused(changed: dict[str, object], small_model: MakeModel, tmp_path: Path) -> None:
    assert "config.json" in complaint(rewrite(write(small_model(), tmp_path / "m"), **changed))


def test_a_config_that_promises_more_than_the_file_holds_takes_no_memory(
    small_model: MakeModel, tmp_path: Path
) -> None:
    complaint(rewrite(write(small_model(), tmp_path / "m"), vocab_size=10**10))


def test_a_reward_model_is_not_taken_for_a_language_model(small_model: MakeModel, tmp_path: Path) -> None:
    folder = write(add_reward_head(small_model(), seed=0), tmp_path / "m")
    assert "is a reward model" in complaint(folder)


def test_a_language_model_is_not_taken_for_a_reward_model(small_model: MakeModel, tmp_path: Path) -> None:
    folder = write(small_model(), tmp_path / "m")
    with pytest.raises(CheckpointError, match="score"):
        hub.load_reward(folder)
