"""The README's commands are real: the program understands every one of them, and what it names exists."""

import re
import shlex
from pathlib import Path

import pytest

from trivium.cli import app

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = [line.split("  #")[0].strip() for line in re.findall(r"^(?:trivium|make) .*$", README, re.MULTILINE)]


@pytest.mark.parametrize("command", [c for c in COMMANDS if c.startswith("trivium")])
def test_the_program_understands(command: str) -> None:
    verb, *_ = app.parse_args(shlex.split(command)[1:], exit_on_error=False, print_error=False)
    assert callable(verb)


def test_make_knows_the_commands_of_the_readme() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    asked = {command.split()[1] for command in COMMANDS if command.startswith("make")}
    assert asked == {"demo", "test"}
    assert asked <= targets


def test_the_files_that_the_readme_names_exist() -> None:
    for name in re.findall(r"\]\(([^)#]+)\)", README):
        assert (ROOT / name).exists(), name
