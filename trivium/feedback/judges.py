"""Simulated raters, called simulated everywhere: a gold score, blurred by the asked share of noise.

It knows no world and no store: scores come in as numbers, choices go out as words.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from math import isfinite
from typing import Generic, Literal, TypeVar

from trivium.errors import ConfigError, DataError

SimulatedChoice = Literal["first", "second", "tie"]
_OPPOSITE: dict[SimulatedChoice, SimulatedChoice] = {"first": "second", "second": "first", "tie": "tie"}
_PREFIX = "simulated"
Item = TypeVar("Item")


@dataclass(frozen=True, kw_only=True)
class SimulatedJudge(Generic[Item]):
    """A rater who prefers the answer with the higher gold score and, at random, says the opposite.

    Two such raters with different seeds agree on untied pairs with probability (1 - noise)^2 + noise^2; for a wanted
    agreement take noise = 1 - agreement.implied_accuracy(wanted). With the same seed they are the same rater.

    score   what a prompt's item and an answer are worth; any finite unit
    noise   in [0, 0.5): probability of saying the opposite, pair by pair
    seed    with a pair's key it fixes whether that pair's choice is flipped
    margin  >= 0, in the score's unit: scores this close are a tie
    raises  ConfigError when a setting is out of its range, or the name does not begin with "simulated"
    """

    score: Callable[[Item, str], float]
    noise: float
    seed: int
    name: str = "simulated judge"
    margin: float = 1e-9

    def __post_init__(self) -> None:
        if not 0 <= self.noise < 0.5:
            raise ConfigError(
                f"noise = {self.noise}: must be at least 0 and below 0.5, where votes carry no information"
            )
        if not (isfinite(self.margin) and self.margin >= 0):
            raise ConfigError(f"margin = {self.margin}: must be finite and not negative")
        if not self.name.startswith(_PREFIX):
            raise ConfigError(f'name = "{self.name}": must begin with "{_PREFIX}"; a simulated rater is called so')

    def compare(self, key: str | int, item: Item, first: str, second: str) -> SimulatedChoice:
        """Choose between two answers. See choose."""
        return self.choose(key, self.score(item, first), self.score(item, second))

    def choose(self, key: str | int, score_first: float, score_second: float) -> SimulatedChoice:
        """The vote on the pair of that key; swapping the scores swaps the vote.

        key     names the pair, the same in every run: the stored pair's content key rather than its id
        raises  DataError when a score is not finite
        """
        if not (isfinite(score_first) and isfinite(score_second)):
            raise DataError(f"pair {key}: scores {score_first} and {score_second}; a gold score must be finite")
        difference = score_first - score_second
        if abs(difference) <= self.margin:
            return "tie"
        honest: SimulatedChoice = "first" if difference > 0 else "second"
        return _OPPOSITE[honest] if self._errs(key) else honest

    def _errs(self, key: str | int) -> bool:
        digest = hashlib.sha256(f"{self.seed}:{key}".encode()).digest()
        return int.from_bytes(digest[:8], "big") / 2**64 < self.noise
