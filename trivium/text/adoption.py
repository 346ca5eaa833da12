"""The vocabulary of somebody else's model, made one that the three phases can use. Trains nothing."""

import hashlib
from pathlib import Path
from typing import NamedTuple

from tokenizers import AddedToken
from tokenizers import Tokenizer as Backend

from trivium.errors import CheckpointError
from trivium.text.template import PROBE, ChatTemplate
from trivium.text.tokenizer import Tokenizer, missing_names, read_backend, read_template

FILES = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")  # all that is read, where it is there
ROUND_TRIP = ("a B\n\n\tc  1984", " d", "é漢👩\u200d🚀", "_-'\"{}")


class Adopted(NamedTuple):
    tokenizer: Tokenizer
    known: int  # tokens before ours were added: ids below this are those that the model was trained with


def adopt(folder: Path) -> Adopted:
    """The folder's own tokens, its chat template unless that writes as ours does, and the control tokens that it lacks.

    raises  CheckpointError when a file is missing or damaged, or the vocabulary cannot write every text
    """
    backend = read_backend(folder)
    backend.no_truncation()
    backend.no_padding()
    try:
        template = read_template(folder, backend)
        _check_round_trip(backend)
        if template:
            _check_template(backend, template)
    except CheckpointError as error:
        raise CheckpointError(f"{folder}: {error}") from None
    known = max(backend.get_vocab().values()) + 1
    missing = missing_names(backend, template)
    backend.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in missing])
    return Adopted(Tokenizer(backend, template), known)


def fingerprint(folder: Path) -> str:
    """16 hexadecimal digits that name what `adopt` reads."""
    digest = hashlib.sha256()
    for path in (folder / name for name in FILES):
        content = path.read_bytes() if path.is_file() else b""
        digest.update(len(content).to_bytes(8, "little") + content)
    return digest.hexdigest()[:16]


def _check_round_trip(backend: Backend) -> None:
    """Text comes back as it was: byte-level BPE does that, SentencePiece puts a space before it."""
    for text in ROUND_TRIP:
        ids = backend.encode(text, add_special_tokens=False).ids
        if (found := backend.decode(ids, skip_special_tokens=False)) != text:
            raise CheckpointError(
                f"its tokenizer turns {text!r} into {found!r}; only byte-level ones can be used, as Llama 3's"
            )


def _check_template(backend: Backend, template: ChatTemplate) -> None:
    """Encoded around its control tokens, a dialogue has the ids that it has as one text."""
    pieces = template.write(PROBE, source="a question and its answer")
    whole = backend.encode("".join(pieces), add_special_tokens=False).ids
    parts = [backend.encode(piece, add_special_tokens=False).ids for piece in pieces]
    if whole != [id for ids in parts for id in ids]:
        raise CheckpointError("its control tokens change the text beside them, which cannot be done here")
