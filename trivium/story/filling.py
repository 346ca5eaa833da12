"""Filling the blanks of a text in the terminal."""

import json
from pathlib import Path
from typing import Any

import torch
from rich.text import Text

from trivium.compute import best_device
from trivium.errors import CheckpointError, ConfigError
from trivium.evaluate.blanks import fill_together, likely
from trivium.shelf import Opened, open_model
from trivium.show import console_for, printable
from trivium.story.voices import latest_model
from trivium.text import blanks

DRAWN = 24  # fillings tried beside the most probable one, to show others too


def fill_blanks(folder: Path, text: str, *, best: int) -> dict[str, Any]:
    """The likely fillings of a text's blanks, weighed together.

    returns  {"text": the most probable filled text, "texts": [{"text", "fillings", "probability"}],
             "blanks": [{"fillings": [{"text", "probability"}]}]}, `best` of each, the most probable first
    """
    blanks.parse(text)  # before a model is opened for a text that has none
    if best < 1:
        raise ConfigError(f"best = {best}: at least one is shown; give 1 or more")
    chosen = latest_model(folder, prefer="base")
    opened = open_model(chosen, device=best_device())
    check_learned(chosen, opened)
    return fill_with(opened, text, best=best)


def check_learned(folder: Path, opened: Opened) -> None:
    """raises  CheckpointError when the tokens of blanks were added to a foreign vocabulary and are all the same"""
    rows, tokenizer = opened.model.embed_tokens.weight, opened.tokenizer
    if torch.equal(rows[tokenizer.blank_prefix], rows[tokenizer.blank_middle]):
        raise CheckpointError(
            f"{folder}: has never learned to fill blanks, its vocabulary had no tokens for them; teach it with "
            f"`trivium pretrain --from {folder}`, or let it go on with a text by `trivium generate --raw`"
        )


def fill_with(opened: Opened, text: str, *, best: int) -> dict[str, Any]:
    """The same with a model that is open."""
    pieces, spaced = blanks.parse(text), blanks.opening_spaces(text)
    filled = fill_together(*opened, pieces, spaced, drawn=DRAWN)
    texts = [each._asdict() | {"text": blanks.join(pieces, each.fillings)} for each in filled[:best]]
    by_blank = [likely(filled, number)[:best] for number in range(len(spaced))]
    return {
        "text": texts[0]["text"],
        "texts": texts,
        "blanks": [{"fillings": [filling._asdict() for filling in fillings]} for fillings in by_blank],
    }


def print_fillings(found: dict[str, Any]) -> None:
    console = console_for()
    if len(found["blanks"]) == 1:
        console.print(Text(printable(found["text"]), style="bold"))
        console.print(Text(f"  {_told(found['blanks'][0])}"))
        return
    for place, each in enumerate(_worth_showing(found["texts"])):
        console.print(Text(f"{each['probability']:>4.0%}  {printable(each['text'])}", style="" if place else "bold"))
    for number, blank in enumerate(found["blanks"], start=1):
        console.print(Text(f"  blank {number}:  {_told(blank)}"))


def _worth_showing(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Those that do not round to 0 %, at least the first."""
    return [each for place, each in enumerate(found) if not place or f"{each['probability']:.0%}" != "0%"]


def _told(blank: dict[str, Any]) -> str:
    """In quotes, so that white space is seen; without the space before a word, which was before the blank."""
    return "   ".join(
        f"{_quoted(filling['text'].removeprefix(' '))} {filling['probability']:.0%}"
        for filling in _worth_showing(blank["fillings"])
    )


def _quoted(text: str) -> str:
    return json.dumps(printable(text), ensure_ascii=False)
