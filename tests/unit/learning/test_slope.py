"""The calibration slope: how far adjusted predictions are to be trusted."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.domain.errors import BadRecord
from models.domain.events import Adjustments
from models.learning.slope import LEAST, MOST, SD, CalibrationSlope
from models.learning.weights import WeightTable


def fed(truth: float, labels: int = 60_000, examination: float = 1.0, seed: int = 0) -> CalibrationSlope:
    """A slope that has seen labels, 50 a second, of logits around -2 whose true slope is ``truth``."""
    rng, slope = np.random.default_rng(seed), CalibrationSlope()
    logits = rng.normal(-2.0, 1.0, labels)
    clicks = rng.random(labels) < examination / (1 + np.exp(2.0 - truth * (logits + 2.0)))
    for n, (logit, click) in enumerate(zip(logits.tolist(), clicks.tolist(), strict=True)):
        slope.learn(logit, examination, float(click), 20 * n)
    return slope


def told(slope: CalibrationSlope) -> tuple[float, float]:
    slope.announce_again()
    found = slope.changed()
    assert found is not None
    return found


@pytest.mark.parametrize("examination", [1.0, 0.5])
@pytest.mark.parametrize("truth", [0.8, 1.0, 1.2])
def test_the_slope_of_the_truth_is_found_in_every_slot(truth, examination):
    mean, centre = told(fed(truth, examination=examination))
    assert mean == pytest.approx(truth, abs=0.1)
    p = 1 / (1 + np.exp(2.0 - np.random.default_rng(1).normal(0.0, 1.0, 100_000)))
    held = (p * (1 - p) * np.log(p / (1 - p))).sum() / (p * (1 - p)).sum()
    assert centre == pytest.approx(held, abs=0.05)


def test_the_mean_prediction_stays_what_it_is():
    logits = np.random.default_rng(2).normal(-2.0, 1.0, 100_000)
    mean, centre = told(fed(0.85))
    before, after = (1 / (1 + np.exp(-z)) for z in (logits, centre + mean * (logits - centre)))
    assert after.mean() == pytest.approx(before.mean(), rel=0.01)


def test_predictions_that_are_right_stay_as_they_are_and_few_labels_say_nothing():
    assert fed(1.0, labels=400).changed() is None
    mean, _ = told(fed(1.0, labels=2000))
    assert mean == pytest.approx(1.0, abs=SD)


def test_what_did_not_move_is_not_told_again_unless_asked_for():
    slope = fed(0.8)
    first = slope.changed()
    assert first is not None and slope.changed() is None
    slope.announce_again()
    assert slope.changed() == first


def test_a_late_click_counts_as_if_it_had_been_known():
    late, known = CalibrationSlope(), CalibrationSlope()
    for n, slope in ((1.0, known), (0.0, late)):
        for logit in (-3.0, -2.0, -1.0):
            slope.learn(logit, 0.8, 0.0, 0)
        slope.learn(-1.0, 0.8, n, 0)
    late.correct(-1.0, 0.8)
    assert late.values()[0][0] == pytest.approx(known.values()[0][0], abs=2e-4)
    assert late.values()[0][0] > 1.0


@given(
    st.lists(
        st.tuples(st.floats(-30, 30), st.floats(0, 1), st.booleans(), st.integers(0, 10**9)), max_size=60
    )
)
@settings(max_examples=60, deadline=None)
def test_it_stays_finite_and_within_bounds_whatever_comes(labels):
    slope = CalibrationSlope()
    for logit, examination, click, time_ms in labels:
        slope.learn(logit, examination, float(click), time_ms)
        slope.correct(logit, examination)
    mean, variance, _ = slope.values()[0]
    assert LEAST <= mean <= MOST and 0.0 < variance <= SD**2 + 1e-12


def test_after_a_restart_it_goes_on():
    whole, half = fed(0.85, labels=3000), fed(0.85, labels=3000)
    again = CalibrationSlope()
    again.restore(half.values())
    for slope in (whole, again):
        slope.learn(-1.0, 0.7, 1.0, 70_000)
    assert again.values() == whole.values()


def test_a_table_keeps_the_calibration_until_another_comes_or_a_reset():
    def record(version: int, **fields: object) -> Adjustments:
        return Adjustments(id=f"{version}", event_time=0, version=version, **fields)

    table = WeightTable().apply(record(1, calibration=(0.9, -2.0))).table
    assert table.apply(record(2, ads={"a": (0.1, 0.1)})).table.calibration == (0.9, -2.0)
    assert table.apply(record(2, calibration=(1.1, -1.0))).table.calibration == (1.1, -1.0)
    assert table.apply(record(2, reset=True)).table.calibration == (1.0, 0.0)
    assert WeightTable.from_bytes(table.to_bytes()).calibration == (0.9, -2.0)
    for wrong in ((float("nan"), 0.0), (-0.1, 0.0), (5.0, 0.0), (1.0, float("inf"))):
        with pytest.raises(BadRecord, match="calibration"):
            table.apply(record(2, calibration=wrong))
