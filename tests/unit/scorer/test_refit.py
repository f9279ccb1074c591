"""Views and ads anew, once the network is settled."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.special import expit

from models.domain.events import KINDS
from models.scorer.config import ModelConfig
from models.scorer.cooccurrence import build, steps_of
from models.scorer.datasets import Holdout, Split
from models.scorer.leanings import LeaningTable, label_leanings, no_leanings
from models.scorer.refit import refit
from models.scorer.sequences import Dataset, Labels
from models.scorer.transformer import Transformer
from models.scorer.validation import impression_logits, slot_bias

ADS, COUNT = 8, 40_000
CONFIG = ModelConfig(
    ADS, d_model=16, window=3, rotary_length=16, head_width=8, categories=3, slots=2, segments=0, dropout=0.0
)


def network():
    """A network whose ads' biases are heard by clicks, and a little by conversions."""
    torch.manual_seed(0)
    model = Transformer(CONFIG).eval()
    with torch.no_grad():
        torch.nn.init.normal_(model.start, std=0.3)
        model.shortcut_scale.copy_(torch.tensor([0.8, 0.1]))
        model.shortcut_offset.copy_(torch.tensor([-2.0, -1.0]))
    model.everyone.copy_(torch.tensor([0.25, 0.1]))
    model.conversion_slope.fill_(0.3)
    return model


def shown_at_random(model, truth):
    """Impressions of everything, clicked as the network has it but for the ads' true effects; two halves."""
    draw = np.random.default_rng(3)
    ad, zero = draw.integers(0, ADS + 1, COUNT), np.zeros(COUNT, np.int64)
    click, half = np.zeros(COUNT, np.bool_), np.ones(COUNT, np.float32)
    labels = Labels(
        zero, zero + 1, ad, zero, zero - 1, click, click, draw.integers(0, 2, COUNT), half, zero, zero
    )
    one = zero[:1]
    events = (one, one, one, one, one, one, one.astype(bool))
    content = np.zeros((ADS + 1, 0), np.float32)
    campaigns = np.array([0, 1, 1, 1, 1, 2, 2, 2, 2])
    whole = Dataset(
        np.array([0, 1]), *events, np.zeros(ADS + 1, np.int64), content, labels, campaign_of=campaigns
    )
    logit = impression_logits(model, whole, labels)[:, 0] + slot_bias(model, labels)
    labels = replace(labels, click=draw.random(COUNT) < expit(logit + truth[ad]))
    early, late = (replace(whole, labels=labels.take(rows)) for rows in np.split(np.arange(COUNT), 2))
    holdout = Holdout(late, zero[:0], zero[:0], False, late)
    return Split(early, holdout, np.arange(ADS, dtype=np.uint64), "")


def empty_graph():
    none = np.zeros(0, np.int64)
    return build(none, steps_of(np.zeros(1, np.int64), none), ADS + 1)


def logits(model, split):
    labels = split.train.labels
    found = impression_logits(model, split.train, labels).astype(np.float64)
    return np.stack([found[labels.ad == ad].mean(0) for ad in range(ADS + 1)])


TRUTH = np.array([0.0, 0.6, 0.5, 0.4, 0.7, -0.5, -0.6, -0.4, -0.7])


def test_click_logits_move_to_where_the_whole_log_has_them():
    model = network()
    split = shown_at_random(model, TRUTH)
    before = logits(model, split)
    level = refit(model, empty_graph(), no_leanings(), split).level
    moved = logits(model, split)[:, 0] - before[:, 0]
    assert moved[1:] == pytest.approx(TRUTH[1:], abs=0.25)
    assert moved[0] == pytest.approx(level, abs=1e-4)


def test_what_the_ads_of_a_campaign_have_in_common_is_told_for_those_to_come():
    model = network()
    found = refit(model, empty_graph(), no_leanings(), shown_at_random(model, TRUTH))
    nobody, good, bad = found.campaigns * found.heard.click
    assert nobody == 0
    assert good - bad == pytest.approx(1.1, abs=0.25)


def test_how_much_views_tell_is_weighed_on_all_impressions():
    model, draw, users, views = network(), np.random.default_rng(5), 400, 20
    tastes = draw.dirichlet([1.0, 1.0], users)
    category = (draw.random((users, views)) > tastes[:, :1]).astype(np.int64).ravel() + 1
    user, of = draw.integers(0, users, COUNT), draw.integers(1, 3, COUNT)
    zero, none = np.zeros(COUNT, np.int64), np.zeros(len(category), np.int64)
    labels = Labels(
        user,
        zero + views,
        zero,
        of,
        zero - 1,
        zero > 0,
        zero > 0,
        zero,
        np.ones(COUNT, np.float32),
        zero,
        zero,
    )
    kind = np.full(len(category), KINDS.index("view"))
    whole = Dataset(
        np.arange(users + 1) * views, none, category, kind, none, none, none, none > 0,
        np.zeros(ADS + 1, np.int64), np.zeros((ADS + 1, 0), np.float32), labels,
    )  # fmt: skip
    shares = np.array([[0.0, 0.5, 0.5]], np.float32)
    told = label_leanings(shares, whole, labels, CONFIG.history_length, 4.0)
    logit = impression_logits(model, whole, labels)[:, 0] + slot_bias(model, labels) + 0.6 * told
    labels = replace(labels, click=draw.random(COUNT) < expit(logit))
    early, late = (replace(whole, labels=labels.take(rows)) for rows in np.split(np.arange(COUNT), 2))
    split = Split(early, Holdout(late, zero[:0], zero[:0], False, late), np.arange(ADS, dtype=np.uint64), "")
    found = refit(model, empty_graph(), LeaningTable(shares, 0.1, 16.0), split).leanings
    assert found.shrink in (2.0, 4.0, 8.0)
    better = found.weight * label_leanings(shares, whole, labels, CONFIG.history_length, found.shrink)
    assert np.polyfit(better, 0.6 * told, 1)[0] == pytest.approx(1, abs=0.15)


def test_what_the_model_says_of_conversions_stays():
    model = network()
    split = shown_at_random(model, TRUTH)
    before = logits(model, split)[:, 1]
    refit(model, empty_graph(), no_leanings(), split)
    np.testing.assert_allclose(logits(model, split)[:, 1], before, atol=1e-5)


def test_without_impressions_held_out_nothing_changes():
    model = network()
    split = shown_at_random(model, TRUTH)
    before = logits(model, split)
    alone = replace(split, holdout=replace(split.holdout, labels_history=None))
    assert refit(model, empty_graph(), no_leanings(), alone) is None
    np.testing.assert_array_equal(logits(model, split), before)


def test_a_network_that_hardly_hears_the_biases_keeps_them():
    model = network()
    split = shown_at_random(model, TRUTH)
    with torch.no_grad():
        model.shortcut_scale[0] = 0.01
    assert refit(model, empty_graph(), no_leanings(), split) is None
    assert not model.log_popularity.any()
