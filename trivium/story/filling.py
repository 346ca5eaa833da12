"""Filling the blanks of a text in the terminal."""

from pathlib import Path
from typing import Any

from rich.text import Text

from trivium.compute import best_device
from trivium.errors import ConfigError
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
    return fill_with(open_model(latest_model(folder, prefer="base"), device=best_device()), text, best=best)


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
    for place, each in enumerate(found["texts"]):
        console.print(Text(f"{each['probability']:>4.0%}  {printable(each['text'])}", style="" if place else "bold"))
    for number, blank in enumerate(found["blanks"], start=1):
        console.print(Text(f"  blank {number}:  {_told(blank)}"))


def _told(blank: dict[str, Any]) -> str:
    return "   ".join(
        f"{printable(filling['text']).strip()} {filling['probability']:.0%}" for filling in blank["fillings"]
    )
