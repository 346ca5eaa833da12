"""The OpenAI-compatible API: models, completions, chat completions. Whoever mounts it guards it."""

import asyncio
import json
import secrets
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from typing import Any, NamedTuple, TypeVar

from fastapi import APIRouter, Request
from pydantic import ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, Response, StreamingResponse

from trivium.errors import TriviumError
from trivium.generate.sampling import Penalties, Sampling, stream_seed
from trivium.generate.spelling import Spelling
from trivium.generate.writer import Order, Token
from trivium.records import Message
from trivium.studio.asking import ApiError, Asked, Chat, Completion, refusal
from trivium.studio.desk import Desk, Full
from trivium.text.dialogue import render_prompt

LOOK = 0.5  # seconds between looks whether somebody still waits
DEFAULT_TOKENS = 16  # of a completion that does not say, as OpenAI has it; a chat goes on to the context's end
AnyAsked = TypeVar("AnyAsked", bound=Asked)


class Bit(NamedTuple):
    """Some text that has become certain, and the tokens that were written meanwhile."""

    text: str
    tokens: list[Token]
    end: str | None


def openai_routes(desks: Mapping[str, Desk]) -> APIRouter:
    """desks  by the name that requests call a model"""
    routes, created = APIRouter(prefix="/v1"), int(time.time())

    def described(name: str) -> dict[str, Any]:
        return {"id": name, "object": "model", "created": created, "owned_by": "trivium"}

    @routes.get("/models")
    async def models() -> Response:
        return JSONResponse({"object": "list", "data": [described(name) for name in desks]})

    @routes.get("/models/{name:path}")
    async def model(name: str) -> Response:
        desk_of(desks, name)
        return JSONResponse(described(name))

    @routes.post("/completions")
    async def completions(request: Request) -> Response:
        asked = await _read(request, Completion)
        desk = desk_of(desks, asked.model)
        given = [asked.prompt] if isinstance(asked.prompt, str) or isinstance(asked.prompt[0], int) else asked.prompt
        prompts = await run_in_threadpool(lambda: [_ids(prompt, desk) for prompt in given])  # others' streams go on
        most = DEFAULT_TOKENS if asked.max_tokens is None else asked.max_tokens
        orders = [
            _order(asked, desk, prompt, most, asked.logprobs or 0, i) for prompt in prompts for i in range(asked.n)
        ]
        return await _respond(request, desk, asked, orders, CompletionForm(desk, asked))

    @routes.post("/chat/completions")
    async def chat(request: Request) -> Response:
        asked = await _read(request, Chat)
        desk = desk_of(desks, asked.model)
        if asked.top_logprobs and not asked.logprobs:
            raise ApiError("top_logprobs: needs logprobs = true", param="top_logprobs", code="invalid_value")
        if asked.max_tokens is not None and asked.max_completion_tokens is not None:
            raise ApiError("max_tokens: give it or max_completion_tokens, not both", param="max_tokens")
        try:
            messages = [Message(said.role, said.text) for said in asked.messages]
            rendered = await run_in_threadpool(render_prompt, messages, desk.tokenizer, source="messages")
        except TriviumError as reason:
            raise ApiError(str(reason), param="messages") from None
        prompt = rendered.tolist()
        room = desk.model.config.context_length - len(prompt)
        most = asked.max_completion_tokens or asked.max_tokens or max(1, room)
        orders = [_order(asked, desk, prompt, most, asked.top_logprobs, i) for i in range(asked.n)]
        return await _respond(request, desk, asked, orders, ChatForm(desk, asked))

    return routes


def desk_of(desks: Mapping[str, Desk], name: str) -> Desk:
    if name not in desks:
        told = f"model {name!r}: is not served here; use one of {', '.join(desks)}"
        raise ApiError(told, status=404, param="model", code="model_not_found")
    return desks[name]


async def _read(request: Request, kind: type[AnyAsked]) -> AnyAsked:
    try:
        found = json.loads(await request.body())
    except ClientDisconnect:  # nobody reads this, unless the guard ended a body that grew too long
        raise ApiError("the request is not whole, or too long", status=413, code="request_too_large") from None
    except (ValueError, RecursionError):
        raise ApiError("the body is no JSON; send one JSON object", code="invalid_json") from None
    try:
        return kind.model_validate({key: value for key, value in found.items() if value is not None})
    except AttributeError:
        raise ApiError("the body is no JSON object", code="invalid_json") from None
    except ValidationError as reason:
        raise refusal(kind, reason.errors()) from None


