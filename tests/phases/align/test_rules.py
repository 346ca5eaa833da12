"""What an answer earns by a rule, worked by hand, and what a recipe may say of it."""

from pathlib import Path

import pytest

from trivium.config import resolve
from trivium.errors import ConfigError
from trivium.evaluate.tasks import Reply
from trivium.phases.align.questions import Question
from trivium.phases.align.rules import last_number, read_rules
from trivium.records import Message
from trivium.terms import read_term

ASKED = Question((Message("user", "What is 20 and 22?"),), None, ("It is 42.", "42"))


def earned(text: str, *terms: str, folder: Path = Path(), ended: bool = True, tokens: int = 8) -> float:
    rules = read_rules(terms, folder)
    return rules.rewards([ASKED], [Reply(text, ended, [0] * tokens)]).item()


@pytest.mark.parametrize(
    ("term", "right", "wrong"),
    [
        ("exact", "it is  42", "It is 42, I think."),
        ("number", "20 and 22 make 42.0!", "42 is not 43"),
        ("pattern ^It", "It was so.", "So It was."),
    ],
)
def test_a_rule_knows_right_from_wrong(term: str, right: str, wrong: str) -> None:
    assert (earned(right, term), earned(wrong, term)) == (1, 0)


def test_an_answer_is_right_only_when_it_ends() -> None:
    assert [earned("42", rule, ended=False) for rule in ("exact", "number")] == [0, 0]
    assert (earned("42", "ended", ended=False), earned("", "ended")) == (0, 1)


def test_a_number_with_thousands_and_a_sign() -> None:
    rules = read_rules(["number"], Path())
    asked = [Question((), None, ("-1,250.5",))] * 2
    said = [Reply("so -1250.5", True, []), Reply("1250.5", True, [])]
    assert rules.rewards(asked, said).tolist() == [1, 0]


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("5-3", 3), ("5 - 3 = 2", 2), ("is -3", -3), ("(-3)", -3), ("f(x)-3", 3), ("\u22122", -2), ("5\u22122", 2),
        ("1,2,3", 3), ("1,234", 1234), ("so 12,345,678.25!", 12345678.25), ("1,2345", 2345), ("1234,567", 567),
        (".5", 0.5), ("-.5", -0.5), ("0.5", 0.5), ("so...5.", 5), ("It is 5.", 5), ("1.2.3", 3), ("none", None),
        ("it3", 3), ("+7", 7),
    ],
)  # fmt: skip
def test_the_last_number_of_a_text(text: str, number: float | None) -> None:
    assert last_number(text) == number


def test_a_length_is_best_where_it_is_wanted() -> None:
    assert [earned("", "length 8", tokens=n) for n in (0, 4, 8, 12, 16, 90)] == [0, 0.5, 1, 0.5, 0, 0]


def test_a_weighted_sum_by_hand_and_the_reward_models_own_weight() -> None:
    assert earned("It is 42.", "0.5 * exact", "-2 * pattern 4", "0.25 * length 4") == pytest.approx(-1.5)
    assert read_rules(["2 * model", "exact"], Path()).model == 2
    assert read_rules(["exact"], Path()).model == 0


def write_rules(folder: Path, body: str, *, before: str = "") -> str:
    """A file with a function of the user's; the recipe's term for it."""
    (folder / "my_rules.py").write_text(f"{before}\ndef score(asked, said):\n    {body}\n")
    return "function my_rules.py:score"


def test_a_function_of_the_users(tmp_path: Path) -> None:
    term = write_rules(tmp_path, "return len(asked) / 100 if '42' in said else 0")
    assert earned("42", f"2 * {term}", folder=tmp_path) == pytest.approx(0.36)
    for place in ("my_rules.py:other", "none.py:score", "no_such_module:score"):
        with pytest.raises(ConfigError, match=f'align.rewards: "function {place}" cannot be loaded: .*; mend the name'):
            earned("", f"function {place}", folder=tmp_path)


@pytest.mark.parametrize(
    ("number", "reward"),
    [
        ("2", 2), ("True", 1), ("1.5", 1.5), ("np.float32(.5)", 0.5), ("np.int64(3)", 3), ("np.bool_(True)", 1),
        ("np.array(.25)", 0.25), ("torch.tensor(.5)", 0.5), ("torch.tensor([2])", 2), ("Fraction(1, 4)", 0.25),
    ],
)  # fmt: skip
def test_a_function_may_give_a_number_of_any_kind(tmp_path: Path, number: str, reward: float) -> None:
    known = "import numpy as np, torch\nfrom fractions import Fraction"
    assert earned("", write_rules(tmp_path, f"return {number}", before=known), folder=tmp_path) == reward


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        ("return None", "gave None; let it return a finite number"),
        ("return '0.5'", "gave '0.5'; let"),
        ("return float('nan')", "gave nan; let"),
        ("return 10**400", "gave 1000"),
        ("import torch; return torch.ones(2)", r"gave tensor([1., 1.]); let"),
        ("return [0.5]", "gave [0.5]; let"),
        ("return 1 / 0", "raised ZeroDivisionError: division by zero (my_rules.py:3); mend the function"),
        ("return int('x' * 900)", "raised ValueError: invalid literal"),
    ],
)
def test_a_function_that_fails_or_gives_no_number_is_named_with_its_prompt(
    tmp_path: Path, body: str, complaint: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        earned("41", write_rules(tmp_path, body), folder=tmp_path)
    told = str(caught.value)
    assert told.startswith(f'align.rewards: "function my_rules.py:score", asked "What is 20 and 22?", {complaint}')
    assert len(told) < 400


@pytest.mark.parametrize(
    ("before", "complaint"),
    [
        ("score = 3", "is of type int, and cannot be called"),
        ("1 / 0", "cannot be loaded: ZeroDivisionError"),
        ("(", "Syntax"),
    ],
)
def test_what_is_no_function_is_said(tmp_path: Path, before: str, complaint: str) -> None:
    (tmp_path / "my_rules.py").write_text(before)
    with pytest.raises(ConfigError, match=f'align.rewards: "function my_rules.py:score" .*{complaint}'):
        read_rules(["function my_rules.py:score"], tmp_path)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("modle", '"modle" is no reward; did you mean model?'),
        ("beauty", '"beauty" is no reward; known are model, exact'),
        ("length", '"length": length takes a number of tokens above 0'),
        ("length 0", '"length 0": length takes a number of tokens above 0'),
        ("pattern (", '"pattern (": pattern takes a regular expression'),
        ("function score", '"function score": function takes FILE.py:NAME or MODULE:NAME'),
        ("0.5 * exact yes", '"0.5 * exact yes": exact takes nothing after it'),
    ],
)
def test_what_is_no_reward_is_said(text: str, complaint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        resolve({"align": {"rewards": [text]}})
    assert str(caught.value).startswith(f"align.rewards: {complaint}")


def test_a_pattern_may_hold_a_star() -> None:
    assert read_term("pattern a*b") == (1.0, "pattern", "a*b")
    assert read_term("2 * pattern a*b") == (2.0, "pattern", "a*b")
