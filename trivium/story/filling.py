"""Filling the blanks of a text in the terminal."""

from pathlib import Path
from typing import Any

from rich.text import Text

from trivium.compute import best_device
from trivium.evaluate.blanks import Gap, fill
from trivium.shelf import Opened, open_model
from trivium.show import console_for
from trivium.story.voices import latest_model
from trivium.text import blanks

DRAWN = 24  # fillings tried beside the most probable one, to show others too


def fill_blanks(folder: Path, text: str, *, best: int) -> dict[str, Any]:
    """The likely fillings of each blank, one blank after the other, each in the text with the best so far.

    returns  {"text": the filled text, "blanks": [{"fillings": [{"text", "probability"}]}]}
    """
    blanks.parse(text)  # before a model is opened for a text that has none
    return fill_with(open_model(latest_model(folder, prefer="base"), device=best_device()), text, best=best)


def fill_with(opened: Opened, text: str, *, best: int) -> dict[str, Any]:
    """The same with a model that is open."""
    pieces, spaced = blanks.parse(text), blanks.opening_spaces(text)
    model, tokenizer = opened
    done, found = pieces[0], []
    for number, space in enumerate(spaced, start=1):
        after, rest = pieces[number], "".join(pieces[number:])
        likely = fill(model, tokenizer, [Gap(done, rest)], drawn=DRAWN)[0]
        fillings = ([filling for filling in likely if filling.text.startswith(" ") == space] or likely)[:best]
        found.append({"fillings": [filling._asdict() for filling in fillings]})
        done += fillings[0].text + after
    return {"text": done, "blanks": found}


def print_fillings(found: dict[str, Any]) -> None:
    console = console_for()
    console.print(Text(found["text"], style="bold"))
    for number, blank in enumerate(found["blanks"], start=1):
        likely = "   ".join(f"{f['text'].strip()} {f['probability']:.0%}" for f in blank["fillings"])
        console.print(Text(f"  blank {number}:  {likely}" if len(found["blanks"]) > 1 else f"  {likely}"))
