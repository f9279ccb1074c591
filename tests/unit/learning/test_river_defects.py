"""Defects of River and NumPy that the design walks around.

Each test shows the defect on the installed version, so that an upgrade which mends it is noticed here,
and where our own code does the same job, that it is immune.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from river import bandit, linear_model, metrics, optim
from scipy.stats import rankdata

from models.domain.policy import Exploration
from models.evaluation.offpolicy import BanditData, estimate
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
    """One row by ``learn_many`` leaves another posterior than the same row by ``learn_one``."""
    pandas = pytest.importorskip("pandas", reason="River's mini-batches are data frames")
    alpha, beta = 10.0, 1.0
    one, many = (linear_model.BayesianLinearRegression(alpha=alpha, beta=beta) for _ in range(2))
    one.learn_one({"a": 1.0}, 1.0)
    many.learn_many(pandas.DataFrame({"a": [1.0]}), pandas.Series([1.0]))
    spread = [model.predict_one({"a": 1.0}, with_dist=True).sigma ** 2 for model in (one, many)]
    assert spread[0] == pytest.approx(1 / beta + 1 / (alpha + beta))
    assert spread[1] == pytest.approx(1 / beta + 1 / (1 / alpha + beta))


@pytest.mark.parametrize("name", ENGINES)
def test_our_engines_have_the_same_posterior_however_the_stream_is_cut(name):
    examples = batch_of(60)
    whole, cut = make_engine(name), make_engine(name)
    whole.learn(examples)
    for n in range(len(examples)):
        cut.learn(examples.take(np.arange(len(examples)) == n))
    slots = np.arange(5)
    for a, b in zip(whole.posterior(slots, 0), cut.posterior(slots, 0), strict=True):
        np.testing.assert_array_equal(a, b)


def batch_of(rows) -> Examples:
    rng = np.random.default_rng(3)
    label = (rng.random(rows) < 0.3).astype(float)
    feature = np.tile(np.arange(5, dtype=np.int32), (rows, 1))
    return Examples(
        feature, rng.normal(-2, 1, rows), label, np.zeros(rows, np.int64), np.ones(rows),
        np.full(rows, -1, np.int64),
    )  # fmt: skip


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
    """Li et al. add ``alpha`` deviations to the mean, so a larger one explores more; here it explores less.

    One arm is known to be fair, the other was never tried: more alpha, less bonus for the unknown one.
    """
    assert [pulls_of_the_unknown_arm(alpha) for alpha in (0.01, 100.0)] == [20, 0]


def pulls_of_the_unknown_arm(alpha):
    pulls = 0
    for seed in range(20):
        policy = bandit.LinUCBDisjoint(alpha=alpha, beta=1.0, seed=seed)
        for _ in range(400):
            policy.update("known", {"a": 1.0}, 0.9)
        pulls += policy.pull(["known", "unknown"], context={"a": 1.0}) == "unknown"
    return pulls


def test_our_exploration_grows_with_its_parameter():
    """Two ads, the known one a little better: nu is a width, so more of it shows the unknown one more."""
    n = 4000
    log_rank = np.tile([0.0, -0.3], (n, 1))
    deviation = np.tile([0.05, 1.0], (n, 1))
    key, seeds = np.tile(np.array([1, 2], np.uint64), (n, 1)), np.arange(n, dtype=np.uint64)

    def share(nu):
        picked = pick(log_rank, nu * deviation, key, seeds, 0, np.zeros(n, bool), Exploration(thompson_nu=nu))
        return float((picked.column == 1).mean())

    assert share(0.0) == 0.0 < share(0.25) < share(1.0) < 0.5


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


class Always(bandit.base.Policy):
    """The policy that takes arm 1 whatever comes."""

    def _pull(self, arm_ids):
        return 1


def logged_bandit(rows=20_000):
    """A log whose policy gave arm 1 to those who like everything, and what arm 1 is worth to all."""
    rng = np.random.default_rng(0)
    keen = rng.random(rows) < 0.5
    chance = np.where(keen, 0.9, 0.1)
    arm = (rng.random(rows) < chance).astype(int)
    value = np.array([0.2, 0.6])[arm] + np.where(keen, 0.3, -0.15)
    reward = (rng.random(rows) < value).astype(float)
    return arm, reward, np.where(arm == 1, chance, 1 - chance), 0.6 + 0.5 * 0.3 - 0.5 * 0.15


def test_rivers_offline_evaluation_of_bandits_is_biased_on_a_log_that_is_not_uniform():
    arm, reward, _, truth = logged_bandit()
    history = (([0, 1], None, a, r) for a, r in zip(arm.tolist(), reward.tolist(), strict=True))
    total, used = bandit.evaluate_offline(Always(), history)
    assert total.get() / used > 1.2 * truth


@pytest.mark.parametrize("method", ["ips", "snips"])
def test_our_estimators_find_the_truth_on_the_same_log(method):
    arm, reward, propensity, truth = logged_bandit()
    data = BanditData(reward, propensity, (arm == 1).astype(float), np.arange(len(arm)))
    found = estimate(data, method, replicates=200)
    assert found.interval.value == pytest.approx(truth, rel=0.05)


def test_our_logged_propensities_correct_what_the_policy_prefers():
    n, value = 20_000, np.array([0.1, 0.3, 0.6])
    log_rank = np.broadcast_to(np.log(value), (n, 3)).copy()
    key = np.broadcast_to(np.arange(1, 4, dtype=np.uint64), (n, 3)).copy()
    seeds = np.arange(n, dtype=np.uint64)
    picks = pick(log_rank, np.zeros((n, 3)), key, seeds, 0, np.ones(n, bool), Exploration())
    reward = np.random.default_rng(1).random(n) < value[picks.column]
    estimate = [float(((picks.column == a) * reward / picks.propensity).mean()) for a in range(3)]
    assert estimate == pytest.approx(value, abs=0.05)


_OUT_OF_BOUNDS = """
import numpy as np
sums = np.zeros(1)
np.add.at(sums, np.zeros((100, 5), np.int64), np.ones(5))
raise SystemExit(0 if sums[0] == 500 else 3)
"""


def test_numpys_add_at_reads_out_of_bounds_where_the_values_are_broadcast():
    """It ends with another sum (or dies): values past the end of the vector were added."""
    ran = subprocess.run([sys.executable, "-W", "ignore", "-c", _OUT_OF_BOUNDS], check=False)
    assert ran.returncode != 0


def test_none_of_our_modules_scatters_with_ufunc_at():
    """We sum by kernels and bincount."""
    root = Path(__file__).parents[3]
    files = [
        file for package in ("flows", "connectors", "models") for file in root.glob(f"{package}/**/*.py")
    ]
    assert len(files) > 200
    found = [(file.name, name) for file in files for name in scatters(file.read_text())]
    assert found == []


def scatters(source):
    """The ufuncs whose ``at`` a module asks for, by any name that it has imported them under."""
    ufuncs = {name for name in dir(np) if isinstance(getattr(np, name), np.ufunc)}
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute) and node.attr == "at":
            owner = getattr(node.value, "attr", getattr(node.value, "id", ""))
            if owner in ufuncs:
                yield owner


@pytest.mark.parametrize(
    "line", ["np.add.at(x, i, v)", "from numpy import add\nadd.at(x, i, v)", "numpy.maximum.at(x, i, v)"]
)
def test_the_search_for_ufunc_at_finds_it(line):
    assert list(scatters(line))


def test_bincount_sums_what_add_at_gets_wrong():
    index, values = np.zeros((100, 5), np.int64), np.ones(5)
    sums = np.bincount(index.ravel(), weights=np.broadcast_to(values, index.shape).ravel())
    assert sums.tolist() == [500.0]


def test_a_feature_that_occurs_twice_in_a_batch_is_learned_twice():
    engine, twice = make_engine("impulse"), make_engine("impulse")
    engine.learn(one_example())
    engine.learn(one_example())
    both = [np.concatenate([getattr(one_example(), f)] * 2) for f in Examples.__dataclass_fields__]
    twice.learn(Examples(*both))
    assert engine.to_bytes() == twice.to_bytes()
