"""The simulated world: deterministic, in time order, the same for every policy, and true to its books."""

from dataclasses import replace

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.domain.events import AdUpsert, AdWithdraw, Click, Conversion, Impression, Request, View
from models.evaluation.draws import choice, hashes, normal, second_generator, uniform
from models.evaluation.inventory import make_ads
from models.evaluation.logbook import Logbook
from models.evaluation.loop import Delivered
from models.evaluation.oracle import OraclePolicy, RandomPolicy
from models.evaluation.world import World
from models.evaluation.world_config import (
    Drift,
    Inventory,
    Reactions,
    Sizes,
    Tastes,
    Traffic,
    WorldConfig,
    resized,
)
from models.policy.validation import usable_ads

SMALL = WorldConfig(
    sizes=Sizes(users=60, ads=80),
    traffic=Traffic(requests_per_s=20, views_per_s=10),
    inventory=Inventory(burst_every_s=4),
)


def run(world, policy, seconds, tick_ms=250):
    """Everything that happens in so many seconds under a policy."""
    logbook, seen = Logbook(1), []
    end = world.now_ms + seconds * 1000
    while world.now_ms < end:
        happened = world.step(min(world.now_ms + tick_ms, end))
        seen += happened
        batch = [Delivered(record, event) for event in happened for record in logbook.append(event)]
        world.react(policy.decide_batch(batch))
    return seen


def test_the_same_seed_gives_the_same_events_to_the_last_byte():
    logs = []
    for _ in range(2):
        world = World(SMALL)
        logs.append(msgspec.json.encode(run(world, RandomPolicy(world.state), 6)))
    assert logs[0] == logs[1]


def test_another_seed_gives_another_world():
    first, second = (World(resized(SMALL, seed=s)).step(SMALL.start_ms + 2000) for s in (1, 2))
    assert msgspec.json.encode(first) != msgspec.json.encode(second)


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(1, 1500), min_size=1, max_size=8))
def test_events_do_not_depend_on_how_time_is_cut_into_steps(steps):
    whole, cut = World(SMALL), World(SMALL)
    until, pieces = SMALL.start_ms, []
    for step in steps:
        until += step
        pieces += cut.step(until)
    assert msgspec.json.encode(whole.step(until)) == msgspec.json.encode(pieces)


def test_events_come_in_time_order_and_never_twice():
    world = World(SMALL)
    seen = run(world, RandomPolicy(world.state), 6)
    times = [event.event_time for event in seen]
    assert times == sorted(times)
    assert len({event.id for event in seen}) == len(seen)


def test_the_first_step_begins_with_the_whole_catalogue():
    world = World(SMALL)
    first = world.step(SMALL.start_ms + 1)[0]
    assert isinstance(first, AdUpsert)
    assert list(first.ads) == world.catalogue()


def test_requests_and_views_are_the_same_whatever_is_decided():
    seen = []
    for make in (RandomPolicy, OraclePolicy):
        world = World(SMALL)
        events = run(world, make(world.state), 5)
        seen.append([event for event in events if isinstance(event, Request | View)])
    assert seen[0] == seen[1]


def test_two_policies_that_show_the_same_get_the_same_answer():
    world, again = World(SMALL), World(SMALL)
    shown = run(world, RandomPolicy(world.state), 5)
    repeated = run(again, RandomPolicy(again.state), 5)
    assert [e for e in shown if isinstance(e, Click)] == [e for e in repeated if isinstance(e, Click)]


def test_every_event_of_the_world_passes_the_contract():
    from models.domain.events import Event

    world = World(SMALL)
    for event in run(world, OraclePolicy(world.state), 6):
        assert msgspec.json.decode(msgspec.json.encode(event), type=Event) == event


def test_reactions_name_the_decision_and_follow_it_in_time():
    world = World(SMALL)
    events = run(world, OraclePolicy(world.state), 8)
    requested = {f"ads.events.v1-0-{i}": e for i, e in enumerate(events) if isinstance(e, Request)}
    shown = [e for e in events if isinstance(e, Impression)]
    assert shown
    for event in shown:
        assert requested[event.decision_id].user_id == event.user_id
        assert requested[event.decision_id].event_time < event.event_time


def test_a_click_follows_its_impression_and_a_conversion_its_click():
    config = msgspec.structs.replace(SMALL, tastes=Tastes(base_logit=1.0))
    world = World(config)
    events = run(world, RandomPolicy(world.state), 10)
    at = {(type(e), e.decision_id, e.ad_id): e.event_time for e in events if hasattr(e, "decision_id")}
    clicks = [key for key in at if key[0] is Click]
    assert len(clicks) > 100
    assert all(at[Impression, *key[1:]] < at[key] for key in clicks)
    assert all(at[Click, *key[1:]] < at[key] for key in at if key[0] is Conversion)


def test_ads_come_in_bursts_and_some_are_withdrawn():
    world = World(msgspec.structs.replace(SMALL, inventory=Inventory(burst_every_s=2, withdraw_share=0.1)))
    events = world.step(SMALL.start_ms + 5000)
    new = [ad for e in events[1:] if isinstance(e, AdUpsert) for ad in e.ads]
    gone = {ad_id for e in events if isinstance(e, AdWithdraw) for ad_id in e.ad_ids}
    assert len(new) == 2 * round(0.03 * 80)
    assert gone
    assert gone.isdisjoint(ad.ad_id for ad in world.catalogue())


