"""Text of one's own in phase I: what changes while a run is under way, sources beside each other, other scripts."""

import json
from pathlib import Path

import pytest

from tests.story.conftest import TINY
from trivium import cli
from trivium.story.teller import Teller

SMALL = TINY.replace("vocab_size = 300", "vocab_size = 263")  # bytes and control tokens: any text gives them
SENTENCES = {
    "spaced": "The cat number {i} sat on mat {j}. It was warm there, and Ada said so. ",
    "without spaces": "第{i}只猫坐在垫子上看着第{j}只鸟。天气很暖和。",
    "without a word": "{i} {j} 7 3 11 {i}\n",
}


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A recipe that learns from a folder beside it."""
    write(tmp_path, "spaced")
    path = tmp_path / "own.toml"
    path.write_text(SMALL.replace("[data]\n", f'[data]\ntext = ["{tmp_path}/texts"]\n'))
    return path


def write(folder: Path, kind: str) -> None:
    (folder / "texts").mkdir(exist_ok=True)
    for i in range(24):
        text = "".join(SENTENCES[kind].format(i=i, j=i * j + j) for j in range(6))
        (folder / "texts" / f"{i}.txt").write_text(text, encoding="utf-8")


def test_a_phase_that_was_begun_on_other_text_does_not_go_on(
    own: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def killed(*_: object, **__: object) -> None:
        raise RuntimeError("killed")

    told = ["pretrain", str(own), "--out", str(own.parent / "run")]
    with monkeypatch.context() as patch:
        patch.setattr(Teller, "publish", killed)
        with pytest.raises(RuntimeError, match="killed"):
            cli.main(told)
    more = own.parent / "texts" / "more.txt"
    more.write_text("Once more there was a text, which nobody had read before. " * 3)
    capsys.readouterr()
    with pytest.raises(SystemExit):
        cli.main(told)
    said = capsys.readouterr().err
    assert "pretrain was begun on other data (data.text, fingerprint" in said
    assert "put the files back as they were, or choose another --out" in said
    more.unlink()
    cli.main(told)
    assert (own.parent / "run" / "base" / "model.safetensors").exists()
    more.write_text("Afterwards anything may change. " * 3)
    cli.main(told)


@pytest.mark.parametrize("kind", SENTENCES)
def test_text_of_any_script_is_examined_and_reported(kind: str, own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(own.parent, kind)
    run = str(own.parent / "run")
    cli.main(["pretrain", str(own), "--out", run])
    capsys.readouterr()
    cli.main(["evaluate", run])
    assert "bits/byte" in capsys.readouterr().out
    cli.main(["evaluate", run, "--json"])
    found = json.loads(capsys.readouterr().out)["base"]
    assert ("blank_accuracy" in found) is (kind != "without a word")
    cli.main(["report", run])
