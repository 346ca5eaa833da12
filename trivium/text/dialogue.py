"""One render: messages become token ids and a loss mask, for training, for inference and for `inspect`.

The chat template that is exported beside a model gives the same ids through transformers' `apply_chat_template`.
Only where a content spells a special token do the two differ: there the template alone cannot tell text from control,
and `apply_chat_template(..., sanitize_control_tokens=True)` (transformers 5) is needed to get ours.
"""

from bisect import bisect_left
from collections.abc import Collection, Sequence
from functools import lru_cache
from itertools import accumulate
from typing import Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from trivium.errors import DataError
from trivium.records import Dialogue, Message, Role
from trivium.text.rows import OR_SKIP, skipped
from trivium.text.schemas import BadRows
from trivium.text.tokenizer import CHAT_TEMPLATE, Tokenizer

__all__ = [
    "CHAT_TEMPLATE",
    "Fitted",
    "Rendered",
    "fit",
    "fit_all",
    "render",
    "render_prompt",
    "told_of_cuts",
    "told_of_faults",
]

LossOn = Literal["all", "last"]


class Rendered(NamedTuple):
    """A dialogue as the model sees it. N tokens."""

    ids: NDArray[np.int32]  # (N,)
    supervised: NDArray[np.bool_]  # (N,); True where the token is a target: it is to be predicted from those before it


class Fitted(NamedTuple):
    rendered: Rendered | None  # None when not even the last exchange fits, or what fits has no loss
    turns_cut: int
    fault: DataError | None = None  # why it was skipped


def render(
    messages: Sequence[Message],
    tokenizer: Tokenizer,
    *,
    loss_on: LossOn = "all",
    only_read: Collection[int] = (),
    source: str = "dialogue",
) -> Rendered:
    """Every turn as `<|im_start|>role\\ncontent<|im_end|>\\n`, each content encoded by itself.

    loss_on    "all": the content and <|im_end|> of every assistant turn are targets; "last": of the last one only
    only_read  places of turns that are no targets in any case
    source     where the dialogue came from, for messages
    raises     DataError when there are no messages, a role is unknown, the last turn is not the assistant's, or not one
               turn is a target
    """
    learned = _learned(messages, loss_on=loss_on, only_read=only_read, source=source)
    if tokenizer.template:
        return _render_by_template(messages, tokenizer, learned, source=source)
    return _join(_turns(messages, tokenizer, learned), tokenizer)


def fit(
    messages: Sequence[Message],
    tokenizer: Tokenizer,
    length: int,
    *,
    loss_on: LossOn = "all",
    only_read: Collection[int] = (),
    source: str = "dialogue",
) -> Fitted:
    """Render into at most `length` tokens: the oldest turns go first, whole, system turns stay.

    What is left begins with a user turn, as far as there is one; so at least the last exchange stays or nothing does.
    Raises DataError as `render` does.
    """
    learned = _learned(messages, loss_on=loss_on, only_read=only_read, source=source)
    spoken = [i for i, message in enumerate(messages) if message.role != "system"]
    if tokenizer.template:
        return _fit_by_template(messages, spoken, tokenizer, length, learned, source=source)
    turns = _turns(messages, tokenizer, learned)
    room = (
        length
        - len(tokenizer.opening)
        - sum(len(turn.ids) for turn, message in zip(turns, messages, strict=True) if message.role == "system")
    )
    tail = list(accumulate(len(turns[i].ids) for i in reversed(spoken)))[::-1]  # tokens from the n-th spoken turn on
    for cut, first in enumerate(spoken):
        if tail[cut] <= room and (cut == 0 or messages[first].role == "user"):
            gone = set(spoken[:cut])
            if learned <= gone:
                break
            return Fitted(_join([turn for i, turn in enumerate(turns) if i not in gone], tokenizer), cut)
    return Fitted(None, len(spoken))


def fit_all(
    dialogues: Sequence[Dialogue], tokenizer: Tokenizer, length: int, *, loss_on: LossOn, bad_rows: BadRows = "stop"
) -> list[Fitted]:
    """`fit` of records as they were read; one that cannot be rendered stops it, or has its fault told."""

    def fitted(dialogue: Dialogue) -> Fitted:
        messages, silent = dialogue.messages, dialogue.only_read
        try:
            return fit(messages, tokenizer, length, loss_on=loss_on, only_read=silent, source=dialogue.source)
        except DataError as fault:
            if bad_rows == "stop":
                raise
            return Fitted(None, 0, skipped(fault))

    return [fitted(dialogue) for dialogue in dialogues]


def told_of_faults(fitted: Sequence[Fitted]) -> str:
    """How many dialogues were skipped, and why the first was, in one line; empty when none was."""
    faults = [each.fault for each in fitted if each.fault]
    return f"{len(faults):,} of {len(fitted):,} dialogues skipped, the first: {faults[0]}" if faults else ""


def told_of_cuts(fitted: Sequence[Fitted], length: int) -> str:
    """How many dialogues are too long, and what becomes of them, in one line; empty when all fit."""
    gone = sum(each.rendered is None and each.fault is None for each in fitted)
    shorter = sum(each.rendered is not None and each.turns_cut > 0 for each in fitted)
    if not gone and not shorter:
        return ""
    parts = [f"{shorter:,} without their oldest turns (system turns and the last exchange stay)"] if shorter else []
    parts += [f"{gone:,} left out, as nothing of them to learn fits"] if gone else []
    long = f"{gone + shorter:,} of {len(fitted):,} dialogues {'is' if gone + shorter == 1 else 'are'} longer"
    return f"{long} than {length:,} tokens: {'; '.join(parts)}"


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
    return np.concatenate([_join(_turns(messages, tokenizer, ()), tokenizer).ids, header])


