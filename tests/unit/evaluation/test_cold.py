"""Items hidden from training and then asked for: the draws, the ranks, the errors."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.domain.errors import LogError, SettingError
from models.evaluation.cold import AMONG, Standing, cold_task, figures, gains, standings
from models.evaluation.tables import cold_table
from models.scorer.sequences import Interactions
from models.scorer.similarity import similarity_scores


def random_interactions(seed=0, users=40, items=25):
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, 8, users)
    offsets = np.concatenate(([0], np.cumsum(lengths)))
    item = rng.integers(0, items, offsets[-1])
    names = tuple(f"i{i}" for i in range(items))
    return Interactions(tuple(map(str, range(users))), names, offsets, item, np.arange(len(item)), "x")


def items_of(interactions, user):
    return interactions.item[interactions.offsets[user] : interactions.offsets[user + 1]]


@given(st.integers(0, 1000), st.sampled_from([0.1, 0.2, 0.25, 0.5]))
def test_no_event_of_a_hidden_item_is_left_but_the_targets(seed, share):
    data = random_interactions(seed, users=200)
    task = cold_task(data, share, 0, seed)
    assert not task.cold[task.training.item].any()
    assert len(task.training.time_ms) == len(task.training.item)
    for user in task.users:
        *history, target = items_of(task.asked, user)
        assert target == items_of(data, user)[-1]
        assert task.cold[target]
        assert history == [i for i in items_of(data, user) if not task.cold[i]]
        assert history


def test_the_draws_of_a_partition_hide_each_item_once_and_judge_each_user_once():
    data = random_interactions()
    tasks = [cold_task(data, 0.2, draw, 7) for draw in range(5)]
    assert (sum(task.cold.astype(int) for task in tasks) == 1).all()
    judged = np.concatenate([task.users for task in tasks])
    assert len(np.unique(judged)) == len(judged)


def test_another_partition_and_another_seed_hide_other_items():
    data = random_interactions()
    first, again = cold_task(data, 0.2, 0, 0), cold_task(data, 0.2, 0, 0)
    assert (first.cold == again.cold).all()
    assert (first.cold != cold_task(data, 0.2, 5, 0).cold).any()
    assert (first.cold != cold_task(data, 0.2, 0, 1).cold).any()


@pytest.mark.parametrize("share", [0, 0.6, -1, float("nan")])
def test_a_share_that_cannot_be_is_refused(share):
    with pytest.raises(SettingError, match=r"0\.01 to 0\.5"):
        cold_task(random_interactions(), share, 0, 0)


def test_a_file_in_which_no_user_is_left_to_ask_is_refused():
    lonely = Interactions(("u",), ("a",), np.array([0, 1]), np.zeros(1, np.int64), None, "x")
    with pytest.raises(LogError, match="no user who ends with a hidden item"):
        cold_task(lonely, 0.5, 0, 0)


def test_targets_are_ranked_among_all_unseen_and_among_hidden_items():
    task = cold_task(random_interactions(), 0.2, 0, 0)
    target = task.asked.last()

    def knowing(users):
        """The target best of the hidden, below every other item."""
        scores = np.where(task.cold, -1.0, 1.0)[None].repeat(len(users), 0).astype(np.float32)
        scores[np.arange(len(users)), target[users]] = 0
        return scores

    found = standings(task, knowing)
    assert (found["cold"].rank == 0).all()
    seen = [len(np.unique(items_of(task.asked, user)[:-1])) for user in task.users]
    assert found["all"].rank.tolist() == [(~task.cold).sum() - n for n in seen]
    assert found["cold"].per_user()["auc"].mean() == 1


def test_lifting_hidden_items_costs_those_whose_item_is_not_hidden():
    task = cold_task(random_interactions(users=200), 0.2, 0, 0)
    target = task.asked.last()
    assert not task.cold[target[task.warm_users]].any()
    assert not np.intersect1d(task.users, task.warm_users).size

    def knowing(lift):
        def scores(users):
            values = lift * task.cold[None].repeat(len(users), 0).astype(np.float32)
            values[np.arange(len(users)), target[users]] += 0.5
            return values

        return standings(task, scores)

    plain, lifted = knowing(0.0), knowing(1.0)
    assert (plain["warm"].rank == 0).all()
    assert (lifted["warm"].rank == task.cold.sum()).all()
    assert (plain["cold"].rank == lifted["cold"].rank).all()


def test_no_user_with_a_known_item_is_no_error():
    """Every item but one is hidden over time; here all users end with a hidden one."""
    data = random_interactions(users=60)
    task = cold_task(data, 0.5, 0, 0)
    alone = replace(task, warm_users=task.warm_users[:0])
    found = standings(alone, lambda users: np.zeros((len(users), 25), np.float32))
    assert len(found["warm"].user) == 0
    assert np.isnan(figures([found["warm"]])["auc"])


def test_scores_that_say_nothing_give_an_auc_of_one_half():
    aucs = []
    for draw in range(60):
        task = cold_task(random_interactions(draw, users=80), 0.2, draw, 0)
        found = standings(task, lambda users: np.zeros((len(users), 25), np.float32))
        aucs.append(found["cold"].per_user()["auc"].mean())
    assert np.mean(aucs) == pytest.approx(0.5, abs=0.05)


def test_a_user_judged_in_two_partitions_counts_once():
    rivals = np.full(2, 9)
    one = Standing(np.array([0, 1]), np.array([0, 9]), rivals)
    two = Standing(np.array([1, 4]), np.array([0, 9]), rivals)
    told = figures([one, two])
    assert told["hr@10"] == 1
    assert told["auc"] == pytest.approx((1 + 0.5 + 0) / 3)
    assert told["standard_errors"]["auc"] == pytest.approx(np.std([1, 0.5, 0], ddof=1) / np.sqrt(3))
    assert [draw["auc"] for draw in told["draws"]] == [0.5, 0.5]


def test_a_gain_is_taken_user_by_user():
    users, rivals = np.arange(3), np.full(3, 10)
    low, high = (Standing(users, np.array(rank), rivals) for rank in ([1, 5, 9], [0, 4, 8]))
    gain, error = gains([high], [low])["auc"]
    assert gain == pytest.approx(0.1)
    assert error == pytest.approx(0)


def test_likeness_to_the_last_items_ranks_items_of_the_users_topic_first():
    data = Interactions(("u", "v"), ("a", "b", "c", "d"), np.array([0, 2, 4]), np.array([0, 2, 1, 3]))
    topics = np.eye(2, dtype=np.float32)[[0, 1, 0, 1]]
    scores = similarity_scores(data, topics)(np.arange(2))
    np.testing.assert_allclose(scores, [[1, 0, 1, 0], [0, 1, 0, 1]])


def test_a_table_has_a_line_for_each_encoder():
    row = {among: figures([Standing(np.arange(2), np.arange(2), np.full(2, 9))]) for among in AMONG}
    text = cold_table({"users": 2, "items": 9, "protocol": "as told", "rows": {"ids": row, "tfidf": row}})
    assert text.startswith("2 users, 9 items; as told.")
    assert "| ids | 1.000 ± 0.000 |" in text
    assert text.count("\n| ") == 4
