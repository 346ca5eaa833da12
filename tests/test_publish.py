"""Published folders verify, follow the umask, and their damage is seen before use."""

import json
import os
import random
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from tests.publishing import failure, version
from trivium.errors import CheckpointError
from trivium.publish import MANIFEST, fingerprint, flaw, publish, verify


def test_a_published_folder_verifies_and_its_fingerprint_is_its_content(tmp_path: Path) -> None:
    first = publish(tmp_path / "new" / "a", version(1))
    assert first == verify(tmp_path / "new" / "a") == fingerprint(tmp_path / "new" / "a")
    assert len(first) == 16
    assert publish(tmp_path / "b", version(1)) == first
    assert publish(tmp_path / "b", version(2)) != first
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b", "new"]


def test_files_added_later_do_not_disturb_a_published_folder(tmp_path: Path) -> None:
    publish(tmp_path / "a", version(1))
    (tmp_path / "a" / "notes.txt").write_text("mine")
    assert verify(tmp_path / "a") == fingerprint(tmp_path / "a")


def test_published_files_follow_the_umask(tmp_path: Path) -> None:
    publish(tmp_path / "a", lambda folder: save_file({"weight": torch.ones(2)}, folder / "model.safetensors"))
    (tmp_path / "usual").touch()
    assert (tmp_path / "a" / "model.safetensors").stat().st_mode == (tmp_path / "usual").stat().st_mode


def test_flipped_bits_are_found_wherever_they_are(tmp_path: Path) -> None:
    folder, chance = tmp_path / "a", random.Random(3)
    publish(folder, version(1))
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    for trial in range(60):
        path = files[trial % len(files)]
        sound = path.read_bytes()
        damaged = bytearray(sound)
        damaged[chance.randrange(len(sound))] ^= 1 << chance.randrange(8)
        path.write_bytes(damaged)
        assert flaw(folder), f"{path} with another bit went unnoticed"
        path.write_bytes(sound)
    assert flaw(folder) is None


def test_damage_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "a"
    remedy = "restore it from a copy, or delete it and run the same command again"

    def expect(wrong: str) -> None:
        with pytest.raises(CheckpointError) as caught:
            verify(folder)
        assert str(caught.value) == f"{folder}: {wrong}; {remedy}"
        publish(folder, version(1))

    expect("does not exist")
    os.truncate(folder / "model.safetensors", 100)
    expect("model.safetensors does not match its manifest")
    (folder / "deep" / "part").unlink()
    expect("deep/part is missing")
    (folder / "config.json").write_bytes(bytes(12_000))
    expect("config.json does not match its manifest")
    names = json.loads((folder / MANIFEST).read_text())
    names["files"] = {"../secret": {"size": 0, "sha256": ""}}
    (folder / MANIFEST).write_text(json.dumps(names, indent=1) + "\n")
    expect("manifest.json names ../secret, which is outside of the folder")
    (folder / MANIFEST).write_text('{"format": "trivium-manifest-1", "files": 3}')
    expect("manifest.json is damaged")
    (folder / MANIFEST).unlink()
    assert flaw(folder) == "has no manifest.json"
    with pytest.raises(CheckpointError, match=r"a: has no manifest.json; give a folder that Trivium published"):
        fingerprint(folder)


def test_swapped_shards_are_found(tmp_path: Path) -> None:
    def write(folder: Path) -> None:
        for shard in (1, 2):
            save_file({"weight": torch.full((8,), shard)}, folder / f"model-{shard}.safetensors")

    publish(tmp_path / "a", write)
    one, two = (tmp_path / "a" / f"model-{shard}.safetensors" for shard in (1, 2))
    two.replace(tmp_path / "kept"), one.replace(two), (tmp_path / "kept").replace(one)
    assert flaw(tmp_path / "a") == "model-1.safetensors does not match its manifest"


def test_a_folder_of_the_users_own_files_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    publish(tmp_path / "thesis", version(1))  # an empty folder is nobody's loss
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").write_text("cat")
    told = failure(lambda: publish(tmp_path / "photos", version(1)))
    assert told == f"{tmp_path}/photos: holds files that Trivium did not publish; choose another folder"
    assert (tmp_path / "photos" / "cat.jpg").read_text() == "cat"


def test_an_unwritable_place_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    told = failure(lambda: publish(tmp_path / "file" / "a", version(1)))
    assert told == (
        f"{tmp_path}/file/a: cannot be written (File exists at {tmp_path}/file); "
        "choose a path that does not lead through a file and run the same command again"
    )
    long = tmp_path / ("a" * 300)
    assert failure(lambda: publish(long, version(1))) == (
        f"{long}: cannot be written (File name too long at {long}); "
        "choose a shorter name and run the same command again"
    )
    assert flaw(long) == "manifest.json cannot be read (File name too long)"
