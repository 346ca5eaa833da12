"""Answers to instructions, and how many of them are right."""

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import NamedTuple

from trivium.generate.engine import Answer, Request, generate, last_of
from trivium.generate.sampling import Sampling
from trivium.model.transformer import Transformer
from trivium.records import Dialogue, Message
from trivium.text.dialogue import render_prompt
from trivium.text.tokenizer import Tokenizer

WORD = re.compile(r"\w+")
ROOM = 64  # tokens of an answer
GREEDY = Sampling(temperature=0, max_new_tokens=ROOM)


class Reply(NamedTuple):
    text: str
    ended: bool
    tokens: list[int]  # with the end token, if it ended: what the policy wrote
    logprobs: Sequence[float] = ()  # nats, of each of them, at the temperature: by what wrote them


def reply_to(
    model: Transformer,
    tokenizer: Tokenizer,
    prompts: Sequence[Sequence[Message]],
    sampling: Sampling = GREEDY,
    *,
    seeds: Sequence[int] | None = None,
) -> list[Reply]:
    """The model's answer to each prompt, in chat form.

    seeds  one per prompt: equal seeds draw equal random numbers
    """
    seeds = seeds if seeds is not None else [0] * len(prompts)
    rendered = prompt_ids(model, tokenizer, prompts)
    requests = [Request(prompt, seed) for prompt, seed in zip(rendered, seeds, strict=True)]
    answers = generate(model, requests, sampling, stop=[tokenizer.turn_end, tokenizer.end_of_text])
    return [as_reply(answer, tokenizer) for answer in answers]


def prompt_ids(model: Transformer, tokenizer: Tokenizer, prompts: Sequence[Sequence[Message]]) -> list[list[int]]:
    """What the model reads before it answers; of what does not fit, the end."""
    return [list(last_of(render_prompt(prompt, tokenizer).tolist(), model.config)) for prompt in prompts]


def as_reply(answer: Answer, tokenizer: Tokenizer) -> Reply:
    ending = [answer.stop] if answer.stop is not None else []
    return Reply(tokenizer.decode(answer.tokens).strip(), answer.ended, [*answer.tokens, *ending], answer.logprobs)


def exact_match(answer: str, accepted: Sequence[str]) -> bool:
    """Whether the answer is one of those accepted, but for case, spacing and a final full stop.

    In any language; TinyWorld's judge, who stands on a lower floor, has a rule of its own for its plain English.
    """
    return normalised(answer) in {normalised(text) for text in accepted}


def normalised(text: str) -> str:
    return " ".join(unicodedata.normalize("NFC", text).casefold().split()).rstrip(".").rstrip()


def word_overlap(answer: str, accepted: Sequence[str]) -> float:
    """F1 of the words that the answer shares with the accepted one nearest to it, 0 to 1; order does not count.

    Rajpurkar et al. 2016, arXiv:1606.05250; without their list of English articles
    """
    said = Counter(WORD.findall(normalised(answer)))
    return max(_f1(said, Counter(WORD.findall(normalised(text)))) for text in accepted)


def _f1(said: Counter[str], expected: Counter[str]) -> float:
    total = said.total() + expected.total()
    return 2 * (said & expected).total() / total if total else 1.0


def accepted_of(dialogue: Dialogue) -> tuple[str, ...]:
    return dialogue.accepted or (dialogue.answer,)


class Marks(NamedTuple):
    """How instructions were done, greedily; shares of 0 to 1. An answer that never ends is not right."""

    exact: float
    f1: float
    ended: float
    by_kind: dict[str, float]  # exact, by kind of instruction


def greedy_replies(model: Transformer, tokenizer: Tokenizer, dialogues: Sequence[Dialogue], room: int) -> list[Reply]:
    """An answer to each; those that need more room are written by themselves, as all have the room of the longest."""
    longest = [max(map(len, tokenizer.encode_many(accepted_of(each)))) for each in dialogues]
    found: dict[int, Reply] = {}
    for needs_more in (False, True):
        some = [i for i, needed in enumerate(longest) if (needed >= room) is needs_more]
        most = 1 + max((longest[i] for i in some), default=0) if needs_more else room
        prompts = [dialogues[i].prompt for i in some]
        found |= zip(some, reply_to(model, tokenizer, prompts, GREEDY._replace(max_new_tokens=most)), strict=True)
    return [found[i] for i in range(len(dialogues))]


def mark(model: Transformer, tokenizer: Tokenizer, dialogues: Sequence[Dialogue], *, room: int = ROOM) -> Marks:
    """Answers to the instructions beside those that are accepted: of a dialogue without a list, its own.

    room  tokens of an answer; more where one that is accepted is longer
    """
    replies = greedy_replies(model, tokenizer, dialogues, room)
    by_kind: dict[str, list[bool]] = defaultdict(list)
    overlap = 0.0
    for dialogue, reply in zip(dialogues, replies, strict=True):
        accepted = accepted_of(dialogue)
        by_kind[dialogue.kind or "answers"].append(reply.ended and exact_match(reply.text, accepted))
        overlap += word_overlap(reply.text, accepted)
    shares = {kind: sum(right) / len(right) for kind, right in sorted(by_kind.items())}
    count = len(dialogues)
    exact = sum(sum(right) for right in by_kind.values()) / count
    return Marks(exact, overlap / count, sum(reply.ended for reply in replies) / count, shares)
