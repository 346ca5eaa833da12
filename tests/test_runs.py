"""The run folder: one writer, many readers, a journal with one line per step."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trivium.errors import CheckpointError, DataError, RunError
from trivium.lineage import Lineage, read_lineage, write_lineage
from trivium.publish import publish, verify
from trivium.runs import NAME, Journal, Run, open_run, read_run

pytestmark = pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")


def refusal(path: Path, *, create: bool = True) -> str:
    with pytest.raises(RunError) as caught, open_run(path, create=create):
        pass
    return str(caught.value)


@contextmanager
def another_process_on(path: Path) -> Iterator[int]:
    """A process that has the run open, and a forked worker of its own. Yields its pid."""
    ready, theirs = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            with open_run(path, create=True):
                if os.fork() == 0:  # a data worker that outlives its parent
                    os.write(theirs, f"{os.getpid()} ".encode())
                signal.pause()
        finally:
            os._exit(1)
    os.close(theirs)
    with os.fdopen(ready, "rb", buffering=0) as told:
        worker = int(told.read(20))
    try:
        yield child
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.kill(worker, signal.SIGKILL)


def test_everything_has_its_place(tmp_path: Path) -> None:
    run = Run(tmp_path)
    places = [run.recipe, run.plan, run.journal, run.tokenizer, run.base, run.instruct, run.feedback, run.samples]
    places += [run.report, run.cache, run.state("pretrain"), run.round(1).reward, run.round(12).aligned]
    assert " ".join(str(place.relative_to(tmp_path)) for place in places) == (
        "recipe.toml plan.json journal.jsonl tokenizer base instruct feedback.db samples.jsonl "
        "report.html .cache .state/pretrain rounds/001/reward rounds/012/aligned"
    )


def test_rounds_are_listed_in_order(tmp_path: Path) -> None:
    assert Run(tmp_path).rounds() == []
    for name in ("010", "002", "1000", "000", "notes", ".tmp-011"):
        (tmp_path / "rounds" / name).mkdir(parents=True)
    assert [turn.number for turn in Run(tmp_path).rounds()] == [2, 10, 1000]
    assert Run(tmp_path).rounds()[0] == Run(tmp_path).round(2)


def test_a_run_is_made_opened_again_and_read(tmp_path: Path) -> None:
    path = tmp_path / "runs" / "a"
    with open_run(path, create=True) as run:
        assert read_run(path) == run == Run(path)
    with open_run(path, create=True) as run:
        assert run.path == path
    with open_run(path, create=False) as run:
        assert run.path == path


def test_a_second_process_refuses_and_goes_on_when_the_first_was_killed(tmp_path: Path) -> None:
    path = tmp_path / "a"
    with another_process_on(path) as pid:
        assert refusal(path) == f"{path}: another process (pid {pid}) is using it; wait, or stop it"
        assert refusal(path, create=False) == refusal(path)
        assert read_run(path) == Run(path)
        os.kill(pid, signal.SIGKILL)
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        # its worker lives on, and does not keep the run
        with open_run(path, create=False):
            pass


def test_a_process_on_another_host_is_named_with_its_host(tmp_path: Path) -> None:
    path = tmp_path / "a"
    with another_process_on(path):
        (path / ".lock").write_text("123 elsewhere\n")
        assert refusal(path) == (f"{path}: another process (pid 123 on elsewhere) is using it; wait, or stop it")


def test_one_process_opens_a_run_only_once_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "a"
    with open_run(path, create=True):
        again = tmp_path / ".." / tmp_path.name / "a"
        assert refusal(again) == (
            f"{again}: this process (pid {os.getpid()}) is using it already; wait until it is done"
        )
        # and the refusal has not loosened the lock
        locked = "import sys; from pathlib import Path; from trivium.runs import open_run\n"
        locked += f"with open_run(Path({str(path)!r}), create=False): pass"
        other = subprocess.run([sys.executable, "-c", locked], capture_output=True, text=True, check=False)
        assert f"another process (pid {os.getpid()}) is using it" in other.stderr
    with open_run(path, create=False):
        pass


def test_opening_clears_what_a_killed_process_left(tmp_path: Path) -> None:
    run = Run(tmp_path / "a")
    with open_run(run.path, create=True):
        publish(run.base, lambda folder: (folder / "weights").touch())
    left = [run.path, run.path / "rounds", run.round(1).path, run.state("pretrain"), run.cache]
    for folder in left:
        (folder / ".tmp-base-0123abcd").mkdir(parents=True)
    run.base.rename(run.path / ".old-base")
    with open_run(run.path, create=False):
        assert not list(run.path.rglob(".tmp-*"))
        assert verify(run.base)


def test_a_path_that_is_no_run_is_refused_with_the_nearest_name(tmp_path: Path) -> None:
    with open_run(tmp_path / "tinyworld", create=True):
        pass
    with pytest.raises(RunError) as caught:
        read_run(tmp_path / "tinywrld")
    assert str(caught.value) == f"{tmp_path}/tinywrld: there is no such run; did you mean {tmp_path}/tinyworld?"
    (tmp_path / "photos").mkdir()
    assert refusal(tmp_path / "photos", create=False) == (
        f"{tmp_path}/photos: is not a run folder; start one with `trivium run --out {tmp_path}/photos`"
    )
    with pytest.raises(RunError, match="nowhere/at/all: there is no such run; start one with"):
        read_run(tmp_path / "nowhere" / "at" / "all")


def test_a_model_that_a_run_has_not_made_yet_is_refused_with_how_to_go_on(tmp_path: Path) -> None:
    with open_run(tmp_path / "tinyworld", create=True) as run:
        run.recipe.touch()
    for model in (run.instruct, run.round(1).aligned):
        with pytest.raises(RunError) as caught:
            read_run(model)
        assert str(caught.value) == (
            f"{model}: the run {run.path} has no such model yet; go on with `trivium run {run.path}`"
        )


def test_a_copied_run_without_its_hidden_files_is_still_a_run(tmp_path: Path) -> None:
    (tmp_path / "recipe.toml").touch()
    assert read_run(tmp_path) == Run(tmp_path)


def test_files_of_the_users_own_do_not_become_a_run(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").touch()
    assert refusal(tmp_path / "photos") == (
        f"{tmp_path}/photos: is neither empty nor a run folder; choose another with --out"
    )


def test_a_new_runs_name_is_plain(tmp_path: Path) -> None:
    rule = "a run's name is up to 64 of a-z 0-9 . _ -, the first a letter or digit"
    assert refusal(tmp_path / "My Run!") == f"{tmp_path}/My Run!: {rule}; try my-run-"
    assert refusal(tmp_path / ".hidden") == f"{tmp_path}/.hidden: {rule}; try hidden"
    assert refusal(tmp_path / "__").endswith("try run-1")
    assert refusal(tmp_path / ("a" * 65)).endswith("try " + "a" * 64)
    assert not list(tmp_path.iterdir())


@given(name=st.text(min_size=1, max_size=80).filter(lambda name: "/" not in name and "\0" not in name))
def test_the_name_that_is_proposed_is_allowed(name: str) -> None:
    path = Path("/proc/nowhere") / name  # where nothing can be made
    told = refusal(path)
    if not NAME.fullmatch(path.resolve().name) and "too long" not in told:
        assert NAME.fullmatch(told.rpartition("; try ")[2])


def test_an_unwritable_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    remedy = "make it writable, or choose another with --out"
    assert refusal(tmp_path / "file" / "a") == f"{tmp_path}/file/a: cannot be written (Not a directory); {remedy}"
    assert refusal(tmp_path / "file") == (
        f"{tmp_path}/file: is a file, and a run is a folder; choose another with --out"
    )
    long = tmp_path / ("a" * 300)
    assert refusal(long) == f"{long}: cannot be written (File name too long); {remedy}"
    assert refusal(long, create=False) == f"{long}: cannot be read (File name too long); look at its permissions"


def test_a_read_only_disk_is_named_and_its_runs_can_be_read(tmp_path: Path) -> None:
    script = f"""
