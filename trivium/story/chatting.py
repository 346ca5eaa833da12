"""`trivium chat` in a terminal or a pipe: messages and commands in, answers out as they are written."""

import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from trivium.errors import Interrupted, TriviumError, did_you_mean
from trivium.show import console_for, printable
from trivium.story.chat import COMMANDS, PHASES, Chat, Piece, Speaker
from trivium.story.manner import Manner
from trivium.train.interrupt import Interrupt, listen
from trivium.wording import counted

LEAST_COLUMN = 34  # characters; with less to each, answers stand below each other
REDRAWS = 12  # a second
COLOURS = {"base": "blue", "instruct": "magenta", "aligned": "green"}
SETTINGS: Mapping[str, str] = {name.replace("_", "-"): name for name in Manner.model_fields}
LINES_AROUND = 4  # of a terminal, that are not the answer's


def chat_with(folders: Sequence[Path], manner: Manner) -> None:
    """A conversation until /quit or the end of input. Answers go to stdout, everything else to stderr."""
    show = Terminal()
    chat = Chat(folders, manner)
    show.greet(chat.speakers)
    while (line := show.read(chat.speakers)) is not None:
        try:
            if line in ("/quit", "/exit"):
                return
            if line.startswith("/"):
                obey(chat, line, show)
            elif line:
                show.answers(chat.speakers, chat.ask(line))
        except TriviumError as reason:
            show.say(str(reason), style="red")


def obey(chat: Chat, line: str, show: "Terminal") -> None:
    """Do what a command says; raises TriviumError when it says nothing that can be done."""
    name, _, rest = line[1:].partition(" ")
    name, rest = name.lower(), rest.strip()
    if name in (*PHASES, "all"):
        chat.switch(name, rest)
        show.greet(chat.speakers)
    elif name in ("regenerate", "again"):
        show.answers(chat.speakers, chat.again())
    elif name == "system":
        chat.system = rest
        show.say("from here on, before everything else: " + rest if rest else "nothing is said before everything else")
    elif name == "save":
        count = chat.save(Path(rest or "chat.jsonl").expanduser())
        show.say(f"{rest or 'chat.jsonl'}: {counted(count, 'dialogue')}, as data.answers reads them")
    elif name == "clear":
        chat.clear()
        show.say("begun anew")
    elif name == "help":
        show.help(chat)
    elif name in SETTINGS:
        if rest:
            chat.manner = chat.manner.changed(SETTINGS[name], rest)
        show.say(chat.manner.told())
    else:
        show.say(f"/{name}: there is no such command{near(name) or '; /help lists them'}", style="red")


def near(name: str) -> str:
    known = [*PHASES, *SETTINGS, "all", "regenerate", "system", "save", "clear", "help", "quit"]
    return did_you_mean(f"/{name}", [f"/{each}" for each in known])


class Terminal:
    """What a person sees. In a pipe: a line for each message, and nothing that only helps the eye."""

    def __init__(self) -> None:
        self.out, self.aside = console_for(), Console(stderr=True, highlight=False)
        self.is_person = sys.stdin.isatty()

    def greet(self, speakers: Sequence[Speaker]) -> None:
        for speaker in speakers:
            self.say(speaker.told)
        if self.is_person:
            self.say("/help lists the commands, /quit leaves.")

    def read(self, speakers: Sequence[Speaker]) -> str | None:
        """The next line; None at the end. Ctrl-C throws away what was typed."""
        if self.is_person:
            import readline  # noqa: F401  # arrows, and what was said before
        while True:
            try:
                return input("you > " if self.is_person else "").strip()
            except EOFError:
                return None
            except KeyboardInterrupt:
                if not self.is_person:
                    return None
                self.say("\n/quit leaves")

    def say(self, line: str, *, style: str = "dim") -> None:
        self.aside.print(Text(printable(line), style=style), soft_wrap=True)

    def help(self, chat: Chat) -> None:
        table = Table.grid(padding=(0, 2))
        for command, told in COMMANDS.items():
            table.add_row(Text(command, style="bold"), told)
        self.aside.print(table)
        self.say(chat.manner.told())

    def answers(self, speakers: Sequence[Speaker], pieces: Iterator[Piece]) -> None:
        """Streams them; Ctrl-C ends them after the token that is being written, and what there is of them stays."""
        known = [speaker.left_out for speaker in speakers]
        try:
            with closing(pieces), listen(signal.SIGINT) as interrupt, interrupt.deferred():  # type: ignore[type-var]
                self._stream(speakers, _until(interrupt, pieces))
        except Interrupted:
            self.say("\nstopped")
        for speaker, before in zip(speakers, known, strict=True):
            if (count := speaker.left_out) > before:
                oldest = "the oldest exchange" if count == 1 else f"the {count} oldest exchanges"
                self.say(f"{speaker.voice.title}: {oldest} no longer fit{'s' * (count == 1)} its context")

    def _stream(self, speakers: Sequence[Speaker], pieces: Iterator[Piece]) -> None:
        if len(speakers) == 1:
            self._one(speakers[0], pieces)
        elif self.out.is_terminal and self.out.width // len(speakers) >= LEAST_COLUMN:
            self._beside(speakers, pieces)
        else:
            self._below(speakers, pieces)

    def _one(self, speaker: Speaker, pieces: Iterator[Piece]) -> None:
        try:
            if self.out.is_terminal:
                self.out.print(_name(speaker), end=" ")
            for piece in pieces:
                print(printable(piece.text) if self.out.is_terminal else piece.text, end="", flush=True)
        finally:
            print(flush=True)

    def _below(self, speakers: Sequence[Speaker], pieces: Iterator[Piece]) -> None:
        """One after the other, each whole: all are written at once."""
        texts = [""] * len(speakers)
        try:
            for piece in pieces:
                texts[piece.speaker] += piece.text
        finally:
            for speaker, text in zip(speakers, texts, strict=True):
                if self.out.is_terminal:
                    self.out.print(Text.assemble(_name(speaker), " ", printable(text)), soft_wrap=True)
                else:
                    print(f"{_name(speaker)} {text}", flush=True)

    def _beside(self, speakers: Sequence[Speaker], pieces: Iterator[Piece]) -> None:
        """In columns that grow; while they do, the ends of what is longer than the terminal."""
        texts = [""] * len(speakers)
        try:
            with Live(console=self.out, refresh_per_second=REDRAWS, transient=True) as live:
                for piece in pieces:
                    texts[piece.speaker] += piece.text
                    live.update(self._columns(speakers, texts, most=max(1, self.out.height - LINES_AROUND)))
        finally:
            self.out.print(self._columns(speakers, texts))

    def _columns(self, speakers: Sequence[Speaker], texts: Sequence[str], *, most: int | None = None) -> Table:
        """most  lines of each answer, its last"""
        table = Table.grid(expand=True, padding=(0, 3, 0, 0))
        width = self.out.width // len(speakers) - 3
        for _ in speakers:
            table.add_column(ratio=1)
        shown = [Text(printable(text)).wrap(self.out, width) for text in texts]
        table.add_row(*(_name(speaker) for speaker in speakers))
        table.add_row(*(Text("\n").join(lines[-most:] if most else lines) for lines in shown))
        return table


def _until(interrupt: Interrupt, pieces: Iterator[Piece]) -> Iterator[Piece]:
    for piece in pieces:
        yield piece
        if interrupt.requested:
            return


def _name(speaker: Speaker) -> Text:
    return Text(speaker.voice.title + " >", style=f"bold {COLOURS.get(speaker.voice.css, 'green')}")
