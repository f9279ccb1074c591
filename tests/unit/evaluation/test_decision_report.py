"""Figures of recorded decisions and outcomes."""

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.outcomes import MINUTE, outcome
from support.shards import Bench, LogBuilder, bodies, run

from models.domain import events
from models.domain.catalogue import Ad
from models.domain.decision import Decision
from models.domain.policy import Exploration, Policy
from models.evaluation.decision_page import decision_page
from models.evaluation.decision_report import (
    click_figures,
    exposure_figures,
    feedback_counts,
    groups_of,
    propensity_figures,
)


def labels(clicks, pctr=0.5, **fields):
    return [outcome("click" if c else "no_click", n, pctr=pctr, **fields) for n, c in enumerate(clicks)]


def randomised(requests=400, ads=10):
    log = LogBuilder()
    log.add(events.PolicyChange, policy=Policy(exploration=Exploration(randomized_share=1.0), slots=2))
    bids = range(1, ads + 1)
    log.add(events.AdUpsert, ads=tuple(Ad(ad_id=f"a{n}", campaign_id=f"c{n}", bid_micros=n) for n in bids))
    for n in range(requests):
        log.request(user_id=f"u{n}")
    return bodies(run(Bench().shard(), log.records), Decision)


def test_a_prediction_that_means_what_it_says_has_no_calibration_error():
    told = click_figures(labels([1, 0, 1, 0]))
    assert told["labels"] == 4
    assert told["click"]["ece"] == 0
    assert told["click"]["normalised_entropy"] == pytest.approx(1)


def test_slices_and_windows_cover_all_labels():
    rows = labels([1, 0, 1], segment="s1") + labels([0, 0, 0], segment="s2", slot=1)
    told = click_figures(rows, window_s=1.5)
    assert {name: found["rows"] for name, found in told["slices"]["segment"].items()} == {"s1": 3, "s2": 3}
    assert {name: found["rows"] for name, found in told["slices"]["slot"].items()} == {"0": 3, "1": 3}
    assert sum(point["rows"] for point in told["curve"]) == 6


def test_late_clicks_are_counted_and_not_judged():
    told = click_figures([*labels([1, 0]), outcome("click", 9, late=True)])
    assert (told["labels"], told["late_clicks"]) == (2, 1)


def test_clicks_that_no_unanswered_impression_stands_beside_yet_are_counted_and_not_judged():
    told = click_figures([*labels([1, 0]), outcome("click", 3), outcome("click", 4)])
    assert (told["labels"], told["censored_labels"], told["refusal"]) == (2, 2, "")


def test_a_log_of_clicks_alone_is_refused_and_shows_no_click_rate():
    rows = labels([1, 1, 1])
    told, exposure = click_figures(rows), exposure_figures(rows, {})
    assert (told["labels"], told["censored_labels"]) == (0, 3)
    assert "only clicks are known" in told["refusal"]
    assert told["click"]["ctr"] is None and told["curve"] == []
    assert exposure["correlation_with_merit"] is exposure["gini"] is None
    page = decision_page(
        {"decisions": 0, "outcomes": 3, **told, "exposure": {"by": "ad", **exposure}}, None, []
    )
    assert "3 labels at the end of the log are left out" in page and told["refusal"] in page


def test_no_window_of_the_curve_holds_clicks_alone_though_clicks_are_known_first():
    rows = [outcome("no_click", n + 60, decision_time=MINUTE + 1000 * n) for n in range(240)]
    rows += [outcome("click", n + 3, decision_time=MINUTE + 1000 * n) for n in range(0, 240, 4)]
    points = click_figures(rows, window_s=60)["curve"]
    assert [point["ctr"] for point in points] == pytest.approx([0.2] * 4, abs=0.01)
    assert points[0]["start_s"] == MINUTE / 1000


def test_what_one_class_leaves_undefined_is_none():
    told = click_figures(labels([0, 0]))
    assert told["click"]["auc"] is None
    assert told["click"]["normalised_entropy"] is None


@given(st.lists(st.booleans(), min_size=1, max_size=30))
def test_no_figure_is_nan_whatever_the_labels(clicks):
    told = click_figures(labels(clicks))
    figures = [told["click"], *told["slices"]["segment"].values(), *told["curve"]]
    assert all(v is None or np.isfinite(v) for found in figures for v in found.values())


def test_no_labels_give_no_figures_and_no_error():
    told = click_figures([outcome("impression")])
    assert told["labels"] == 0
    assert told["mean_label_delay_s"] is told["click"]["ece"] is None
    assert told["refusal"].startswith("no labels")


def test_outcomes_are_counted_by_kind():
    assert feedback_counts([outcome("click"), outcome("click"), outcome("hide")]) == {"click": 2, "hide": 1}


def test_exposure_is_shared_out_to_the_groups_named():
    rows = labels([1, 0, 0], ad_id="a") + labels([0], ad_id="b")
    told = exposure_figures(rows, {"a": "x", "b": "y"})
    assert [(g["group"], g["exposure_share"]) for g in told["groups"]] == [("x", 0.75), ("y", 0.25)]
    assert told["ads_shown"] == 2


