"""Weights as arrays along a catalogue."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.domain.catalogue import Ad, Catalogue, Creative
from models.domain.events import Adjustments
from models.learning.compiled import CompiledWeights, WeightCache, compile_weights, recompile
from models.learning.priors import DEFAULT_PRIORS
from models.learning.weights import WeightTable

ARRAYS = ("ad", "ad_level", "campaign", "conversion", "segment_category")


CREATIVES = (Creative(creative_id="x0"), Creative(creative_id="x1"))


def catalogue(ads: int = 6) -> Catalogue:
    return Catalogue().upsert(
        [
            Ad(ad_id=f"a{i}", campaign_id=f"c{i % 3}", category=f"k{i % 2}", creatives=CREATIVES[: i % 3])
            for i in range(ads)
        ]
    )


CATALOGUE = catalogue()


def record(version, **kwargs) -> Adjustments:
    return Adjustments(id=f"v{version}", event_time=version, version=version, **kwargs)


def compiled_after(*records, ads=CATALOGUE) -> CompiledWeights:
    table = WeightTable()
    for each in records:
        table = table.apply(each).table
    return compile_weights(table, ads)


FULL = record(
    1,
    bias=(0.5, 0.01),
    ads={"a0": (1.0, 0.02), "a3": (-1.0, 0.03)},
    campaigns={"c0": (0.25, 0.04)},
    segment_categories={"s|k0": (0.125, 0.05), "t|k1": (9.0, 0.1)},
    conversions={"c0": (-0.3, 0.2)},
    position_logits=(0.0, -0.5, -1.0),
)
weights = st.tuples(st.floats(-5, 5), st.floats(0, 1))
PRIORS = DEFAULT_PRIORS


def named(n, prior, *prefixes):
    """Draw weights of keys of one prefix; some are the prior, which is what no weight is."""
    of_one = st.sampled_from(prefixes).map(lambda prefix: st.sampled_from([f"{prefix}{i}" for i in range(n)]))
    return of_one.flatmap(lambda keys: st.dictionaries(keys, weights | st.just((0.0, prior)), max_size=3))


changes = st.fixed_dictionaries(
    {
        "ads": named(9, PRIORS.ad, "a"),
        "campaigns": named(4, PRIORS.campaign, "c"),
        "segment_categories": named(3, PRIORS.segment_category, "s|k", "t|k"),
        "conversions": named(4, 0.0, "c"),
        "creatives": named(4, PRIORS.creative, "a0|x", "a4|x", "a5|x"),
        "segment_creatives": named(3, PRIORS.segment_creative, "s|a5|x", "u|a5|x", "s|a2|x"),
        "reset": st.sampled_from([False, False, False, True]),
    }
)


def test_the_situation_bias_is_the_sum_of_ad_campaign_and_segment_category():
    bias = compiled_after(FULL).situation_bias("s")
    np.testing.assert_allclose(bias, np.float32([1.375, 0, 0.125, -0.75, 0.125, 0]))
    assert bias.dtype == np.float32


def test_an_unknown_segment_gets_no_segment_category_part():
    np.testing.assert_allclose(compiled_after(FULL).situation_bias("nobody"), [1.25, 0, 0, -0.75, 0, 0])


def test_parts_explain_the_situation_bias_and_sum_the_variances():
    compiled = compiled_after(FULL)
    rows = np.array([[0, 3, -1], [5, 4, 0]], dtype=np.int32)
    parts = compiled.parts(rows, compiled.segment_rows(["s", "t"]))
    assert parts.ad.tolist() == [[1.0, -1.0, 0.0], [0.0, 0.0, 1.0]]
    assert parts.campaign.tolist() == [[0.25, 0.25, 0.0], [0.0, 0.0, 0.25]]
    assert parts.segment_category.tolist() == [[0.125, 0.0, 0.0], [9.0, 0.0, 0.0]]
    assert parts.variance[0, 0] == pytest.approx(0.01 + 0.02 + 0.04 + 0.05)
    assert parts.conversion.tolist() == [[-0.3, -0.3, 0.0], [0.0, 0.0, -0.3]]
    assert parts.variance[0, 2] == 0.0


def test_what_no_record_mentions_has_mean_zero_and_the_prior_variance():
    compiled = compile_weights(WeightTable(), CATALOGUE)
    parts = compiled.parts(np.array([[0]], dtype=np.int32), compiled.segment_rows(["s"]))
    p = DEFAULT_PRIORS
    assert parts.variance[0, 0] == pytest.approx(p.bias + p.ad + p.campaign + p.segment_category)
    assert parts.ad[0, 0] == 0 and compiled.bias == (0.0, p.bias)


def test_a_new_ad_starts_at_its_campaigns_weight_with_the_wider_variance():
    grown = CATALOGUE.upsert([Ad(ad_id="new", campaign_id="c0", category="k0")])
    compiled = compiled_after(FULL, ads=grown)
    parts = compiled.parts(np.array([[6, 0]], dtype=np.int32), compiled.segment_rows(["s"]))
    assert parts.ad[0, 0] == 0 and parts.campaign[0, 0] == 0.25
    assert parts.variance[0, 0] - parts.variance[0, 1] == pytest.approx(DEFAULT_PRIORS.ad - 0.02)


def test_weights_of_ads_the_catalogue_does_not_hold_wait_for_them():
    early = record(1, ads={"later": (1.0, 0.1)}, campaigns={"cx": (2.0, 0.1)})
    assert (compiled_after(early).ad[:, 0] == 0).all()
    grown = CATALOGUE.upsert([Ad(ad_id="later", campaign_id="cx")])
    assert compiled_after(early, ads=grown).situation_bias("s")[-1] == 3.0


@given(st.lists(changes, max_size=6))
@settings(max_examples=60, deadline=None)
def test_compiling_step_by_step_equals_compiling_from_nothing(steps):
    table = WeightTable()
    compiled = compile_weights(table, CATALOGUE)
    for n, change in enumerate(steps):
        step = record(n + 1, **change)
        table = table.apply(step).table
        compiled = recompile(compiled, table, step)
        fresh = compile_weights(table, CATALOGUE)
        for name in ARRAYS:
            assert (getattr(compiled, name) == getattr(fresh, name)).all()
        for mine, theirs in zip(compiled.by_segment, fresh.by_segment, strict=True):
            assert (mine == theirs).all()
        assert compiled.segments == fresh.segments
        assert (compiled.situation_bias("s") == fresh.situation_bias("s")).all()


def test_a_weight_that_is_the_prior_may_be_of_a_segment_that_nothing_else_is_known_of():
    compiled = compiled_after(FULL)
    step = record(2, segment_categories={"nobody|k0": (0.0, PRIORS.segment_category), "s|k1": (0.5, 0.01)})
    table = compiled.table.apply(step).table
    recompiled, fresh = recompile(compiled, table, step), compile_weights(table, CATALOGUE)
    assert recompiled.segments == fresh.segments and "nobody" not in fresh.segments
    assert (recompiled.segment_category == fresh.segment_category).all()


def test_recompiling_leaves_the_earlier_weights_as_they_were():
    compiled = compiled_after(FULL)
    before = compiled.situation_bias("s").copy()
    step = record(2, ads={"a0": (7.0, 0.1)})
    recompile(compiled, compiled.table.apply(step).table, step)
    assert (compiled.situation_bias("s") == before).all() and compiled.ad[0, 0] == 1.0


def test_partitions_share_one_table_and_one_compilation_through_the_cache():
    cache = WeightCache()
    one = cache.apply(WeightTable(), FULL).table
    two = cache.apply(WeightTable(), FULL).table
    assert one is two and cache.compile(one, CATALOGUE) is cache.compile(two, CATALOGUE)


def test_the_cache_never_hands_out_the_result_of_another_chain_or_catalogue():
    cache = WeightCache()
    other = cache.apply(WeightTable(), record(1, ads={"a0": (5.0, 0.1)})).table
    mine = cache.apply(WeightTable(), FULL).table
    assert mine.version == other.version and mine.ads != other.ads
    assert cache.compile(mine, CATALOGUE).situation_bias("s")[0] == np.float32(1.375)
    grown = CATALOGUE.upsert([Ad(ad_id="new", campaign_id="c0")])
    assert len(cache.compile(mine, grown).ad) == 7 and len(cache.compile(mine, CATALOGUE).ad) == 6


@given(st.lists(changes, min_size=1, max_size=8))
@settings(max_examples=30, deadline=None)
def test_the_cache_answers_as_if_it_were_not_there(steps):
    cache, cached, plain = WeightCache(size=2), WeightTable(), WeightTable()
    for n, change in enumerate(steps):
        step = record(n + 1, **change)
        cached, plain = cache.apply(cached, step).table, plain.apply(step).table
        assert cached.digest == plain.digest
        compiled, fresh = cache.compile(cached, CATALOGUE), compile_weights(plain, CATALOGUE)
        assert all((getattr(compiled, name) == getattr(fresh, name)).all() for name in ARRAYS)


def test_a_stale_record_is_reported_by_the_cache_too():
    table = WeightTable().apply(FULL).table
    applied = WeightCache().apply(table, FULL)
    assert applied.stale and applied.table is table


def test_an_empty_catalogue_compiles():
    compiled = compile_weights(WeightTable().apply(FULL).table, Catalogue())
    assert compiled.situation_bias("s").shape == (0,)
