"""Tokens for the eye: what each looks like, and what it is to the model. Plain records; no colours, no pages."""

from collections.abc import Iterator, Sequence

import msgspec

from trivium.text.tokenizer import Tokenizer


class Span(msgspec.Struct, frozen=True):
    """One token, to be shown."""

    text: str  # nothing in it is invisible: a line break is "↵\n", a tab "→\t", a lone byte "\\xe2"
    id: int
    learned: bool  # it has loss: the model is to predict it from those before it
    control: bool  # it ends or begins something, and is never typed
    document: int = 0  # which of a packed row's documents it is of, from 0 on; -1: padding


def visible(id: int, tokenizer: Tokenizer) -> str:
    """What a token looks like: control tokens by name, bytes that are no character by number, nothing invisible."""
    data = tokenizer.token_bytes(id)
    if not data:
        return tokenizer.decode([id], keep_special=True)
    text = data.decode("utf-8", "backslashreplace").replace("\n", "↵\n").replace("\t", "→\t")
    return "".join(c if c.isprintable() or c in "\n\t" else f"\\x{ord(c):02x}" for c in text)


def spans(
    ids: Sequence[int], learned: Sequence[bool], tokenizer: Tokenizer, documents: Sequence[int] | None = None
) -> Iterator[Span]:
    """Each token as it is shown. N tokens.

    ids        (N,)
    learned    (N,) whether the token has loss
    documents  (N,) which document of a packed row each is of, -1 for padding; None: all are of one
    """
    for id, has_loss, document in zip(ids, learned, documents or [0] * len(ids), strict=True):
        yield Span(visible(id, tokenizer), id, has_loss, not tokenizer.token_bytes(id), document)
