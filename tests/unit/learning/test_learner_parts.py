"""The learner's small parts: clock, vocabulary, patience, guard, drift, packing."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_learner import START, outcome

from models.domain.errors import ArtifactError
from models.learning.drift import DriftWatch
from models.learning.event_clock import IN_A_ROW, MAX_LEAP_MS, EventClock
from models.learning.guard import Guard
from models.learning.packing import pack, unpack
from models.learning.patience import NOTHING_DUE, WARM_UP, Due, Patience
from models.learning.position import PositionBias, examination_shift, fit_examination
from models.learning.vocabulary import Vocabulary


def test_the_clock_never_runs_backwards():
    clock = EventClock()
    assert clock.advance(1000, "u") and clock.advance(10, "u")
    assert clock.now_ms == 1000


def test_the_same_user_cannot_confirm_their_own_leap():
    clock = EventClock()
    clock.advance(0, "u")
    far = 10 * MAX_LEAP_MS
    assert not clock.advance(far, "wild") and not clock.advance(far, "wild")
    assert clock.advance(1, "u") and clock.now_ms == 1
    assert clock.advance(far + 5, "other") and clock.now_ms == far + 5


def test_a_user_who_is_all_that_comes_is_believed_after_a_night():
    clock, far = EventClock(), 10 * MAX_LEAP_MS
    clock.advance(0, "only")
    believed = [clock.advance(far + n, "only") for n in range(IN_A_ROW + 1)]
    assert believed == [False] * (IN_A_ROW - 1) + [True, True] and clock.now_ms == far + IN_A_ROW


def test_a_wild_device_among_others_is_never_believed_however_much_it_tells():
    clock = EventClock()
    clock.advance(0, "u")
    for n in range(50):
        assert not clock.advance(10 * MAX_LEAP_MS + n, "wild")
        assert clock.advance(n, "u")


def test_the_clock_survives_as_plain_values():
    clock, back = EventClock(), EventClock()
    clock.advance(0, "u")
    clock.advance(10 * MAX_LEAP_MS, "wild")
    back.restore(clock.values())
    assert back.values() == clock.values() and back.advance(10 * MAX_LEAP_MS, "other")


@given(st.lists(st.integers(0, 12), max_size=60))
def test_slots_are_dense_distinct_and_belong_to_the_latest_used(names):
    vocabulary = Vocabulary(5)
    for name in names:
        vocabulary.slot(1, str(name))
    latest = list(dict.fromkeys(str(n) for n in reversed(names)))[:5]
    slots = {name: vocabulary.slot(1, name) for name in latest}
    assert len(set(slots.values())) == len(latest) and max(slots.values(), default=0) < 5
    assert all(vocabulary.key(slot) == (1, name) for name, slot in slots.items())


def test_what_had_to_go_is_reported_with_its_slot():
    vocabulary = Vocabulary(2)
    first = vocabulary.slot(1, "a")
    vocabulary.slot(2, "b")
    assert vocabulary.slot(3, "c") == first
    assert vocabulary.evicted == [(first, 1, "a")] and len(vocabulary) == 2


def test_a_vocabulary_survives_as_plain_values_in_order_of_use():
    vocabulary, back = Vocabulary(2), Vocabulary(2)
    for name in ("a", "b", "a"):
        vocabulary.slot(1, name)
    back.restore(vocabulary.values())
    back.slot(1, "c")
    assert back.evicted[0].name == "b"


def names(due: Due) -> list[str]:
    return [impression.ad_id for impression, _ in due.labels]


@pytest.fixture
def warm() -> Patience:
    """Return a patience that has seen the first three mean delays."""
    patience = Patience()
    patience.wait(outcome(at=-60_000, ad_id="first"))
    assert names(patience.due(outcome().event_time)) == ["first"]
    return patience


def test_impressions_wait_as_long_as_clicks_do(warm):
    for n in range(4000):
        warm.wait(outcome(decision_id=f"d{n}"))
    for delays in (0.1, 0.5, 1, 2, 4):
        warm.due(outcome().event_time + round(delays * warm.delays.mean_ms))
        assert len(warm) / 4000 == pytest.approx(math.exp(-delays), abs=0.03)


def test_however_fast_traffic_grows_as_large_a_share_of_clicks_has_come_as_of_negatives(warm):
    rng, start = np.random.default_rng(0), outcome().event_time
    shown = np.repeat(np.arange(12) * 1000, 20 * 2 ** np.arange(12))  # twice as many every second
    for n, at in enumerate(shown.tolist()):
        warm.wait(outcome(at=at, decision_id=f"d{n}"))
    clicks = shown + rng.exponential(warm.delays.mean_ms, len(shown))
    for now in range(8000, 16_000, 1000):
        warm.due(start + now)
        assert len(shown) - len(warm) == pytest.approx((clicks <= now).sum(), rel=0.06)


def test_an_impression_of_a_partition_that_lags_does_not_wait_behind_those_of_others(warm):
    start = outcome().event_time
    warm.wait(outcome(at=100_000, ad_id="ahead"))
    warm.wait(outcome(at=0, ad_id="behind"))
    assert names(warm.due(start + 100_000)) == ["behind"]
    restored = Patience()
    warm.wait(outcome(at=50_000, ad_id="between"))
    restored.restore(warm.values())
    for one in (warm, restored):
        assert names(one.due(start + 200_000)) == ["between", "ahead"]


def test_too_many_waiting_impressions_make_the_oldest_go_first():
    patience = Patience(capacity=2)
    for n in range(4):
        patience.wait(outcome(ad_id=f"a{n}"))
    assert names(patience.due(outcome().event_time)) == ["a0", "a1"]


def started(**kwargs) -> Patience:
    """Return a patience that has heard, in its first seconds, of four impressions and two clicks."""
    patience = Patience(**kwargs)
    for n in range(4):
        patience.wait(outcome(at=3000 * n, decision_id=f"d{n}", ad_id=f"a{n}"))
    for n in (1, 3):
        at = {"at": 3000 * n + 1000, "decision_time": START + 3000 * n}
        click = outcome("click", decision_id=f"d{n}", ad_id=f"a{n}", **at)
        patience.note_click(click)
        assert patience.holds(click)
    return patience


def first_lesson(patience: Patience) -> int:
    return outcome().event_time + math.ceil(WARM_UP * patience.delays.mean_ms)


def test_at_the_start_nothing_is_learned_for_three_mean_delays():
    patience = started()
    assert patience.due(first_lesson(patience) - 1) == NOTHING_DUE
    assert patience.due(first_lesson(patience)) != NOTHING_DUE


def test_then_each_impression_is_learned_with_the_label_that_is_known():
    patience = started()
    due = patience.due(first_lesson(patience))
    learned = {impression.ad_id: label for impression, label in due.labels}
    assert learned == {name: float(name in ("a1", "a3")) for name in learned} and learned
    assert {click.ad_id for click in due.clicks} == {"a1", "a3"} - set(learned), "those not yet due"


def test_once_learning_has_begun_clicks_are_not_held():
    patience = started()
    patience.due(outcome().event_time + 15_000)
    assert not patience.holds(outcome("click", at=16_000))


def test_a_start_can_be_interrupted():
    patience, restored = started(), Patience()
    restored.restore(patience.values())
    now = outcome().event_time + 15_000
    assert restored.due(now) == patience.due(now)


def test_at_the_end_of_the_warm_up_as_large_a_share_of_clicks_has_come_as_of_negatives():
    """Also where no delay is short, which no exponential law of the first seconds' clicks would allow for."""
    rng, patience = np.random.default_rng(0), Patience()
    made = np.sort(rng.uniform(0, 60_000, 60_000))
    came = made + 800 + rng.exponential(3_000, len(made))
    told = sorted(
        [(at, n, "shown") for n, at in enumerate(made)] + [(at, n, "click") for n, at in enumerate(came)]
    )
    learned = 0
    for at, n, kind in told:
        name = {"decision_id": f"d{n}", "decision_time": START + round(made[n])}
        if kind == "shown":
            patience.wait(outcome(at=round(at), **name))
        else:
            patience.note_click(outcome("click", at=round(at), **name))
        if learned := len(patience.due(START + round(at)).labels):
            break
    assert at < 15_000
    assert learned == pytest.approx((came <= at).sum(), rel=0.05)


