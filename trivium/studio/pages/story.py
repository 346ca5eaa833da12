"""The story page: the three phases as one picture, live curves, and the buttons that start, pause and go on."""

from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from trivium.report import page
from trivium.studio import rounds, watching
from trivium.studio.auth import Member, Owner
from trivium.studio.studio import Here, Json, show
from trivium.text.corpus import is_judged

routes = APIRouter()
UNBEGUN = (
    ("text", "text", "", "words with blanks, to learn language from"),
    ("base", "base", "I pretrain", "learns how words fit together"),
    ("instruct", "instruct", "II instruct", "learns to do what is asked"),
    ("aligned", "aligned", "III align", "learns what people like, from votes"),
)


class Order(BaseModel):
    """What the command line is to do."""

    model_config = ConfigDict(extra="forbid")

    next_round: bool = False
    """train the next round of phase III when the last one is done"""
    people_only: bool | None = None
    """without the simulated judge, or with it, where the world has one; as in the last round where it is left out"""
    align_steps: int | None = Field(None, ge=1, le=1_000_000)
    """steps of reinforcement; as many as the recipe says where it is left out"""
    reward_steps: int | None = Field(None, ge=1, le=1_000_000)
    """steps of the reward model, likewise"""


@routes.get("/")
def story(here: Here, who: Member) -> Response:
    seen = here.log.look()
    told = seen.story
    judge = {"judged": told is not None and is_judged(told.recipe.data)}
    if told is not None:
        judge["people_only"] = not told.recipe.votes.simulated
    return show(
        here,
        who,
        "story",
        first=watching.told(seen, here.work.state()) | judge,
        unbegun=UNBEGUN,
        rounds=rounds.told(here.run, told, here.store) if told else [],
        asked=page.asked(told) if told else [],
        answering=page.answering(told) if told else [],
        openings=page.openings(told) if told else [],
    )


@routes.get("/api/story")
def progress(here: Here, who: Member, since: str = "") -> Response:
    """What has changed since an earlier answer, which gave its cursor."""
    return Json(watching.told(here.log.look(since), here.work.state()))


@routes.post("/api/work", status_code=202)
def start(order: Order, here: Here, who: Owner) -> dict[str, Any]:
    """Start the run, go on with it, or begin the next round."""
    flags = ["--round"] if order.next_round else []
    if order.people_only is not None:
        flags += ["--votes.no-simulated" if order.people_only else "--votes.simulated"]
    for key, steps in (("align", order.align_steps), ("reward", order.reward_steps)):
        flags += [f"--{key}.steps", str(steps)] if steps else []
    here.work.start(*flags)
    return {"started": True}


@routes.post("/api/work/pause", status_code=202)
def pause(here: Here, who: Owner) -> dict[str, Any]:
    """Save, and stop; the same can be gone on with later."""
    here.work.pause()
    return {"asked": True}
