"""Instructions and their expected answers by files: every common chat and instruction schema in, dialogues out."""

import re
from collections.abc import Callable, Iterator, Sequence
from types import NoneType
from typing import cast

import msgspec

from trivium.errors import DataError, did_you_mean
from trivium.records import Dialogue, Message, Role
from trivium.text.rows import REMEDY, ROW_KINDS, Row, an
from trivium.text.schemas import BadRows, Say, Schema, Source, Tell, named, quiet, read_file, read_sources
from trivium.text.sources import sources_of, weighted

LISTS = ("messages", "conversations", "conversation", "dialogue", "dialog")
SYSTEMS = ("system", "system_prompt")
TOOLS = ("tool", "function", "observation", "function_call")  # roles
NOT_SEEN = {"tool_calls": "calls of tools", "function_call": "calls of tools", "name": "names of speakers"}
CONTEXTS = {"instruction": ("input", "context"), "question": ("context",)}
JSON_LIST = re.compile(r'\s*\[\s*\{\s*"(role|content|from|value)"\s*:')  # how a CSV cell with messages begins
# (prompt, answer, title); the first whose columns are there is taken
COLUMNS = (
    ("instruction", "output", "Alpaca instructions"),
    ("instruction", "response", "Dolly instructions"),
    ("prompt", "completion", "prompt and completion"),
    ("prompt", "response", "prompt and response"),
    ("prompt", "output", "prompt and output"),
    ("question", "answer", "question and answer"),
    ("question", "response", "question and response"),
    ("query", "response", "query and response"),
    ("problem", "solution", "problem and solution"),
    ("user", "assistant", "user and assistant"),
    ("input", "output", "input and output"),
    ("input", "target", "input and target"),
    ("inputs", "targets", "inputs and targets"),
)
ROLES: dict[str, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "prompter": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bing": "assistant",
    "bard": "assistant",
    "bot": "assistant",
    "model": "assistant",
}


def read_dialogues(
    specs: Sequence[str],
    *,
    bad_rows: BadRows = "stop",
    say: Say = quiet,
    first: int | None = None,
    field: str = "data.answers",
) -> Iterator[Dialogue]:
    """Every dialogue of the files that the specs stand for.

    specs   paths, folders, globs and data sets of the hub; "NAME*0.5" for those seen in every second epoch only
    first   only so many of each file
    field   the setting that holds the specs, for messages
    raises  ConfigError for a spec without files, DataError for a bad file, or a bad row unless bad_rows = "skip"
    """
    sources = sources_of(specs, field=field, kinds=ROW_KINDS, say=say)

    def read(source: Source, tell: Tell) -> Iterator[Dialogue]:
        found = read_file(source, tell, recognise=recognise, noun="dialogue", bad_rows=bad_rows)
        return weighted(found, source.weight)

    return read_sources(sources, read, bad_rows=bad_rows, say=say, first=first)


def recognise(row: Row) -> Schema[Dialogue]:
    """The first schema whose columns the row has. Raises DataError naming the columns seen and the schemas known."""
    for schema in SCHEMAS:
        if schema.fits(row.value):
            return schema
    known = "; ".join((f"messages with role and content, or from and value ({', '.join(LISTS)})", *_columns_known()))
    raise DataError(f"{row.where}: no known schema has {named(row.value)}; known are {known}")


def _columns_known() -> Iterator[str]:
    return (f"{prompt}, {answer}" for prompt, answer, _ in COLUMNS)


def _of_list(row: Row) -> list[Dialogue]:
    key = _list_in(row.value)
    assert key is not None  # the schema fits
    turns = turns_of(row.value[key], key, row.where)
    said = [message for message, _ in turns]
    messages = _with_system(row, said)
    above = len(messages) - len(said)  # a system turn that has a column of its own
    only_read = tuple(
        above + i for i, (message, weight) in enumerate(turns) if not weight and message.role == "assistant"
    )
    return [_dialogue(messages, row, key, only_read)]


def _of_columns(prompt: str, answer: str) -> Callable[[Row], list[Dialogue]]:
    def read(row: Row) -> list[Dialogue]:
        messages = with_answer(prompt_in(row, prompt), row.value[answer], answer, row.where)
        return [_dialogue(messages, row, answer)]

    return read


