"""What the model will see: records as tokens, which of them are learned, and what the data is like. Trains no model."""

import tempfile
from pathlib import Path

from trivium.config import Settings, merge, read_settings, resolve
from trivium.runs import read_run
from trivium.story.inspecting.data import WORLD_RECORDS, beginnings, limited, load, pack, refusals, some, tokenizer_for
from trivium.story.inspecting.found import Inspection
from trivium.story.inspecting.numbers import numbers_of
from trivium.story.inspecting.page import write_page
from trivium.story.inspecting.specimens import sections_of
from trivium.story.inspecting.terminal import print_inspection
from trivium.story.start import with_start
from trivium.text.corpus import has_world

__all__ = ["Inspection", "inspect_recipe", "print_inspection", "write_page"]


def inspect_recipe(target: Path | None, *, flags: Settings, count: int) -> Inspection:
    """A few documents, dialogues and pairs as tokens, and numbers of all of them.

    target  a recipe file or a run folder; None: the defaults, TinyWorld
    count   how many of each
    raises  DataError when no token would be learned from; whatever reading the data raises
    """
    run = read_run(target) if target is not None and target.is_dir() else None
    told = read_settings(run.recipe if run else target) if target is not None else {}
    settings = limited(merge(told, flags))
    recipe = resolve(settings if run else with_start(beginnings(settings)))
    data = load(recipe, run, gathered=run.cache / "texts" if run else None)
    tokenizer, whose = tokenizer_for(run, recipe, some(data.documents.train))
    notes: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        rows = pack(data, tokenizer, recipe, Path(folder), notes.append)
        numbers = numbers_of(data, rows, tokenizer, recipe)
        sections = sections_of(data, rows, tokenizer, recipe, count)
    if has_world(recipe.data, "text") or has_world(recipe.data, "answers"):
        notes.append(f"TinyWorld wrote {WORLD_RECORDS:,} of each at most; `trivium plan` says how many a run takes.")
    notes += refusals(data)
    name = target.stem if target else "TinyWorld" if has_world(recipe.data, "text") else "your data"
    length, loss_on = recipe.model.context_length, recipe.instruct.loss_on
    return Inspection(name, tokenizer.vocab_size, whose, length, loss_on, sections, numbers, notes)
