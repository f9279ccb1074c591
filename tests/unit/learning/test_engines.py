"""One conformance suite over every engine."""

from __future__ import annotations

import numpy as np
import pytest
from river.checks import check_estimator

from models.domain.errors import ArtifactError, SettingError
from models.learning.engines import ENGINES, make_engine
from models.learning.priors import Priors
from models.learning.protocol import Examples
from models.learning.river_adpredictor import OffsetAdPredictor
from models.learning.river_lr import OffsetLogisticRegression

PRIORS = Priors(time_constant_s=600.0)
BIAS, GOOD, BAD, CAMPAIGN, CELL = range(5)
every_engine = pytest.mark.parametrize("name", ENGINES)


def examples(rows) -> Examples:
    """rows: (ad, offset, label, time_ms[, weight[, age_ms]])."""
    full = [(*row, 1.0, -1)[:6] if len(row) == 4 else (*row, -1)[:6] for row in rows]
    ad, offset, label, time, weight, age = zip(*full, strict=True)
    feature = np.array([[BIAS, a, CAMPAIGN, CELL] for a in ad], np.int32)
    return Examples(
        feature,
        np.array(offset, float),
        np.array(label, float),
        np.array(time, np.int64),
        np.array(weight, float),
        np.array(age, np.int64),
    )


def stream(n=3000, seed=0) -> Examples:
    rng = np.random.default_rng(seed)
    good = rng.random(n) < 0.5
    label = rng.random(n) < np.where(good, 0.3, 0.06)
    return examples(
        [
            (GOOD if g else BAD, -2.0, float(y), 50 * t)
            for t, (g, y) in enumerate(zip(good, label, strict=True))
        ]
    )


def mean_of(engine, slot, time_ms) -> float:
    return float(engine.posterior(np.array([slot]), time_ms)[0][0])


def variance_of(engine, slot, time_ms) -> float:
    return float(engine.posterior(np.array([slot]), time_ms)[1][0])


def logit_of(engine, ad, time_ms) -> float:
    return -2.0 + engine.posterior(np.array([BIAS, ad, CAMPAIGN, CELL]), time_ms)[0].sum()


@every_engine
def test_a_fresh_engine_has_nothing_to_report(name):
    assert len(make_engine(name, PRIORS).changed(0).slot) == 0


@every_engine
def test_unseen_slots_have_mean_zero(name):
    mean, variance = make_engine(name, PRIORS).posterior(np.array([0, 99]), 0)
    assert (mean == 0).all() and (variance > 0).all()


@every_engine
def test_it_learns_what_the_offset_missed(name):
    engine = make_engine(name, PRIORS)
    assert engine.learn(stream()) == 0
    end = 3000 * 50
    pctr = [1 / (1 + np.exp(-logit_of(engine, ad, end))) for ad in (GOOD, BAD)]
    assert pctr == pytest.approx([0.3, 0.06], rel=0.35)
    assert mean_of(engine, GOOD, end) > mean_of(engine, BAD, end) + 0.3


@every_engine
def test_an_exact_offset_leaves_nothing_to_learn(name):
    engine, rng = make_engine(name, PRIORS), np.random.default_rng(1)
    label = rng.random(4000) < 1 / (1 + np.exp(2.0))
    engine.learn(examples([(GOOD, -2.0, float(y), 50 * t) for t, y in enumerate(label)]))
    assert logit_of(engine, GOOD, 200_000) == pytest.approx(-2.0, abs=0.25)


@every_engine
def test_weights_fade_towards_zero_while_idle(name):
    engine = make_engine(name, PRIORS)
    engine.learn(stream())
    end = 3000 * 50
    later = mean_of(engine, GOOD, end + 600_000)
    assert later == pytest.approx(mean_of(engine, GOOD, end) * np.exp(-1), rel=0.01)
    assert variance_of(engine, GOOD, end + 10**7) > variance_of(engine, GOOD, end)


@every_engine
def test_a_time_in_the_past_fades_nothing(name):
    engine = make_engine(name, PRIORS)
    engine.learn(stream())
    assert mean_of(engine, GOOD, 0) == pytest.approx(mean_of(engine, GOOD, 2990 * 50), rel=0.02)


