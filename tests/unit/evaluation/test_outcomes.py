"""Outcome logs as evaluation takes them."""

import pytest

from models.domain.decision import Outcome, Parts
from models.evaluation.outcomes import exposure_fairness, labelled, labels, split_labels


def outcome(
    kind="no_click", at_s=10, ad="a", *, decided_s=None, slot=0, pctr=0.1, late=False, user="u", n=0,
    partition=0,
):  # fmt: skip
    decided = at_s - 5 if decided_s is None else decided_s
    return Outcome(
        kind=kind, decision_id=f"events-{partition}-{decided}", event_id=f"{kind}-{at_s}-{ad}-{n}",
        user_id=user, ad_id=ad, campaign_id="c", creative_id="", category="garden", segment="s1", slot=slot,
        decision_time=decided * 1000, event_time=at_s * 1000, pctr=pctr, pcvr=0.1, propensity=0.5,
        behavior_policy="randomized", parts=Parts(base=-2.0), model_hash="m", adjustments_version=0,
        late=late,
    )  # fmt: skip


def test_only_the_label_of_an_impression_is_a_row_and_late_clicks_are_none():
    rows = [outcome("click", 12), outcome("no_click", 20), outcome("impression"), outcome("conversion")]
    assert labels([*rows, outcome("click", late=True)]) == rows[:2]


def test_rows_stand_in_order_of_the_time_their_label_was_known():
    found = labelled([outcome(at_s=73, decided_s=4), outcome("click", 12, decided_s=3)])
    assert found.label_time_s.tolist() == [12, 73]
    assert found.time_s.tolist() == [3, 4]
    assert found.label.tolist() == [1, 0]


def recorded(until_s, wait_s=60, partition=0, from_s=0, delay_s=0, every=5):
    """Return what is known at a time of one impression a second, every fifth of which is clicked after 3 s.

    Each is seen so long after its decision.
    """
    told = []
    for at in range(from_s, until_s):
        seen, clicked = at + delay_s, at % every == 0
        about = {"decided_s": at, "partition": partition}
        known = seen + (3 if clicked else wait_s)
        told += [outcome("impression", seen, **about)] if seen <= until_s else []
        if known <= until_s:
            told.append(outcome("click" if clicked else "no_click", known, **about))
    return told


def click_rate(outcomes):
    return labelled(outcomes).label.mean()


@pytest.mark.parametrize("until_s", [100, 300])
def test_the_end_of_a_log_where_only_clicks_are_known_does_not_raise_the_click_rate(until_s):
    told = recorded(until_s)
    rows, censored = split_labels(told)
    assert click_rate(told) == pytest.approx(0.2, abs=0.01)
    assert len(rows) == pytest.approx(until_s - 60, abs=2)
    assert len(rows) + censored == sum(o.kind != "impression" for o in told)
    assert {o.kind for o in told if o.decision_time > 1000 * (until_s - 59)} == {"impression", "click"}


def test_an_impression_from_before_the_log_does_not_make_all_others_wait_as_long():
    told = recorded(3600)
    seen_late = [outcome("no_click", at_s=3599, decided_s=500, slot=1)]
    assert split_labels(told + seen_late).censored == split_labels(told).censored


def test_while_only_clicks_are_known_there_is_no_label():
    told = recorded(40)
    assert split_labels(told) == ([], sum(o.kind == "click" for o in told))
    assert sum(o.kind == "click" for o in told) > 5


def test_each_partition_is_cut_by_its_own_clock():
    behind = [o for o in recorded(400) if o.event_time <= 100_000]
    told = recorded(400, partition=1) + behind
    ends = {
        p: max(o.decision_time for o in labels(told) if o.decision_id.startswith(f"events-{p}")) for p in "01"
    }
    assert ends == pytest.approx({"0": 40_000, "1": 340_000}, abs=1500)
    assert click_rate(told) == pytest.approx(0.2, abs=0.01)


def test_an_impression_waits_from_when_it_was_seen_not_from_its_decision():
    slow, usual = recorded(300, delay_s=100, every=2), recorded(300, every=2, partition=1)
    assert max(o.decision_time for o in labels(slow)) == pytest.approx(140_000, abs=2000)
    assert max(o.decision_time for o in labels(usual)) == pytest.approx(240_000, abs=2000)
    assert click_rate(slow + usual) == pytest.approx(0.5, abs=0.01)


def test_a_wait_that_the_policy_has_cut_leaves_no_part_with_clicks_alone():
    told = [o for o in recorded(200, wait_s=60) if o.decision_time < 180_000]
    told += recorded(200, wait_s=5, from_s=180)
    assert click_rate(told) == pytest.approx(0.2, abs=0.01)


def test_predictions_are_of_seen_slots_and_scaled_by_examination():
    found = labelled(
        [outcome(slot=0, pctr=0.2), outcome(slot=1, pctr=0.2), outcome(slot=5, pctr=0.2)], [1.0, 0.5]
    )
    assert sorted(found.predicted.tolist()) == pytest.approx([0.1, 0.1, 0.2])


def test_a_slot_that_is_looked_at_more_than_the_first_keeps_its_prediction_below_one():
    found = labelled([outcome(slot=0, pctr=0.9), outcome(slot=1, pctr=0.9)], [1.0, 2.0])
    assert sorted(found.predicted.tolist()) == pytest.approx([0.9, 1.8 / 1.9])


def test_an_ad_is_new_for_two_minutes_unless_it_was_there_from_the_start():
    rows = [outcome(at_s=t, ad=ad) for ad, t in (("a", 10), ("b", 400), ("a", 410), ("b", 500), ("b", 600))]
    assert labelled(rows).slices["new_ad"].tolist() == ["old", "new", "old", "new", "old"]


def test_exposure_is_set_beside_merit_by_ad_and_advertiser():
    rows = [outcome("click" if n % 2 else "no_click", 10, "a", n=n) for n in range(60)]
    rows += [outcome("no_click", 10, "b", n=n) for n in range(20)]
    correlation, groups = exposure_fairness(rows, {"a": "acme"})
    assert correlation == pytest.approx(1)
    shares = {g.group: g.exposure_share for g in groups}
    assert shares == {"": pytest.approx(0.25), "acme": pytest.approx(0.75)}


def test_ads_that_were_never_shown_count_in_the_correlation_with_the_overall_merit():
    rows = [outcome("click" if n % 2 else "no_click", 10, "a", n=n) for n in range(60)]
    rows += [outcome("no_click", 10, "b", n=n) for n in range(20)]
    assert exposure_fairness(rows, {}, unseen=9)[0] < exposure_fairness(rows, {})[0] == pytest.approx(1)


def test_an_empty_log_gives_empty_rows():
    assert len(labelled([]).label) == 0
    assert exposure_fairness([], {}) == (0.0, [])
