"""Prompts with several answers each, packed so that a prompt is read once for all the answers that stand beside it.

An answer grows from its prompt like a branch: it sees the prompt and itself, and its positions go on where the prompt
ends. A group of short answers costs a fraction of what rows of their own would. No model, no files.
"""

from collections.abc import Sequence

import torch

from trivium.batch import Answered

_PADDING_TREE = -1
_MULTIPLE = 8  # rows are this many tokens, or a multiple: shapes that repeat


def pack_answers(
    prompts: Sequence[Sequence[int]], answers: Sequence[Sequence[int]], row_length: int, pad: int
) -> Answered:
    """Answers in the order given; equal prompts that follow one another share their row as far as it reaches.

    prompts, answers  token ids, one prompt per answer; none empty
    row_length        tokens; a longer prompt with its answer has a longer row of its own
    pad               id that fills rows up
    """
    rows: list[_Row] = []
    for number, (prompt, answer) in enumerate(zip(prompts, answers, strict=True)):
        assert min(len(prompt), len(answer)), "an answer needs a prompt, and a token"
        if not rows or not rows[-1].takes(prompt, answer, row_length):
            rows.append(_Row())
        rows[-1].add(prompt, answer, number)
    length = -(-max(len(row.tokens) for row in rows) // _MULTIPLE) * _MULTIPLE
    sources = [row * length + place for row, filled in enumerate(rows) for place in filled.sources]
    ends = [row * length + place for row, filled in enumerate(rows) for place in filled.ends]
    return Answered(
        _stack([row.tokens for row in rows], length, pad),
        _stack([row.positions for row in rows], length, 0),
        _stack([row.trees for row in rows], length, _PADDING_TREE),
        _stack([row.branches for row in rows], length, 0),
        torch.tensor([token for answer in answers for token in answer]),
        torch.tensor(sources),
        torch.tensor([number for number, answer in enumerate(answers) for _ in answer]),
        torch.tensor(ends),
    )


class _Row:
    """A row being filled."""

    def __init__(self) -> None:
        self.tokens: list[int] = []
        self.positions: list[int] = []
        self.trees: list[int] = []
        self.branches: list[int] = []
        self.sources: list[int] = []
        self.ends: list[int] = []
        self._prompt: Sequence[int] = ()
        self._prompt_end = self._tree = self._branch = 0

    def takes(self, prompt: Sequence[int], answer: Sequence[int], row_length: int) -> bool:
        more = len(answer) + (0 if prompt == self._prompt else len(prompt))
        return len(self.tokens) + more <= row_length

    def add(self, prompt: Sequence[int], answer: Sequence[int], number: int) -> None:
        if prompt != self._prompt:
            self._prompt, self._tree, self._branch = prompt, number, 0
            self._append(prompt, 0)
            self._prompt_end = len(self.tokens) - 1
        self._branch += 1
        start = len(self.tokens)
        self._append(answer, len(prompt))
        self.sources += [self._prompt_end, *range(start, start + len(answer) - 1)]
        self.ends.append(len(self.tokens) - 1)

    def _append(self, ids: Sequence[int], first_position: int) -> None:
        self.tokens += ids
        self.positions += range(first_position, first_position + len(ids))
        self.trees += [self._tree] * len(ids)
        self.branches += [self._branch] * len(ids)


def _stack(rows: Sequence[Sequence[int]], length: int, fill: int) -> torch.Tensor:
    return torch.tensor([[*row, *[fill] * (length - len(row))] for row in rows])
