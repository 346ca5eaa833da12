"""What is shown fits where it is shown, and nothing is cut short where there is room."""

import sys

import pytest

from trivium.show import PAGE, Show, console_for

NAMES = ["", "bits/byte", "blanks", "instructions", "win rate (95 %)", "KL, nats", "length"]
ROW = ["aligned", "1.234", "40.0%", "81.0%", "71.4% (67.2% to 75.2%)", "4.31", "31.2"]


@pytest.fixture(autouse=True)
def nobody_says_how_wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)


def test_a_table_in_a_pipe_says_every_word(capsys: pytest.CaptureFixture[str]) -> None:
    Show(stderr=False).table("On held-out data", NAMES, [ROW])
    told = capsys.readouterr().out
    for word in [*NAMES, *ROW]:
        assert word in told
    assert "…" not in told


def test_a_table_in_a_pipe_is_as_wide_as_it_needs(capsys: pytest.CaptureFixture[str]) -> None:
    Show(stderr=False).table("", ["name", "what"], [["a" * PAGE, "b" * PAGE]])
    assert f"{'a' * PAGE} │ {'b' * PAGE}" in capsys.readouterr().out


def test_a_table_on_a_terminal_is_no_wider_than_that(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "60")
    Show(stderr=False).table("", ["name", "what"], [["a" * PAGE, "b" * PAGE]])
    top, *_, bottom = capsys.readouterr().out.splitlines()
    assert len(top) == len(bottom) <= 60


def test_a_pipe_is_a_page_wide_unless_the_environment_says_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    assert console_for().width == PAGE
    monkeypatch.setenv("COLUMNS", "90")
    assert console_for().width == 90


def test_how_far_a_text_is_read_is_a_line_on_stderr_now_and_then(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trivium.show.LINE_SECONDS", 0.0)
    with Show().watching() as progress:
        progress("encoded", 0, 5_000_000)
        progress("encoded", 2_000_000, 5_000_000)
        progress("read", 3_000_000, None)
    told = capsys.readouterr().err.splitlines()
    assert told[1].startswith("  encoded   2 of 5 MB  ")
    assert "MB/s  eta " in told[1]
    assert told[2].startswith("  read      3 MB  ")


def test_on_a_terminal_it_is_a_bar_that_goes_away(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setattr("trivium.show.REDRAW_SECONDS", 0.0)
    monkeypatch.setenv("TERM", "xterm")
    show = Show()
    with show.watching() as progress:
        progress("encoded", 2_000_000, 5_000_000)
        assert show._bar is not None
    assert show._bar is None
    assert "encoded" in capsys.readouterr().err


def test_what_a_model_said_cannot_steer_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    show = Show(stderr=False)
    show.say("a\x1b[2Jb")
    show.quote("a\x1b[2Jb", "c\x1b]0;title\x07d")
    show.compare("", ["prompt"], [["e\x9bf"]])
    told = capsys.readouterr().out
    assert "a\ufffd[2Jb" in told
    assert all(letter.isprintable() or letter == "\n" for letter in told)
