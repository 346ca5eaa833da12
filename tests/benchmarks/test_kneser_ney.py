"""The Kneser-Ney baseline: hand-worked numbers, sums of one, and parity with a slow dictionary of counts."""

import importlib.util
import json
import math
import sys
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest

from trivium.errors import ConfigError, DataError

PATH = Path(__file__).parents[2] / "benchmarks" / "kneser_ney.py"
spec = importlib.util.spec_from_file_location("benchmarks_kneser_ney", PATH)
kneser_ney = sys.modules["benchmarks_kneser_ney"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(kneser_ney)
KneserNey = kneser_ney.KneserNey

START = "start"


class SlowKneserNey:
    """The same equations, word for word, over dictionaries of tuples."""

    def __init__(self, order, vocab_size, documents):
        self.order, self.vocab_size = order, vocab_size
        seen = defaultdict(Counter)
        for document in documents:
            padded = [START, *map(int, document)]
            for end in range(1, len(padded)):
                for m in range(1, min(order, end + 1) + 1):
                    seen[m][tuple(padded[end - m + 1 : end + 1])] += 1
        self.counts = {m: self.adjusted(m, seen) for m in range(1, order + 1)}
        self.discounts = {m: self.estimated(Counter(c.values())) for m, c in self.counts.items()}

    def adjusted(self, m, seen):
        if m == self.order:
            return dict(seen[m])
        before = Counter(ngram[1:] for ngram in seen[m + 1])
        return {ngram: n if ngram[0] == START else before[ngram] for ngram, n in seen[m].items()}

    def estimated(self, n):
        if not (n[1] and n[2] and n[3]):
            return [0, 0.5, 1, 1.5]
        y = n[1] / (n[1] + 2 * n[2])
        found = [0] + [k - (k + 1) * y * n[k + 1] / n[k] for k in (1, 2, 3)]
        return found if min(found[1:]) > 0 else [0, 0.5, 1, 1.5]

    def probability(self, token, context):
        m = len(context) + 1
        lower = self.probability(token, context[1:]) if context else 1 / self.vocab_size
        after = {ngram[-1]: n for ngram, n in self.counts[m].items() if ngram[:-1] == context}
        total = sum(after.values())
        if not total:
            return lower
        discount = self.discounts[m]
        gamma = sum(discount[min(n, 3)] for n in after.values()) / total
        count = after.get(token, 0)
        return (count - discount[min(count, 3)]) / total + gamma * lower

    def token_logprobs(self, documents):
        found = []
        for document in documents:
            padded = [START, *map(int, document)]
            for end in range(1, len(padded)):
                context = tuple(padded[max(0, end - self.order + 1) : end])
                found.append(math.log(self.probability(padded[end], context)))
        return np.array(found)


def random_documents(seed, *, vocab_size, number, longest):
    """Skewed ids, so that some n-grams come back, in documents that are sometimes empty."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(0, longest + 1, number)
    return [(rng.random(size) ** 2 * vocab_size).astype(np.int32) for size in sizes]


@pytest.mark.parametrize("order", [1, 2, 3, 5])
@pytest.mark.parametrize(("vocab_size", "number", "longest"), [(4, 12, 40), (9, 60, 8), (30, 8, 200)])
def test_it_agrees_with_a_slow_dictionary_of_counts(order, vocab_size, number, longest):
    train = random_documents(1, vocab_size=vocab_size, number=number, longest=longest)
    held_out = random_documents(2, vocab_size=vocab_size, number=6, longest=30)
    fast = KneserNey(order, vocab_size=vocab_size).fit(train).token_logprobs(held_out)
    slow = SlowKneserNey(order, vocab_size, train).token_logprobs(held_out)
    np.testing.assert_allclose(fast, slow, rtol=1e-11)


@pytest.mark.parametrize("prefix", [[], [0], [2, 1], [0, 0, 1], [3, 1, 0, 0], [0, 1, 0, 2, 1, 0, 0], [5, 5, 5, 5, 5]])
def test_probabilities_sum_to_one_after_every_prefix(prefix):
    train = random_documents(3, vocab_size=5, number=40, longest=12)  # id 5 is never seen
    model = KneserNey(5, vocab_size=6).fit(train)
    whole = [np.array([*prefix, token]) for token in range(6)]
    total = sum(math.exp(model.token_logprobs([one])[-1]) for one in whole)
    assert total == pytest.approx(1, abs=1e-12)


def test_a_bigram_worked_by_hand():
    # Bigrams: (start, 0) twice, (0, 1) once, (0, 0) once; every discount is the fallback.
    # Tokens seen before 0: start and 0; before 1: 0. So c(0) = 2, c(1) = 1, removed 1.0 + 0.5 of a total of 3.
    model = KneserNey(2, vocab_size=3).fit([np.array([0, 1]), np.array([0, 0])])
    unigram = [1 / 3 + 0.5 / 3, 0.5 / 3 + 0.5 / 3, 0.5 / 3]
    first = 1 / 2 + 1 / 2 * unigram[0]  # (start, 0): (2 - 1) / 2, and 1.0 / 2 is left
    second = 0.5 / 2 + 1.0 / 2 * unigram[1]  # (0, 1): (1 - 0.5) / 2, and (0.5 + 0.5) / 2 is left
    third = unigram[2]  # nothing ever followed 1
    found = np.exp(model.token_logprobs([np.array([0, 1, 2])]))
    np.testing.assert_allclose(found, [first, second, third], rtol=1e-12)


def test_discounts_are_estimated_from_counts_of_counts():
    counts = np.repeat([0, 1, 2, 3, 4, 9], [5, 40, 10, 4, 2, 3])
    y = 40 / 60
    expected = (1 - 2 * y * 10 / 40, 2 - 3 * y * 4 / 10, 3 - 4 * y * 2 / 4)
    assert kneser_ney.discounts(counts) == pytest.approx(expected)


@pytest.mark.parametrize("repeats", [[0, 3, 3, 3], [9, 0, 3, 3], [9, 3, 0, 3], [100, 1, 9, 1]])
def test_discounts_that_cannot_be_estimated_are_the_fallback(repeats):
    assert kneser_ney.discounts(np.repeat([1, 2, 3, 4], repeats)) == kneser_ney.FALLBACK_DISCOUNTS


def test_given_leaves_out_the_first_tokens_and_changes_no_other():
    train = random_documents(4, vocab_size=6, number=20, longest=20)
    held_out = [np.array([1, 2, 3]), np.array([], np.int64), np.array([4]), np.array([0, 5])]
    model = KneserNey(5, vocab_size=6).fit(train)
    every = model.token_logprobs(held_out)
    np.testing.assert_array_equal(model.token_logprobs(held_out, given=1), every[[1, 2, 5]])
    assert model.logprob(held_out) == (every.sum(), 6)
    assert model.logprob(held_out, given=1).tokens == 3


def test_no_context_reaches_into_the_document_before():
    model = KneserNey(5, vocab_size=6).fit(random_documents(5, vocab_size=6, number=20, longest=20))
    one, other = np.array([1, 2, 3, 0]), np.array([2, 2, 1])
    together = model.token_logprobs([one, other])
    np.testing.assert_array_equal(together, np.concatenate([model.token_logprobs([d]) for d in (one, other)]))


def test_large_vocabularies_need_no_hash_and_lose_nothing():
    small = random_documents(6, vocab_size=50, number=20, longest=60)
    large = [document * 5000 + 7 for document in small]
    few = KneserNey(5, vocab_size=250_000).fit(small).logprob(small)
    many = KneserNey(5, vocab_size=250_000).fit(large).logprob(large)
    assert few == pytest.approx(many)


def test_a_generator_of_documents_fits_like_a_list():
    documents = random_documents(7, vocab_size=8, number=10, longest=20)
    from_list = KneserNey(vocab_size=8).fit(documents).logprob(documents)
    assert KneserNey(vocab_size=8).fit(iter(documents)).logprob(iter(documents)) == from_list


def test_bits_per_byte_are_the_nats_over_log_two_and_the_bytes():
    train = random_documents(8, vocab_size=8, number=10, longest=20)
    score = KneserNey(3, vocab_size=8).fit(train).logprob(train, given=1)
    found = kneser_ney.bits_per_byte(train, train, 100, 8, order=3, given=1)
    assert found == pytest.approx(-score.logprob / math.log(2) / 100)


def test_an_untrained_id_costs_more_than_a_trained_one_and_is_finite():
    model = KneserNey(3, vocab_size=4).fit([np.array([0, 1, 0, 1, 2])])
    trained, untrained = model.token_logprobs([np.array([0]), np.array([3])])
    assert -math.inf < untrained < trained


@pytest.mark.parametrize(
    ("documents", "message"),
    [
        ([], "training documents: there is no token"),
        ([np.array([], np.int64)], "training documents: there is no token"),
        ([np.array([1]), np.array([0, 4])], r"document 1: ids from 0 to 4; must lie in 0 to 3"),
        ([np.array([-1])], "document 0: ids from -1 to -1"),
        ([np.array([[1]])], r"document 0: shape \(1, 1\) of int64"),
        ([np.array([1.0])], r"document 0: shape \(1,\) of float64"),
    ],
)
def test_documents_that_cannot_be_counted_are_refused(documents, message):
    with pytest.raises(DataError, match=message):
        KneserNey(vocab_size=4).fit(documents)


def test_settings_that_make_no_model_are_refused():
    with pytest.raises(ConfigError, match="order = 0"):
        KneserNey(0, vocab_size=4)
    with pytest.raises(ConfigError, match="vocab_size = 0"):
        KneserNey(vocab_size=0)
    with pytest.raises(ConfigError, match="call fit first"):
        KneserNey(vocab_size=4).logprob([])
    with pytest.raises(ConfigError, match="given = -1"):
        KneserNey(vocab_size=4).fit([np.array([1])]).logprob([], given=-1)
    with pytest.raises(DataError, match="0 bytes"):
        kneser_ney.bits_per_byte([np.array([1])], [np.array([1])], 0, 4)


@pytest.fixture
def texts(tmp_path):
    train, held_out = tmp_path / "train.txt", tmp_path / "held_out.txt"
    train.write_text("the cat sat on the mat. " * 50)
    held_out.write_text("the cat sat on the cat. the mat sat.")
    return ["--train", str(train), "--held-out", str(held_out), "--vocab-size", "300"]


def test_the_command_prints_one_json_object(texts, capsys):
    assert kneser_ney.main([*texts, "--order", "1", "5", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["held_out_bytes"] == 36
    one, five = (row["bits_per_byte"] for row in result["orders"])
    assert 0 < five < one


def test_the_command_prints_a_table(texts, capsys):
    assert kneser_ney.main([*texts, "--quick"]) == 0
    assert "order   bits/byte   seconds\n    5" in capsys.readouterr().out


def test_a_missing_or_unreadable_file_exits_with_one_line(texts, tmp_path, capsys):
    assert kneser_ney.main([*texts, "--held-out", str(tmp_path / "none.txt")]) == 2
    assert "none.txt: no such file" in capsys.readouterr().err
    (tmp_path / "latin.txt").write_bytes(b"\xe9\xff")
    assert kneser_ney.main([*texts, "--held-out", str(tmp_path / "latin.txt")]) == 2
    assert "is not UTF-8" in capsys.readouterr().err
