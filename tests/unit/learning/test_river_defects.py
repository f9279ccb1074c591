"""Defects of River and NumPy that the design walks around.

Each test shows the defect on the installed version, so that an upgrade which mends it is noticed here,
and where our own code does the same job, that it is immune.
"""

from __future__ import annotations

import inspect

import numpy as np
import pytest
from river import bandit, linear_model, metrics, optim
from scipy.stats import rankdata

from models.domain.policy import Exploration
from models.learning.engines import ENGINES, make_engine
from models.learning.exploration import pick
from models.learning.protocol import Examples


def one_example(label=1.0) -> Examples:
    return Examples(
        np.array([[0, 1, 2, 3]], np.int32),
        np.array([-2.0]),
        np.array([label]),
        np.array([0], np.int64),
        np.ones(1),
        np.array([-1], np.int64),
    )


def test_ftrls_weights_lag_one_update():
    model = linear_model.LogisticRegression(optim.FTRLProximal(), intercept_lr=0.0)
    model.learn_one({"a": 1.0}, True)
    assert model.weights.get("a", 0.0) == 0.0
    model.learn_one({"a": 1.0}, True)
    assert model.weights["a"] > 0.0


@pytest.mark.parametrize("name", ENGINES)
def test_our_engines_move_at_the_first_label(name):
    engine = make_engine(name)
    engine.learn(one_example())
    assert engine.posterior(np.array([1]), 0)[0][0] > 0.0


def test_ftrls_l1_never_makes_a_weight_zero_again():
    model = linear_model.LogisticRegression(optim.FTRLProximal(l1=2.0), intercept_lr=0.0)
    for _ in range(60):
        model.learn_one({"a": 1.0}, True)
    assert model.weights["a"] != 0.0
    values = []
    for _ in range(400):
        model.learn_one({"a": 1.0}, False)
        values.append(model.weights["a"])
    assert min(values) < 0 < max(values) and 0.0 not in values


def test_bayesian_linear_regressions_learn_many_starts_from_the_inverse_of_alpha():
    """``learn_many`` inverts the precision kept beside the covariance; they disagree from the start."""
    model = linear_model.BayesianLinearRegression(alpha=10.0, beta=1.0)
    model.learn_one({"a": 1.0}, 1.0)
    precision, covariance = model._ss_arr[0, 0], model._ss_inv_arr[0, 0]
    assert "np.linalg.inv(self._ss_arr" in inspect.getsource(type(model).learn_many)
    assert covariance == pytest.approx(1 / (10.0 + 1.0))
    assert precision == pytest.approx(1 / 10.0 + 1.0)


def test_bayesian_linear_regressions_smoothing_decays_the_prior_away():
    model = linear_model.BayesianLinearRegression(alpha=1.0, beta=1.0, smoothing=0.9)
    for _ in range(300):
        model.learn_one({"a": 1.0, "b": 0.0}, 0.0)
    spread = model.predict_one({"a": 0.0, "b": 1.0}, with_dist=True).sigma
    assert spread > 1e3


def test_our_idle_weights_return_to_the_prior_variance_and_no_further():
    engine = make_engine("impulse")
    engine.learn(one_example())
    variance = engine.posterior(np.array([1]), 10**12)[1][0]
    assert variance == pytest.approx(engine.priors.ad)


def test_linucbs_alpha_is_a_prior_precision_and_not_the_width_of_its_bonus():
    source = inspect.getsource(bandit.LinUCBDisjoint)
    assert "BayesianLinearRegression" in source and "alpha=self.alpha" in source.replace(" ", "")


def test_rocauc_with_its_default_thresholds_misreads_small_probabilities():
    rng = np.random.default_rng(0)
    p = 1 / (1 + np.exp(-rng.normal(-4.5, 0.8, 20_000)))
    y = rng.random(20_000) < p
    coarse, rolling = metrics.ROCAUC(), metrics.RollingROCAUC(window_size=20_000)
    for label, score in zip(y.tolist(), p.tolist(), strict=True):
        coarse.update(label, score)
        rolling.update(label, score)
    ranks = rankdata(p)
    clicks = int(y.sum())
    truth = (ranks[y].sum() - clicks * (clicks + 1) / 2) / (clicks * (len(y) - clicks))
    assert rolling.get() == pytest.approx(truth, abs=1e-3)
    assert truth - coarse.get() > 0.1


def test_offline_evaluation_of_bandits_ignores_the_logs_propensities():
    parameters = inspect.signature(bandit.evaluate_offline).parameters
    assert "propensities" not in parameters
    rng, arm_value, logged = np.random.default_rng(0), {0: 0.2, 1: 0.6}, []
    for _ in range(20_000):
        easy = rng.random() < 0.5
        arm = int(rng.random() < (0.9 if easy else 0.1))
        logged.append((easy, arm, rng.random() < arm_value[arm] + (0.3 if easy else -0.15)))
    always_one = [reward for _, arm, reward in logged if arm == 1]
    replayed = float(np.mean(always_one))
    weighted = [reward / (0.9 if easy else 0.1) for easy, arm, reward in logged if arm == 1]
    truth = 0.6 + 0.5 * 0.3 - 0.5 * 0.15
    assert replayed / truth > 1.2
    assert float(np.sum(weighted)) / len(logged) == pytest.approx(truth, rel=0.05)


def test_our_logged_propensities_correct_what_the_policy_prefers():
    n, value = 20_000, np.array([0.1, 0.3, 0.6])
    log_rank = np.broadcast_to(np.log(value), (n, 3)).copy()
    key = np.broadcast_to(np.arange(1, 4, dtype=np.uint64), (n, 3)).copy()
    seeds = np.arange(n, dtype=np.uint64)
    picks = pick(log_rank, np.zeros((n, 3)), key, seeds, 0, np.ones(n, bool), Exploration())
    reward = np.random.default_rng(1).random(n) < value[picks.column]
    estimate = [float(((picks.column == a) * reward / picks.propensity).mean()) for a in range(3)]
    assert estimate == pytest.approx(value, abs=0.05)


def test_no_module_of_learning_scatters_with_ufunc_at():
    """``np.add.at(x, idx2d, vec1d)`` reads out of bounds on NumPy 2.4; we sum by kernels and bincount."""
    from models import learning

    folder = next(iter(learning.__path__))
    from pathlib import Path

    assert not [p.name for p in Path(folder).glob("*.py") if ".add.at(" in p.read_text()]


def test_a_feature_that_occurs_twice_in_a_batch_is_learned_twice():
    engine, twice = make_engine("impulse"), make_engine("impulse")
    engine.learn(one_example())
    engine.learn(one_example())
    both = [np.concatenate([getattr(one_example(), f)] * 2) for f in Examples.__dataclass_fields__]
    twice.learn(Examples(*both))
    assert engine.to_bytes() == twice.to_bytes()
