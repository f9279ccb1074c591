"""What is under way: foretold, fading with the delays that were seen, corrected by what was billed."""

import pytest

from models.domain.catalogue import Ad
from models.policy.accounts import DAY_MS
from models.policy.pacing import Pacer
from models.policy.pacing_settings import PacingSettings
from models.policy.under_way import CLICKS, CONVERSIONS, Bill, UnderWay

DELAY_MS = 60_000.0
PRICE = 1_000_000


def owed_after(wait_ms: int, waited_ms: int, due: float = 100.0) -> float:
    """Return what is owed so long after one impression, once many charges took ``waited_ms`` each."""
    under_way = UnderWay()
    under_way.tell(0, 0, Bill(CONVERSIONS, due), DELAY_MS)
    for _ in range(1000):
        under_way.tell(0, 0, Bill(CONVERSIONS, waited_ms=waited_ms), DELAY_MS)
        under_way.owed[CONVERSIONS].bill(0, waited_ms)
    under_way.fade(wait_ms, DELAY_MS)
    return under_way.owed_micros()


def test_what_is_owed_fades_with_the_delays_that_were_seen():
    hour = 3_600_000
    assert owed_after(hour, waited_ms=hour) == pytest.approx(100.0 * 0.37, rel=0.02)
    assert owed_after(hour, waited_ms=60_000) < 1e-6


def test_clicks_and_conversions_fade_each_at_their_own_pace():
    under_way = UnderWay()
    for by, waited_ms in ((CLICKS, 3_000), (CONVERSIONS, 3_600_000)):
        for _ in range(300):
            under_way.tell(0, 0, Bill(by, 1.0), DELAY_MS)
            under_way.tell(1, 0, Bill(by, waited_ms=waited_ms), DELAY_MS)
    under_way.fade(600_000, DELAY_MS)
    clicks, conversions = (owed.pending for owed in under_way.owed)
    assert clicks < 1e-6 < 200.0 < conversions


def test_predictions_that_are_twice_too_high_come_to_be_taken_for_half():
    under_way = UnderWay()
    for n in range(2_000):
        under_way.tell(0, n * 1000, Bill(CLICKS, 0.5 * PRICE), DELAY_MS)
        if n % 4 == 0:
            under_way.tell(PRICE, n * 1000, Bill(CLICKS, waited_ms=1000), DELAY_MS)
    assert under_way.owed[CLICKS].factor(PRICE) == pytest.approx(0.5, rel=0.05)


def test_the_unseen_spend_is_that_of_the_last_delay_however_long_it_went_on():
    """Ten micros a second from the first second on: 600 are unseen with a delay of a minute."""
    for seconds in (20, 60, 600):
        under_way = UnderWay()
        for n in range(10 * seconds):
            under_way.tell(1, n * 100, None, DELAY_MS)
        assert under_way.unseen_micros(0.0, DELAY_MS) == pytest.approx(600, rel=0.05)


def test_one_charge_says_nothing_of_a_rate():
    under_way = UnderWay()
    under_way.tell(PRICE, 0, None, DELAY_MS)
    assert under_way.unseen_micros(0.0, DELAY_MS) == 0.0


def test_a_charge_that_nothing_foretold_counts_as_it_comes():
    under_way = UnderWay()
    assert under_way.tell(PRICE, 0, Bill(CLICKS, waited_ms=5_000), DELAY_MS) == PRICE


def test_a_charge_that_was_foretold_does_not_count_twice():
    under_way = UnderWay()
    assert under_way.tell(0, 0, Bill(CLICKS, 0.3 * PRICE), DELAY_MS) == 0.3 * PRICE
    assert under_way.tell(PRICE, 3_000, Bill(CLICKS, waited_ms=3_000), DELAY_MS) == 0.0


def conversions_pacer(budget: int) -> Pacer:
    pacer = Pacer(PacingSettings(deviations=0.0, eta=0.0, first_mu=0.0))
    pacer.follow([Ad(ad_id="a", campaign_id="c", bid_type="cpa", daily_budget_micros=budget)])
    return pacer


def test_a_campaign_stops_for_conversions_that_are_still_to_come():
    """Nothing was charged yet, but its impressions foretell the budget."""
    pacer = conversions_pacer(10 * PRICE)
    n = 0
    while not pacer.account("c").exhausted:
        pacer.observe("c", 0, n * 1000, 1, Bill(CONVERSIONS, 0.01 * PRICE))
        pacer.observe("x", 1, n * 1000)
        n += 1
        assert n < 5_000
    assert pacer.account("c").spent == 0


def test_a_campaign_opens_again_when_what_was_expected_has_not_come():
    pacer = conversions_pacer(10 * PRICE)
    for n in range(900):
        pacer.observe("c", 0, n * 10, 1, Bill(CONVERSIONS, 0.01 * PRICE))
    assert pacer.account("c").exhausted
    pacer.advance(DAY_MS - 240_000)
    account = pacer.account("c")
    assert account.under_way.owed_micros() == pytest.approx(0.0, abs=1.0)
    assert account.exhausted, "it spent its budget in seconds, and would again"
    account.mu = 50.0
    pacer.advance(DAY_MS - 60_000)
    assert not pacer.account("c").exhausted, "at a far lower bid it would not"
