"""Prequential scores and A/B statistics against independent references: River, SciPy, simulation."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from river.metrics import LogLoss, RollingROCAUC
from scipy import stats

from models.evaluation.calibration import auc, expected_calibration_error, log_loss, normalised_entropy
from models.evaluation.experiments import Arm, compare, cuped, sample_ratio_p
from models.evaluation.prequential import Labelled, curve

SEEDS = st.integers(0, 10_000)


def predictions(seed, n=400):
    rng = np.random.default_rng(seed)
    p = rng.beta(1, 8, n)
    return p, (rng.random(n) < p).astype(float)


@given(SEEDS)
@settings(max_examples=15, deadline=None)
def test_auc_and_log_loss_are_rivers(seed):
    p, y = predictions(seed)
    assume(0 < y.sum() < len(y))
    rolling, loss = RollingROCAUC(window_size=len(p)), LogLoss()
    for predicted, label in zip(p.tolist(), y.tolist(), strict=True):
        rolling.update(bool(label), {True: predicted, False: 1 - predicted})
        loss.update(bool(label), {True: predicted, False: 1 - predicted})
    assert auc(p, y) == pytest.approx(rolling.get(), abs=1e-6)
    assert log_loss(p, y) == pytest.approx(loss.get(), rel=1e-6)


def test_a_window_of_the_curve_is_rivers_rolling_auc_over_its_labels_in_label_order():
    """Labels come late and out of order: a window holds what was predicted in it."""
    p, y = predictions(3, 600)
    made = np.arange(600.0)
    known = made + np.random.default_rng(4).exponential(40, 600)
    found = curve(Labelled(made, known, p, y), window_s=100)
    for start, score in zip(found.start_s, found.scores, strict=True):
        rows = np.flatnonzero((made >= start) & (made < start + 100))
        if score.rows < 20:
            continue
        rolling = RollingROCAUC(window_size=len(rows))
        for row in rows[np.argsort(known[rows])].tolist():
            rolling.update(bool(y[row]), {True: float(p[row]), False: 1 - float(p[row])})
        assert score.rows == len(rows)
        assert score.auc == pytest.approx(rolling.get(), abs=1e-6)


@given(SEEDS)
@settings(max_examples=20, deadline=None)
def test_normalised_entropy_is_the_log_loss_over_the_entropy_of_the_click_rate(seed):
    p, y = predictions(seed)
    assume(0 < y.sum() < len(y))
    assert normalised_entropy(p, y) == pytest.approx(log_loss(p, y) / stats.entropy([y.mean(), 1 - y.mean()]))


@given(SEEDS, st.floats(0.01, 0.2))
@settings(max_examples=20, deadline=None)
def test_calibration_error_of_a_shifted_prediction_is_the_shift(seed, shift):
    """Where every bin errs to the same side, ECE is the difference of the means."""
    p = np.random.default_rng(seed).uniform(0.3, 0.5, 500)
    assert expected_calibration_error(p, p - shift) == pytest.approx(shift)


@given(st.lists(st.integers(1, 5000), min_size=2, max_size=4), st.data())
@settings(max_examples=40, deadline=None)
def test_the_sample_ratio_test_is_scipys_chi_square(counts, data):
    shares = data.draw(st.lists(st.floats(0.1, 1), min_size=len(counts), max_size=len(counts)))
    expected = sum(counts) * np.array(shares) / sum(shares)
    assert sample_ratio_p(counts, shares) == pytest.approx(stats.chisquare(counts, expected).pvalue, abs=1e-9)


@given(SEEDS)
@settings(max_examples=20, deadline=None)
def test_with_one_impression_each_the_delta_method_is_welchs_test(seed):
    rng = np.random.default_rng(seed)
    arms = [Arm((rng.random(n) < 0.3).astype(float), np.ones(n)) for n in (300, 350)]
    found = compare(*arms, shares=(300, 350))
    a, b = (arm.numerator for arm in arms)
    assert found.difference == pytest.approx(b.mean() - a.mean())
    assert found.p_value == pytest.approx(stats.ttest_ind(a, b, equal_var=False).pvalue)


@given(SEEDS, st.floats(0.2, 5))
@settings(max_examples=20, deadline=None)
def test_a_ratio_does_not_depend_on_the_units_of_its_parts(seed, scale):
    rng = np.random.default_rng(seed)
    shown = rng.integers(1, 9, (2, 200)).astype(float)
    clicks = rng.binomial(shown.astype(int), 0.2).astype(float)
    one = compare(Arm(clicks[0], shown[0]), Arm(clicks[1], shown[1]))
    more = compare(Arm(clicks[0], scale * shown[0]), Arm(clicks[1], scale * shown[1]))
    assert more.p_value == pytest.approx(one.p_value)
    assert more.difference == pytest.approx(one.difference / scale)


@given(SEEDS, st.floats(-0.9, 0.9))
@settings(max_examples=20, deadline=None)
def test_cuped_cuts_the_variance_by_the_squared_correlation(seed, correlation):
    """Deng et al., WSDM'13: var(adjusted) = var·(1 - ρ²), and the mean over both arms stays."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=3000)
    y = correlation * x + np.sqrt(1 - correlation**2) * rng.normal(size=3000)
    halves = ((y[:1500], y[1500:]), (x[:1500], x[1500:]))
    both = np.concatenate(cuped(*halves))
    rho = np.corrcoef(x, y)[0, 1]
    assert both.var() == pytest.approx(y.var() * (1 - rho**2), rel=1e-9)
    assert both.mean() == pytest.approx(y.mean())


def test_intervals_of_the_difference_cover_it_in_19_of_20_tests():
    covered = 0
    for seed in range(300):
        rng = np.random.default_rng(seed)
        arms = []
        for rate in (0.10, 0.12):
            shown = rng.geometric(0.2, 400).astype(float)
            own = rng.beta(20 * rate, 20 * (1 - rate), 400)
            arms.append(Arm(rng.binomial(shown.astype(int), own).astype(float), shown))
        found = compare(*arms)
        covered += found.low <= 0.02 <= found.high
    assert 0.925 <= covered / 300 <= 0.975
