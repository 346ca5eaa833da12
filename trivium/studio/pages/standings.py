"""The standings: which model people prefer, by their blind votes; with and without the length of the answers."""

from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import APIRouter
from starlette.responses import Response

from trivium.feedback.standings import standings, win_matrix
from trivium.feedback.votes import Comparison
from trivium.shelf import weights_fingerprint
from trivium.story.voices import voices_of
from trivium.studio.auth import Reader
from trivium.studio.studio import Here, Json, Studio, show

routes = APIRouter()


@routes.get("/standings")
def page(here: Here, who: Reader) -> Response:
    comparisons, names = here.store.comparisons(), titles(here)
    matrix = win_matrix(comparisons)
    named = [names.get(model, (model[:8], "text")) for model in matrix.models]
    return show(here, who, "standings", first=ladder(comparisons, names), matrix=matrix, names=named)


@routes.get("/api/standings")
def figures(here: Here, who: Reader) -> Response:
    """Strengths in nats with 95 % intervals, the strongest first; no models before two were compared."""
    return Json(ladder(here.store.comparisons(), titles(here)))


def titles(here: Studio) -> dict[str, tuple[str, str]]:
    """Fingerprint → what a model is called, and its colour."""
    return {weights_fingerprint(voice.folder): (voice.title, voice.css) for voice in voices_of(here.run)}


def ladder(comparisons: Sequence[Comparison], names: Mapping[str, tuple[str, str]]) -> dict[str, Any]:
    """From all votes on answers of two different models.

    names  see `titles`
    """
    as_is = standings(comparisons)
    equal = standings(comparisons, covariates=("length",))
    at_equal_length = {player.model: player for player in equal.players}
    models = []
    for player in as_is.players:
        title, css = names.get(player.model, (player.model[:8], "text"))
        both = {"plain": player, "at_equal_length": at_equal_length[player.model]}
        told = {key: [round(x, 4) for x in (one.strength, one.low, one.high)] for key, one in both.items()}
        models.append({"name": title, "css": css, "votes": player.votes, **told})
    effects = [effect._asdict() for effect in equal.effects]
    return {"models": models, "comparisons": as_is.comparisons, "effects": effects}
