"""The one logical learner: outcomes in, adjustment records out."""

from __future__ import annotations

import dataclasses

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.domain.decision import Outcome, Parts
from models.domain.errors import ArtifactError, SettingError
from models.learning.engines import ENGINES
from models.learning.learner import Learner
from models.learning.priors import Priors
from models.learning.sample import BIAS
from models.learning.settings import LearnerSettings
from models.learning.weights import WeightTable

START = 1_700_000_000_000
LABELS_ONLY = LearnerSettings(negatives="no_click")


def outcome(kind="impression", at=0, **fields) -> Outcome:
    values = {
        "decision_id": "d",
        "event_id": "e",
        "user_id": "u",
        "ad_id": "a",
        "campaign_id": "c",
        "creative_id": "",
        "category": "k",
        "segment": "s",
        "slot": 0,
        "decision_time": START + at,
        "event_time": START + at,
        "pctr": 0.1,
        "pcvr": 0.1,
        "propensity": 1.0,
        "behavior_policy": "greedy",
        "parts": Parts(base=-2.0),
        "model_hash": "m",
        "adjustments_version": 0,
    }
    return Outcome(kind=kind, **{**values, **fields})


def stream(n=600, rate=0.4, ad="a", seed=0, gap_ms=20, window_ms=60_000, **fields) -> list[Outcome]:
    """Impressions of one ad, clicked at ``rate`` a second later, else labelled at the window's end."""
    rng, out = np.random.default_rng(seed), []
    for i in range(n):
        at = i * gap_ms
        common = {"ad_id": ad, "decision_id": f"{ad}{i}", "decision_time": START + at, **fields}
        out.append(outcome("impression", at, **common))
        clicked = rng.random() < rate
        kind, delay = ("click", 1000) if clicked else ("no_click", window_ms)
        out.append(outcome(kind, event_time=START + at + delay, **common))
    return sorted(out, key=lambda o: o.event_time)


def table_after(records) -> WeightTable:
    table = WeightTable()
    for record in records:
        applied = table.apply(record)
        assert not applied.stale
        table = applied.table
    return table


def logit(table, ad="a", base=-2.0, campaign="c") -> float:
    cell = table.segment_categories.get("s|k", (0.0, 0.0))[0]
    parts = (table.bias or (0.0,))[0], table.ads.get(ad, (0.0,))[0], table.campaigns.get(campaign, (0.0,))[0]
    return base + sum(parts) + cell


def tail(at=100_000) -> list[Outcome]:
    """An outcome late enough to make everything before it due."""
    return [outcome("dwell", at, ad_id="other", campaign_id="other", segment="other")]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("negatives", ["impression", "no_click"])
def test_a_better_ad_than_the_base_thought_gets_a_positive_adjustment(engine, negatives):
    learner = Learner(LearnerSettings(engine=engine, negatives=negatives))
    table = table_after(learner.learn([*stream(2000, window_ms=1000), *tail(50_000)]).adjustments)
    assert 1 / (1 + np.exp(-logit(table))) == pytest.approx(0.4, abs=0.15)
    assert table.engine == engine


@pytest.mark.parametrize("negatives", ["impression", "no_click"])
def test_an_ad_as_good_as_the_base_says_gets_next_to_none(negatives):
    learner = Learner(LearnerSettings(negatives=negatives))
    rate = 1 / (1 + np.exp(2.0))
    table = table_after(learner.learn([*stream(3000, rate, window_ms=1000), *tail(70_000)]).adjustments)
    assert logit(table) == pytest.approx(-2.0, abs=0.3)


