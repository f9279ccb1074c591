"""The scorer without a model, and the index of a catalogue."""

import numpy as np
import pytest

from models.domain.catalogue import Ad, Catalogue
from models.domain.ids import key64
from models.scorer.ad_index import AdRows, catalogue_index
from models.scorer.interface import HistoryTable
from models.scorer.popularity import PopularityScorer


def catalogue_of(count, title=""):
    ads = [Ad(ad_id=f"ad-{i}", campaign_id="c", category=f"k{i % 3}", title=title) for i in range(count)]
    return Catalogue().upsert(ads)


def popular(*ad_ids):
    """A scorer that knows these ads, the most popular first."""
    keys = np.array([key64(a) for a in ad_ids], np.uint64)
    order = np.argsort(keys)
    log_popularity = np.concatenate([[-5], -order.astype(np.float32)]).astype(np.float32)
    return PopularityScorer(keys[order], log_popularity)


class RecordingTower:
    """A tower whose rows depend on the ad's id and title; remembers which ads it was asked for."""

    def __init__(self):
        self.asked = []

    def __call__(self, ads):
        self.asked.append([ad.ad_id for ad in ads])
        seeds = [key64(ad.ad_id + ad.title) for ad in ads]
        values = np.array([np.random.default_rng(s).standard_normal(41) for s in seeds], np.float32)
        values = values.reshape(len(ads), 41)
        known = np.arange(len(ads))
        return AdRows(
            values[:, :16].copy(), values[:, 16], values[:, 17:33], values[:, 33:], known, values[:, 40]
        )


def assert_same_rows(a, b):
    for name in ("vectors", "bias", "queries", "halves", "conversion"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
    np.testing.assert_array_equal(a.scan.codes, b.scan.codes)


def test_popularity_ranks_known_ads_first_and_unknown_ads_last():
    scorer = popular("ad-4", "ad-1")
    index = scorer.index(catalogue_of(6))
    users = scorer.encode(HistoryTable.empty(1, 1), np.array([0]), np.array([0]))
    words = np.array([[0b111111]], np.uint64)
    rows, _ = scorer.retrieve(users, index, np.zeros((1, 6), np.float32), np.zeros(1, np.int64), words, 3)
    assert rows.tolist() == [[4, 1, 0]]


def test_popularity_says_minus_infinity_of_no_candidate():
    scorer = popular("ad-4", "ad-1")
    history, rows = HistoryTable.empty(1, 1), np.array([0])
    index = scorer.index(catalogue_of(6))
    click, conversion = scorer.rank(
        history, rows, scorer.encode(history, rows, rows * 0), index, np.array([[1, -1]], np.int32)
    )
    assert click[0, 0] == pytest.approx(index.bias[1] - 4)
    assert np.isneginf([click[0, 1], conversion[0, 1]]).all()


def test_popularity_of_an_empty_catalogue_is_empty():
    scorer = PopularityScorer()
    index = scorer.index(Catalogue())
    click, _ = scorer.rank(
        HistoryTable.empty(1, 1),
        np.array([0]),
        np.zeros((1, 0), np.float32),
        index,
        np.full((1, 2), -1, np.int32),
    )
    assert np.isneginf(click).all()


def test_the_hash_of_a_popularity_scorer_names_its_content():
    assert popular("a", "b").model_hash == popular("a", "b").model_hash
    assert popular("a", "b").model_hash != popular("a", "c").model_hash


def test_only_ads_that_changed_are_computed_again():
    tower, before = RecordingTower(), catalogue_of(10)
    index = catalogue_index(before, tower, "m")
    after = before.upsert([Ad(ad_id="ad-3", campaign_id="c", title="new"), Ad(ad_id="x", campaign_id="c")])
    updated = catalogue_index(after, tower, "m", index)
    assert tower.asked[1:] == [["ad-3", "x"]]
    assert updated.catalogue_version == after.version
    assert_same_rows(updated, catalogue_index(after, tower, "m"))


def test_a_withdrawal_computes_nothing():
    tower, before = RecordingTower(), catalogue_of(10)
    index = catalogue_index(before, tower, "m")
    after = before.withdraw(["ad-3"])
    assert catalogue_index(after, tower, "m", index).catalogue_version == after.version
    assert len(tower.asked) == 1


@pytest.mark.parametrize("previous", ["another index", None])
def test_a_previous_index_of_another_kind_is_ignored(previous):
    tower = RecordingTower()
    assert_same_rows(
        catalogue_index(catalogue_of(3), tower, "m", previous), catalogue_index(catalogue_of(3), tower, "m")
    )


def test_a_previous_index_of_another_model_is_ignored():
    tower, catalogue = RecordingTower(), catalogue_of(3)
    catalogue_index(catalogue, tower, "new", catalogue_index(catalogue, tower, "old"))
    assert len(tower.asked) == 2


def test_a_smaller_catalogue_after_a_snapshot_is_indexed_whole():
    tower = RecordingTower()
    index = catalogue_index(catalogue_of(10), tower, "m")
    small = catalogue_of(4, title="other")
    assert_same_rows(catalogue_index(small, tower, "m", index), catalogue_index(small, tower, "m"))


def test_an_empty_catalogue_can_grow():
    tower = RecordingTower()
    index = catalogue_index(Catalogue(), tower, "m")
    assert len(index) == 0
    grown = catalogue_index(catalogue_of(70), tower, "m", index)
    assert_same_rows(grown, catalogue_index(catalogue_of(70), tower, "m"))
