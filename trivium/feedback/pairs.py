"""Which pair to ask about next: where the reward models are uncertain, on prompts that differ. Arrays in, indices out.

A share is drawn at random and says so: against it the votes that were saved can be measured.
"""

import zlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
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
    score: float | None  # uncertainty, nats; None where no reward model was asked
    probability: float  # of being picked by this policy, before it drew


def candidates(scores: Floats) -> tuple[list[Candidate], Floats]:
    """Every pair of answers to the same prompt, and its margins.

    scores   (P, K, M) reward of P prompts' K answers under M members, of which there may be none
    returns  C = P K (K - 1) / 2 candidates, and (C, M) first minus second
    raises   DataError when there are not two answers, or a score is not finite
    """
    if scores.ndim != 3 or scores.shape[1] < 2 or not np.isfinite(scores).all():
        raise DataError(f"scores {scores.shape}: must be finite, (prompts, answers, members) with two answers or more")
    prompts, answers, members = scores.shape
    found = [Candidate(p, i, j) for p in range(prompts) for i, j in combinations(range(answers), 2)]
    margins = np.array([scores[c.prompt, c.first] - scores[c.prompt, c.second] for c in found])
    return found, margins.reshape(len(found), members)


def uncertainty(margins: Floats) -> Floats:
    """How little is known of the vote on each pair: where members disagree, or a single one has a margin near 0.

    margins  (C, M) reward of the answer that is first minus the second's, per member
    returns  (C,) nats in [0, log 2]: disagreement of several members; of one the entropy of the vote that it expects
    raises   DataError when there is no member
    """
    if margins.ndim == 2 and margins.shape[1] == 1:
        return _entropy(_prefers(margins))[:, 0]
    return disagreement(margins)


def disagreement(margins: Floats) -> Floats:
    """What a vote would tell about which member is right: entropy of the mean vote minus mean entropy of the votes.

    margins  (C, M) reward of the first answer minus the second's, per member; P(first) is its sigmoid
    returns  (C,) nats in [0, log 2]; 0 where all members agree, also where all are equally unsure
    raises   DataError when there are fewer than two members
    Houlsby et al. 2011, eq. 2, arXiv:1112.5745
    """
    if margins.ndim != 2 or margins.shape[1] < 2:
        raise DataError(f"margins {margins.shape}: must be (pairs, members); one member cannot disagree with itself")
    prefers = _prefers(margins)
    told: Floats = _entropy(prefers.mean(1)) - _entropy(prefers).mean(1)
    return np.maximum(told, 0.0, out=told)


def _prefers(margins: Floats) -> Floats:
    """The chance of a vote for the first answer."""
    chance: Floats = 1 / (1 + np.exp(-np.clip(margins, -500, 500)))
    return chance


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
    found: Sequence[Candidate],
    margins: Floats,
    *,
    count: int,
    asked: Sequence[str] = (),
    random_share: float = 0.25,
    diversity: float = 1.0,
    seed: int = 0,
) -> list[Pick]:
    """Which of N candidates to ask about, one of a prompt, in the order to ask, random ones and active ones mixed.

    The random ones are drawn first and from all, a prompt and then a pair of it, so that they are a fair sample. Of the
    rest, each next active one has the highest uncertainty (1 - s)^diversity, s its prompt's likeness to the nearest
    prompt that was asked or chosen before. Without reward models all are random.

    prompts       P texts, that the candidates' numbers point into
    margins       (N, M) reward of the first answer minus the second's, per member of the ensemble
    asked         texts of prompts that were asked before
    random_share  in [0, 1], of the picks
    diversity     >= 0; 0 looks at uncertainty alone
    returns       as many as are wanted, or as prompts have a candidate; the same for the same seed
    """
    if len(found) != len(margins):
        raise DataError(f"{len(found)} candidates and {len(margins)} margins: must be one for each candidate")
    if not (0 <= random_share <= 1 and diversity >= 0):
        raise DataError(f"random_share = {random_share}, diversity = {diversity}: must be in [0, 1] and not negative")
    chance = np.random.default_rng(seed)
    of_prompt: dict[int, list[int]] = defaultdict(list)
    for number, candidate in enumerate(found):
        of_prompt[candidate.prompt].append(number)
    count, blind = min(count, len(of_prompt)), margins.shape[1] == 0
    scores = np.zeros(len(found)) if blind else uncertainty(margins)
    drawn = chance.permutation(list(of_prompt))[: count if blind else round(count * random_share)].tolist()
    picks = []
    for prompt in drawn:
        number = int(chance.choice(of_prompt[prompt]))
        likely = len(drawn) / len(of_prompt) / len(of_prompt[prompt])
        picks.append(Pick(number, "random", None if blind else float(scores[number]), likely))
    best = {prompt: max(own, key=lambda n: scores[n]) for prompt, own in of_prompt.items() if prompt not in drawn}
    known = prompt_vectors([*asked, *(prompts[prompt] for prompt in drawn)])
    for number in _spread(scores, best, prompts, known, count - len(drawn), diversity, chance):
        picks.append(Pick(number, "active", float(scores[number]), 1.0))
    return [picks[i] for i in chance.permutation(len(picks))]


def _spread(
    scores: Floats,
    best: Mapping[int, int],
    prompts: Sequence[str],
    known: Floats,
    count: int,
    diversity: float,
    chance: np.random.Generator,
) -> list[int]:
    """Of each prompt its most uncertain candidate, weighed down by its likeness to those before it.

    best   prompt → candidate
    known  (A, WIDTH) vectors of the prompts before
    """
    places = list(best)
    vectors = prompt_vectors([prompts[place] for place in places])
    worth = np.array([scores[best[place]] for place in places])
    ties = chance.permutation(len(places))  # equals are taken in a drawn order
    nearest = (vectors @ known.T).max(1, initial=0.0)
    free = np.ones(len(places), bool)
    found = []
    for _ in range(count):
        weighed = np.where(free, worth * np.clip(1 - nearest, 0, 1) ** diversity, -1)
        next_one = int(np.lexsort((ties, -weighed))[0])
        found.append(best[places[next_one]])
        free[next_one] = False
        nearest = np.maximum(nearest, vectors @ vectors[next_one])
    return found
