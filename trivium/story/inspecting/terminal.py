"""An inspection in a terminal: tokens side by side in colour, or between marks where there is none."""

from collections.abc import Sequence
from itertools import groupby
from typing import NamedTuple

from rich.console import Console
from rich.rule import Rule
from rich.text import Text

from trivium.show import Show, console_for
from trivium.story.inspecting.found import Inspection, Specimen, rows_of
from trivium.text.spans import Span

SHOWN_TOKENS = 260  # of one specimen


class Palette(NamedTuple):
    """Styles; of two shades, neighbouring tokens take one each."""

    read: tuple[str, str]
    learned: tuple[str, str]
    control_read: str
    control_learned: str


# foreground and background are both said, so that it can be read on any terminal
MANY_COLOURS = Palette(
    ("grey66 on grey15", "grey66 on grey23"),
    ("bold pale_green1 on grey15", "bold pale_green1 on grey23"),
    "medium_purple1 on grey15",
    "bold orchid1 on grey15",
)
SIXTEEN_COLOURS = Palette(("bright_black", "white"), ("bold green", "bold bright_green"), "magenta", "bold magenta")


def palette_of(console: Console) -> Palette | None:
    """None where there are no colours."""
    if console.color_system is None:
        return None
    return SIXTEEN_COLOURS if console.color_system == "standard" else MANY_COLOURS


def print_inspection(found: Inspection) -> None:
    console = console_for()
    _tell_legend(console, found)
    for section in found.sections:
        console.print("", Rule(Text.assemble((section.title, "bold"), f"   {section.told}"), align="left", style="dim"))
        console.print()
        for specimen in section.specimens:
            print_specimen(console, specimen)
        if not section.specimens:
            console.print(Text(f"{section.none}\n"))
    rows = [[f"{name}, {meaning}", *cells] for name, meaning, cells in rows_of(found)]
    console.print()
    Show(stderr=False).table("The data in numbers", ["", *found.numbers], rows)
    for note in found.notes:
        console.print(Text(note, style="dim"))


def print_specimen(console: Console, specimen: Specimen) -> None:
    console.print(Text.assemble((specimen.title, "bold"), (f"   {specimen.told}", "dim")))
    shown = specimen.spans[:SHOWN_TOKENS]
    palette = palette_of(console)
    text = Text()
    for number, run in groupby(shown, key=lambda span: span.document):
        inside = list(run)
        if shown[-1].document:  # more than one: each on lines of its own
            text.append("" if not number or text.plain.endswith("\n") else "\n").append(f"{number + 1:>3} ", "cyan")
        text.append_text(in_colour(inside, palette) if palette else in_marks(inside))
    if left := specimen.left + len(specimen.spans) - len(shown):
        text.append(f" … {left:,} more tokens", "dim italic")
    if text.plain.endswith("\n"):
        text.right_crop(1)
    console.print(*([text] if shown else []), "", sep="\n", soft_wrap=palette is None)


def in_colour(shown: Sequence[Span], palette: Palette) -> Text:
    """The tokens side by side; those with loss stand out, and neighbours differ in shade."""
    text = Text()
    for place, span in enumerate(shown):
        if span.control:
            style = palette.control_learned if span.learned else palette.control_read
        else:
            style = (palette.learned if span.learned else palette.read)[place % 2]
        text.append(span.text, style)
    return text


def in_marks(shown: Sequence[Span]) -> Text:
    """The same without colours: borders are bars, and tokens with loss stand in «»."""
    pieces = []
    for learned, run in groupby(shown, key=lambda span: span.learned):
        inside = "|".join(span.text for span in run)
        pieces.append(f"«{inside}»" if learned else inside)
    return Text("".join(pieces))


def _tell_legend(console: Console, found: Inspection) -> None:
    console.print(Text(f"A vocabulary of {found.vocabulary:,} tokens, {found.whose}.", style="dim"))
    palette = palette_of(console)
    if palette is None:
        console.print("Tokens are parted by |; those in «» are learned, they have loss.")
        return
    legend = Text()
    for name, shades in (("read only", palette.read), ("learned: has loss", palette.learned)):
        legend.append(f" {name} ", shades[0]).append(f" {name} ", shades[1]).append("   ")
    legend.append(" control ", palette.control_read).append(" control, learned ", palette.control_learned)
    console.print(legend)
