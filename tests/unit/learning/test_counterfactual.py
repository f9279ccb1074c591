"""Which model would earn more clicks: the estimate is right, its interval covers, and the guard heeds it."""

from __future__ import annotations

from dataclasses import replace as changed

import numpy as np
import pytest
from msgspec.structs import replace
from support.outcomes import outcome

from models.learning.counterfactual import ClickContest, frozen_weight
from models.learning.guard import Guard, reason_of

BUCKET = "plackett_luce(tau=0.5,uniform=0.05)"
LOGGED = np.array([0.6, 0.3, 0.1])
FROZEN = np.array([0.2, 0.3, 0.5])


def contest(rates: np.ndarray, n: int, seed: int = 0, window: int = 10**9) -> ClickContest:
    """Labels of three ads drawn by the logged law, each with its weight for the frozen one."""
    rng, told = np.random.default_rng(seed), ClickContest(window=window)
    for ad in rng.choice(3, size=n, p=LOGGED).tolist():
        told.add(float(FROZEN[ad] / LOGGED[ad]), bool(rng.random() < rates[ad]))
    return told


def test_both_models_rates_are_estimated_from_one_models_log():
    rates = np.array([0.1, 0.2, 0.4])
    found = contest(rates, 40_000).result()
    assert found.adjusted == pytest.approx(LOGGED @ rates, abs=0.01)
    assert found.frozen == pytest.approx(FROZEN @ rates, abs=0.01)
    assert found.low < LOGGED @ rates - FROZEN @ rates < found.high


def test_the_interval_covers_the_truth_as_often_as_it_says():
    rates = np.array([0.05, 0.1, 0.2])
    truth = (LOGGED - FROZEN) @ rates
    found = [contest(rates, 1500, seed).result() for seed in range(300)]
    assert np.mean([one.low <= truth <= one.high for one in found]) == pytest.approx(0.95, abs=0.035)


def test_models_that_choose_alike_differ_by_nothing():
    told = ClickContest()
    for n in range(2000):
        told.add(1.0, n % 9 == 0)
    assert told.result().adjusted == pytest.approx(told.result().frozen)
    assert told.result().error == pytest.approx(0.0, abs=1e-9) and told.result().z == 0.0


def test_there_is_no_verdict_below_500_effective_labels():
    few, many = (
        contest(np.array([0.0, 0.5, 1.0]), 400).result(),
        contest(np.array([0.0, 0.5, 1.0]), 4000).result(),
    )
    assert not few.decided and few.z == 0.0
    assert many.decided and many.z > 10.0 and many.high < 0.0


def test_a_click_that_comes_later_counts_as_if_it_had_come_at_once():
    at_once, later = ClickContest(), ClickContest()
    at_once.add(2.0, True)
    later.add(2.0, False)
    later.correct(2.0)
    assert at_once == later


def test_old_labels_fade():
    told = contest(np.array([0.0, 0.0, 0.0]), 3000, window=100)
    for _ in range(2000):
        told.add(1.0, True)
    assert told.result().adjusted == pytest.approx(1.0, abs=1e-6)


LOGGED_SLOT = outcome(propensity=0.2, frozen_propensity=0.1, behavior_policy=BUCKET)


def test_the_weight_of_a_label_is_the_ratio_of_the_two_propensities():
    assert frozen_weight(LOGGED_SLOT) == 0.5


@pytest.mark.parametrize(
    "fields",
    [{"behavior_policy": "thompson(nu=0.25)"}, {"frozen_propensity": 0.0}, {"propensity": 0.0},
     {"propensity": float("nan")}, {"frozen_propensity": float("nan")}, {"frozen_propensity": float("inf")}],
)  # fmt: skip
def test_labels_outside_the_bucket_or_without_numbers_weigh_nothing(fields):
    assert frozen_weight(replace(LOGGED_SLOT, **fields)) is None


def guard(n: int, *, loss: str, earns: str) -> Guard:
    """Labels at rate .2; one model says .2, the other .6; only one model's choices earn clicks."""
    right, wrong = -1.386, 0.405
    frozen, adjusted = (right, wrong) if loss == "adjusted" else (wrong, right)
    told, rng = Guard(window=5000, least_labels=500), np.random.default_rng(1)
    for _ in range(n):
        likes = rng.random() < 0.5
        weight = 1.6 if likes == (earns == "frozen") else 0.4
        told.add(frozen, adjusted, bool(rng.random() < (0.4 if likes else 0.0)), weight if earns else None)
    return told


def test_the_adjusted_model_loses_by_its_log_loss_alone_where_the_bucket_says_nothing():
    assert guard(3000, loss="adjusted", earns="").verdict() == "log-loss"
    assert guard(3000, loss="frozen", earns="").verdict() == ""


def test_it_loses_by_the_clicks_its_choices_would_not_have_earned():
    assert guard(3000, loss="frozen", earns="frozen").verdict() == "clicks"


def test_choices_that_earn_more_excuse_a_level_that_is_wrong():
    assert guard(3000, loss="adjusted", earns="adjusted").verdict() == ""


def test_no_verdict_before_enough_labels():
    assert guard(400, loss="adjusted", earns="frozen").verdict() == ""


def test_the_reason_names_all_three_comparisons_and_fits_a_label():
    told = guard(3000, loss="adjusted", earns="frozen")
    reason = reason_of(told.verdict(), told.report())
    assert reason.startswith("clicks: clicks 0.") and "log-loss" in reason and "calibration 3." in reason
    assert len(reason) <= 128


def test_a_guards_sums_survive_a_snapshot():
    told = guard(800, loss="adjusted", earns="frozen")
    assert changed(Guard(window=5000, least_labels=500), **told.values()).report() == told.report()
