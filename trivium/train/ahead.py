"""Batches made before they are needed, by one thread, while the device computes. The order is that of the steps."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice

import torch

from trivium.train.phase import B

DEPTH = 2  # steps whose batches are made ahead


def drawn_ahead(batches: Callable[[int], Sequence[B]], steps: Iterable[int]) -> Iterator[Sequence[B]]:
    """`map(batches, steps)` for a stream that depends on the step alone, in pinned memory where there is a GPU.

    raises  what `batches` raises, when its step is due
    """
    waiting: deque[Future[Sequence[B]]] = deque()
    with ThreadPoolExecutor(1, thread_name_prefix="batches") as thread:
        to_come = iter(steps)
        while True:
            waiting.extend(thread.submit(_drawn, batches, step) for step in islice(to_come, 1 + DEPTH - len(waiting)))
            if not waiting:
                return
            try:
                yield waiting.popleft().result()
            except GeneratorExit:
                thread.shutdown(wait=False, cancel_futures=True)
                raise


def _drawn(batches: Callable[[int], Sequence[B]], step: int) -> Sequence[B]:
    made = batches(step)
    if not torch.cuda.is_available():
        return made
    return [type(batch)(*(field.pin_memory() for field in batch)) for batch in made]  # type: ignore[attr-defined]