@every_engine
def test_splitting_a_batch_changes_no_bit(name):
    whole, parts = make_engine(name, PRIORS), make_engine(name, PRIORS)
    batch = stream(300)
    whole.learn(batch)
    for cut in (slice(0, 1), slice(1, 120), slice(120, 300)):
        chosen = np.zeros(300, bool)
        chosen[cut] = True
        parts.learn(batch.take(chosen))
    assert whole.to_bytes() == parts.to_bytes()


@every_engine
def test_changed_reports_each_change_once(name):
    engine = make_engine(name, PRIORS)
    engine.learn(stream(100))
    first = engine.changed(5000)
    assert first.slot.tolist() == [BIAS, GOOD, BAD, CAMPAIGN, CELL]
    mean, variance = engine.posterior(first.slot, 5000)
    assert (first.mean == mean).all() and (first.variance == variance).all()
    assert len(engine.changed(5000).slot) == 0


@every_engine
def test_changed_comes_back_to_weights_that_faded_while_idle(name):
    engine = make_engine(name, PRIORS)
    engine.learn(stream(500))
    engine.changed(25_000)
    later = [engine.changed(600_000) for _ in range(16)]
    assert sum(len(changed.slot) for changed in later) == 5


@every_engine
def test_a_move_adds_its_step_to_the_mean_whether_the_slot_was_seen_or_not(name):
    engine = make_engine(name, PRIORS)
    engine.learn(stream())
    before = mean_of(engine, CELL, 150_000)
    engine.move(np.array([CELL, 7]), 3, np.array([0.4, -0.3]), 150_000)
    assert mean_of(engine, CELL, 150_000) == pytest.approx(before + 0.4)
    assert mean_of(engine, 7, 150_000) == pytest.approx(-0.3)


@every_engine
def test_a_move_is_reported_as_changed(name):
    engine = make_engine(name, PRIORS)
    engine.move(np.array([CELL]), 3, np.array([0.4]), 1000)
    assert engine.changed(1000).slot.tolist() == [CELL]


@every_engine
def test_a_reset_returns_every_weight_to_the_prior(name):
    engine = make_engine(name, PRIORS)
    engine.learn(stream(200))
    engine.reset()
    assert engine.to_bytes() == make_engine(name, PRIORS).to_bytes()


@every_engine
def test_a_forgotten_slot_starts_again_from_the_prior(name):
    engine = make_engine(name, PRIORS)
    engine.learn(stream(200))
    engine.forget(np.array([GOOD, 10**6]))
    assert mean_of(engine, GOOD, 10_000) == 0.0 and mean_of(engine, BAD, 10_000) != 0.0


@every_engine
def test_a_restored_engine_goes_on_as_the_original_would(name):
    one, two = make_engine(name, PRIORS), make_engine(name, PRIORS)
    one.learn(stream(200))
    one.changed(10_000)
    two.restore(one.to_bytes())
    for engine in (one, two):
        engine.learn(stream(100, seed=7))
    assert one.to_bytes() == two.to_bytes()
    for a, b in zip(one.changed(20_000), two.changed(20_000), strict=True):
        assert (a == b).all()


@every_engine
@pytest.mark.parametrize("damaged", [b"", b"junk", b"\x83"])
def test_damaged_snapshots_are_refused(name, damaged):
    with pytest.raises(ArtifactError):
        make_engine(name, PRIORS).restore(damaged)


def test_a_snapshot_of_another_engine_is_refused():
    with pytest.raises(ArtifactError, match="engine"):
        make_engine("impulse").restore(make_engine("river_lr").to_bytes())


@every_engine
@pytest.mark.parametrize(
    "row",
    [
        (GOOD, np.nan, 1.0, 0),
        (GOOD, -np.inf, 1.0, 0),
        (GOOD, 0.0, np.nan, 0),
        (GOOD, 0.0, 2.0, 0),
        (GOOD, 0.0, -0.5, 0),
        (GOOD, 0.0, 1.0, 0, 0.0),
        (GOOD, 0.0, 1.0, 0, np.inf),
    ],
)
def test_an_example_that_cannot_be_learned_from_is_counted_and_skipped(name, row):
    engine, clean = make_engine(name, PRIORS), make_engine(name, PRIORS)
    good = (BAD, -1.0, 1.0, 5)
    assert engine.learn(examples([row])) == 1
    assert engine.to_bytes() == clean.to_bytes()
    engine.learn(examples([good]))
    assert np.isfinite(mean_of(engine, BAD, 5))


