"""Hugging Face folders, in and out: config.json, model.safetensors, generation_config.json. Tensors only, no pickle."""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from trivium.errors import CheckpointError
from trivium.model.heads import RewardModel
from trivium.model.shape import ModelConfig
from trivium.model.transformer import Transformer

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"  # which file holds which tensor, where there are several
KINDS = ("F32", "F16", "BF16", "F64")  # of numbers; others are quantised, and mean nothing without their scales
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
        "rope_parameters": _rope_parameters(config),
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


def _rope_parameters(config: ModelConfig) -> dict[str, object]:
    described: dict[str, object] = {"rope_type": "default", "rope_theta": config.rope_theta}
    if config.rope_scaling:
        described |= {"rope_type": "linear", "factor": config.rope_scaling[0]}
    if len(config.rope_scaling) == 4:
        _, low, high, original = config.rope_scaling
        described |= {"rope_type": "llama3", "low_freq_factor": low, "high_freq_factor": high}
        described["original_max_position_embeddings"] = int(original)
    return described


def _rope_scaling(rope: Mapping[str, Any]) -> list[float] | None:
    """As ModelConfig writes it; None when it is of a kind that we do not know."""
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind == "llama3":
        keys = ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings")
        return [rope[key] for key in keys]
    if kind == "linear":
        return [rope["factor"]]
    return [] if kind == "default" else None


def from_hub_config(described: Mapping[str, Any], where: str) -> ModelConfig:
    """The shape that a config.json describes; raises CheckpointError for what this decoder cannot do exactly."""
    kind = described.get("model_type")
    if kind not in CLASSES:
        raise CheckpointError(f"{where}: model_type {kind!r} is not one of {', '.join(CLASSES)}; convert it first")
    rope = described.get("rope_parameters") or described.get("rope_scaling") or {}
    scaling = _rope_scaling(rope)
    layers = set(described.get("layer_types") or ["full_attention"])
    exact = {
        "hidden_act": described.get("hidden_act", "silu") == "silu",
        "use_sliding_window": not described.get("use_sliding_window"),
        "attention_bias": not described.get("attention_bias"),
        "mlp_bias": not described.get("mlp_bias"),
        "layer_types": layers == {"full_attention"},
        "partial_rotary_factor": described.get("partial_rotary_factor", 1.0) == 1.0,
        "rope_type": scaling is not None,
        "use_mrope": not described.get("use_mrope"),
        "quantization_config": not described.get("quantization_config"),
    }
    for key, is_exact in exact.items():
        if not is_exact:
            value = described.get(key, rope.get(key, rope.get("type")))
            raise CheckpointError(f"{where}: {key} = {value!r} is not supported; its answers would be wrong")
    heads, width = int(described["num_attention_heads"]), int(described["hidden_size"])
    return ModelConfig.model_validate(
        {
            "architecture": kind,
            "vocab_size": described["vocab_size"],
            "num_layers": described["num_hidden_layers"],
            "width": width,
            "num_heads": heads,
            "num_kv_heads": described.get("num_key_value_heads") or heads,
            "head_dim": described.get("head_dim") or width // heads,
            "mlp_width": described["intermediate_size"],
            "context_length": described["max_position_embeddings"],
            "rope_theta": rope.get("rope_theta", described.get("rope_theta", 10_000.0)),
            "rope_scaling": scaling,
            "norm_eps": described["rms_norm_eps"],
            "tie_embeddings": described.get("tie_word_embeddings", False),
        }
    )


def save(model: Transformer | RewardModel, folder: Path, *, stop_tokens: list[int], pad_token: int) -> None:
    """Write the model into `folder` as transformers reads it: weights in float32, config, generation defaults."""
    reward = isinstance(model, RewardModel)
    tensors = hub_tensors(model)
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
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


def read_config(folder: Path, *, reward: bool = False) -> ModelConfig:
    """The shape of the model in `folder`; raises CheckpointError when it is not such a model's folder."""
    path = folder / "config.json"
    if not path.is_file():
        raise CheckpointError(f"{folder}: has no config.json; name a model folder such as runs/NAME/instruct")
    try:
        described = json.loads(path.read_text(encoding="utf-8"))
        config = from_hub_config(described, str(path))
        scores = any("SequenceClassification" in name for name in described.get("architectures") or [])
    except (ValueError, KeyError, TypeError, AttributeError) as reason:
        told = " ".join(str(reason).split())
        raise CheckpointError(f"{path}: cannot be read ({told}); fetch or train the model again") from reason
    if scores != reward:
        kinds = ("a reward model, it scores and does not write", "a language model, it writes and does not score")
        raise CheckpointError(f"{folder}: is {kinds[reward]}; name another folder")
    return config


def load(folder: Path, *, device: torch.device | str = "cpu") -> Transformer:
    """The language model of a Hugging Face folder, in float32."""
    config = read_config(folder)
    files = _checked_files(folder, _meta(Transformer, config), prefix="model.")
    model = Transformer(config)
    _fill(model, files, prefix="model.")
    return model.to(device)


