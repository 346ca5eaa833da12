"""Where long texts are cut."""

import random

from trivium.text.sections import sections
from trivium.text.sources import SECTION


def test_two_copies_of_a_book_fall_into_step_though_one_has_a_preface() -> None:
    draw = random.Random(3)
    words = [f"{draw.choice('bdfgklmnprst')}{draw.choice('aeiou')}{draw.choice('nrst')}{i}" for i in range(400)]
    paragraphs = [" ".join(draw.choices(words, k=draw.randint(20, 120))) for _ in range(900)]
    book = "\n\n".join(paragraphs)
    mine = list(sections([book], size=SECTION))
    for preface in (1_000, 7_000, 10_000, 15_000):
        other = set(sections(["A word before. " * (preface // 15) + "\n\n" + book], size=SECTION))
        shared = [place for place, text in enumerate(mine) if text in other]
        assert len(shared) > len(mine) // 2, preface
        assert shared == list(range(shared[0], len(mine))), "once in step they stay in step"
