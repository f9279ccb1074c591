"""Frequency caps: what a user has seen too often, and how far the rings can tell."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.domain.errors import SettingError
from models.domain.policy import Cap, Policy
from models.policy.caps import (
    AD,
    ADVERTISER,
    CAMPAIGN,
    HIDDEN,
    NO_REPEAT,
    SCOPES,
    CapRing,
    append_hidden,
    append_impressions,
    blocked_keys,
    check_policy,
    compile_caps,
    is_exact,
)

NO_RULES = Policy(caps=(), no_repeat_s=0)


def show(ring, row, ad, time_ms, campaign=0, advertiser=0):
    keys = (np.array([k], np.uint64) for k in (ad, campaign, advertiser))
    append_impressions(ring, np.array([row]), *keys, np.array([time_ms]))


def blocked(ring, now_ms, policy, row=0):
    found = blocked_keys(ring, np.array([row]), np.array([now_ms]), compile_caps(policy))
    n = int(found.length[0])
    return sorted(zip(found.scope[0, :n].tolist(), found.keys[0, :n].tolist(), strict=True))


def capped(scope, impressions, window_s=60):
    return Policy(caps=(Cap(scope=scope, impressions=impressions, window_s=window_s),), no_repeat_s=0)


def test_an_ad_is_blocked_from_the_last_impression_that_its_cap_allows():
    ring = CapRing.empty(1)
    show(ring, 0, ad=7, time_ms=1_000)
    assert blocked(ring, 2_000, capped("ad", 2)) == []
    show(ring, 0, ad=7, time_ms=2_000)
    assert blocked(ring, 2_000, capped("ad", 2)) == [(AD, 7)]


def test_an_impression_leaves_the_window_exactly_when_it_is_as_old_as_the_window():
    ring = CapRing.empty(1)
    show(ring, 0, ad=7, time_ms=1_000)
    assert blocked(ring, 60_999, capped("ad", 1)) == [(AD, 7)]
    assert blocked(ring, 61_000, capped("ad", 1)) == []


def test_campaigns_and_advertisers_are_counted_over_all_their_ads():
    ring = CapRing.empty(1)
    show(ring, 0, ad=1, time_ms=0, campaign=10, advertiser=100)
    show(ring, 0, ad=2, time_ms=1, campaign=10, advertiser=100)
    show(ring, 0, ad=3, time_ms=2, campaign=11, advertiser=100)
    assert blocked(ring, 3, capped("campaign", 2)) == [(CAMPAIGN, 10)]
    assert blocked(ring, 3, capped("advertiser", 3)) == [(ADVERTISER, 100)]


def test_ads_without_an_advertiser_share_no_cap():
    ring = CapRing.empty(1)
    for time in range(5):
        show(ring, 0, ad=time + 1, time_ms=time)
    assert blocked(ring, 5, capped("advertiser", 1)) == []


def test_a_repeat_is_blocked_for_as_long_as_the_policy_says():
    ring = CapRing.empty(1)
    show(ring, 0, ad=7, time_ms=0)
    policy = Policy(caps=(), no_repeat_s=60)
    assert blocked(ring, 59_999, policy) == [(NO_REPEAT, 7)]
    assert blocked(ring, 60_000, policy) == []


def test_an_impression_ahead_of_the_decision_counts():
    ring = CapRing.empty(1)
    show(ring, 0, ad=7, time_ms=5_000)
    assert blocked(ring, 1_000, capped("ad", 1)) == [(AD, 7)]
    assert blocked(ring, 1_000, NO_RULES) == []


def test_a_hidden_ad_stays_hidden_and_takes_one_place():
    ring = CapRing.empty(1, hidden=2)
    for ad in (7, 7, 8, 7):
        append_hidden(ring, 0, ad)
    assert blocked(ring, 10**12, NO_RULES) == [(HIDDEN, 7), (HIDDEN, 8)]
    append_hidden(ring, 0, 9)
    assert blocked(ring, 10**12, NO_RULES) == [(HIDDEN, 8), (HIDDEN, 9)]


def test_users_do_not_share_caps_and_a_stranger_has_none():
    ring = CapRing.empty(2)
    show(ring, 0, ad=7, time_ms=0)
    assert blocked(ring, 1, capped("ad", 1), row=1) == []
    assert blocked(ring, 1, capped("ad", 1), row=-1) == []


def test_a_row_does_not_depend_on_the_others_of_its_batch():
    ring = CapRing.empty(3)
    for row in range(3):
        show(ring, row, ad=row + 1, time_ms=row)
    caps = compile_caps(capped("ad", 1))
    batch = blocked_keys(ring, np.array([2, 0, -1, 1]), np.array([5, 5, 5, 5]), caps)
    assert [batch.keys[b, : batch.length[b]].tolist() for b in range(4)] == [[3], [1], [], [2]]


events = st.lists(st.tuples(st.integers(1, 4), st.integers(0, 200)), max_size=40)


@given(events, st.integers(1, 4), st.integers(1, 100), st.integers(0, 200))
def test_the_blocked_keys_are_those_counted_by_hand(shown, limit, window, now):
    ring = CapRing.empty(1, kept=64)
    for ad, second in shown:
        show(ring, 0, ad=ad, time_ms=second * 1000, campaign=ad % 2 + 10)
    caps = tuple(Cap(scope=s, impressions=limit, window_s=window) for s in ("ad", "campaign"))
    inside = [ad for ad, second in shown if second > now - window]
    expected = [(AD, ad) for ad in set(inside) if inside.count(ad) >= limit]
    campaigns = [ad % 2 + 10 for ad in inside]
    expected += [(CAMPAIGN, c) for c in set(campaigns) if campaigns.count(c) >= limit]
    assert blocked(ring, now * 1000, Policy(caps=caps, no_repeat_s=0)) == sorted(expected)


@given(st.lists(st.integers(0, 30), max_size=120), st.randoms(use_true_random=False))
def test_a_cap_is_never_exceeded_by_a_server_that_obeys_it(gaps, random):
    limit, window_ms, ring, now, served = 2, 60_000, CapRing.empty(1, kept=128), 0, []
    for gap in gaps:
        now += gap * 1000
        taken = {key for _, key in blocked(ring, now, capped("ad", limit))}
        free = [ad for ad in range(1, 5) if ad not in taken]
        if free:
            ad = random.choice(free)
            show(ring, 0, ad=ad, time_ms=now)
            served.append((ad, now))
    for ad, time in served:
        assert sum(1 for a, t in served if a == ad and time - window_ms < t <= time) <= limit


def test_beyond_the_ring_the_oldest_impressions_are_forgotten_and_the_ring_says_so():
    ring = CapRing.empty(1, kept=4)
    policy, caps = capped("ad", 1), compile_caps(capped("ad", 1))
    for ad in range(1, 5):
        show(ring, 0, ad=ad, time_ms=ad * 1000)
    assert is_exact(ring, 0, 5_000, caps)
    show(ring, 0, ad=5, time_ms=5_000)
    assert not is_exact(ring, 0, 5_000, caps)
    assert (AD, 1) not in blocked(ring, 5_000, policy)
    assert is_exact(ring, 0, 61_000, caps), "what was forgotten has left the window by now"


def test_a_cap_that_the_ring_can_never_reach_is_refused():
    check_policy(capped("ad", 4), kept=4)
    with pytest.raises(SettingError, match=r"cap of 5 impressions per campaign.*at most the 4.*Fix: lower"):
        check_policy(capped("campaign", 5), kept=4)


def test_caps_are_asked_in_the_order_of_their_scopes_whatever_the_policys_order():
    caps = tuple(Cap(scope=scope) for scope in ("advertiser", "ad", "campaign"))
    assert [SCOPES[code] for code in compile_caps(Policy(caps=caps)).scope] == [
        "ad",
        "campaign",
        "advertiser",
    ]
