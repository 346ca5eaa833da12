"""Which pair to ask about next: where the reward ensemble disagrees, on prompts that differ. Arrays in, indices out.

A share is drawn at random and says so: against it the votes that were saved can be measured.
"""

import zlib
from collections.abc import Sequence
from itertools import combinations, pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from trivium.errors import DataError
from trivium.feedback.votes import Policy

Floats = NDArray[np.float64]

WIDTH = 512  # places for hashed words of a prompt


class Candidate(NamedTuple):
    """Two answers to one prompt."""

    prompt: int
    first: int
    second: int


class Pick(NamedTuple):
    candidate: int  # its index
    policy: Policy
    score: float  # disagreement, nats


def candidates(scores: Floats) -> tuple[list[Candidate], Floats]:
    """Every pair of answers to the same prompt, and its margins.

    scores   (P, K, M) reward of P prompts' K answers under M members
    returns  C = P K (K - 1) / 2 candidates, and (C, M) first minus second
    raises   DataError when there are not two answers, or a score is not finite
    """
    if scores.ndim != 3 or scores.shape[1] < 2 or not np.isfinite(scores).all():
        raise DataError(f"scores {scores.shape}: must be finite, (prompts, answers, members) with two answers or more")
    prompts, answers, members = scores.shape
    found = [Candidate(p, i, j) for p in range(prompts) for i, j in combinations(range(answers), 2)]
    margins = np.array([scores[c.prompt, c.first] - scores[c.prompt, c.second] for c in found])
    return found, margins.reshape(-1, members)


def disagreement(margins: Floats) -> Floats:
    """What a vote would tell about which member is right: entropy of the mean vote minus mean entropy of the votes.

    margins  (C, M) reward of the first answer minus the second's, per member; P(first) is its sigmoid
    returns  (C,) nats in [0, log 2]; 0 where all members agree, also where all are equally unsure
    raises   DataError when there are fewer than two members
    Houlsby et al. 2011, eq. 2, arXiv:1112.5745
    """
    if margins.ndim != 2 or margins.shape[1] < 2:
        raise DataError(f"margins {margins.shape}: must be (pairs, members); one member cannot disagree with itself")
    prefers = 1 / (1 + np.exp(-np.clip(margins, -500, 500)))
    told: Floats = _entropy(prefers.mean(1)) - _entropy(prefers).mean(1)
    return np.maximum(told, 0.0, out=told)


def _entropy(chance: Floats) -> Floats:
    inside = np.clip(chance, 1e-300, 1)
    outside = np.clip(1 - chance, 1e-300, 1)
    entropy: Floats = -(chance * np.log(inside) + (1 - chance) * np.log(outside))
    return entropy


def prompt_vectors(prompts: Sequence[str]) -> Floats:
    """(N, WIDTH) of length 1: hashed words and pairs of words, by the root of their count; zero for an empty prompt."""
    vectors = np.zeros((len(prompts), WIDTH))
    for row, prompt in zip(vectors, prompts, strict=True):
        words = prompt.lower().split()
        for feature in [*words, *map(" ".join, pairwise(words))]:
            row[zlib.crc32(feature.encode("utf-8", "surrogatepass")) % WIDTH] += 1
    vectors = np.sqrt(vectors)
    lengths: Floats = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(lengths, 1e-12))


def choose_pairs(
    prompts: Sequence[str],
    margins: Floats,
    *,
    count: int,
    random_share: float = 0.25,
    diversity: float = 1.0,
    seed: int = 0,
) -> list[Pick]:
    """Which of N candidates to ask about, in the order to ask, random ones and active ones mixed.

    The random ones are drawn first and from all, so that they are a fair sample. Of the rest, each next active one has
    the highest disagreement (1 - s)^diversity, s its prompt's likeness to the nearest prompt chosen before.

    prompts       N texts, one per candidate
    margins       (N, M) reward of the first answer minus the second's, per member of the ensemble
    random_share  in [0, 1], of the picks
    diversity     >= 0; 0 looks at disagreement alone
    returns       min(count, N) picks, no candidate twice; the same for the same seed
    """
    if len(prompts) != len(margins):
        raise DataError(f"{len(prompts)} prompts and {len(margins)} margins: must be one for each candidate")
    if not (0 <= random_share <= 1 and diversity >= 0):
        raise DataError(f"random_share = {random_share}, diversity = {diversity}: must be in [0, 1] and not negative")
    chance, count = np.random.default_rng(seed), min(count, len(prompts))
    scores, vectors = disagreement(margins), prompt_vectors(prompts)
    drawn = chance.permutation(len(prompts))[: round(count * random_share)]
    active = _spread(scores, vectors, drawn, count - len(drawn), diversity, chance)
    picks = [Pick(int(i), "random", float(scores[i])) for i in drawn]
    picks += [Pick(i, "active", float(scores[i])) for i in active]
    return [picks[i] for i in chance.permutation(len(picks))]


def _spread(
    scores: Floats, vectors: Floats, taken: NDArray[np.int64], count: int, diversity: float, chance: np.random.Generator
) -> list[int]:
    """The candidates of most disagreement, each weighed down by its likeness to those before it."""
    ties = chance.permutation(len(scores))  # equals are taken in a drawn order
    nearest = (vectors @ vectors[taken].T).max(1, initial=0.0)
    free = np.ones(len(scores), bool)
    free[taken] = False
    found = []
    for _ in range(count):
        worth = np.where(free, scores * np.clip(1 - nearest, 0, 1) ** diversity, -1)
        best = int(np.lexsort((ties, -worth))[0])
        found.append(best)
        free[best] = False
        nearest = np.maximum(nearest, vectors @ vectors[best])
    return found
