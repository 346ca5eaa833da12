"""A conversation with one model or several: what was said, what changes it, how it goes on. No terminal."""

from collections.abc import Generator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from trivium.compute import best_device
from trivium.errors import ConfigError
from trivium.generate.sampling import stream_seed
from trivium.generate.spelling import Spelling
from trivium.generate.writer import Writer
from trivium.publish import publish_file
from trivium.records import Message
from trivium.runs import Run
from trivium.shelf import open_model
from trivium.story.manner import Manner
from trivium.story.voices import Voice, order_of, run_around, voice_at, voices_of

PHASES = ("base", "instruct", "aligned", "round")
COMMANDS: Mapping[str, str] = {
    "/base, /instruct, /aligned": "talk to that phase of the run",
    "/round N": "talk to what round N made",
    "/all": "talk to all models of the run, side by side",
    "/regenerate": "another answer to the last message",
    "/system TEXT": "what is said before everything else; without a text, nothing",
    "/temperature X": "also /top-k, /top-p, /min-p, /repetition, /max-tokens, /seed; without a number: how it is set",
    "/save FILE": "the conversation as messages, one line of JSON of each model, for data.answers",
    "/clear": "begin anew",
    "/help": "this list",
    "/quit": "leave, as the end of input does; Ctrl-C stops an answer",
}


class Speaker:
    """A model that is open, and what it remembers."""

    def __init__(self, voice: Voice) -> None:
        self.voice, self.opened = voice, open_model(voice.folder, device=best_device())
        self.writer = Writer(self.opened.model, rows=1)
        self.left_out = 0  # the oldest exchanges that its last prompt had no room for

    @property
    def told(self) -> str:
        shape = self.opened.model.config
        return f"{self.voice.folder}: {shape.parameters:,} parameters, context {shape.context_length:,} tokens"


class Turn(NamedTuple):
    question: str
    answers: dict[Path, str]  # by the folder of the model


class Piece(NamedTuple):
    speaker: int  # its number
    text: str