def test_all_ads_of_a_campaign_agree_in_their_budget():
    inventory = Inventory(budget_share=0.5)
    budgets = {}
    for ad in World(msgspec.structs.replace(SMALL, inventory=inventory)).catalogue():
        assert budgets.setdefault(ad.campaign_id, ad.daily_budget_micros) == ad.daily_budget_micros
    assert None in budgets.values()
    assert any(budgets.values())


def test_truth_is_the_same_for_pairs_and_for_all_ads_at_once():
    state = World(SMALL).state
    users, times = np.array([3, 7]), np.array([SMALL.start_ms + 1500, SMALL.start_ms + 9000])
    pctr, pcvr = state.all_ads(users, times)
    for row in range(2):
        ads = np.arange(len(state.ads))
        one = state.pairs(np.full(len(ads), users[row]), ads, np.full(len(ads), times[row]))
        np.testing.assert_allclose(pctr[row], one[0], rtol=1e-12)
        np.testing.assert_allclose(pcvr[row], one[1], rtol=1e-12)


@given(st.integers(0, 59), st.integers(0, 900_000))
@settings(max_examples=20, deadline=None)
def test_the_compiled_values_of_all_ads_are_the_values_of_the_truth(user, after_ms):
    world = World(SMALL)
    world.step(SMALL.start_ms + 9000)
    state, users, times = world.state, np.array([user]), np.array([SMALL.start_ms + after_ms])
    pctr, pcvr = (p[0] for p in state.all_ads(users, times))
    expected = state.value_micros(np.arange(len(state.ads)), pctr, pcvr)
    visible = state.ads.active & state.ads.allowed[:, state.users.group[user]]
    found = state.all_values(users, times)[0]
    np.testing.assert_allclose(found[visible], expected[visible], rtol=1e-9)
    assert (found[~visible] == -1).all()


@given(st.integers(0, 39), st.integers(0, 900), st.integers(1, 70), st.booleans())
@settings(max_examples=40, deadline=None)
def test_the_best_ads_are_the_first_of_all_ads_sorted_by_value(user, second, count, equal):
    state = World(SMALL).state
    if equal:
        state.ads = replace(
            state.ads, bid_type=np.zeros_like(state.ads.bid_type), bid_micros=np.full(len(state.ads), 5.0)
        )
    users, times = np.array([user]), np.array([SMALL.epoch_ms + 1000 * second])
    values = state.all_values(users, times)[0]
    order = np.argsort(-values, kind="stable")[: min(count, int((values >= 0).sum()))]
    np.testing.assert_array_equal(state.best_ads(users, times, [count])[0], order)


def test_truth_by_name_is_truth_by_row():
    world = World(SMALL)
    pctr, _ = world.truth("user-000003", ["ad-000001", "ad-000004"], SMALL.start_ms)
    assert pctr[1] == world.state.pairs(np.array([3]), np.array([4]), np.array([SMALL.start_ms]))[0][0]
    with pytest.raises(KeyError):
        world.truth("nobody", ["ad-000001"], SMALL.start_ms)


def test_nothing_drifts_before_its_time_and_everything_after():
    still = msgspec.structs.replace(SMALL, tastes=Tastes(mood_sd=0, intent_boost=0))
    state = World(still).state
    at = [np.array([still.epoch_ms + 1000 * s]) for s in (-900, -5, 2000)]
    before, later, after = (state.all_ads(np.array([1]), t)[0] for t in at)
    np.testing.assert_array_equal(before, later)
    assert np.abs(np.log(after / later)).mean() > 0.2


def test_a_shift_changes_tastes_from_one_second_to_the_next():
    drift = Drift(segment_s=0, user_s=0, ad_s=0, campaign_s=0, shift_at_s=(50,), shift_every_s=0)
    config = msgspec.structs.replace(SMALL, drift=drift, tastes=Tastes(mood_sd=0, intent_boost=0))
    state = World(config).state
    user, ads = np.zeros(80, np.int64), np.arange(80)
    at = [state.pairs(user, ads, np.full(80, config.epoch_ms + s * 1000))[0] for s in (0, 49, 50, 900)]
    np.testing.assert_array_equal(at[0], at[1])
    np.testing.assert_array_equal(at[2], at[3])
    assert (at[1] != at[2]).any()


def test_counted_clicks_agree_with_the_true_probabilities():
    world = World(msgspec.structs.replace(SMALL, traffic=Traffic(requests_per_s=100, views_per_s=0)))
    run(world, RandomPolicy(world.state), 40, tick_ms=1000)
    sums = world.ledger.totals()
    for counted, expected in (("impressions", "expected_impressions"), ("clicks", "expected_clicks")):
        assert abs(sums[counted] - sums[expected]) < 4 * np.sqrt(sums[expected])


