"""How much better or worse groups are than others, as far as clicks tell."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit

from models.scorer.effects import Factor, fit_effects

ADS, CAMPAIGNS = 600, 120
CAMPAIGN_OF = np.arange(ADS) % CAMPAIGNS


def families(seed=0, campaign_sd=0.4, ad_sd=0.3):
    """Ads' true effects, which their campaigns share in, and their clicks in 300 impressions each."""
    rng = np.random.default_rng(seed)
    truth = rng.normal(0, campaign_sd, CAMPAIGNS)[CAMPAIGN_OF] + rng.normal(0, ad_sd, ADS)
    return truth, rng.binomial(300, expit(truth - 3)).astype(float)


def error(found, truth):
    return float(np.sqrt(np.mean((found - found.mean() - truth + truth.mean()) ** 2)))


def of_ads(clicks, coarse):
    ads = Factor(np.arange(ADS), coarse)
    return fit_effects(np.zeros(ADS), clicks, np.full(ADS, 300.0), [ads]).whole(0, ads)


def test_an_ad_is_judged_by_its_own_clicks_and_its_campaigns():
    truth, clicks = families()
    together, alone = of_ads(clicks, CAMPAIGN_OF), of_ads(clicks, np.zeros(ADS, np.int64))
    counted = np.log((clicks + 0.5) / 300)
    assert error(together, truth) < 0.95 * error(alone, truth) < 0.8 * error(counted, truth)


def test_effects_are_shrunk_so_that_they_are_right_on_average():
    truth, clicks = families()
    found = of_ads(clicks, CAMPAIGN_OF)
    assert np.polyfit(found, truth, 1)[0] == pytest.approx(1, abs=0.1)


def test_where_groups_do_not_differ_chance_makes_hardly_any_effects():
    _, clicks = families(campaign_sd=0.0, ad_sd=0.0)
    assert of_ads(clicks, CAMPAIGN_OF).std() < 0.2 * np.log((clicks + 0.5) / 300).std()


def test_a_group_that_was_never_shown_is_what_its_like_are():
    truth, clicks = families()
    shown = np.where(np.arange(ADS) < CAMPAIGNS, 0.0, 300.0)
    ads = Factor(np.arange(ADS), CAMPAIGN_OF)
    found = fit_effects(np.zeros(ADS), clicks * (shown > 0), shown, [ads])
    assert not found.fine[0][:CAMPAIGNS].any()
    foretold = found.whole(0, ads)[:CAMPAIGNS]
    assert np.corrcoef(foretold, truth[:CAMPAIGNS])[0, 1] > 0.6


def test_what_the_offset_tells_is_no_effect():
    truth, clicks = families()
    ads = Factor(np.arange(ADS), CAMPAIGN_OF)
    found = fit_effects(truth, clicks, np.full(ADS, 300.0), [ads])
    assert found.level == pytest.approx(-3, abs=0.05)
    assert np.abs(found.whole(0, ads)).max() < 0.2


def test_factors_that_overlap_each_get_their_own_part():
    rng = np.random.default_rng(1)
    slot = rng.integers(0, 3, 60_000)
    ad = np.where(slot == 0, rng.integers(0, 30, 60_000), rng.integers(10, 40, 60_000))
    slots, ads = np.array([0.5, 0.0, -0.5]), rng.normal(0, 0.5, 40)
    click = rng.random(60_000) < expit(-2 + slots[slot] + ads[ad])
    factors = [Factor.flat(slot, 3), Factor.flat(ad, 40)]
    found = fit_effects(np.zeros(60_000), click.astype(float), np.ones(60_000), factors)
    of_slots = found.whole(0, factors[0])
    assert of_slots - of_slots.mean() == pytest.approx(slots, abs=0.06)
    assert error(found.whole(1, factors[1]), ads) < 0.1


def test_a_row_that_stands_for_many_impressions_counts_as_many():
    _, clicks = families()
    ads = Factor(np.arange(ADS), CAMPAIGN_OF)
    of_each = np.repeat(np.arange(ADS), 300)
    click = (np.arange(300) < clicks[:, None]).ravel().astype(float)
    single = fit_effects(np.zeros(len(click)), click, np.ones(len(click)), [Factor(of_each, CAMPAIGN_OF)])
    np.testing.assert_allclose(of_ads(clicks, CAMPAIGN_OF), single.whole(0, ads), atol=1e-9)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=20), st.floats(-20, 20))
def test_effects_are_finite_whatever_was_counted(rows, offset):
    shown = np.array([float(n) for n, _ in rows])
    clicks = np.minimum(np.array([float(k) for _, k in rows]), shown)
    found = fit_effects(
        np.full(len(rows), offset), clicks, shown, [Factor.flat(np.arange(len(rows)), len(rows))]
    )
    assert np.isfinite([found.level, *found.fine[0], *found.coarse[0]]).all()
    if clicks.sum() in (0, shown.sum()):
        assert not found.fine[0].any()
