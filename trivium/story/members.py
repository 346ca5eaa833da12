"""The further members of the reward's ensemble: small models that differ from pretraining on. Text → members/2, 3, …

Members that share a base share its mistakes: Gleave and Irving 2022, arXiv:2203.07472
"""

import dataclasses
from pathlib import Path

from trivium import plan
from trivium.batch import TokenBatch
from trivium.config import Recipe
from trivium.distributed.shard import shard as spread
from trivium.distributed.shard import whole_model
from trivium.model.transformer import Transformer
from trivium.phases import pretrain
from trivium.story.stages import beginning, encode_whole, token_shard
from trivium.story.teller import Teller, name_data
from trivium.text.split import evenly
from trivium.text.tokenizer import Tokenizer
from trivium.train.phase import Phase
from trivium.wording import counted

APART = 1000  # between the members' seeds


def make_members(teller: Teller) -> None:
    """Pretrain what is missing, each with a seed of its own; of a run on somebody's weights there is only one base."""
    for number in range(2, teller.recipe.members_apart + 2):
        if not teller.is_done(teller.run.member(number), phase_name(number)):
            _make_member(teller, number)


def phase_name(number: int) -> str:
    return f"member-{number:03}"


def member_recipe(recipe: Recipe, number: int) -> Recipe:
    """The same model on the same texts, in another order, from other weights, for its share of the steps."""
    steps, echoes = max(1, round(recipe.reward.member_share * recipe.pretrain.steps)), recipe.pretrain.echo_steps
    settings = recipe.pretrain.model_copy(
        update={
            "steps": steps,
            "aims": (),
            "warmup_steps": plan.choose_warmup("pretrain", steps),
            "echo_steps": min(echoes, plan.choose_echoes(steps, world=echoes > 0)),
        }
    )
    return recipe.model_copy(update={"pretrain": settings, "seed": seed_of(recipe, number)})


def seed_of(recipe: Recipe, number: int) -> int:
    """The first member has the run's own."""
    return recipe.seed + APART * (number - 1)


def _make_member(teller: Teller, number: int) -> None:
    run, recipe, name = teller.run, member_recipe(teller.recipe, number), phase_name(number)
    documents, tokenizer = teller.documents(), Tokenizer.load(run.tokenizer)
    teller.hold_to(name, "data.text", documents.train.fingerprint)
    shard = token_shard(teller, documents.train, tokenizer)
    held_out = encode_whole(tokenizer, evenly(documents.held_out, recipe.evaluate.documents))
    teller.show.say(
        f"  member {number} of the reward's ensemble: {counted(recipe.pretrain.steps, 'step')}, a seed of its own"
    )

    def build(model: Transformer) -> Phase[TokenBatch]:
        made = pretrain.build(recipe, model, tokenizer, shard, held_out, teller.objective, teller.compute, teller.world)
        return dataclasses.replace(made, name=name)

    model = beginning(teller, recipe, shard)
    spread(model, teller.world)
    metrics = teller.train(build, model)
    teller.publish(
        run.member(number),
        whole_model(model, teller.world),
        tokenizer,
        phase=name,
        parent=None,
        data=name_data(recipe.data.text, documents.train.fingerprint),
        votes=None,
        metrics=metrics,
        recipe=recipe,
    )


def trunk_of(teller: Teller, number: int) -> Path:
    """The folder that a member of the ensemble learns the votes from; the first is instruct."""
    own = teller.run.member(number)
    return own if number > 1 and own.exists() else teller.run.instruct
