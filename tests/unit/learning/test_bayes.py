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
from models.learning.protocol import GROUPS, Examples

PRIORS = Priors(bias=0.1, ad=0.2, campaign=0.3, segment_category=0.4, time_constant_s=60.0)


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


streams = st.lists(
    st.tuples(
        st.lists(st.integers(0, 2), min_size=4, max_size=4),
        st.floats(-6, 3),
        st.sampled_from([0.0, 1.0]),
        st.integers(0, 200_000),
        st.floats(0.1, 2.0),
    ),
    min_size=1,
    max_size=40,
)


@given(streams)
@settings(max_examples=60, deadline=None)
def test_the_batch_twin_agrees_with_the_river_classifier(stream):
    # slot 3 * group + n, so that each slot belongs to one group
    feature = np.array([[3 * g + n for g, n in enumerate(f)] for f, *_ in stream], np.int32)
    offset, label, time, weight = (np.array(column) for column in list(zip(*stream, strict=True))[1:])
    engine = ImpulseEngine(PRIORS)
    engine.learn(
        Examples(feature, offset, label, time.astype(np.int64), weight, np.full(len(stream), -1, np.int64))
    )
    prior = {slot: getattr(PRIORS, GROUPS[slot // 3]) for slot in range(12)}
    model = DiagonalBayes(time_constant_s=60.0, prior_variances=prior)
    for n in range(len(stream)):
        x = dict.fromkeys(feature[n].tolist(), 1.0)
        model.learn_one(x, bool(label[n]), weight[n], offset[n], int(time[n]))
    for slot, mean in model.means.items():
        assert engine.slots["mean"][slot] == pytest.approx(mean, rel=1e-9, abs=1e-12)
        assert engine.slots["variance"][slot] == pytest.approx(model.variances[slot], rel=1e-9)
