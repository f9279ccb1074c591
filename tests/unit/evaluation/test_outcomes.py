"""Outcome logs as evaluation takes them."""

import numpy as np
import pytest

from models.domain.decision import Outcome, Parts
from models.evaluation.offpolicy import estimate
from models.evaluation.outcomes import bandit_data, exposure_fairness, labelled, labels


def outcome(
    kind="no_click", at_s=10, ad="a", *, decided_s=None, slot=0, pctr=0.1, late=False, user="u", n=0
):  # fmt: skip
    decided = at_s - 5 if decided_s is None else decided_s
    return Outcome(
        kind=kind, decision_id=f"d{decided}", event_id=f"{kind}-{at_s}-{ad}-{n}", user_id=user, ad_id=ad,
        campaign_id="c", creative_id="", category="garden", segment="s1", slot=slot,
        decision_time=decided * 1000, event_time=at_s * 1000, pctr=pctr, pcvr=0.1, propensity=0.5,
        behavior_policy="randomized", parts=Parts(base=-2.0), model_hash="m", adjustments_version=0,
        late=late,
    )  # fmt: skip


def test_only_the_label_of_an_impression_is_a_row_and_late_clicks_are_none():
    rows = [outcome("click", 12), outcome("impression"), outcome("conversion"), outcome("click", late=True)]
    assert labels(rows) == rows[:1]


def test_rows_stand_in_order_of_the_time_their_label_was_known():
    found = labelled([outcome(at_s=70, decided_s=1), outcome("click", 12, decided_s=3)])
    assert found.label_time_s.tolist() == [12, 70]
    assert found.time_s.tolist() == [3, 1]
    assert found.label.tolist() == [1, 0]


def test_predictions_are_of_seen_slots_and_scaled_by_examination():
    found = labelled(
        [outcome(slot=0, pctr=0.2), outcome(slot=1, pctr=0.2), outcome(slot=5, pctr=0.2)], [1.0, 0.5]
    )
    assert sorted(found.predicted.tolist()) == pytest.approx([0.1, 0.2, 0.2])


def test_an_ad_is_new_for_two_minutes_unless_it_was_there_from_the_start():
    rows = [outcome(at_s=t, ad=ad) for ad, t in (("a", 10), ("b", 400), ("a", 410), ("b", 500), ("b", 600))]
    assert labelled(rows).slices["new_ad"].tolist() == ["old", "new", "old", "new", "old"]


def test_off_policy_rows_take_the_logged_propensity_and_group_by_user():
    rows = [outcome("click", 10, user="x"), outcome(at_s=11, user="y"), outcome(at_s=12, user="x")]
    data = bandit_data(rows, [0.25, 0.5, 0.5])
    assert data.user[0] == data.user[2] != data.user[1]
    assert estimate(data, "ips", replicates=10).interval.value == pytest.approx(0.5 / 3)


def test_exposure_is_set_beside_merit_by_ad_and_advertiser():
    rows = [outcome("click" if n % 2 else "no_click", 10, "a", n=n) for n in range(60)]
    rows += [outcome("no_click", 10, "b", n=n) for n in range(20)]
    correlation, groups = exposure_fairness(rows, {"a": "acme"})
    assert correlation == pytest.approx(1)
    shares = {g.group: g.exposure_share for g in groups}
    assert shares == {"": pytest.approx(0.25), "acme": pytest.approx(0.75)}


def test_an_empty_log_gives_empty_rows():
    assert len(labelled([]).label) == 0
    assert exposure_fairness([], {}) == (0.0, [])
    assert bandit_data([], np.zeros(0)).reward.shape == (0,)