def load_reward(folder: Path, *, device: torch.device | str = "cpu") -> RewardModel:
    """The reward model of a folder that `save` wrote."""
    config = read_config(folder, reward=True)
    files = _checked_files(folder, _meta(_rewarding, config), prefix="trunk.")
    model = _rewarding(config)
    _fill(model, files, prefix="trunk.")
    return model.to(device)


def _rewarding(config: ModelConfig) -> RewardModel:
    model = RewardModel(Transformer(config))
    model.trunk.lm_head.weight = model.trunk.embed_tokens.weight  # it has no words to say
    return model


def _meta(build: Callable[[ModelConfig], nn.Module], config: ModelConfig) -> nn.Module:
    """The model without its memory: a foreign config may ask for any amount."""
    with torch.device("meta"):
        return build(config)


def _ours(key: str, prefix: str) -> str:
    """Our name of a tensor that Hugging Face calls `key`."""
    return key.removeprefix("model.") if prefix == "model." else key.replace("model.", prefix, 1)


def weight_files(folder: Path) -> list[Path]:
    """The folder's tensor files: those that its index names, else its only file, else all there are.

    raises  CheckpointError when there is none, or not all that the index names
    """
    if (folder / INDEX).is_file():
        try:
            names = set(json.loads((folder / INDEX).read_text(encoding="utf-8"))["weight_map"].values())
            files = [folder / Path(name).name for name in sorted(names)]  # never outside of the folder
        except (ValueError, KeyError, TypeError, AttributeError) as reason:
            raise CheckpointError(f"{folder / INDEX}: cannot be read ({reason!r}); fetch the model again") from reason
    else:
        files = [folder / WEIGHTS] if (folder / WEIGHTS).is_file() else sorted(folder.glob("*.safetensors"))
    if absent := [path.name for path in files if not path.is_file()]:
        raise CheckpointError(f"{folder}: {absent[0]} is missing, {INDEX} names it; fetch the model again")
    if not files:
        pickled = any(folder.glob("*.bin"))
        remedy = "convert its .bin files, which may run code when they are read" if pickled else "fetch the model again"
        raise CheckpointError(f"{folder}: its weights are missing, it has no {WEIGHTS}; {remedy}")
    return files


def fingerprint(folder: Path) -> str:
    """16 hexadecimal digits that name the weights: SHA-256 of the only file, else of all files' SHA-256."""
    digests = []
    for path in weight_files(folder):
        with path.open("rb") as file:
            digests.append(hashlib.file_digest(file, "sha256").hexdigest())
    whole = digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()
    return whole[:16]


def check_weights(folder: Path) -> None:
    """Reads the headers only; raises CheckpointError when the weights are not those of config.json."""
    _checked_files(folder, _meta(Transformer, read_config(folder)), prefix="model.")


def _checked_files(folder: Path, expected: nn.Module, *, prefix: str) -> list[Path]:
    """The folder's tensor files, once their headers hold each parameter that is expected, in its shape, and no more."""
    shapes = {name: tuple(parameter.shape) for name, parameter in expected.named_parameters()}
    known = {*expected.state_dict()}  # with those that are shared
    missing = set(shapes)
    files = weight_files(folder)
    for path in files:
        with _opened(path) as file:
            for key in file.keys():  # noqa: SIM118 - safe_open is not a mapping
                name, header = _ours(key, prefix), file.get_slice(key)
                found, kind = tuple(header.get_shape()), header.get_dtype()
                if shapes.get(name, found) != found:
                    raise CheckpointError(f"{path}: {key} has shape {found}, config.json says {shapes[name]}")
                if name not in known and not key.endswith("rotary_emb.inv_freq"):  # which config.json says already
                    raise CheckpointError(f"{path}: {key} has no place in the model that config.json describes")
                if kind not in KINDS:
                    raise CheckpointError(f"{path}: {key} is of {kind}; fetch the model in one of {', '.join(KINDS)}")
                missing.discard(name)
    if missing:
        raise CheckpointError(f"{folder}: {min(missing)} and {len(missing) - 1} more tensors are missing")
    return files


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    try:
        with safe_open(str(path), framework="pt") as file:
            yield file
    except (SafetensorError, OSError) as reason:
        raise CheckpointError(f"{path}: is damaged ({reason}); fetch or train the model again") from reason


@torch.no_grad()
def _fill(model: nn.Module, files: Sequence[Path], *, prefix: str) -> None:
    """Copy the files' tensors into the model's parameters, in float32.

    raises  CheckpointError when a tensor that the model shares comes with values of its own
    """
    named = dict(model.named_parameters())  # shared parameters appear once
    every = dict(model.named_parameters(remove_duplicate=False))
    again = []
    for path in files:
        with _opened(path) as file:
            for key in file.keys():  # noqa: SIM118 - safe_open is not a mapping
                if (name := _ours(key, prefix)) in named:
                    named[name].copy_(file.get_tensor(key))
                elif name in every:
                    again.append((path, key, file.get_tensor(key)))
    for path, key, tensor in again:
        if not torch.equal(tensor.to(torch.float32), every[_ours(key, prefix)]):
            raise CheckpointError(f"{path}: {key} differs from the embedding, config.json says that they are one")
