"""The report: it tells all that a run holds, calls the simulated simulated, and lets nothing out of its text."""

import base64
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trivium.config import resolve, to_toml
from trivium.errors import DataError, RunError
from trivium.lineage import Lineage, write_lineage
from trivium.model.hub import WEIGHTS
from trivium.publish import file_fingerprint, publish
from trivium.report import charts, write_report
from trivium.report.charts import NUMBER, SHARE, Series
from trivium.report.words import count, minutes, visible

few = settings(max_examples=40, deadline=None)
XSS = '</p><script>alert(1)</script><img src="https://evil.example/x.png" onerror="alert(2)">'
PHASES = ("pretrain", "instruct", "reward-001", "imitate-001", "align-001", "reward-002", "align-002")
REWARD = {
    "accuracy": 0.742,
    "accuracy_low": 0.69,
    "accuracy_high": 0.788,
    "ceiling": 0.85,
    "ece": 0.041,
    "length_correlation": 0.12,
    "longer_wins": 0.561,
    "pairs": 301,
    "by_margin": [[0.52, 0.5, 100], [0.7, 0.75, 100], [0.95, 1.0, 101]],
}
LANGUAGE = {"bits_per_byte": 1.234, "blank_accuracy": 0.4, "instruction_accuracy": 0.81, "by_kind": {"who": 0.5}}
MEASURES: dict[str, Any] = {
    "base": LANGUAGE | {"instruction_accuracy": 0.02},
    "instruct": LANGUAGE | {"loss": 0.5},
    "aligned": LANGUAGE
    | {
        "win_rate": 0.714,
        "win_rate_low": 0.672,
        "win_rate_high": 0.752,
        "comparisons": 500,
        "kl": 4.31,
        "mean_length": 31.2,
        "instruct_mean_length": 23.0,
        "ended": 0.99,
        "distinct": 0.93,
    },
    "reward": REWARD,
    "votes": {"simulated": True, "round": 2},
}
SIMULATED: dict[str, Any] = {"pretrain": {"steps": 4}, "instruct": {"steps": 4}}
PEOPLE = SIMULATED | {"data": {"answers": ("mine.jsonl",)}, "votes": {"simulated": False}}


def journal_of(phases: Sequence[str]) -> list[dict[str, Any]]:
    """Four steps of each phase, and what was measured after the second and the last."""
    lines: list[dict[str, Any]] = []
    for phase in phases:
        for step in range(1, 5):
            line = {"phase": phase, "step": step, "loss": 4 / step, "learning_rate": 1.0, "items": 8}
            lines.append(line | {"tokens_per_second": 100.0, "seconds": 0.5})
            if step % 2 == 0:
                lines.append({"phase": phase, "step": step, "evaluation": evaluation_of(phase, step)})
    return lines


def evaluation_of(phase: str, step: int) -> dict[str, float | None]:
    if phase == "pretrain":
        return {"bits_per_byte": 2.0 / step}
    if phase.startswith("align"):
        return {"reward": 0.1 * step, "kl": None, "win_rate": 0.9 - 0.1 * step, "ended": 1.0}
    return {"accuracy": 0.2 * step}


def make_run(
    folder: Path,
    *,
    phases: Sequence[str] = PHASES,
    recipe: Mapping[str, Any] = SIMULATED,
    measures: Mapping[str, Any] | None = MEASURES,
    answer: str = "Ruth.",
) -> Path:
    folder.mkdir(parents=True)
    (folder / "recipe.toml").write_text(to_toml(resolve(recipe)))
    (folder / "journal.jsonl").write_text("".join(json.dumps(line) + "\n" for line in journal_of(phases)))
    samples = [{"model": "base", "prompt": "Once upon", "answer": f" a time {answer}"}]
    samples += [
        {"model": name, "prompt": f"Who? {answer}", "answer": answer} for name in ("base", "instruct", "aligned")
    ]
    (folder / "samples.jsonl").write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in samples))
    if measures is not None:
        (folder / "measures.json").write_text(json.dumps(measures))
        for number in (1, 2):
            (folder / f"rounds/{number:03}/reward").mkdir(parents=True)
            (folder / f"rounds/{number:03}/reward/report.json").write_text(json.dumps(REWARD))
    return folder


