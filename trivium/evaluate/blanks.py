"""Filling blanks: the model proposes what could stand there, and Bayes' rule says how well each proposal fits.

p(filling | before, after) is proportional to the probability of the whole text with the filling in it, and to how
often blanks are as long. Where a small model does not yet know when a filling is over, the text after it tells. Several
blanks are filled one after the other and weighed together: the best few texts go on from one blank to the next.
"""

from collections.abc import Sequence
from math import log
from typing import NamedTuple

import torch

from trivium.evaluate.preference import answer_logprobs
from trivium.generate.engine import Request, generate, room_for_prompt
from trivium.generate.sampling import Sampling, stream_seed
from trivium.model.transformer import Transformer
from trivium.text.blanks import Blank, prompt
from trivium.text.branches import pack_answers
from trivium.text.tokenizer import Tokenizer

MOST_TOKENS = 8  # of a filling
WAYS = 2  # of writing into a gap: `_starts`
DRAWN = 4  # proposals in either way, beside the most probable one
LOOKED_AHEAD = 12  # tokens after the blank that say how well a filling fits
FURTHER_WORD = 0.5  # how likely a blank of one word more is, whatever the text
WIDTH = 8  # texts that go on from one blank to the next


class Gap(NamedTuple):
    before: str  # what stands before; may be empty
    after: str  # what follows, up to the next blank
    last: bool = True  # no other blank follows


class Filling(NamedTuple):
    text: str  # with the space that it begins with
    probability: float  # among all that were proposed, 0 to 1


class Filled(NamedTuple):
    """A text with all of its blanks filled."""

    fillings: tuple[str, ...]
    probability: float  # among all that were weighed, 0 to 1


def blank_accuracy(model: Transformer, tokenizer: Tokenizer, blanks: Sequence[Blank]) -> float:
    """Share of the blanks whose most probable filling is the word that stood there, 0 to 1."""
    found = fill(model, tokenizer, [Gap(blank.prefix, blank.suffix) for blank in blanks])
    right = [fillings[0].text == blank.answer for fillings, blank in zip(found, blanks, strict=True)]
    return sum(right) / len(right)


def fill(model: Transformer, tokenizer: Tokenizer, gaps: Sequence[Gap], *, drawn: int = DRAWN) -> list[list[Filling]]:
    """Different fillings of each gap, the most probable first; at least one.

    drawn  proposals of each beside the most probable one
    """
    proposed = propose(model, tokenizer, gaps, drawn=drawn)
    return [_ranked(_compare(model, tokenizer, gap, texts)) for gap, texts in zip(gaps, proposed, strict=True)]


def _ranked(nats: dict[str, float]) -> list[Filling]:
    shares = torch.tensor(list(nats.values())).softmax(-1).tolist()
    return sorted(map(Filling, nats, shares), key=lambda filling: -filling.probability)


def _compare(model: Transformer, tokenizer: Tokenizer, gap: Gap, proposed: Sequence[str]) -> dict[str, float]:
    """Nats of those proposals that exclude each other, with what is known of blanks: most people leave out one word."""
    fitting = apart(proposed, gap.after)
    nats = weigh(model, tokenizer, gap, fitting)
    return {text: each + log(FURTHER_WORD) * len(text.split()[1:]) for text, each in zip(fitting, nats, strict=True)}


def apart(proposed: Sequence[str], after: str) -> list[str]:
    """The proposals without those that go on where another is over: "hat. He ran", before a full stop, beside "hat".

    Whatever text begins as the longer one does begins as the shorter one too, and would be counted twice.
    """
    whole = {text + after for text in proposed} if after else set()
    return [text for text in proposed if not any(map((text + after).startswith, whole - {text + after}))]


class _Begun(NamedTuple):
    """A text filled up to some blank."""

    text: str
    fillings: tuple[str, ...]
    nats: float  # its log-probability from the first blank on, and that of blanks as long


