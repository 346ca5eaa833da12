"""One more token for every row: the forward pass of writing, as it comes or with shapes that never change.

B rows, S positions of the cache, V vocabulary.
"""

import torch
from torch import Tensor

from trivium.model.attention import additive
from trivium.model.cache import Cache
from trivium.model.transformer import Transformer

WARM_UPS = 2  # passes before one is recorded: libraries choose their ways and take their memory in them
LEAST_REACH = 128  # positions


def step_rows(model: Transformer, cache: Cache, last: Tensor, position: Tensor) -> Tensor:
    """Logits (B, V) float32 after each row's last token, which is written into the cache on the way.

    last, position  (B,) int64; the token, and where it stands: below cache.filled
    Waits for nothing on the device, so that it can be recorded.
    """
    mask = additive(torch.arange(cache.filled, device=position.device) <= position[:, None])  # (B, S)
    hidden = model.hidden(last[:, None], position[:, None], mask[:, None, None], cache)
    logits: Tensor = model.lm_head(hidden[:, 0])
    return logits.float()


class FixedStep:
    """`step_rows` for shapes and addresses that never change. On a GPU it is recorded as a CUDA graph and replayed.

    A GPU does the operations of a small model faster than a host can ask for them; of a graph it is asked once. How far
    attention looks is fixed too, at powers of two: a recording for each, made when it is first needed.
    """

    def __init__(self, model: Transformer, cache: Cache, rows: int) -> None:
        device = model.embed_tokens.weight.device
        self._model, self._cache = model, cache
        self._last = torch.zeros(rows, dtype=torch.int64, device=device)
        self._position = torch.zeros_like(self._last)
        self._recorded: dict[int, tuple[torch.cuda.CUDAGraph, Tensor]] = {}

    def __call__(self, last: Tensor, position: Tensor, farthest: int) -> Tensor:
        """As `step_rows`; what is returned is overwritten by the next call.

        farthest  the last position that any row of interest looks at
        """
        self._last.copy_(last)
        self._position.copy_(position)
        reach = self.reach(farthest)
        if not self._last.is_cuda:
            return self._run(reach)
        if reach not in self._recorded:
            self._recorded[reach] = self._record(reach)
        graph, logits = self._recorded[reach]
        graph.replay()
        return logits

    def reach(self, farthest: int) -> int:
        """The positions that attention looks at: a power of two, or all."""
        return min(self._cache.keys.shape[3], max(LEAST_REACH, 1 << farthest.bit_length()))

    def _run(self, reach: int) -> Tensor:
        self._cache.filled = reach
        return step_rows(self._model, self._cache, self._last, self._position)

    def _record(self, reach: int) -> tuple[torch.cuda.CUDAGraph, Tensor]:
        """Every pass in it writes the same numbers to the same places: to repeat it changes nothing."""
        aside = torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            for _ in range(WARM_UPS):
                self._run(reach)
        torch.cuda.current_stream().wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            logits = self._run(reach)
        return graph, logits
