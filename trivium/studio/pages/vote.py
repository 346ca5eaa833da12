"""The vote page: two answers, one key. The pairs, the votes, the guidelines beside them."""

from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Query
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from trivium.errors import RunError
from trivium.feedback.people import Person
from trivium.feedback.store import Shown
from trivium.story.choosing import answering_model
from trivium.story.guidelines import LONGEST, guidelines_of, write_guidelines
from trivium.studio.auth import Member, Owner, Voter
from trivium.studio.ballots import Slip
from trivium.studio.rounds import learned_from
from trivium.studio.studio import Here, Json, Studio, show
from trivium.wording import counted

routes = APIRouter()
MOST_PAIRS = 12  # handed out at once

Key = Annotated[str, Field(min_length=1, max_length=100, pattern=r"^[A-Za-z0-9._:-]+$")]


class Ballot(BaseModel):
    """A vote: which of the two, as they were shown."""

    model_config = ConfigDict(extra="forbid")

    showing: int = Field(ge=1, lt=2**31)
    shown: Shown
    seconds: float = Field(0, ge=0, le=1e6, allow_inf_nan=False)
    comment: Annotated[str, Field(max_length=2000)] = ""
    key: Key
    """made once for this vote, and sent again with every retry"""


class Undo(BaseModel):
    model_config = ConfigDict(extra="forbid")

    key: Key
    vote: int | None = Field(None, ge=1, lt=2**31)
    """which one is taken back: the last where it is left out, which may be one that was cast on another page"""


class Guidelines(BaseModel):
    model_config = ConfigDict(extra="forbid")

    text: Annotated[str, Field(max_length=LONGEST)]


@routes.get("/vote")
def vote(here: Here, who: Voter) -> Response:
    try:
        answering_model(here.run)
    except RunError:
        return show(here, who, "vote", first=None)
    first = {**handed(here, who, 4), **progress(here, who), "guidelines": guidelines_of(here.run)}
    return show(here, who, "vote", first=first, bought=bought(here))


def bought(here: Studio) -> list[str]:
    """What votes have bought and what more would buy, by the newest reward model; nothing before there is one."""
    story = here.log.look().story
    if story is None or not story.rewards:
        return []
    number, report = story.rewards[-1]
    ceiling = f"; {report['ceiling']:.0%} is the most that is possible" if report.get("ceiling") else ""
    votes, whose = learned_from(here.run.round(number), here.store.cast_by_people())
    came_of = (
        counted(votes, "simulated vote")
        if whose == "simulated"
        else f"{counted(votes, 'vote')}{whose and f', {whose}'}"
    )
    told = [
        f"Round {number}’s reward model came of {came_of}. It agrees with {report['accuracy']:.0%} of those held out "
        f"({report['accuracy_low']:.0%} to {report['accuracy_high']:.0%}{ceiling})."
    ]
    if curve := report.get("curve"):
        gain, low, high = (100 * curve[name] for name in ("gain", "gain_low", "gain_high"))
        told += [
            f"{curve['votes']:,} more would add about {gain:.1f} points ({low:.1f} to {high:.1f}), "
            "if they add what the last half added."
        ]
    return told


def handed(here: Studio, who: Person, count: int) -> dict[str, Any]:
    pairs, asker = here.ballots.hand_out(rater_of(who), count), here.ballots.asker
    if not pairs and asker.trouble:
        raise RunError(asker.trouble)
    return {"pairs": pairs, "empty": asker.empty and not pairs}


def progress(here: Studio, who: Person) -> dict[str, Any]:
    return {"progress": here.ballots.progress(rater_of(who))._asdict()}


def rater_of(who: Person) -> int:
    assert who.rater_id is not None, "only those who vote come here"
    return who.rater_id


@routes.get("/api/pairs")
def pairs(here: Here, who: Voter, count: Annotated[int, Query(ge=1, le=MOST_PAIRS)] = 4) -> Response:
    """Pairs to vote on: first those that were given and not answered."""
    return Json(handed(here, who, count))


@routes.post("/api/votes", status_code=201)
def cast(ballot: Ballot, here: Here, who: Voter) -> Response:
    """Store a vote. It is durable when this answers; the same key again changes nothing."""
    slip = Slip(ballot.showing, ballot.shown, ballot.seconds, ballot.comment, ballot.key)
    stored = here.ballots.cast(slip, rater_of(who))
    return Json({"vote": stored.id, **progress(here, who)}, status_code=201)


@routes.post("/api/votes/undo")
def undo(wanted: Undo, here: Here, who: Voter) -> Response:
    """Withdraw a vote; its pair is asked again."""
    vote = here.ballots.undo(rater_of(who), wanted.key, wanted.vote)
    if vote is None:
        raise HTTPException(409, "there is no vote of yours to take back")
    return Json({"vote": vote.id, **progress(here, who)})


@routes.get("/api/guidelines")
def guidelines(here: Here, who: Member) -> Response:
    return Json({"text": guidelines_of(here.run)})


@routes.put("/api/guidelines")
def set_guidelines(told: Guidelines, here: Here, who: Owner) -> Response:
    """What raters read beside the answers."""
    write_guidelines(here.run, told.text)
    return Json({"text": told.text})
