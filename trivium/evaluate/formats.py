"""Instructions whose keeping a program can see: one sentence, a list of three, lower case. No data, no judge.

After Zhou et al. 2023, "Instruction-following evaluation for large language models", arXiv:2311.07911, in small words.
"""

import re
from collections import defaultdict
from collections.abc import Callable
from typing import NamedTuple

from trivium.evaluate.tasks import GREEDY, ROOM, reply_to
from trivium.model.transformer import Transformer
from trivium.records import Message
from trivium.text.tokenizer import Tokenizer

SENTENCE_END = re.compile(r"[.!?。！？]+[\"')\]]*(?=\s|$)")  # noqa: RUF001 - other scripts' full stops
BULLET = re.compile(r"^\s*(?:[-*•]|\d+[.)])\s+")
TOPICS = ("the sea", "bread", "a friend", "winter")


class Check(NamedTuple):
    name: str
    asks: str  # with {} for a topic
    is_kept: Callable[[str], bool]


class Kept(NamedTuple):
    """How well formats are kept."""

    share: float  # of all prompts: kept, and the answer ended
    ended: float  # share of the answers that ended by themselves
    by_check: dict[str, float]


def sentences(text: str) -> int:
    """How many sentences; what has no end counts as one more."""
    ends = [match.end() for match in SENTENCE_END.finditer(text)]
    return len(ends) + bool(text[ends[-1] if ends else 0 :].strip())


def items(text: str) -> int:
    """How many things are listed: by lines or bullets, else by commas and "and"."""
    lines = [line for line in text.strip().splitlines() if line.strip()]
    if len(lines) > 1:
        bullets = [line for line in lines if BULLET.match(line)]
        return len(bullets or lines)
    listed = text.rpartition(":")[2].strip().rstrip(".")
    return len([part for part in re.split(r",\s*(?:and\s+)?|\s+and\s+", listed) if part.strip()])


def words(text: str) -> list[str]:
    return re.findall(r"\w+(?:['’]\w+)?", text)


CHECKS = (
    Check("one sentence", "In one sentence: what is {}?", lambda text: sentences(text) == 1),
    Check("two sentences", "Say two sentences about {}.", lambda text: sentences(text) == 2),
    Check("list of three", "List three things that go with {}.", lambda text: items(text) == 3),
    Check("one word", "Describe {} with one word.", lambda text: len(words(text)) == 1),
    Check("at most ten words", "Describe {} in at most ten words.", lambda text: 1 <= len(words(text)) <= 10),
    Check("lower case", "Say something about {}, all in lower case.", lambda text: bool(text) and text == text.lower()),
    Check("upper case", "Say something about {}, all in CAPITALS.", lambda text: bool(text) and text == text.upper()),
    Check("no comma", "Say something about {} without any comma.", lambda text: bool(text) and "," not in text),
    Check("a question", "Ask me a question about {}.", lambda text: text.endswith("?")),
    Check("begins with Well", 'Say something about {}. Begin with the word "Well".', lambda t: t.startswith("Well")),
)


def keeps_formats(model: Transformer, tokenizer: Tokenizer, *, room: int = ROOM) -> Kept:
    """Ask each check about each topic, greedily.

    room  tokens of an answer
    """
    asked = [(check, topic) for check in CHECKS for topic in TOPICS]
    prompts = [[Message("user", check.asks.format(topic))] for check, topic in asked]
    replies = reply_to(model, tokenizer, prompts, GREEDY._replace(max_new_tokens=room))
    by_check: dict[str, list[bool]] = defaultdict(list)
    for (check, _), reply in zip(asked, replies, strict=True):
        by_check[check.name].append(reply.ended and bool(reply.text) and check.is_kept(reply.text))
    shares = {name: sum(kept) / len(kept) for name, kept in by_check.items()}
    ended = sum(reply.ended for reply in replies) / len(replies)
    return Kept(sum(shares.values()) / len(shares), ended, shares)
