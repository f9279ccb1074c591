import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from models.scorer.batches import Pieces, cut, plan, tails
from models.scorer.sequences import Dataset, Labels


def dataset(lengths, targets=None, labels=None):
    offsets = np.concatenate(([0], np.cumsum(lengths))).astype(np.int64)
    ad = np.arange(1, offsets[-1] + 1)
    zeros = np.zeros_like(ad)
    target = np.ones(len(ad), np.bool_) if targets is None else np.array(targets)
    rows = len(ad) + 1
    content = np.zeros((rows, 0), np.float32)
    return Dataset(
        offsets, ad, zeros, zeros, zeros, zeros, zeros, target, np.zeros(rows, np.int64), content,
        Labels.none() if labels is None else labels,
    )  # fmt: skip


def labels(user, position):
    n = len(user)
    zeros, flags = np.zeros(n, np.int64), np.zeros(n, np.bool_)
    mature = np.ones(n, np.float32)
    return Labels(
        np.array(user), np.array(position), zeros, zeros, zeros, flags, flags, zeros, mature, zeros, zeros
    )


lengths_strategy = st.lists(st.integers(0, 30), min_size=1, max_size=12).filter(lambda x: sum(x) > 0)


@given(lengths=lengths_strategy, piece=st.integers(1, 9), seed=st.integers(0, 99))
def test_pieces_hold_every_event_once_and_never_two_users(lengths, piece, seed):
    data = dataset(lengths)
    start, stop = cut(data.offsets, piece, np.random.default_rng(seed))
    places = np.concatenate([np.arange(a, b) for a, b in zip(start, stop, strict=True)])
    assert sorted(places) == list(range(sum(lengths)))
    user = np.repeat(np.arange(len(lengths)), lengths)
    assert all(user[a] == user[b - 1] for a, b in zip(start, stop, strict=True))
    assert (stop - start).max() <= piece


@given(sizes=st.lists(st.integers(1, 50), min_size=1, max_size=60), seed=st.integers(0, 99))
def test_batches_hold_every_piece_once_within_the_token_budget(sizes, seed):
    length = np.array(sizes)
    batches = plan(length, 64, np.random.default_rng(seed))
    assert sorted(np.concatenate(batches)) == list(range(len(sizes)))
    assert all(len(rows) * length[rows].max() <= 64 for rows in batches)


@settings(max_examples=50)
@given(lengths=lengths_strategy, piece=st.integers(2, 9), seed=st.integers(0, 99))
def test_an_epoch_foresees_every_event_once_from_the_event_before_it(lengths, piece, seed):
    data = dataset(lengths)
    foreseen = []
    for batch in Pieces(data, 8).epoch(piece, 16, np.random.default_rng(seed)):
        before, target = batch.events.ad[batch.wanted], batch.target[batch.wanted]
        assert (target == before + 1).all()
        foreseen += target.tolist() + batch.first.tolist()
    assert sorted(foreseen) == data.ad.tolist()


def test_events_that_are_no_targets_are_read_but_not_foreseen():
    data = dataset([4], targets=[False, True, False, True])
    (batch,) = Pieces(data, 8).epoch(10, 20, np.random.default_rng(0))
    assert batch.target[batch.wanted].tolist() == [2, 4]
    assert batch.events.ad.tolist() == [[1, 2, 3, 4]]
    assert batch.first.tolist() == []


@settings(max_examples=50)
@given(lengths=lengths_strategy, seed=st.integers(0, 99), data=st.data())
def test_every_impression_comes_with_the_event_before_it(lengths, seed, data):
    users = [u for u, n in enumerate(lengths) for _ in range(2)]
    positions = [data.draw(st.integers(0, lengths[u])) for u in users]
    events = dataset(lengths, labels=labels(users, positions))
    found = []
    for batch in Pieces(events, 10_000).epoch(5, 16, np.random.default_rng(seed)):
        shown = batch.shown
        for label, row, end in zip(shown.label, shown.row.tolist(), shown.end.tolist(), strict=True):
            if end < 0:
                assert positions[label] == 0
                continue
            expected = events.offsets[users[label]] + positions[label]
            assert batch.events.ad[row, end] == expected  # ad numbers are places + 1
            found.append(label)
    assert sorted(found) == [i for i, p in enumerate(positions) if p > 0]


def test_no_more_impressions_than_asked_for_go_into_a_batch():
    data = dataset([5], labels=labels([0] * 50, [3] * 50))
    (batch,) = Pieces(data, 7).epoch(10, 20, np.random.default_rng(0))
    assert len(set(batch.shown.label.tolist())) == 7


def test_tails_are_the_last_events_left_aligned():
    events, count, _wait = tails(dataset([5, 0, 2]), np.array([0, 1, 2]), 3)
    assert count.tolist() == [3, 0, 2]
    assert events.ad.tolist() == [[3, 4, 5], [0, 0, 0], [6, 7, 0]]


def test_the_same_seed_gives_the_same_batches():
    data = dataset([20, 30, 7])
    one, two = (
        [b.events.ad.tolist() for b in Pieces(data, 8).epoch(6, 24, np.random.default_rng(5))]
        for _ in range(2)
    )
    assert one == two