def _ids(prompt: Any, desk: Desk) -> list[int]:
    ids = [*desk.tokenizer.opening, *desk.tokenizer.encode(prompt)] if isinstance(prompt, str) else list(prompt)
    if ids and max(ids) >= desk.model.config.vocab_size:
        raise ApiError(f"prompt: token ids must be below {desk.model.config.vocab_size}", param="prompt")
    return ids or [desk.tokenizer.end_of_text]  # an empty text begins where another one ends


def _order(asked: Asked, desk: Desk, prompt: Sequence[int], most: int, alternatives: int, number: int) -> Order:
    length = desk.model.config.context_length
    if len(prompt) + most > length:
        told = f"{len(prompt)} tokens of prompt and {most} to be written: the model's context holds {length} together"
        raise ApiError(told, param="messages" if isinstance(asked, Chat) else "prompt", code="context_length_exceeded")
    sampling = Sampling(asked.temperature, asked.top_k, asked.top_p, most, asked.min_p)
    penalties = Penalties(asked.repetition_penalty, asked.presence_penalty, asked.frequency_penalty)
    seed = stream_seed(asked.seed if asked.seed is not None else secrets.randbits(62), number)
    return Order(prompt, seed, sampling, (desk.tokenizer.turn_end, desk.tokenizer.end_of_text), penalties, alternatives)


async def _bits(desk: Desk, order: Order, stop: Sequence[str]) -> AsyncIterator[Bit]:
    """One answer, piece by piece; the stop token is no part of it."""
    spelling, tokens = Spelling(stop), list[Token]()
    if not order.sampling.max_new_tokens:
        yield Bit("", [], "length")
        return
    async with aclosing(desk.write(order)) as written:
        async for token in written:
            if token.end == "stop":
                break
            tokens.append(token)
            text = spelling.add(desk.tokenizer.token_bytes(token.id))
            if spelling.stopped or token.end:
                break
            if text:
                yield Bit(text, tokens, None)
                tokens = []
        if token.end == "stop":
            text = ""
        rest = "" if spelling.stopped else spelling.end()
        yield Bit(text + rest, tokens, "stop" if spelling.stopped else token.end)


class CompletionForm:
    """How /v1/completions says it."""

    prefix, whole, piece = "cmpl-", "text_completion", "text_completion"

    def __init__(self, desk: Desk, asked: Completion) -> None:
        self.desk, self.asked = desk, asked
        self._reading: dict[tuple[int, ...], asyncio.Task[list[Token]]] = {}  # by prompt

    async def before(self, order: Order) -> Bit:
        """What is echoed."""
        if not self.asked.echo:
            return Bit("", [], None)
        tokens = [] if self.asked.logprobs is None else await self._read(order)
        return Bit(self.desk.tokenizer.decode(order.prompt, keep_special=True), tokens, None)

    async def _read(self, order: Order) -> list[Token]:
        """The tokens of a prompt, computed once for all answers to it."""
        prompt = tuple(order.prompt)
        if prompt not in self._reading:
            reading = run_in_threadpool(self.desk.prompt_logprobs, prompt, order.alternatives)
            self._reading[prompt] = asyncio.create_task(reading)
        return [Token(prompt[0], float("nan"), [], None), *await self._reading[prompt]]

    def first(self, number: int) -> list[dict[str, Any]]:
        return []

    def choice(self, number: int, bit: Bit, *, streamed: bool, offset: int) -> dict[str, Any]:
        logprobs = self._logprobs(bit.tokens, offset) if self.asked.logprobs is not None else None
        return {"index": number, "text": bit.text, "logprobs": logprobs, "finish_reason": bit.end}

    def _logprobs(self, tokens: Sequence[Token], offset: int) -> dict[str, Any]:
        found: dict[str, Any] = {"tokens": [], "token_logprobs": [], "top_logprobs": [], "text_offset": []}
        for token in tokens:
            text, known = spelled(self.desk, token.id), token.logprob == token.logprob
            best: dict[str, float] = {}
            for id, logprob in token.best:
                best.setdefault(spelled(self.desk, id), logprob)  # several may look alike; the most probable counts
            found["tokens"].append(text)
            found["token_logprobs"].append(token.logprob if known else None)
            found["top_logprobs"].append(best if known else None)
            found["text_offset"].append(offset)
            offset += len(text)
        return found


