"""Hugging Face folders, in and out: config.json, model.safetensors, generation_config.json. Tensors only, no pickle."""

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from trivium.errors import CheckpointError
from trivium.model.heads import RewardModel
from trivium.model.shape import ModelConfig
from trivium.model.transformer import Transformer

CLASSES = {"qwen3": "Qwen3", "qwen2": "Qwen2", "llama": "Llama"}


def to_hub_config(config: ModelConfig, *, reward: bool = False) -> dict[str, object]:
    """What config.json says, so that transformers builds the same model."""
    name = CLASSES[config.architecture]
    described: dict[str, object] = {
        "architectures": [f"{name}ForSequenceClassification" if reward else f"{name}ForCausalLM"],
        "model_type": config.architecture,
        "vocab_size": config.vocab_size,
        "num_hidden_layers": config.num_layers,
        "hidden_size": config.width,
        "num_attention_heads": config.num_heads,
        "num_key_value_heads": config.num_kv_heads,
        "head_dim": config.head_dim,
        "intermediate_size": config.mlp_width,
        "max_position_embeddings": config.context_length,
        "rope_theta": config.rope_theta,
        "rope_parameters": {"rope_type": "default", "rope_theta": config.rope_theta},
        "rms_norm_eps": config.norm_eps,
        "tie_word_embeddings": config.tie_embeddings,
        "hidden_act": "silu",
        "attention_bias": False,
        "attention_dropout": 0.0,
        "use_sliding_window": False,
        "torch_dtype": "float32",
    }
    if reward:
        described |= {"num_labels": 1, "id2label": {"0": "reward"}, "label2id": {"reward": 0}}
    return described


def from_hub_config(described: Mapping[str, object], where: str) -> ModelConfig:
    """The shape that a config.json describes; raises CheckpointError for what this decoder cannot do exactly."""
    kind = described.get("model_type")
    if kind not in CLASSES:
        raise CheckpointError(f"{where}: model_type {kind!r} is not one of {', '.join(CLASSES)}; convert it first")
    unsupported = {"use_sliding_window": False, "attention_bias": kind == "qwen2", "mlp_bias": False}
    for key, needed in unsupported.items():
        if key in described and kind != "qwen2" and described[key] != needed:
            raise CheckpointError(f"{where}: {key} = {described[key]!r} is not supported; only {needed!r} is")
    rope = described.get("rope_parameters") or described.get("rope_scaling") or {}
    assert isinstance(rope, Mapping)
    if rope.get("rope_type", rope.get("type", "default")) != "default":
        raise CheckpointError(f"{where}: rope_type {rope.get('rope_type')!r} is not supported; only 'default' is")
    heads, width = described["num_attention_heads"], described["hidden_size"]
    assert isinstance(heads, int)
    assert isinstance(width, int)
    return ModelConfig.model_validate(
        {
            "architecture": kind,
            "vocab_size": described["vocab_size"],
            "num_layers": described["num_hidden_layers"],
            "width": width,
            "num_heads": heads,
            "num_kv_heads": described.get("num_key_value_heads", heads),
            "head_dim": described.get("head_dim") or width // heads,
            "mlp_width": described["intermediate_size"],
            "context_length": described["max_position_embeddings"],
            "rope_theta": rope.get("rope_theta", described.get("rope_theta", 10_000.0)),
            "norm_eps": described["rms_norm_eps"],
            "tie_embeddings": described.get("tie_word_embeddings", False),
        }
    )


def save(model: Transformer | RewardModel, folder: Path, *, stop_tokens: list[int], pad_token: int) -> None:
    """Write the model into `folder` as transformers reads it: weights in float32, config, generation defaults."""
    reward = isinstance(model, RewardModel)
    tensors = hub_tensors(model)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    described = to_hub_config(model.config, reward=reward) | {"eos_token_id": stop_tokens, "pad_token_id": pad_token}
    (folder / "config.json").write_text(json.dumps(described, indent=2) + "\n")
    if not reward:
        defaults = {"eos_token_id": stop_tokens, "pad_token_id": pad_token, "do_sample": True, "temperature": 0.7}
        (folder / "generation_config.json").write_text(json.dumps(defaults, indent=2) + "\n")


def hub_tensors(model: Transformer | RewardModel) -> dict[str, Tensor]:
    """The model's tensors under Hugging Face's names; a tied output matrix is not repeated."""
    trunk = model.trunk if isinstance(model, RewardModel) else model
    tensors = {
        (name if name.startswith("lm_head") else f"model.{name}"): tensor.detach().contiguous().cpu()
        for name, tensor in trunk.state_dict().items()
        if not (name.startswith("lm_head") and (model.config.tie_embeddings or isinstance(model, RewardModel)))
    }
    if isinstance(model, RewardModel):
        tensors["score.weight"] = model.score.weight.detach().contiguous().cpu()
    return tensors


def read_config(folder: Path) -> ModelConfig:
    """The shape of the model in `folder`; raises CheckpointError when it is not a model folder."""
    path = folder / "config.json"
    if not path.is_file():
        raise CheckpointError(f"{folder}: has no config.json; name a model folder such as runs/NAME/instruct")
    try:
        described = json.loads(path.read_text())
        return from_hub_config(described, str(path))
    except (ValueError, KeyError) as reason:
        raise CheckpointError(f"{path}: cannot be read ({reason}); fetch or train the model again") from reason


def load(folder: Path, *, device: torch.device | str = "cpu") -> Transformer:
    """The language model of a Hugging Face folder, in float32."""
    model = Transformer(read_config(folder))
    _fill(model, folder, prefix="model.")
    return model.to(device)


def load_reward(folder: Path, *, device: torch.device | str = "cpu") -> RewardModel:
    """The reward model of a folder that `save` wrote."""
    model = RewardModel(Transformer(read_config(folder)))
    model.trunk.lm_head.weight = model.trunk.embed_tokens.weight  # it has no words to say
    _fill(model, folder, prefix="trunk.")
    return model.to(device)


@torch.no_grad()
def _fill(model: nn.Module, folder: Path, *, prefix: str) -> None:
    """Copy the folder's tensors into the model; every parameter must find its tensor, with its shape."""
    named = dict(model.named_parameters())  # shared parameters appear once
    missing = set(named)
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(str(path), framework="pt") as file:
            for key in file.keys():  # noqa: SIM118 - safe_open is not a mapping
                name = key.removeprefix("model.") if prefix == "model." else key.replace("model.", "trunk.", 1)
                if name not in named:
                    continue
                tensor = file.get_tensor(key)
                if tensor.shape != named[name].shape:
                    raise CheckpointError(
                        f"{path}: {key} has shape {tuple(tensor.shape)}, config.json says {tuple(named[name].shape)}"
                    )
                named[name].copy_(tensor)
                missing.discard(name)
    if missing:
        raise CheckpointError(f"{folder}: {min(missing)} and {len(missing) - 1} more tensors are missing")