from pathlib import Path
from trivium.errors import RunError
from trivium.runs import open_run, read_run
path = Path({str(tmp_path)!r})
print(read_run(path / "a").path)
for name in ("a", "b"):
    try:
        with open_run(path / name, create=True): print("opened")
    except RunError as error:
        print(error)
"""
    with open_run(tmp_path / "a", create=True):
        pass
    mount = 'mount --bind "$1" "$1" && mount -o remount,ro,bind "$1" && exec "$2" -c "$3"'
    command = ["unshare", "-rm", "sh", "-c", mount, "sh", str(tmp_path), sys.executable, script]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if re.search("unshare|mount", done.stderr):
        pytest.skip(f"a read-only mount is refused here: {done.stderr}")
    remedy = "make it writable, or choose another with --out"
    assert done.stdout.splitlines() == [
        f"{tmp_path}/a",
        f"{tmp_path}/a: cannot be written (Read-only file system); {remedy}",
        f"{tmp_path}/b: cannot be written (Read-only file system); {remedy}",
    ]


def lines(phase: str, *steps: int) -> list[dict[str, object]]:
    return [{"phase": phase, "step": step, "loss": step / 7} for step in steps]


def journal_of(path: Path, records: list[dict[str, object]]) -> Journal:
    journal = Journal(path)
    for record in records:
        journal.write(record)
    return journal


def test_a_journal_gives_back_its_records_with_columns_in_order(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    assert Journal(path).read() == []
    journal_of(path, [{"step": 1, "loss": 0.1}]).close()
    journal_of(path, [{"loss": float("nan"), "ü": "\n", "at": [1]}]).sync()
    assert Journal(path).read() == [{"step": 1, "loss": 0.1}, {"loss": None, "ü": "\n", "at": [1]}]
    assert [list(record) for record in Journal(path).read()] == [["step", "loss"], ["loss", "ü", "at"]]
    assert path.read_text() == '{"step":1,"loss":0.1}\n{"loss":null,"ü":"\\n","at":[1]}\n'


def test_a_journal_torn_anywhere_in_its_last_line_goes_on_without_it(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    journal_of(path, lines("pretrain", 1, 2)).close()
    whole = path.read_bytes()
    second = whole.index(b"\n") + 1
    for end in range(second, len(whole)):
        path.write_bytes(whole[:end])
        assert Journal(path).read() == lines("pretrain", 1)
        journal_of(path, lines("pretrain", 2)).close()
        assert path.read_bytes() == whole
    path.write_bytes(whole + bytes(500))  # what a power failure can leave
    journal_of(path, lines("pretrain", 3)).close()
    assert Journal(path).read() == lines("pretrain", 1, 2, 3)


def test_a_damaged_line_in_the_middle_is_named(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    path.write_bytes(b'{"step":1}\n[2]\n{"step":3}\n')
    with pytest.raises(DataError, match=r"journal.jsonl:2: is not a JSON object \(.*\); delete that line"):
        Journal(path).read()


def test_a_rewound_journal_has_one_line_per_step(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    journal = journal_of(path, [*lines("pretrain", 1, 2), {"phase": "pretrain", "note": "spike"}])
    for record in lines("instruct", 1, 2, 3):
        journal.write(record)
    before = path.read_bytes()
    journal.rewind("instruct", 3)
    assert path.read_bytes() == before
    journal.rewind("instruct", 1)
    for record in lines("instruct", 2, 3):
        journal.write(record)
    assert path.read_bytes() == before
    journal.rewind("pretrain", 0)
    assert journal.read() == [{"phase": "pretrain", "note": "spike"}, *lines("instruct", 1, 2, 3)]


def test_a_full_disk_leaves_no_part_of_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "journal.jsonl"
    journal = journal_of(path, lines("pretrain", 1))
    write = os.write
    with monkeypatch.context() as full:
        full.setattr(os, "write", lambda descriptor, line: write(descriptor, line[:5]))
        with pytest.raises(RunError) as caught:
            journal.write({"phase": "pretrain", "step": 2})
    assert str(caught.value) == f"{path}: cannot be written (No space left on device); free some space"
    journal.write(lines("pretrain", 2)[0])
    assert journal.read() == lines("pretrain", 1, 2)


LINEAGE = Lineage(
    parent="0123456789abcdef",
    data={"tinyworld:17": "aa"},
    votes=None,
    config={"pretrain": {"learning_rate": 3e-4}, "minutes": 10},
    code="0.1.0",
    seed=17,
    machine="2 cores",
    metrics={"bits/byte": 1.47, "diverged": None},
    created="2026-01-02T03:04:05Z",
)


def test_lineage_comes_back_and_is_sealed_with_its_model(tmp_path: Path) -> None:
    publish(tmp_path / "base", lambda folder: write_lineage(folder, LINEAGE))
    assert read_lineage(tmp_path / "base") == LINEAGE
    assert json.loads((tmp_path / "base" / "lineage.json").read_text()) == msgspec.to_builtins(LINEAGE)
    (tmp_path / "base" / "lineage.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"base: lineage.json does not match its manifest"):
        verify(tmp_path / "base")


def test_missing_or_malformed_lineage_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"has no lineage.json; give a folder that Trivium published"):
        read_lineage(tmp_path)
    (tmp_path / "lineage.json").write_text('{"parent": 3}')
    with pytest.raises(CheckpointError, match=r"lineage.json is malformed \(.*parent.*\); restore it from a copy"):
        read_lineage(tmp_path)
