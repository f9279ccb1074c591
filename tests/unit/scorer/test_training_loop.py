import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from models.domain.errors import ArtifactError, LogError, SettingError
from models.domain.events import KINDS
from models.scorer.checkpoint import FILE
from models.scorer.config import ModelConfig
from models.scorer.datasets import Buckets, from_interactions, from_log
from models.scorer.fitting import default_dropout, fit_interactions, fit_log, items_table
from models.scorer.options import TrainOptions
from models.scorer.sequences import AdTable, Interactions, LogExamples
from models.scorer.training import build_model, schedule, train
from models.scorer.transformer import Transformer
from models.scorer.validation import all_scores, holdout_ranks, validation_ndcg

SMALL = {"d_model": 16, "window": 8, "rotary_length": 32, "head_width": 8, "dropout": 0.0}
QUICK = {"tokens": 256, "piece": 32, "negatives": 16, "validations": 2}


def cycles(users=60, items=12, length=20):
    """Users who walk around a ring of items: what comes next is certain."""
    start = np.random.default_rng(0).integers(0, items, users)
    item = (start[:, None] + np.arange(length)) % items
    offsets = np.arange(users + 1) * length
    names = tuple(f"item{i}" for i in range(items))
    return Interactions(tuple(map(str, range(users))), names, offsets, item.ravel(), None, "ring")


def ring_split():
    interactions = cycles()
    ads = items_table(interactions)
    return from_interactions(interactions, ads, np.zeros((12, 0), np.float32), Buckets())


def ring_config(**changes):
    plain = {"use_category": False, "use_kind": False, "use_dwell": False, "use_gap": False}
    return ModelConfig(12, **(SMALL | plain | changes))


def test_it_learns_what_follows_what():
    split = ring_split()
    trained = train(split, ring_config(), TrainOptions(steps=60, **QUICK))
    untrained = build_model(ring_config(), split.train, 0).eval()
    assert share_foreseen(untrained, split.holdout) < 0.5
    assert share_foreseen(trained.model, split.holdout) > 0.95


def share_foreseen(model, holdout):
    scores = all_scores(model, holdout.history, holdout.users)
    scores[:, 0] = -np.inf
    return (scores.argmax(1) == holdout.target).mean()


def test_the_same_seed_and_steps_give_the_same_bits():
    first, second = (train(ring_split(), ring_config(), TrainOptions(steps=8, **QUICK)) for _ in range(2))
    for name, value in first.model.state_dict().items():
        assert torch.equal(value, second.model.state_dict()[name]), name


def test_another_seed_gives_another_model():
    first, second = (
        train(ring_split(), ring_config(), TrainOptions(steps=3, seed=s, **QUICK)).model.ad.weight
        for s in (0, 1)
    )
    assert not torch.equal(first, second)


class Stop(Exception):
    pass


def stop_after(steps):
    def listener(report):
        if report.step == steps:
            raise Stop

    return listener


def test_a_run_that_was_killed_goes_on_to_the_same_bits(tmp_path):
    options = TrainOptions(steps=12, checkpoint_every_s=0, **QUICK)
    config = ring_config(dropout=0.2)
    with pytest.raises(Stop):
        train(ring_split(), config, options, listener=stop_after(8), checkpoints=tmp_path)
    resumed_at = []
    resumed = train(
        ring_split(), config, options, checkpoints=tmp_path, listener=lambda r: resumed_at.append(r.step)
    )
    whole = train(ring_split(), config, options)
    assert resumed_at[0] == 8  # step 8 was killed before its checkpoint
    assert resumed.curve == whole.curve
    assert resumed.curve[0][0] < 8
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[name]), name


def ticking():
    """Return a process's clock: a second per look, from 0."""
    ticks = itertools.count()
    return lambda: float(next(ticks))


def test_the_cpu_minutes_of_a_resumed_run_are_those_of_all_its_processes(tmp_path):
    options = TrainOptions(steps=12, checkpoint_every_s=0, **QUICK)
    common = {"config": SMALL, "checkpoints": tmp_path, "spent_s": 30.0}
    with pytest.raises(Stop):
        fit_interactions(cycles(), options, listener=stop_after(8), clock=ticking(), **common)
    before_s = float(load_file(tmp_path / FILE)["progress.cpu_s"])
    second = ticking()
    model = fit_interactions(cycles(), options, clock=second, **common)
    assert before_s > 30
    # each time that one clock reading is handed on to the next function a tick is lost
    assert model.training["cpu_minutes"] * 60 == pytest.approx(before_s + 30 + second(), abs=5)


