"""Recipes: every setting is known, checked, said back, and used."""

import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from trivium.config import AlignConfig, Recipe, known_keys, merge, read_settings, resolve, to_toml
from trivium.errors import ConfigError


def refusal(settings: dict[str, Any]) -> str:
    with pytest.raises(ConfigError) as caught:
        resolve(settings)
    return str(caught.value)


def test_a_recipe_comes_back_from_its_toml_as_it_was() -> None:
    recipe = resolve(
        {"seed": 7, "model": {"width": 192, "num_heads": 6, "num_kv_heads": 3}, "data": {"text": ["a", "b"]}}
    )
    assert resolve(tomllib.loads(to_toml(recipe))) == recipe
    assert resolve(tomllib.loads(to_toml(Recipe()))) == Recipe()


def test_the_toml_of_a_recipe_holds_every_setting() -> None:
    written = tomllib.loads(to_toml(Recipe()))
    keys = [key for section in written for key in (
        [f"{section}.{name}" for name in written[section]] if isinstance(written[section], dict) else [section]
    )]  # fmt: skip
    sections = [name for name, field in Recipe.model_fields.items() if isinstance(written[name], dict)]
    assert sorted(keys + sections) == sorted(known_keys(Recipe))


def test_every_setting_says_what_it_is() -> None:
    def undocumented(model: type[BaseModel], prefix: str) -> list[str]:
        found = []
        for name, field in model.model_fields.items():
            kind = field.annotation
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                found += undocumented(kind, f"{prefix}{name}.")
            elif not field.description and not any(
                name in base.model_fields and base.model_fields[name].description
                for base in model.__mro__[1:]
                if isinstance(base, type) and issubclass(base, BaseModel)
            ):
                found.append(prefix + name)
        return found

    assert [name for name in undocumented(Recipe, "") if not name.startswith("model.")] == []


def test_a_recipe_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Recipe().pretrain.steps = 3  # type: ignore[misc]


def test_key_and_value_heads_are_as_many_as_heads_unless_said() -> None:
    assert resolve({"model": {"width": 64, "num_heads": 2}}).model.num_kv_heads == 2
    assert resolve({"model": {"num_heads": 8, "num_kv_heads": 2}}).model.num_kv_heads == 2


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"pretrain": {"learning_rte": 1}}, "unknown key pretrain.learning_rte; did you mean pretrain.learning_rate?"),
        ({"pretrian": {}}, "unknown key pretrian; did you mean pretrain?"),
        ({"colour": "red"}, "unknown key colour"),
        ({"instruct": {"blanks": 0.1}}, "unknown key instruct.blanks"),
        ({"model": {"width": 130}}, "model.width = 130: must be a multiple of 8, twice num_heads"),
        ({"model": {"width": 132}}, "as rotary embeddings turn pairs; try 128 or 136"),
        ({"model": {"width": 130, "num_heads": 4}}, "model.num_heads = 4: must divide width = 130; try 2 or 5"),
        ({"model": {"num_kv_heads": 3}}, "model.num_kv_heads = 3: must divide num_heads = 4, the default; try 2 or 4"),
        ({"pretrain": {"rows_per_step": 10, "microbatch_rows": 4}}, "= 4: must divide rows_per_step = 10; try"),
        ({"pretrain": {"microbatch_rows": 32}}, "must divide rows_per_step = 16, the default; try"),
        ({"pretrain": {"rows_per_step": 4}}, "microbatch_rows = 8, the default: must divide"),
        ({"align": {"group": 5}}, "align.group = 5: must divide rows_per_step = 128"),
        ({"align": {"group": 1}}, "align.group = 1: must be at least 2 for grpo; sample more answers"),
        ({"align": {"algorithm": "dpo", "microbatch_rows": 1}}, "microbatch_rows = 1: must be even for dpo"),
        ({"align": {"minibatches": 2}}, "minibatches = 2: must divide the 1 micro-batches of rows_per_step = 128"),
        ({"align": {"beta": 0.2}}, "beta = 0.2: is read by dpo, online-dpo, not by grpo; leave it 0.1"),
        ({"align": {"algorithm": "ppo", "spread": True}}, "spread = True: is read by grpo, not by ppo; leave it False"),
        ({"align": {"algorithm": "dpo", "kl": 0.1}}, "kl = 0.1: is read by grpo, rloo, rejection, ppo, not by dpo"),
        ({"pretrain": {"steps": 0}}, "pretrain.steps = 0: input should be greater than or equal to 1"),
        ({"pretrain": {"steps": 9, "aims": [[6, 8], [9, 12]]}}, "aims [6, 8], [9, 12] are those of other steps than 9"),
        ({"pretrain": {"steps": 9, "aims": [[6, 8], [6, 7]]}}, "aims [6, 8], [6, 7] are those of other steps than 9"),
        ({"pretrain": {"steps": 9, "aims": [[6, 6]]}}, "aims [6, 6] are those of other steps than 9; leave them out"),
        ({"pretrain": {"steps": "many"}}, "pretrain.steps = 'many': input should be a valid integer"),
        ({"pretrain": {"learning_rate": -1}}, "pretrain.learning_rate = -1: input should be greater than 0"),
        ({"votes": {"noise": 0.5}}, "votes.noise = 0.5: input should be less than 0.5"),
        ({"compute": {"device": "tpu"}}, "compute.device = 'tpu': input should be 'auto', 'cpu' or 'cuda'"),
        ({"model": 3}, "model = 3: "),
        ({"data": {"text": "one.txt"}}, "data.text = 'one.txt': "),
    ],
)  # fmt: skip
def test_a_wrong_setting_is_named_with_its_value_and_the_rule(settings: dict[str, Any], told: str) -> None:
    assert told in refusal(settings)
    assert "\n" not in refusal(settings)


