"""Frequency caps: what a user has seen too often, and how far back that is known."""

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
    blocked_keys,
    check_policy,
    compile_caps,
    end_to_end,
    is_exact,
    widest_window_ms,
)
from models.state.shown import GIVES_UP, PAGE, Impressions, Shown

NO_RULES = Policy(caps=(), no_repeat_s=0, unseen_s=0)


def show(
    shown, row, ad, time_ms, campaign=0, advertiser=0, keep_ms=60_000, unseen_ms=0, decided_ms=-1, placement=0
):
    keys = (np.array([k], np.uint64) for k in (ad, campaign, advertiser))
    times = (np.array([n]) for n in (time_ms, keep_ms, unseen_ms, decided_ms))
    shown.append(Impressions(np.array([row]), *keys, *times, np.array([placement], np.uint16)))


def blocked(shown, now_ms, policy, row=0):
    found = blocked_keys(shown, np.array([row]), np.array([now_ms]), compile_caps(policy))
    n = int(found.length[0])
    return sorted(zip(found.scope[0, :n].tolist(), found.keys[0, :n].tolist(), strict=True))


def capped(scope, impressions, window_s=60):
    return Policy(caps=(Cap(scope=scope, impressions=impressions, window_s=window_s),), no_repeat_s=0)


def test_an_ad_is_blocked_from_the_last_impression_that_its_cap_allows():
    shown = Shown(1)
    show(shown, 0, ad=7, time_ms=1_000)
    assert blocked(shown, 2_000, capped("ad", 2)) == []
    show(shown, 0, ad=7, time_ms=2_000)
    assert blocked(shown, 2_000, capped("ad", 2)) == [(AD, 7)]


def test_an_impression_leaves_the_window_exactly_when_it_is_as_old_as_the_window():
    shown = Shown(1)
    show(shown, 0, ad=7, time_ms=1_000)
    assert blocked(shown, 60_999, capped("ad", 1)) == [(AD, 7)]
    assert blocked(shown, 61_000, capped("ad", 1)) == []


def test_campaigns_and_advertisers_are_counted_over_all_their_ads():
    shown = Shown(1)
    show(shown, 0, ad=1, time_ms=0, campaign=10, advertiser=100)
    show(shown, 0, ad=2, time_ms=1, campaign=10, advertiser=100)
    show(shown, 0, ad=3, time_ms=2, campaign=11, advertiser=100)
    assert blocked(shown, 3, capped("campaign", 2)) == [(CAMPAIGN, 10)]
    assert blocked(shown, 3, capped("advertiser", 3)) == [(ADVERTISER, 100)]


def test_ads_without_an_advertiser_share_no_cap():
    shown = Shown(1)
    for time in range(5):
        show(shown, 0, ad=time + 1, time_ms=time)
    assert blocked(shown, 5, capped("advertiser", 1)) == []


def test_a_repeat_is_blocked_for_as_long_as_the_policy_says():
    shown = Shown(1)
    show(shown, 0, ad=7, time_ms=0)
    policy = Policy(caps=(), no_repeat_s=60)
    assert blocked(shown, 59_999, policy) == [(NO_REPEAT, 7)]
    assert blocked(shown, 60_000, policy) == []


def test_an_impression_ahead_of_the_decision_counts():
    shown = Shown(1)
    show(shown, 0, ad=7, time_ms=5_000)
    assert blocked(shown, 1_000, capped("ad", 1)) == [(AD, 7)]
    assert blocked(shown, 1_000, NO_RULES) == []


def test_an_ad_that_was_decided_counts_as_shown_until_it_should_have_been_seen():
    shown, policy = Shown(1), Policy(caps=(), no_repeat_s=60, unseen_s=5)
    show(shown, 0, ad=7, time_ms=1_000, unseen_ms=5_000)
    assert blocked(shown, 5_999, policy) == [(NO_REPEAT, 7)]
    assert blocked(shown, 6_000, policy) == []
    assert blocked(shown, 1_001, Policy(caps=(), no_repeat_s=60, unseen_s=0)) == []


def test_a_placement_that_asks_again_gives_up_what_of_it_was_not_seen():
    shown, policy = Shown(1), Policy(caps=(), no_repeat_s=60, unseen_s=5)
    for ad, placement in ((7, 1), (8, 2), (9, 1)):
        show(shown, 0, ad=ad, time_ms=100_000, unseen_ms=5_000, placement=placement)
    show(shown, 0, ad=9, time_ms=100_100, decided_ms=100_000)
    show(shown, 0, ad=0, time_ms=0, unseen_ms=GIVES_UP, placement=1)
    assert blocked(shown, 100_200, policy) == [(NO_REPEAT, 8), (NO_REPEAT, 9)]
    show(shown, 0, ad=7, time_ms=100_300, decided_ms=100_000)
    assert blocked(shown, 100_300, policy) == [(NO_REPEAT, 7), (NO_REPEAT, 8), (NO_REPEAT, 9)]


