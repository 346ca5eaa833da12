"""Who is asking: people, their roles, the cookie that names them. Every route declares who may call it."""

from collections.abc import Awaitable, Callable
from typing import Annotated, cast

from fastapi import Depends, HTTPException, Request

from trivium.feedback.people import Person, Role

EVERYBODY: tuple[Role, ...] = ("owner", "rater", "viewer")


class Allow:
    """A dependency of a route: the person who asks, if their role may."""

    def __init__(self, *roles: Role) -> None:
        self.roles = frozenset(roles)

    async def __call__(self, request: Request) -> Person:
        person = await person_of(request)
        if person is None:
            raise HTTPException(401, "open the address that trivium studio printed, or the link of an invitation")
        if person.role not in self.roles:
            raise HTTPException(403, f"a {person.role} may not do this; ask the owner")
        return person


class AllowAnyone:
    """A dependency of a route that is open to those who have not come in."""

    roles = frozenset[Role]()

    async def __call__(self, request: Request) -> Person | None:
        return await person_of(request)


async def person_of(request: Request) -> Person | None:
    """Whom the cookie names; None when it names nobody, or not any more."""
    look = cast(Callable[[Request], Awaitable[Person | None]], request.app.state.person_of)
    return await look(request)


Owner = Annotated[Person, Depends(Allow("owner"))]
Voter = Annotated[Person, Depends(Allow("owner", "rater"))]
Reader = Annotated[Person, Depends(Allow("owner", "viewer"))]
Member = Annotated[Person, Depends(Allow(*EVERYBODY))]
Anyone = Annotated[Person | None, Depends(AllowAnyone())]
