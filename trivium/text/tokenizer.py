"""Byte-level BPE: train, load, save. No dialogues, no tensors.

A tokenizer is one `tokenizer.json` that Hugging Face's `tokenizers` and `transformers` read with no code of ours; what
others call the end of a text, and how they write turns, stands in `tokenizer_config.json` beside it.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Self

import numpy as np
import tokenizers
from numpy.typing import NDArray
from tokenizers import AddedToken, Regex, decoders, models, pre_tokenizers, trainers

from trivium.errors import CheckpointError, ConfigError
from trivium.text.template import ChatTemplate, writes_chatml

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
ENDS_OF_TEXT = (END_OF_TEXT, "<|end_of_text|>")  # the first that a vocabulary has; the second is Llama 3's

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
ALONE = r"\n|<\|(?:endoftext|im_start|im_end|fim_prefix|fim_middle|fim_suffix|pad)\|>"
WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


class Tokenizer:
    """Text to ids and back. Text is never read as a control token, whatever it spells."""

    def __init__(self, backend: tokenizers.Tokenizer, template: ChatTemplate | None = None) -> None:
        """template  how turns are written, where it is not ChatML"""
        if missing := missing_names(backend, template):
            raise CheckpointError(
                f"tokenizer: has no token {', '.join(missing)}; use one that `trivium pretrain` has trained, "
                "or take its folder in with `trivium import`"
            )
        self.opening: tuple[int, ...] = opening_of(backend)  # what texts and dialogues begin with; ours with nothing
        backend.encode_special_tokens = True  # not saved in the file: set anew at every load
        self._backend, self.template = backend, template
        self.vocab_size: int = max(backend.get_vocab().values()) + 1
        self.end_of_text = self._id(end_of_text_of(backend))
        self.turn_end = self._id(template.turn_end if template else TURN_END)
        self.blank_prefix, self.blank_middle, self.blank_suffix = map(
            self._id, (BLANK_PREFIX, BLANK_MIDDLE, BLANK_SUFFIX)
        )
        self.pad = self._id(PAD)

    @property
    def turn_start(self) -> int:
        """Of ChatML; other templates have headers of their own."""
        return self._id(TURN_START)

    @property
    def special(self) -> list[int]:
        """The ids of the control tokens."""
        return [self._id(name) for name in control_names(self._backend)]

    @property
    def chat_template(self) -> str:
        """jinja2 that writes dialogues as `dialogue.render` does."""
        if self.template:
            return self.template.source
        names = "".join(self._backend.id_to_token(id) or "" for id in self.opening)
        return (f"{{{{ '{names}' }}}}" if names else "") + CHAT_TEMPLATE

    def _id(self, name: str) -> int:
        id: int | None = self._backend.token_to_id(name)
        assert id is not None
        return id

    def encode(self, text: str) -> list[int]:
        """Ids of the text, none of them special. A half surrogate pair, which no UTF-8 can hold, becomes U+FFFD."""
        ids: list[int] = self._backend.encode(well_formed(text), add_special_tokens=False).ids
        return ids

    def encode_pieces(self, pieces: Sequence[str]) -> list[int]:
        """Ids of texts and control tokens in turn: the items at odd places are names of control tokens."""
        ids = [(self._id(piece),) if i % 2 else _ids_of_piece(self, piece) for i, piece in enumerate(pieces)]
        return [id for part in ids for id in part]

    def encode_documents(self, texts: Sequence[str]) -> list[NDArray[np.int32]]:
        """Whole texts as a model learns them: the opening, what they say, and their end."""
        opening, end = (np.array(ids, dtype=np.int32) for ids in (self.opening, [self.end_of_text]))
        return [np.concatenate([opening, ids, end]) for ids in self.encode_many(texts)]

    def encode_many(self, texts: Sequence[str]) -> list[NDArray[np.int32]]:
        """The same for each text, on all cores."""
        encodings = self._backend.encode_batch_fast([well_formed(text) for text in texts], add_special_tokens=False)
        return [np.array(encoding.ids, dtype=np.int32) for encoding in encodings]

    def decode(self, ids: Iterable[int], *, keep_special: bool = False) -> str:
        """The text of the ids; bytes that are no UTF-8 become U+FFFD. `decode(encode(text)) == text`."""
        text: str = self._backend.decode([int(id) for id in ids], skip_special_tokens=not keep_special)
        return text

    def token_bytes(self, id: int) -> bytes:
        """The bytes that a token writes: any part of a character's UTF-8; none for a control token or a padded row."""
        return self._bytes[id] if id < len(self._bytes) else b""

    @cached_property
    def _bytes(self) -> list[bytes]:
        to_byte = _byte_of_character()
        added = self._backend.get_added_tokens_decoder()
        table = [b""] * self.vocab_size
        for token, id in self._backend.get_vocab(with_added_tokens=False).items():
            if id not in added:
                known = all(character in to_byte for character in token)
                table[id] = bytes(map(to_byte.__getitem__, token)) if known else token.encode()
        for id, extra in added.items():
            table[id] = b"" if extra.special else extra.content.encode()
        return table

    def description(self) -> dict[str, Any]:
        """All of tokenizer.json, for those that write it in another form."""
        described: dict[str, Any] = json.loads(self._backend.to_str())
        return described

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
            "add_bos_token": bool(self.opening),
            "add_eos_token": False,
            "clean_up_tokenization_spaces": False,
            "chat_template": self.chat_template,
        }
        if self.opening:
            config["bos_token"] = self._backend.id_to_token(self.opening[0])
        if self.template:
            config |= self.template.names
        if context_length is not None:
            config["model_max_length"] = context_length
        text = json.dumps(config, indent=2, ensure_ascii=False) + "\n"
        (folder / "tokenizer_config.json").write_text(text, encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote. Raises CheckpointError when the file is missing, damaged or lacks a special token."""
        backend = read_backend(folder)
        try:
            return cls(backend, read_template(folder, backend))
        except CheckpointError as error:
            raise CheckpointError(f"{folder / 'tokenizer.json'}: {error}") from None


@lru_cache(maxsize=1024)  # a dialogue is written once more for each of its answers
def _ids_of_piece(tokenizer: Tokenizer, text: str) -> tuple[int, ...]:
    return tuple(tokenizer.encode(text))


def read_backend(folder: Path) -> tokenizers.Tokenizer:
    """The tokenizer.json of a folder; raises CheckpointError when it is missing or damaged."""
    path = folder / "tokenizer.json"
    if not path.is_file():
        raise CheckpointError(f"{folder}: has no tokenizer.json; name a model folder, or train a tokenizer first")
    try:
        return tokenizers.Tokenizer.from_str(path.read_text(encoding="utf-8"))
    except Exception as error:  # tokenizers raises bare Exception
        raise CheckpointError(f"{path}: cannot be read ({error}); copy it again or train anew") from error


def read_template(folder: Path, backend: tokenizers.Tokenizer) -> ChatTemplate | None:
    """The chat template of a folder; None where there is none, or it writes ChatML, as we do.

    raises  CheckpointError when it cannot be used
    """
    path = folder / "tokenizer_config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        beside = folder / "chat_template.jinja"
        source = beside.read_text(encoding="utf-8") if beside.is_file() else config.get("chat_template")
        if isinstance(source, list):  # several, by name
            source = {each["name"]: each["template"] for each in source}.get("default")
        told = {key: config.get(key) for key in ("bos_token", "eos_token")}
        names = {key: name["content"] if isinstance(name, dict) else name for key, name in told.items() if name}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{path}: cannot be read ({error!r}); copy it again") from error
    if not isinstance(source, str) or source.endswith(CHAT_TEMPLATE):
        return None
    template = ChatTemplate(source, names, control_names(backend))
    return None if writes_chatml(template) else template


def control_names(backend: tokenizers.Tokenizer) -> list[str]:
    """The control tokens of a vocabulary, by id."""
    return [token.content for _, token in sorted(backend.get_added_tokens_decoder().items()) if token.special]


def end_of_text_of(backend: tokenizers.Tokenizer) -> str:
    """What the vocabulary calls the end of a text; our name where it has none."""
    return next((name for name in ENDS_OF_TEXT if backend.token_to_id(name) is not None), END_OF_TEXT)


def missing_names(backend: tokenizers.Tokenizer, template: ChatTemplate | None) -> list[str]:
    """The control tokens that we need and the vocabulary does not have, or has as plain words."""
    control = set(control_names(backend))
    turns = [] if template else [TURN_START, TURN_END]
    needed = [end_of_text_of(backend), *turns, BLANK_PREFIX, BLANK_MIDDLE, BLANK_SUFFIX, PAD]
    return [name for name in needed if name not in control]


def opening_of(backend: tokenizers.Tokenizer) -> tuple[int, ...]:
    """The control tokens that the vocabulary's own rule puts before a text, such as Llama's begin of text."""
    bare, whole = (backend.encode("a", add_special_tokens=wanted).ids for wanted in (False, True))
    return tuple(whole[: whole.index(bare[0])]) if bare else ()


def train(texts: Iterable[str], *, vocab_size: int) -> Tokenizer:
    """Learn a vocabulary from the texts: special tokens, the 256 bytes, then merges by frequency. Deterministic.

    vocab_size  the most tokens there may be; a text too small to fill it gives fewer, in sixteens if it can: products
                with a matrix of another size are slower
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
            pre_tokenizers.Split(Regex(ALONE), "isolated"),
            pre_tokenizers.Split(Regex(WORDS), "isolated"),
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
    found = backend.get_vocab_size()
    rounded = found // 16 * 16
    return Tokenizer(_first_tokens(backend, rounded) if found < vocab_size and rounded >= smallest else backend)


def _first_tokens(backend: tokenizers.Tokenizer, count: int) -> tokenizers.Tokenizer:
    """The vocabulary without the tokens that were learned last, and without their merges."""
    whole = json.loads(backend.to_str())
    model = whole["model"]
    model["vocab"] = {token: number for token, number in model["vocab"].items() if number < count}
    model["merges"] = [pair for pair in model["merges"] if model["vocab"].keys() >= {*pair, "".join(pair)}]
    return tokenizers.Tokenizer.from_str(json.dumps(whole))


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
