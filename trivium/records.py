"""What the three phases are taught from: documents, dialogues, pairs. No files, no tokens."""

from typing import Literal, NamedTuple

Role = Literal["system", "user", "assistant"]


class Document(NamedTuple):
    """A text to learn language from."""

    text: str
    source: str  # where it came from, for messages: "file:line" or "tinyworld:17"
    weight: float = 1.0  # how often it is seen in an epoch


class Message(NamedTuple):
    role: Role
    content: str


class Dialogue(NamedTuple):
    """Messages that end with the assistant's answer."""

    messages: tuple[Message, ...]
    source: str
    accepted: tuple[str, ...] = ()  # the answers that count as right; empty when the answer is open-ended
    kind: str = ""  # what sort of instruction it is, for tables
    weight: float = 1.0  # how often it is seen in an epoch
    only_read: tuple[int, ...] = ()  # places of assistant's turns without loss: those of weight 0

    @property
    def prompt(self) -> tuple[Message, ...]:
        return self.messages[:-1]

    @property
    def answer(self) -> str:
        return self.messages[-1].content


class Pair(NamedTuple):
    """Two answers to one prompt, and which of them was preferred."""

    prompt: tuple[Message, ...]  # empty where two texts were compared by themselves
    chosen: str
    rejected: str
    source: str
    tie: bool = False  # neither was preferred: chosen and rejected count half each


class Label(NamedTuple):
    """One answer to a prompt, and whether somebody called it good."""

    prompt: tuple[Message, ...]
    answer: str
    good: bool
    source: str