@pytest.mark.parametrize("first", ["good", "bad"])
def test_two_partitions_read_one_after_the_other_teach_what_they_teach_side_by_side(first):
    """A learner that starts anew reads one far ahead of the other."""
    parts = {
        ad: stream(400, rate, ad, seed, 500, 1000, campaign_id=ad)
        for ad, rate, seed in (("good", 0.4, 0), ("bad", 0.05, 1))
    }
    last = "bad" if first == "good" else "good"
    side_by_side = sorted(parts["good"] + parts["bad"], key=lambda one: one.event_time)
    expected, got = (
        table_after(Learner().learn([*told, *tail(210_000)]).adjustments)
        for told in (side_by_side, parts[first] + parts[last])
    )
    for ad in parts:
        assert logit(got, ad, campaign=ad) == pytest.approx(logit(expected, ad, campaign=ad), abs=0.65)


def test_negatives_that_wait_for_the_window_overshoot_and_those_of_patience_do_not():
    early = [o for o in stream(1500, 0.1194) if o.event_time < START + 30_000]
    patient = table_after(Learner().learn(early).adjustments)
    waiting = table_after(Learner(LABELS_ONLY).learn(early).adjustments)
    assert abs(logit(patient) + 2.0) < 0.5 and logit(waiting) > 0.0