@every_engine
def test_a_late_click_undoes_its_no_click(name):
    wrong, right = make_engine(name, PRIORS), make_engine(name, PRIORS)
    for engine in (wrong, right):
        engine.learn(stream(400))
    wrong.learn(examples([(GOOD, -2.0, 0.0, 20_000), (GOOD, -2.0, 1.0, 20_000, 1.0, 0)]))
    right.learn(examples([(GOOD, -2.0, 1.0, 20_000)]))
    assert logit_of(wrong, GOOD, 20_000) == pytest.approx(logit_of(right, GOOD, 20_000), abs=0.02)


def test_a_click_that_corrects_its_no_click_leaves_what_learning_it_at_once_would():
    """With all weights uncertain, too: else clicks that come late would weigh more than negatives."""
    late, at_once = make_engine("impulse", PRIORS), make_engine("impulse", PRIORS)
    late.learn(examples([(GOOD, -2.0, 0.0, 0), (GOOD, -2.0, 1.0, 0, 1.0, 0)]))
    at_once.learn(examples([(GOOD, -2.0, 1.0, 0)]))
    slots = np.array([BIAS, GOOD, CAMPAIGN, CELL])
    (one, _), (other, _) = late.posterior(slots, 0), at_once.posterior(slots, 0)
    np.testing.assert_allclose(one, other, rtol=2e-3)


@every_engine
def test_endless_one_sided_labels_stay_finite(name):
    engine = make_engine(name, PRIORS)
    engine.learn(examples([(GOOD, -30.0, 1.0, t) for t in range(1500)]))
    engine.learn(examples([(GOOD, 30.0, 0.0, 2000 + t) for t in range(1500)]))
    mean, variance = engine.posterior(np.arange(5), 4000)
    assert np.isfinite(mean).all() and (variance > 0).all() and np.isfinite(variance).all()


@every_engine
def test_an_absent_feature_is_left_alone(name):
    engine = make_engine(name, PRIORS)
    batch = examples([(GOOD, -2.0, 1.0, 0)])
    batch.feature[0, 0] = -1
    engine.learn(batch)
    assert mean_of(engine, BIAS, 0) == 0.0 and mean_of(engine, GOOD, 0) > 0.0


@pytest.mark.parametrize("model", [OffsetLogisticRegression(), OffsetAdPredictor()])
def test_the_offset_subclasses_pass_rivers_own_checks(model):
    check_estimator(model)


@pytest.mark.parametrize("model", [OffsetLogisticRegression(), OffsetAdPredictor()])
def test_an_untrained_offset_model_predicts_its_offset(model):
    assert model.predict_proba_one({"a": 1.0}, offset=-2.0)[True] == pytest.approx(0.1192, abs=1e-4)


@pytest.mark.parametrize("model", [OffsetLogisticRegression(), OffsetAdPredictor()])
def test_without_an_offset_the_subclass_is_rivers_own_model(model):
    parent = type(model).__bases__[0]()
    rng = np.random.default_rng(3)
    for _ in range(200):
        x = {int(k): 1.0 for k in rng.integers(0, 5, 2)}
        y = bool(rng.random() < 0.2)
        model.learn_one(x, y)
        parent.learn_one(x, y)
    assert model.predict_proba_one({1: 1.0}) == parent.predict_proba_one({1: 1.0})


def test_an_unknown_engine_is_a_setting_error():
    with pytest.raises(SettingError, match="impulse"):
        make_engine("ftrl")


@pytest.mark.parametrize("bad", [0.0, -1.0, float("nan"), float("inf")])
def test_a_prior_that_is_not_positive_is_a_setting_error(bad):
    with pytest.raises(SettingError, match=r"priors\.ad"):
        Priors(ad=bad)
