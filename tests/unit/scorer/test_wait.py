"""What the time from a user's last event to the request tells, in training; serving's parity is tested
beside that of everything else."""

from dataclasses import replace

import numpy as np
import pytest

from models.domain.errors import SettingError
from models.scorer.batches import tails
from models.scorer.datasets import Buckets, from_interactions, from_log
from models.scorer.features import gap_bucket
from models.scorer.fitting import fit_interactions, items_table
from models.scorer.options import TrainOptions
from models.scorer.sequences import NEVER, AdTable, Interactions, LogExamples
from models.scorer.validation import all_scores

ITEMS, SHORT_MS, LONG_MS = 12, 5_000, 86_400_000
SMALL = {"d_model": 32, "window": 4, "rotary_length": 32, "head_width": 8, "dropout": 0.0, "use_gap": False}
OPTIONS = TrainOptions(steps=150, tokens=512, piece=32, negatives=16, validations=1, learning_rate=0.01)


def rings(users=120, length=16):
    """Users on a ring of items: the next one follows at once, the one opposite a day later."""
    rng = np.random.default_rng(0)
    late = rng.random((users, length)) < 0.5
    item = (rng.integers(0, ITEMS, (users, 1)) + np.cumsum(np.where(late, ITEMS // 2, 1), 1)) % ITEMS
    time_ms = 10**12 + np.cumsum(np.where(late, LONG_MS, SHORT_MS), 1)
    names = tuple(f"item{i}" for i in range(ITEMS))
    offsets = np.arange(users + 1) * length
    return Interactions(tuple(map(str, range(users))), names, offsets, item.ravel(), time_ms.ravel(), "rings")


def share_foreseen(config):
    data = rings()
    model = fit_interactions(data, OPTIONS, config=SMALL | config)
    split = from_interactions(data, items_table(data), np.zeros((ITEMS, 0), np.float32), Buckets())
    scores = all_scores(model.network, split.holdout.history, split.holdout.users)
    scores[:, 0] = -np.inf
    return (scores.argmax(1) == split.holdout.target).mean()


def test_a_model_that_is_told_when_the_target_came_tells_what_comes_at_once_from_what_comes_later():
    assert share_foreseen({"use_wait": True}) > 0.9
    assert share_foreseen({}) < 0.7  # of the two that are likely it has to guess one


def test_interactions_without_times_are_refused_by_a_model_that_needs_them():
    with pytest.raises(SettingError, match=r"use_wait.*a file without times.*RecBole"):
        fit_interactions(replace(rings(), time_ms=None), OPTIONS, config={"use_wait": True})


def test_what_was_held_out_leaves_behind_when_it_came():
    data = Interactions(
        ("a", "b", "c"), ("x",), np.array([0, 3, 4, 4]), np.zeros(4, np.int64), np.array([10, 20, 50, 7])
    )
    assert data.next_ms is None
    assert data.without_last(1).next_ms.tolist() == [50, 7, NEVER]
    assert data.without_last(2).next_ms.tolist() == [20, 7, NEVER]
    assert replace(data, time_ms=None).without_last(1).next_ms is None


def test_the_wait_of_an_event_is_the_gap_before_the_next_one_or_before_what_was_held_out():
    data = rings(users=3, length=6)
    split = from_interactions(data, items_table(data), np.zeros((ITEMS, 0), np.float32), Buckets())
    train, times = split.train, data.time_ms.reshape(3, 6)
    gaps = [[gap_bucket(row[n + 1], row[n], 24) for n in range(4)] for row in times]
    assert train.wait.reshape(3, 4).tolist() == gaps
    assert tails(train, np.arange(3), 2).wait.tolist() == [row[-1] for row in gaps]


def test_the_wait_of_an_impression_ends_with_the_request_and_not_when_it_was_seen():
    asked, seen = 1_000_000, 5_000_000
    examples = LogExamples(
        offsets=np.array([0, 2, 3]),
        ad_key=np.array([5, 6, 5], np.uint64),
        category_key=np.zeros(3, np.uint64),
        kind=np.full(3, 2, np.uint8),
        dwell_ms=np.zeros(3, np.int64),
        time_ms=np.array([400_000, 990_000, 2 * seen]),
        ads=AdTable(np.array([5, 6], np.uint64), np.zeros(2, np.uint64)),
        impression_user=np.zeros(3, np.int64),
        impression_position=np.array([0, 1, 2]),
        impression_ad_key=np.array([5, 6, 5], np.uint64),
        impression_time_ms=np.full(3, seen),
        click=np.zeros(3, np.bool_),
        conversion=np.zeros(3, np.bool_),
        decision_time_ms=np.full(3, asked),
    )
    content = np.zeros((2, 0), np.float32)
    split = from_log(examples, content, Buckets(), holdout_share=0.0)
    told = split.train.labels.wait
    assert told.tolist() == [0, gap_bucket(asked, 400_000, 24), gap_bucket(asked, 990_000, 24)]
    untold = from_log(replace(examples, decision_time_ms=None), content, Buckets(), holdout_share=0.0)
    assert untold.train.labels.wait[1] == gap_bucket(seen, 400_000, 24)
