"""The playground: one prompt to several models side by side, blanks to fill, and how likely each token was."""

import json
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Annotated, Any, Literal

import anyio.to_thread
from fastapi import APIRouter, HTTPException
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response, StreamingResponse

from trivium.errors import TriviumError
from trivium.records import Message
from trivium.shelf import Opened
from trivium.story.filling import fill_with
from trivium.story.manner import Manner
from trivium.story.voices import Voice, order_of, voices_of
from trivium.studio.auth import Reader
from trivium.studio.desk import Full
from trivium.studio.studio import Here, Json, Studio, show
from trivium.studio.voices import BESIDE, write
from trivium.text.blanks import parse

routes = APIRouter()
MOST_CHARACTERS = 20_000  # of a prompt
MOST_TURNS = 64
MOST_TOKENS = 1024  # of an answer
MOST_BLANKS = 8
EXAMPLES = 3

Name = Annotated[str, Field(min_length=1, max_length=64)]
Text = Annotated[str, Field(max_length=MOST_CHARACTERS)]


class Turn(BaseModel):
    model_config = ConfigDict(extra="forbid")

    role: Literal["system", "user", "assistant"]
    content: Text


class Asked(BaseModel):
    """A question to one model, and how it may answer."""

    model_config = ConfigDict(extra="forbid")

    model: Name
    messages: Annotated[list[Turn], Field(min_length=1, max_length=MOST_TURNS)]
    temperature: float = Field(0.7, ge=0, le=5, allow_inf_nan=False)
    top_p: float = Field(0.95, gt=0, le=1, allow_inf_nan=False)
    top_k: int | None = Field(None, ge=1, le=100_000)
    max_new_tokens: int = Field(128, ge=1, le=MOST_TOKENS)
    seed: int = Field(0, ge=0, lt=2**53)


class Blanks(BaseModel):
    """A text with blanks of three underscores."""

    model_config = ConfigDict(extra="forbid")

    model: Name = "base"
    text: Annotated[str, Field(max_length=2000)]
    best: int = Field(5, ge=1, le=10)


@routes.get("/playground")
def playground(here: Here, who: Reader) -> Response:
    voices = voices_of(here.run)
    return show(
        here,
        who,
        "playground",
        voices=voices,
        first={"voices": [{"name": v.name, "title": v.title, "css": v.css, "chats": v.chats} for v in voices]},
        examples=examples(here),
        blank="On a foggy ___, Wanda could not find her blue ___.",
    )


def examples(here: Studio) -> list[str]:
    """Prompts that the models have answered already, the short ones first."""
    story = here.log.look().story
    asked = dict.fromkeys(sample.prompt for sample in story.samples if sample.model == "instruct") if story else {}
    return sorted((prompt for prompt in asked if "\n" not in prompt), key=len)[:EXAMPLES]


@routes.post("/api/write", response_class=StreamingResponse)
async def answer(asked: Asked, here: Here, who: Reader) -> Response:
    """The answer of one model, a line of JSON for each piece; the last line says how likely each token was."""
    here.turns.require_room()
    voice = await anyio.to_thread.run_sync(here.voices.named, asked.model)
    return StreamingResponse(pieces(here, voice, asked), media_type="application/x-ndjson")


async def pieces(here: Studio, voice: Voice, asked: Asked) -> AsyncIterator[bytes]:
    """Written on the desk's thread; when nobody reads on, the writing ends. What hinders it is a line {"error"}."""
    try:
        async for piece in _written(here, voice, asked):
            yield json.dumps(piece).encode("ascii") + b"\n"
    except (TriviumError, HTTPException, Full) as reason:
        told = getattr(reason, "detail", None) or str(reason) or "too many ask at once; try again in a moment"
        yield json.dumps({"error": told}).encode("ascii") + b"\n"


async def _written(here: Studio, voice: Voice, asked: Asked) -> AsyncIterator[dict[str, Any]]:
    messages = [Message(turn.role, turn.content) for turn in asked.messages]
    manner = Manner(
        temperature=asked.temperature,
        top_k=asked.top_k,
        top_p=asked.top_p,
        max_tokens=asked.max_new_tokens,
    )
    async with here.turns.turn():
        desk = await anyio.to_thread.run_sync(here.voices.desk, voice)
        opened = Opened(desk.model, desk.tokenizer)
        order = order_of(voice, opened, messages, manner, seed=asked.seed, alternatives=BESIDE)
        async with aclosing(write(desk, order)) as written:
            async for piece in written:
                yield piece


@routes.post("/api/fill")
async def fill(blanks: Blanks, here: Here, who: Reader) -> Response:
    """The likely fillings of each blank, with their probabilities."""
    if len(parse(blanks.text)) - 1 > MOST_BLANKS:
        return Json({"error": f"at most {MOST_BLANKS} blanks at once"}, status_code=400)
    voice = await anyio.to_thread.run_sync(here.voices.named, blanks.model)
    async with here.turns.turn():
        return Json(await anyio.to_thread.run_sync(filled, here, voice, blanks))


def filled(here: Studio, voice: Voice, blanks: Blanks) -> dict[str, Any]:
    return fill_with(here.voices.open(voice), blanks.text, best=blanks.best) | {"pieces": parse(blanks.text)}