def test_steps_that_are_said_go_without_what_was_aimed_at_by_others() -> None:
    before = {"align": {"steps": 60, "aims": [[48, 57]], "kl": 0.1}}
    assert merge(before, {"align": {"steps": 10}}) == {"align": {"steps": 10, "kl": 0.1}}
    for same in ({"kl": 0.2}, {"steps": 60}):
        assert merge(before, {"align": same})["align"]["aims"] == [[48, 57]]
    assert merge(before, {"align": {"steps": 9, "aims": [[4, 8]]}})["align"]["aims"] == [[4, 8]]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("key", ["pretrain.learning_rate", "pretrain.max_grad_norm", "align.kl", "pretrain.decay"])
def test_a_setting_that_is_no_number_is_refused(key: str, value: float) -> None:
    section, name = key.split(".")
    assert key in refusal({section: {name: value}})


values = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
keys = st.sampled_from(["steps", "text", "width", "group", "x"])


@settings(max_examples=30)
@given(st.recursive(values, lambda v: st.lists(v, max_size=3) | st.dictionaries(keys, v, max_size=3), max_leaves=6))
def test_whatever_is_written_into_a_section_is_taken_or_refused_by_name(written: Any) -> None:
    for section in ("data", "model", "pretrain", "align", "seed"):
        try:
            resolve({section: written})
        except ConfigError as error:
            told = str(error)
        else:
            told = section
        assert section in told


def test_of_two_settings_the_second_is_heard_and_the_rest_is_kept() -> None:
    first = {"seed": 1, "model": {"width": 64, "num_heads": 2}}
    assert merge(first, {"model": {"width": 32}}) == {"seed": 1, "model": {"width": 32, "num_heads": 2}}
    assert first == {"seed": 1, "model": {"width": 64, "num_heads": 2}}


def test_a_missing_recipe_is_named_with_the_nearest_one(tmp_path: Path) -> None:
    (tmp_path / "tiny.toml").write_text("")
    with pytest.raises(ConfigError, match=r"tinny.toml: no such recipe; did you mean .*tiny.toml\?"):
        read_settings(tmp_path / "tinny.toml")


@pytest.mark.parametrize("content", [b"[data\n", b"seed = \n", b"\xff\xfe\x00", b"seed = 1\nseed = 2\n"])
def test_a_recipe_that_is_not_toml_is_named(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "r.toml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"r.toml: not a TOML file: .*; mend it"):
        read_settings(path)


def test_the_second_value_of_a_flag_that_is_taken_for_a_recipe_is_told_how_flags_are_repeated(tmp_path: Path) -> None:
    path = tmp_path / "more.jsonl"
    path.write_text('{"question": "Why?", "answer": "So."}\n')
    with pytest.raises(ConfigError, match=r"more.jsonl: not a TOML file: .*; of several values each has the flag"):
        read_settings(path)


def test_ppo_clips_evenly_and_groups_may_rise_further() -> None:
    clips = [(found.clip_low, found.clip_high) for found in (resolved(), resolved(algorithm="ppo"))]
    assert clips == [(0.2, 0.28), (0.2, 0.2)]
    assert resolved(algorithm="ppo", clip_high=0.3).clip_high == 0.3


def resolved(**align: Any) -> AlignConfig:
    return resolve({"align": align}).align


def test_dpo_which_writes_no_groups_may_learn_from_two_pairs_at_a_time() -> None:
    assert resolve({"align": {"algorithm": "dpo", "rows_per_step": 4, "microbatch_rows": 2}}).align.rows_per_step == 4
