"""Rankings as decisions make them: candidates of the first stage in the second stage's order."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.domain.catalogue import Ad, Catalogue
from models.domain.ids import key64
from models.scorer import second_stage
from models.scorer.baselines import ItemScorer
from models.scorer.config import ModelConfig
from models.scorer.cooccurrence import build, steps_of
from models.scorer.datasets import Holdout
from models.scorer.fitting import fit_interactions
from models.scorer.interface import HistoryTable
from models.scorer.options import TrainOptions
from models.scorer.second_stage import Candidates, lifted, retrieved
from models.scorer.sequences import Dataset, Interactions
from models.scorer.serving import open_scorer
from models.scorer.transformer import Transformer

QUICK = TrainOptions(steps=20, tokens=512, piece=32, negatives=16, validations=1)
SMALL = {"d_model": 16, "window": 8, "rotary_length": 32, "head_width": 8, "dropout": 0.0}
CLICK = 2
"""The kind that the serving tables give to a click."""


def walks(users=60, items=30, seed=0, longest=12):
    """Users who mostly walk around a ring of items, of lengths from 3 to ``longest``."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(3, longest + 1, users)
    steps = rng.choice([1, 1, 1, 7], int(lengths.sum()))
    offsets = np.concatenate(([0], np.cumsum(lengths)))
    item = np.concatenate(
        [(rng.integers(items) + np.cumsum(steps[a:b])) % items for a, b in pairwise(offsets)]
    )
    names = tuple(f"item{i}" for i in range(items))
    return Interactions(tuple(map(str, range(users))), names, offsets, item)


@given(st.integers(0, 10**6), st.integers(1, 12), st.integers(1, 14))
def test_what_is_retrieved_is_the_head_of_a_stable_sort_without_hidden_columns(seed, columns, count):
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, 4, (3, columns)).astype(np.float32)
    hidden = [np.flatnonzero(rng.random(columns) < 0.4) for _ in scores]
    column, real = retrieved(scores, hidden, count)
    for row, values in enumerate(scores):
        order = np.argsort(-values, kind="stable")
        shown = [c for c in order if c not in hidden[row]][:count]
        assert column[row, real[row]].tolist() == shown


def test_candidates_stand_before_all_others_in_the_order_of_their_logits():
    scores = np.array([[9.0, 5.0, 1.0, 3.0]], np.float32)
    candidates = Candidates(np.array([[2, 0, 3]]), np.array([[True, True, False]]))
    out = lifted(scores, candidates, np.array([[-7.0, -9.0, 100.0]], np.float32))
    assert np.argsort(-out[0]).tolist() == [2, 0, 1, 3]


def test_without_a_candidate_the_order_of_the_first_stage_stays():
    scores = np.array([[9.0, 5.0]], np.float32)
    out = lifted(scores, Candidates(np.array([[0, 1]]), np.zeros((1, 2), bool)), np.zeros((1, 2), np.float32))
    np.testing.assert_array_equal(out, scores)


@pytest.mark.parametrize("longest", [12, 60])
def test_evaluation_orders_ads_as_the_serving_kernels_do(longest, tmp_path):
    """Stated tolerance: 1e-4 on logits. Histories are those of the file, fed event by event.

    The longer ones reach beyond what a user's vector depends on (15 events) and what target attention does.
    """
    data = walks(longest=longest)
    model = fit_interactions(data, QUICK, config=SMALL)
    model = replace(model, graph=replace(model.graph, blend=8.0, click=5.0))
    model.save(tmp_path)
    scorer, offline = open_scorer(tmp_path), ItemScorer.of(model, data)
    ads = [Ad(ad_id=name, campaign_id="c") for name in data.item_ids]
    index, users = scorer.index(Catalogue().upsert(ads)), np.arange(len(data))
    history = HistoryTable.empty(len(users), scorer.history_length)
    for user in users:
        for item in data.item[data.offsets[user] : data.offsets[user + 1]]:
            slot = history.count[user] % history.ad_key.shape[1]
            history.ad_key[user, slot], history.kind[user, slot] = key64(data.item_ids[item]), CLICK
            history.count[user] += 1
    vectors = scorer.encode(history, users, users * 0)
    none = np.zeros((1, len(ads)), np.float32)
    words = np.full((len(users), 1), (1 << len(ads)) - 1, np.uint64)
    found, score = scorer.retrieve(vectors, index, none, np.zeros(len(users), np.int64), words, 12)
    whole = offline.after_all(users)
    np.testing.assert_allclose(score, np.take_along_axis(whole, found.astype(np.int64), 1), atol=1e-4)
    click, _ = scorer.rank(history, users, vectors, index, found)
    nothing = [np.zeros(0, np.int64)] * len(users)
    told = np.take_along_axis(offline.as_served(users, nothing), found.astype(np.int64), 1)
    np.testing.assert_allclose(np.diff(told, axis=1), np.diff(click, axis=1), atol=1e-4)


