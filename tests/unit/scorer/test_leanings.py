"""What views tell of a user, in training and in serving."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.domain.errors import ArtifactError
from models.domain.events import KINDS
from models.scorer.features import category_rows
from models.scorer.interface import HistoryTable
from models.scorer.leanings import (
    PRIOR_VIEWS,
    SHRINK,
    LeaningTable,
    label_leanings,
    leaning,
    no_leanings,
    stored_leanings,
    view_shares,
)
from models.scorer.sequences import Dataset, Labels

VIEW, CLICK = KINDS.index("view"), KINDS.index("click")
CATEGORIES = 6


def labels(user, position, category, segment):
    n = len(user)
    zeros, flags, ones = np.zeros(n, np.int64), np.zeros(n, np.bool_), np.ones(n, np.float32)
    columns = (np.array(x, np.int64) for x in (user, position))
    of, at = np.array(category, np.int64), np.array(segment, np.int64)
    return Labels(*columns, zeros, of, zeros, flags, flags, zeros, ones, at, zeros)


def dataset(lengths, kind, category, shown):
    zeros = np.zeros(len(kind), np.int64)
    events = zeros, np.array(category, np.int64), np.array(kind, np.int64), zeros, zeros, zeros, zeros > 0
    offsets = np.concatenate(([0], np.cumsum(lengths)))
    return Dataset(offsets, *events, np.zeros(1, np.int64), np.zeros((1, 0), np.float32), shown)


def test_who_looks_more_often_than_their_segment_leans_towards_a_category_and_who_looks_less_away():
    assert leaning(6, 10, 0.2) == pytest.approx(np.log((6 + SHRINK) / (2 + SHRINK)))
    assert leaning(0, 10, 0.2) < 0 == leaning(2, 10, 0.2) == leaning(0, 0, 0.2)


def test_a_category_of_which_nothing_is_known_tells_nothing():
    assert leaning(40, 40, 0.0) == 0


def test_shares_are_those_of_the_segments_views_drawn_towards_everyones():
    kind, category = [VIEW] * 4 + [CLICK] + [VIEW] * 2, [1, 1, 1, 2, 5, 3, 0]
    shares = view_shares(
        dataset([4, 3], kind, category, labels([0, 1], [0, 0], [1, 1], [0, 1])), 2, CATEGORIES
    )
    everyone = np.array([0, 3, 1, 1, 0, 0]) / 5  # neither clicks nor views of no category count
    np.testing.assert_allclose(shares[2], everyone, rtol=1e-6)
    first = (np.array([0, 3, 1, 0, 0, 0]) + PRIOR_VIEWS * everyone) / (4 + PRIOR_VIEWS)
    np.testing.assert_allclose(shares[0], first, rtol=1e-6)
    assert shares.dtype == np.float32 and (shares[:, 4:] == 0).all()


def test_a_log_without_views_has_no_shares():
    none = dataset([2], [CLICK, CLICK], [1, 2], labels([0], [1], [1], [0]))
    assert not view_shares(none, 1, CATEGORIES).any()


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1), events=st.integers(0, 60), length=st.integers(1, 30),
    candidates=st.integers(1, 8), shrink=st.sampled_from([0.5, 4.0]),
)  # fmt: skip
def test_serving_adds_what_training_weighed_event_by_event(seed, events, length, candidates, shrink):
    rng = np.random.default_rng(seed)
    kind = rng.choice([VIEW, CLICK, KINDS.index("swipe")], events)
    key = rng.choice(np.array([0, 11, 12, 13, 14, 15, 16], np.uint64), events)
    category = category_rows(key, CATEGORIES)
    shares = rng.dirichlet(np.ones(CATEGORIES), 3).astype(np.float32)
    table = LeaningTable(shares, 0.7, shrink)
    of_ads = rng.integers(0, CATEGORIES, candidates)
    history = HistoryTable.empty(2, length)
    for n in range(events + 1):
        segment = int(rng.integers(0, 3))
        asked = labels([0] * candidates, [n] * candidates, of_ads, [segment] * candidates)
        data = dataset([events], kind, category, asked)
        told = 0.7 * label_leanings(shares, data, asked, length, shrink)
        click, conversion = np.zeros((2, 1, candidates), np.float32)
        shown = np.arange(candidates, dtype=np.int32)[None]
        where = np.array([1]), np.array([segment]), of_ads, length
        table.add(click, conversion, shown, 0.5, history, *where)
        np.testing.assert_allclose(click[0], told, atol=1e-6)
        np.testing.assert_allclose(conversion[0], 0.5 * told, atol=1e-6)
        if n < events:
            history.kind[1, n % length], history.category_key[1, n % length] = kind[n], key[n]
            history.count[1] += 1


def test_an_empty_place_gets_nothing_and_a_user_nothing_of_another_ones_views():
    history = HistoryTable.empty(2, 4)
    history.kind[:], history.category_key[:], history.count[:] = VIEW, 11, (4, 0)
    table = LeaningTable(np.full((1, CATEGORIES), 1 / CATEGORIES, np.float32), 1.0)
    own = int(category_rows(np.array([11], np.uint64), CATEGORIES)[0])
    click = np.array([[0.0, -np.inf], [0.0, -np.inf]], np.float32)
    candidates, rows = np.array([[0, -1], [0, -1]], np.int32), np.arange(2)
    table.add(click, click.copy(), candidates, 0.0, history, rows, rows * 0, np.array([own]), 4)
    assert click[0, 0] > 0 == click[1, 0]
    assert np.isneginf(click[:, 1]).all()


def test_a_table_comes_back_from_the_tensors_of_an_artifact_and_one_without_weight_is_not_kept():
    table = LeaningTable(np.full((3, CATEGORIES), 0.1, np.float32), 0.5, 2.0)
    again = stored_leanings(table.tensors(), 3, CATEGORIES)
    assert again.weight == 0.5 and again.shrink == 2.0 and (again.shares == table.shares).all()
    assert LeaningTable(table.shares, 0.0).tensors() == {}
    assert stored_leanings({}, 3, CATEGORIES).weight == no_leanings().weight == 0


def test_a_table_that_cannot_be_is_refused():
    good = np.full((1, 2), 0.5, np.float32)
    for shares, weight in ((good * 2, 1.0), (-good, 1.0), (good * np.nan, 1.0), (good, -1.0), (good, np.nan)):
        with pytest.raises(ArtifactError, match="leaning table"):
            LeaningTable(shares, weight)
    with pytest.raises(ArtifactError, match="shrink 0"):
        LeaningTable(good, 1.0, 0.0)
    with pytest.raises(ArtifactError, match="view_shares"):
        stored_leanings(LeaningTable(good, 1.0).tensors(), 1, 3)
