"""gBCE against its formula, and what it is for: scores that are probabilities though negatives are few."""

import numpy as np
import pytest
import torch

from models.domain.errors import SettingError
from models.scorer.config import ModelConfig
from models.scorer.datasets import Buckets, from_interactions
from models.scorer.fitting import items_table
from models.scorer.losses import gbce
from models.scorer.options import TrainOptions
from models.scorer.sequences import Interactions
from models.scorer.training import train
from models.scorer.validation import validation_ndcg


def test_gbce_is_its_formula():
    torch.manual_seed(0)
    positive, negative = torch.randn(3), torch.randn(3, 4)
    hits = torch.zeros(3, 4, dtype=torch.bool)
    hits[1, 2] = True
    a, t = 4 / 100, 0.75
    beta = a * (t * (1 - 1 / a) + 1 / a)
    p, q = positive.sigmoid(), negative.sigmoid()
    terms = torch.where(hits, 0.0, -(1 - q).log()).sum(1)
    expected = (-(p**beta).log() + terms) / 5
    torch.testing.assert_close(gbce(positive, negative, hits, 101, t), expected)


def test_without_calibration_gbce_is_binary_cross_entropy():
    positive, negative = torch.randn(5), torch.randn(5, 7)
    hits = torch.zeros(5, 7, dtype=torch.bool)
    logits = torch.cat((positive[:, None], negative), 1)
    label = torch.zeros(5, 8)
    label[:, 0] = 1
    plain = torch.nn.functional.binary_cross_entropy_with_logits(logits, label, reduction="none").mean(1)
    torch.testing.assert_close(gbce(positive, negative, hits, 50, 0.0), plain)


def test_full_calibration_gives_probabilities_though_negatives_are_few():
    """One of 50 items is right; an item is the true one once in 50 draws, else a negative 9 times in 49."""
    times = 49 * 50  # draws
    right, wrong = times // 50, times * 49 // 50
    for t, learned in ((1.0, 1 / 50), (0.0, 1 / 10)):
        logit = torch.zeros((), requires_grad=True)
        optimizer = torch.optim.SGD([logit], lr=20.0)
        for _ in range(3000):
            optimizer.zero_grad()
            none, blank = torch.zeros(1, 9, dtype=torch.bool), torch.full((1, 9), -100.0)
            as_true = gbce(logit[None], blank, none, 50, t)
            as_drawn = gbce(torch.full((1,), 100.0), logit.expand(1, 9), none, 50, t) / 9
            ((right * as_true + wrong * 9 / 49 * as_drawn) / times).sum().backward()
            optimizer.step()
        assert float(logit.detach().sigmoid()) == pytest.approx(learned, abs=0.002)


def test_it_learns_with_gbce_what_follows_what():
    users, items, length = 60, 12, 20
    start = np.random.default_rng(0).integers(0, items, users)
    item = (start[:, None] + np.arange(length)) % items
    names = tuple(f"item{i}" for i in range(items))
    offsets = np.arange(users + 1) * length
    ring = Interactions(tuple(map(str, range(users))), names, offsets, item.ravel(), None, "ring")
    split = from_interactions(ring, items_table(ring), np.zeros((12, 0), np.float32), Buckets())
    config = ModelConfig(
        12, d_model=16, window=8, rotary_length=32, head_width=8, dropout=0.0,
        use_category=False, use_kind=False, use_dwell=False, use_gap=False,
    )  # fmt: skip
    options = TrainOptions(steps=80, loss="gbce", tokens=256, piece=32, negatives=6, validations=2)
    assert validation_ndcg(train(split, config, options).model, split.holdout) > 0.95


@pytest.mark.parametrize("wrong", [{"loss": "hinge"}, {"gbce_t": 1.5}])
def test_losses_that_do_not_exist_are_refused(wrong):
    with pytest.raises(SettingError, match="training"):
        TrainOptions(**wrong)
