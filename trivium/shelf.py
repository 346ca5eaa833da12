"""Model folders: what a phase leaves behind, complete and published, and how to open it again."""

import datetime
import platform
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import torch

import trivium
from trivium.config import Recipe
from trivium.model import hub
from trivium.model.heads import RewardModel
from trivium.model.transformer import Transformer
from trivium.publish import file_fingerprint, publish, verify
from trivium.runs import Lineage, write_lineage
from trivium.text.tokenizer import Tokenizer


class Opened(NamedTuple):
    model: Transformer
    tokenizer: Tokenizer


class Parent(NamedTuple):
    """The model whose weights another one went on from."""

    folder: str
    weights: str  # fingerprint


class Origin(NamedTuple):
    """What a model was made from."""

    phase: str
    parent: Parent | None
    data: Mapping[str, str]  # source → fingerprint
    votes: str | None
    metrics: Mapping[str, float]


def is_done(folder: Path) -> bool:
    """Whether a model stands here, whole; raises CheckpointError when one stands here damaged."""
    if not folder.is_dir():
        return False
    verify(folder)
    return True


def weights_fingerprint(folder: Path) -> str:
    """16 hexadecimal digits that name a model by its weights: the same wherever and whenever it was trained."""
    return file_fingerprint(folder, hub.WEIGHTS)


def parent_at(folder: Path) -> Parent:
    """A published model, as the parent of another."""
    return Parent(str(folder), weights_fingerprint(folder))


def open_model(folder: Path, *, device: torch.device | str = "cpu") -> Opened:
    """A language model and its tokenizer; raises CheckpointError when the folder is damaged or something else."""
    return Opened(hub.load(folder, device=device), Tokenizer.load(folder))


def publish_model(
    folder: Path,
    model: Transformer | RewardModel,
    tokenizer: Tokenizer,
    recipe: Recipe,
    origin: Origin,
    *,
    beside: Mapping[str, str],
    check: Callable[[Path], None] | None = None,
) -> None:
    """Weights, tokenizer, lineage and card: all of it or nothing.

    beside  further files by name, and their text
    check   looks at what was written before it is published, and raises when it must not be
    """
    lineage = Lineage(
        parent=origin.parent.weights if origin.parent else None,
        parent_folder=origin.parent.folder if origin.parent else None,
        data=dict(origin.data),
        votes=origin.votes,
        config=recipe.model_dump(mode="json"),
        code=f"trivium {trivium.__version__}, torch {torch.__version__}",
        seed=recipe.seed,
        machine=f"{platform.machine()}, {torch.get_num_threads()} threads, {platform.system()}",
        metrics=dict(origin.metrics),
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    )
    folder.parent.mkdir(parents=True, exist_ok=True)
    stops = [tokenizer.turn_end, tokenizer.end_of_text]

    def write(fresh: Path) -> None:
        hub.save(model, fresh, stop_tokens=stops, pad_token=tokenizer.pad)
        tokenizer.save(fresh, context_length=recipe.model.context_length)
        write_lineage(fresh, lineage)
        (fresh / "README.md").write_text(card(folder.name, model, recipe, origin), encoding="utf-8")
        for name, text in beside.items():
            (fresh / name).write_text(text, encoding="utf-8")
        if check:
            check(fresh)

    publish(folder, write)


def card(name: str, model: Transformer | RewardModel, recipe: Recipe, origin: Origin) -> str:
    """The model card: what it is, what it learned from, how it measures."""
    shape = model.config
    measured = "\n".join(f"| {key.replace('_', ' ')} | {value:.4g} |" for key, value in origin.metrics.items())
    sources = ", ".join(origin.data) or "its parent's"
    went_on = f" It went on from `{origin.parent.folder}`." if origin.parent else ""
    return f"""---
library_name: transformers
pipeline_tag: {"text-classification" if isinstance(model, RewardModel) else "text-generation"}
tags: [trivium]
---

# {name}

A {shape.architecture} decoder of {shape.parameters:,} parameters ({shape.num_layers} layers, width {shape.width},
vocabulary {shape.vocab_size:,}, context {shape.context_length} tokens), made by the phase `{origin.phase}` of
Trivium.{went_on} Data: {sources}. Seed: {recipe.seed}. `lineage.json` holds every setting.

| measured on held-out data | |
|---|---|
{measured or "| nothing yet | |"}
"""