def test_a_window_shorter_than_that_forgets_an_unseen_ad_as_soon_as_a_seen_one():
    shown = Shown(1)
    show(shown, 0, ad=7, time_ms=0, unseen_ms=5_000)
    assert blocked(shown, 1_999, capped("ad", 1, window_s=2)) == [(AD, 7)]
    assert blocked(shown, 2_000, capped("ad", 1, window_s=2)) == []


@pytest.mark.parametrize("told_ms", [1_500, 30_000])
def test_the_impression_of_a_decided_ad_counts_instead_of_it_and_not_beside_it(told_ms):
    shown, twice = Shown(1), capped("ad", 2)
    show(shown, 0, ad=7, time_ms=1_000, unseen_ms=5_000)
    show(shown, 0, ad=7, time_ms=told_ms)
    assert blocked(shown, told_ms, twice) == []
    assert blocked(shown, told_ms + 59_999, capped("ad", 1)) == [(AD, 7)]
    show(shown, 0, ad=7, time_ms=told_ms + 1)
    assert blocked(shown, told_ms + 1, twice) == [(AD, 7)]


def test_decided_ads_count_for_campaign_and_advertiser_beside_what_was_seen():
    shown = Shown(1)
    show(shown, 0, ad=1, time_ms=0, campaign=10, advertiser=100)
    show(shown, 0, ad=2, time_ms=1_000, campaign=10, advertiser=100, unseen_ms=5_000)
    assert blocked(shown, 1_000, capped("campaign", 2)) == [(CAMPAIGN, 10)]
    assert blocked(shown, 1_000, capped("advertiser", 2)) == [(ADVERTISER, 100)]
    assert blocked(shown, 6_000, capped("campaign", 2)) == []


def test_a_hidden_ad_stays_hidden_and_takes_one_place():
    shown = Shown(1, hidden=2)
    for ad in (7, 7, 8, 7):
        shown.hide(0, ad)
    assert blocked(shown, 10**12, NO_RULES) == [(HIDDEN, 7), (HIDDEN, 8)]
    shown.hide(0, 9)
    assert blocked(shown, 10**12, NO_RULES) == [(HIDDEN, 8), (HIDDEN, 9)]


def test_users_do_not_share_caps_and_a_stranger_has_none():
    shown = Shown(2)
    show(shown, 0, ad=7, time_ms=0)
    assert blocked(shown, 1, capped("ad", 1), row=1) == []
    assert blocked(shown, 1, capped("ad", 1), row=-1) == []


def test_a_row_does_not_depend_on_the_others_of_its_batch():
    shown = Shown(3)
    for row in range(3):
        show(shown, row, ad=row + 1, time_ms=row)
    caps = compile_caps(capped("ad", 1))
    batch = blocked_keys(shown, np.array([2, 0, -1, 1]), np.array([5, 5, 5, 5]), caps)
    assert [batch.keys[b, : batch.length[b]].tolist() for b in range(4)] == [[3], [1], [], [2]]


def test_users_of_several_shards_are_laid_end_to_end_however_much_each_has_seen():
    caps, parts = compile_caps(capped("ad", 1)), []
    for ads in (2, 0, 50):
        shown = Shown(1)
        for ad in range(ads):
            show(shown, 0, ad=ad + 1, time_ms=ad)
        parts.append(blocked_keys(shown, np.array([0]), np.array([100]), caps))
    batch = end_to_end(parts)
    assert [sorted(batch.keys[b, : batch.length[b]].tolist()) for b in range(3)] == [
        [1, 2],
        [],
        list(range(1, 51)),
    ]
    assert set(batch.scope[2, :50].tolist()) == {AD}


impressions = st.lists(st.tuples(st.integers(1, 4), st.integers(0, 200)), max_size=140)


@given(impressions, st.integers(1, 4), st.integers(1, 100), st.integers(0, 200))
def test_the_blocked_keys_are_those_counted_by_hand(events, limit, window, now):
    shown = Shown(1)
    for ad, second in events:
        show(shown, 0, ad=ad, time_ms=second * 1000, campaign=ad % 2 + 10, keep_ms=window * 1000)
    caps = tuple(Cap(scope=s, impressions=limit, window_s=window) for s in ("ad", "campaign"))
    inside = [ad for ad, second in events if second > now - window]
    expected = [(AD, ad) for ad in set(inside) if inside.count(ad) >= limit]
    campaigns = [ad % 2 + 10 for ad in inside]
    expected += [(CAMPAIGN, c) for c in set(campaigns) if campaigns.count(c) >= limit]
    assert blocked(shown, now * 1000, Policy(caps=caps, no_repeat_s=0)) == sorted(expected)


told = st.lists(st.tuples(st.integers(1, 4), st.integers(0, 9), st.booleans()), max_size=60)


def test_an_impression_that_comes_late_leaves_the_later_decision_of_its_ad_waiting():
    shown, policy = Shown(1), Policy(caps=(Cap(impressions=2, window_s=60),), no_repeat_s=0, unseen_s=5)
    show(shown, 0, ad=7, time_ms=0, unseen_ms=5_000)
    show(shown, 0, ad=7, time_ms=6_000, unseen_ms=5_000)
    show(shown, 0, ad=7, time_ms=7_000, decided_ms=0)
    assert blocked(shown, 7_500, policy) == [(AD, 7)]
    show(shown, 0, ad=7, time_ms=8_000, decided_ms=6_000)
    assert blocked(shown, 8_500, policy) == [(AD, 7)]
    assert blocked(shown, 8_500, capped("ad", 3)) == []


