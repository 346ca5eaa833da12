"""The model card: data, settings, measures, and how to use it; no licence that nobody stated."""

from collections.abc import Callable
from pathlib import Path

import pytest

from trivium.config import resolve
from trivium.model.heads import add_reward_head
from trivium.model.transformer import Transformer
from trivium.shelf import Origin, Parent, card, licence_of

MakeModel = Callable[..., Transformer]
RECIPE = resolve({"instruct": {"steps": 7, "lora_rank": 3}, "seed": 41})


def origin(phase: str, parent: str = "runs/a/base") -> Origin:
    return Origin(phase, Parent(parent, "0123456789abcdef"), {"mine.jsonl": "feedbeef"}, None, {"loss": 1.23456})


def test_a_card_tells_data_settings_measures_and_how_to_load_it(small_model: MakeModel) -> None:
    told = card("instruct", small_model(), RECIPE, origin("instruct"))
    assert "pipeline_tag: text-generation" in told
    assert "Made by phase II, instruct, of Trivium, from `runs/a/base` (weights 0123456789abcdef)" in told
    for row in ("| mine.jsonl | `feedbeef` |", "| steps | 7 |", "| lora rank | 3 |", "| seed | 41 |"):
        assert row in told
    assert "| nats per token of answers | 1.235 |" in told
    assert 'each.from_pretrained("instruct")' in told
    assert "No licence is stated" in told


def test_a_card_calls_simulated_votes_so_and_lists_what_is_a_list(small_model: MakeModel) -> None:
    told = card("aligned", small_model(), RECIPE, origin("align-001")._replace(votes="cafe"))
    assert "| votes on pairs of answers, simulated | `cafe` |" in told
    for row in ("| rewards | model |", "| gate | yes |", "| spread | no |"):
        assert row in told
    for settings in ({"votes": {"simulated": False}}, {"data": {"answers": ["mine.jsonl"]}}):
        by_people = card("aligned", small_model(), resolve(settings), origin("align-001")._replace(votes="cafe"))
        assert "| votes on pairs of answers | `cafe` |" in by_people


def test_a_reward_models_card_says_how_it_is_loaded_and_an_imported_ones_that_nothing_was_taught(
    small_model: MakeModel,
) -> None:
    scoring = card("reward", add_reward_head(small_model(), 0), RECIPE, origin("reward-001"))
    assert "pipeline_tag: text-classification" in scoring
    assert "AutoModelForSequenceClassification" in scoring
    assert "trivium chat" not in scoring
    taken = card("m", small_model(), RECIPE, Origin("import", None, {}, None, {}))
    assert "Taken in by Trivium as it was." in taken
    assert "## Data" not in taken
    assert "## Settings" not in taken
    imitating = card("imitator", small_model(), RECIPE, origin("imitate-001"))
    assert "Made by phase III, imitation of preferred answers, of Trivium, from `runs/a/base`" in imitating
    assert "| steps | 7 |" in imitating  # phase II's


@pytest.mark.parametrize("stated", ["apache-2.0", None])
def test_the_licence_of_the_parents_card_is_handed_on(
    stated: str | None, small_model: MakeModel, tmp_path: Path
) -> None:
    line = f"license: {stated}\n" if stated else ""
    (tmp_path / "README.md").write_text(f"---\nlanguage: en\n{line}tags: [a]\n---\n\nlicense: of the text below\n")
    told = card("instruct", small_model(), RECIPE, origin("instruct", str(tmp_path)))
    assert licence_of(tmp_path) == stated
    assert (f"\nlicense: {stated}\n" in told) is (stated is not None)
    assert ("No licence is stated" in told) is (stated is None)
