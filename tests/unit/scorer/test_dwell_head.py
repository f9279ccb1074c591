"""How long users stay after a click: means by ad, what the network adds, and what it is judged by."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.domain.errors import ArtifactError
from models.scorer.datasets import Buckets, from_log
from models.scorer.dwell import DwellHead, ad_means, dwell_metrics, fit_dwell, ridge, stored_dwell
from models.scorer.fitting import fit_log
from models.scorer.model import Model
from models.scorer.options import TrainOptions
from models.scorer.sequences import NEVER, AdTable, LogExamples

SECOND = 1000


def stays(users=400, clicks=8, ads=20, taste=0.6, seed=0):
    """Clicks whose stay is longer where the first number of the inner layer is, and a little by ad."""
    draw = np.random.default_rng(seed)
    n = users * clicks
    hidden = draw.random((n, 6)).astype(np.float32)
    hidden[:, 5] = 0  # a unit that never wakes
    ad, user = draw.integers(1, ads + 1, n), np.repeat(np.arange(users), clicks)
    of_ad = np.concatenate(([0], 0.3 * draw.standard_normal(ads)))
    log_ms = 9 + of_ad[ad] + taste * 4 * (hidden[:, 0] - 0.5) + 0.5 * draw.standard_normal(n)
    return hidden, np.exp(log_ms).astype(np.int64), ad, user, ads + 1


def test_an_ad_with_many_stays_has_its_own_mean_and_one_with_few_nearly_everyones():
    draw = np.random.default_rng(0)
    of_ad = np.repeat([8.0, 9.0, 10.0, 11.0], 300)
    ad = np.append(np.repeat([1, 2, 3, 4], 300), 5)
    log_ms = np.append(of_ad + draw.standard_normal(1200), 14.0)
    means = ad_means(log_ms, ad, 8)
    np.testing.assert_allclose(means[1:5], [8, 9, 10, 11], atol=0.2)
    assert log_ms.mean() < means[5] < 13
    assert means[0] == means[6] == means[7] == pytest.approx(log_ms.mean())


def test_ads_that_differ_by_chance_alone_share_one_mean():
    draw = np.random.default_rng(1)
    means = ad_means(9 + draw.standard_normal(4000), draw.integers(1, 41, 4000), 41)
    assert np.ptp(means) < 0.1


def test_the_network_says_more_than_the_ads_means_where_users_differ():
    told = dwell_metrics(*stays())
    assert told["dwell_log_rmse"] == pytest.approx(0.5, abs=0.03)
    assert told["dwell_log_rmse"] < told["dwell_log_rmse_ad_mean"] < told["dwell_log_rmse_mean"]
    assert told["dwell_gain"] > 5 * told["dwell_gain_se"] > 0


def test_where_the_network_knows_nothing_no_gain_is_claimed():
    gains = [dwell_metrics(*stays(taste=0.0, seed=seed)) for seed in range(4)]
    assert all(abs(told["dwell_gain"]) < 3 * max(told["dwell_gain_se"], 1e-4) for told in gains)


@pytest.mark.parametrize("user", [0, 7])
def test_of_stays_of_one_user_no_error_is_claimed(user):
    """Nobody else is there to fit on."""
    hidden, dwell_ms, ad, users, rows = stays(users=30)
    assert dwell_metrics(hidden, dwell_ms, ad, np.full_like(users, user), rows) == {}


def test_noise_gets_small_weights_and_a_signal_gets_its_own():
    draw = np.random.default_rng(2)
    x, noise = draw.standard_normal((3000, 4)), draw.standard_normal(3000)
    np.testing.assert_allclose(ridge(x, x @ [1.0, 0, -2.0, 0] + noise), [1, 0, -2, 0], atol=0.08)
    assert np.abs(ridge(x, noise)).max() < 0.05


@settings(max_examples=20, deadline=None)
@given(shift=st.floats(0.2, 50.0))
def test_stays_in_another_unit_are_foreseen_in_it(shift):
    hidden, dwell_ms, ad, _, rows = stays(users=60)
    one, other = (fit_dwell(hidden, ms, ad, rows) for ms in (dwell_ms, (dwell_ms * shift).astype(np.int64)))
    np.testing.assert_allclose(
        other.log_ms(hidden, ad), one.log_ms(hidden, ad) + np.log(shift), atol=2e-3, rtol=0
    )


def test_the_mean_of_the_stays_is_foreseen_and_not_their_median():
    hidden, dwell_ms, ad, _, rows = stays()
    head = fit_dwell(hidden, dwell_ms, ad, rows)
    expected = np.exp(head.log_ms(hidden, ad) + head.smear)
    assert expected.mean() == pytest.approx(dwell_ms.mean(), rel=0.02)
    assert head.smear > 0.1


def clicked_log(users=60, length=24, seed=0):
    """A log where every second impression is clicked; who saw an even ad first stays five times as long."""
    draw = np.random.default_rng(seed)
    shown = draw.integers(0, 12, (users, length))
    click = np.tile(np.arange(length) % 2 == 0, (users, 1))
    time_ms = (np.arange(length) * 60 * SECOND + draw.integers(0, SECOND, (users, 1))).ravel()
    keys, category = np.arange(100, 112, dtype=np.uint64), np.full(12, 7, np.uint64)
    long = np.where(shown[:, :1] % 2 == 0, 50, 10) * SECOND
    stay = long * np.exp(0.1 * draw.standard_normal((users, length)))
    return LogExamples(
        offsets=np.arange(users + 1) * length, ad_key=keys[shown].ravel(),
        category_key=np.full(users * length, 7, np.uint64), kind=np.full(users * length, 3, np.uint8),
        dwell_ms=np.zeros(users * length, np.int64), time_ms=time_ms, ads=AdTable(keys, category, ("",) * 12),
        impression_user=np.repeat(np.arange(users), length),
        impression_position=np.tile(np.arange(length), users),
        impression_ad_key=keys[shown].ravel(), impression_time_ms=time_ms,
        click=click.ravel(), conversion=np.zeros(users * length, np.bool_),
        click_time_ms=np.where(click.ravel(), time_ms + SECOND, NEVER),
        conversion_time_ms=np.full(users * length, NEVER),
        stay_ms=np.where(click, stay.astype(np.int64), NEVER).ravel(),
    )  # fmt: skip


def test_clicks_too_late_for_a_long_stay_to_have_ended_are_left_out():
    """Before the end of a log only short stays have ended; what is learned from them is too short."""
    log = clicked_log()
    late = log.click_time_ms > log.time_ms.max() - 40 * SECOND
    known = np.where(late & (log.stay_ms > 15 * SECOND), NEVER, log.stay_ms)
    split = from_log(replace(log, stay_ms=known), np.zeros((12, 0), np.float32), Buckets())
    assert split.stays is not None
    expected = known[(known != NEVER) & ~late & log.click]
    assert 0.9 * len(expected) < len(split.stays.dwell_ms) <= len(expected)
    assert split.stays.clicked.labels.click.all()


def test_a_log_without_stays_makes_the_model_that_it_always_made(tmp_path):
    quick = TrainOptions(steps=2, tokens=512, piece=16, labels=64, validations=1)
    log, sizes = clicked_log(), {"d_model": 16, "window": 8, "rotary_length": 32, "head_width": 8}
    without = fit_log(replace(log, stay_ms=None), quick, config=sizes)
    with_stays = fit_log(log, quick, config=sizes)
    assert without.dwell is None
    assert not any(name.startswith("validation_dwell") for name in without.metrics)
    for name, value in without.network.state_dict().items():
        assert torch.equal(value, with_stays.network.state_dict()[name]), name
    assert with_stays.metrics["validation_dwell_clicks"] > 200
    with_stays.save(tmp_path)
    again = Model.load(tmp_path).dwell
    np.testing.assert_array_equal(again.weight, with_stays.dwell.weight)
    assert again.smear == pytest.approx(with_stays.dwell.smear)


def test_a_head_of_another_size_is_refused():
    head = DwellHead(np.zeros(8, np.float32), np.zeros(3, np.float32), 0.0)
    assert stored_dwell(head.tensors(), 8, 3) is not None
    with pytest.raises(ArtifactError, match="dwell_weight"):
        stored_dwell(head.tensors(), 9, 3)
