"""Campaigns with budgets, a pacer that follows them, and steady spend."""

from models.domain.catalogue import Ad
from models.policy.pacing import MINUTE_MS, Pacer
from models.policy.pacing_settings import PacingSettings

CENT = 10_000
BUDGET = 1440 * CENT
"""One cent a minute."""


def campaign(campaign_id="c", daily=BUDGET, lifetime=None, end=None, ad_id=None, start=None):
    return Ad(
        ad_id=ad_id or f"ad-{campaign_id}",
        campaign_id=campaign_id,
        daily_budget_micros=daily,
        lifetime_budget_micros=lifetime,
        start_time=start,
        end_time=end,
    )


def pacer_of(*ads, first_mu=0.0, **settings):
    """A pacer of these campaigns; they start at their full bids where nothing else is said."""
    pacer = Pacer(PacingSettings(first_mu=first_mu, **settings))
    pacer.follow(ads or [campaign()])
    return pacer


def spend_per_minute(pacer, minutes, micros, first=0, campaign_id="c"):
    for minute in range(first, first + minutes):
        pacer.observe(campaign_id, micros, minute * MINUTE_MS, impressions=1)
    pacer.advance((first + minutes) * MINUTE_MS)