@settings(max_examples=10)
@given(st.integers(0, 1000))
def test_the_mixed_logit_is_that_of_its_parts(seed):
    """What `order` folds in is what it measured: (own + mix * retrieval) / (1 + mix), and a level."""
    torch.manual_seed(seed)
    model = Transformer(ModelConfig(9, d_model=16, window=3, rotary_length=16, head_width=8)).eval()
    rng = np.random.default_rng(seed)
    n, ad = np.zeros(40, np.int64), rng.integers(1, 10, 40)
    content, category = np.zeros((10, 0), np.float32), np.zeros(10, np.int64)
    dataset = Dataset(np.arange(0, 41, 4), ad, n, n, n, n, n, np.ones(40, bool), category, content)
    holdout = Holdout(dataset, np.arange(10), rng.integers(1, 10, 10), False)
    graph = build(ad, steps_of(dataset.offsets, ad), 10)
    columns = np.tile(np.arange(1, 10), (10, 1))
    ads = second_stage.catalogue_of(dataset, torch.device("cpu"))
    parts = [
        second_stage.click_logits(
            model, dataset, holdout.users, columns, second_stage.item_tower(model, ads)
        ),
        second_stage.all_scores(model, dataset, holdout.users)[:, 1:],
    ]
    mixed, metrics = second_stage.order(model, graph, holdout)
    after = second_stage.click_logits(
        model, dataset, holdout.users, columns, second_stage.item_tower(model, ads)
    )
    mixes = [(parts[0] + m * parts[1]) / (1 + m) for m in second_stage.MIXES]
    assert any(np.ptp(after - one) < 1e-4 for one in mixes)
    assert mixed.click >= 0
    assert 0 <= metrics["validation_ndcg@10_served"] <= 1


def test_of_rates_that_no_impressions_told_the_typical_ones_are_assumed(tmp_path):
    data = walks()
    fit_interactions(data, QUICK, config=SMALL).save(tmp_path)
    scorer, users = open_scorer(tmp_path), np.arange(60)
    index = scorer.index(Catalogue().upsert([Ad(ad_id=name, campaign_id="c") for name in data.item_ids]))
    history = HistoryTable.empty(len(users), scorer.history_length)
    for user in users:
        items = data.item[data.offsets[user] : data.offsets[user + 1]]
        history.ad_key[user, : len(items)] = [key64(data.item_ids[item]) for item in items]
        history.kind[user], history.count[user] = CLICK, len(items)
    everything = np.tile(np.arange(len(index), dtype=np.int32), (len(users), 1))
    click, conversion = scorer.rank(
        history, users, scorer.encode(history, users, users * 0), index, everything
    )
    first = np.sort(click, axis=1)[:, -second_stage.SHOWN :]
    assert 0.02 < (1 / (1 + np.exp(-first))).mean() < 0.15
    np.testing.assert_allclose(1 / (1 + np.exp(-conversion)), 0.1, atol=1e-6)


def test_a_graph_that_knows_all_is_given_a_share_where_the_network_knows_nothing():
    data = walks(200)
    model = fit_interactions(data, replace(QUICK, steps=1), config=SMALL)
    assert model.graph.click > 0
    assert model.metrics["validation_ndcg@10_served"] > model.metrics["validation_ndcg@10_without_graph"]


def test_without_held_out_users_no_click_logit_changes():
    model = Transformer(ModelConfig(3, d_model=16, window=3, rotary_length=16, head_width=8)).eval()
    none = np.zeros(0, np.int64)
    dataset = Dataset(
        np.zeros(1, np.int64), none, none, none, none, none, none, none.astype(bool),
        np.zeros(4, np.int64), np.zeros((4, 0), np.float32),
    )  # fmt: skip
    graph = build(none, steps_of(dataset.offsets, none), 4)
    before = model.shortcut_scale.tolist()
    assert second_stage.order(model, graph, Holdout(dataset, none, none, False)) == (graph, {})
    assert model.shortcut_scale.tolist() == before


def test_a_target_seen_before_may_still_be_ranked_first(tmp_path):
    from flows import jobs

    path = tmp_path / "pairs"
    path.write_text("\n".join(f"{u} {i}" for u in range(30) for i in ("a", "b", "a", "b", "a", "b")))
    jobs.train_interactions(path, "pairs", tmp_path / "model", QUICK, config=SMALL)
    assert jobs.evaluate_ranking(tmp_path / "model", path, "pairs", seen="drop")["hr@1"] == 1.0
