"""The standings: which model people prefer, by their blind votes; with and without the length of the answers."""

from math import log
from typing import Any

from fastapi import APIRouter
from starlette.responses import Response

from trivium.feedback.standings import Comparison, Standings, standings
from trivium.shelf import weights_fingerprint
from trivium.studio.auth import Reader
from trivium.studio.studio import Here, Json, Studio, show
from trivium.studio.voices import voices_of

routes = APIRouter()


@routes.get("/standings")
def page(here: Here, who: Reader) -> Response:
    found = look(here)
    names = titles(here)
    return show(
        here,
        who,
        "standings",
        first=as_figures(found, names) if found else None,
        found=found,
        names=[names.get(name, (name[:8], "text")) for name in found.names] if found else [],
    )


@routes.get("/api/standings")
def figures(here: Here, who: Reader) -> Response:
    """Strengths in nats with their intervals; empty before two models were compared."""
    found = look(here)
    return Json(as_figures(found, titles(here)) if found else {"models": [], "comparisons": 0})


def titles(here: Studio) -> dict[str, tuple[str, str]]:
    """Fingerprint → what a model is called, and its colour."""
    return {weights_fingerprint(voice.folder): (voice.title, voice.css) for voice in voices_of(here.run)}


def look(here: Studio) -> Standings | None:
    """From all votes on answers of two different models."""
    pairs = {pair.id: pair for pair in here.store.pairs() if pair.first_model != pair.second_model}
    return standings(
        [
            Comparison(
                pair.first_model,
                pair.second_model,
                vote.choice,
                log((1 + len(pair.first)) / (1 + len(pair.second))),
            )
            for vote in here.store.votes()
            if (pair := pairs.get(vote.pair_id)) and pair.first_model and pair.second_model
        ]
    )


def as_figures(found: Standings, names: dict[str, tuple[str, str]]) -> dict[str, Any]:
    models = []
    for i, name in enumerate(found.names):
        title, css = names.get(name, (name[:8], "text"))
        both = {"plain": found.plain, "at_equal_length": found.at_equal_length}
        told = {
            key: [round(float(column[i]), 4) for column in (one.strength, one.low, one.high)]
            for key, one in both.items()
        }
        models.append({"name": title, "css": css, **told})
    pull = [round(float(value), 4) for value in found.pull]
    return {"models": models, "comparisons": found.comparisons, "pull_of_length": pull}
