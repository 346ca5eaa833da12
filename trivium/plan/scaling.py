"""How bits per byte fall with parameters and with text, and what follows for both. Arithmetic only.

The law is that of Hoffmann et al. 2022, arXiv:2203.15556, eq. 2, with text counted in bytes; for text that is read over
and over that of Muennighoff et al. 2023, arXiv:2305.16264, eq. 5 and 6. Size and text have one power in common: then
text is as a constant times size, as in Hoffmann et al.'s table 2, and small sweeps can be trusted farther.
"""

from math import exp, inf, log2
from typing import NamedTuple


class Leap(NamedTuple):
    """Bits that are gained all at once, by a model that comes to look things up in its context.

    Half of them are there where D = text N^-power: the more parameters the sooner, unless the power is 0.
    """

    bits: float
    text: float
    power: float
    sharpness: float

    def gained(self, parameters: float, read: float) -> float:
        share = read * parameters**self.power / self.text
        found: float = self.bits / (1 + share**-self.sharpness)
        return found


class Law(NamedTuple):
    """Bits per held-out byte of N parameters that have read D bytes: floor + size N^-power + text D^-power - leap."""

    floor: float
    size: float
    text: float
    power: float
    bytes_per_token: float  # of its text, in a vocabulary of 2048
    leap: Leap | None = None

    def bytes_in(self, tokens: float, vocab_size: int) -> float:
        """Bytes of so many tokens, roughly."""
        return tokens * (self.bytes_per_token + more_bytes_in(vocab_size))

    @property
    def bytes_per_parameter(self) -> float:
        """Of fresh text, where one more operation is worth the same in either."""
        ratio: float = (self.text / self.size) ** (1 / self.power)
        return ratio

    def bits(self, parameters: float, read: float, unique: float = inf, lifetime: float = 1.0) -> float:
        """
        parameters  that are multiplied with every token
        read        bytes, repeated ones counted again
        unique      bytes there are
        lifetime    times as much teaches in all, phase II included; the leap is phase I's alone
        """
        size = worth(parameters, lifetime * unique / self.bytes_per_parameter, REPEATED_PARAMETERS)
        text = lifetime * worth(read, unique, REPEATED_TEXT)
        found: float = self.floor + self.size * size**-self.power + self.text * text**-self.power
        return found - (self.leap.gained(size, text / lifetime) if self.leap else 0.0)


def more_bytes_in(vocab_size: int) -> float:
    """In a token, than in one of a vocabulary of 2048: each doubling adds a third of a byte, roughly."""
    return 0.35 * log2(vocab_size / 2048)


# How soon more of either is worth nothing, in times what is fresh: Muennighoff et al., section 4
REPEATED_TEXT, REPEATED_PARAMETERS = 15.4, 5.3


def worth(count: float, fresh: float, patience: float) -> float:
    """What so much is worth in what would be fresh: the first repeats nearly as much, the later ones nothing."""
    again = count / fresh - 1
    return count if again <= 0 else fresh * (1 + patience * (1 - exp(-again / patience)))


# Fitted by `benchmarks/scaling.py --fit` to lessons given here (docs/results.md): TinyWorld, and children's books
LAWS = {
    "tinyworld": Law(
        floor=0.090, size=6.52, text=37.8, power=0.4, bytes_per_token=4.0, leap=Leap(0.047, 1.04e8, 0.2, 16.0)
    ),
    "text": Law(floor=1.218, size=32.4, text=151.0, power=0.4, bytes_per_token=3.3),
}
