"""Byte-level BPE: train, load, save. No dialogues, no tensors.

A tokenizer is one `tokenizer.json` that Hugging Face's `tokenizers` and `transformers` read with no code of ours.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
import tokenizers
from numpy.typing import NDArray
from tokenizers import AddedToken, Regex, decoders, models, pre_tokenizers, trainers

from trivium.errors import CheckpointError, ConfigError

END_OF_TEXT, TURN_START, TURN_END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
BLANK_PREFIX, BLANK_MIDDLE, BLANK_SUFFIX = "<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>"
PAD = "<|pad|>"  # never the end token: a model that gets no loss on its end never learns to stop
SPECIAL = (
    END_OF_TEXT,
    TURN_START,
    TURN_END,
    BLANK_PREFIX,
    BLANK_MIDDLE,
    BLANK_SUFFIX,
    PAD,
)  # ids from 0, in this order

# ChatML. Only string expressions: the same in jinja2 and in the smaller engines of llama.cpp and others.
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant' + '\\n' }}{% endif %}"
)

# What the words are cut by. First every newline and every typed special token stands alone: then no token reaches over
# the newline between a turn's header and its content, so a turn encoded in parts and a whole rendered dialogue have the
# same ids. In between, the expression of Qwen2 and Qwen3 as it is (one digit a token).
_ALONE = r"\n|<\|(?:endoftext|im_start|im_end|fim_prefix|fim_middle|fim_suffix|pad)\|>"
_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


class Tokenizer:
    """Text to ids and back. Text is never read as a control token, whatever it spells."""

    def __init__(self, backend: tokenizers.Tokenizer) -> None:
        missing = [name for name in SPECIAL if backend.token_to_id(name) is None]
        if missing:
            raise CheckpointError(
                f"tokenizer: has no token {', '.join(missing)}; use one that `trivium pretrain` has trained"
            )
        backend.encode_special_tokens = True  # not saved in the file: set anew at every load
        self._backend = backend
        self.vocab_size: int = backend.get_vocab_size()
        self.end_of_text, self.turn_start, self.turn_end = map(self._id, (END_OF_TEXT, TURN_START, TURN_END))
        self.blank_prefix, self.blank_middle, self.blank_suffix = map(
            self._id, (BLANK_PREFIX, BLANK_MIDDLE, BLANK_SUFFIX)
        )
        self.pad = self._id(PAD)

    @property
    def special(self) -> list[int]:
        """The ids of the control tokens."""
        return [self._id(name) for name in SPECIAL]

    def _id(self, name: str) -> int:
        id: int | None = self._backend.token_to_id(name)
        assert id is not None
        return id

    def encode(self, text: str) -> list[int]:
        """Ids of the text, none of them special. A half surrogate pair, which no UTF-8 can hold, becomes U+FFFD."""
        ids: list[int] = self._backend.encode(well_formed(text), add_special_tokens=False).ids
        return ids

    def encode_many(self, texts: Sequence[str]) -> list[NDArray[np.int32]]:
        """The same for each text, on all cores."""
        encodings = self._backend.encode_batch_fast([well_formed(text) for text in texts], add_special_tokens=False)
        return [np.array(encoding.ids, dtype=np.int32) for encoding in encodings]

    def decode(self, ids: Iterable[int], *, keep_special: bool = False) -> str:
        """The text of the ids; bytes that are no UTF-8 become U+FFFD. `decode(encode(text)) == text`."""
        text: str = self._backend.decode([int(id) for id in ids], skip_special_tokens=not keep_special)
        return text

    def token_bytes(self, id: int) -> bytes:
        """The bytes that a token writes: any part of a character's UTF-8; none for a control token."""
        return self._bytes[id]

    @cached_property
    def _bytes(self) -> list[bytes]:
        to_byte = _byte_of_character()
        added = self._backend.get_added_tokens_decoder()
        table = [b""] * self.vocab_size
        for token, id in self._backend.get_vocab(with_added_tokens=False).items():
            table[id] = bytes(to_byte[character] for character in token) if id not in added else b""
        for id, extra in added.items():
            table[id] = b"" if extra.special else extra.content.encode()
        return table

    def fingerprint(self) -> str:
        """16 hexadecimal digits: SHA-256 of the tokenizer.json that `save` writes."""
        return hashlib.sha256(self._backend.to_str(pretty=True).encode()).hexdigest()[:16]

    def save(self, folder: Path, *, context_length: int | None = None) -> None:
        """Write tokenizer.json and tokenizer_config.json, with the chat template inside.

        context_length  tokens; told to other programs as the longest text to pass, when given
        """
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "tokenizer.json").write_text(self._backend.to_str(pretty=True), encoding="utf-8")
        config: dict[str, Any] = {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": None,
            "eos_token": TURN_END,
            "pad_token": PAD,
            "unk_token": None,
            "add_bos_token": False,
            "add_eos_token": False,
            "clean_up_tokenization_spaces": False,
            "chat_template": CHAT_TEMPLATE,
        }
        if context_length is not None:
            config["model_max_length"] = context_length
        text = json.dumps(config, indent=2, ensure_ascii=False) + "\n"
        (folder / "tokenizer_config.json").write_text(text, encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote. Raises CheckpointError when the file is missing, damaged or lacks a special token."""
        path = folder / "tokenizer.json"
        if not path.is_file():
            raise CheckpointError(f"{folder}: has no tokenizer.json; name a model folder, or train a tokenizer first")
        try:
            backend = tokenizers.Tokenizer.from_str(path.read_text(encoding="utf-8"))
        except Exception as error:  # tokenizers raises bare Exception
            raise CheckpointError(f"{path}: cannot be read ({error}); copy it again or train anew") from error
        try:
            return cls(backend)
        except CheckpointError as error:
            raise CheckpointError(f"{path}: {error}") from None


def train(texts: Iterable[str], *, vocab_size: int) -> Tokenizer:
    """Learn a vocabulary from the texts: special tokens, the 256 bytes, then merges by frequency. Deterministic.

    vocab_size  the most tokens there may be; a text too small to fill it gives fewer
    raises      ConfigError when the bytes and the special tokens alone do not fit
    """
    smallest = 256 + len(SPECIAL)
    if vocab_size < smallest:
        raise ConfigError(
            f"vocab_size = {vocab_size}: must hold 256 bytes and {len(SPECIAL)} special tokens; "
            f"give {smallest} or more (4096 suits a small text)"
        )
    backend = tokenizers.Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.Sequence(  # type: ignore[assignment, unused-ignore]
        [
            pre_tokenizers.Split(Regex(_ALONE), "isolated"),
            pre_tokenizers.Split(Regex(_WORDS), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    backend.decoder = decoders.ByteLevel()  # type: ignore[assignment, unused-ignore]
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[AddedToken(name, special=True, normalized=False) for name in SPECIAL],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator((well_formed(text) for text in texts), trainer)
    return Tokenizer(backend)


def well_formed(text: str) -> str:
    """The text that UTF-8 can hold: surrogate halves that belong together are joined, others become U+FFFD."""
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def _byte_of_character() -> dict[str, int]:
    """GPT-2's visible stand-ins for the 256 bytes: printable ones stand for themselves, the rest follow from U+0100."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    hidden = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + i): byte for i, byte in enumerate(hidden)}
