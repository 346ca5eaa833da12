"""Filling blanks: the model proposes what could stand there, and Bayes' rule says how well each proposal fits.

p(filling | before, after) is proportional to the probability of the whole text with the filling in it. The proposals
come from the fill-in-the-blank form that the model was trained on, which sees what stands after the gap; where a small
model does not yet know when a filling is over, the text after it tells.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch

from trivium.evaluate.preference import answer_logprobs
from trivium.generate.engine import Request, generate
from trivium.generate.sampling import Sampling, stream_seed
from trivium.model.transformer import Transformer
from trivium.text.blanks import Blank, prompt
from trivium.text.branches import pack_answers
from trivium.text.tokenizer import Tokenizer

MOST_TOKENS = 8  # of a filling
DRAWN = 4  # proposals beside the most probable one: more find no more of the left-out words
LOOKED_AHEAD = 12  # tokens after the blank that say how well a filling fits


class Gap(NamedTuple):
    before: str  # what stands before; may be empty
    after: str


class Filling(NamedTuple):
    text: str  # with the space that it begins with
    probability: float  # among all that were proposed, 0 to 1


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
    return [weigh(model, tokenizer, gap, texts) for gap, texts in zip(gaps, proposed, strict=True)]


def propose(model: Transformer, tokenizer: Tokenizer, gaps: Sequence[Gap], *, drawn: int = DRAWN) -> list[list[str]]:
    """What the model writes into each gap, and every beginning of it: it may not have known where to end."""
    stop = [tokenizer.end_of_text]
    prompts = [prompt(gap.before, gap.after, tokenizer).tolist() for gap in gaps]
    greedy = Sampling(temperature=0, max_new_tokens=MOST_TOKENS)
    warm = Sampling(temperature=1.0, max_new_tokens=MOST_TOKENS)
    likely = generate(model, [Request(ids, 0) for ids in prompts], greedy, stop=stop)
    others = generate(
        model, [Request(ids, stream_seed(8, i)) for ids in prompts for i in range(drawn)], warm, stop=stop
    )
    proposed = []
    for number in range(len(gaps)):
        answers = [likely[number], *others[number * drawn : (number + 1) * drawn]]
        cuts = dict.fromkeys(tuple(a.tokens[:n]) for a in answers for n in range(1, len(a.tokens) + 1))
        texts = dict.fromkeys(tokenizer.decode(ids) for ids in cuts)
        proposed.append([text for text in texts if text.strip() and "\ufffd" not in text] or [" "])
    return proposed


@torch.no_grad()
def weigh(model: Transformer, tokenizer: Tokenizer, gap: Gap, proposed: Sequence[str]) -> list[Filling]:
    """The proposals, the most probable first, by the probability of the text around and including each."""
    room = model.config.context_length - 4 * MOST_TOKENS - LOOKED_AHEAD
    before = tokenizer.decode(tokenizer.encode(gap.before)[-room:])
    after = tokenizer.decode(tokenizer.encode(gap.after)[:LOOKED_AHEAD])
    ending = [] if gap.after else [tokenizer.end_of_text]
    whole = [[*tokenizer.opening, *tokenizer.encode(before + filling + after), *ending] for filling in proposed]
    shared = min(common_beginning(whole), min(map(len, whole)) - 1)
    start = whole[0][:shared] or [tokenizer.end_of_text]
    rest = [ids[shared:] for ids in whole]
    answers = pack_answers([start] * len(rest), rest, model.config.context_length, tokenizer.pad)
    answers = answers.to(model.norm.weight.device)
    logprobs = torch.zeros(len(rest), device=answers.tokens.device)
    shares = logprobs.index_add(0, answers.owners, answer_logprobs(model, answers)).softmax(-1).tolist()
    return sorted((Filling(*pair) for pair in zip(proposed, shares, strict=True)), key=lambda f: -f.probability)


def common_beginning(rows: Sequence[Sequence[int]]) -> int:
    """How many of their first items all rows share."""
    columns = zip(*rows, strict=False)  # as far as the shortest reaches
    return next((place for place, items in enumerate(columns) if len(set(items)) > 1), min(map(len, rows)))
