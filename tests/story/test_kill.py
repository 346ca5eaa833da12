"""Kill it anywhere, in any phase; the same command goes on, to the bit."""

import random
import signal
from pathlib import Path
from typing import Any

import pytest

PHASES = {"pretrain": 8, "instruct": 8, "reward-001": 6, "align-001": 6}
MODELS = {
    "pretrain": "base",
    "instruct": "instruct",
    "reward-001": "rounds/001/reward",
    "align-001": "rounds/001/aligned",
}


def places(chance: random.Random) -> list[dict[str, Any]]:
    """Where to kill, in the order of the story: between steps, in saves, while models and votes are put away."""
    found: list[dict[str, Any]] = [
        {"seen": ".cache/texts/*"},
        {"seen": "tokenizer"},
        {"seen": ".cache/shards/*"},
    ]
    for phase, steps in PHASES.items():
        if phase == "reward-001":
            found += [{"seen": "feedback.db", "delay": chance.uniform(0, 0.02)}, {"seen": "rounds/001/votes.json"}]
        first, second = sorted(chance.sample(range(1, steps), 2))
        found.append({"after": [phase, first], "delay": chance.uniform(0, 0.03)})
        found.append({"seen": f".state/{phase}/.tmp-*", "delay": chance.uniform(0, 0.004)})
        found.append({"after": [phase, second], "delay": chance.uniform(0, 0.03)})
        found.append({"after": [phase, steps], "delay": chance.uniform(0, 0.03)})
        parent, _, name = MODELS[phase].rpartition("/")
        found.append({"seen": f"{parent or '.'}/.tmp-{name}-*", "delay": chance.uniform(0, 0.005)})
        found.append({"seen": MODELS[phase], "delay": chance.uniform(0, 0.005)})
    return [*found, {"seen": ".tmp-measures.json-*"}, {"seen": "measures.json"}]


def assert_as_if_nothing_had_happened(run: Path, finished: Path, facts: Any) -> None:
    found, expected = facts(run), facts(finished)
    for name in expected:
        assert found[name] == expected[name], name
    assert found.keys() == expected.keys()
    left = [path for path in run.rglob("*") if path.name.startswith((".tmp-", ".old-", "damaged-", "step-"))]
    assert left == []
    for kept in ("texts", "shards"):
        assert [path.name for path in (run / ".cache" / kept).iterdir() if path.name.startswith(".")] == []


@pytest.mark.parametrize("seed", [1])  # more, to look for rare moments
def test_a_run_that_is_killed_again_and_again_ends_with_the_same_bits(
    seed: int, recipe: Path, finished: Path, stable: Any, facts: Any, tmp_path: Path
) -> None:
    run, killed = tmp_path / "run", 0
    wanted = places(random.Random(seed))
    for where in wanted:
        ended = stable.kill("run", recipe, "--out", run, folder=run, **where)
        assert ended.code in (-9, 0), f"{where}: {ended.said[-3000:]}"
        killed += ended.code == -9
    stable.finish("run", recipe, "--out", run, folder=run)
    assert killed > 0.75 * len(wanted)
    assert_as_if_nothing_had_happened(run, finished, facts)


def test_a_kill_loses_less_than_what_was_done_since_the_last_save(recipe: Path, stable: Any, tmp_path: Path) -> None:
    """It saves after every step here: at most the step in progress is done again."""
    run = tmp_path / "run"
    stable.kill("pretrain", recipe, "--out", run, folder=run, after=["pretrain", 5])
    checkpoints = sorted(path.name for path in (run / ".state" / "pretrain").glob("step-*"))
    assert checkpoints[-1] >= "step-000004"


@pytest.mark.parametrize(
    ("number", "where"),
    [
        (signal.SIGTERM, {"after": ["pretrain", 3]}),
        (signal.SIGINT, {"after": ["instruct", 8]}),
        (signal.SIGTERM, {"seen": "feedback.db"}),
        (signal.SIGINT, {"after": ["reward-001", 2]}),
        (signal.SIGTERM, {"after": ["align-001", 2]}),
        (signal.SIGINT, {"seen": "rounds/001/aligned"}),
    ],
    ids=["pretrain", "end of instruct", "votes", "reward", "align", "examination"],
)
def test_asked_to_stop_it_says_how_to_go_on_and_goes_on_to_the_same_bits(
    number: int,
    where: dict[str, Any],
    recipe: Path,
    finished: Path,
    stable: Any,
    facts: Any,
    tmp_path: Path,
    asked: Path,
) -> None:
    """Each part goes on with the run of the part before."""
    run = asked
    ended = stable.start("run", recipe, "--out", run, folder=run, delay=0.0, signal=int(number), **where)
    assert ended.killed
    assert ended.code == 130, ended.said[-3000:]
    assert "the same command goes on from here" in " ".join(ended.said.split())
    assert "Traceback" not in ended.said
    if "rounds/001/aligned" in where.values():
        stable.finish("run", recipe, "--out", run, folder=run)
        assert_as_if_nothing_had_happened(run, finished, facts)


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("asked") / "run"
