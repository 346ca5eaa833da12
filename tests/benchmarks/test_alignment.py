"""The benchmark of phase III: what its records come to, by hand."""

import math
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from benchmarks.alignment.__main__ import Trial, work
from benchmarks.alignment.curves import (
    ACCURACY,
    Fit,
    final_over_peak,
    fit,
    kept_by_watch,
    mean,
    votes_at,
    votes_ratio,
    win_rate_at,
)
from benchmarks.alignment.foundation import TINY, make_foundation, noise_at
from benchmarks.alignment.page import write_page
from benchmarks.alignment.policies import HALVES
from benchmarks.alignment.records import Records, Stamp
from benchmarks.alignment.summary import summarise, tell
from trivium.config import resolve, to_toml
from trivium.errors import ConfigError, DivergedError, RewardError

FULL = Stamp("full", "ab")
MEASURED = {"reward": 1.0, "length": 20.0, "ended": 1.0, "distinct": 0.8}


def curve(*golds: float) -> list[dict[str, Any]]:
    """The judge prefers whoever is worth more; a nat further each time."""
    return [
        {"step": 10 * i, "kl": float(i), "gold": gold, "win_rate": gold, **dict.fromkeys(HALVES, gold), **MEASURED}
        for i, gold in enumerate([0.5, *golds])
    ]


def policy(name: str, seed: int, win_rate: float, *, part: str = "policy", kl: float = 1.0) -> dict[str, Any]:
    return {
        "name": f"{name}-{seed}", "part": part, "win_rate": win_rate, "gold": 0.7, "gold_of_instruct": 0.5, "kl": kl,
        "gold_at_first": 0.5, "length": 20.0, "collapsed": win_rate < 0.4,
        "curve": curve(0.6, 0.7, 0.8, 0.65, 0.6, 0.5),
    }  # fmt: skip


def test_a_seed_that_diverges_is_counted_as_collapsed_and_in_no_mean() -> None:
    lost = {"name": "grpo-2", "part": "policy", "collapsed": True, "diverged": "no finite loss"}
    found = summarise([policy("grpo", 0, 0.7), policy("grpo", 1, 0.6), lost])
    told = found.as_json()["grpo"]
    assert (told["seeds"], told["collapses"], told["win_rate"]) == (3, 1, pytest.approx(0.65))
    assert "1 of 3" in tell(found)
    assert "Diverged, and in no mean: grpo-2" in tell(found)
    assert summarise([lost]).as_json()["diverged"] == ["grpo-2"]


def test_a_trial_that_diverges_leaves_a_record_and_one_that_fails_leaves_none(tmp_path: Path) -> None:
    def raising(error: Exception) -> dict[str, Any]:
        raise error

    records = Records(tmp_path, FULL)
    errors = {"a-0": DivergedError("no finite loss"), "b-0": RewardError("not to be trusted")}
    work((Trial(name, "policy", partial(raising, error)) for name, error in errors.items()), records, ["policy"], 9.0)
    (kept,) = records.all()
    assert (kept["name"], kept["collapsed"], kept["diverged"]) == ("a-0", True, "no finite loss")


