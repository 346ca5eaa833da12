import time

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trivium.batch import TokenBatch
from trivium.errors import ConfigError, DataError
from trivium.text import planning
from trivium.text.packing import PackedRows, microbatches, mixed
from trivium.text.planning import Cut, plan_rows

PAD = 0
LENGTHS = np.random.default_rng(0).integers(1, 40, 60)


def fetch(epoch, item, start, stop):
    """Token 1000 * item + position + 1, every third not a target."""
    ids = np.arange(start, stop, dtype=np.int32) + 1000 * item + 1
    return ids, ids % 3 != 0


def packed(lengths=LENGTHS, **changes):
    settings = {"row_length": 32, "seed": 5, "pad": PAD} | changes
    return PackedRows(lengths, fetch, **settings)


def cut(lengths, limits):
    """All pieces, in order."""
    pieces = Cut(np.array(lengths), np.array(limits), 1)
    return pieces.pieces(np.arange(len(pieces)))


def same(one, other):
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@given(st.lists(st.integers(0, 50), min_size=1), st.integers(1, 20))
def test_pieces_cover_every_item_once_and_in_order(lengths, limit):
    pieces = cut(lengths, limit)
    covered = [(i, p) for i, start, stop in zip(*pieces, strict=True) for p in range(start, stop)]
    assert covered == [(i, p) for i, length in enumerate(lengths) for p in range(length)]
    assert all(stop - start <= limit for start, stop in zip(pieces.start, pieces.stop, strict=True))
    assert len(pieces.item) == sum(-(-length // limit) for length in lengths)


@given(st.lists(st.integers(1, 30), min_size=1, max_size=60), st.randoms(use_true_random=False))
def test_every_segment_is_in_one_row_and_every_row_fits(lengths, random):
    order = np.array(random.sample(range(len(lengths)), len(lengths)))
    plan = plan_rows(np.array(lengths), 30, order)
    assert sorted(plan.segments.tolist()) == list(range(len(lengths)))
    rows = [plan.segments[a:b] for a, b in zip(plan.bounds, plan.bounds[1:], strict=False)]
    assert all(len(row) >= 1 and np.array(lengths)[row].sum() <= 30 for row in rows)


def test_a_row_is_the_oldest_segment_then_the_longest_that_fit():
    plan = plan_rows(np.array([5, 6, 4, 3, 1, 9]), 10, np.arange(6))
    assert plan.segments.tolist() == [0, 2, 4, 1, 3, 5]
    assert plan.bounds.tolist() == [0, 3, 5, 6]


def test_of_equally_long_segments_the_older_is_taken():
    assert plan_rows(np.array([6, 4, 4, 4]), 10, np.array([0, 3, 1, 2])).segments.tolist() == [0, 3, 1, 2]


def test_less_than_three_percent_is_padding_and_ten_times_the_segments_take_about_ten_times_as_long():
    seconds = {}
    for count in (10_000, 100_000):
        generator = np.random.default_rng(1)
        pieces = cut(generator.lognormal(np.log(1024 / 3), 0.7, count).astype(np.int64) + 1, 1024)
        sizes = pieces.stop - pieces.start
        began = time.process_time()
        plan = plan_rows(sizes, 1024, generator.permutation(len(sizes)))
        seconds[count] = time.process_time() - began
        assert 1 - sizes.sum() / (len(plan) * 1024) < 0.03
    assert seconds[100_000] < 40 * seconds[10_000]  # a hundred times, if each looked at all others


def test_short_data_is_packed_tightly_as_well():
    lengths = np.random.default_rng(2).lognormal(np.log(1024 / 3), 0.5, 500).astype(np.int64).clip(1, 1024)
    plan = plan_rows(lengths, 1024, np.arange(500))
    assert 1 - lengths.sum() / (len(plan) * 1024) < 0.03


@given(st.lists(st.integers(1, 90), min_size=1, max_size=60), st.randoms(use_true_random=False))
def test_cutting_loses_and_doubles_nothing_and_leaves_hardly_a_gap(lengths, random):
    sizes = np.array(lengths)
    order = np.array(random.sample(range(len(lengths)), len(lengths)))
    plan = plan_rows(sizes, 90, order, may_cut=np.ones(len(lengths), dtype=np.bool_))
    covered = [[] for _ in lengths]
    for segment, start, size in zip(plan.segments, plan.starts, plan.sizes, strict=True):
        covered[segment] += range(start, start + size)
    assert [sorted(positions) for positions in covered] == [list(range(length)) for length in lengths]
    filled = np.add.reduceat(plan.sizes, plan.bounds[:-1])
    assert (filled <= 90).all()


def test_documents_that_leave_large_gaps_are_cut_to_fill_them():
    lengths = np.full(300, 180)
    whole = plan_rows(lengths, 256, np.arange(300))
    cut = plan_rows(lengths, 256, np.arange(300), may_cut=np.ones(300, dtype=np.bool_))
    assert len(whole) == 300
    assert lengths.sum() / (len(cut) * 256) > 0.98
    kept = plan_rows(lengths, 256, np.arange(300), may_cut=np.zeros(300, dtype=np.bool_))
    assert len(kept) == 300


@pytest.mark.parametrize("epoch", [0, 1])
def test_an_epoch_holds_every_token_exactly_once(epoch):
    rows = packed()
    first = sum(rows.rows_per_epoch(e) for e in range(epoch))
    tokens = np.concatenate([rows.row(first + i).tokens for i in range(rows.rows_per_epoch(epoch))])
    expected = [1000 * item + p + 1 for item, length in enumerate(LENGTHS) for p in range(length)]
    assert sorted(tokens[tokens != PAD].tolist()) == expected


def test_epochs_differ_in_order():
    rows = packed()
    second = rows.rows_per_epoch(0)
    assert any(rows.row(i).tokens.tolist() != rows.row(second + i).tokens.tolist() for i in range(3))


def test_a_fresh_object_gives_any_step_without_the_ones_before():
    rows = packed()
    batches = [rows.batch(step, 4) for step in range(40)]
    assert rows.rows_per_epoch(0) < 80  # the steps reach into a third epoch
    for step in (0, 7, 23, 39):
        assert same(packed().batch(step, 4), batches[step])
    for step in (39, 3, 21):
        assert same(rows.batch(step, 4), batches[step])


def test_another_seed_gives_another_order():
    assert not same(packed().batch(0, 4), packed(seed=6).batch(0, 4))


@pytest.mark.parametrize("ranks", [1, 2, 4])
@pytest.mark.parametrize("microbatch_rows", [1, 3, 8])
def test_any_number_of_ranks_and_microbatches_see_the_same_rows(ranks, microbatch_rows):
    rows = packed()
    whole = rows.batch(5, 8)
    for rank in range(ranks):
        parts = microbatches(rows.row, 5, rows_per_step=8, rank=rank, ranks=ranks, microbatch_rows=microbatch_rows)
        assert len(parts) == -(-8 // ranks // microbatch_rows)
        joined = TokenBatch(*(torch.cat(column) for column in zip(*parts, strict=True)))
        assert same(joined, TokenBatch(*(column[rank::ranks] for column in whole)))


@pytest.mark.parametrize("share", [0.0, 0.1, 0.37, 1.0])
def test_mixed_rows_are_all_rows_of_both_in_order_and_evenly_spread(share):
    row = mixed(lambda index: ("main", index), lambda index: ("other", index), share)
    rows = [row(index) for index in range(300)]
    for name in ("main", "other"):
        numbers = [number for stream, number in rows if stream == name]
        assert numbers == list(range(len(numbers)))
    for end in range(1, 301):
        assert abs(sum(stream == "other" for stream, _ in rows[:end]) - share * end) < 1


def test_a_row_by_hand():
    rows = packed(np.array([3, 2]), row_length=7)
    row = rows.row(0)
    first = row.tokens[0] // 1000
    assert row.documents.tolist() == ([0, 0, 0, 1, 1, -1, -1] if first == 0 else [0, 0, 1, 1, 1, -1, -1])
    assert row.positions.tolist() == ([0, 1, 2, 0, 1, 0, 1] if first == 0 else [0, 1, 0, 1, 2, 0, 1])
    item_0, item_1 = ([1, 2, 3], [1001, 1002])
    assert row.tokens.tolist() == (item_0 + item_1 if first == 0 else item_1 + item_0) + [PAD, PAD]
    targets = dict(
        zip(row.tokens.tolist(), zip(row.targets.tolist(), row.supervised.tolist(), strict=True), strict=True)
    )
    assert targets[1] == (2, True)
    assert targets[2] == (3, False)  # fetch says that 3 is no target
    assert targets[3][1] is False  # the end of a segment
    assert targets[1001] == (1002, False)
    assert targets[1002][1] is False


def test_a_target_is_the_next_token_of_the_same_segment_and_counts_where_fetch_says_so():
    batch = packed().batch(0, 8)
    assert batch.tokens.shape == (8, 32)
    next_is_same = batch.documents[:, :-1] == batch.documents[:, 1:]
    real = batch.documents[:, :-1] >= 0
    inside = next_is_same & real
    assert torch.equal(batch.targets[:, :-1][inside], batch.tokens[:, 1:][inside])
    expected = torch.zeros_like(batch.supervised)
    expected[:, :-1] = inside & (batch.tokens[:, 1:] % 3 != 0)
    assert torch.equal(batch.supervised, expected)
    assert batch.count == expected.sum()


def test_positions_start_anew_at_each_segment_and_padding_is_a_document_of_its_own():
    batch = packed(row_length=41).batch(0, 8)
    assert torch.equal(batch.documents < 0, batch.tokens == PAD)
    for documents, positions in zip(batch.documents, batch.positions, strict=True):
        for number in documents.unique():
            here = positions[documents == number]
            assert torch.equal(here, torch.arange(len(here)))


def test_all_columns_have_the_types_a_batch_promises():
    batch = packed().batch(0, 2)
    types = (torch.int64, torch.int64, torch.bool, torch.int64, torch.int64)
    assert tuple(column.dtype for column in batch) == types


def lengthened(epoch, item, start, stop):
    ids, supervised = fetch(epoch, item, start, stop)
    extra = 3 if (item + epoch) % 2 else -1
    return (np.append(ids, [7] * extra), np.append(supervised, [True] * extra)) if extra > 0 else (ids, supervised)


def test_room_is_kept_for_segments_that_fetch_lengthens():
    def slack(epoch):
        return np.where((np.arange(len(LENGTHS)) + epoch) % 2, 3, 0)

    rows = PackedRows(LENGTHS, lengthened, row_length=32, seed=1, pad=PAD, slack=slack)
    for epoch in range(2):
        pieces = cut(LENGTHS, 32 - slack(epoch))
        first = sum(rows.rows_per_epoch(e) for e in range(epoch))
        documents = [rows.row(first + i).documents for i in range(rows.rows_per_epoch(epoch))]
        real = sum((d >= 0).sum() for d in documents)
        assert real == LENGTHS.sum() + slack(epoch)[pieces.item].sum()


def test_a_segment_shorter_than_planned_leaves_padding():
    def shortened(epoch, item, start, stop):
        return tuple(column[:-1] for column in fetch(epoch, item, start, stop))

    rows = PackedRows(np.array([5, 5]), shortened, row_length=10, seed=1, pad=PAD)
    assert rows.row(0).documents.tolist() == [0] * 4 + [1] * 4 + [-1] * 2
    assert rows.row(0).supervised[8:].tolist() == [False, False]


def test_rows_that_ranks_cannot_share_evenly_are_refused():
    with pytest.raises(ConfigError, match="rows_per_step = 7: must divide among 2 ranks; try 6"):
        microbatches(packed().row, 0, rows_per_step=7, rank=0, ranks=2, microbatch_rows=1)


def test_data_without_a_token_is_refused():
    with pytest.raises(DataError, match="there is not one token to learn from"):
        packed(np.array([0, 0]))
    with pytest.raises(DataError, match="there is not one token to learn from"):
        packed(np.array([], dtype=np.int64))


def test_a_row_without_room_for_a_target_is_refused():
    with pytest.raises(ConfigError, match="row_length = 1: a token and its target need 2 positions"):
        packed(row_length=1)
    with pytest.raises(ConfigError, match="context_length = 8: must exceed the 8 tokens beside the text"):
        packed(row_length=8, slack=lambda epoch: np.full(len(LENGTHS), 8)).row(0)


@pytest.mark.parametrize("weight", [0.3, 1.0, 2.5])
def test_over_the_epochs_an_item_comes_as_often_as_its_weight_says_and_never_far_from_it(weight):
    rows = packed(np.full(200, 4), row_length=16, weights=np.full(200, weight))
    per_epoch = [rows.rows_per_epoch(epoch) * 4 for epoch in range(10)]
    assert sum(per_epoch) == pytest.approx(2000 * weight, abs=110)
    for so_far, total in enumerate(np.cumsum(per_epoch), start=1):
        assert abs(total - 200 * weight * so_far) < 60


def times_seen(epochs, **settings):
    """(epochs, items) how often each item stands in an epoch."""
    seen = np.zeros((epochs, len(LENGTHS)), dtype=int)

    def counting(epoch, item, start, stop):
        seen[epoch, item] += start == 0
        return fetch(epoch, item, start, stop)

    rows = PackedRows(LENGTHS, counting, row_length=40, seed=5, pad=PAD, **settings)
    for index in range(sum(rows.rows_per_epoch(epoch) for epoch in range(epochs))):
        rows.row(index)
    return seen


def test_each_item_comes_its_own_number_of_times_spread_over_the_epochs():
    weights = np.resize([0.25, 0.5, 1, 2, 2.5], len(LENGTHS))
    seen = times_seen(8, weights=weights)
    real = LENGTHS > 0
    assert (np.abs(seen.sum(0) - 8 * weights)[real] < 1e-9).all()
    assert (seen.max(0) - seen.min(0) <= 1).all()
    halves = seen[:, real & (weights == 0.5)]
    assert 0 < halves[0].mean() < 1  # not all of them in the same epochs


def test_weights_of_one_change_no_row():
    plain, weighed = packed(), packed(weights=np.ones(len(LENGTHS)))
    for index in range(30):
        assert all((a == b).all() for a, b in zip(plain.row(index), weighed.row(index), strict=True))


def tokens_of(rows):
    return sorted(np.concatenate([row.tokens[row.documents >= 0] for row in rows]).tolist())


def test_in_blocks_every_token_still_comes_once_and_any_row_can_be_asked_for(monkeypatch):
    whole = packed(row_length=40)
    tokens = tokens_of(whole.row(index) for index in range(whole.rows_per_epoch(0)))
    monkeypatch.setattr("trivium.text.planning._BLOCK", 7)
    rows = packed(row_length=40)
    count = rows.rows_per_epoch(0)
    in_order = [rows.row(index) for index in range(2 * count)]
    assert tokens_of(in_order[:count]) == tokens
    for index in (count - 1, 0, count, 3):
        assert (packed(row_length=40).row(index).tokens == in_order[index].tokens).all()


def test_only_the_blocks_up_to_a_row_are_planned(monkeypatch):
    planned, plan = [], planning.plan_rows
    monkeypatch.setattr(planning, "_BLOCK", 7)
    monkeypatch.setattr(planning, "plan_rows", lambda *a, **k: planned.append(len(a[0])) or plan(*a, **k))
    rows = packed(row_length=40)
    rows.row(0)
    assert planned == [7]
    rows.row(rows.rows_per_epoch(0) - 1)
    assert sum(planned) >= len(LENGTHS[LENGTHS > 0])