def test_inequality_is_over_all_ads_of_a_log_and_says_so():
    rows = labels([1, 0], ad_id="a") + labels([1, 0], ad_id="b")
    shown, every = exposure_figures(rows, {}), exposure_figures(rows, {}, ["a", "b", "c", "d"])
    assert (shown["gini"], shown["ads"], shown["over"]) == (0, 2, "ads shown")
    assert (every["gini"], every["ads"], every["over"]) == (0.5, 4, "all ads of the log")
    assert every["ads_shown"] == 2 and every["groups"] == shown["groups"]
    page = decision_page({"decisions": 0, "outcomes": 4, "exposure": {"by": "ad", **every}}, None, [])
    assert "2 ads were shown; over all ads of the log (4)" in page


def slots(seen, rows=600, pctr=0.5):
    """Two slots, the second of which is looked at so often."""
    first = [outcome("click" if n % 2 else "no_click", n, pctr=pctr) for n in range(rows)]
    clicks = round(rows * pctr * seen)
    second = [outcome("click" if n < clicks else "no_click", n, pctr=pctr, slot=1) for n in range(rows)]
    return first + second


def test_a_slot_that_is_looked_at_less_is_no_error_of_the_predictions_where_that_is_known():
    told = click_figures(slots(0.4), examination=(1.0, 0.4))
    assert told["click"]["ece"] == pytest.approx(0, abs=1e-9)
    assert (told["examination"], told["note"]) == ([1.0, 0.4], "")


def test_where_it_is_not_known_how_slots_are_looked_at_the_first_one_stands_beside_the_total():
    told = click_figures(slots(0.4))
    assert told["click"]["ece"] == pytest.approx(0.15)
    assert told["first_slot"]["ece"] == pytest.approx(0) and told["first_slot"]["rows"] == 600
    assert told["examination"] is None
    page = decision_page({"decisions": 0, "outcomes": 1200, **told}, None, [])
    assert "How often each slot is looked at is not known" in page and "ECE, slot 0" in page
    assert click_figures(labels([1, 0]))["note"] == "", "there is but one slot"


def test_a_segment_that_is_shown_more_than_it_clicks_on_has_a_ratio_above_one():
    rows = labels([1, 0, 0], segment="s1", user_id="u1") + labels([1], segment="s2", user_id="u2")
    s1, s2 = exposure_figures(rows, {})["segments"]
    assert (s1["group"], s1["exposure_share"], s1["merit_share"], s1["ratio"]) == ("s1", 0.75, 0.5, 1.5)
    assert (s2["group"], s2["exposure_share"], s2["merit_share"], s2["ratio"]) == ("s2", 0.25, 0.5, 0.5)
    assert s1["inventory_share"] == s2["inventory_share"] == 0.5, "one user each"


def test_a_user_counts_once_however_many_impressions_and_segments_it_has():
    rows = labels([0, 0, 0], segment="s1", user_id="u1") + labels([0], segment="s2", user_id="u1")
    rows += labels([0], segment="s2", user_id="u2")
    shares = {one["group"]: one["inventory_share"] for one in exposure_figures(rows, {})["segments"]}
    assert shares == pytest.approx({"s1": 0.375, "s2": 0.625})


def test_a_segment_without_clicks_has_no_ratio():
    told = exposure_figures(labels([1], segment="s1") + labels([0], segment="s2"), {})
    assert [one["ratio"] for one in told["segments"]] == [0.5, None]


def test_exact_propensities_pass_and_their_inverse_counts_the_candidates():
    told = propensity_figures(randomised())
    (sanity,) = told.values()
    assert sanity["bad"] == 0
    assert abs(sanity["inverse_per_candidate"] - 1) < 4 * sanity["standard_error"]


def test_propensities_logged_twice_as_large_are_found_out():
    replace = msgspec.structs.replace
    wrong = [
        replace(d, ads=tuple(replace(s, propensity=min(2 * s.propensity, 1.0)) for s in d.ads))
        for d in randomised(100)
    ]
    (sanity,) = propensity_figures(wrong).values()
    assert sanity["bad"] == 100
    assert sanity["inverse_per_candidate"] < 0.6


@pytest.mark.parametrize("wrong", ["propensity", "candidates"])
def test_a_propensity_of_nought_counts_as_bad_and_is_not_divided_by(wrong):
    replace = msgspec.structs.replace
    first, *others = randomised(100)
    if wrong == "propensity":
        first = replace(first, ads=(replace(first.ads[0], propensity=0.0), *first.ads[1:]))
    else:
        first = replace(first, candidates=0)
    (sanity,), (sound,) = (propensity_figures(rows).values() for rows in ([first, *others], others))
    assert sanity["bad"] == (wrong == "propensity")
    assert sanity["inverse_per_candidate"] == sound["inverse_per_candidate"]


def test_ads_are_grouped_by_the_campaign_that_was_decided():
    assert groups_of(randomised(20, ads=3)) == {f"a{n}": f"c{n}" for n in (1, 2, 3)}