class Chat:
    def __init__(self, folders: Sequence[Path], manner: Manner) -> None:
        """folders  of models, or of runs: their latest models"""
        self.manner, self.system = manner, ""
        self.turns: list[Turn] = []
        self._open: dict[Path, Speaker] = {}
        self._attempts = 0
        self._saved: set[Path] = set()
        self.speakers = self._opened([voice_at(folder) for folder in folders])

    def ask(self, question: str) -> Iterator[Piece]:
        """The answers to a message, of all speakers at once, as they are written.

        Closed before the end, what was written so far counts as the answer.
        """
        self._attempts = 0
        self.turns.append(Turn(question, {}))
        return self._answer()

    def again(self) -> Iterator[Piece]:
        """Other answers to the last message; raises ConfigError when there is none."""
        if not self.turns:
            raise ConfigError("/regenerate: nothing was said yet")
        self._attempts += 1
        self.turns[-1] = Turn(self.turns[-1].question, {})
        return self._answer()

    def _answer(self) -> Iterator[Piece]:
        turn, names = self.turns[-1], [speaker.voice.folder for speaker in self.speakers]
        turn.answers.update(dict.fromkeys(names, ""))
        writing = dict(enumerate(self._written(speaker) for speaker in self.speakers))
        try:
            while writing:
                for number, pieces in list(writing.items()):
                    if (text := next(pieces, None)) is None:
                        del writing[number]
                    elif text:
                        turn.answers[names[number]] += text
                        yield Piece(number, text)
        finally:
            for pieces in writing.values():
                pieces.close()

    def _written(self, speaker: Speaker) -> Generator[str, None, None]:
        """Some text for each token, often none; the white space around the answer is left out."""
        order = order_of(speaker.voice, speaker.opened, self._fitting(speaker), self.manner, seed=self._seed)
        spelling, tokenizer = Spelling(), speaker.opened.tokenizer
        begun, held = not speaker.voice.chats, ""  # base goes on with a text, whose spaces count
        for _, token in speaker.writer.follow([order]):
            new = "" if token.end == "stop" else spelling.add(tokenizer.token_bytes(token.id))
            text = held + (new if begun else new.lstrip())
            begun = begun or bool(text)
            held = text[len(text.rstrip()) :]
            yield text.removesuffix(held) if held else text
        yield (held + spelling.end()).rstrip()

    @property
    def _seed(self) -> int:
        return stream_seed(self.manner.seed, len(self.turns), self._attempts)

    def _fitting(self, speaker: Speaker) -> list[Message]:
        """What it is asked: without the oldest exchanges that leave it less than a quarter of its context to answer."""
        length = speaker.opened.model.config.context_length * 3 // 4
        for first in range(len(self.turns)):
            messages, speaker.left_out = self.messages(speaker.voice.folder, first=first)[:-1], first
            if len(order_of(speaker.voice, speaker.opened, messages, self.manner, seed=0).prompt) < length:
                return messages
        return messages

    def messages(self, folder: Path, *, first: int = 0) -> list[Message]:
        """Everything as this model has it, from a turn on; what it did not answer itself, by whoever did."""
        said = [Message("system", self.system)] if self.system else []
        for turn in self.turns[first:]:
            answer = turn.answers.get(folder) or next((text for text in turn.answers.values() if text), "")
            said += [Message("user", turn.question), Message("assistant", answer)]
        return said

    def switch(self, phase: str, number: str = "") -> None:
        """Talk to another phase of the run of each model that is talked to; "all" is every phase.

        raises  ConfigError when a model is in no run, or its run has no such model
        """
        wanted: list[Voice] = []
        for speaker in self.speakers:
            run = run_around(speaker.voice.folder)
            if run is None:
                raise ConfigError(f"/{phase}: {speaker.voice.folder} is in no run; name a run folder to switch phases")
            wanted += voices_of(run) if phase == "all" else [_phase(run, phase, number)]
        self.speakers = self._opened(list({voice.folder.resolve(): voice for voice in wanted}.values()))

    def _opened(self, voices: Sequence[Voice]) -> list[Speaker]:
        for voice in voices:
            if voice.folder not in self._open:
                self._open[voice.folder] = Speaker(voice)
        return [self._open[voice.folder] for voice in voices]

    def save(self, path: Path) -> int:
        """A line {"messages", "model"} of each model that is talked to; of answers that are empty, nothing.

        returns  how many dialogues were written
        raises   ConfigError when nothing was said, or the file is another's
        """
        if path.suffix != ".jsonl":
            raise ConfigError(f"/save {path}: must end with .jsonl, as data.answers reads it; add that")
        if path.exists() and path.resolve() not in self._saved:
            raise ConfigError(f"/save {path}: is there already; choose another name")
        rows = [row for speaker in self.speakers if (row := self._row(speaker.voice))["messages"]]
        if not rows:
            raise ConfigError("/save: nothing was answered yet")
        publish_file(path, lambda fresh: fresh.write_bytes(b"".join(msgspec.json.encode(row) + b"\n" for row in rows)))
        self._saved.add(path.resolve())
        return len(rows)

    def _row(self, voice: Voice) -> dict[str, object]:
        said = self.messages(voice.folder)
        above = [message for message in said if message.role == "system"]
        spoken = said[len(above) :]
        kept = [m for pair in zip(spoken[::2], spoken[1::2], strict=True) if pair[1].content.strip() for m in pair]
        return {"messages": [m._asdict() for m in (*above, *kept)] if kept else [], "model": str(voice.folder)}

    def clear(self) -> None:
        self.turns = []


def _phase(run: Run, phase: str, number: str) -> Voice:
    known = {voice.name: voice for voice in voices_of(run)}
    if phase == "round" and not number.isdecimal():
        raise ConfigError("/round: name its number, such as /round 1")
    rounds = [name for name in known if name.startswith("round-")]
    name = {"aligned": rounds[-1] if rounds else "aligned", "round": f"round-{number}"}.get(phase, phase)
    if name not in known:
        there = ", ".join(voice.title for voice in known.values()) or "nothing"
        raise ConfigError(f"{f'/{phase} {number}'.strip()}: {run.path} has no such model yet; there is {there}")
    return known[name]