def test_an_ad_counts_once_however_many_were_decided_between_it_and_its_impression():
    shown, policy = Shown(1), Policy(caps=(Cap(impressions=2, window_s=60),), no_repeat_s=0, unseen_s=50)
    for ad in range(1, 4 * PAGE):
        show(shown, 0, ad=ad, time_ms=ad, unseen_ms=50_000)
    show(shown, 0, ad=1, time_ms=1_000, decided_ms=1)
    assert blocked(shown, 1_500, policy) == []


@given(told, st.integers(1, 4), st.integers(1, 100), st.integers(0, 20))
def test_seen_and_unseen_ads_are_those_counted_by_hand(events, limit, window, unseen):
    """Decisions and impressions in the order of time; an impression ends the wait of its ad's last one."""
    shown, now, seen, waiting = Shown(1), 0, [], []
    for ad, gap, is_decided in events:
        now += gap
        show(shown, 0, ad=ad, time_ms=now * 1000, keep_ms=10**6, unseen_ms=20_000 if is_decided else 0)
        last = max((at for at in waiting if at[0] == ad and at[1] > now - 20), default=None)
        if is_decided:
            waiting.append((ad, now))
        else:
            seen.append((ad, now))
            if last is not None:
                waiting.remove(last)
        counted = [a for a, at in seen if at > now - window]
        counted += [a for a, at in waiting if at > now - min(window, unseen)]
        policy = Policy(
            caps=(Cap(scope="ad", impressions=limit, window_s=window),), no_repeat_s=0, unseen_s=unseen
        )
        expected = sorted((AD, a) for a in set(counted) if counted.count(a) >= limit)
        assert blocked(shown, now * 1000, policy) == expected


@given(st.lists(st.integers(0, 30), max_size=120), st.randoms(use_true_random=False))
def test_a_cap_is_never_exceeded_by_a_server_that_obeys_it(gaps, random):
    limit, window_ms, shown, now, served = 2, 60_000, Shown(1), 0, []
    for gap in gaps:
        now += gap * 1000
        taken = {key for _, key in blocked(shown, now, capped("ad", limit))}
        free = [ad for ad in range(1, 5) if ad not in taken]
        if free:
            ad = random.choice(free)
            show(shown, 0, ad=ad, time_ms=now)
            served.append((ad, now))
    for ad, time in served:
        assert sum(1 for a, t in served if a == ad and time - window_ms < t <= time) <= limit


def test_caps_are_exact_for_a_user_who_sees_a_thousand_ads_within_the_window():
    shown, hour = Shown(1), 3_600_000
    for n in range(1000):
        show(shown, 0, ad=n % 400 + 1, time_ms=n * 1000, campaign=n % 7 + 1, keep_ms=hour)
    assert blocked(shown, 1_000_000, capped("ad", 3, 3600)) == [(AD, ad) for ad in range(1, 201)]
    assert len(blocked(shown, 1_000_000, capped("campaign", 143, 3600))) == 6
    assert is_exact(shown, 0, 1_000_000, compile_caps(capped("ad", 3, 3600)))


def test_beyond_what_is_kept_the_oldest_impressions_are_forgotten_and_that_is_known():
    shown, caps = Shown(1, kept=PAGE), compile_caps(capped("ad", 1))
    for ad in range(1, 2 * PAGE + 1):
        show(shown, 0, ad=ad, time_ms=ad)
    assert is_exact(shown, 0, 5_000, caps)
    show(shown, 0, ad=1000, time_ms=5_000)
    assert not is_exact(shown, 0, 5_000, caps)
    assert blocked(shown, 5_000, capped("ad", 1)) == [
        (AD, ad) for ad in [*range(PAGE + 1, 2 * PAGE + 1), 1000]
    ]
    assert is_exact(shown, 0, 61_000, caps), "what was forgotten has left the window by now"


def test_a_cap_that_can_never_be_reached_is_refused():
    check_policy(capped("ad", 4), kept=4)
    with pytest.raises(SettingError, match=r"cap of 5 impressions per campaign.*at most the 4.*Fix: lower"):
        check_policy(capped("campaign", 5), kept=4)


def test_the_widest_window_is_that_of_any_cap_or_of_repeats():
    assert widest_window_ms(NO_RULES) == 0
    assert widest_window_ms(Policy(caps=(Cap(window_s=30), Cap(scope="campaign", window_s=90)))) == 90_000
    assert widest_window_ms(Policy(caps=(), no_repeat_s=60)) == 60_000


def test_caps_are_asked_in_the_order_of_their_scopes_whatever_the_policys_order():
    caps = tuple(Cap(scope=scope) for scope in ("advertiser", "ad", "campaign"))
    assert [SCOPES[code] for code in compile_caps(Policy(caps=caps)).scope] == [
        "ad",
        "campaign",
        "advertiser",
    ]
