"""The team page: who is in, invitations for others, sessions to end."""

from typing import Annotated

from fastapi import APIRouter, Path, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from trivium.errors import DataError
from trivium.feedback.people import Person, Role
from trivium.studio.auth import Owner
from trivium.studio.entrance import cookie_of
from trivium.studio.studio import Here, Json, Studio, show

routes = APIRouter()
VALID = 7 * 24  # hours in which an invitation can be used
Number = Annotated[int, Path(ge=1, lt=2**31)]


class Invited(BaseModel):
    model_config = ConfigDict(extra="forbid")

    role: Role = "rater"
    note: Annotated[str, Field(max_length=80)] = ""
    """whom it is for"""


@routes.get("/team")
def team(request: Request, here: Here, who: Owner) -> Response:
    return show(here, who, "team", first=listed(request, here, who), is_open=here.is_open)


def listed(request: Request, here: Studio, who: Person) -> dict[str, object]:
    """Invitations that are open; sessions, and whether each is this browser's; others who may come in."""
    ours = here.people.session_of(request.cookies.get(cookie_of(request.url), ""))
    people = {person.id: person for person in here.people.people()}
    invitations = [invitation._asdict() for invitation in here.people.invitations()]
    sessions = [
        session._asdict()
        | {
            "name": people[session.person_id].name,
            "role": people[session.person_id].role,
            "ours": session.id == ours,
        }
        for session in reversed(here.people.sessions())
    ]
    welcome = [{"id": each.id, "name": each.name, "role": each.role} for each in here.people.welcome() if each != who]
    return {"invitations": invitations, "sessions": sessions, "people": welcome}


@routes.get("/api/team")
def look(request: Request, here: Here, who: Owner) -> Response:
    return Json(listed(request, here, who))


@routes.post("/api/invitations", status_code=201)
def invite(wanted: Invited, request: Request, here: Here, who: Owner) -> Response:
    """A link that one person can come in by. Its secret is told this once."""
    secret = here.people.invite(wanted.role, by=who, note=wanted.note, hours=VALID)
    return Json({"secret": secret, **listed(request, here, who)}, status_code=201)


@routes.delete("/api/invitations/{number}")
def withdraw(number: Number, request: Request, here: Here, who: Owner) -> Response:
    here.people.cancel(number)
    return Json(listed(request, here, who))


@routes.delete("/api/sessions/{number}")
def end_session(number: Number, request: Request, here: Here, who: Owner) -> Response:
    """That browser has to come in anew: by another invitation, or by a password."""
    here.people.revoke(number)
    return Json(listed(request, here, who))


@routes.delete("/api/people/{number}")
def shut_out(number: Number, request: Request, here: Here, who: Owner) -> Response:
    """Whoever it is has to come in anew, by another invitation and under another name: no password opens the door."""
    if number == who.id:
        raise DataError(f"{who.name}: is you; let another owner do it, or change your password")
    here.people.shut_out(number)
    return Json(listed(request, here, who))
