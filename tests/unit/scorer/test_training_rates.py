"""Rates of few events: how they are shrunk, and how late conversions come."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.scorer.rates import click_rates, conversion_rates, shrunk_log_ratios, spread
from models.scorer.sequences import Dataset, Labels


def counted(truth, expected, seed=0):
    """Events by chance, given true ratios."""
    return np.random.default_rng(seed).poisson(truth * expected).astype(float)


def test_the_spread_of_true_ratios_is_told_from_chance():
    rng = np.random.default_rng(1)
    expected = np.full(4000, 20.0)
    truth = rng.gamma(1 / 0.2, 0.2, 4000)
    assert spread(counted(truth, expected), expected) == pytest.approx(0.2, rel=0.1)
    assert spread(counted(np.ones(4000), expected), expected) < 0.01


def test_a_group_with_few_events_stays_near_its_parent_and_one_with_many_does_not():
    expected = np.array([0.5, 500.0, 40.0, 40.0, 40.0, 40.0])
    events = np.array([2.0, 1000.0, 20.0, 80.0, 10.0, 70.0])
    few, many = np.exp(shrunk_log_ratios(events, expected, [np.arange(6)]))[:2]
    overall = events.sum() / expected.sum()
    assert few / overall == pytest.approx(1, abs=0.3)
    assert many == pytest.approx(2.0, rel=0.02)


def test_an_ad_never_shown_has_the_ratio_of_its_campaign():
    rng = np.random.default_rng(2)
    campaign = np.repeat(np.arange(50), 4)
    expected = np.where(np.arange(200) % 4 == 0, 0.0, 30.0)
    events = counted(np.exp(rng.normal(0, 0.8, 50))[campaign], expected)
    ratios = shrunk_log_ratios(events, expected, [campaign, np.arange(200)])
    family = shrunk_log_ratios(events, expected, [campaign])
    assert ratios[::4] == pytest.approx(family[::4])
    assert np.std(ratios[::4]) > 0.5


def test_shrunk_ratios_are_nearer_to_the_truth_than_counted_ones():
    rng = np.random.default_rng(3)
    campaign, own = np.repeat(np.arange(200), 5), np.arange(1000)
    truth = np.exp(rng.normal(0, 0.25, 200)[campaign] + rng.normal(0, 0.35, 1000))
    expected = np.full(1000, 12.0)
    events = counted(truth, expected)

    def error(levels):
        return np.sqrt(np.mean((shrunk_log_ratios(events, expected, levels) - np.log(truth)) ** 2))

    counts = np.sqrt(np.mean((np.log((events + 0.5) / expected) - np.log(truth)) ** 2))
    assert error([campaign, own]) < error([own]) < counts


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(0, 50), min_size=1, max_size=30))
def test_ratios_are_finite_whatever_was_counted(events):
    counts = np.array(events, float)
    for expected in (np.zeros(len(events)), np.full(len(events), 1e-3), np.full(len(events), 1e6)):
        assert np.isfinite(shrunk_log_ratios(counts, expected, [np.arange(len(events))])).all()


def impressions(count=40_000, seed=5):
    """Impressions of 20 ads in 3 slots, the second looked at half as often, the third a quarter."""
    rng = np.random.default_rng(seed)
    ad, slot = rng.integers(1, 21, count), rng.integers(0, 3, count)
    appeal = np.exp(rng.normal(0, 0.4, 21))
    click = rng.random(count) < 0.1 * appeal[ad] * 0.5**slot
    conversion = click & (rng.random(count) < 0.3 * 0.5)
    zeros = np.zeros(count, np.int64)
    half = np.full(count, 0.5, np.float32)
    labels = Labels(zeros, zeros, ad, zeros, zeros - 1, click, conversion, slot, half, zeros, zeros)
    none = np.zeros(0, np.int64)
    empty = (none, none, none, none, none, none, none.astype(bool))
    content = np.zeros((21, 0), np.float32)
    return Dataset(np.zeros(2, np.int64), *empty, np.zeros(21, np.int64), content, labels), appeal


def test_counting_tells_slots_from_ads():
    dataset, appeal = impressions()
    rates = click_rates(dataset, slots=5)
    assert rates.slots[:3] == pytest.approx(np.log([1, 0.5, 0.25]), abs=0.1)
    assert np.corrcoef(rates.ads[1:], np.log(appeal[1:]))[0, 1] > 0.95
    assert rates.ads[0] == 0
    clicks = dataset.labels.click[dataset.labels.slot == 0].mean()
    assert rates.first_slot == pytest.approx(clicks, rel=0.02)


def test_a_conversion_rate_counts_the_conversions_still_to_come():
    dataset, _ = impressions()
    assert conversion_rates(dataset).of_click == pytest.approx(0.3, rel=0.1)


def test_counting_tells_what_a_segment_likes_beyond_everyone():
    dataset, _ = impressions()
    rng, count = np.random.default_rng(6), len(dataset.labels)
    segment, category = rng.integers(0, 3, count), rng.integers(1, 3, count)
    likes = np.array([[1.0, 3.0, 0.5], [1.0, 0.5, 3.0], [1.0, 1.0, 1.0]])
    click = rng.random(count) < 0.05 * likes[segment, category]
    labels = replace(dataset.labels, segment=segment, category=category, click=click)
    odds = click_rates(replace(dataset, labels=labels), slots=5, segments=2).segments
    assert odds.shape == (3, 3) and not odds[2].any()
    assert odds[0, 1] > 0.4 > -0.4 > odds[0, 2] and odds[1, 2] > 0.4 > -0.4 > odds[1, 1]


def test_a_log_without_segments_has_no_rates_of_them():
    dataset, _ = impressions()
    assert click_rates(dataset, slots=5).segments.shape == (1, 1)