class ChatForm:
    """How /v1/chat/completions says it."""

    prefix, whole, piece = "chatcmpl-", "chat.completion", "chat.completion.chunk"

    def __init__(self, desk: Desk, asked: Chat) -> None:
        self.desk, self.asked = desk, asked

    async def before(self, order: Order) -> Bit:
        return Bit("", [], None)

    def first(self, number: int) -> list[dict[str, Any]]:
        delta = {"role": "assistant", "content": ""}
        return [{"index": number, "delta": delta, "logprobs": None, "finish_reason": None}]

    def choice(self, number: int, bit: Bit, *, streamed: bool, offset: int) -> dict[str, Any]:
        told = {"content": bit.text} if streamed else {"role": "assistant", "content": bit.text, "refusal": None}
        logprobs = None
        if self.asked.logprobs:
            logprobs = {"content": [self._told(t.id, t.logprob) | {"top_logprobs": self._best(t)} for t in bit.tokens]}
        key = "delta" if streamed else "message"
        return {"index": number, key: told, "logprobs": logprobs, "finish_reason": bit.end}

    def _best(self, token: Token) -> list[dict[str, Any]]:
        return [self._told(*found) for found in token.best]

    def _told(self, id: int, logprob: float) -> dict[str, Any]:
        written = list(self.desk.tokenizer.token_bytes(id))
        return {"token": spelled(self.desk, id), "logprob": logprob, "bytes": written}


Form = CompletionForm | ChatForm


def spelled(desk: Desk, id: int) -> str:
    return desk.tokenizer.decode([id], keep_special=True)


async def _respond(request: Request, desk: Desk, asked: Asked, orders: Sequence[Order], form: Form) -> Response:
    if len(orders) > desk.most:
        told = f"{len(orders)} answers at once: at most {desk.most} fit; send fewer prompts, or a smaller n"
        raise ApiError(told, param="n" if asked.n > 1 else "prompt", code="too_many_answers")
    try:
        desk.make_room(len(orders))
    except Full:
        told = "too many answers are waiting; try again later"
        raise ApiError(told, status=429, code="queue_full") from None
    head = {"id": form.prefix + secrets.token_hex(12), "created": int(time.time()), "model": asked.model}
    if asked.stream:
        events = _events(desk, asked, orders, form, head | {"object": form.piece})
        return StreamingResponse(events, media_type="text/event-stream", headers={"Cache-Control": "no-cache"})
    writing = asyncio.gather(*(_whole(desk, asked, order, form) for order in orders))
    while not writing.done():
        await asyncio.wait([writing], timeout=LOOK)
        if not writing.done() and await request.is_disconnected():
            writing.cancel()
            return Response(status_code=499)
    bits = writing.result()
    choices = [form.choice(number, bit, streamed=False, offset=0) for number, (bit, _) in enumerate(bits)]
    usage = _usage(orders, sum(count for _, count in bits), asked.n)
    return JSONResponse(head | {"object": form.whole, "choices": choices, "usage": usage})


async def _whole(desk: Desk, asked: Asked, order: Order, form: Form) -> tuple[Bit, int]:
    text, tokens, _ = await form.before(order)
    read, end = len(tokens), None
    async for bit in _bits(desk, order, asked.stop):
        text, tokens, end = text + bit.text, [*tokens, *bit.tokens], bit.end
    return Bit(text, tokens, end), len(tokens) - read


async def _events(
    desk: Desk, asked: Asked, orders: Sequence[Order], form: Form, head: dict[str, Any]
) -> AsyncIterator[str]:
    """Server-sent events; whoever stops listening ends the writing."""
    lines: asyncio.Queue[dict[str, Any] | BaseException | int] = asyncio.Queue()

    async def tell(number: int, order: Order) -> None:
        written = 0
        try:
            for choice in form.first(number):
                lines.put_nowait(choice)
            echoed = await form.before(order)
            if echoed.text:
                lines.put_nowait(form.choice(number, echoed, streamed=True, offset=0))
            offset = len(echoed.text)
            async for bit in _bits(desk, order, asked.stop):
                lines.put_nowait(form.choice(number, bit, streamed=True, offset=offset))
                offset, written = offset + len(bit.text), written + len(bit.tokens)
            lines.put_nowait(written)
        except Exception as reason:
            lines.put_nowait(reason)

    telling = [asyncio.create_task(tell(number, order)) for number, order in enumerate(orders)]
    left, written = len(orders), 0
    try:
        while left:
            found = await lines.get()
            if isinstance(found, BaseException):
                yield _event(ApiError(f"the answer could not be written: {found}", status=500).body())
                return
            if isinstance(found, int):
                left, written = left - 1, written + found
            else:
                yield _event(head | {"choices": [found]})
        if asked.stream_options and asked.stream_options.include_usage:
            yield _event(head | {"choices": [], "usage": _usage(orders, written, asked.n)})
        yield "data: [DONE]\n\n"
    finally:
        for task in telling:
            task.cancel()


def _event(told: dict[str, Any]) -> str:
    return f"data: {json.dumps(told, ensure_ascii=False)}\n\n"


def _usage(orders: Sequence[Order], written: int, n: int) -> dict[str, int]:
    read = sum(len(order.prompt) for order in orders[::n])
    return {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}
