"""Chat templates of others: messages as their own jinja2 template writes them. No ids, no masks.

A template is a program of somebody else's: it runs in jinja2's sandbox and is given nothing but the messages. The date
that some write at the top is left to their own default, so that the same messages are always the same text.
"""

import json
import re
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from typing import Any, NoReturn

from jinja2 import TemplateError, nodes
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from trivium.errors import CheckpointError, DataError
from trivium.records import Message

HIDDEN = "\ue000"  # stands for the first letter of a control token that is only spelled in a message
PROBE = (Message("user", "Quo vadis?"), Message("assistant", "Domum eo."))
PROBES = (  # where templates differ that look alike: a system prompt nobody wrote, thoughts taken out, white space
    PROBE,
    (
        Message("system", " Brevis esto.\n"),
        *PROBE,
        Message("user", " Cur?\n"),
        Message("assistant", "<think>x</think>\n Sic. "),
    ),
)


class ChatTemplate:
    """The template of a foreign folder."""

    def __init__(self, source: str, names: Mapping[str, str], control: Collection[str]) -> None:
        """source   jinja2
        names    what else a template may ask for: bos_token, eos_token
        control  the control tokens of the vocabulary
        raises   CheckpointError when it cannot be used, or ends answers with no control token
        """
        self.source, self.names = source, dict(names)
        longest_first = sorted(control, key=len, reverse=True)
        self._control = _any_of(longest_first)
        self._hidden = {HIDDEN + name[1:]: name for name in longest_first}
        self._spelled = _any_of(list(self._hidden))
        try:
            self._compiled = _environment().from_string(source)
            written = self.write(PROBE, source="a question and its answer")
        except (TemplateError, DataError) as reason:
            raise CheckpointError(f"its chat template cannot be used: {reason}; take it out, or mend it") from None
        after = "".join(written).rpartition(PROBE[-1].content)[2]
        found = self._control.search(after)
        if found is None:
            raise CheckpointError("its chat template ends answers with no control token; take it out, or mend it")
        self.turn_end: str = found.group()  # what the model says when it is done

    def write(self, messages: Sequence[Message], *, prompt: bool = False, source: str) -> list[str]:
        """The dialogue as text and control tokens in turn: the items at odd places are control tokens.

        prompt  whether the header of an answer follows
        raises  DataError when the template refuses the messages
        What a message says is never a control token, whatever it spells.
        """
        said = [{"role": m.role, "content": self._control.sub(_hide, m.content)} for m in messages]
        try:
            text = self._compiled.render(messages=said, add_generation_prompt=prompt, **self.names)
        except Exception as reason:  # a template can raise anything
            told = " ".join(str(reason).split()) or type(reason).__name__
            raise DataError(f"{source}: the model's chat template refuses it ({told}); leave it out") from None
        pieces = self._control.split(text)
        return [piece if i % 2 else self._spelled.sub(self._restore, piece) for i, piece in enumerate(pieces)]

    def _restore(self, match: re.Match[str]) -> str:
        return self._hidden[match.group()]


def writes_chatml(template: ChatTemplate) -> bool:
    """Whether it writes dialogues and prompts as we do, to the letter."""

    def plain(messages: Sequence[Message]) -> str:
        return "".join(f"<|im_start|>{m.role}\n{m.content}<|im_end|>\n" for m in messages)

    return all(
        "".join(template.write(messages[:count], prompt=prompt, source="a probe"))
        == plain(messages[:count]) + "<|im_start|>assistant\n" * prompt
        for messages in PROBES
        for count in range(1, len(messages) + 1)
        for prompt in (False, True)
        if messages[count - 1].role != "system"
    )


def _any_of(names: Sequence[str]) -> re.Pattern[str]:
    return re.compile(f"({'|'.join(map(re.escape, names)) or '(?!)'})")


def _hide(match: re.Match[str]) -> str:
    return HIDDEN + match.group()[1:]


class _Generation(Extension):
    """`{% generation %}`, with which templates mark what the assistant says: what stands in it is written."""

    tags = {"generation"}  # noqa: RUF012 (as jinja2 has it)

    def parse(self, parser: Parser) -> nodes.Node:
        at = next(parser.stream).lineno
        return nodes.Scope(parser.parse_statements(("name:endgeneration",), drop_needle=True), lineno=at)


def _environment() -> ImmutableSandboxedEnvironment:
    """What transformers gives to templates, but for the clock."""
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols", _Generation]
    )
    environment.filters["tojson"] = partial(json.dumps, ensure_ascii=False)
    environment.globals["raise_exception"] = _refuse
    return environment


def _refuse(reason: Any) -> NoReturn:
    raise TemplateError(str(reason))
