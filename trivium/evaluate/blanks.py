"""How often a left-out word is filled in exactly."""

from collections.abc import Sequence

from trivium.generate.engine import Request, generate
from trivium.generate.sampling import Sampling
from trivium.model.transformer import Transformer
from trivium.text.blanks import Blank, prompt
from trivium.text.tokenizer import Tokenizer

MOST_TOKENS = 8  # a longer filling is not the word


def blank_accuracy(model: Transformer, tokenizer: Tokenizer, blanks: Sequence[Blank]) -> float:
    """Share of the blanks whose most probable filling is the word that stood there, 0 to 1."""
    requests = [Request(prompt(blank.prefix, blank.suffix, tokenizer).tolist(), seed=0) for blank in blanks]
    greedy = Sampling(temperature=0, max_new_tokens=MOST_TOKENS)
    fillings = generate(model, requests, greedy, stop=[tokenizer.end_of_text])
    right = [tokenizer.decode(filling.tokens) == blank.answer for filling, blank in zip(fillings, blanks, strict=True)]
    return sum(right) / len(right)