def test_slots_that_come_into_view_later_are_not_taken_for_less_clicked_at_the_start():
    """Slot 1 is seen two seconds after slot 0; its clicks come later after the decision, and as often."""
    rng, patience = np.random.default_rng(0), Patience()
    told = []
    for n, at in enumerate(np.sort(rng.uniform(0, 30_000, 30_000)).tolist()):
        slot = n % 2
        seen = round(at) + 200 + 2_000 * slot
        name = {"decision_id": f"d{n}", "slot": slot, "decision_time": START + round(at)}
        told.append((seen, n, outcome("impression", at=seen, **name)))
        came = seen + round(rng.exponential(3_000))
        told.append((came, n, outcome("click", at=came, **name)))
    clicks, labels = Counter(), Counter()
    for at, _, one in sorted(told, key=lambda t: t[:2]):
        if one.kind == "impression":
            patience.wait(one)
        else:
            patience.note_click(one)
            clicks[one.slot] += 1
        labels.update(shown.slot for shown, _ in patience.due(START + at).labels)
        if labels:
            break
    assert clicks[1] < 0.9 * clicks[0]
    for slot in (0, 1):
        assert clicks[slot] / labels[slot] == pytest.approx(1.0, abs=0.08)


def test_one_impression_that_came_a_month_late_moves_its_slots_usual_time_by_a_bounded_step():
    patience = Patience()
    for n in range(50):
        patience.wait(outcome(at=500, decision_id=f"d{n}", decision_time=START))
    patience.wait(outcome(at=30 * 86_400_000, decision_id="late", decision_time=START))
    for n in range(2_000):
        seen, click = 1_000 * n, {"decision_id": f"c{n}", "decision_time": START + 1_000 * n}
        patience.note_click(outcome("click", at=seen + 2_500, **click))
    assert 1_000 < patience.delays.mean_ms < 2_200, "two seconds, less what the late one has moved"


