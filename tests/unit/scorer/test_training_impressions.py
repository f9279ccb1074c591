"""Impressions in training: attention over rows, slots, conversions still to come, what ads start from."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.shown_ads import examples

from models.scorer.config import ModelConfig
from models.scorer.datasets import Buckets, from_log
from models.scorer.features import category_rows
from models.scorer.fitting import fit_log
from models.scorer.impressions import Shown, attended, joint_losses, label_losses, shown_logits
from models.scorer.options import TrainOptions
from models.scorer.sequences import NEVER, AdTable, Labels
from models.scorer.training import _Run, build_model
from models.scorer.transformer import Ads, Transformer
from models.scorer.validation import impression_logits, last_band, shown_windows

CONFIG = ModelConfig(
    vocabulary=20, d_model=16, blocks=1, heads=2, window=3, rotary_length=16, head_width=8, categories=9,
    slots=4, dropout=0.0,
)  # fmt: skip


def network():
    torch.manual_seed(0)
    model = Transformer(CONFIG).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
        model.conversion_bias.normal_()
    return model


def labels(count, **columns):
    zeros, flags = np.zeros(count, np.int64), np.zeros(count, np.bool_)
    blank = Labels(
        zeros, zeros, zeros, zeros, zeros - 1, flags, flags, zeros, np.ones(count, np.float32), zeros, zeros
    )
    return replace(blank, **columns)


@settings(max_examples=25, deadline=None)
@given(places=st.lists(st.tuples(st.integers(0, 2), st.integers(-1, 6)), min_size=1, max_size=20))
def test_an_impression_is_ranked_as_a_lone_candidate_is(places):
    model, (row, end) = network(), torch.tensor(places).T
    h = torch.randn(3, 7, 16)
    ads = Ads(torch.randint(0, 21, (len(row),)), torch.randint(0, 9, (len(row),)), torch.zeros(len(row), 0))
    shown = Shown.of(model, h, row, end, labels(len(row)))
    band, seen = last_band(h, row, end, CONFIG.window)
    v, bias = model.ad_vectors(ads)[:, None], model.ad_bias(ads)[:, None]
    alone = model.rank(shown.u, band, seen, v, bias)[:, 0] + model.ad_rates(ads)
    torch.testing.assert_close(shown_logits(model, shown, ads), alone, atol=1e-5, rtol=1e-5)
    assert not attended(model, shown, v[:, 0])[end < 0].any()


def test_no_impressions_are_no_logits():
    model, none = network(), torch.zeros(0, dtype=torch.int64)
    shown = Shown.of(model, torch.randn(2, 3, 16), none, none, labels(0))
    assert shown_logits(model, shown, Ads(none, none, torch.zeros(0, 0))).shape == (0, 2)


def test_a_slot_that_is_looked_at_less_shifts_what_is_learned_and_not_what_is_served():
    model = network()
    with torch.no_grad():
        model.slot_logits.copy_(torch.tensor([5.0, -1.0, -2.0, -3.0]))
    logits, slot = torch.zeros(3, 2), np.array([0, 1, 9])
    click = label_losses(logits, model, labels(3, slot=slot))[0]
    torch.testing.assert_close(click, torch.nn.functional.softplus(torch.tensor([0.0, -1.0, -3.0])))


def test_a_conversion_that_had_no_time_to_come_is_no_evidence_against_one():
    logits = torch.zeros(2, 2, requires_grad=True)
    joint_losses(logits, torch.zeros(2), torch.tensor([1e-6, 1.0])).sum().backward()
    young, old = logits.grad[:, 1]
    assert 0 < young < 1e-5
    assert old > 0.1


def split_of(log):
    return from_log(log, np.zeros((12, 0), np.float32), Buckets())


def test_an_untrained_network_predicts_what_counting_tells():
    split = split_of(examples(users=1000))
    model = build_model(replace(CONFIG, vocabulary=12, categories=1024), split.train, seed=0)
    train = split.train
    logits = impression_logits(model, train, train.labels)
    p = 1 / (
        1 + np.exp(-logits[:, 0] - model.slot_bias(torch.from_numpy(train.labels.slot)).detach().numpy())
    )
    campaign = train.campaign_of[train.labels.ad]
    for number in range(1, 4):
        mine = campaign == number
        assert p[mine].mean() == pytest.approx(train.labels.click[mine].mean(), rel=0.2)


def test_windows_hold_every_impression_at_its_place():
    data = split_of(examples(users=15)).train
    for length in (3, 7, 100):
        found = np.zeros(len(data.labels), int)
        for rows, events, row, end in shown_windows(data, data.labels, length):
            found[rows] += 1
            place = data.offsets[data.labels.user[rows]] + data.labels.position[rows] - 1
            some = end.numpy() >= 0
            last = events.ad[row, end.clamp(min=0)].numpy()
            assert (last[some] == data.ad[place[some]]).all()
            assert (some == (data.labels.position[rows] > 0)).all()
            enough = np.minimum(data.labels.position[rows], length)
            assert (end.numpy() + 1 >= enough).all()
        assert (found == 1).all()


def test_impressions_that_may_still_be_clicked_are_left_out():
    log = examples(users=50)
    slow = replace(log, click_time_ms=np.where(log.click, log.impression_time_ms + 60_000, NEVER))
    unknown = replace(log, click_time_ms=None, conversion_time_ms=None)

    def count(x):
        split = split_of(x)
        return len(split.train.labels) + len(split.holdout.labels_history.labels)

    assert count(unknown) == len(log.click)
    assert 50 <= count(unknown) - count(slow) <= 100  # each user's last minute, by up to a second


def test_slots_are_told_from_ads_by_training():
    model = fit_log(
        examples(users=300),
        TrainOptions(steps=60, tokens=512, negatives=16, validations=1),
        config={"d_model": 16},
    )
    learned = model.network.slot_bias(torch.arange(4)).detach().numpy()
    assert learned == pytest.approx(np.log([1, 0.5, 0.25, 0.125]), abs=0.5)
    assert model.network.bias_scale == 1


def test_a_large_budget_does_not_buy_more_passes_over_a_log():
    options = TrainOptions(minutes=5, tokens=512, negatives=8, validations=1, passes=2)
    model = fit_log(examples(users=40), options, config={"d_model": 16})
    assert model.training["epochs"] <= 2
    assert model.training["options"]["passes"] == 2
    assert model.training["options"]["learning_rate"] == TrainOptions().pace(True).learning_rate


def test_bfloat16_as_on_a_gpu_learns_the_same_slots(monkeypatch):
    def learned():
        options = TrainOptions(steps=20, tokens=512, negatives=16, validations=1)
        return fit_log(examples(), options, config={"d_model": 16}).network.slot_logits.detach()

    whole = learned()
    monkeypatch.setattr(_Run, "_autocast", lambda _: torch.autocast("cpu", dtype=torch.bfloat16))
    half = learned()
    assert not torch.equal(half, whole)
    torch.testing.assert_close(half, whole, atol=0.05, rtol=0)


SHOWN_COLUMNS = (
    "impression_user", "impression_position", "impression_ad_key", "impression_time_ms", "click",
    "conversion", "slot", "click_time_ms", "conversion_time_ms",
)  # fmt: skip


def shown_only(log, kept):
    """The log with these impressions alone."""
    return replace(log, **{name: getattr(log, name)[kept] for name in SHOWN_COLUMNS})


def test_a_log_without_impressions_is_trained_as_sequences_are():
    log = examples(users=40)
    bare = shown_only(log, np.zeros(len(log.click), np.bool_))
    model = fit_log(
        bare, TrainOptions(steps=3, tokens=512, negatives=8, validations=1), config={"d_model": 16}
    )
    assert model.network.config.slots == 0
    assert "conversion_bias" not in model.network.state_dict()


def test_a_log_that_brings_no_ad_is_trained_on_by_their_ids_alone():
    log = examples(users=40)
    nothing = AdTable(np.zeros(0, np.uint64), np.zeros(0, np.uint64), (), None, np.zeros(0, np.uint64))
    model = fit_log(
        replace(log, ads=nothing), TrainOptions(steps=3, tokens=512, negatives=8, validations=1),
        config={"d_model": 16},
    )  # fmt: skip
    assert model.network.config.content_dim == 0
    assert np.isfinite(model.metrics["validation_click_logloss"])


def test_impressions_too_late_to_be_learned_from_are_not_measured_on_either():
    """Ads were switched on in the part that is held out: their clicks are targets, and no more."""
    log = examples(users=60)
    end = log.time_ms.max()
    late = shown_only(log, log.impression_time_ms > end - 0.09 * (end - log.time_ms.min()))
    model = fit_log(
        late, TrainOptions(steps=3, tokens=512, negatives=8, validations=1), config={"d_model": 16}
    )
    assert model.network.config.slots == 0
    assert "validation_click_auc" not in model.metrics
    assert model.metrics["validation_users"] == late.click[late.impression_time_ms <= end - 1000].sum()


def test_with_nothing_to_validate_on_training_goes_to_its_end_and_keeps_the_last_weights():
    log = examples(users=40)
    span = int(np.ptp(log.impression_time_ms))
    slow = replace(log, click_time_ms=np.where(log.click, log.impression_time_ms + span // 5, NEVER))
    options = TrainOptions(steps=20, tokens=512, negatives=8, validations=10, patience=2)
    model = fit_log(slow, options, config={"d_model": 16})
    assert len(split_of(slow).holdout.labels_history.labels) == 0
    assert (model.training["steps"], model.training["curve"]) == (20, [])
    last = fit_log(slow, replace(options, validations=1, patience=100), config={"d_model": 16})
    assert torch.equal(model.network.ad.weight, last.network.ad.weight)


@pytest.mark.parametrize("categories", [64, 1024, 4096])
def test_the_rows_of_categories_that_are_trained_are_those_that_are_served(categories):
    log = examples(users=40)
    far = replace(log.ads, category_key=log.ads.category_key + 10**6 + np.arange(12, dtype=np.uint64) % 3)
    log = replace(log, category_key=far.category_key[(log.ad_key - 100).astype(int)], ads=far)
    options = TrainOptions(steps=3, tokens=512, negatives=8, validations=1)
    model = fit_log(log, options, config={"d_model": 16, "categories": categories})
    table = model.network.category_out.weight.detach().numpy()  # begins at 0
    served = np.unique(category_rows(far.category_key, categories))
    assert np.flatnonzero(table.any(axis=1)).tolist() == served.tolist()


def test_times_are_told_apart_as_far_as_the_config_says():
    log = examples(users=40)
    options = TrainOptions(steps=3, tokens=512, negatives=8, validations=1)
    few = {"d_model": 16, "gap_buckets": 3, "dwell_buckets": 3}
    model = fit_log(replace(log, dwell_ms=log.dwell_ms + 60_000), options, config=few)
    assert (len(model.network.gap.weight), len(model.network.dwell.weight)) == (3, 3)
