import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.domain.errors import ImpulseError, LogError
from models.evaluation import ranking
from models.scorer.metrics import (
    auc,
    calibration_error,
    grouped_auc,
    logloss,
    ndcg,
    target_ranks,
    top,
)
from models.scorer.sequences import Interactions


def interactions(*sequences):
    lengths = [len(s) for s in sequences]
    item = np.array([i for s in sequences for i in s], np.int64)
    items = tuple(f"i{n}" for n in range(int(item.max(initial=0)) + 1))
    users = tuple(f"u{n}" for n in range(len(sequences)))
    return Interactions(users, items, np.concatenate(([0], np.cumsum(lengths))), item)


def constant(row):
    return lambda users: np.tile(np.array(row, np.float32), (len(users), 1))


def test_ranks_count_the_items_above_the_target():
    scores = np.array([[0.1, 0.9, 0.5], [0.3, 0.2, 0.1]], np.float32)
    assert target_ranks(scores, np.array([2, 0])).tolist() == [1, 0]


def test_ties_stand_in_the_order_of_item_numbers():
    scores = np.zeros((3, 3), np.float32)
    assert target_ranks(scores, np.array([0, 1, 2])).tolist() == [0, 1, 2]


def test_seen_items_are_dropped_but_never_the_target():
    scores = np.array([[9.0, 8.0, 7.0]], np.float32)
    assert target_ranks(scores, np.array([2]), [np.array([0, 2])]).tolist() == [1]


def test_a_score_that_is_no_number_is_refused():
    with pytest.raises(ImpulseError, match="NaN"):
        target_ranks(np.array([[np.nan, 1.0]]), np.array([1]))


@given(
    scores=st.lists(st.integers(0, 5), min_size=2, max_size=20),
    data=st.data(),
)
def test_the_rank_is_the_place_in_a_stable_sort(scores, data):
    target = data.draw(st.integers(0, len(scores) - 1))
    order = np.argsort(-np.array(scores), kind="stable")
    expected = int(np.flatnonzero(order == target)[0])
    assert target_ranks(np.array([scores], np.float32), np.array([target])).tolist() == [expected]


def test_ndcg_of_one_relevant_item_is_its_discount():
    gains = ndcg(np.array([0, 1, 9, 10]), 10).tolist()
    assert gains == pytest.approx([1, 1 / np.log2(3), 1 / np.log2(11), 0])


def test_the_last_item_is_the_target_and_the_one_before_it_is_in_the_history():
    task = ranking.Task.test(interactions([0, 1, 2, 3], [3, 2]))
    assert task.target.tolist() == [3, 2]
    assert task.seen(0).tolist() == [0, 1, 2]
    assert task.train_counts.tolist() == [1, 1, 0, 0]


def test_users_with_one_item_are_left_out():
    task = ranking.Task.test(interactions([0], [1, 2]))
    assert task.users.tolist() == [1]


def test_a_file_where_no_user_has_two_items_is_said_so():
    with pytest.raises(LogError, match="no user with two items"):
        ranking.Task.test(interactions([0], [1]))


def test_a_perfect_scorer_gets_one_everywhere():
    task = ranking.Task.test(interactions([0, 1, 2], [2, 0, 1]))

    def perfect(users):
        return np.eye(3, dtype=np.float32)[task.target[users]]

    metrics = ranking.evaluate(task, perfect).metrics()
    assert set(metrics.values()) == {1.0}


def test_keeping_seen_items_pushes_the_target_down():
    task = ranking.Task.test(interactions([0, 1, 2]))
    scores = constant([3, 2, 1])
    assert ranking.evaluate(task, scores, "drop").metrics()["hr@1"] == 1
    assert ranking.evaluate(task, scores, "keep").metrics()["hr@1"] == 0


def test_the_standard_error_is_that_of_the_mean_over_users():
    task = ranking.Task.test(interactions([0, 1], [1, 0], [0, 1], [1, 0]))
    result = ranking.evaluate(task, constant([1, 0]), "keep")
    hits = np.array([0, 1, 0, 1])
    assert result.standard_errors()["hr@1"] == pytest.approx(hits.std(ddof=1) / 2)


def test_one_user_has_no_standard_error():
    result = ranking.evaluate(ranking.Task.test(interactions([0, 1])), constant([1, 0]))
    assert result.standard_errors()["mrr"] == 0


def test_coverage_is_the_share_of_items_that_any_user_is_shown():
    sequences = [[i, i + 1] for i in range(30)]
    task = ranking.Task.test(interactions(*sequences))
    scores = constant(np.arange(31)[::-1])
    assert ranking.evaluate(task, scores, "keep").coverage == pytest.approx(10 / 31)


def test_an_item_that_was_dropped_is_not_shown():
    """Each user has seen all items but one: only that one can be shown."""
    task = ranking.Task.test(interactions([0, 1, 2], [0, 1, 2]))
    assert ranking.evaluate(task, constant([3, 2, 1])).coverage == pytest.approx(1 / 3)
    nothing_left = ranking.evaluate(ranking.Task.test(interactions([0, 1, 1])), constant([2, 1]))
    assert (nothing_left.coverage, nothing_left.novelty_bits) == (0, 0)


SCORES = st.one_of(st.integers(0, 4).map(float), st.just(-np.inf))