def test_the_guard_waits_for_enough_labels():
    guard = Guard(least_labels=100)
    for _ in range(99):
        guard.add(-2.0, 3.0, False)
    assert not guard.lost()
    guard.add(-2.0, 3.0, False)
    guard.add(-2.0, 2.9, False)
    assert guard.lost() and guard.report().z > 4


def test_the_guard_sees_no_loser_between_equals():
    guard, rng = Guard(least_labels=10), np.random.default_rng(0)
    for _ in range(2000):
        guard.add(-2.0 + rng.normal(0, 0.1), -2.0 + rng.normal(0, 0.1), bool(rng.random() < 0.12))
    assert not guard.lost() and abs(guard.report().z) < 4


def test_a_corrected_no_click_counts_as_the_click_it_was():
    told, corrected = Guard(), Guard()
    for guard in (told, corrected):
        guard.add(-1.0, -3.0, False)
    told.add(-2.0, -1.0, True)
    corrected.add(-2.0, -1.0, False)
    corrected.correct(-2.0, -1.0)
    one, two = told.report(), corrected.report()
    assert one.z == pytest.approx(two.z)
    assert one.logloss_frozen == pytest.approx(two.logloss_frozen)
    assert one.logloss_adjusted == pytest.approx(two.logloss_adjusted) and one.ctr == two.ctr


def test_the_guards_figures_are_those_of_its_window():
    guard = Guard(window=10**9)
    for click in (True, False, False, False):
        guard.add(0.0, np.log(1 / 3), click)
    report = guard.report()
    assert report.ctr == pytest.approx(0.25) and report.calibration_adjusted == pytest.approx(1.0)
    assert report.calibration_frozen == pytest.approx(2.0)
    assert report.logloss_frozen == pytest.approx(np.log(2))


def test_one_stream_drifts_and_only_it_raises_the_alarm():
    watch, rng, alarms = DriftWatch(), np.random.default_rng(0), []
    for n in range(6000):
        for category in ("calm", "moving"):
            rate = 0.4 if category == "moving" and n > 3000 else 0.1
            alarm = watch.add("s", category, float(rng.random() < rate) - 0.1, n)
            alarms += [alarm] if alarm else []
    assert alarms and {a.category for a in alarms} == {"moving"}
    assert 3000 < alarms[0].time_ms < 3400


def test_detectors_beyond_the_capacity_are_left_out():
    watch = DriftWatch(capacity=1)
    watch.add("s", "a", 0.0, 0)
    assert watch.add("s", "b", 0.0, 0) is None and len(watch) == 1


