"""The README's commands are real: each is run, in order, as it stands there, but for the size of what is trained."""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.foreign import write_folder
from trivium.config import resolve

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
SERVING = ("trivium studio",)  # until they are stopped
COMMANDS = [line.split("  #")[0].strip() for line in re.findall(r"^(?:trivium|make) .*$", README, re.MULTILINE)]
SMALLER = {
    "--minutes": "--minutes 0.05 --model.num_layers 1 --model.width 16 "
    "--pretrain.steps 3 --instruct.steps 3 --reward.steps 2 --align.steps 2 --align.rows_per_step 8 "
    "--align.microbatch_rows 8 --align.max_new_tokens 8 --evaluate.comparisons 4 --evaluate.blanks 4 --align.no-gate",
    "--instruct.lora-rank": "--minutes 0.05 --instruct.steps 3 --instruct.lora-rank 16",
    "--round": "--round --votes.pairs 12 --align.steps 1",
}


@pytest.fixture(scope="module")
def here(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A newcomer's folder: a finished run, texts and answers of their own."""
    folder = tmp_path_factory.mktemp("newcomer")
    shutil.copytree(finished, folder / "runs" / "demo")
    write_folder(folder / "my_download")
    (folder / "my_texts").mkdir()
    for i in range(30):
        (folder / "my_texts" / f"{i}.txt").write_text(f"The cat number {i} sat on mat {i * i}. It was warm there. " * 3)
    rows = [{"prompt": f"What is {i} and one?", "response": f"It is {i + 1}."} for i in range(40)]
    (folder / "my_answers.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.mark.parametrize("command", [c for c in COMMANDS if c.startswith("trivium") and not c.startswith(SERVING)])
def test_the_command_does_what_it_says(command: str, here: Path) -> None:
    for flag, smaller in SMALLER.items():
        command = re.sub(rf"{flag}( [\d.]+)?(?= |$)", smaller, command, count=1)
    done = subprocess.run(
        [sys.executable, "-m", "trivium", *shlex.split(command)[1:]],
        cwd=here,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        input="Who are you?\n" if " chat " in command else "1\nq\n",
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.strip() or done.stderr.strip()


@pytest.mark.parametrize("command", [c for c in COMMANDS if c.startswith(SERVING)])
def test_what_serves_prints_its_address_answers_there_and_ends_when_told(command: str, here: Path) -> None:
    arguments = [sys.executable, "-m", "trivium", *shlex.split(command)[1:], "--no-browser"]
    served = subprocess.Popen(arguments, cwd=here, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert served.stdout
    address = served.stdout.readline().strip()
    assert httpx.get(address, follow_redirects=False, timeout=30).status_code == 303
    served.send_signal(signal.SIGINT)
    _, said = served.communicate(timeout=30)
    assert "Traceback" not in said


def test_make_knows_the_commands_of_the_readme() -> None:
    asked = {command.split()[1] for command in COMMANDS if command.startswith("make")}
    assert asked == {"demo", "test"}
    for target in asked:
        would_do = subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True, text=True, check=True).stdout
        assert {"demo": "trivium run --minutes 10", "test": "-m pytest"}[target] in would_do


DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.stem)
def test_the_files_that_a_document_links_to_exist(document: Path) -> None:
    for name in re.findall(r"\]\(([^)#:]+)\)", document.read_text(encoding="utf-8")):
        assert (document.parent / name).exists(), name


@pytest.mark.parametrize("document", [ROOT / "README.md", ROOT / "docs" / "guide.md"], ids=lambda path: path.stem)
def test_the_settings_that_a_document_names_exist(document: Path) -> None:
    settings = resolve({}).model_dump()
    for section, key in re.findall(r"--([a-z]+)\.([a-z_-]+)", document.read_text(encoding="utf-8")):
        assert key.replace("-", "_").removeprefix("no_") in settings[section], f"{section}.{key}"


def test_the_index_names_every_decision_by_its_title() -> None:
    folder = ROOT / "docs" / "decisions"
    index = (folder / "README.md").read_text(encoding="utf-8")
    for path in sorted(folder.glob("0*.md")):
        number, title = path.read_text(encoding="utf-8").splitlines()[0].removeprefix("# ").split(" ", 1)
        assert f"- {number} [{title}]({path.name})\n" in index