def test_lower_slots_are_seen_less_and_clicked_less():
    world = World(msgspec.structs.replace(SMALL, tastes=Tastes(base_logit=0.0)))
    events = run(world, RandomPolicy(world.state), 20, tick_ms=1000)
    shown = [e for e in events if isinstance(e, Impression)]
    clicked = {(e.decision_id, e.ad_id) for e in events if isinstance(e, Click)}
    by_slot = [[(e.decision_id, e.ad_id) in clicked for e in shown if e.slot == s] for s in (0, 4)]
    assert len(by_slot[0]) > 1.3 * len(by_slot[1])
    assert np.mean(by_slot[0]) > 1.4 * np.mean(by_slot[1])


def test_decisions_about_unknown_users_or_ads_are_left_out():
    world, other = World(SMALL), World(resized(SMALL, users=5000, ads=900))
    batch = [Delivered(r, e) for e in other.step(SMALL.start_ms + 500) for r in Logbook(1).append(e)]
    world.react(RandomPolicy(other.state).decide_batch(batch))
    assert world.ledger.totals()["slots"] <= 5 * len(batch)
    assert all(slot < 80 for slot in np.flatnonzero(world.ledger.by_ad[:, 0]))


def test_an_empty_catalogue_of_the_future_breaks_nothing():
    world = World(SMALL)
    world.state.ads = world.state.ads.without(np.arange(80))
    assert world.catalogue() == []
    decided = RandomPolicy(world.state).decide_batch(
        [Delivered(r, e) for e in world.step(SMALL.start_ms + 900) for r in Logbook(1).append(e)]
    )
    assert decided
    assert all(decision.ads == () for decision in decided)


def test_draws_depend_on_their_parts_alone():
    together = uniform(7, "test", np.arange(5), 3)
    assert together[2] == uniform(7, "test", 2, 3)[0]
    assert together[2] != uniform(7, "other", 2, 3)[0]
    assert together[2] != uniform(8, "test", 2, 3)[0]
    assert hashes(1, "negative", -5)[0] != hashes(1, "negative", 5)[0]


def test_draws_are_uniform_normal_and_by_weight():
    u, z = uniform(1, "u", np.arange(20_000)), normal(1, "z", np.arange(20_000))
    assert abs(u.mean() - 0.5) < 0.01
    assert 0 < u.min() < u.max() < 1
    assert abs(z.mean()) < 0.03
    assert abs(z.std() - 1) < 0.02
    picks = choice(np.cumsum([1.0, 0.0, 3.0]), u)
    np.testing.assert_allclose(np.bincount(picks, minlength=3) / len(u), [0.25, 0, 0.75], atol=0.015)


def test_a_second_has_its_own_generator():
    assert second_generator(1, "a", 5).random() == second_generator(1, "a", 5).random()
    assert second_generator(1, "a", 5).random() != second_generator(1, "a", -5).random()


def test_a_world_of_huge_spreads_has_ads_that_the_catalogue_takes():
    wild = Inventory(bid_micros=10**9, bid_sd=10, quality_sd=10, budget_share=1.0, daily_budget_micros=10**15)
    world = World(msgspec.structs.replace(SMALL, inventory=wild))
    for ad in world.catalogue():
        assert msgspec.convert(msgspec.to_builtins(ad), type(ad)) == ad


def test_worlds_of_one_config_share_their_ads_and_do_not_change_each_others():
    one, other = World(SMALL), World(SMALL)
    before = len(other.catalogue())
    run(one, RandomPolicy(one.state), 9)
    assert len(one.state.ads) > len(other.state.ads) == 80
    assert len(other.catalogue()) == before


@settings(max_examples=25, deadline=None)
@given(
    st.integers(1, 10**9), st.floats(0, 10), st.integers(1, 10**15), st.floats(-20, 20),
    st.floats(0, 1), st.floats(0, 1), st.integers(0, 2**32 - 1),
)  # fmt: skip
def test_the_product_refuses_no_ad_of_any_world_nor_of_its_bursts(bid, sd, budget, cvr, cpa, cpm, seed):
    inventory = Inventory(
        bid_micros=bid, bid_sd=sd, budget_share=0.7, daily_budget_micros=budget, cpa_share=cpa, cpm_share=cpm
    )
    config = msgspec.structs.replace(
        SMALL, inventory=inventory, reactions=Reactions(cvr_logit=cvr), seed=seed
    )
    first, more = make_ads(config, 0, 80, 0.0), make_ads(config, 80, 40, 5.0)
    assert usable_ads([*first.ads, *more.ads])[1] == ()


@pytest.mark.parametrize("spread", [3, 10])
def test_users_of_the_sharpest_tastes_look_at_what_they_like_most(spread):
    sharp = msgspec.structs.replace(
        SMALL, tastes=Tastes(segment_sd=spread, user_sd=spread), traffic=Traffic(view_sharpness=20)
    )
    truth, users = World(sharp).state, np.arange(60)
    second = np.zeros(60, dtype=np.int64)
    looked = truth.view_category(users, second, np.random.default_rng(0).random(60))
    assert (looked == truth.taste(users, second).argmax(axis=1)).mean() > 0.9