def test_the_preparation_of_a_resumed_run_counts_toward_its_budget(tmp_path):
    options = TrainOptions(minutes=2, checkpoint_every_s=0, **QUICK)
    common = {"checkpoints": tmp_path, "spent_s": 30.0}
    with pytest.raises(Stop):
        train(ring_split(), ring_config(), options, listener=stop_after(8), clock=ticking(), **common)
    before_s = float(load_file(tmp_path / FILE)["progress.cpu_s"])
    shares = []
    train(
        ring_split(), ring_config(), options, clock=ticking(), listener=lambda r: shares.append(r.share),
        **common,
    )  # fmt: skip
    assert shares[0] * 120 >= before_s + 30


def test_a_checkpoint_of_other_options_is_refused(tmp_path):
    options = TrainOptions(steps=3, checkpoint_every_s=0, **QUICK)
    train(ring_split(), ring_config(), options, checkpoints=tmp_path)
    other = TrainOptions(steps=4, checkpoint_every_s=0, **QUICK)
    with pytest.raises(ArtifactError, match="same data and options"):
        train(ring_split(), ring_config(), other, checkpoints=tmp_path)


def test_a_checkpoint_of_other_categories_is_refused(tmp_path):
    """The same events, but the items file was changed: the weights mean something else."""
    options, split = TrainOptions(steps=3, checkpoint_every_s=0, **QUICK), ring_split()
    train(split, ring_config(), options, checkpoints=tmp_path)
    other = replace(split, train=replace(split.train, category_of=split.train.category_of + 1))
    with pytest.raises(ArtifactError, match="checkpoint"):
        train(other, ring_config(), options, checkpoints=tmp_path)


def test_a_checkpoint_of_another_network_is_refused(tmp_path):
    options = TrainOptions(steps=3, checkpoint_every_s=0, **QUICK)
    train(ring_split(), ring_config(), options, checkpoints=tmp_path)

    class Renamed(Transformer):
        """The same tensors, put to another use."""

    with pytest.raises(ArtifactError, match="checkpoint"):
        train(ring_split(), ring_config(), options, checkpoints=tmp_path, network=Renamed)


def test_a_damaged_checkpoint_is_refused(tmp_path):
    options = TrainOptions(steps=3, checkpoint_every_s=0, **QUICK)
    train(ring_split(), ring_config(), options, checkpoints=tmp_path)
    (tmp_path / "checkpoint.safetensors").write_bytes(b"x" * 100)
    with pytest.raises(ArtifactError, match="delete it"):
        train(ring_split(), ring_config(), options, checkpoints=tmp_path)


def test_the_budget_is_cpu_time_and_what_was_spent_before_counts():
    def steps_in(spent_s):
        ticks = itertools.count()
        trained = train(
            ring_split(), ring_config(), TrainOptions(minutes=2, validations=1, tokens=256, piece=32),
            clock=lambda: float(next(ticks)), spent_s=spent_s,
        )  # fmt: skip
        return trained.steps

    assert 0 < steps_in(60.0) < steps_in(0.0)


def test_training_stops_when_validation_stops_gaining_and_keeps_the_best_weights():
    options = TrainOptions(steps=400, validations=40, patience=2, tokens=256, piece=32, learning_rate=0.02)
    trained = train(ring_split(), ring_config(), options)
    assert trained.steps < 400
    best = max(gain for _, _, gain in trained.curve)
    assert validation_ndcg(trained.model, ring_split().holdout) == pytest.approx(best)


def test_where_no_target_is_known_training_goes_to_its_end_and_keeps_the_last_weights():
    """Each user's last two items are new releases that nobody had before."""
    old = cycles()
    item = old.item.reshape(60, 20).copy()
    item[:, -2:] = 12
    names = (*old.item_ids, "new")
    data = Interactions(old.user_ids, names, old.offsets, item.ravel(), None, "releases")
    options = TrainOptions(steps=20, **(QUICK | {"validations": 10, "patience": 2}))
    model = fit_interactions(data, options, config=SMALL)
    assert (model.training["steps"], model.training["curve"]) == (20, [])
    last = fit_interactions(data, replace(options, validations=1), config=SMALL)
    assert torch.equal(model.network.ad.weight, last.network.ad.weight)


def test_a_file_with_times_is_read_with_the_gaps_that_the_config_asks_for():
    times = np.cumsum(np.full(60 * 20, 90_000))
    data = replace(cycles(), time_ms=times)
    options = TrainOptions(steps=3, **QUICK)
    assert len(fit_interactions(data, options, config=SMALL | {"gap_buckets": 3}).network.gap.weight) == 3


