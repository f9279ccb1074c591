"""The catalogue is a value: changes make new ones, and patched arrays equal those built anew."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.domain.catalogue import Ad, Catalogue
from models.domain.errors import ArtifactError

COLUMNS = (
    "keys",
    "category_keys",
    "bid_micros",
    "bid_type",
    "quality",
    "floor_micros",
    "campaign",
    "category",
)

ads = st.builds(
    Ad,
    ad_id=st.sampled_from([f"a{n}" for n in range(6)]),
    campaign_id=st.sampled_from(["c0", "c1", "c2"]),
    category=st.sampled_from(["", "shoes", "books"]),
    bid_micros=st.integers(0, 10**6),
    bid_type=st.sampled_from(["cpm", "cpc", "cpa"]),
)
changes = st.lists(st.lists(ads, min_size=1, max_size=4), min_size=1, max_size=5)


def ad(ad_id: str, **fields: object) -> Ad:
    return Ad(ad_id=ad_id, campaign_id=fields.pop("campaign_id", "c"), **fields)


def names(catalogue: Catalogue, column: str) -> list[str]:
    vocabulary = catalogue.campaigns if column == "campaign" else catalogue.categories
    return [vocabulary[code] for code in getattr(catalogue, column)]


@given(changes)
def test_patched_arrays_hold_what_arrays_built_anew_hold(upserts):
    patched = Catalogue()
    for upsert in upserts:
        for column in COLUMNS:
            getattr(patched, column)
        patched = patched.upsert(upsert)
    built = Catalogue(patched.ads, patched.active, patched.version)
    for column in COLUMNS[:-2]:
        np.testing.assert_array_equal(getattr(patched, column), getattr(built, column))
    for column in COLUMNS[-2:]:
        assert names(patched, column) == names(built, column)


@given(changes)
def test_equal_histories_give_equal_versions(upserts):
    one, other = Catalogue(), Catalogue()
    for upsert in upserts:
        one, other = one.upsert(upsert), other.upsert(upsert)
    assert one.version == other.version


def test_a_change_leaves_the_catalogue_it_came_from_as_it_was():
    before = Catalogue().upsert([ad("a")])
    after = before.upsert([ad("a", bid_micros=7), ad("b")])
    assert (len(before), before.ads[0].bid_micros) == (1, 1_000_000)
    assert (len(after), after.ads[0].bid_micros) == (2, 7)
    assert before.version != after.version


def test_a_withdrawn_ad_keeps_its_row_and_comes_back_when_it_is_sent_again():
    catalogue = Catalogue().upsert([ad("a"), ad("b")]).withdraw(["a", "unknown"])
    assert catalogue.active.tolist() == [False, True]
    assert catalogue.row_of == {"a": 0, "b": 1}
    assert catalogue.upsert([ad("a")]).active.tolist() == [True, True]


def test_a_snapshot_replaces_every_ad():
    catalogue = Catalogue().upsert([ad("old")]).replaced([ad("new")])
    assert [a.ad_id for a in catalogue.ads] == ["new"]
    assert catalogue.version.startswith("2-")


def test_an_ad_keeps_the_time_at_which_it_came_through_every_change():
    catalogue = Catalogue().upsert([ad("a")], 5).upsert([ad("a", title="x"), ad("b")], 7).withdraw(["a"])
    assert catalogue.first_ms.tolist() == [5, 7]
    assert catalogue.replaced([ad("new"), ad("a")], 9).first_ms.tolist() == [9, 5]
    assert Catalogue.from_bytes(catalogue.to_bytes()).first_ms.tolist() == [5, 7]


def test_the_same_ads_at_another_time_are_another_version():
    assert Catalogue().upsert([ad("a")], 5).version != Catalogue().upsert([ad("a")], 6).version
    assert Catalogue().replaced([ad("a")], 5).version != Catalogue().replaced([ad("a")], 6).version


def test_bytes_bring_back_the_same_catalogue():
    catalogue = Catalogue().upsert([ad("a", title="Ä"), ad("b")]).withdraw(["b"])
    back = Catalogue.from_bytes(catalogue.to_bytes())
    assert (back.ads, back.version, back.active.tolist()) == (catalogue.ads, catalogue.version, [True, False])


def test_damaged_bytes_are_an_artifact_error():
    with pytest.raises(ArtifactError, match="catalogue"):
        Catalogue.from_bytes(b'{"ads": 3}')