@given(
    st.integers(1, 12).flatmap(lambda width: st.lists(st.lists(SCORES, min_size=width, max_size=width))),
    st.integers(1, 8),
)
def test_the_top_is_that_of_a_stable_sort_without_dropped_items(rows, k):
    values = np.array(rows, np.float32).reshape(len(rows), len(rows[0]) if rows else 1)
    expected = [
        (row, item)
        for row, scores in enumerate(values)
        for item in np.sort(np.argsort(-scores, kind="stable")[:k])
        if scores[item] > -np.inf
    ]
    assert list(zip(*(x.tolist() for x in top(values, k)), strict=True)) == expected


def test_a_difference_is_paired_over_the_users():
    """Both fail on the same hard users: ten users in which ours stands one place higher are no accident."""
    hard = np.arange(20) % 2 * 500
    ours, theirs = (ranked(hard + shift) for shift in (0, 1))
    told = ranking.difference(ours, theirs)
    own = np.array([1 - 1 / np.log2(3), 0.0] * 10)
    assert told["ndcg@10"] == pytest.approx(own.mean())
    assert told["standard_errors"]["ndcg@10"] == pytest.approx(own.std(ddof=1) / np.sqrt(20))
    assert told["standard_errors"]["ndcg@10"] < ours.standard_errors()["ndcg@10"]
    assert told["significant"] == {"hr@10": False, "ndcg@10": True}


def test_a_difference_under_two_standard_errors_is_not_significant_in_either_direction():
    ours, theirs = ranked(np.array([0, 50, 50, 50])), ranked(np.array([50, 50, 50, 50]))
    told = ranking.difference(ours, theirs)
    assert told["hr@10"] == pytest.approx(told["standard_errors"]["hr@10"])
    assert not any(told["significant"].values())
    assert ranking.difference(theirs, ours)["hr@10"] == -told["hr@10"]
    assert not any(ranking.difference(theirs, ours)["significant"].values())


def test_one_user_proves_nothing():
    assert not any(ranking.difference(ranked(np.array([0])), ranked(np.array([50])))["significant"].values())


def ranked(ranks):
    return ranking.Ranking(ranks, np.ones_like(ranks), np.ones_like(ranks), 1.0, 0.0, "drop")


def test_rare_items_are_more_novel():
    sequences = [[0, 0, 0, 0, 1, 2]] * 20 + [[i] * 3 for i in range(3, 40)]
    task = ranking.Task.test(interactions(*sequences))
    common = ranking.evaluate(task, constant(-np.arange(40)), "keep").novelty_bits
    rare = ranking.evaluate(task, constant(np.arange(40)), "keep").novelty_bits
    assert rare > common


def test_breakdowns_hold_every_user_once():
    task = ranking.Task.test(interactions([0, 1], list(range(8)), list(range(60))))
    values = ranking.evaluate(task, constant(np.arange(60))).to_dict()
    for name in ("by_history_length", "by_target_training_count"):
        assert sum(row["users"] for row in values[name]) == 3
    assert [(row["from"], row["to"]) for row in values["by_history_length"]] == [(0, 5), (6, 10), (51, 100)]


def test_each_range_of_a_breakdown_has_the_standard_error_of_its_own_users():
    ranks = np.array([0, 50, 0, 50, 7])
    lengths = np.array([3, 3, 3, 3, 90])
    result = ranking.Ranking(ranks, lengths, lengths, 1.0, 0.0, "drop")
    short, long = (row["standard_errors"]["hr@10"] for row in result.to_dict()["by_history_length"])
    assert short == pytest.approx(np.std([1, 0, 1, 0], ddof=1) / 2)
    assert long == 0


def test_the_report_has_the_stable_keys_and_is_json():
    task = ranking.Task.test(interactions([0, 1, 2], [2, 1, 0]))
    ours = ranking.evaluate(task, constant([1, 2, 3]))
    ours.extra["cpu_minutes"] = 1.5
    report = ranking.report(task, {"model": ours, "popularity": ours}, "model")
    expected = {"users", "items", "protocol", "seen", "mrr", "standard_errors", "cpu_minutes", "baselines"}
    expected |= {f"{metric}@{k}" for metric in ("hr", "ndcg") for k in (1, 5, 10, 20)}
    assert expected <= set(report)
    assert "seen items dropped" in report["protocol"]
    assert "hr@10" in report["baselines"]["popularity"]
    assert report["baselines"]["popularity"]["difference"]["ndcg@10"] == 0
    assert json.loads(json.dumps(report)) == report


def test_auc_is_the_share_of_pairs_in_order():
    label = np.array([True, False, True, False])
    assert auc(label, np.array([0.9, 0.1, 0.4, 0.6])) == pytest.approx(0.75)
    assert auc(label, np.zeros(4)) == pytest.approx(0.5)
    assert np.isnan(auc(np.array([True, True]), np.zeros(2)))


def test_grouped_auc_compares_within_a_user_only():
    label = np.array([True, False, True, False])
    score = np.array([0.2, 0.1, 0.9, 0.8])
    assert grouped_auc(label, score, np.array([0, 0, 1, 1])) == 1
    assert auc(label, score) == pytest.approx(0.75)


def test_log_loss_and_calibration_of_the_true_rate():
    label = np.arange(1000) % 4 == 0
    rate = np.full(1000, 0.25)
    entropy = -(0.25 * np.log(0.25) + 0.75 * np.log(0.75))
    assert logloss(label, rate) == pytest.approx(entropy)
    assert calibration_error(label, rate) < 0.02
    assert calibration_error(label, rate + 0.5) == pytest.approx(0.5, abs=0.02)
