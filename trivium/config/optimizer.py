"""Settings that every phase has: steps, their size, and how the weights follow the gradient. No torch."""

from operator import lt
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from trivium.model.shape import must_divide

Share = Annotated[float, Field(ge=0, le=1)]


class Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)


class OptimizerConfig(Frozen):
    """Steps, their size, and how the weights follow the gradient."""

    steps: int = Field(1000, ge=1)
    """optimizer steps"""
    rows_per_step: int = Field(16, ge=1)
    """rows of context_length tokens in a step, over all ranks and micro-batches"""
    microbatch_rows: int = Field(8, ge=1)
    """rows computed at once; must divide rows_per_step"""
    learning_rate: float = Field(4e-3, gt=0)
    """peak of AdamW: embeddings, output matrix and norms"""
    matrix_learning_rate: float = Field(0.02, gt=0)
    """peak of Muon: the matrices of the layers"""
    weight_decay: float = Field(0.0, ge=0)
    """of the matrices, times the learning rate"""
    momentum: Share = 0.95
    """of Muon"""
    beta1: Share = 0.9
    """AdamW: memory of the mean"""
    beta2: Share = 0.98
    """AdamW: memory of the square"""
    warmup_steps: int = Field(20, ge=0)
    """steps in which the learning rate rises, the first ones"""
    decay: Share = 0.5
    """share of the steps in which it falls to zero, at the end"""
    aims: tuple[tuple[int, int], ...] = ()
    """[step, steps]: up to that step so many in all were aimed at; the dial's, which keeps the time"""
    max_grad_norm: float = Field(1.0, gt=0)
    """longer gradients are shortened to this"""

    @model_validator(mode="after")
    def _whole_microbatches(self) -> Self:
        if self.rows_per_step % self.microbatch_rows:
            rows, at_once, given = self.rows_per_step, self.microbatch_rows, self.model_fields_set
            raise ValueError(must_divide("microbatch_rows", at_once, "rows_per_step", rows, given=given))
        return self

    @model_validator(mode="after")
    def _aims_lie_before_the_end(self) -> Self:
        turns = [0, *(turn for turn, _ in self.aims), self.steps]
        if not (all(map(lt, turns, turns[1:])) and all(turn < steps for turn, steps in self.aims)):
            told = ", ".join(map(str, map(list, self.aims)))
            raise ValueError(f"aims {told} are those of other steps than {self.steps}; leave them out")
        return self
