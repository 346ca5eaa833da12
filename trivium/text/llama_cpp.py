"""A vocabulary as llama.cpp reads it, and the same texts cut as llama.cpp will cut them. No tensors.

llama.cpp knows ways to cut a text into words by name only: a tokenizer that cuts otherwise cannot be exported.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import tokenizers
from tokenizers import AddedToken, Regex, models, pre_tokenizers

from trivium.errors import CheckpointError
from trivium.model.gguf import CONTROL, USER_DEFINED, WORD, Vocabulary
from trivium.text.tokenizer import ALONE, WORDS, Tokenizer

_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_LLAMA3 = WORDS.replace(r"|\p{N}|", r"|\p{N}{1,3}|")
CUTS: dict[str, tuple[str, ...]] = {  # llama.cpp's name → what it cuts by, one expression after the other
    "qwen2": (WORDS,),
    "llama-bpe": (_LLAMA3,),
    "gpt-2": (_GPT2,),
    "smollm": (r"\p{N}", _GPT2),
}
WHOLE_WORDS = ("llama-bpe",)  # where a word that is a token is taken as it is, without merging

PROBES = (  # what the two must agree on
    "The cat sat on the mat. It's 1984, isn't it?\n\nYES, they'LL say: \"No!\"",
    "  two  spaces, \ta tab\t\t, a line's end \nand  \n\n three \r\n more\n   indented\n",
    "naïve café, Ünïcödé; 東京は晴れ。 Привет, мир! שלום 🙂👩\u200d🚀 x² ½ ١٢٣",
    "def f(x):\n    return x**2 + 3.14159  # 42\n\n\n{'a': [1, 2], \"b\": None}",
    "<b>bold</b> a|b||c <|x|> --- ... !!! a_b-c/d\\e @home #1 $9.99 100%",
    " ",
    "\n",
    "...\n\n\n!?\n.\n",
)


def vocabulary(tokenizer: Tokenizer) -> Vocabulary:
    """What a GGUF file has to say of it.

    raises  CheckpointError when llama.cpp has no name for how it cuts texts, or would not do what it does
    """
    described = tokenizer.description()
    model, added = described["model"], {each["id"]: each for each in described["added_tokens"]}
    if model["type"] != "BPE" or len(tokenizer.opening) > 1:
        raise CheckpointError("its tokenizer is none that GGUF files can hold; export --to hf")
    tokens = {id: token for token, id in model["vocab"].items()}
    tokens |= {id: each["content"] for id, each in added.items()}
    if sorted(tokens) != list(range(len(tokens))):
        raise CheckpointError("its tokenizer leaves numbers out, GGUF files cannot; export --to hf")
    kinds = {id: CONTROL if each["special"] else USER_DEFINED for id, each in added.items()}
    made = Vocabulary(
        tokens=[tokens[id] for id in range(len(tokens))],
        kinds=[kinds.get(id, WORD) for id in range(len(tokens))],
        merges=[merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]],
        words=_name(described),
        begin=tokenizer.opening[0] if tokenizer.opening else tokenizer.end_of_text,
        begins=bool(tokenizer.opening),
        turn_end=tokenizer.turn_end,
        pad=tokenizer.pad,
        blanks=(tokenizer.blank_prefix, tokenizer.blank_suffix, tokenizer.blank_middle),
        template=tokenizer.chat_template,
    )
    check_same_ids(tokenizer, made)
    return made


def check_same_ids(tokenizer: Tokenizer, carried: Vocabulary) -> None:
    """raises  CheckpointError naming the first text that llama.cpp would cut otherwise"""
    backend = as_llama_cpp(carried)
    names = [token for token, kind in zip(carried.tokens, carried.kinds, strict=True) if kind == USER_DEFINED]
    for text in (*PROBES, *(f"a {name}b" for name in names)):
        if backend.encode(text, add_special_tokens=False).ids != tokenizer.encode(text):
            raise CheckpointError(f"llama.cpp would cut {text!r} into other tokens; export --to hf")


def as_llama_cpp(carried: Vocabulary) -> tokenizers.Tokenizer:
    """A tokenizer that cuts and merges as llama.cpp does, made from the vocabulary alone."""
    vocab = {token: id for id, token in enumerate(carried.tokens)}
    merges = [(left, right) for left, _, right in (merge.partition(" ") for merge in carried.merges)]
    whole = carried.words in WHOLE_WORDS
    backend = tokenizers.Tokenizer(models.BPE(vocab=vocab, merges=merges, ignore_merges=whole))
    backend.pre_tokenizer = pre_tokenizers.Sequence(  # type: ignore[assignment, unused-ignore]
        [
            *(pre_tokenizers.Split(Regex(cut), "isolated") for cut in CUTS[carried.words]),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    named = zip(carried.tokens, carried.kinds, strict=True)
    backend.add_tokens([AddedToken(token, normalized=False) for token, kind in named if kind == USER_DEFINED])
    return backend


def _name(described: dict[str, Any]) -> str:
    cuts = tuple(_cuts(described["pre_tokenizer"]))
    if cuts[:1] == (ALONE,):  # no merge reaches over what stands alone, so that it need not be cut off
        cuts = cuts[1:]
    normaliser = described["normalizer"]
    whole = bool(described["model"].get("ignore_merges"))
    for name, theirs in CUTS.items():
        if cuts == theirs and normaliser in (None, {"type": "NFC"}) and whole == (name in WHOLE_WORDS):
            return name
    raise CheckpointError("its tokenizer cuts texts in a way that llama.cpp has no name for; export --to hf")


def _cuts(described: dict[str, Any] | None) -> Iterator[str]:
    """The expressions that a pre-tokenizer cuts by, one after the other; "?" for what is none."""
    match described:
        case {"type": "Sequence", "pretokenizers": parts}:
            for part in _as_list(parts):
                yield from _cuts(part)
        case {"type": "Split", "pattern": {"Regex": str(cut)}, "behavior": "Isolated", "invert": False}:
            yield cut
        case {"type": "ByteLevel", "add_prefix_space": False, "use_regex": bool(by_words)}:
            yield from [_GPT2] if by_words else []
        case {"type": "Digits", "individual_digits": True}:
            yield r"\p{N}"
        case _:
            yield "?"


def _as_list(parts: Any) -> Sequence[dict[str, Any]]:
    assert isinstance(parts, list)
    return parts
