"""Rewards that need no reward model: what an answer earns by a rule, a pure function of question and answer."""

import importlib
import importlib.util
import math
import re
import traceback
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import NamedTuple, SupportsFloat, cast

import torch
from torch import Tensor

from trivium.errors import ConfigError
from trivium.evaluate.tasks import Reply, exact_match
from trivium.phases.align.opinion import Opinion
from trivium.phases.align.questions import Question
from trivium.show import shorten
from trivium.terms import read_term

Rule = Callable[[Question, Reply], float]
NUMBER = re.compile(
    r"(?:(?<![\w)\]])[-+])?"  # after a word or a bracket it is no sign: 5-3
    r"(?:(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?"  # a comma stands only between thousands
    r"|(?<![\w.])\.\d+)"
)


class Weighed(NamedTuple):
    weight: float
    rule: Rule


class Judge(NamedTuple):
    weight: float
    opinion: Opinion


class Rules(NamedTuple):
    """What answers earn beside, or instead of, what the reward model says."""

    model: float  # weight of the reward model; 0: none
    others: Sequence[Weighed]
    judges: Sequence[Judge] = ()  # language models

    def rewards(self, asked: Sequence[Question], replies: Sequence[Reply]) -> Tensor:
        """(A,) the sum of what the rules and the language models give."""
        pairs = zip(asked, replies, strict=True)
        earned = torch.tensor(
            [sum((each.weight * each.rule(q, r) for each in self.others), start=0.0) for q, r in pairs]
        )
        for judge in self.judges:
            earned = earned + judge.weight * torch.tensor(judge.opinion.marks(asked, replies))
        return earned

    def observed(self) -> dict[str, float]:
        """What became of the last answers that language models were asked about; nothing where none is asked."""
        if not self.judges:
            return {}
        last = [judge.opinion.last for judge in self.judges]
        return {
            "judge_mark": sum(each.mark for each in last) / len(last),
            "judge_unread": float(sum(each.unread for each in last)),
            "judge_retries": float(sum(each.retries for each in last)),
        }


MODEL_ALONE = Rules(1.0, ())


def read_rules(texts: Sequence[str], folder: Path) -> Rules:
    """The recipe's terms.

    folder  where a function's FILE.py is looked for
    raises  ConfigError when a function cannot be found
    """
    terms = [read_term(text) for text in texts]
    others = [Weighed(t.weight, rule_of(t.kind, t.argument, folder)) for t in terms if t.kind not in ("model", "judge")]
    judges = [Judge(term.weight, Opinion(*term.argument.split())) for term in terms if term.kind == "judge"]
    return Rules(sum(term.weight for term in terms if term.kind == "model"), others, judges)


def rule_of(kind: str, argument: str, folder: Path) -> Rule:
    rules: dict[str, Callable[[], Rule]] = {
        "exact": lambda: exact,
        "number": lambda: number,
        "ended": lambda: lambda _, reply: float(reply.ended),
        "pattern": lambda: partial(matches, re.compile(argument)),
        "length": lambda: partial(near_length, int(argument)),
        "function": lambda: partial(called, load_function(argument, folder), argument),
    }
    return rules[kind]()


def exact(question: Question, reply: Reply) -> float:
    """1 for an answer that is expected, but for case, spacing and a final full stop; 0 for another."""
    return float(reply.ended and exact_match(reply.text, question.expected))


def number(question: Question, reply: Reply) -> float:
    """1 when the answer ends and its last number is the last number of one that is expected; 0 otherwise."""
    said = last_number(reply.text)
    known = said is not None and said in [last_number(text) for text in question.expected]
    return float(reply.ended and known)


def last_number(text: str) -> float | None:
    """`so -1,250.5.` → -1250.5, `1,2,3` → 3; None where there is none."""
    found = NUMBER.findall(text.replace("\u2212", "-"))  # the minus sign of typography
    return float(found[-1].replace(",", "")) if found else None


def matches(pattern: re.Pattern[str], question: Question, reply: Reply) -> float:
    """1 when the pattern is found in the answer."""
    return float(pattern.search(reply.text) is not None)


def near_length(wanted: int, question: Question, reply: Reply) -> float:
    """1 at the wanted number of tokens, falling to 0 at none and at twice as many."""
    return max(0.0, 1 - abs(len(reply.tokens) - wanted) / wanted)


def called(function: Callable[[str, str], object], place: str, question: Question, reply: Reply) -> float:
    """What a function of the user's gives for the last turn of the prompt and the answer.

    raises  ConfigError when it raises anything, or gives no finite number
    """
    asked = question.prompt[-1].content if question.prompt else ""
    where = f'align.rewards: "function {place}", asked "{shorten(asked, 60)}",'
    try:
        found = function(asked, reply.text)
    except Exception as error:
        raise ConfigError(f"{where} raised {told(error)}; mend the function") from error
    number = finite(found)
    if number is None:
        raise ConfigError(f"{where} gave {shorten(repr(found), 60)}; let it return a finite number")
    return number


def finite(found: object) -> float | None:
    """A number of any kind, NumPy's and a tensor's of one element too; None for what is none, or is not finite."""
    try:
        number = float(found) if isinstance(found, SupportsFloat) else math.nan
    except (TypeError, ValueError, OverflowError, RuntimeError):  # several elements, or more than a float can hold
        return None
    return number if math.isfinite(number) else None


def told(error: Exception) -> str:
    """`ZeroDivisionError: division by zero (my_rules.py:3)`: the line of the function that was called."""
    lines = [f" ({Path(frame.filename).name}:{frame.lineno})" for frame in traceback.extract_tb(error.__traceback__)]
    return f"{type(error).__name__}: {shorten(str(error), 200)}{''.join(lines[1:2])}"  # the first line is our call


def load_function(place: str, folder: Path) -> Callable[[str, str], object]:
    """`my_rules.py:score` of a file, or `package.module:score` of what Python can import.

    raises  ConfigError when its module cannot be run, or has no function of that name
    """
    where, _, name = place.rpartition(":")
    try:
        function = getattr(load_module(where, folder), name)
    except Exception as error:  # a module may raise anything
        reason = f"{type(error).__name__}: {error}"
        raise ConfigError(
            f'align.rewards: "function {place}" cannot be loaded: {reason}; mend the name or the file'
        ) from error
    if not callable(function):
        kind = type(function).__name__
        raise ConfigError(f'align.rewards: "function {place}" is of type {kind}, and cannot be called; name a function')
    return cast(Callable[[str, str], object], function)


def load_module(where: str, folder: Path) -> ModuleType:
    if not where.endswith(".py"):
        return importlib.import_module(where)
    spec = importlib.util.spec_from_file_location(Path(where).stem, folder / where)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
