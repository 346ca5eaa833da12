"""A conversation: who answers what, what is remembered, and what may be typed."""

import io
import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from tests.story.speakers import make_run
from trivium.errors import ConfigError
from trivium.records import Message
from trivium.story.chat import Chat
from trivium.story.chatting import Terminal, obey
from trivium.story.manner import Manner
from trivium.text.answers import read_dialogues

SHORT = Manner(temperature=1.0, max_tokens=8)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Look, do not touch."""
    return make_run(tmp_path_factory.mktemp("runs") / "spoken")


def said(chat: Chat, question: str) -> list[str]:
    """The answer of each."""
    texts = [""] * len(chat.speakers)
    for piece in chat.ask(question):
        texts[piece.speaker] += piece.text
    return texts


def test_a_run_is_talked_to_by_its_latest_model_and_a_folder_by_itself(run: Path) -> None:
    assert [speaker.voice.title for speaker in Chat([run], SHORT).speakers] == ["round 1"]
    assert [speaker.voice.title for speaker in Chat([run / "base", run], SHORT).speakers] == ["base", "round 1"]


def test_the_answer_is_remembered_and_read_with_the_next_message(run: Path) -> None:
    chat = Chat([run / "instruct"], SHORT)
    (first,) = said(chat, "Who are you?")
    (second,) = said(chat, "And where?")
    folder = chat.speakers[0].voice.folder
    assert chat.messages(folder) == [
        Message("user", "Who are you?"),
        Message("assistant", first),
        Message("user", "And where?"),
        Message("assistant", second),
    ]
    other = Chat([run / "instruct"], SHORT)
    said(other, "Something else entirely.")
    assert said(other, "And where?") != [second], "an answer depends on what was said before"


def test_several_answer_side_by_side_each_as_if_it_were_alone(run: Path) -> None:
    together = Chat([run / "base", run / "instruct"], SHORT)
    alone = [Chat([run / name], SHORT) for name in ("base", "instruct")]
    for question in ("Who are you?", "And where?"):
        answers = said(together, question)
        assert answers == [said(chat, question)[0] for chat in alone]
        assert answers[0] != answers[1]


def test_another_phase_goes_on_with_what_was_said(run: Path) -> None:
    chat = Chat([run], SHORT)
    (first,) = said(chat, "Who are you?")
    chat.switch("instruct")
    (speaker,) = chat.speakers
    assert speaker.voice.title == "instruct"
    said(chat, "And where?")
    assert chat.messages(speaker.voice.folder)[:2] == [Message("user", "Who are you?"), Message("assistant", first)]
    for phase, number, titles in (
        ("base", "", ["base"]),
        ("aligned", "", ["round 1"]),
        ("all", "", ["base", "instruct", "round 1"]),
        ("round", "1", ["round 1"]),
    ):
        chat.switch(phase, number)
        assert [speaker.voice.title for speaker in chat.speakers] == titles


def test_what_cannot_be_switched_to_is_named(run: Path, tmp_path: Path) -> None:
    chat = Chat([run], SHORT)
    with pytest.raises(ConfigError, match=r"/round 7: .* has no such model yet; there is base, instruct, round 1"):
        chat.switch("round", "7")
    with pytest.raises(ConfigError, match="such as /round 1"):
        chat.switch("round", "last")
    (tmp_path / "alone").symlink_to(run / "instruct")
    lonely = Chat([run], SHORT)
    lonely.speakers[0].voice = lonely.speakers[0].voice._replace(folder=tmp_path)
    with pytest.raises(ConfigError, match="is in no run; name a run folder"):
        lonely.switch("base")


def test_an_answer_may_be_given_anew_and_is_another(run: Path) -> None:
    chat = Chat([run], SHORT)
    with pytest.raises(ConfigError, match="nothing was said yet"):
        chat.again()
    (first,) = said(chat, "Who are you?")
    again = "".join(piece.text for piece in chat.again())
    assert again != first
    assert chat.messages(chat.speakers[0].voice.folder)[1].content == again
    assert len(chat.turns) == 1


def test_a_system_message_comes_before_everything_else(run: Path) -> None:
    plain, told = Chat([run], SHORT), Chat([run], SHORT)
    told.system = "Speak like a goose."
    assert said(plain, "Who are you?") != said(told, "Who are you?")
    assert told.messages(run)[0] == Message("system", "Speak like a goose.")


def test_a_conversation_longer_than_the_context_loses_its_oldest_exchanges_and_says_so(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chat, terminal = Chat([run], Manner(max_tokens=6)), Terminal()
    (speaker,) = chat.speakers
    for number in range(12):
        terminal.answers(chat.speakers, chat.ask(f"Question number {number}, and what do you think of it?"))
    told = capsys.readouterr().err
    assert told.startswith("round 1: the oldest exchange no longer fits its context\n")
    assert f"the {speaker.left_out} oldest exchanges no longer fit its context" in told
    terminal.answers(chat.speakers, chat.again())
    assert capsys.readouterr().err == ""  # nothing more was left out
    fitting = chat._fitting(speaker)
    assert fitting[0].role == "user"
    assert fitting[-1].content.startswith("Question number 11")
    assert 1 < len(fitting) < 20


def test_what_is_saved_is_read_again_as_answers(run: Path, tmp_path: Path) -> None:
    chat, file = Chat([run / "base", run / "instruct"], SHORT), tmp_path / "chat.jsonl"
    with pytest.raises(ConfigError, match="nothing was answered"):
        chat.save(file)
    chat.system = "Be kind."
    said(chat, "Who are you?")
    chat.turns[-1].answers[run / "base"] = " "  # an empty answer teaches nothing
    said(chat, "And where?")
    assert chat.save(file) == 2
    dialogues = list(read_dialogues([str(file)]))
    expected = tuple(chat.messages(run / "instruct"))
    assert dialogues[1].messages == expected
    assert [len(dialogue.messages) for dialogue in dialogues] == [3, 5]
    assert chat.save(file) == 2, "its own file it writes again"
    with pytest.raises(ConfigError, match="is there already"):
        Chat([run], SHORT).save(file)
    with pytest.raises(ConfigError, match=r"must end with \.jsonl"):
        chat.save(tmp_path / "chat.txt")


class Listening(Terminal):
    """Keeps what is said."""

    def __init__(self) -> None:
        super().__init__()
        self.aside = Console(record=True, width=200, file=io.StringIO())

    def told(self) -> str:
        return self.aside.export_text()


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("/temperature 0.2", "temperature 0.2"),
        ("/top-k 5", "top_k 5"),
        ("/top-k none", "top_k none"),
        ("/max-tokens 3", "max_tokens 3"),
        ("/seed 4", "seed 4"),
        ("/help", "/regenerate"),
        ("/instruct", "instruct: "),
        ("/system Be brief.", "before everything else: Be brief."),
        ("/clear", "begun anew"),
        ("/instrct", "there is no such command; did you mean /instruct?"),
        ("/temprature 1", "there is no such command; did you mean /temperature?"),
        ("/xyzzy", "there is no such command; /help lists them"),
    ],
)
def test_a_command_says_what_it_did(line: str, told: str, run: Path) -> None:
    chat, show = Chat([run], SHORT), Listening()
    obey(chat, line, show)
    assert told in show.told()


@pytest.mark.parametrize("line", ["/temperature 9", "/temperature hot", "/top-p 0", "/max-tokens 0"])
def test_a_setting_out_of_range_is_refused_and_changes_nothing(line: str, run: Path) -> None:
    chat = Chat([run], SHORT)
    with pytest.raises(ConfigError, match=f"{line[1:].split()[0].replace('-', '_')} = '"):
        obey(chat, line, Terminal())
    assert chat.manner == SHORT


def command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "trivium", "chat", *map(str, arguments)]


def test_a_pipe_is_a_message_a_line_and_its_answers_alone_are_the_output(run: Path) -> None:
    lines = "Who are you?\n\n/tmp\n/regenerate\n"
    asked = command(run, "--max-tokens", "8", "--temperature", "1")
    done = subprocess.run(asked, input=lines, capture_output=True, text=True, check=True)
    chat = Chat([run], SHORT)
    expected = [said(chat, "Who are you?")[0], "".join(piece.text for piece in chat.again())]
    assert done.stdout == "".join(f"{answer}\n" for answer in expected)
    assert "/tmp: there is no such command" in done.stderr


class Typist:
    """Somebody at a terminal."""

    def __init__(self, arguments: list[str], *, columns: int) -> None:
        self.terminal, theirs = pty.openpty()
        self.seen = ""
        size = {"COLUMNS": str(columns), "LINES": "40", "TERM": "xterm", "OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            arguments, stdin=theirs, stdout=theirs, stderr=theirs, env={**os.environ, **size}, start_new_session=True
        )
        os.close(theirs)

    def type(self, line: str) -> None:
        os.write(self.terminal, line.encode())

    def wait(self, ready: Callable[[str], bool], *, seconds: float = 30) -> str:
        """What came until it is what was waited for."""
        began, end = len(self.seen), time.monotonic() + seconds
        while not ready(self.seen[began:]):
            self.give_up_after(end)
            self.look(0.1)
        return self.seen[began:]

    def give_up_after(self, end: float) -> None:
        if time.monotonic() > end:
            self.process.kill()
            self.process.wait()
            raise AssertionError(self.seen)

    def insist(self, ready: Callable[[str], bool]) -> None:
        """Ctrl-C until it is heard: readline misses one that comes between its prompt and its waiting."""
        began, end = len(self.seen), time.monotonic() + 30
        again = 0.0
        while not ready(self.seen[began:]):
            self.give_up_after(end)
            if time.monotonic() > again:
                self.process.send_signal(signal.SIGINT)
                again = time.monotonic() + 2
            self.look(0.1)

    def look(self, seconds: float) -> None:
        if select.select([self.terminal], [], [], seconds)[0]:
            self.seen += os.read(self.terminal, 65536).decode(errors="replace")

    def leave(self) -> int:
        self.type("/quit\n")
        code = self.process.wait(timeout=30)
        os.close(self.terminal)
        return code


def test_ctrl_c_stops_the_answer_and_not_the_chat(tmp_path: Path) -> None:
    endless = make_run(tmp_path / "endless", context_length=60_000)
    person = Typist(command(endless, "--temperature", "0"), columns=100)
    person.wait(lambda seen: "you > " in seen)
    person.type("Tell me everything.\n")
    person.wait(lambda seen: len(seen) > 300)
    person.process.send_signal(signal.SIGINT)
    person.wait(lambda seen: "stopped" in seen and seen.rstrip().endswith("you >"))
    person.insist(lambda seen: "/quit leaves" in seen and seen.rstrip().endswith("you >"))
    person.type("/max-tokens 5\n")
    person.wait(lambda seen: "max_tokens 5" in seen and seen.rstrip().endswith("you >"))
    person.type("Once more.\n")
    person.wait(lambda seen: "round 1 >" in seen and seen.rstrip().endswith("you >"))
    assert person.leave() == 0


def test_where_there_is_room_answers_stand_in_columns(run: Path) -> None:
    for width, beside in ((120, True), (60, False)):
        chat, show = Chat([run / "base", run / "instruct"], SHORT), Listening()
        show.out = Console(force_terminal=True, width=width, height=30, file=io.StringIO(), color_system=None)
        show.answers(chat.speakers, chat.ask("Who are you?"))
        lines = show.out.file.getvalue().splitlines()  # type: ignore[attr-defined]
        assert any("base >" in line and "instruct >" in line for line in lines) == beside
        assert any("instruct >" in line for line in lines)
