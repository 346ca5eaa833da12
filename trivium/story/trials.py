"""Trying shapes out: a few real steps of each before a run begins, in a small share of its time. Keeps nothing."""

import time

import torch

from trivium import plan
from trivium.compute import Compute
from trivium.model.shape import ModelConfig
from trivium.model.transformer import Transformer, initialise
from trivium.story.bench import Size, step_times

SHARE = 0.01  # of the run's time, at most
MOST_SECONDS = 20.0
FROM_MINUTES = 1.0  # shorter runs go by the speed of large products
FOR_OTHERS = 1 / 3  # of that time is left for what has not been timed yet, however often the rest is timed again
STEPS = 3  # of each shape; the first one is not counted
WARMING = ModelConfig(num_layers=1, width=32, num_heads=1, num_kv_heads=1, head_dim=32, mlp_width=64, vocab_size=64)


class Trials:
    """Times steps as long as there is time left for it.

    The steps are plain, also of runs that compile: compiling each shape would take longer than choosing well saves,
    and makes neighbours faster alike.
    """

    def __init__(
        self, compute: Compute, minutes: float, flops: float, ranks: int = 1, candidates: int | None = None
    ) -> None:
        """
        flops       of large products, per second: what a trial will take is reckoned from it, until one was made
        ranks       that train together; all of them try
        candidates  tokens that the recipe tells apart; None: as many as the dial would
        """
        self.compute = compute._replace(compiled=False)
        self.left = min(MOST_SECONDS, SHARE * 60 * minutes) if minutes >= FROM_MINUTES else 0.0
        self.kept = FOR_OTHERS * self.left
        self.flops, self.warm, self.ranks, self.candidates = flops / ranks / 3, False, ranks, candidates
        self.timed: set[tuple[ModelConfig, int]] = set()

    def __call__(self, model: ModelConfig, at_once: int, rows: int) -> float | None:
        """Tokens per second of whole steps, of all ranks; 0 where they do not fit, None when time is up.

        at_once, rows  computed at once, and in a step
        """
        worked = plan.multiplied(model, self.candidates)
        flop = worked.training_flop(STEPS * rows * model.context_length)
        again = (model, at_once) in self.timed
        if flop / self.flops > self.left - (self.kept if again else 0.0):
            return None
        self.timed.add((model, at_once))
        if not self.warm:  # what is built at first use is built anyway
            self._seconds(Size(WARMING, 1, 1))
            self.warm = True
        begun = time.perf_counter()
        try:
            seconds = self._seconds(Size(model, rows, at_once, worked.vocab_size))
        except torch.OutOfMemoryError:
            return 0.0
        finally:
            taken = time.perf_counter() - begun
            self.left -= taken
        self.flops = flop / taken
        return self.ranks * rows * model.context_length / seconds

    def _seconds(self, size: Size) -> float:
        """Of the best step."""
        model = initialise(Transformer(size.model), 0).to(self.compute.device)
        return min(step_times(model, size, self.compute, steps=STEPS)[1:])
