"""One render: messages become token ids and a loss mask, for training, for inference and for `inspect`.

The chat template that is exported beside a model gives the same ids through transformers' `apply_chat_template`.
Only where a content spells a special token do the two differ: there the template alone cannot tell text from control,
and `apply_chat_template(..., sanitize_control_tokens=True)` (transformers 5) is needed to get ours.
"""

from collections.abc import Sequence
from functools import lru_cache
from itertools import accumulate
from typing import Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from trivium.errors import DataError
from trivium.records import Message, Role
from trivium.text.tokenizer import CHAT_TEMPLATE, Tokenizer

__all__ = ["CHAT_TEMPLATE", "Fitted", "Rendered", "fit", "render", "render_prompt"]

LossOn = Literal["all", "last"]


class Rendered(NamedTuple):
    """A dialogue as the model sees it. N tokens."""

    ids: NDArray[np.int32]  # (N,)
    supervised: NDArray[np.bool_]  # (N,); True where the token is a target: it is to be predicted from those before it


class Fitted(NamedTuple):
    rendered: Rendered | None  # None when not even the last exchange fits
    turns_cut: int


def render(
    messages: Sequence[Message], tokenizer: Tokenizer, *, loss_on: LossOn = "all", source: str = "dialogue"
) -> Rendered:
    """Every turn as `<|im_start|>role\\ncontent<|im_end|>\\n`, each content encoded by itself.

    loss_on  "all": the content and <|im_end|> of every assistant turn are targets; "last": of the last one only
    source   where the dialogue came from, for messages
    raises   DataError when there are no messages, a role is unknown, or the last turn is not the assistant's
    """
    _check_answered(messages, source=source)
    if tokenizer.template:
        return _render_by_template(messages, tokenizer, loss_on=loss_on, source=source)
    return _join(_turns(messages, tokenizer, loss_on=loss_on), tokenizer)


def fit(
    messages: Sequence[Message],
    tokenizer: Tokenizer,
    length: int,
    *,
    loss_on: LossOn = "all",
    source: str = "dialogue",
) -> Fitted:
    """Render into at most `length` tokens: the oldest turns go first, whole, system turns stay.

    What is left begins with a user turn, as far as there is one; so at least the last exchange stays or nothing does.
    Raises DataError as `render` does.
    """
    _check_answered(messages, source=source)
    spoken = [i for i, message in enumerate(messages) if message.role != "system"]
    if tokenizer.template:
        return _fit_by_template(messages, spoken, tokenizer, length, loss_on=loss_on, source=source)
    turns = _turns(messages, tokenizer, loss_on=loss_on)
    room = (
        length
        - len(tokenizer.opening)
        - sum(len(turn.ids) for turn, message in zip(turns, messages, strict=True) if message.role == "system")
    )
    tail = list(accumulate(len(turns[i].ids) for i in reversed(spoken)))[::-1]  # tokens from the n-th spoken turn on
    for cut, first in enumerate(spoken):
        if tail[cut] <= room and (cut == 0 or messages[first].role == "user"):
            gone = set(spoken[:cut])
            return Fitted(_join([turn for i, turn in enumerate(turns) if i not in gone], tokenizer), cut)
    return Fitted(None, len(spoken))


def render_prompt(messages: Sequence[Message], tokenizer: Tokenizer, *, source: str = "prompt") -> NDArray[np.int32]:
    """(N,) ids that end with `<|im_start|>assistant\\n`, or as a foreign template has it: what the model answers to.

    The beginning of `render` of the same messages and any answer. Raises DataError when there are no messages or a role
    is unknown.
    """
    _check_roles(messages, source=source)
    if tokenizer.template:
        pieces = tokenizer.template.write(messages, prompt=True, source=source)
        return np.array(tokenizer.encode_pieces(pieces), dtype=np.int32)
    header = np.array(_header(tokenizer, "assistant"), dtype=np.int32)
    return np.concatenate([_join(_turns(messages, tokenizer, loss_on="all"), tokenizer).ids, header])