def _dialogue(messages: list[Message], row: Row, key: str, only_read: tuple[int, ...] = ()) -> Dialogue:
    last = messages[-1].role
    if last != "assistant":
        raise DataError(f'{row.where}: "{key}" ends with role "{last}"; the last turn must be the assistant\'s')
    if all(message.role != "user" for message in messages):
        raise DataError(
            f'{row.where}: "{key}" has no turn of the user; put the question before the answer, or {REMEDY}'
        )
    if all(i in only_read for i, message in enumerate(messages) if message.role == "assistant"):
        raise DataError(
            f'{row.where}: "{key}": every answer has weight 0, none is learned; give one weight 1, or {REMEDY}'
        )
    return Dialogue(tuple(messages), row.where, accepted=_accepted(row), kind=_kind(row), only_read=only_read)


def _accepted(row: Row) -> tuple[str, ...]:
    given = row.value.get("accepted")
    if given is None or given == "":
        return ()
    answers = given if isinstance(given, list) else [given]
    if not all(isinstance(answer, str) and answer.strip() for answer in answers):
        raise DataError(f'{row.where}: "accepted" must be a list of strings, the answers that count as right; {REMEDY}')
    return tuple(answers)


def _kind(row: Row) -> str:
    kind = row.value.get("kind")
    return kind if isinstance(kind, str) else ""


def prompt_in(row: Row, key: str) -> list[Message]:
    """The turns before the answer: a string is the user's, with its context below it and its system prompt above."""
    value = row.value[key]
    if holds_messages(value):
        return _with_system(row, messages_of(value, key, row.where))
    texts = [text_of(value, f'"{key}"', row.where)]
    if context := next((name for name in CONTEXTS.get(key, ()) if row.value.get(name)), None):
        texts.append(text_of(row.value[context], f'"{context}"', row.where))
    return _with_system(row, [Message("user", "\n\n".join(texts))])


def _with_system(row: Row, messages: list[Message]) -> list[Message]:
    key = next((key for key in SYSTEMS if row.value.get(key)), None)
    if key is None or messages[0].role == "system":
        return messages
    return [Message("system", text_of(row.value[key], f'"{key}"', row.where)), *messages]


def with_answer(prompt: list[Message], answer: object, key: str, where: str) -> list[Message]:
    """The prompt and what follows: an answer as a string, as turns, or as the whole conversation once more."""
    if not holds_messages(answer):
        return [*prompt, Message("assistant", text_of(answer, f'"{key}"', where))]
    turns = messages_of(answer, key, where)
    asked = [message for message in prompt if message.role != "system"]
    if not asked or turns[0].role == "assistant":
        return [*prompt, *turns]
    if _stripped(turns[:-1][-len(asked) :]) != _stripped(asked):
        raise DataError(
            f'{where}: "{key}" does not go on from the prompt; repeat the prompt in it, or give the answer only'
        )
    return turns if turns[0].role == "system" else [*prompt[: len(prompt) - len(asked)], *turns]


def holds_messages(value: object) -> bool:
    """A list, or the JSON text of one, as a CSV cell has it."""
    return isinstance(value, list) or (isinstance(value, str) and JSON_LIST.match(value) is not None)


def _stripped(messages: list[Message]) -> list[Message]:
    return [Message(role, content.strip()) for role, content in messages]


def messages_of(value: object, key: str, where: str) -> list[Message]:
    """What is said in `turns_of`, where no turn may be weighed; raises DataError as that does."""
    turns = turns_of(value, key, where)
    for index, (_, weight) in enumerate(turns):
        if not weight:
            raise DataError(f'{where}: "{key}", turn {index + 1}, has weight 0: turns are not weighed here; remove it')
    return [message for message, _ in turns]


def turns_of(value: object, key: str, where: str) -> list[tuple[Message, int]]:
    """Messages as {"role", "content"} or {"from", "value"}, with weights; as JSON text where a CSV cell holds them.

    raises  DataError at the first message that is not one
    """
    if isinstance(value, str):
        value = _from_json(value, key, where)
    if not isinstance(value, list):
        raise DataError(f'{where}: "{key}" is {an(value)}; make it a list of messages with role and content')
    messages = [_message(item, f'"{key}"[{index}]', where) for index, item in enumerate(value)]
    spoken = [message for message in messages if message is not None]
    if not spoken:
        raise DataError(f'{where}: "{key}" is empty; give it a question and an answer, or {REMEDY}')
    return spoken


