"""Calibration, prequential curves, experiments, fairness and regret on cases worked out by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import ttest_ind

from models.domain.errors import ImpulseError
from models.evaluation.calibration import (
    auc,
    expected_calibration_error,
    log_loss,
    normalised_entropy,
    reliability,
)
from models.evaluation.experiments import Arm, arm_of, compare, cuped, sample_ratio_p
from models.evaluation.fairness import exposure_by_group, exposure_merit_correlation, gini
from models.evaluation.prequential import Labelled, curve, scores, scores_by_slice
from models.evaluation.regret import regret, regret_band, regret_curve, regret_interval

PROBABILITIES = arrays(float, 40, elements=st.floats(0.001, 0.999))
LABELS = arrays(float, 40, elements=st.sampled_from([0.0, 1.0]))


def test_predictions_that_come_true_have_no_calibration_error():
    p = np.repeat([0.1, 0.5], 100)
    y = np.concatenate([np.arange(100) < 10, np.arange(100) < 50]).astype(float)
    assert expected_calibration_error(p, y) == pytest.approx(0)


def test_calibration_error_is_the_mean_gap():
    p = np.repeat([0.2, 0.6], 50)
    y = np.concatenate([np.arange(50) < 15, np.arange(50) < 25]).astype(float)
    assert expected_calibration_error(p, y) == pytest.approx(0.1)


@given(PROBABILITIES, LABELS)
@settings(max_examples=50, deadline=None)
def test_every_row_is_in_exactly_one_bin_of_the_reliability_curve(p, y):
    bins = reliability(p, y)
    assert bins.count.sum() == 40
    assert (bins.count * bins.observed).sum() == pytest.approx(y.sum())
    assert (bins.count * bins.predicted).sum() == pytest.approx(p.sum())


def test_the_constant_click_rate_has_normalised_entropy_one():
    y = (np.arange(200) % 5 == 0).astype(float)
    assert normalised_entropy(np.full(200, 0.2), y) == pytest.approx(1)
    assert normalised_entropy(np.where(y > 0, 0.9, 0.1), y) < 1
    assert np.isnan(normalised_entropy(np.full(3, 0.2), np.zeros(3)))


def test_log_loss_survives_predictions_of_zero_and_one():
    assert np.isfinite(log_loss(np.array([0.0, 1.0]), np.array([1.0, 0.0])))
    assert log_loss(np.array([0.0, 1.0]), np.array([0.0, 1.0])) == pytest.approx(0, abs=1e-9)


@given(PROBABILITIES, LABELS)
@settings(max_examples=50, deadline=None)
def test_auc_is_the_share_of_pairs_in_the_right_order(p, y):
    ups, downs = p[y > 0], p[y == 0]
    if not len(ups) or not len(downs):
        assert np.isnan(auc(p, y))
        return
    pairs = (ups[:, None] > downs).mean() + 0.5 * (ups[:, None] == downs).mean()
    assert auc(p, y) == pytest.approx(pairs)


def labelled():
    label = np.array([0.0, 1, 0, 1, 1, 0])
    return Labelled(
        time_s=np.arange(6.0),
        label_time_s=np.array([10.0, 11, 25, 14, 29, 65]),
        predicted=np.array([0.2, 0.7, 0.3, 0.6, 0.8, 0.1]),
        label=label,
        slices={"new_ad": np.array(["new", "old", "old", "new", "old", "old"])},
    )


def test_a_row_is_in_the_window_of_the_curve_in_which_it_was_predicted():
    found = curve(labelled(), window_s=2.5)
    assert found.start_s.tolist() == [0, 2.5, 5]
    assert [s.rows for s in found.scores] == [3, 2, 1]


def test_slices_are_scored_apart_and_add_up():
    parts = scores_by_slice(labelled(), "new_ad")
    assert {name: s.rows for name, s in parts.items()} == {"new": 2, "old": 4}
    assert sum(s.rows * s.log_loss for s in parts.values()) == pytest.approx(6 * scores(labelled()).log_loss)
    with pytest.raises(KeyError):
        scores_by_slice(labelled(), "planet")


def test_no_rows_have_no_scores_and_no_curve():
    empty = Labelled(*(np.zeros(0) for _ in range(4)))
    assert scores(empty).rows == 0
    assert np.isnan(scores(empty).ece)
    assert curve(empty, 10).scores == ()


def test_assignment_is_stable_follows_the_shares_and_changes_with_the_salt():
    arms = [arm_of(f"user-{i}", "salt", (0.2, 0.8)) for i in range(5000)]
    assert arms == [arm_of(f"user-{i}", "salt", (0.2, 0.8)) for i in range(5000)]
    assert np.mean(arms) == pytest.approx(0.8, abs=0.02)
    other = [arm_of(f"user-{i}", "other", (0.2, 0.8)) for i in range(5000)]
    assert np.corrcoef(arms, other)[0, 1] == pytest.approx(0, abs=0.05)


def test_a_split_that_is_not_what_was_asked_is_noticed():
    assert sample_ratio_p([5000, 5050], (0.5, 0.5)) > 0.3
    assert sample_ratio_p([5000, 5600], (0.5, 0.5)) < 1e-6
    with pytest.raises(ImpulseError, match="positive shares"):
        sample_ratio_p([1, 1], (1.0, 0.0))


def arm(seed, rate, users=3000, taste=0.0):
    rng = np.random.default_rng(seed)
    shown = rng.integers(1, 20, users).astype(float)
    own = np.clip(rate + taste * rng.normal(size=users), 0.001, 0.999)
    return Arm(rng.binomial(shown.astype(int), own).astype(float), shown, own - rate)


def test_the_comparison_finds_a_difference_and_its_interval():
    found = compare(arm(1, 0.10), arm(2, 0.13))
    assert found.low < 0.03 < found.high
    assert found.p_value < 1e-6
    assert found.lift == pytest.approx(found.treatment / found.control - 1, rel=1e-9)
    assert found.sound


def test_equal_arms_differ_significantly_one_time_in_twenty():
    p = [compare(arm(2 * s, 0.1, 400), arm(2 * s + 1, 0.1, 400)).p_value for s in range(400)]
    assert np.mean(np.array(p) < 0.05) == pytest.approx(0.05, abs=0.033)


def test_a_comparison_of_a_few_users_is_welchs_t_test():
    rng = np.random.default_rng(3)
    a, b = rng.normal(1.0, 0.2, 11), rng.normal(1.3, 0.9, 14)
    found, told = compare(Arm(a, np.ones(11)), Arm(b, np.ones(14))), ttest_ind(b, a, equal_var=False)
    assert found.p_value == pytest.approx(told.pvalue)
    assert (found.low, found.high) == pytest.approx(tuple(told.confidence_interval(0.95)))


def test_the_delta_method_gives_the_variance_of_a_ratio_of_sums():
    ratios = [a.ratio for a in (arm(s, 0.2, 300) for s in range(600))]
    one = arm(9999, 0.2, 300).linearised
    assert np.sqrt(one.var(ddof=1) / 300) == pytest.approx(np.std(ratios), rel=0.15)


def test_cuped_cuts_variance_and_keeps_the_difference_unbiased():
    control, treatment = arm(1, 0.3, 4000, taste=0.15), arm(2, 0.33, 4000, taste=0.15)
    plain = compare(
        Arm(control.numerator, control.denominator), Arm(treatment.numerator, treatment.denominator)
    )
    cut = compare(control, treatment)
    assert plain.variance_cut == 0
    assert cut.variance_cut > 0.4
    assert cut.high - cut.low < 0.8 * (plain.high - plain.low)
    assert cut.low < 0.03 < cut.high


def test_cuped_without_a_covariate_or_with_a_constant_one_changes_nothing():
    values = (np.array([1.0, 2.0]), np.array([3.0, 4.0]))
    assert cuped(values, (None, None)) is values
    same = cuped(values, (np.ones(2), np.ones(2)))
    np.testing.assert_array_equal(same[0], values[0])


def test_an_arm_without_users_is_refused():
    with pytest.raises(ImpulseError, match="0 users"):
        compare(Arm(np.zeros(0), np.zeros(0)), arm(1, 0.1))


def test_exposure_in_proportion_to_merit_has_ratio_one():
    found = exposure_by_group(["b", "a", "a"], np.array([2.0, 3, 5]), np.array([1.0, 2, 2]))
    assert [(g.group, g.ratio) for g in found] == [("a", pytest.approx(1)), ("b", pytest.approx(1))]
    assert found[0].inventory_share == pytest.approx(2 / 3)


def test_exposure_follows_merit_by_rank():
    merit = np.array([0.1, 0.2, 0.3, 0.4])
    assert exposure_merit_correlation(merit**7, merit) == pytest.approx(1)
    assert exposure_merit_correlation(-merit, merit) == pytest.approx(-1)
    assert exposure_merit_correlation(np.ones(4), merit) == 0
    assert exposure_merit_correlation(merit[:1], merit[:1]) == 0


def test_gini_is_zero_for_equal_exposure_and_near_one_for_a_single_winner():
    assert gini(np.full(10, 3.0)) == pytest.approx(0)
    assert gini(np.array([0.0] * 99 + [5.0])) == pytest.approx(0.99)
    assert gini(np.zeros(3)) == 0


def test_regret_is_the_share_of_the_oracles_value_that_was_lost():
    assert regret(np.array([3.0, 3]), np.array([4.0, 4])) == pytest.approx(0.25)
    assert np.isnan(regret(np.zeros(2), np.zeros(2)))


def test_regret_over_seeds_has_an_interval_and_a_curve():
    oracles, values = [np.full(40, 2.0)] * 2, [np.full(40, 1.0), np.full(40, 1.5)]
    found = regret_interval(values, oracles)
    assert found.value == pytest.approx(0.375)
    assert found.low < 0.25 < 0.5 < found.high
    np.testing.assert_allclose(regret_curve(values, oracles, 10), np.full(4, 0.375))


def test_the_band_of_the_curve_is_students_over_seeds_and_unknown_for_one():
    oracles, values = [np.full(40, 2.0)] * 2, [np.full(40, 1.0), np.full(40, 1.5)]
    band = regret_band(values, oracles, 10)
    np.testing.assert_allclose(
        band[0], [regret_interval(values, oracles).low, regret_interval(values, oracles).high]
    )
    assert np.isnan(regret_band(values[:1], oracles[:1], 10)).all()


def test_arms_that_differ_without_any_variance_differ_for_certain():
    none, all_ = Arm(np.zeros(3), np.ones(3)), Arm(np.ones(3), np.ones(3))
    assert compare(none, all_).p_value == 0
    assert compare(none, none).p_value == 1