def _check_roles(messages: Sequence[Message], *, source: str) -> None:
    if not messages:
        raise DataError(f'{source}: "messages" is empty; give at least one turn')
    for message in messages:
        if message.role not in get_args(Role):
            known = ", ".join(get_args(Role))
            raise DataError(f'{source}: "messages" holds role "{message.role}"; use one of {known}')


def _check_answered(messages: Sequence[Message], *, source: str) -> None:
    _check_roles(messages, source=source)
    last = messages[-1].role
    if last != "assistant":
        raise DataError(f'{source}: "messages" ends with role "{last}"; the last turn must be the assistant\'s')


def _turns(messages: Sequence[Message], tokenizer: Tokenizer, *, loss_on: LossOn) -> list[Rendered]:
    """Each turn by itself: none depends on its neighbours."""
    end = (tokenizer.turn_end, *_newline(tokenizer))
    turns = []
    for i, message in enumerate(messages):
        header = _header(tokenizer, message.role)
        content = tokenizer.encode(message.content)
        ids = np.array([*header, *content, *end], dtype=np.int32)
        supervised = np.zeros(len(ids), dtype=np.bool_)
        if message.role == "assistant" and (loss_on == "all" or i == len(messages) - 1):
            supervised[len(header) : len(header) + len(content) + 1] = True  # the content and <|im_end|>
        turns.append(Rendered(ids, supervised))
    return turns


def _join(turns: Sequence[Rendered], tokenizer: Tokenizer) -> Rendered:
    opening = Rendered(np.array(tokenizer.opening, np.int32), np.zeros(len(tokenizer.opening), np.bool_))
    every = [opening, *turns]
    return Rendered(np.concatenate([turn.ids for turn in every]), np.concatenate([turn.supervised for turn in every]))


def _render_by_template(messages: Sequence[Message], tokenizer: Tokenizer, *, loss_on: LossOn, source: str) -> Rendered:
    """What a foreign template writes. An answer begins where the prompt before it ends, and goes on to its end token.

    raises  DataError when a prompt is not the beginning of the whole: the answer would be learned after another prompt
            than it is asked for with
    """
    assert tokenizer.template
    whole = tokenizer.encode_pieces(tokenizer.template.write(messages, source=source))
    supervised = np.zeros(len(whole), dtype=np.bool_)
    for i, message in enumerate(messages):
        if message.role != "assistant" or (loss_on == "last" and i < len(messages) - 1):
            continue
        prompt = tokenizer.encode_pieces(tokenizer.template.write(messages[:i], prompt=True, source=source))
        if whole[: len(prompt)] != prompt or tokenizer.turn_end not in whole[len(prompt) :]:
            raise DataError(
                f"{source}: the model's chat template does not write answer {i + 1} after its prompt; "
                "take white space from the answer's beginning, or leave the dialogue out"
            )
        supervised[len(prompt) : whole.index(tokenizer.turn_end, len(prompt)) + 1] = True
    return Rendered(np.array(whole, dtype=np.int32), supervised)


def _fit_by_template(
    messages: Sequence[Message],
    spoken: Sequence[int],
    tokenizer: Tokenizer,
    length: int,
    *,
    loss_on: LossOn,
    source: str,
) -> Fitted:
    """A template may write a turn by those beside it: each cut is rendered anew."""
    for cut, first in enumerate(spoken):
        if cut == 0 or messages[first].role == "user":
            kept = [message for i, message in enumerate(messages) if i not in spoken[:cut]]
            rendered = _render_by_template(kept, tokenizer, loss_on=loss_on, source=source)
            if len(rendered.ids) <= length:
                return Fitted(rendered, cut)
    return Fitted(None, len(spoken))


@lru_cache(maxsize=64)
def _header(tokenizer: Tokenizer, role: Role) -> tuple[int, ...]:
    return (tokenizer.turn_start, *tokenizer.encode(f"{role}\n"))


@lru_cache(maxsize=16)
def _newline(tokenizer: Tokenizer) -> tuple[int, ...]:
    return tuple(tokenizer.encode("\n"))
