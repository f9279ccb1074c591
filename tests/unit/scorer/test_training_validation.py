"""What a model is said to be worth on held-out impressions."""

import numpy as np
import torch

from models.scorer.config import ModelConfig
from models.scorer.datasets import Holdout
from models.scorer.sequences import Dataset, Labels
from models.scorer.transformer import Transformer
from models.scorer.validation import drawn_rows, label_metrics

CONFIG = ModelConfig(
    9, d_model=16, window=3, rotary_length=16, head_width=8, categories=3, slots=5, dropout=0.0
)


def judged(click, conversion, maturity=1.0, *, pctr=0.5, pcvr=0.5, slot=None, most=20_000):
    """Metrics of a network that says the same of every impression."""
    count = len(click)
    n, none = np.zeros(count, np.int64), np.zeros(0, np.int64)
    labels = Labels(
        n, n, n + 1, n, n - 1, click, conversion, n if slot is None else slot,
        np.full(count, maturity, np.float32), n, n,
    )  # fmt: skip
    model = Transformer(CONFIG).eval()
    with torch.no_grad():
        model.head_out.weight.zero_()
        model.shortcut_offset.copy_(torch.tensor([pctr, pcvr]).logit())
    one, content = n[:1], np.zeros((10, 0), np.float32)
    events = (one, one, one, one, one, one, one.astype(bool))
    history = Dataset(np.array([0, 1]), *events, np.zeros(10, np.int64), content, labels)
    return label_metrics(model, Holdout(history, none, none, False, history), most)


def test_a_conversion_that_had_no_time_to_come_is_not_held_against_the_model():
    """A tenth of the conversions has come: the right rate has a lower loss than a tenth of it."""
    draw = np.random.default_rng(0)
    click = draw.random(20_000) < 0.5
    conversion = click & (draw.random(20_000) < 0.4 * 0.1)
    right, low = (judged(click, conversion, 0.1, pcvr=pcvr) for pcvr in (0.4, 0.04))
    assert right["conversion_logloss"] < low["conversion_logloss"] - 0.01


def test_every_slot_is_judged_where_impressions_are_too_many():
    """Slates of five, and one impression in five is judged: one in each slate would be one slot's."""
    slot = np.tile(np.arange(5), 200)
    told = judged(slot == 0, np.zeros(1000, np.bool_), slot=slot, most=200)
    assert told["impressions"] == 200
    assert 0.1 < told["ctr"] < 0.3


def test_what_is_not_defined_is_left_out_and_no_number_is_nan():
    told = judged(np.zeros(50, np.bool_), np.zeros(50, np.bool_))
    assert not any(np.isnan(value) for value in told.values())
    assert "click_logloss" in told
    assert "click_auc" not in told


def test_rows_are_drawn_once_each_and_all_where_they_are_few():
    rows = drawn_rows(1000, 300)
    assert len(np.unique(rows)) == 300
    assert (np.diff(rows) > 0).all()
    assert drawn_rows(10, 20).tolist() == list(range(10))