def test_position_bias_is_told_apart_from_a_model_that_is_too_bold():
    rng, bias = np.random.default_rng(3), PositionBias()
    for n in range(20_000):
        slot = n % 2
        offset = rng.normal(-2.0, 0.8) - 0.3 * slot
        p = (1.0, 0.5)[slot] / (1 + np.exp(-0.6 * (offset + 2.0) + 2.0))
        bias.learn(slot, offset, float(rng.random() < p), n * 100)
    assert bias.logits()[1] == pytest.approx(np.log(0.5), abs=0.15)


def test_position_bias_forgets_how_wrong_the_model_was_at_first():
    rng, bias = np.random.default_rng(4), PositionBias()
    for n in range(40_000):
        slot, pctr = n % 3, 0.1
        logit = np.log(pctr / (1 - pctr)) + (2.0 - 0.5 * slot if n < 4000 else 0.0)
        bias.learn(slot, logit, float(rng.random() < (1.0, 0.7, 0.5)[slot] * pctr), n * 5)
    assert bias.logits() == pytest.approx((0.0, np.log(0.7), np.log(0.5)), abs=0.2)


def test_position_bias_is_found_where_clicks_come_as_corrections_of_unanswered_impressions():
    rng, bias, waiting = np.random.default_rng(5), PositionBias(), []
    for n in range(60_000):
        slot, logit = n % 3, rng.normal(-1.0, 1.0)
        bias.learn(slot, logit, 0.0, n)
        if rng.random() < (1.0, 0.8, 0.6)[slot] / (1 + np.exp(-logit - 0.5)):
            waiting.append((slot, logit))
        if len(waiting) > 50:
            bias.correct(*waiting.pop(0))
    assert bias.logits() == pytest.approx((0.0, np.log(0.8), np.log(0.6)), abs=0.1)


def test_labels_of_ranked_slates_tell_the_examination_that_bare_click_rates_of_slots_do_not():
    """The best ads stand first, so the rate of a slot is of its ads as well; and predictions may be off."""
    rng, bias = np.random.default_rng(0), PositionBias()
    examination = np.array([1.0, 0.8, 0.65, 0.55, 0.45])
    logits = -np.sort(-rng.normal(-2.0, 1.0, (8000, 5)), axis=1)
    rate = examination / (1 + np.exp(-0.3 - 0.9 * logits))
    clicks = rng.random(logits.shape) < rate
    for row, clicked in zip(logits.tolist(), clicks.tolist(), strict=True):
        for slot, (logit, label) in enumerate(zip(row, clicked, strict=True)):
            bias.learn(slot, logit, float(label), 0)
    bare = clicks.mean(axis=0) / clicks[:, 0].mean()
    assert bare[4] < 0.5 * examination[4]
    assert np.exp(bias.logits()) == pytest.approx(examination, abs=0.06)


def test_examination_is_fitted_beside_rates_that_differ_by_bin():
    rate, examination = np.array([0.3, 0.05, 0.01]), np.array([1.0, 0.7, 0.4])
    shown = np.array([[1e6, 2e6, 1e6], [5e5, 2e6, 3e6], [0.0, 1e6, 9e6]])
    found = fit_examination(shown, shown * rate * examination[:, None])
    assert found == pytest.approx(examination, rel=1e-3)


@given(st.lists(st.tuples(st.integers(0, 3), st.floats(-30, 30), st.booleans()), min_size=10, max_size=80))
def test_examination_stays_in_bounds_whatever_is_clicked(rows):
    bias = PositionBias(least_labels=10)
    for n, (slot, logit, clicked) in enumerate(rows):
        bias.learn(slot, logit, 0.0, n)
        if clicked:
            bias.correct(slot, logit)
    assert all(-8.0 <= logit <= 0.0 for logit in bias.logits()) and bias.logits()[0] == 0.0


def test_a_slot_examined_always_shifts_nothing_and_a_rare_click_shifts_by_log_e():
    assert examination_shift(-1.0, 0.0) == 0.0
    assert examination_shift(-12.0, -0.7) == pytest.approx(-0.7, abs=1e-4)


@given(st.floats(-8, 8), st.floats(-3, 0))
def test_the_shifted_logit_is_that_of_an_examined_click(logit, log_e):
    p = 1 / (1 + np.exp(-logit - examination_shift(logit, log_e)))
    assert p == pytest.approx(np.exp(log_e) / (1 + np.exp(-logit)), rel=1e-6)