def fill_together(
    model: Transformer, tokenizer: Tokenizer, pieces: Sequence[str], spaced: Sequence[bool], *, drawn: int = DRAWN
) -> list[Filled]:
    """Whole texts, the most probable first; at least one. A filling that only a later blank shows to be wrong loses.

    pieces  what stands around the blanks, one more than there are blanks
    spaced  of each blank, whether its filling begins with a space
    drawn   proposals beside the most probable one: for the first blank, fewer for each text that goes on
    """
    begun = [_Begun(pieces[0], (), 0.0)]
    for number, space in enumerate(spaced, start=1):
        gaps = [Gap(each.text, pieces[number], number == len(spaced)) for each in begun[:WIDTH]]
        proposed = propose(model, tokenizer, gaps, drawn=max(DRAWN, drawn // len(gaps)))
        grown: dict[str, _Begun] = {}
        for each, gap, texts in zip(begun, gaps, proposed, strict=False):
            fitting = [text for text in texts if text.startswith(" ") == space] or texts
            for text, nats in _compare(model, tokenizer, gap, fitting).items():
                whole = _Begun(each.text + text + gap.after, (*each.fillings, text), each.nats + nats)
                grown.setdefault(whole.text, whole)
        begun = sorted(grown.values(), key=lambda each: -each.nats)
    shares = torch.tensor([each.nats for each in begun]).softmax(-1).tolist()
    return [Filled(each.fillings, share) for each, share in zip(begun, shares, strict=True)]


def likely(filled: Sequence[Filled], blank: int) -> list[Filling]:
    """What one of the blanks is filled with, whatever the others are filled with; the most probable first."""
    shares: dict[str, float] = {}
    for each in filled:
        text = each.fillings[blank]
        shares[text] = shares.get(text, 0.0) + each.probability
    return sorted(map(Filling, shares, shares.values()), key=lambda filling: -filling.probability)


def propose(model: Transformer, tokenizer: Tokenizer, gaps: Sequence[Gap], *, drawn: int = DRAWN) -> list[list[str]]:
    """What the model writes into each gap, and every beginning of it: it may not have known where to end.

    It writes twice: as it was taught to fill blanks, knowing what follows, and as if nothing followed, which it was
    taught with far more text. Either finds words that the other does not (docs/decisions/022).
    drawn  fillings of each, in either way, beside the most probable one
    """
    stop = [tokenizer.end_of_text]
    room = room_for_prompt(model.config)
    starts = [ids for gap in gaps for ids in _starts(gap, tokenizer, room)]
    greedy = Sampling(temperature=0, max_new_tokens=MOST_TOKENS)
    warm = Sampling(temperature=1.0, max_new_tokens=MOST_TOKENS)
    written = generate(model, [Request(ids, 0) for ids in starts], greedy, stop=stop)
    others = [Request(ids, stream_seed(8, i)) for ids in starts for i in range(drawn)]
    written += generate(model, others, warm, stop=stop)
    found: list[dict[str, None]] = [{} for _ in gaps]
    for number, answer in enumerate(written):
        start = number if number < len(starts) else (number - len(starts)) // drawn
        for length in range(1, len(answer.tokens) + 1):
            found[start // WAYS][tokenizer.decode(answer.tokens[:length])] = None
    return [[text for text in texts if text.strip() and "\ufffd" not in text] or [" "] for texts in found]


def _starts(gap: Gap, tokenizer: Tokenizer, room: int) -> list[list[int]]:
    """Ids after which the model writes into a gap, at most `room` of them: what is far from the gap is left out."""
    opening = tokenizer.opening
    plain = [*opening, *tokenizer.encode(gap.before)[-(room - len(opening)) :]] or [tokenizer.blank_prefix]
    return [prompt(gap.before, gap.after, tokenizer, room=room).tolist(), plain]


@torch.no_grad()
def weigh(model: Transformer, tokenizer: Tokenizer, gap: Gap, proposed: Sequence[str]) -> list[float]:
    """For each proposal, the log-probability of it and of what follows up to the next blank, after what stands before.

    returns  nats
    """
    room = max(1, model.config.context_length - 4 * MOST_TOKENS - LOOKED_AHEAD)
    before = tokenizer.encode(gap.before)[-room:]
    after = tokenizer.decode(tokenizer.encode(gap.after)[:LOOKED_AHEAD])
    ending = [tokenizer.end_of_text] if gap.last and not gap.after else []
    texts = [tokenizer.encode(tokenizer.decode(before) + filling + after) for filling in proposed]
    whole = [[*tokenizer.opening, *ids, *ending] for ids in texts]
    whole += [[*tokenizer.opening, *before]] * bool(before)  # last: what stands before counts for nobody
    shared = min(common_beginning(whole), min(map(len, whole)) - 1)
    start = whole[0][:shared] or [tokenizer.blank_prefix]  # after which texts begin
    rest = [ids[shared:] for ids in whole]
    answers = pack_answers([start] * len(rest), rest, model.config.context_length, tokenizer.pad)
    answers = answers.to(model.norm.weight.device)
    nats = torch.zeros(len(rest), device=answers.tokens.device)
    nats = nats.index_add(0, answers.owners, answer_logprobs(model, answers))
    found: list[float] = (nats[: len(proposed)] - (nats[-1] if before else 0.0)).tolist()
    return found


def common_beginning(rows: Sequence[Sequence[int]]) -> int:
    """How many of their first items all rows share."""
    columns = zip(*rows, strict=False)  # as far as the shortest reaches
    return next((place for place, items in enumerate(columns) if len(set(items)) > 1), min(map(len, rows)))
