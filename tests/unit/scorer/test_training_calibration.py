"""Logits brought to scale on impressions that were not learned from."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from models.scorer.calibration import (
    BELIEFS,
    Belief,
    ClickParts,
    calibrate,
    fit_conversions,
    fit_scale,
    fit_shrink,
    fit_weights,
)
from models.scorer.config import ModelConfig
from models.scorer.cooccurrence import build, steps_of
from models.scorer.datasets import Holdout, Split
from models.scorer.leanings import SHRINK
from models.scorer.sequences import Dataset, Labels
from models.scorer.transformer import Transformer
from models.scorer.validation import all_scores, impression_logits, query_parts, segment_logits
from models.scorer.weights import rates

CONFIG = ModelConfig(
    9, d_model=16, window=3, rotary_length=16, head_width=8, categories=3, slots=2, segments=2, dropout=0.0
)


def probability(logit):
    return 1 / (1 + np.exp(-logit))


def clicks(logit, seed=0):
    return np.random.default_rng(seed).random(len(logit)) < probability(logit)


def parts(count, **known):
    """The parts of click logits, those not told 0."""
    return ClickParts(**{name: known.get(name, np.zeros(count)) for name in ClickParts._fields})


def fit_of(told, offset, click):
    """How well leanings fit, all other parts being as told."""
    return lambda leaning: fit_weights(told._replace(leaning=leaning), offset, click, BELIEFS)


def test_logits_that_are_too_sure_are_flattened_around_their_mean():
    truth = np.random.default_rng(1).normal(-3, 1, 100_000)
    offset = np.where(np.arange(100_000) % 2 == 0, 0.0, -0.7)
    scale = fit_scale(parts(100_000, everyone=1.5 * truth + 1), offset, clicks(truth + offset))
    assert scale.everyone == pytest.approx(1 / 1.5, abs=0.05)
    assert scale.everyone * (1.5 * -3 + 1) + scale.level == pytest.approx(-3, abs=0.05)


def test_everyone_the_user_the_segment_and_the_views_get_a_slope_each():
    rng = np.random.default_rng(2)
    everyone, own, segment, leaning = rng.normal(0, 0.6, (4, 200_000))
    told = parts(200_000, everyone=everyone - 3, own=own, segment=segment, leaning=leaning)
    truth = 0.8 * told.everyone + 0.3 * own + 1.3 * segment + 0.4 * leaning
    scale = fit_scale(told, np.zeros(200_000), clicks(truth))
    found = scale.everyone, scale.own, scale.segments, scale.lean
    assert found == pytest.approx((0.8, 0.3, 1.3, 0.4), abs=0.05)


def test_few_impressions_change_little_and_none_change_nothing():
    logit, none = np.linspace(-4, -2, 30), np.zeros(30)
    scale = fit_scale(parts(30, everyone=logit), none, np.zeros(30, np.bool_))
    assert abs(scale.everyone - 1) < 0.15
    assert abs(scale.everyone * -3 + scale.level + 3) < 0.4
    nothing = fit_scale(parts(0), logit[:0], np.zeros(0, np.bool_))
    assert nothing == (1.0, 1.0, 1.0, 0.0, 0.0, 0.0)


def test_a_score_that_tells_clicks_gets_its_share_and_one_that_denies_them_none():
    rng = np.random.default_rng(3)
    logit, score, none = rng.normal(-2, 0.5, 50_000), 0.1 * rng.random(50_000), np.zeros(50_000)
    both = parts(50_000, everyone=logit, score=score)
    told = fit_scale(both, none, clicks(logit + 12 * score))
    assert told.share == pytest.approx(12, abs=1.5)
    assert told.everyone == pytest.approx(1, abs=0.05)
    denied = fit_scale(both, none, clicks(logit - 12 * score))
    assert denied.share == 0


@pytest.mark.parametrize("true", [1.0, 16.0])
def test_leanings_are_shrunk_as_clicks_say(true):
    rng = np.random.default_rng(5)
    views = rng.geometric(0.1, 100_000) - 1
    leanings = {shrink: np.log((views + shrink) / (9 + shrink)) for shrink in (1.0, SHRINK, 16.0)}
    click, none = clicks(leanings[true] - 2), np.zeros(100_000)
    told = parts(100_000, everyone=np.full(100_000, -2.0))
    assert fit_shrink(leanings, fit_of(told, none, click)) == true


def test_where_leanings_tell_nothing_the_usual_shrink_stays():
    rng = np.random.default_rng(6)
    leanings = {shrink: rng.normal(0, 1 / shrink, 20_000) for shrink in (1.0, SHRINK, 16.0)}
    told, none = parts(20_000, everyone=np.full(20_000, -2.0)), np.zeros(20_000)
    assert fit_shrink(leanings, fit_of(told, none, clicks(np.full(20_000, -2.0)))) == SHRINK


def test_a_weight_that_is_none_leaves_the_others_what_they_are_without_it():
    rng = np.random.default_rng(4)
    good, bad = rng.normal(-2, 1, 20_000), rng.normal(0, 1, 20_000)
    click, none = clicks(good - bad), np.zeros(20_000)
    unsure = Belief(1.0, 0.5)
    first, second, level = fit_weights((good, bad), none, click, (unsure, unsure)).weights
    alone = fit_weights((good,), none, click, (unsure,)).weights
    assert second == 0
    assert [first, level] == pytest.approx(alone, abs=1e-4)


def test_the_share_of_a_click_logit_that_holds_for_conversions_is_found_before_all_have_come():
    rng = np.random.default_rng(5)
    click, arrived = rng.normal(-2, 0.8, 60_000), rng.uniform(0.2, 1.0, 60_000)
    converted = rng.random(60_000) < arrived * probability(-2 + 0.4 * (click + 2))
    scale = fit_conversions(np.full(60_000, -2.3), click, arrived, converted)
    assert scale.slope == pytest.approx(0.4, abs=0.06)
    assert -2.3 + scale.slope * -2 + scale.level == pytest.approx(-2, abs=0.05)


def test_few_conversions_move_little_against_the_trend_nothing_and_none_at_all_neither():
    click, all_came = np.linspace(-3, -1, 40), np.ones(40)
    few = fit_conversions(np.full(40, -2.0), click, all_came, np.arange(40) > 36)
    assert 0 < few.slope < 0.25
    falling = fit_conversions(np.full(40, -2.0), click, all_came, np.arange(40) < 20)
    assert falling.slope == 0
    assert fit_conversions(np.full(40, -2.0), click, all_came, np.zeros(40, np.bool_)) == (0.0, 0.0)


def shown_to_one_user(count, labels_of):
    """Return a split whose hold-out is these impressions after one event, learned from as well."""
    zero = np.zeros(count, np.int64)
    none, one, content = zero[:0], zero[:1], np.zeros((10, 0), np.float32)
    events = (one, one, one, one, one, one, one.astype(bool))
    history = Dataset(np.array([0, 1]), *events, np.zeros(10, np.int64), content, labels_of(zero))
    return Split(history, Holdout(history, none, none, False, history), np.arange(9, dtype=np.uint64), "")


def test_the_scales_are_folded_into_the_network_and_the_graph():
    torch.manual_seed(0)
    model = Transformer(CONFIG).eval()
    torch.nn.init.normal_(model.start)
    model.segment_logits[:2, 1] = torch.tensor([0.8, -0.8])
    draw = np.random.default_rng(2)
    shown, segment = draw.integers(0, 10, 4000), draw.integers(0, 3, 4000)
    converted = (shown < 2) & (draw.random(4000) < 0.3)
    split = shown_to_one_user(
        4000,
        lambda n: Labels(
            n, n + 1, shown, n + 1, n - 1, shown < 2, converted, n, np.ones(4000, np.float32), segment, n
        ),
    )
    history = split.holdout.labels_history
    own = segment_logits(model, history.labels)
    before = impression_logits(model, history, history.labels)
    blank = replace(history.labels, position=0 * history.labels.position)
    of_all = impression_logits(model, history, blank)[:, 0] - own
    empty = build(shown[:0], steps_of(np.zeros(1, np.int64), shown[:0]), 10)
    scales, graph, leanings = calibrate(model, empty, split)
    after = impression_logits(model, history, history.labels)
    everyone, users, segments, share, lean, level = scales["clicks"]
    assert 1 not in (everyone, users, segments)
    assert (graph.click, leanings.weight) == (share, lean)
    network = everyone * of_all + users * (before[:, 0] - own - of_all)
    np.testing.assert_allclose(after[:, 0], network + segments * own + level, atol=1e-5)
    tells, base = scales["conversions"]
    assert float(model.conversion_slope) == pytest.approx(tells)
    np.testing.assert_allclose(after[:, 1], before[:, 1] + tells * after[:, 0] + base, atol=1e-5)
    common, users, bias = query_parts(model, history, history.labels).T
    retrieval = all_scores(model, history, np.zeros(1, np.int64))[0]
    first, second = scales["queries"]
    assert retrieval.shape == (10,)
    assert np.isfinite(first * common + second * users + bias).all()
    assert model.query_mix.tolist() == pytest.approx([first, second])


@pytest.mark.parametrize("holds", [0.0, 0.6])
def test_how_much_of_a_liking_holds_for_conversions_is_found_whatever_the_network_says_of_them(holds):
    torch.manual_seed(0)
    model = Transformer(CONFIG).eval()
    model.segment_logits[:2, 1] = torch.tensor([1.0, -1.0])
    draw = np.random.default_rng(6)
    shown, segment = draw.integers(0, 10, 8000), draw.integers(0, 2, 8000)
    likes = np.where(segment == 0, 1.0, -1.0)
    click = draw.random(8000) < probability(likes)
    converted = click & (draw.random(8000) < probability(-1 + holds * likes))
    split = shown_to_one_user(
        8000,
        lambda n: Labels(
            n, n + 1, shown, n + 1, n - 1, click, converted, n, np.ones(8000, np.float32), segment, n
        ),
    )
    calibrate(model, build(shown[:0], steps_of(np.zeros(1, np.int64), shown[:0]), 10), split)
    liking = float(model.segment_logits[0, 1])
    assert float(model.adjustment_slope) * liking == pytest.approx(holds, abs=0.1)


def test_a_model_of_before_adjusts_conversions_by_the_slope_it_has():
    tensors = {name: value.numpy() for name, value in Transformer(CONFIG).state_dict().items()}
    tensors |= {"conversion_slope": np.float32(0.2), "adjustment_slope": np.float32(0.4)}
    assert rates(CONFIG, tensors).adjustment_slope == pytest.approx(0.4)
    del tensors["adjustment_slope"]
    assert rates(CONFIG, tensors).adjustment_slope == pytest.approx(0.2)


def test_the_queries_of_retrieval_are_mixed_from_everyones_vector_and_the_users():
    torch.manual_seed(1)
    model = Transformer(CONFIG).eval()
    torch.nn.init.normal_(model.start)
    users = torch.randn(4, 16)
    assert torch.equal(model.queries(users), users)
    model.query_mix.copy_(torch.tensor([1.5, 0.25]))
    expected = 1.5 * model.start + 0.25 * (users - model.start)
    torch.testing.assert_close(model.queries(users), expected)