def test_position_bias_survives_as_plain_values():
    bias, back = PositionBias(10), PositionBias(10)
    for n in range(40):
        bias.learn(n % 4, -2.0, float(n % 5 == 0), n)
    back.restore(bias.values())
    for one in (bias, back):
        one.learn(2, -1.5, 1.0, 50)
        one.correct(1, -1.5)
    assert back.logits() == bias.logits()


BEFORE = np.array([[4000.0, 400.0], [2000.0, 800.0]]), np.array([[400.0, 80.0], [100.0, 80.0]])
"""Impressions and clicks by slot and stratum of a log in which slot 1 is looked at half as often."""


def test_position_bias_begins_with_what_a_models_log_told():
    bias = PositionBias()
    assert bias.begin(*BEFORE)
    assert bias.logits() == pytest.approx((0.0, np.log(0.5)), abs=0.05)


def test_position_bias_takes_in_the_log_of_one_model_only():
    bias = PositionBias()
    assert not bias.begin(*(0 * counts for counts in BEFORE)), "an empty log is none"
    assert bias.begin(*BEFORE)
    told = bias.logits()
    assert not bias.begin(BEFORE[0], 0.5 * BEFORE[1])
    assert bias.logits() == told


def test_what_a_models_log_told_of_slots_gives_way_to_what_is_seen():
    rng, bias = np.random.default_rng(6), PositionBias()
    bias.begin(*BEFORE)
    for n in range(40_000):
        bias.learn(n % 2, -1.5, float(rng.random() < (0.18, 0.18 * 0.8)[n % 2]), n * 3_000)
    assert bias.logits()[1] == pytest.approx(np.log(0.8), abs=0.1)


def test_a_log_of_a_year_gives_way_as_soon_as_one_of_an_hour():
    rng, bias = np.random.default_rng(7), PositionBias()
    bias.begin(*(10_000 * counts for counts in BEFORE))
    assert bias.logits()[1] == pytest.approx(np.log(0.5), abs=0.05)
    for n in range(400_000):
        bias.learn(n % 2, -1.5, float(rng.random() < (0.4, 0.4 * 0.8)[n % 2]), n)
    assert bias.logits()[1] == pytest.approx(np.log(0.76), abs=0.04)


def test_more_slots_in_a_log_than_are_told_apart_count_as_the_last():
    bias, whole = PositionBias(), np.full((30, 1), 1000.0)
    bias.begin(whole, 0.1 * whole)
    assert len(bias.logits()) == 20 and bias.logits()[-1] == pytest.approx(0.0, abs=0.01)


def test_position_bias_with_a_log_before_survives_as_plain_values():
    bias, back = PositionBias(), PositionBias()
    bias.begin(*BEFORE)
    bias.learn(1, -2.0, 1.0, 50)
    back.restore(bias.values())
    for one in (bias, back):
        one.learn(0, -2.0, 0.0, 10_000_000)
    assert back.logits() == bias.logits() and not back.begin(*BEFORE)


def test_position_bias_says_nothing_before_it_has_seen_enough():
    bias = PositionBias(least_labels=10)
    for n in range(9):
        bias.learn(n % 2, -2.0, 0.0, n)
    assert bias.logits() == ()
    bias.learn(1, -2.0, 0.0, 10)
    assert len(bias.logits()) == 2 and bias.logits()[0] == 0.0


def test_arrays_and_values_survive_packing_to_the_bit():
    arrays = {"a": np.array([[1.5, np.pi]]), "b": np.array([True, False]), "c": np.zeros(0, np.int64)}
    back, values = unpack("k", pack("k", arrays, {"n": [1, None, "x"]}))
    assert values == {"n": [1, None, "x"]}
    for name, array in arrays.items():
        assert back[name].dtype == array.dtype and (back[name] == array).all() and back[name].flags.writeable


def test_bytes_of_another_kind_or_cut_short_are_refused():
    data = pack("k", {"a": np.arange(3)}, {})
    for kind, bad in (("other", data), ("k", data[:-1]), ("k", b"")):
        with pytest.raises(ArtifactError):
            unpack(kind, bad)


def test_arrays_of_objects_are_never_read():
    import msgspec

    raw = msgspec.msgpack.encode({"kind": "k", "arrays": {"a": ["|O", [1], b"12345678"]}, "values": {}})
    with pytest.raises(ArtifactError):
        unpack("k", raw)
