"""Click logits brought to scale on impressions that were not learned from."""

import numpy as np
import pytest
import torch

from models.scorer.calibration import calibrate, fit_scale
from models.scorer.config import ModelConfig
from models.scorer.cooccurrence import build, steps_of
from models.scorer.datasets import Holdout
from models.scorer.sequences import Dataset, Labels
from models.scorer.transformer import Transformer
from models.scorer.validation import impression_logits


def clicks(logit, seed=0):
    return np.random.default_rng(seed).random(len(logit)) < 1 / (1 + np.exp(-logit))


def test_logits_that_are_too_sure_are_flattened_around_their_mean():
    truth = np.random.default_rng(1).normal(-3, 1, 100_000)
    offset = np.where(np.arange(100_000) % 2 == 0, 0.0, -0.7)
    none = np.zeros(100_000)
    scale = fit_scale(1.5 * truth + 1, none, offset, clicks(truth + offset))
    assert scale.slope == pytest.approx(1 / 1.5, abs=0.05)
    assert scale.slope * (1.5 * -3 + 1) + scale.level == pytest.approx(-3, abs=0.05)


def test_few_impressions_change_little_and_none_change_nothing():
    logit = np.linspace(-4, -2, 30)
    scale = fit_scale(logit, np.zeros(30), np.zeros(30), np.zeros(30, np.bool_))
    assert abs(scale.slope - 1) < 0.15
    assert abs(scale.slope * -3 + scale.level + 3) < 0.4
    nothing = fit_scale(logit[:0], logit[:0], logit[:0], np.zeros(0, np.bool_))
    assert nothing == (1.0, 0.0, 0.0)


def test_a_score_that_tells_clicks_gets_its_share_and_one_that_denies_them_none():
    rng = np.random.default_rng(3)
    logit, score = rng.normal(-2, 0.5, 50_000), 0.1 * rng.random(50_000)
    told = fit_scale(logit, score, np.zeros(50_000), clicks(logit + 12 * score))
    assert told.share == pytest.approx(12, abs=1.5)
    assert told.slope == pytest.approx(1, abs=0.05)
    denied = fit_scale(logit, score, np.zeros(50_000), clicks(logit - 12 * score))
    assert denied.share == 0


def test_the_scale_is_folded_into_the_click_logit_and_leaves_conversions_alone():
    config = ModelConfig(
        9, d_model=16, window=3, rotary_length=16, head_width=8, categories=3, slots=2, dropout=0.0
    )
    torch.manual_seed(0)
    model = Transformer(config).eval()
    draw = np.random.default_rng(2)
    shown, n = draw.integers(0, 10, 4000), np.zeros(4000, np.int64)
    labels = Labels(
        n, n, shown, n, n - 1, shown < 2, np.zeros(4000, np.bool_), n, np.ones(4000, np.float32), n
    )
    none, one, content = n[:0], n[:1], np.zeros((10, 0), np.float32)
    events = (one, one, one, one, one, one.astype(bool))
    history = Dataset(np.array([0, 1]), *events, np.zeros(10, np.int64), content, labels)
    holdout = Holdout(history, none, none, False, history)
    before = impression_logits(model, history, labels)
    empty = build(none, steps_of(np.zeros(1, np.int64), none), 10)
    scale, graph = calibrate(model, empty, holdout)
    after = impression_logits(model, history, labels)
    assert scale != (1.0, 0.0, 0.0)
    assert graph.click == scale.share
    np.testing.assert_allclose(after[:, 0], scale.slope * before[:, 0] + scale.level, atol=1e-5)
    np.testing.assert_allclose(after[:, 1], before[:, 1], atol=1e-6)
