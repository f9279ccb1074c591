"""Estimates of slates against the truth of a world in which a click depends on the slots up to its own."""

import numpy as np
import pytest
from support.slate_worlds import BEHAVE, SlateLog, true_value

from models.evaluation.offpolicy import METHODS, estimate, support

UNBIASED = ("ips", "snips", "dr")
LOGS = 400


def value(data, method):
    numerator, denominator = METHODS[method](data)
    return float(numerator.sum() / denominator.sum())


@pytest.fixture(scope="module")
def logs():
    return [SlateLog.of(seed, users=200) for seed in range(100)]


def test_the_weights_of_every_slot_average_to_one(logs):
    weight = np.concatenate([np.cumprod(log.target / log.logged, axis=1) for log in logs])
    error = weight.std(axis=0) / np.sqrt(len(weight))
    assert (abs(weight.mean(axis=0) - 1) < 4 * error).all()


@pytest.mark.parametrize("model", [0.0, 0.5, 1.0, 3.0])
def test_dr_is_unbiased_whatever_its_model_says(logs, model):
    found = [value(log.data(model), "dr") for log in logs]
    assert abs(np.mean(found) - true_value()) < 3 * np.std(found, ddof=1) / np.sqrt(len(found))


def test_dr_spreads_less_than_ips_the_better_its_model(logs):
    ips = np.std([value(log.data(), "ips") for log in logs])
    half, true = (np.std([value(log.data(model), "dr") for log in logs]) for model in (0.5, 1.0))
    assert true < half < ips


def test_a_model_that_says_nothing_makes_dr_the_ips(logs):
    data = logs[0].data(0.0)
    assert value(data, "dr") == pytest.approx(value(data, "ips"), rel=1e-12)


def test_for_the_policy_that_logged_a_model_that_says_nothing_gives_the_mean():
    data = SlateLog.of(0, users=50, target=BEHAVE).data(0.0)
    assert value(data, "dr") == pytest.approx(data.reward.mean(), rel=1e-12)


def test_decisions_and_outcomes_give_the_rows_of_the_log():
    log = SlateLog.of(3, users=40)
    rows, found = log.data(), log.redecided().slate.data()
    for name in ("reward", "propensity", "target", "weight_before"):
        np.testing.assert_allclose(getattr(found, name), getattr(rows, name), rtol=1e-12, err_msg=name)
    assert support(found).mean_weight == support(rows).mean_weight


def test_what_is_modelled_from_the_log_is_of_use():
    logs = [SlateLog.of(seed) for seed in range(12)]
    found = [log.redecided().slate.data() for log in logs]
    residual = np.concatenate([rows.reward - rows.q_logged for rows in found])
    reward = np.concatenate([rows.reward for rows in found])
    assert (residual**2).mean() < 0.98 * reward.var()


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_95_per_cent_intervals_of_slates_cover_the_truth_in_95_per_cent_of_logs():
    covered, truth = {method: [] for method in UNBIASED}, true_value()
    for seed in range(LOGS):
        rows = SlateLog.of(seed, users=800, each=2).redecided().slate.data()
        for method, found in covered.items():
            found.append(estimate(rows, method, replicates=500).interval.covers(truth))
    shares = {method: np.mean(found) for method, found in covered.items()}
    assert all(0.93 <= share <= 0.97 for share in shares.values()), shares
