"""`trivium generate`: prompts in, answers out, as many at once as the machine takes."""

import json
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, get_args

import msgspec
from rich.text import Text

from trivium.compute import best_device
from trivium.errors import ConfigError, did_you_mean
from trivium.generate.engine import Precision, Request, generate
from trivium.generate.sampling import stream_seed
from trivium.generate.spelling import Spelling
from trivium.generate.writer import Order, Token, Writer
from trivium.publish import publish_file
from trivium.records import Message
from trivium.shelf import Opened, open_model
from trivium.show import console_for, printable
from trivium.story.manner import Manner
from trivium.story.voices import Voice, order_of, prompt_of, spelled, voice_at
from trivium.text.prompts import read_prompts
from trivium.text.tokenizer import Tokenizer
from trivium.wording import counted

ROWS = 32  # answers written at once where each token is looked at
MOST_BESIDE = 20


class Wanted(NamedTuple):
    n: int = 1  # answers to each prompt
    raw: bool = False  # go on with the text, whatever the model is
    system: str = ""
    stop: tuple[str, ...] = ()
    logprobs: int | None = None  # alternatives that are told beside each token
    precision: str = "auto"


class Written(NamedTuple):
    text: str
    ended: bool  # by itself or by a stop text; not for want of room
    tokens: int
    logprobs: list[dict[str, Any]] | None