def jump(per_second: int, rate: float, seed: int) -> list[Outcome]:
    """Two impressions in three seconds for a minute; then so many a second, clicked at another rate."""
    rng, told = np.random.default_rng(seed), []
    shown = [(at, 0.1) for at in range(0, 60_000, 1500)]
    shown += [(60_000 + 1000 * n // per_second, rate) for n in range(20 * per_second)]
    for n, (at, p) in enumerate(shown):
        common = {"decision_id": f"d{n}", "ad_id": f"a{n % 50}", "decision_time": START + at}
        told.append(outcome("impression", at, **common))
        if rng.random() < p:
            told.append(outcome("click", event_time=START + at + int(rng.exponential(3000)), **common))
    return sorted(told, key=lambda one: one.event_time)


@pytest.mark.parametrize("prior", [0.09, 1.0])
@pytest.mark.parametrize("seed", range(3))
def test_where_traffic_and_rate_jump_the_weights_go_straight_to_the_new_rate(prior, seed):
    learner = Learner(LearnerSettings(priors=Priors(segment_category=prior)))
    table, path = WeightTable(), []
    for record in learner.learn(jump(200, 0.5, seed)).adjustments:
        table = table.apply(record).table
        path += [logit(table)] if START + 60_000 < record.event_time <= START + 80_000 else []
    falls = np.maximum.accumulate(path) - path
    assert max(falls) < 0.7 and max(path) < 0.5, "the logit of the rate is 0"
    assert np.mean(path[-5:]) == pytest.approx(0.0, abs=0.2)


def test_patience_follows_the_mean_delay_of_clicks():
    learner = Learner()
    learner.learn(stream(12_000))
    assert learner._patience.delays.mean_ms == pytest.approx(1000, abs=70)


def test_records_come_at_most_once_per_second_of_event_time_with_rising_versions():
    records = Learner().learn(stream(600)).adjustments
    assert len(records) > 5
    assert [r.version for r in records] == list(range(1, len(records) + 1))
    times = np.array([r.event_time for r in records])
    assert (times % 1000 == 0).all() and (np.diff(times) >= 1000).all()
    assert len({r.id for r in records}) == len(records)


def test_a_quiet_second_emits_nothing():
    learner = Learner()
    learner.learn([*stream(5), *tail(70_000)])
    learner.learn([outcome("no_click", 71_500)])
    later = [outcome("no_click", 71_500 + 1000 * n) for n in range(1, 10)]
    assert learner.learn(later).adjustments == ()


def test_versions_start_where_they_are_told_to():
    records = Learner(LearnerSettings(first_version=500)).learn(stream(200)).adjustments
    assert records[0].version == 500


def test_records_survive_the_wire_and_every_one_applies():
    for record in Learner().learn(stream(300)).adjustments:
        assert msgspec.json.decode(msgspec.json.encode(record), type=type(record)) == record


mixed = st.lists(
    st.tuples(
        st.sampled_from(["impression", "click", "no_click", "dwell", "swipe", "hide", "conversion"]),
        st.integers(0, 20_000),
        st.sampled_from(["a", "b", "c"]),
        st.integers(0, 3),
        st.booleans(),
        st.floats(-5, 1),
        st.sampled_from(["greedy", "plackett_luce(tau=0.5,uniform=0.05)"]),
    ),
    min_size=1,
    max_size=60,
)


def of(rows) -> list[Outcome]:
    return [
        outcome(
            kind,
            ad_id=ad,
            slot=slot,
            late=late,
            parts=Parts(base=base),
            behavior_policy=policy,
            event_time=START + 20 * n + at,
            decision_time=START + 20 * n,
            dwell_ms=at,
        )
        for n, (kind, at, ad, slot, late, base, policy) in enumerate(rows)
    ]


@given(mixed, st.integers(0, 60))
@settings(max_examples=40, deadline=None)
def test_the_records_do_not_depend_on_how_the_stream_is_cut_into_batches(rows, cut):
    outcomes = of(rows)
    whole, parts = Learner(), Learner()
    together = whole.learn(outcomes)
    first, second = parts.learn(outcomes[:cut]), parts.learn(outcomes[cut:])
    assert together.adjustments == first.adjustments + second.adjustments
    assert whole.to_bytes() == parts.to_bytes()


@given(mixed, st.integers(0, 60), st.sampled_from(ENGINES))
@settings(max_examples=30, deadline=None)
def test_a_restored_learner_goes_on_as_the_original_would(rows, cut, engine):
    outcomes, chosen = of(rows), LearnerSettings(engine=engine)
    whole, before = Learner(chosen), Learner(chosen)
    expected = whole.learn(outcomes).adjustments
    first = before.learn(outcomes[:cut]).adjustments
    after = Learner.from_bytes(before.to_bytes(), chosen)
    assert first + after.learn(outcomes[cut:]).adjustments == expected
    assert after.to_bytes() == whole.to_bytes()


@pytest.mark.parametrize("damaged", [b"", b"\x01\x02", WeightTable().to_bytes()])
def test_a_damaged_snapshot_is_an_artifact_error(damaged):
    with pytest.raises(ArtifactError):
        Learner.from_bytes(damaged)


def test_a_snapshot_of_another_engine_is_refused():
    data = Learner(LearnerSettings(engine="river_lr")).to_bytes()
    with pytest.raises(ArtifactError, match="engine"):
        Learner.from_bytes(data)


def test_a_late_click_undoes_its_no_click():
    wrong, right = Learner(LABELS_ONLY), Learner(LABELS_ONLY)
    shown = {"event_time": START + 60_000}
    late = outcome("click", late=True, event_time=START + 61_000)
    told_late = table_after(
        wrong.learn([outcome("no_click", **shown), late, *tail()]).adjustments,
    )
    told_at_once = table_after(right.learn([outcome("click", **shown), *tail()]).adjustments)
    assert logit(told_late) == pytest.approx(logit(told_at_once), abs=0.12)
    assert logit(told_late) > -2.0


def test_a_click_after_its_impression_nets_to_a_click():
    learner = Learner()
    pair = [outcome("impression"), outcome("click", event_time=START + 500)]
    table = table_after(learner.learn([*pair, *tail()]).adjustments)
    at_once = table_after(Learner(LABELS_ONLY).learn([outcome("click"), *tail()]).adjustments)
    assert logit(table) == pytest.approx(logit(at_once), abs=0.12)


def test_long_dwell_ranks_an_ad_above_one_with_short_dwell():
    pairs = []
    for n in range(200):
        pairs.append(outcome("dwell", n * 50, ad_id="long", dwell_ms=60_000))
        pairs.append(outcome("dwell", n * 50, ad_id="short", dwell_ms=500))
    table = table_after(Learner().learn([*pairs, *tail()]).adjustments)
    assert table.ads["long"][0] > 0.2 > -0.2 > table.ads["short"][0]
    assert table.bias is None


def test_dwell_that_is_the_same_everywhere_moves_nothing():
    pairs = [outcome("dwell", n * 50, ad_id=f"a{n % 2}", dwell_ms=10_000) for n in range(400)]
    table = table_after(Learner().learn([*pairs, *tail()]).adjustments)
    assert all(abs(mean) < 0.02 for mean, _ in table.ads.values())


def test_hides_and_swipes_lower_an_ad_against_its_neighbours():
    for kind in ("hide", "swipe"):
        chosen = LearnerSettings(hide_weight=0.5, swipe_weight=0.5)
        learner, feed = Learner(chosen), []
        for n in range(300):
            feed += [outcome("impression", n * 50, ad_id=f"a{n % 2}")]
            feed += [outcome(kind, n * 50, ad_id="a0")] if n % 20 == 0 else []
        table = table_after(learner.learn([*feed, *tail()]).adjustments)
        assert table.ads["a0"][0] < table.ads.get("a1", (0.0,))[0] - 0.1


def test_the_examination_of_slots_is_learned_from_every_label():
    rng, feed = np.random.default_rng(0), []
    for n in range(8000):
        slot = n % 2
        common = {"slot": slot, "parts": Parts(base=-1.0 + rng.normal(0, 0.5))}
        p = (1.0, 0.5)[slot] / (1 + np.exp(-common["parts"].base))
        feed.append(outcome("impression", n * 10, **common))
        if rng.random() < p:
            feed.append(outcome("click", n * 10, **common))
    table = table_after(Learner().learn([*feed, *tail()]).adjustments)
    assert table.position_logits[0] == 0.0
    assert table.position_logits[1] == pytest.approx(np.log(0.5), abs=0.15)


def test_a_learner_that_begins_with_what_a_models_log_told_of_slots_says_so_at_once():
    shown = np.full((2, 1), 10_000.0)
    learner = Learner()
    learner.begin(shown, np.array([[1000.0], [500.0]]))
    feed = [outcome("impression", n * 1_000) for n in range(10)]
    records = learner.learn(feed).adjustments
    assert [record.position_logits for record in records] == [(0.0, pytest.approx(np.log(0.5), abs=0.02))]


def test_what_a_models_log_told_of_slots_comes_through_a_restart():
    shown = np.full((2, 1), 10_000.0)
    learner = Learner()
    learner.begin(shown, np.array([[1000.0], [500.0]]))
    learner = Learner.from_bytes(learner.to_bytes())
    learner.begin(shown, np.array([[1000.0], [900.0]]))
    table = table_after(learner.learn([outcome("impression", n * 1_000) for n in range(10)]).adjustments)
    assert table.position_logits[1] == pytest.approx(np.log(0.5), abs=0.02)


def test_the_first_labels_do_not_make_ads_pay_for_the_slots_they_stood_in():
    """They are learned all at once after the warm-up, before any record has told of slots."""
    told = []
    for ad, slot, every in (("first", 0, 8), ("second", 1, 16)):
        for i in range(2000):
            common = {"ad_id": ad, "campaign_id": ad, "segment": ad, "slot": slot, "decision_id": f"{ad}{i}"}
            common |= {"decision_time": START + 10 * i, "parts": Parts(base=-np.log(7))}
            told.append(outcome("impression", 10 * i, **common))
            if i % every == 0:
                told.append(outcome("click", **{**common, "event_time": START + 10 * i + 3000}))
    learner, records = Learner(), []
    for one in sorted(told, key=lambda one: one.event_time):
        records += learner.learn([one]).adjustments
        if records:
            break
    ads = records[0].ads
    assert len(learner._patience) < 2000  # most that came before are learned
    assert abs(ads["first"][0] - ads["second"][0]) < 0.12


def test_the_offset_takes_the_users_own_part_and_leaves_the_learned_ones():
    told = Parts(base=-4.0, user_category=2.0, ad=3.0, bias=1.0)
    table = table_after(Learner().learn([*stream(3000, 0.1194, parts=told), *tail()]).adjustments)
    assert logit(table) == pytest.approx(-2.0, abs=0.3)


def test_conversions_adjust_their_campaign_and_not_what_is_in_force_twice():
    rng, feed, version = np.random.default_rng(1), [], 0
    for n in range(3000):
        at = n * 100
        shown = {"decision_time": START + at, "campaign_id": "c"}
        feed.append(outcome("click", at, pcvr=0.1, adjustments_version=version, **shown))
        if rng.random() < 0.2:
            feed.append(outcome("conversion", event_time=START + at + 5000, through="click", **shown))
    feed.sort(key=lambda o: o.event_time)
    table = table_after(Learner().learn([*feed, *tail(400_000)]).adjustments)
    rate = 1 / (1 + np.exp(-table.conversions["c"][0] - np.log(0.1 / 0.9)))
    assert rate == pytest.approx(0.2, abs=0.03)


def test_view_through_conversions_do_not_count_for_the_rate_given_a_click():
    learner = Learner()
    table = table_after(
        learner.learn([outcome("conversion", through="view"), *tail()]).adjustments,
    )
    assert table.conversions == {} and learner.counts["view_through_conversion"] == 1


def test_the_idle_longest_feature_returns_to_the_prior_and_the_record_says_so():
    chosen = LearnerSettings(features=16, priors=Priors(ad=0.15))
    feed = [outcome("impression", n * 1001, ad_id=f"a{n}") for n in range(30)]
    feed += [outcome("click", n * 1001 + 500, ad_id=f"a{n}") for n in range(30)]
    feed.sort(key=lambda o: o.event_time)
    table = table_after(Learner(chosen).learn([*feed, *tail()]).adjustments)
    assert table.ads["a0"] == (0.0, 0.15) and table.ads["a29"][0] > 0


def test_a_record_holds_at_most_so_many_weights_and_the_others_follow():
    chosen = LearnerSettings(most_weights=10)
    shown = [{"ad_id": f"a{n}", "decision_id": f"d{n}"} for n in range(40)]
    burst = [outcome("impression", 0, **one) for one in shown]
    burst += [outcome("click", 500, **one) for one in shown]
    ticks = [outcome("dwell", 1000 * n, ad_id="x", dwell_ms=0) for n in range(1, 20)]
    records = Learner(chosen).learn([*burst, *ticks]).adjustments
    assert all(len(r.ads) + len(r.campaigns) + len(r.segment_categories) <= 10 for r in records)
    assert sum(1 for ad in table_after(records).ads if ad.startswith("a")) == 40


def test_adjustments_that_lose_against_the_frozen_model_are_rolled_back_and_learning_goes_on():
    learner = Learner(LearnerSettings(guard_least_labels=500))
    poisoned = Parts(base=-2.0, ad=3.0)
    records = learner.learn(stream(3000, 0.12, parts=poisoned, gap_ms=5)).adjustments
    resets = [r for r in records if r.reset]
    assert len(resets) == 1 and learner.counts["roll_backs"] == 1
    assert not (resets[0].ads or resets[0].bias or resets[0].segment_categories)
    assert any(r.version > resets[0].version and r.ads for r in records)


def test_predictions_that_are_too_sure_are_drawn_in_and_a_restart_says_so_again():
    rng, told = np.random.default_rng(0), []
    for n, base in enumerate(rng.normal(-1.0, 1.5, 9000).tolist()):
        common = {"decision_id": f"d{n}", "decision_time": START + 5 * n, "parts": Parts(base=base)}
        told.append(outcome("impression", 5 * n, **common))
        if rng.random() < 1 / (1 + np.exp(1.0 - 0.7 * (base + 1.0))):
            told.append(outcome("click", event_time=START + 5 * n + 1000, **common))
    learner = Learner()
    learner.learn(sorted(told, key=lambda o: o.event_time))
    learner = Learner.from_bytes(learner.to_bytes())
    learner.announce_again(learner.version + 1)
    later = [outcome("dwell", 60_000 + 1000 * n, dwell_ms=0) for n in range(10)]
    slope, centre = table_after(learner.learn(later).adjustments).calibration
    assert 0.65 < slope < 0.9 and -1.0 < centre < 0.0


def test_decisions_made_before_a_roll_back_do_not_count_against_what_is_in_force_after():
    learner = Learner(LearnerSettings(guard_least_labels=500))
    learner.learn(stream(6000, 0.12, parts=Parts(base=-2.0, ad=3.0), gap_ms=5))
    assert learner.counts["roll_backs"] == 1 and learner.guard_report().labels == 0


def test_good_adjustments_are_never_rolled_back():
    learner = Learner(LearnerSettings(guard_least_labels=500))
    learner.learn(stream(4000, 0.4, parts=Parts(base=-2.0, ad=1.6), gap_ms=5))
    report = learner.guard_report()
    assert learner.counts["roll_backs"] == 0 and report.z < 0
    assert report.calibration_adjusted == pytest.approx(1.0, abs=0.15) and report.calibration_frozen < 0.6
    assert report.ctr == pytest.approx(0.4, abs=0.05)


def test_a_shift_raises_an_alarm_that_names_segment_and_category():
    rate = 1 / (1 + np.exp(2.0))
    learner = Learner()
    calm = learner.learn(stream(3000, rate, gap_ms=5)).alarms
    shifted = stream(3000, 0.5, gap_ms=5, seed=1)
    later = [
        msgspec.structs.replace(o, event_time=o.event_time + 80_000, decision_time=o.decision_time + 80_000)
        for o in shifted
    ]
    alarms = learner.learn(later).alarms
    assert calm == () and len(alarms) >= 1
    assert (alarms[0].segment, alarms[0].category) == ("s", "k") and alarms[0].after > alarms[0].before


def test_a_burst_of_labels_gives_no_ad_the_weight_of_another_where_few_are_kept():
    burst = [outcome("impression", n, ad_id=f"a{n}", decision_id=f"d{n}") for n in range(200)]
    few, every = (
        table_after(Learner(LearnerSettings(features=kept)).learn([*burst, *tail()]).adjustments).ads
        for kept in (16, 1_000_000)
    )
    kept = [name for name, (mean, _) in few.items() if mean]
    assert kept
    assert [few[name][0] for name in kept] == pytest.approx([every[name][0] for name in kept], abs=1e-4)


BAD = {
    "not_finite": {"parts": Parts(base=float("nan"))},
    "bad_logit": {"parts": Parts(base=-1e160)},
    "unknown_kind": {"kind": "teleport"},
    "bad_slot": {"slot": -1},
    "bad_time": {"event_time": -5},
}


@pytest.mark.parametrize("reason", BAD)
def test_an_outcome_that_cannot_be_used_is_counted_and_changes_nothing(reason):
    learner, clean = Learner(), Learner()
    assert learner.learn([outcome(**BAD[reason])]) == clean.learn([])
    assert learner.counts == {f"refused_{reason}": 1}


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("part", ["base", "user_category", "ad", "creative"])
def test_non_finite_parts_never_reach_the_weights(part, bad):
    learner = Learner()
    learner.learn([outcome(parts=Parts(**{"base": -2.0, part: bad})), outcome("click", 10)])
    table = table_after(learner.learn(tail()).adjustments)
    assert learner.counts["refused_not_finite"] == 1 and np.isfinite(logit(table))


@pytest.mark.parametrize("part", ["base", "bias", "user_category", "ad", "creative", "calibration"])
@pytest.mark.parametrize("absurd", [-1e160, 1e160])
def test_parts_of_a_size_that_no_sum_bears_never_reach_the_weights(part, absurd):
    learner = Learner()
    parts = Parts(**{"base": -2.0, "campaign": -absurd, part: absurd})
    learner.learn([outcome(kind, parts=parts) for kind in ("impression", "click", "no_click")])
    assert learner.counts == {"refused_bad_logit": 3}
    assert np.isfinite(logit(table_after(learner.learn(tail()).adjustments)))


@pytest.mark.parametrize(
    ("event", "decision"),
    [(START, START + 61_000), (START + 31 * 86_400_000, START), (START, START - 40 * 86_400_000)],
)
def test_an_outcome_far_from_its_decision_is_refused(event, decision):
    learner = Learner()
    learner.learn([outcome(event_time=event, decision_time=decision)])
    assert learner.counts["refused_bad_time"] == 1


def test_one_wild_timestamp_does_not_run_away_with_the_clock():
    learner = Learner()
    day = 86_400_000
    wild = outcome("impression", 20 * day)
    records = learner.learn([*stream(50), wild, *tail(70_000)]).adjustments
    assert learner.counts["refused_future"] == 1
    assert all(r.event_time < START + day for r in records)


def test_after_a_quiet_night_a_second_user_makes_the_clock_jump():
    learner, day = Learner(), 86_400_000
    learner.learn(stream(50))
    learner.learn([outcome("impression", day), outcome("impression", day + 10, user_id="v")])
    records = learner.learn(tail(day + 60_000)).adjustments
    assert learner.counts["refused_future"] == 1 and records[-1].event_time >= START + day


@pytest.mark.parametrize("pcvr", [float("nan"), 0.0, 1e-310, 1e-15, 1.0 - 1e-15, 1.0, 2.0, -1.0])
def test_a_click_without_a_usable_pcvr_is_still_a_click(pcvr):
    learner = Learner()
    learner.learn([outcome("impression"), outcome("click", 10, pcvr=pcvr)])
    assert learner.counts["unusable_pcvr"] == 1 and learner.counts["click"] == 1
    assert logit(table_after(learner.learn(tail()).adjustments)) > -2.0


def test_a_negative_dwell_counts_as_none():
    learner = Learner()
    learner.learn([outcome("dwell", dwell_ms=-(10**9))])
    assert np.isfinite(logit(table_after(learner.learn(tail()).adjustments)))


@pytest.mark.parametrize(
    "bad",
    [
        {"engine": "ftrl"},
        {"negatives": "never"},
        {"emit_every_ms": 0},
        {"features": 3},
        {"hide_weight": 2.0},
        {"guard_z": float("nan")},
        {"dwell_half_ms": 0.0},
    ],
)
def test_a_setting_that_cannot_work_stops_the_start(bad):
    with pytest.raises(SettingError, match="Fix"):
        LearnerSettings(**bad)


def test_every_setting_has_a_default_that_passes():
    assert dataclasses.replace(LearnerSettings()) == LearnerSettings()


def test_what_decisions_predictions_are_off_by_goes_out_with_the_bias():
    learner = Learner()
    learner.learn(stream(2_000))
    since = {"adjustments_version": learner.version, "parts": Parts(base=-3.0)}
    later = [
        msgspec.structs.replace(o, event_time=o.event_time + 60_000, decision_time=o.decision_time + 60_000)
        for o in stream(4_000, ad="b", **since)
    ]
    told = table_after(learner.learn(later).adjustments)
    bias = learner._vocabulary.find(BIAS, "")
    weight = float(learner._engine.posterior(np.array([bias]), later[-1].event_time)[0][0])
    assert learner._calibration.level.mean > 0.02, "they were too low"
    assert told.bias[0] == pytest.approx(weight + learner._calibration.level.mean, abs=0.02)
