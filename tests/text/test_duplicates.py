"""Groups of documents that repeat each other."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trivium.text import duplicates
from trivium.text.duplicates import Signatures, first_alike, shingles, signature, unite

WORDS = [f"word{n}" for n in range(400)]


def text(seed: int, count: int = 200) -> list[str]:
    return [WORDS[i] for i in np.random.Generator(np.random.Philox(seed)).integers(0, len(WORDS), count)]


def jaccard(one: str, other: str) -> float:
    """Of the runs of words themselves."""
    runs = [
        {" ".join(words[i : i + duplicates.SHINGLE]) for i in range(max(1, len(words) - duplicates.SHINGLE + 1))}
        for words in (one.split(), other.split())
    ]
    return len(runs[0] & runs[1]) / len(runs[0] | runs[1])


def grouped(folder: Path, texts: list[str], similarity: float) -> list[int]:
    roots = np.arange(len(texts))
    with Signatures(folder) as signatures:
        for each in texts:
            signatures.add(each)
        signatures.join(roots, similarity)
    assert list(folder.iterdir()) == []
    return roots.tolist()


def test_equal_runs_of_words_have_equal_hashes_wherever_they_stand() -> None:
    whole, inner = shingles("one two three four five six seven"), shingles("three four five six seven")
    assert len(whole) == 3
    assert whole[2] == inner[0]
    assert len(set(whole.tolist())) == 3


def test_a_text_of_fewer_words_is_one_run_and_order_matters() -> None:
    assert len(shingles("two words")) == len(shingles("")) == 1
    assert shingles("two words")[0] != shingles("words two")[0]


@given(st.text(max_size=300), st.text(max_size=300))
def test_hashes_agree_exactly_where_the_runs_do(one: str, other: str) -> None:
    one, other = (" ".join(each.casefold().split()) for each in (one, other))
    hashes = [set(shingles(each).tolist()) for each in (one, other)]
    if all(len(each.encode()) <= duplicates._PLACES and each for each in (one, other)):
        assert len(hashes[0] & hashes[1]) / len(hashes[0] | hashes[1]) == pytest.approx(jaccard(one, other))


@pytest.mark.parametrize("changed", [0, 4, 20, 80])
def test_signatures_estimate_how_much_two_texts_share(changed: int) -> None:
    words = text(1, 600)
    other = words.copy()
    for i in np.random.Generator(np.random.Philox(2)).choice(600, changed, replace=False):
        other[i] = "another"
    one, two = " ".join(words), " ".join(other)
    assert float((signature(one) == signature(two)).mean()) == pytest.approx(jaccard(one, two), abs=0.1)


def test_near_texts_come_together_and_others_stay_apart(tmp_path: Path) -> None:
    """Of 300 texts each has a version that shares nine tenths with it, and one that shares half."""
    texts = [" ".join(text(n)) for n in range(300)]
    near = [" ".join([*text(n)[:195], "the", "end"]) for n in range(300)]
    far = [" ".join([*text(n)[:130], *text(n + 1000)[130:]]) for n in range(300)]
    assert min(map(jaccard, texts, near)) > 0.93
    assert max(map(jaccard, texts, far)) < 0.6
    roots = grouped(tmp_path, texts + near + far, 0.8)
    assert roots == [*range(300), *range(300), *range(600, 900)]


def test_texts_without_spaces_are_compared_by_their_letters(tmp_path: Path) -> None:
    """Chinese, of which one letter in a paragraph was changed; by paragraphs as words nothing would be near."""
    draw = np.random.Generator(np.random.Philox(3))
    first, other = ("".join(map(chr, draw.integers(0x4E00, 0x5000, 400))) for _ in range(2))
    changed = first[:200] + "字" + first[201:]
    assert grouped(tmp_path, [first, other, changed], 0.8) == [0, 1, 0]
    assert len(shingles("一 " + "二" * 99)) == 96


def test_more_texts_than_a_block_are_compared_across_its_border(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(duplicates, "BLOCK", 4)
    monkeypatch.setattr(duplicates, "COMPARED", 3)
    texts = [" ".join(text(n)) for n in range(7)]
    assert grouped(tmp_path, texts + texts + texts, 0.9) == [*range(7)] * 3


def test_no_texts_are_no_groups(tmp_path: Path) -> None:
    assert grouped(tmp_path, [], 0.8) == []


@given(st.lists(st.tuples(st.integers(0, 19), st.integers(0, 19)), max_size=30))
def test_groups_are_those_that_pairs_lead_through(pairs: list[tuple[int, int]]) -> None:
    roots = np.arange(20)
    unite(roots, np.array([a for a, _ in pairs], dtype=np.int64), np.array([b for _, b in pairs], dtype=np.int64))
    reached = [{n} for n in range(20)]
    for _ in range(20):  # until nothing more is reached
        for a, b in pairs:
            reached[a] |= reached[b]
            reached[b] |= reached[a]
    assert roots.tolist() == [min(each) for each in reached]


def test_equal_keys_point_to_the_first_that_has_them() -> None:
    assert first_alike(np.array([7, 3, 7, 3, 9], dtype=np.uint64)).tolist() == [0, 1, 0, 1, 4]
