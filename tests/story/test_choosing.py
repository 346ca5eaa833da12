"""What waits to be voted on: chosen by the reward models there are, beside a control, rivals and known answers."""

import itertools
import shutil
from collections import Counter
from math import log
from pathlib import Path

import numpy as np
import pytest
import torch

from trivium.config import resolve, to_toml
from trivium.feedback.pairs import uncertainty
from trivium.feedback.store import NewQueued, Store
from trivium.model.heads import add_reward_head
from trivium.model.transformer import Transformer, initialise
from trivium.phases.align.scorer import Scorer
from trivium.publish import publish, write_text
from trivium.runs import Run, open_run
from trivium.shelf import Origin, open_model, publish_model, weights_fingerprint
from trivium.story.asking import Asker
from trivium.story.choosing import (
    BATCH,
    Prompts,
    Writers,
    answering_model,
    learning_prompts,
    model_before,
    new_prompts,
    open_judges,
    reward_models,
    write_batch,
)
from trivium.text.tokenizer import train as train_tokenizer
from trivium.worlds import tinyworld

SETTINGS = {
    "model": {"vocab_size": 320, "num_layers": 1, "width": 16, "num_heads": 2, "num_kv_heads": 2, "mlp_width": 32},
    "align": {"max_new_tokens": 6},
    "compute": {"device": "cpu"},
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run after its first round, of models that learned nothing."""
    tokenizer = train_tokenizer((tinyworld.story(0, i, held_out=False) for i in range(200)), vocab_size=320)
    recipe = resolve(SETTINGS)
    with open_run(tmp_path_factory.mktemp("runs") / "round", create=True) as run:
        write_text(run.recipe, to_toml(recipe))
        for seed, folder in enumerate((run.instruct, run.round(1).reward, run.round(1).aligned)):
            model = initialise(Transformer(recipe.model), seed)
            made = add_reward_head(shaken(model), 0) if folder.name == "reward" else model
            publish_model(folder, made, tokenizer, recipe, Origin("instruct", None, {}, None, {}), beside={})
    return run


def shaken(model: Transformer) -> Transformer:
    """A model whose every weight is drawn: fresh from `initialise` it would think the same of all answers."""
    chance = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn(weight.shape, generator=chance) * 0.3)
    return model


def writers(run: Run) -> Writers:
    recipe, source = resolve(SETTINGS), answering_model(run)
    prompts = Prompts(new_prompts(learning_prompts(recipe), [], 0))
    return Writers(2, source, model_before(run, source), reward_models(run), recipe, prompts, open_model)


def batches(run: Run, judges: list[Scorer], count: int) -> list[NewQueued]:
    who = writers(run)
    return list(itertools.chain.from_iterable(write_batch(who, judges, batch) or [] for batch in range(count)))


def test_of_what_waits_every_fourth_pair_sets_two_models_side_by_side_and_some_answers_are_known(run: Run) -> None:
    found = batches(run, open_judges(reward_models(run), torch.device("cpu")), 4)
    kinds = Counter(queued.policy for queued in found)
    assert kinds["known"] == 2
    assert kinds["comparison"] == pytest.approx((len(found) - 2) / 4, abs=1)
    assert kinds["active"] > kinds["random"] >= 4
    newest, before = weights_fingerprint(run.round(1).aligned), weights_fingerprint(run.instruct)
    for queued in found:
        models = {queued.pair.first_model, queued.pair.second_model}
        assert models == {"comparison": {newest, before}, "known": {""}}.get(queued.policy, {newest})
        assert queued.pair.first != queued.pair.second
    assert len({queued.pair.prompt for queued in found if queued.policy != "known"}) == len(found) - 2


def test_active_pairs_are_those_that_the_reward_model_is_unsure_of(run: Run) -> None:
    (judge,) = open_judges(reward_models(run), torch.device("cpu"))
    found = batches(run, [judge], 6)
    scores: dict[str, list[float]] = {"active": [], "random": []}
    for queued in found:
        if queued.policy in scores:
            with torch.no_grad():
                first, second = judge.rewards([queued.pair.prompt] * 2, [queued.pair.first, queued.pair.second])
            assert queued.score == pytest.approx(uncertainty(np.array([[float(first - second)]]))[0], abs=1e-6)
            assert (queued.probability == 1) == (queued.policy == "active")
            scores[queued.policy].append(queued.score or 0)
    assert np.mean(scores["active"]) > np.mean(scores["random"])


def test_of_an_ensemble_it_is_asked_where_its_members_disagree(run: Run, tmp_path: Path) -> None:
    here = Run(tmp_path)
    for name in ("reward", "reward-10", "reward-2"):
        publish(here.round(1).path / name, lambda fresh: (fresh / "model").write_text("x") and None)
    here.round(2).path.mkdir(parents=True)  # it has none yet
    assert [folder.name for folder in reward_models(here)] == ["reward", "reward-2", "reward-10"]
    (judge,) = open_judges(reward_models(run), torch.device("cpu"))
    other = judge._replace(model=add_reward_head(shaken(open_model(run.instruct).model), 5))
    scores = [queued.score or 0 for queued in batches(run, [judge, other], 3) if queued.policy == "active"]
    assert 0 < np.mean(scores) < log(2) / 2  # several who are unsure alike do not disagree


def test_without_a_reward_model_pairs_are_random_and_no_prompt_is_answered_in_vain(run: Run) -> None:
    who = writers(run)
    found = write_batch(who, [], 1)
    assert found is not None
    assert {queued.policy for queued in found} == {"random", "comparison"}
    assert all(queued.score is None for queued in found)
    assert next(who.prompts.new).prompt == learning_prompts(who.recipe)(BATCH).prompt


def test_a_prompt_that_was_not_chosen_is_asked_when_the_new_ones_are_used_up(run: Run) -> None:
    judges = open_judges(reward_models(run), torch.device("cpu"))
    who = writers(run)
    few = list(itertools.islice(who.prompts.new, 20))
    who = who._replace(prompts=Prompts(iter(few)), before=None)
    asked = [queued.pair.prompt for batch in range(3) for queued in write_batch(who, judges, batch) or []]
    assert {question.prompt for question in few} >= set(asked)
    assert len(set(asked)) > BATCH * 2 - 3
    for batch in range(3, 20):
        if write_batch(who, judges, batch) is None:
            return
    raise AssertionError("prompts end")


def test_the_queue_of_a_run_tells_how_each_showing_was_chosen(run: Run, tmp_path: Path) -> None:
    with Store.open(tmp_path / "feedback.db") as store:
        rater, asker = store.add_rater("ada"), Asker(run, store, open_model, seed=0)
        asker.refill()
        asker.wait()
        assert asker.trouble == ""
        asker.hand_out(rater.id, 8)
        assert {showing.policy for showing in store.showings()} >= {"active", "random"}
        asker.close()


def test_asking_for_a_pair_reads_no_weights_and_damaged_ones_are_told_before_anything_is_written(
    run: Run, tmp_path: Path
) -> None:
    here = Run(Path(shutil.copytree(run.path, tmp_path / "damaged")))
    weights = here.round(1).aligned / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x00")
    with Store.open(tmp_path / "feedback.db") as store:
        rater, asker = store.add_rater("ada"), Asker(here, store, open_model, seed=0)
        assert (asker.round, asker.hand_out(rater.id, 1)) == (2, [])
        asker.refill()
        asker.wait()
        assert "model.safetensors" in asker.trouble
        assert store.pairs() == []
        asker.close()