def _check_roles(messages: Sequence[Message], *, source: str) -> None:
    if not messages:
        raise DataError(f'{source}: "messages" is empty; give at least one turn')
    for message in messages:
        if message.role not in get_args(Role):
            known = ", ".join(get_args(Role))
            raise DataError(f'{source}: "messages" holds role "{message.role}"; use one of {known}')


def _learned(messages: Sequence[Message], *, loss_on: LossOn, only_read: Collection[int], source: str) -> set[int]:
    """The places of the turns that are targets; raises DataError as `render` does."""
    _check_roles(messages, source=source)
    last = len(messages) - 1
    if messages[last].role != "assistant":
        raise DataError(
            f'{source}: "messages" ends with role "{messages[last].role}"; the last turn must be the assistant\'s'
        )
    answers = [last] if loss_on == "last" else [i for i, m in enumerate(messages) if m.role == "assistant"]
    learned = set(answers) - set(only_read)
    if not learned:
        which = (
            "its last answer has weight 0, and instruct.loss_on = last" if loss_on == "last" else "every weight is 0"
        )
        raise DataError(
            f"{source}: not one token has loss: {which}; give an answer weight 1, or leave the dialogue out"
        )
    return learned


def _turns(messages: Sequence[Message], tokenizer: Tokenizer, learned: Collection[int]) -> list[Rendered]:
    """Each turn by itself: none depends on its neighbours."""
    end = (tokenizer.turn_end, *_newline(tokenizer))
    turns = []
    for i, message in enumerate(messages):
        header = _header(tokenizer, message.role)
        content = tokenizer.encode(message.content)
        ids = np.array([*header, *content, *end], dtype=np.int32)
        supervised = np.zeros(len(ids), dtype=np.bool_)
        if i in learned:
            supervised[len(header) : len(header) + len(content) + 1] = True  # the content and <|im_end|>
        turns.append(Rendered(ids, supervised))
    return turns


def _join(turns: Sequence[Rendered], tokenizer: Tokenizer) -> Rendered:
    opening = Rendered(np.array(tokenizer.opening, np.int32), np.zeros(len(tokenizer.opening), np.bool_))
    every = [opening, *turns]
    return Rendered(np.concatenate([turn.ids for turn in every]), np.concatenate([turn.supervised for turn in every]))


def _render_by_template(
    messages: Sequence[Message], tokenizer: Tokenizer, learned: Collection[int], *, source: str
) -> Rendered:
    """What a foreign template writes. An answer begins where the prompt before it ends, and goes on to its end token.

    raises  DataError when a prompt is not the beginning of the whole: the answer would be learned after another prompt
            than it is asked for with
    """
    assert tokenizer.template
    whole = tokenizer.encode_pieces(tokenizer.template.write(messages, source=source))
    supervised = np.zeros(len(whole), dtype=np.bool_)
    for i in sorted(learned):
        prompt = tokenizer.encode_pieces(tokenizer.template.write(messages[:i], prompt=True, source=source))
        if whole[: len(prompt)] != prompt or tokenizer.turn_end not in whole[len(prompt) :]:
            raise DataError(
                f"{source}: the model's chat template does not write turn {i + 1}, an answer, after its prompt, "
                "as the two melt together; take white space from the answer's beginning or the end of the template's "
                f"prompt, or leave the dialogue out{OR_SKIP}"
            )
        supervised[len(prompt) : whole.index(tokenizer.turn_end, len(prompt)) + 1] = True
    return Rendered(np.array(whole, dtype=np.int32), supervised)


def _fit_by_template(
    messages: Sequence[Message],
    spoken: Sequence[int],
    tokenizer: Tokenizer,
    length: int,
    learned: Collection[int],
    *,
    source: str,
) -> Fitted:
    """A template may write a turn by those beside it: each cut is written anew, as few as halving can do with."""
    assert tokenizer.template
    write = tokenizer.template.write

    def kept(cut: int) -> list[int]:
        gone = set(spoken[:cut])
        return [i for i in range(len(messages)) if i not in gone]

    def fits(cut: int) -> bool:
        pieces = write([messages[i] for i in kept(cut)], source=source)
        return len(tokenizer.encode_pieces(pieces)) <= length

    cuts = [cut for cut, first in enumerate(spoken) if cut == 0 or messages[first].role == "user"]
    found = 0 if fits(0) else bisect_left(cuts, True, lo=1, key=fits)
    here = kept(cuts[found]) if found < len(cuts) else []
    stays = [place for place, i in enumerate(here) if i in learned]
    if not stays:
        return Fitted(None, len(spoken))
    return Fitted(_render_by_template([messages[i] for i in here], tokenizer, stays, source=source), cuts[found])


@lru_cache(maxsize=64)
def _header(tokenizer: Tokenizer, role: Role) -> tuple[int, ...]:
    return (tokenizer.turn_start, *tokenizer.encode(f"{role}\n"))


@lru_cache(maxsize=16)
def _newline(tokenizer: Tokenizer) -> tuple[int, ...]:
    return tuple(tokenizer.encode("\n"))
