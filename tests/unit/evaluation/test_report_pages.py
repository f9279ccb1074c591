"""Pages of decisions, off-policy estimates and A/B tests: what they show, and what they must not hide."""

import re

import numpy as np
import pytest
from support.outcomes import outcome

from models.evaluation.ab_report import ab_report
from models.evaluation.calibration import reliability
from models.evaluation.decision_page import decision_page, number
from models.evaluation.decision_report import click_figures, exposure_figures, feedback_counts
from models.evaluation.estimate_pages import estimates_page, experiment_page
from models.evaluation.estimates import estimates
from models.evaluation.offpolicy import BanditData


def judged(n=300):
    rng = np.random.default_rng(0)
    rows = []
    for i in range(n):
        p = float(rng.uniform(0.05, 0.5))
        kind = "click" if rng.random() < p else "no_click"
        rows.append(
            outcome(
                kind, i, pctr=p, ad_id=f"a{i % 30}", segment=f"s{i % 3}", event_id=str(i), user_id=f"u{i}"
            )
        )
    figures = {"decisions": 0, "outcomes": n, "kinds": feedback_counts(rows), **click_figures(rows)}
    groups = {f"a{i}": f"advertiser-{i}" for i in range(30)}
    return figures | {"exposure": {"by": "advertiser", **exposure_figures(rows, groups)}}, rows


def tables(page):
    return re.findall(r"<h2>(.*?)</h2>", page)


def test_the_page_of_decisions_has_curves_slices_and_exposure():
    figures, rows = judged()
    p, y = np.array([r.pctr for r in rows]), np.array([float(r.kind == "click") for r in rows])
    page = decision_page(figures, reliability(p, y), [])
    assert page.count("<svg") == 3
    for title in (
        "How good the predictions were", "Click rate and calibration error", "Calibration",
        "Predictions by new ad", "Predictions by segment", "Exposure by advertiser", "Exposure by segment",
    ):  # fmt: skip
        assert title in tables(page)
    assert "The 20 largest of 30 groups." in page


def test_a_page_without_labels_says_what_there_is():
    page = decision_page({"decisions": 3, "outcomes": 0}, None, [])
    assert tables(page) == ["Notes"]


def test_figures_that_are_not_defined_are_dashes():
    assert number(float("nan")) == "-"
    assert (number(None), number(0.123456), number(12345), number("x")) == ("-", "0.1235", "12,345", "x")


def bandit(n):
    rng = np.random.default_rng(1)
    reward = (rng.random(n) < 0.1).astype(float)
    data = BanditData(
        reward, np.full(n, 0.5), np.full(n, 0.5), np.arange(n) // 3,
        q_logged=np.full(n, 0.1), v_target=np.full(n, 0.1),
    )  # fmt: skip
    return estimates(data, replicates=50)


def test_an_estimates_page_shows_every_estimator_and_that_dm_is_biased():
    page = estimates_page({"policy": "mine", **bandit(2000)}, "Off-policy")
    assert page.count("<svg") == 1
    assert all(f"policy {name}" in page for name in ("IPS", "SNIPS", "DM", "DR"))
    assert "DM is biased" in page


def test_an_estimates_page_shows_a_value_without_an_interval():
    told = estimates(BanditData(np.ones(8), np.ones(8), np.ones(8), np.arange(8) % 2), ("ips",))
    page = estimates_page({"policy": "mine", **told}, "Off-policy")
    assert page.count("<svg") == 1
    assert "policy: no verdict, 2 users are too few" in page and "nan" not in page.split("<h2>Estimates")[1]


def test_an_estimates_page_of_two_kinds_of_rows_names_the_one_without_a_verdict():
    page = estimates_page({"model_hash": "m", "first": bandit(2000), "slate": bandit(90)}, "Off-policy")
    assert page.count("<svg") == 2
    assert "slate: no verdict, effective sample size 90 is below 500." in page
    assert "slate: every slot" in page
    assert "first: no verdict" not in page


def test_a_page_without_labelled_rows_is_a_page():
    page = estimates_page({"first": {"rows": 0, "refusal": "no labelled rows"}}, "Off-policy")
    assert "Off-policy" in page and "<svg" not in page
    assert "first: no verdict, no labelled rows." in page


@pytest.mark.parametrize("users", [1, 200])
def test_an_experiments_page_shows_lifts_or_the_refusal(users):
    rows = [
        outcome(kind, k, user_id=f"u{n}", charge_micros=3)
        for n in range(users)
        for k, kind in enumerate(("impression", "click" if n % 4 == 0 else "no_click"))
    ]
    page = experiment_page(ab_report(rows, "salt", (0.5, 0.5)), "A/B")
    assert page.count("<svg") == (users > 1)
    assert page.count("none: an arm has fewer than 10 users") == (4 if users == 1 else 0), "once per metric"
