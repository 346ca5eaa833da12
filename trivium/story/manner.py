"""How a model is to speak: what `trivium chat` and `trivium generate` can be told. No torch until it is used."""

from typing import TYPE_CHECKING, Annotated, Any, Self

from pydantic import Field, ValidationError

from trivium.config import first_error
from trivium.config.optimizer import Frozen
from trivium.errors import ConfigError

if TYPE_CHECKING:
    from trivium.generate.sampling import Penalties, Sampling


class Manner(Frozen):
    temperature: Annotated[float, Field(ge=0, le=5)] = 0.7
    """0 always takes the most probable word"""
    top_k: Annotated[int, Field(ge=1)] | None = None
    """only so many of the most probable words; none: all"""
    top_p: Annotated[float, Field(gt=0, le=1)] = 0.95
    """only the most probable words that together reach this"""
    min_p: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """only words at least this share as probable as the most probable"""
    repetition: Annotated[float, Field(gt=0, le=10)] = 1.0
    """over 1: words that were there before become less probable"""
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    """of an answer; none: as many as the model's context holds"""
    seed: Annotated[int, Field(ge=0)] = 0
    """of the random words"""

    def sampling(self, room: int) -> "Sampling":
        """room  tokens that the context holds after the prompt"""
        from trivium.generate.sampling import Sampling

        most = room if self.max_tokens is None else min(room, self.max_tokens)
        return Sampling(self.temperature, self.top_k, self.top_p, most, self.min_p)

    @property
    def penalties(self) -> "Penalties":
        from trivium.generate.sampling import Penalties

        return Penalties(self.repetition)

    def changed(self, name: str, value: Any) -> Self:
        """With one setting as it was typed; raises ConfigError that says field, value and rule."""
        try:
            return type(self).model_validate(self.model_dump() | {name: None if value in ("none", "off") else value})
        except ValidationError as errors:
            raise ConfigError(first_error(errors)) from None

    def told(self) -> str:
        """What is set, in one line."""
        return "  ".join(f"{name} {'none' if value is None else value}" for name, value in self.model_dump().items())


class Plain(Manner):
    """Without a choice among the most probable words, which would have to look at every word between two steps."""

    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    """only the most probable words that together reach this; under 1 slower"""