def publish_empty_model(folder: Path, *, parent: str | None) -> str:
    """A model folder with hardly more than its lineage; the fingerprint of its weights."""
    lineage = Lineage(
        parent=parent,
        data={"tinyworld": "286cb532eefc585b"},
        votes=None,
        config={},
        code="trivium 0.1.0",
        seed=7,
        machine="a small machine",
        metrics={},
        created="2026-01-02T03:04:05+00:00",
    )

    def write(fresh: Path) -> None:
        (fresh / WEIGHTS).write_text(f"{folder.name}, trained from {parent}")
        write_lineage(fresh, lineage)

    publish(folder, write)
    return file_fingerprint(folder, WEIGHTS)


def page_of(run: Path) -> str:
    return write_report(run).read_text(encoding="utf-8")


class Words(HTMLParser):
    """The text of a page, and every attribute of every tag."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.text: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        self.text.append(data)


@pytest.fixture
def finished(tmp_path: Path) -> str:
    return page_of(make_run(tmp_path / "r"))


def test_what_a_model_wrote_stays_text(tmp_path: Path):
    page = page_of(make_run(tmp_path / "r", answer=XSS))
    words = Words(page)
    assert "script" not in words.tags
    assert "img" not in words.tags
    assert not [name for name, _ in words.attributes if name.startswith("on")]
    assert XSS in "".join(words.text)  # shown as it is


def test_names_from_outside_stay_text(tmp_path: Path):
    measures = MEASURES | {"base": LANGUAGE | {"by_kind": {XSS: 0.5}}}
    page = page_of(make_run(tmp_path / "r", phases=("pretrain", XSS), measures=measures))
    assert "<script" not in page
    assert "<img" not in page


def test_the_page_asks_the_network_for_nothing(tmp_path: Path):
    page = page_of(make_run(tmp_path / "r", answer=XSS))
    fetching = {"src", "srcset", "href", "xlink:href", "data", "action", "poster", "style"}
    found = {value for name, value in Words(page).attributes if name in fetching}
    assert all(value.startswith("#") for value in found), found
    css = page[page.index("<style>") : page.index("</style>")]
    assert "url(" not in css
    assert "@import" not in css


def test_the_policy_of_the_page_allows_its_own_style_and_nothing_else(finished: str):
    css = finished[finished.index("<style>") + len("<style>") : finished.index("</style>")]
    digest = base64.b64encode(hashlib.sha256(css.encode()).digest()).decode()
    policy = "default-src 'none'; style-src 'sha256-{}'; base-uri 'none'; form-action 'none'"
    assert ("content", policy.format(digest)) in Words(finished).attributes


def test_every_phase_of_the_journal_appears(finished: str):
    for phase in PHASES:
        assert f'id="{phase}"' in finished


def test_a_phase_with_an_unknown_name_is_drawn_all_the_same(tmp_path: Path):
    page = page_of(make_run(tmp_path / "r", phases=("pretrain", "polish")))
    assert 'id="polish"' in page
    assert "polish: loss by step" in page


def test_the_win_rate_of_a_simulated_judge_is_called_simulated_wherever_it_stands(finished: str):
    text = re.sub(r"\s+", " ", " ".join(Words(finished).text))
    assert "71.4% 67.2% to 75.2% simulated judge" in text
    assert "win rate over instruct (67% to 75%) simulated judge" in text
    assert "Win rate (simulated judge)" in text
    assert "Agreement with simulated votes" in text
    assert "the simulated judge takes aligned in 71.4% of 500 blind comparisons" in text


def test_votes_of_people_are_not_called_simulated(tmp_path: Path):
    won = MEASURES["aligned"] | {"win_rate": None, "win_rate_low": None, "win_rate_high": None}
    page = page_of(make_run(tmp_path / "r", recipe=PEOPLE, phases=PHASES[:4], measures=MEASURES | {"aligned": won}))
    seen = page[page.index("<body>") : page.index('<section id="settings">')]
    assert "simulated" not in seen
    assert "no judge" in seen


def test_the_final_figures_appear_with_the_interval(finished: str):
    for figure in ("1.234", "81.0%", "71.4%", "67.2% to 75.2%", "4.310", "31.2", "23.0"):
        assert figure in finished


def test_the_reward_report_says_what_each_figure_means(finished: str):
    for figure in ("74.2% (69.0% to 78.8%)", "85.0%", "56.1%", "0.041", "+0.12"):
        assert figure in finished
    assert "50% sure" not in finished  # 52 % is
    assert "52% sure · 50% right of 100 pairs" in finished


def test_a_reward_model_that_only_sees_length_is_warned_of(tmp_path: Path):
    run = make_run(tmp_path / "r")
    (run / "rounds/002/reward/report.json").write_text(json.dumps(REWARD | {"longer_wins": 0.72}))
    assert "It may be no better than the rule “the longer answer wins” (72.0%)" in page_of(run)


def test_a_reward_that_rises_while_the_win_rate_falls_is_warned_of(finished: str):
    assert "In align-001 the reward went on rising after step 2" in finished


def test_what_fools_the_reward_why_it_ended_and_who_judged_are_told(tmp_path: Path):
    run = make_run(
        tmp_path / "r", recipe=SIMULATED | {"align": {"rewards": ("model", "judge http://127.0.0.1:9/v1 big")}}
    )
    told = REWARD | {"mistaken": [[XSS, "Gladly.", "No!", 3.2]], "members": [0.7, 0.75], "spread": 0.4}
    (run / "rounds/001/reward/report.json").write_text(json.dumps(told))
    fooled = [{"prompt": "Who?", "answer": XSS, "reward": 2.5, "gold": 0.25}]
    ending = {"ended": 40, "kept": 20, "reason": "only 30% of its answers end", "fooled": fooled}
    (run / "rounds/001/aligned").mkdir()
    (run / "rounds/001/aligned/report.json").write_text(json.dumps(ending))
    page = page_of(run)
    assert "".join(Words(page).text).count(XSS) == 2
    assert "<script" not in page
    for part in (
        "Where it is surest, and voters disagreed", "highest reward, lowest judged".capitalize(), "+2.50", "0.25",
        "In round 1 reinforcement ended at step 40: only 30% of its answers end. Kept is step 20.",
        "Part of the reward is the opinion of a language model, big at http://127.0.0.1:9/v1; no person gave it.",
        "its members alone", "70.0% to 75.0%",
    ):  # fmt: skip
        assert part in page, part


def test_no_warning_of_a_gamed_reward_when_both_rise(tmp_path: Path):
    run = make_run(tmp_path / "r")
    text = (run / "journal.jsonl").read_text()
    (run / "journal.jsonl").write_text(re.sub(r'"win_rate": [\d.]+', '"win_rate": 0.6', text))
    assert "went on rising" not in page_of(run)


def test_an_unfinished_run_says_what_is_missing_and_shows_what_there_is(tmp_path: Path):
    run = make_run(tmp_path / "r", phases=("pretrain",), measures=None, recipe={"pretrain": {"steps": 900}})
    page = page_of(run)
    assert "This run is unfinished" in page
    assert "pretrain, now at step 4 of 900" in page
    assert "the final examination" in page
    assert "bits per byte, so far" in page
    assert "pretrain: loss by step" in page


def test_one_step_is_enough_for_a_report(tmp_path: Path):
    run = make_run(tmp_path / "r", measures=None)
    (run / "samples.jsonl").unlink()
    (run / "journal.jsonl").write_text(json.dumps(journal_of(["pretrain"])[0]) + "\n")
    assert "pretrain: loss by step" in page_of(run)


def test_lineage_names_the_parent_and_the_fingerprints(tmp_path: Path):
    run = make_run(tmp_path / "r")
    base = publish_empty_model(run / "base", parent=None)
    publish_empty_model(run / "instruct", parent=base)
    text = " ".join(Words(page_of(run)).text)
    assert base in text
    assert re.search(r"parent\s+base", text)
    assert "286cb532eefc585b" in text
    assert "a small machine" in text


def test_a_phase_whose_model_is_published_is_done_whatever_the_recipe_says_now(tmp_path: Path):
    run = make_run(tmp_path / "r", phases=("pretrain",), recipe={"pretrain": {"steps": 900}})
    publish_empty_model(run / "base", parent=None)
    assert "now at step" not in page_of(run)


def test_a_run_without_a_step_is_refused(tmp_path: Path):
    run = make_run(tmp_path / "r")
    (run / "journal.jsonl").unlink()
    with pytest.raises(RunError, match="no step has been taken yet; start with `trivium run --out"):
        write_report(run)
    assert not (run / "report.html").exists()


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path):
    with pytest.raises(RunError, match="there is no such run"):
        write_report(tmp_path / "nothing")


def test_a_damaged_file_is_named(tmp_path: Path):
    run = make_run(tmp_path / "r")
    (run / "measures.json").write_text("{")
    with pytest.raises(DataError, match=r"measures\.json: cannot be read"):
        write_report(run)
    (run / "measures.json").unlink()
    (run / "samples.jsonl").write_text('{"model": "base"}\n')
    with pytest.raises(DataError, match=r"samples\.jsonl:1: is not a sample"):
        write_report(run)


def test_a_line_separator_in_an_answer_does_not_end_its_line(tmp_path: Path):
    assert "one\u2028two" in page_of(make_run(tmp_path / "r", answer="one\u2028two"))


def test_the_same_run_gives_the_same_page(tmp_path: Path):
    run = make_run(tmp_path / "r")
    assert page_of(run) == page_of(run)


points = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=400).map(lambda ys: list(enumerate(map(float, ys), 1)))


@few
@given(points, st.sampled_from([NUMBER, SHARE]))
def test_a_chart_stands_inside_its_frame_whatever_the_values(values, unit):
    svg = str(charts.line_chart("loss", [Series("", charts.smooth(values)), Series("", values, "raw")], unit))
    assert "nan" not in svg
    for height in re.findall(r'<circle[^>]* cy="([-\d.]+)"', svg):
        assert charts.TOP <= float(height) <= charts.BOTTOM


@few
@given(points)
def test_smoothing_keeps_the_steps_and_stays_within_the_values(values):
    smoothed = charts.smooth(values)
    low, high = min(y for _, y in values), max(y for _, y in values)
    assert [x for x, _ in smoothed] == [x for x, _ in values]
    assert all(low - 1e-3 <= y <= high + 1e-3 for _, y in smoothed)


@few
@given(points)
def test_thinning_keeps_the_highest_and_the_lowest(values):
    kept = charts.thin(values, most=20)
    assert len(kept) <= 40
    assert {min(y for _, y in values), max(y for _, y in values)} <= {y for _, y in kept}


@few
@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6))
def test_ticks_are_few_and_lie_within(low, span):
    span = max(span, 1e-6 * abs(low))  # below, bounds() gives more air
    found = charts.ticks(low, low + span)
    assert len(found) <= 6
    assert all(low - 1e-3 * span <= tick <= low + span * (1 + 1e-3) for tick in found)


def test_numbers_are_written_as_people_read_them():
    assert [count(value) for value in (950, 20_300, 5_100_000, 1.2e9)] == ["950", "20.3k", "5.1M", "1.20B"]
    assert [minutes(s) for s in (0.25, 8, 252, 240, 7500)] == ["0.2 s", "8 s", "4 min 12 s", "4 min", "2 h 5 min"]
    assert visible("a\x00b\nc\x7f") == "a␀b\nc␡"