def test_the_learning_rate_rises_then_falls_to_zero_at_the_end():
    rates = [schedule(share, 0.1) for share in (0, 0.05, 0.1, 0.55, 1.0, 1.5)]
    assert rates == pytest.approx([0, 0.5, 1, 0.5, 0, 0])


def test_neither_validation_nor_test_items_are_trained_on():
    interactions = cycles(users=30, length=6)
    ads = items_table(interactions)
    split = from_interactions(interactions, ads, np.zeros((12, 0), np.float32), Buckets())
    assert len(split.train.ad) == 30 * 4
    keys = dict(zip(ads.key.tolist(), range(12), strict=True))
    validation = [keys[int(split.vocabulary[row - 1])] for row in split.holdout.target]
    assert validation == interactions.without_last(1).last().tolist()


def test_an_item_that_nothing_is_learned_from_is_unknown_and_not_validated_on():
    interactions = cycles(users=3, length=6)  # items 2 and 3 only end users' sequences
    ads = items_table(interactions)
    split = from_interactions(interactions, ads, np.zeros((12, 0), np.float32), Buckets())
    trained = np.unique(interactions.without_last(2).item)
    assert split.vocabulary.tolist() == sorted(ads.key[trained].tolist())
    assert split.train.counts[1:].all()
    last = interactions.without_last(1).last()
    assert split.holdout.users.tolist() == np.flatnonzero(np.isin(last, trained)).tolist()


def test_seen_items_are_not_candidates_in_validation():
    split = ring_split()
    scores = np.zeros((len(split.holdout.users), 13), np.float32)
    ranks = holdout_ranks(scores, split.holdout)
    assert (ranks == 0).all()  # all twelve items were seen by every user, the target stands alone


@pytest.mark.parametrize("lengths", [[2], [1, 1, 2], [3]])
def test_too_little_to_learn_from_is_said_so(lengths):
    offsets = np.concatenate(([0], np.cumsum(lengths)))
    item = np.arange(offsets[-1])
    users = tuple(map(str, range(len(lengths))))
    tiny = Interactions(users, tuple(map(str, item)), offsets, item, None, "tiny")
    with pytest.raises(LogError, match="two events"):
        fit_interactions(tiny, TrainOptions(steps=1))


def test_one_user_and_a_sequence_of_ten_thousand_can_be_learned_from():
    item = np.random.default_rng(0).integers(0, 30, 10_000)
    one = Interactions(("u",), tuple(map(str, range(30))), np.array([0, 10_000]), item, None, "long")
    model = fit_interactions(one, TrainOptions(steps=2, **QUICK), config=SMALL)
    assert np.isfinite(model.metrics["validation_ndcg@10"])


def test_cuda_without_a_gpu_is_refused_with_the_fix():
    if torch.cuda.is_available():
        pytest.skip("a GPU is here")
    with pytest.raises(SettingError, match="--device cpu"):
        train(ring_split(), ring_config(), TrainOptions(steps=1, device="cuda"))


@pytest.mark.parametrize(
    "wrong",
    [{"minutes": 0}, {"steps": 0}, {"device": "tpu"}, {"tokens": 5}, {"negatives": 0}, {"id_dropout": 1}],
)
def test_options_that_cannot_work_are_refused(wrong):
    with pytest.raises(SettingError, match="training"):
        TrainOptions(**wrong)


def log(users=150, length=12, seed=0):
    """Users with a favourite category; an ad of it is clicked four times as often."""
    draw = np.random.default_rng(seed)
    ads = 20
    ad_key = np.arange(100, 100 + ads, dtype=np.uint64)
    category = np.array([1 + i % 4 for i in range(ads)], np.uint64)
    favourite = draw.integers(1, 5, users)
    shown = draw.integers(0, ads, (users, length))
    click = draw.random((users, length)) < np.where(category[shown] == favourite[:, None], 0.8, 0.2)
    conversion = click & (draw.random((users, length)) < 0.5)
    kind = np.where(click, KINDS.index("click"), KINDS.index("impression")).astype(np.uint8)
    time_ms = np.arange(length) * 60_000 + draw.integers(0, 1000, (users, 1))
    return LogExamples(
        offsets=np.arange(users + 1) * length,
        ad_key=ad_key[shown].ravel(),
        category_key=category[shown].ravel(),
        kind=kind.ravel(),
        dwell_ms=np.zeros(users * length, np.int64),
        time_ms=time_ms.ravel(),
        ads=AdTable(ad_key, category, tuple(f"title {c} number {i}" for i, c in enumerate(category))),
        impression_user=np.repeat(np.arange(users), length),
        impression_position=np.tile(np.arange(length), users),
        impression_ad_key=ad_key[shown].ravel(),
        impression_time_ms=time_ms.ravel(),
        click=click.ravel(),
        conversion=conversion.ravel(),
    )


