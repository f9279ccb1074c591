"""The Bayesian learner: its formulas, its place in River, and its batch twin."""

from __future__ import annotations

import doctest

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from river.checks import check_estimator

from models.learning import bayes
from models.learning.bayes import DiagonalBayes
from models.learning.impulse import ImpulseEngine
from models.learning.priors import Priors
from models.learning.protocol import GROUPS, NO_FEATURE, Examples

PRIORS = Priors(bias=0.1, ad=0.2, campaign=0.3, segment_category=0.4, creative=0.15, time_constant_s=60.0)


def test_it_passes_rivers_own_checks():
    check_estimator(DiagonalBayes())


def test_its_docstring_is_true():
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    assert doctest.testmod(bayes, optionflags=flags).failed == 0


def test_one_update_is_the_formula_of_the_docstring():
    model = DiagonalBayes(prior_variance=0.3)
    model.learn_one({"a": 1.0, "b": 1.0}, True, offset=-1.0, time_ms=0)
    p = 1 / (1 + np.exp(1.0))
    h, s2 = p * (1 - p), 0.6
    assert model.means["a"] == pytest.approx(0.3 * (1 - p) / (1 + h * s2))
    assert model.variances["b"] == pytest.approx(0.3 - 0.09 * h / (1 + h * s2))


def test_an_idle_weight_returns_to_its_prior():
    model = DiagonalBayes(prior_variance=0.3, time_constant_s=10.0)
    model.learn_one({"a": 1.0}, True, time_ms=0)
    mean, variance = model.means["a"], model.variances["a"]
    assert model.predict_proba_one({"a": 1.0}, time_ms=10_000)[True] == pytest.approx(
        1 / (1 + np.exp(-mean * np.exp(-1)))
    )
    model._forget({"a": 1.0}, 10_000)
    assert model.variances["a"] == pytest.approx(0.3 + (variance - 0.3) * np.exp(-2))


def test_without_data_it_predicts_its_offset():
    assert DiagonalBayes().predict_proba_one({"a": 1.0}, offset=-2.0)[True] == pytest.approx(0.1192, abs=1e-4)


def test_it_learns_a_feature_that_the_offset_missed():
    model, rng = DiagonalBayes(), np.random.default_rng(0)
    for n in range(4000):
        good = rng.random() < 0.5
        click = rng.random() < (0.3 if good else 0.05)
        model.learn_one({"good" if good else "bad": 1.0}, click, offset=-2.0, time_ms=n)
    assert model.predict_proba_one({"good": 1.0}, offset=-2.0)[True] == pytest.approx(0.3, abs=0.04)
    assert model.predict_proba_one({"bad": 1.0}, offset=-2.0)[True] == pytest.approx(0.05, abs=0.02)


def test_a_correction_is_the_formula_of_the_docstring():
    model = DiagonalBayes(prior_variance=0.3, time_constant_s=10.0)
    model.correct_one({"a": 1.0, "b": 2.0}, 1.0, w=0.5, offset=-1.0, time_ms=0, age_ms=5000)
    p = 1 / (1 + np.exp(1.0))
    h, s2 = 0.5 * p * (1 - p), 0.3 + 4 * 0.3
    assert model.means["a"] == pytest.approx(0.3 * 0.5 * np.exp(-0.5) / (1 + h * (s2 - 0.3)))
    assert model.means["b"] == pytest.approx(0.3 * 2 * 0.5 * np.exp(-0.5) / (1 + h * (s2 - 4 * 0.3)))
    assert model._variance("a") == 0.3, "a correction tells nothing of the rate"


def test_a_no_click_that_is_corrected_at_once_teaches_what_the_click_would_have():
    """To first order; the prior is narrow, so the second one is small."""
    corrected, clicked = (DiagonalBayes(prior_variance=0.01) for _ in range(2))
    x = dict.fromkeys("abcde", 1.0)
    corrected.learn_one(x, False, offset=-1.0)
    corrected.correct_one(x, 1.0, offset=-1.0)
    clicked.learn_one(x, True, offset=-1.0)
    assert corrected.means["a"] == pytest.approx(clicked.means["a"], rel=1e-3)


rows = st.tuples(
    st.lists(st.integers(-1, 2), min_size=5, max_size=5),  # -1: NO_FEATURE
    st.floats(-6, 3),
    st.floats(-1, 1),
    st.integers(0, 200_000),
    st.floats(0.1, 2.0),
    st.one_of(st.just(-1), st.integers(0, 100_000)),
)


def examples_of(stream):
    """Column f holds slots 3 f .. 3 f + 2, so that each slot is of one group; fresh labels are 0 or 1."""
    feature = [[3 * f + n if n >= 0 else NO_FEATURE for f, n in enumerate(row[0])] for row in stream]
    offset, label, time, weight, age = (np.array(c) for c in list(zip(*stream, strict=True))[1:])
    label = np.where(age < 0, np.abs(label).round(), label)
    return Examples(np.array(feature, np.int32), offset, label, time.astype(np.int64), weight, age)


def taught(examples):
    prior = {slot: getattr(PRIORS, GROUPS[slot // 3]) for slot in range(15)}
    model = DiagonalBayes(time_constant_s=60.0, prior_variances=prior)
    columns = (examples.label, examples.weight, examples.offset, examples.time_ms, examples.age_ms)
    for feature, *row in zip(examples.feature.tolist(), *(c.tolist() for c in columns), strict=True):
        x, (label, weight, offset, time_ms, age_ms) = {f: 1.0 for f in feature if f != NO_FEATURE}, row
        if age_ms < 0:
            model.learn_one(x, bool(label), weight, offset, time_ms)
        else:
            model.correct_one(x, label, weight, offset, time_ms, age_ms)
    return model


def assert_agree(engine, model):
    at = np.array(sorted(model.means), np.int64)
    now = max(model.times_ms.values(), default=0) + 30_000
    mean, variance = engine.posterior(at, now)
    model._forget(dict.fromkeys(at.tolist(), 1.0), now)
    assert mean.tolist() == pytest.approx([model.means[s] for s in at.tolist()], rel=1e-9, abs=1e-12)
    assert variance.tolist() == pytest.approx([model._variance(s) for s in at.tolist()], rel=1e-9)


@given(st.lists(rows, min_size=1, max_size=40))
@settings(max_examples=80, deadline=None)
def test_the_batch_twin_agrees_on_labels_corrections_missing_features_and_forgetting(stream):
    examples, engine = examples_of(stream), ImpulseEngine(PRIORS)
    assert engine.learn(examples) == 0
    assert_agree(engine, taught(examples))


@pytest.mark.parametrize("change", [1.0, -1.0])
def test_both_twins_hold_a_mean_within_ten_logits(change):
    row = ([0, 0, 0, 0, 0], 0.0, change, 1000, 2.0, 0)
    examples, engine = examples_of([row] * 400), ImpulseEngine(PRIORS)
    engine.learn(examples)
    model = taught(examples)
    assert max(map(abs, model.means.values())) == 10.0
    assert_agree(engine, model)