def _from_json(text: str, key: str, where: str) -> object:
    try:
        return msgspec.json.decode(text.encode())
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise DataError(f'{where}: "{key}" is text, but not a JSON list of messages ({error}); {REMEDY}') from error


def _message(item: object, at: str, where: str) -> tuple[Message, int] | None:
    """One message and its weight; nothing for an empty system prompt, which many published data sets carry."""
    if not isinstance(item, dict):
        raise DataError(f"{where}: {at} is {an(item)}; make it a message with role and content")
    said = cast(dict[str, object], item)
    role_key, content_key = ("from", "value") if "role" not in said and "from" in said else ("role", "content")
    role = _role(said.get(role_key), f"{at}.{role_key}", where)
    content = said.get(content_key)
    weight = said.get("weight", 1)
    if weight not in (0, 1, None):
        raise DataError(f"{where}: {at}.weight = {weight}: must be 0, only read, or 1, learned; choose one of them")
    if unseen := next((name for name in NOT_SEEN if said.get(name)), None):
        raise DataError(
            f"{where}: {at}.{unseen}: the model is not shown {NOT_SEEN[unseen]}; say it in the content, or {REMEDY}"
        )
    if role == "system" and content == "":
        return None
    return Message(role, text_of(content, f"{at}.{content_key}", where)), 1 if weight is None else int(weight)


def _role(value: object, at: str, where: str) -> Role:
    if not isinstance(value, str):
        raise DataError(f"{where}: {at} is {an(value)}; make it system, user or assistant")
    role = ROLES.get(value.strip().lower())
    if role is None and value.strip().lower() in TOOLS:
        raise DataError(f'{where}: {at} is "{value}": turns of tools are not learned here; take them out, or {REMEDY}')
    if role is None:
        near = did_you_mean(value, ROLES) or "; use system, user or assistant"
        raise DataError(f'{where}: {at} is "{value[:40]}", which is no known role{near}')
    return role


def text_of(value: object, at: str, where: str) -> str:
    """A string that is not blank; OpenAI's list of text parts is one string."""
    if isinstance(value, list) and all(isinstance(part, dict) and part.get("type") == "text" for part in value):
        value = "".join(str(part.get("text", "")) for part in value)
    if not isinstance(value, str):
        raise DataError(f"{where}: {at} is {an(value)}; make it a string, or {REMEDY}")
    if not value.strip():
        raise DataError(f"{where}: {at} is empty; fill it, or {REMEDY}")
    return value


def _list_in(value: dict[str, object]) -> str | None:
    """The column that holds the messages, however badly: a null or an object is for `messages_of` to name."""
    given = (key for key in LISTS if key in value)
    return next((key for key in given if holds_messages(value[key]) or isinstance(value[key], dict | NoneType)), None)


def _style(value: dict[str, object]) -> str:
    """How the first message tells its speaker: "role", "from", or "" when there is none to tell."""
    key = _list_in(value)
    found = value[key] if key else None
    if isinstance(found, str):
        begins = JSON_LIST.match(found)
        return {"role": "role", "content": "role", "from": "from", "value": "from"}[begins[1]] if begins else ""
    first = found[0] if isinstance(found, list) and found else None
    return next((style for style in ("role", "from") if isinstance(first, dict) and style in first), "")


def _is_openai(value: dict[str, object]) -> bool:
    return _list_in(value) is not None and _style(value) != "from"


def _is_sharegpt(value: dict[str, object]) -> bool:
    return _list_in(value) is not None and _style(value) != "role"


def _has(*keys: str) -> Callable[[dict[str, object]], bool]:
    return lambda value: all(key in value for key in keys)


SCHEMAS: tuple[Schema[Dialogue], ...] = (
    Schema("OpenAI messages", _is_openai, _of_list),
    Schema("ShareGPT conversations", _is_sharegpt, _of_list),
    *(Schema(title, _has(prompt, answer), _of_columns(prompt, answer)) for prompt, answer, title in COLUMNS),
)
