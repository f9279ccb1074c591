"""Off-policy rows of decisions that were decided again."""

import numpy as np
import pytest
from support.outcomes import outcome
from support.slate_worlds import CATALOGUE, decision

from models.domain.errors import LogError
from models.evaluation.estimates import estimates
from models.evaluation.offpolicy import METHODS
from models.evaluation.redecided import Chance, Redecided, Rows, distribution_value
from models.evaluation.reward_models import AdMeans, fold_of


def label(kind, number=0, slot=0, user="u", ad="a0"):
    return outcome(kind, 1, decision_id=f"d{number}", slot=slot, user_id=user, ad_id=ad)


def test_later_slots_count_with_the_product_of_the_chances_up_to_theirs():
    found = Redecided([label("no_click"), label("click", slot=1, ad="a1")])
    found.take(decision(0, [0.5, 0.2]), [Chance(1.0, 0.1), Chance(0.4, 0.1)])
    assert found.first.reward == [0.0]
    assert found.slate.reward == [0.0, 1.0]
    assert found.slate.propensity == [0.5, 0.1]
    assert found.slate.target == [1.0, 0.4]


def test_a_slots_row_has_the_weight_before_it_and_the_values_of_its_own_slot():
    found = Redecided([label("no_click", 1), label("click", slot=1, ad="a1")])
    found.take(decision(0, [0.5, 0.2]), [Chance(0.8, 0.1), Chance(0.4, 0.3)])
    found.take(decision(1, [0.5, 0.2]), [Chance(0.8, 0.2)])
    assert found.slate.weight_before == [1.6, 1.0], "slot 0 of d0 has no label"
    assert found.slate.v_target == [0.3, 0.2]
    assert found.first.data().weight_before is None


def test_a_slot_whose_ad_cannot_be_chosen_counts_with_its_value_and_those_after_with_nothing():
    found = Redecided([label("click"), label("click", slot=1, ad="a1"), label("no_click", 1)])
    found.take(decision(0, [0.5, 0.5]), [Chance(0.0, 0.1)])
    data = found.slate.data()
    assert data.target.tolist() == [0.0, 0.0]
    assert METHODS["dr"](data)[0].tolist() == [0.1, 0.0]


@pytest.mark.parametrize("bad", [0.0, float("nan")])
def test_a_propensity_that_cannot_be_is_named_whatever_comes_after(bad):
    found = Redecided([label("click", slot=1, ad="a1"), label("no_click", 1)])
    found.take(decision(0, [bad, 0.5]), [Chance(0.5, 0.1), Chance(0.5, 0.1)])
    with pytest.raises(LogError, match="propensity of row 0"):
        found.slate.data()


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
    assert found.means.folds[fold].overall == 0.5, "the young click is in no mean"


def test_an_ads_mean_is_of_the_users_of_the_other_fold_and_shrunk():
    users = [f"u{n}" for n in range(20)]
    here = [user for user in users if fold_of(user) == 0]
    there = [user for user in users if fold_of(user) == 1]
    means = AdMeans.of([label("click", user=user) for user in there])
    assert means.values(here[0], ["a0"], 0) == pytest.approx(1.0)
    assert means.values(there[0], ["a0"], 0) == 0.0
    half = AdMeans.of([label("click", user=there[0]), label("no_click", user=there[0], ad="b")])
    assert half.values(here[0], ["a0", "b"], 0) == pytest.approx([11 / 21, 10 / 21])


def of_fold(fold):
    return next(f"u{k}" for k in range(20) if fold_of(f"u{k}") == fold)


def clicks_in(slot, ad, clicks, n=1000):
    """Labels of a user of fold 1."""
    kinds = ("click" if k < clicks else "no_click" for k in range(n))
    return [label(kind, slot=slot, user=of_fold(1), ad=ad) for kind in kinds]


def test_an_ad_is_held_against_what_the_slots_that_it_stood_in_let_expect():
    """Ad b had the second slot alone, where everything is clicked half as often, and is the better one."""
    shown = [(0, "a", 300), (0, "c", 300), (1, "a", 150), (1, "c", 150), (1, "b", 180)]
    means = AdMeans.of([row for each in shown for row in clicks_in(*each)])
    first, second = (means.values(of_fold(0), ["a", "b", "unknown"], slot) for slot in (0, 1))
    assert second == pytest.approx([0.16, 0.18, 0.16], rel=0.06)
    assert first[1] > 1.1 * first[0]
    assert first / second == pytest.approx(np.full(3, 300 / 160), rel=0.05)


def test_no_model_promises_more_than_a_click():
    means = AdMeans.of([*clicks_in(0, "a", 900), *clicks_in(1, "b", 10), *clicks_in(1, "c", 900)])
    assert means.values(of_fold(0), ["c"], 0) == 1.0


def test_where_nobody_clicks_nothing_is_expected_of_anything():
    means = AdMeans.of([label("no_click", user=f"u{n}", slot=n % 2) for n in range(20)])
    assert means.values("u0", ["a0", "unknown"], 1).tolist() == [0.0, 0.0]


def test_the_value_of_a_distribution_is_its_mean_reward():
    means, user = AdMeans.of([*clicks_in(0, "a0", 200), *clicks_in(0, "a1", 600)]), of_fold(0)
    rows, chances = np.array([1, 0, -1], np.int32), np.array([0.75, 0.25, 0.0])
    a0, a1 = means.values(user, ["a0", "a1"], 0)
    found = distribution_value(chances, rows, CATALOGUE, means, user, 0)
    assert found == pytest.approx(0.75 * a1 + 0.25 * a0)
    assert distribution_value(np.zeros(3), rows, CATALOGUE, means, user, 0) == 0.0


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