def generate_answers(
    folder: Path, prompts: Sequence[str], file: Path | None, wanted: Wanted, manner: Manner
) -> dict[str, Any]:
    """Answers to prompts typed and prompts of a file; without either, to each line of stdin.

    returns  {"model", "answers": [{"messages", or "prompt" and "completion"; "ended", "tokens", "logprobs"}]}
    """
    _check(wanted)
    voice = voice_at(folder)
    voice = voice._replace(chats=voice.chats and not wanted.raw)
    asked = list(_asked(prompts, file, wanted.system))
    opened = open_model(voice.folder, device=best_device())
    orders = [
        order_of(
            voice, opened, messages, manner, seed=stream_seed(manner.seed, i, k), alternatives=wanted.logprobs or 0
        )
        for i, messages in enumerate(asked)
        for k in range(wanted.n)
    ]
    _tell_cut([len(prompt_of(voice, opened.tokenizer, messages)) for messages in asked], orders[:: wanted.n])
    begun = time.perf_counter()
    plain = not wanted.stop and wanted.logprobs is None and manner.repetition == 1
    written = (_at_full_speed if plain else _one_by_one)(opened, orders, wanted)
    _tell_speed(written, time.perf_counter() - begun)
    rows = [_row(voice, asked[i // wanted.n], each) for i, each in enumerate(written)]
    return {"model": str(voice.folder), "answers": rows}


def _check(wanted: Wanted) -> None:
    if wanted.n < 1:
        raise ConfigError(f"n = {wanted.n}: must be at least 1; it is the number of answers to each prompt")
    if wanted.logprobs is not None and not 0 <= wanted.logprobs <= MOST_BESIDE:
        raise ConfigError(f"logprobs = {wanted.logprobs}: must be from 0 to {MOST_BESIDE}")
    if wanted.precision not in get_args(Precision):
        near = did_you_mean(wanted.precision, get_args(Precision)) or f"; use {' or '.join(get_args(Precision))}"
        raise ConfigError(f"precision = {wanted.precision}: is not known{near}")
    if not all(wanted.stop):
        raise ConfigError("stop: an empty text would end every answer; leave it out")


def _asked(prompts: Sequence[str], file: Path | None, system: str) -> Iterator[tuple[Message, ...]]:
    if not prompts and file is None and sys.stdin.isatty():
        raise ConfigError("prompts: there is none; give one or more, --file FILE, or lines on stdin")
    typed = prompts if prompts or file else [line.rstrip("\n") for line in sys.stdin if line.strip()]
    above = (Message("system", system),) if system else ()
    for prompt in typed:
        if not prompt.strip():
            raise ConfigError("prompts: one is empty; leave it out")
        yield (*above, Message("user", prompt))
    for messages in read_prompts(file) if file else ():
        yield (*(above if messages[0].role != "system" else ()), *messages)


def _at_full_speed(opened: Opened, orders: Sequence[Order], wanted: Wanted) -> list[Written]:
    """Many tokens at a time, without a look at them in between."""
    if not orders:
        return []
    model, tokenizer = opened
    requests = [Request(order.prompt, order.seed) for order in orders]
    most = max(order.sampling.max_new_tokens for order in orders)
    sampling = orders[0].sampling._replace(max_new_tokens=most)
    answers = generate(model, requests, sampling, stop=orders[0].stop, precision=_precision(wanted))
    return [Written(tokenizer.decode(answer.tokens), answer.ended, len(answer.tokens), None) for answer in answers]


def _one_by_one(opened: Opened, orders: Sequence[Order], wanted: Wanted) -> list[Written]:
    """A token of each at a time: for what is told of each, or may end or change the answer."""
    model, tokenizer = opened
    cold = any(order.sampling.temperature == 0 for order in orders)  # greedy answers are exact, as at full speed
    longest = max((len(order.prompt) + order.sampling.max_new_tokens for order in orders), default=1)
    precision = "float32" if cold else _precision(wanted)
    writer = Writer(model, rows=ROWS, positions=longest, precision=precision)
    spellings = [Spelling(wanted.stop) for _ in orders]
    texts, tokens = [""] * len(orders), [list[Token]() for _ in orders]
    ended, numbers = [False] * len(orders), {writer.submit(order): i for i, order in enumerate(orders)}
    while not writer.idle:
        for answering, token in writer.step():
            i = numbers[answering]
            if token.end == "stop":
                ended[i] = True
                continue
            tokens[i].append(token)
            texts[i] += spellings[i].add(tokenizer.token_bytes(token.id))
            if spellings[i].stopped:
                ended[i] = True
                writer.cancel(answering)
    texts = [text + spelling.end() for text, spelling in zip(texts, spellings, strict=True)]
    return [
        Written(text, end, len(found), [_told(t, tokenizer) for t in found] if wanted.logprobs is not None else None)
        for text, end, found in zip(texts, ended, tokens, strict=True)
    ]


def _precision(wanted: Wanted) -> Precision:
    return "float32" if wanted.precision == "float32" else "auto"


def _told(token: Token, tokenizer: Tokenizer) -> dict[str, Any]:
    beside = [[spelled(id, tokenizer), logprob] for id, logprob in token.best]
    return {"token": spelled(token.id, tokenizer), "logprob": token.logprob, "beside": beside}


def _row(voice: Voice, asked: Sequence[Message], written: Written) -> dict[str, Any]:
    """As data.answers reads it."""
    if voice.chats:
        said = [*asked, Message("assistant", written.text.strip())]
        row: dict[str, Any] = {"messages": [message._asdict() for message in said]}
    else:
        row = {"prompt": "\n".join(message.content for message in asked), "completion": written.text}
    row |= {"ended": written.ended, "tokens": written.tokens}
    return row if written.logprobs is None else row | {"logprobs": written.logprobs}


def _tell_cut(lengths: Sequence[int], orders: Sequence[Order]) -> None:
    """lengths  (prompts,) tokens of each whole prompt; of a longer one than is read, the order holds the end"""
    cut = [order for length, order in zip(lengths, orders, strict=True) if length > len(order.prompt)]
    if cut:
        which = "prompts is" if len(cut) == 1 else "prompts are"
        told = (
            f"{len(cut):,} of {len(orders):,} {which} longer than {len(cut[0].prompt):,} tokens: only the end is read"
        )
        console_for(stderr=True).print(Text(told, style="dim"), soft_wrap=True)


def _tell_speed(written: Sequence[Written], seconds: float) -> None:
    tokens = sum(each.tokens for each in written)
    answers = counted(len(written), "answer")
    line = f"{answers}, {tokens:,} tokens, {tokens / max(seconds, 1e-9):,.0f} tokens/s"
    console_for(stderr=True).print(Text(line, style="dim"))


def check_out(out: Path) -> None:
    """Raises ConfigError for a file that data.answers would not read, before anything is written."""
    if out.suffix != ".jsonl":
        raise ConfigError(f"--out = {out}: must end with .jsonl, as data.answers reads it; add that")


def write_answers(found: dict[str, Any], out: Path) -> None:
    """A line of JSON for each answer: the whole file, or nothing of it."""
    lines = b"".join(msgspec.json.encode(row) + b"\n" for row in found["answers"])
    publish_file(out, lambda fresh: fresh.write_bytes(lines))


def print_answers(found: dict[str, Any]) -> None:
    """One answer as it is; several, each below its prompt."""
    console, rows, before = console_for(), found["answers"], None

    def show(text: str, style: str = "") -> None:
        if console.is_terminal:
            console.print(Text(printable(text), style=style), soft_wrap=True)
        else:
            print(text)

    for row in rows:
        prompt = _prompt(row)
        if prompt != before and len(rows) > 1:
            show(("\n" if before is not None else "") + prompt, "cyan")
        before = prompt
        show(_answer(row) if len(rows) == 1 else f"  {_answer(row)}")
        for told in row.get("logprobs", ()):
            show(_told_of_token(told), "dim")


def _prompt(row: dict[str, Any]) -> str:
    return str(row["prompt"] if "prompt" in row else row["messages"][-2]["content"])


def _answer(row: dict[str, Any]) -> str:
    return str(row["completion"] if "prompt" in row else row["messages"][-1]["content"])


def _told_of_token(told: dict[str, Any]) -> str:
    """A token as it is spelled, its log-probability, and the most probable ones in its place."""
    beside = "".join(f"  {_quoted(token)} {logprob:.3f}" for token, logprob in told["beside"])
    return f"    {_quoted(told['token']):<16} {told['logprob']:8.3f}{f'  of{beside}' if beside else ''}"


def _quoted(token: str) -> str:
    return json.dumps(token, ensure_ascii=False)
