"""A/B tests from outcomes alone."""

import numpy as np
from support.outcomes import outcome

from models.evaluation.ab_report import METRICS, ab_report, user_sums
from models.evaluation.experiments import MISMATCH_P, arm_of


def traffic(users=400, lift=0.0, impressions=10, at_s=0.0, seed=0):
    rng, out = np.random.default_rng(seed), []
    for n in range(users):
        user = f"u{n}"
        rate = 0.2 + lift * arm_of(user, "salt", (0.5, 0.5))
        for k in range(impressions):
            clicked = rng.random() < rate
            kind = "click" if clicked else "no_click"
            out.append(outcome("impression", at_s + k, user_id=user, charge_micros=10))
            out.append(outcome(kind, at_s + k, user_id=user))
    return out


def ctr(report):
    return report["metrics"]["ctr"]["against_control"][0]


def test_a_true_lift_is_found_and_none_is_not_claimed():
    assert ctr(ab_report(traffic(lift=0.1), "salt", (0.5, 0.5)))["verdict"] == "better"
    assert ctr(ab_report(traffic(lift=-0.1), "salt", (0.5, 0.5)))["verdict"] == "worse"
    assert ctr(ab_report(traffic(), "salt", (0.5, 0.5)))["verdict"] == "no difference shown"


def test_arms_whose_sizes_do_not_fit_the_shares_give_no_verdict():
    told = ctr(ab_report(traffic(lift=0.1), "salt", (0.9, 0.1)))
    assert told["sample_ratio_p"] > MISMATCH_P
    wrong = [o for o in traffic(lift=0.1) if arm_of(o.user_id, "salt", (0.5, 0.5)) == 0 or o.user_id < "u2"]
    assert ctr(ab_report(wrong, "salt", (0.5, 0.5)))["verdict"].startswith("none")


def test_a_treatment_that_makes_more_users_click_is_no_broken_split():
    """Whoever clicked is in the sums of CVR; that the treatment has more of them is its success."""
    users = [f"u{n}" for n in range(600)]
    treated = [user for user in users if arm_of(user, "salt", (0.5, 0.5))]
    clickers = treated + [user for user in users if user not in treated][:40]
    rows = [outcome("impression", user_id=user) for user in users]
    rows += [outcome("click", user_id=user) for user in clickers]
    told = ab_report(rows, "salt", (0.5, 0.5))
    cvr = told["metrics"]["cvr"]
    assert cvr["users"] == [40, len(treated)]
    assert told["users"] == [600 - len(treated), len(treated)]
    assert cvr["against_control"][0]["sample_ratio_p"] > MISMATCH_P
    assert not cvr["against_control"][0]["verdict"].startswith("none")


def test_what_was_before_the_start_is_a_covariate_and_no_result():
    before, during = traffic(impressions=40), traffic(at_s=1000, seed=1)
    since = min(o.decision_time for o in during)
    told = ab_report([*before, *during], "salt", (0.5, 0.5), since_ms=since)
    assert (told["outcomes"], told["covariate_outcomes"]) == (len(during), len(before))
    assert sum(told["metrics"]["ctr"]["users"]) == 400


def test_every_metric_sums_its_own_events():
    rows = [
        outcome("impression", charge_micros=5),
        outcome("click"),
        outcome("no_click"),
        outcome("click", late=True),
        outcome("conversion", value_micros=70, through="click"),
    ]
    assert {metric: user_sums(rows, metric) for metric in METRICS} == {
        "ctr": {"u": (1.0, 2.0)},
        "cvr": {"u": (1.0, 2.0)},
        "revenue": {"u": (5.0, 1.0)},
        "value": {"u": (70.0, 1.0)},
    }


def test_conversions_after_a_mere_view_are_none_of_a_click():
    rows = [outcome("click"), outcome("conversion", through="click"), outcome("conversion", through="view")]
    rows += [outcome("conversion", through="view", user_id="looked")]
    assert user_sums(rows, "cvr") == {"u": (1.0, 1.0)}


def test_the_last_minute_in_which_only_clicks_are_known_is_left_out_of_ctr_alone():
    rows = [outcome("no_click", 9), *(outcome("click", at_s, user_id="v") for at_s in (9, 10, 50))]
    told = ab_report(rows, "salt", (0.5, 0.5))
    assert user_sums(rows, "ctr") == {"u": (0.0, 1.0), "v": (1.0, 1.0)}
    assert user_sums(rows, "cvr") == {"v": (0.0, 3.0)}
    assert told["censored_labels"] == 2


def test_three_arms_are_each_set_against_the_first():
    told = ab_report(traffic(), "salt", (1, 1, 1))["metrics"]["ctr"]["against_control"]
    assert [each["arm"] for each in told] == [1, 2]


def test_an_empty_arm_is_refused_by_name():
    told = ab_report(traffic(users=1), "salt", (0.5, 0.5))["metrics"]["ctr"]["against_control"]
    assert told == [{"arm": 1, "refusal": "an arm has fewer than 10 users"}]


def test_nothing_is_said_of_arms_of_a_few_users():
    few, more = (ab_report(traffic(users=users, lift=0.5), "salt", (0.5, 0.5)) for users in (14, 60))
    assert min(few["metrics"]["ctr"]["users"]) < 10 <= min(more["metrics"]["ctr"]["users"])
    assert set(ctr(few)) == {"arm", "refusal"} and ctr(more)["verdict"] == "better"
