"""The ad table by rows: the same first step, nothing done to rows not met, resumable, and it learns."""

import numpy as np
import pytest
import torch

from models.scorer.config import ModelConfig
from models.scorer.datasets import Buckets, from_interactions
from models.scorer.fitting import items_table
from models.scorer.optimizer import Optimizer, clip_by_norm
from models.scorer.options import Pace, TrainOptions
from models.scorer.sequences import Interactions
from models.scorer.training import train
from models.scorer.transformer import Ads, Transformer
from models.scorer.validation import validation_ndcg

PACE = Pace(learning_rate=0.1, weight_decay=0.5, ad_rate=0.5, passes=1.0, piece=32)
CONFIG = ModelConfig(
    12, d_model=16, window=8, rotary_length=32, head_width=8, dropout=0.0,
    use_category=False, use_kind=False, use_dwell=False, use_gap=False,
)  # fmt: skip
QUICK = {"tokens": 256, "piece": 32, "negatives": 16, "validations": 2}


def stepped(sparse_from, steps=1, rows=(3, 5, 5)):
    torch.manual_seed(0)
    model = Transformer(CONFIG)
    before = model.ad.weight.detach().clone()
    optimizer = Optimizer(model, PACE, 1.0, sparse_from)
    for _ in range(steps):
        optimizer.zero_grad()
        ads = Ads(torch.tensor(rows), torch.zeros(3, dtype=torch.int64), torch.zeros(3, 0))
        (model.ad_vectors(ads) @ model.start + model.ad_vectors(ads).square().sum(1)).sum().backward()
        optimizer.step(1.0)
    return model, before


def test_a_first_step_moves_the_rows_that_were_met_as_the_dense_update_does():
    dense, sparse = stepped(10**9)[0], stepped(1)[0]
    for row in (3, 5):
        torch.testing.assert_close(sparse.ad.weight[row], dense.ad.weight[row])
    torch.testing.assert_close(sparse.start, dense.start)


def test_rows_that_were_not_met_stay_as_they_are():
    model, before = stepped(1, steps=3)
    untouched = [row for row in range(13) if row not in (3, 5)]
    assert torch.equal(model.ad.weight[untouched], before[untouched])
    assert model.ad.weight.grad.is_sparse


def test_gradients_are_clipped_by_their_joint_norm():
    grads = [torch.full((3,), 2.0), torch.full((2, 2), 1.0)]
    clip_by_norm(grads, 1.0)
    assert sum(float((g**2).sum()) for g in grads) == pytest.approx(1.0, rel=1e-4)
    small = [torch.full((3,), 0.1)]
    clip_by_norm(small, 1.0)
    assert small[0].tolist() == pytest.approx([0.1] * 3)


def ring_split(users=60, items=12, length=20):
    start = np.random.default_rng(0).integers(0, items, users)
    item = (start[:, None] + np.arange(length)) % items
    names = tuple(f"item{i}" for i in range(items))
    offsets = np.arange(users + 1) * length
    ring = Interactions(tuple(map(str, range(users))), names, offsets, item.ravel(), None, "ring")
    return from_interactions(ring, items_table(ring), np.zeros((12, 0), np.float32), Buckets())


def test_it_learns_by_rows_what_follows_what():
    trained = train(ring_split(), CONFIG, TrainOptions(steps=60, sparse_from=1, **QUICK))
    assert trained.model.ad.sparse
    assert validation_ndcg(trained.model, ring_split().holdout) > 0.95


class Stop(Exception):
    pass


def test_a_run_by_rows_that_was_killed_goes_on_to_the_same_bits(tmp_path):
    options = TrainOptions(steps=10, sparse_from=1, checkpoint_every_s=0, **QUICK)

    def listener(report):
        if report.step == 6:
            raise Stop

    with pytest.raises(Stop):
        train(ring_split(), CONFIG, options, listener=listener, checkpoints=tmp_path)
    resumed = train(ring_split(), CONFIG, options, checkpoints=tmp_path)
    whole = train(ring_split(), CONFIG, options)
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[name]), name