def test_a_log_teaches_who_clicks_what():
    options = TrainOptions(steps=160, tokens=1024, negatives=32, learning_rate=0.02, validations=2)
    model = fit_log(log(users=800), options, config=SMALL | {"d_model": 32})
    assert model.metrics["validation_click_auc"] > 0.6
    assert model.metrics["validation_click_logloss"] < 0.655  # 0.653 is what the mean rate gives
    assert 0 <= model.metrics["validation_click_ece"] < 0.15
    assert model.metrics["validation_conversion_auc"] > 0.53


def test_a_log_is_split_by_time():
    examples = log()
    split = from_log(examples, np.zeros((20, 0), np.float32), Buckets(), holdout_share=0.25)
    assert len(split.train.ad) == (examples.time_ms <= np.sort(examples.time_ms)[-1] * 0.75).sum()
    later = split.holdout.labels_history
    assert len(split.train.labels) + len(later.labels) == len(examples.click)
    assert (split.train.labels.position <= np.diff(split.train.offsets)[split.train.labels.user]).all()


def test_a_click_is_foreseen_from_its_decision_and_not_from_its_own_impression():
    examples = log(users=30)
    assert not examples.targets().any()  # every click of this log follows an impression
    split = from_log(examples, np.zeros((20, 0), np.float32), Buckets())
    clicks = split.train.labels.ad[split.train.labels.click]
    assert split.train.counts.tolist() == np.bincount(clicks, minlength=21).tolist()
    held = split.holdout.labels_history.labels
    assert split.holdout.target.tolist() == held.ad[held.click].tolist()
    position = held.position[held.click]
    assert np.diff(split.holdout.history.offsets).tolist() == position.tolist()


def test_a_click_on_an_ad_that_was_not_shown_is_foreseen_from_the_event_before():
    values = {name: getattr(log(users=3), name) for name in LogExamples.__dataclass_fields__}
    for name in (n for n in values if n.startswith("impression_") or n in ("click", "conversion")):
        values[name] = values[name][:0]
    examples = LogExamples(**values)
    assert examples.targets().tolist() == (examples.kind == KINDS.index("click")).tolist()


def test_late_events_do_not_move_the_split_of_a_user():
    examples = log(users=2, length=4)
    times = np.array([0, 100, 5, 10, 0, 1, 2, 100])  # user 0: two late events after the newest
    shifted = {name: getattr(examples, name) for name in LogExamples.__dataclass_fields__}
    shifted |= {"time_ms": times, "impression_time_ms": times}
    split = from_log(LogExamples(**shifted), np.zeros((20, 0), np.float32), Buckets(), holdout_share=0.5)
    assert np.diff(split.train.offsets).tolist() == [1, 3]


def test_an_empty_log_is_said_so():
    examples = log(users=2)
    empty = {name: getattr(examples, name) for name in LogExamples.__dataclass_fields__}
    for name in ("ad_key", "category_key", "kind", "dwell_ms", "time_ms"):
        empty[name] = empty[name][:0]
    with pytest.raises(LogError, match="no user has any event"):
        LogExamples(**(empty | {"offsets": np.zeros(3, np.int64)}))


def test_a_conversion_without_a_click_is_refused():
    examples = log(users=2)
    values = {name: getattr(examples, name) for name in LogExamples.__dataclass_fields__}
    with pytest.raises(LogError, match="without a click"):
        LogExamples(**(values | {"click": ~examples.click, "conversion": examples.click}))


def test_sparse_data_gets_more_dropout_within_bounds():
    def dropout(events, ads):
        split = ring_split()
        train_part = split.train.__class__(**(vars(split.train) | {"ad": np.zeros(events, np.int64)}))
        vocabulary = np.arange(ads, dtype=np.uint64)
        return default_dropout(replace(split, train=train_part, vocabulary=vocabulary))

    assert dropout(300_000, 1000) == pytest.approx(0.105, abs=0.01)
    assert dropout(10_000, 1000) == pytest.approx(0.4)
    assert dropout(10, 1000) == 0.5
    assert dropout(10_000_000, 100) == 0.1