def test_no_record_is_taken_for_one_of_another_kind(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Records(tmp_path, FULL).keep("grpo-0", {"part": "policy"})
    for other in (FULL._replace(scale="quick"), FULL._replace(foundation="c0")):
        with pytest.raises(ConfigError, match=r"grpo-0.json: was made full on foundation ab, this is .*; choose"):
            Records(tmp_path, other)
    assert not capsys.readouterr().err
    (tmp_path / "old-0.json").write_text('{"name": "old-0", "part": "policy"}')
    assert len(Records(tmp_path, FULL).all()) == 2
    assert capsys.readouterr().err == "records that do not say what they were made with: 1; taken for full ones\n"


def test_what_quick_left_is_no_foundation_of_a_full_benchmark(tmp_path: Path) -> None:
    (tmp_path / "foundation").mkdir()
    (tmp_path / "foundation" / "recipe.toml").write_text(to_toml(resolve(TINY)))
    with pytest.raises(ConfigError, match="was made by --quick; choose another --out"):
        make_foundation(tmp_path, run=None, minutes=1.0, quick=False)


def test_agreement_of_two_voters_is_noise_of_one() -> None:
    for agreement in (63, 73, 85, 100):
        noise = noise_at(agreement)
        assert (1 - noise) ** 2 + noise**2 == pytest.approx(agreement / 100, abs=1e-5)


def test_a_mean_over_seeds_has_its_interval() -> None:
    assert mean([0.5]) == (0.5, None, None, 1)
    found = mean([0.5, 0.7])
    assert found.low == pytest.approx(0.6 - 12.71 * 0.1)
    assert found[0] == pytest.approx(0.6)


def test_the_curve_of_over_optimisation_is_found_again() -> None:
    true = Fit(1.0, 0.4)
    found = fit([(d / 10, true.at(d / 10)) for d in range(0, 60, 3)])
    assert found == pytest.approx(true)
    assert found is not None
    assert found.peak == pytest.approx(math.exp(1.5))
    assert Fit(1.0, 0.0).peak is None
    assert fit([(1.0, 1.0), (2.0, 2.0)]) is None


def test_what_the_watch_keeps_stands_beside_the_best_of_the_curve() -> None:
    record = {"curve": curve(0.6, 0.7, 0.68, 0.55, 0.55, 0.9)}
    assert final_over_peak(record) == pytest.approx(0.2 / 0.4), "it is stopped before it rises again"
    assert final_over_peak(record, kl=4.5) == pytest.approx(1.0)
    assert final_over_peak(record, kl=2.5) == pytest.approx(0.18 / 0.2), "it is followed until it is that far"
    assert kept_by_watch(record)[0]["kl"] == 2.0
    assert final_over_peak({"curve": curve(0.4, 0.45)}) is None


def test_neither_what_is_kept_nor_the_best_is_measured_where_it_was_chosen() -> None:
    """The watch keeps step 20; of one half step 10 is best, worth .1 to the other, of the other step 30, likewise."""
    record = {"curve": curve(0.6, 0.8, 0.7)}
    for one, worth, other in zip(record["curve"], (0.5, 0.7, 0.65, 0.6), (0.5, 0.6, 0.65, 0.7), strict=True):
        one.update(zip(HALVES, (worth, other), strict=True))
    assert final_over_peak(record) == pytest.approx((0.15 + 0.15) / (0.1 + 0.1))
    record["curve"][1].pop(HALVES[0])
    assert final_over_peak(record) is None, "where it was not measured"


def test_votes_are_compared_at_what_both_reach() -> None:
    ways = {
        "random": [(100, 0.6, 0.5), (200, 0.7, 0.6), (300, 0.72, 0.65)],
        "active": [(100, 0.6, 0.5), (200, 0.72, 0.65), (300, 0.8, 0.7)],
    }
    assert votes_at([(100, 0.6), (200, 0.7)], 0.65) == pytest.approx(150)
    assert votes_ratio(ways) == votes_ratio(ways, ACCURACY) == pytest.approx(300 / 200)
    assert votes_at([(100, 0.6), (200, 0.7)], 0.9) is None
    assert votes_ratio({way: [one[:2] for one in points] for way, points in ways.items()}) is None


def test_best_of_n_is_read_at_the_kl_of_the_policy() -> None:
    assert win_rate_at([(0.0, 0.5), (1.0, 0.6), (2.0, 0.8)], 1.5) == pytest.approx(0.7)
    assert win_rate_at([(0.0, 0.5), (1.0, 0.6)], 1.5) is None


def test_records_so_far_are_summed_up_with_their_number_of_seeds(tmp_path: Path) -> None:
    reward = {
        "name": "reward-85-0", "part": "reward", "truth": 0.9, "accuracy": 0.8, "ceiling": 0.9, "ece": 0.02,
        "share_of_ceiling": 0.89, "length_correlation": 0.1, "longer_wins": 0.6, "pairs": 100,
        "truth_debiased": 0.85, "length_correlation_debiased": 0.01,
    }  # fmt: skip
    points = [{"n": n, "kl": math.log(n) - (n - 1) / n, "gold": 0.6, "reward": 1.0, "win_rate": 0.6} for n in (2, 16)]
    records = [
        reward,
        policy("grpo", 0, 0.7),
        policy("grpo", 1, 0.3),
        policy("over-ensemble", 0, 0.6, part="over"),
        {"name": "best-0", "part": "best", "points": points, "gold_of_instruct": 0.5},
        {
            "name": "votes-0",
            "part": "votes",
            "random": [(10, 0.5, 0.5), (20, 0.6, 0.6)],
            "active": [(10, 0.5, 0.5), (15, 0.6, 0.6)],
        },
        {
            "name": "real-x",
            "part": "real",
            "accuracy": 0.8,
            "low": 0.7,
            "high": 0.9,
            "longer_wins": 0.7,
            "pairs": 9,
            "longer_text_wins": 0.65,
        },
    ]
    found = summarise(records)
    told = found.as_json()
    assert {key: told["grpo"][key] for key in ("seeds", "collapses", "win_rate")} == {
        "seeds": 2, "collapses": 1, "win_rate": pytest.approx(0.5),
    }  # fmt: skip
    assert told["reward"] == {"share_of_ceiling": 0.89, "ece": 0.02, "length_correlation": 0.1}
    assert told["votes_ratio"] == pytest.approx(20 / 15)
    assert told["final_over_peak"] == pytest.approx(1.0)
    assert found.outcomes["grpo"].over_sixteen is not None
    assert found.outcomes["grpo"].over_sixteen.value == pytest.approx(0.1)
    text = tell(found)
    for part in ("1 of 2", "Reward models", "70.0%", "are simulated", "votes at random"):
        assert part in text, part
    write_page(tmp_path / "summary.html", found)
    page = (tmp_path / "summary.html").read_text()
    assert page.count("<svg class") == 5
    assert "<script" not in page
    assert summarise([]).as_json()["votes_ratio"] is None
