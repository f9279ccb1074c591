"""Off-policy rows of decisions that were decided again."""

import numpy as np
import pytest
from support.outcomes import outcome

from models.domain.decision import Decision, Parts, Slot
from models.evaluation.estimates import estimates
from models.evaluation.redecided import Chance, Redecided, Rows, distribution_value
from models.evaluation.reward_models import AdMeans, fold_of


def decision(number, propensities, user="u", ads=None):
    names = ads or [f"a{s}" for s in range(len(propensities))]
    slots = tuple(
        Slot(
            slot=s, ad_id=names[s], campaign_id="c", creative_id="", category="", pctr=0.1, pcvr=0.1,
            bid_type="cpc", bid_micros=1, price_micros=1, ecpm_micros=1, pacing=0.0, propensity=p,
            parts=Parts(base=0.0),
        )
        for s, p in enumerate(propensities)
    )  # fmt: skip
    return Decision(
        decision_id=f"d{number}", trigger="request", request_id="r", user_id=user, placement_id="",
        segment="", event_time=0, ingest_time=0, ads=slots, candidates=9, filtered={}, activity={},
        behavior_policy="b",
        slate_propensity=float(np.prod(propensities)), model_hash="", catalogue_version="",
        adjustments_version=0, pacing_version=0, policy_version=0, rung="full",
    )  # fmt: skip


def label(kind, number=0, slot=0, user="u", ad="a0"):
    return outcome(kind, 1, decision_id=f"d{number}", slot=slot, user_id=user, ad_id=ad)


def test_later_slots_count_with_the_product_of_the_chances_up_to_theirs():
    found = Redecided([label("no_click"), label("click", slot=1, ad="a1")])
    found.take(decision(0, [0.5, 0.2]), [Chance(1.0, 0.1), Chance(0.4, 0.1)])
    assert found.first.reward == [0.0]
    assert found.slate.reward == [0.0, 1.0]
    assert found.slate.propensity == [0.5, 0.1]
    assert found.slate.target == [1.0, 0.4]


def test_slots_after_an_ad_that_is_no_candidate_have_no_chance():
    found = Redecided([label("click", slot=1, ad="a1"), label("no_click", 1)])
    found.take(decision(0, [0.5, 0.5]), [Chance(0.0, 0.1)])
    assert found.slate.target == [0.0]


def test_only_labelled_decisions_are_wanted():
    found = Redecided([label("click", 3), label("impression", 4), label("no_click", 5)])
    assert found.wants("d3") and found.wants("d5")
    assert not found.wants("d4")


def test_decisions_of_which_only_a_click_could_be_known_yet_are_not_wanted():
    young = outcome("click", 30, decision_id="d9", slot=0)
    found = Redecided([label("click"), label("no_click", 1), young])
    assert not found.wants("d9")
    assert found.censored == 1
    fold = 1 - fold_of("u")
    assert found.means.mean[fold] == 0.5, "the young click is in no mean"


def test_an_ads_mean_is_of_the_users_of_the_other_fold_and_shrunk():
    users = [f"u{n}" for n in range(20)]
    here = [user for user in users if fold_of(user) == 0]
    there = [user for user in users if fold_of(user) == 1]
    means = AdMeans.of([label("click", user=user) for user in there])
    assert means.value(here[0], "a0") == pytest.approx(1.0)
    assert means.value(there[0], "a0") == 0.0
    half = AdMeans.of([label("click", user=there[0]), label("no_click", user=there[0], ad="b")])
    assert half.value(here[0], "a0") == pytest.approx((1 + 20 * 0.5) / 21)


def test_the_value_of_a_distribution_is_its_mean_reward():
    means = AdMeans((0.2, 0.2), ({}, {}))
    rows = np.array([1, 0, -1], np.int32)
    assert distribution_value(np.array([0.5, 0.5, 0.0]), rows, ["a", "b"], means, "u") == pytest.approx(0.2)


def logged(seed, rows=20_000, target=(0.1, 0.9)):
    """Two ads, the better one shown rarely; the evaluation policy prefers it."""
    rng, data = np.random.default_rng(seed), Rows()
    ad = (rng.random(rows) < 0.3).astype(int)
    reward = rng.random(rows) < np.where(ad == 1, 0.3, 0.1)
    data.reward, data.user = reward.astype(float).tolist(), rng.integers(0, 3000, rows).tolist()
    data.propensity = np.where(ad == 1, 0.3, 0.7).tolist()
    data.target = np.where(ad == 1, target[1], target[0]).tolist()
    data.q_logged, data.v_target = np.where(ad == 1, 0.3, 0.1).tolist(), [0.28] * rows
    return data.data()


def test_estimates_find_the_value_and_say_that_it_is_better():
    told = estimates(logged(0), replicates=200)
    assert told["refusal"] == ""
    assert told["mean_weight"] == pytest.approx(1, abs=0.05)
    for method in ("ips", "snips", "dr"):
        assert told["estimates"][method]["value"] == pytest.approx(0.28, abs=0.02)
        assert told["estimates"][method]["verdict"] == "better"


def test_the_model_alone_gives_no_verdict_nor_does_a_log_that_is_too_thin():
    assert estimates(logged(0), replicates=50)["estimates"]["dm"]["verdict"] == "none"
    thin = estimates(logged(0, rows=300), replicates=50)
    assert "below 500" in thin["refusal"]
    assert {each["verdict"] for each in thin["estimates"].values()} == {"none"}


def test_a_policy_that_does_as_the_log_did_shows_no_difference():
    told = estimates(logged(1, target=(0.7, 0.3)), ("ips", "snips"), replicates=50)
    assert told["max_weight"] == 1.0
    assert told["estimates"]["ips"]["value"] == told["logged"]["value"]
    assert told["estimates"]["ips"]["verdict"] == "no difference shown"


def test_no_rows_is_a_refusal_not_an_error():
    assert estimates(Rows().data()) == {"rows": 0, "refusal": "no labelled rows"}
