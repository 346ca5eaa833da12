"""Going on from the weights of a model folder, ours or somebody else's: its shape, its vocabulary, its first model."""

from collections.abc import Collection
from pathlib import Path
from typing import Any

from trivium.config import (
    AlignConfig,
    InstructConfig,
    OptimizerConfig,
    PretrainConfig,
    Recipe,
    RewardConfig,
    Settings,
    merge,
)
from trivium.errors import CheckpointError, ConfigError, did_you_mean
from trivium.model import hub
from trivium.model.shape import ModelConfig
from trivium.model.transformer import Transformer, grow
from trivium.plan import set_default
from trivium.publish import MANIFEST, verify
from trivium.text import adoption

SLOWER = 10  # times than fresh weights learn, which have nothing to forget: docs/decisions/007
PHASES: dict[str, type[OptimizerConfig]] = {
    "pretrain": PretrainConfig,
    "instruct": InstructConfig,
    "reward": RewardConfig,
    "align": AlignConfig,
}
REMEDY = "name a folder with config.json, model.safetensors and tokenizer.json"


def with_start(said: Settings, taught: Collection[str] = ()) -> Settings:
    """What was said, and all that follows from the folder that it starts from: shape, fingerprints, slower learning.

    taught  phases that the folder has been through elsewhere: of text that was not named none is mixed into phase II
    raises  ConfigError when a setting contradicts the folder, CheckpointError when the folder cannot be used
    """
    start = said.get("start", {})
    name = start.get("folder", "")
    if not name:
        for key, value in start.items():
            if value:
                raise ConfigError(f'start.{key} = "{value}": of which folder? give start.folder (--from) too')
        return said
    folder = _folder(name)
    said = merge(said, {"model": _agreed(said.get("model", {}), shape_of(folder), folder)})
    for key, found in (("weights", hub.fingerprint(folder)), ("tokenizer", adoption.fingerprint(folder))):
        if start.get(key) and start[key] != found:
            raise ConfigError(
                f'start.{key} = "{start[key]}": {folder} now holds {found}; take another, or drop the key'
            )
        said = merge(said, {"start": {key: found}})
    if echoes := said.get("pretrain", {}).get("echo_steps"):
        raise ConfigError(f"pretrain.echo_steps = {echoes}: they are for fresh weights; set it to 0 with start.folder")
    said = set_default(said, "pretrain.echo_steps", 0)
    if "pretrain" in taught and "text" not in said.get("data", {}):
        said = set_default(said, "instruct.text", 0.0)
    for phase, config in PHASES.items():
        for key in ("learning_rate", "matrix_learning_rate"):
            slow = round(config.model_fields[key].default / SLOWER, 9)  # to be read in recipe.toml
            said = set_default(said, f"{phase}.{key}", slow)
    return said


def shape_of(folder: Path) -> ModelConfig:
    """The shape of the folder's model with the control tokens that it lacks.

    raises  CheckpointError when the folder is not a whole model that we can run exactly
    """
    if (folder / MANIFEST).exists():
        verify(folder)
    shape = hub.read_config(folder)
    hub.check_weights(folder)
    adopted = adoption.adopt(folder)
    if adopted.known > shape.vocab_size:
        raise CheckpointError(
            f"{folder}: tokenizer.json holds {adopted.known} tokens, config.json says vocab_size = {shape.vocab_size}; "
            "they do not belong together, fetch the model again"
        )
    return shape.model_copy(update={"vocab_size": max(shape.vocab_size, adopted.tokenizer.vocab_size)})


def first_model(recipe: Recipe) -> Transformer:
    """The folder's model in float32, with rows for the tokens that were added.

    raises  CheckpointError when the folder is no longer what the run was begun with
    """
    folder = _folder(recipe.start.folder)
    if (found := hub.fingerprint(folder)) != recipe.start.weights:
        raise CheckpointError(
            f"{folder}: its weights are {found}, the run was begun with {recipe.start.weights}; "
            "put them back, or choose another --out"
        )
    model, adopted = hub.load(folder), adoption.adopt(folder)
    grow(model, known=adopted.known, tokens=adopted.tokenizer.vocab_size)
    model.config = model.config.model_copy(update={"context_length": recipe.model.context_length})
    return model


def longest_of(recipe: Recipe) -> int:
    """Tokens that the folder's model reads at most; 0 where the run begins with fresh weights."""
    name = recipe.start.folder
    return hub.read_config(_folder(name)).context_length if name else 0


def _folder(name: str) -> Path:
    folder = Path(name)
    if not folder.is_dir():
        beside = [str(each) for each in folder.parent.iterdir()] if folder.parent.is_dir() else []
        near = did_you_mean(str(folder), beside) or f"; {REMEDY}"
        raise ConfigError(f'start.folder = "{name}": no such folder{near}')
    return folder


def _agreed(given: Settings, shape: ModelConfig, folder: Path) -> Settings:
    """The folder's shape; only the context may be shorter than its own."""
    theirs: dict[str, Any] = shape.model_dump(mode="json")
    longest = theirs["context_length"]
    theirs["context_length"] = min(longest, given.get("context_length", ModelConfig().context_length))
    for key, value in given.items():
        told = list(value) if isinstance(value, tuple) else value
        if key == "context_length" and value > longest:
            raise ConfigError(f"model.{key} = {value}: {folder} has at most {longest} positions; give that or less")
        if key != "context_length" and key in theirs and told != theirs[key]:
            raise ConfigError(f"model.{key} = {value}: {folder} has {theirs[key]}; leave it out, the folder decides")
    return theirs
