from dataclasses import replace

import numpy as np
import pytest
import torch

from flows import jobs
from models.domain.errors import ArtifactError, SettingError
from models.evaluation import ranking
from models.scorer import artifact, baselines
from models.scorer.baselines import (
    NEURAL,
    Gru,
    ItemScorer,
    PooledMlp,
    markov_scores,
    model_scores,
    popularity_scores,
    running_mean,
    train_baseline,
    without_graph,
)
from models.scorer.config import ModelConfig
from models.scorer.fitting import fit_interactions
from models.scorer.model import Model
from models.scorer.options import TrainOptions
from models.scorer.sequences import Interactions
from models.scorer.transformer import Events

QUICK = TrainOptions(steps=40, tokens=512, piece=32, negatives=16, validations=1)
SMALL = {"d_model": 16, "window": 8, "rotary_length": 32, "head_width": 8, "dropout": 0.0}


def ring(users=80, items=30, length=10):
    start = np.random.default_rng(0).integers(0, items, users)
    item = ((start[:, None] + np.arange(length)) % items).ravel()
    names = tuple(f"item{i}" for i in range(items))
    return Interactions(tuple(map(str, range(users))), names, np.arange(users + 1) * length, item)


def write_ring(tmp_path):
    data = ring()
    path = tmp_path / "ring.txt"
    users = np.repeat(np.arange(len(data)), 10)
    path.write_text("\n".join(f"{u} {i}" for u, i in zip(users, data.item, strict=True)))
    return path


def test_popularity_ranks_by_counts_of_training_alone():
    data = Interactions(("a", "b"), ("x", "y", "z"), np.array([0, 4, 8]), np.array([0, 0, 1, 2, 0, 1, 1, 2]))
    assert popularity_scores(data)(np.array([0, 1])).tolist() == [[3, 1, 0], [3, 1, 0]]


def test_markov_foresees_a_ring():
    task = ranking.Task.test(ring())
    assert ranking.evaluate(task, markov_scores(ring())).metrics()["hr@1"] > 0.95


@pytest.mark.parametrize("network", [Gru, PooledMlp])
def test_a_baselines_hidden_state_does_not_depend_on_later_events(network):
    torch.manual_seed(0)
    model = network(ModelConfig(vocabulary=9, d_model=16, window=4, rotary_length=16)).eval()
    columns = torch.randint(0, 8, (5, 2, 10)).unbind()
    whole = model.hidden(Events(*columns))
    part = model.hidden(Events(*(c[:, :6] for c in columns)))
    torch.testing.assert_close(whole[:, :6], part)


def test_a_running_mean_forgets_what_left_the_window():
    x = torch.arange(5.0).view(1, 5, 1)
    assert running_mean(x, 2).flatten().tolist() == [0, 0.5, 1.5, 2.5, 3.5]


def test_a_model_comes_back_from_disk_with_the_same_figures(tmp_path):
    path = write_ring(tmp_path)
    told = jobs.train_interactions(path, "pairs", tmp_path / "model", QUICK, config=SMALL)
    assert told["model_hash"] == artifact.load(tmp_path / "model").model_hash
    first = jobs.evaluate_ranking(tmp_path / "model", path, "pairs", baselines=["popularity", "markov"])
    second = jobs.evaluate_ranking(tmp_path / "model", path, "pairs")
    assert first["ndcg@10"] == second["ndcg@10"] > first["baselines"]["popularity"]["ndcg@10"]
    assert first["cpu_minutes"] > 0


def test_the_same_file_seed_and_steps_give_the_same_model_hash(tmp_path):
    path = write_ring(tmp_path)
    hashes = [
        jobs.train_interactions(path, "pairs", tmp_path / name, QUICK, config=SMALL)["model_hash"]
        for name in ("one", "two")
    ]
    assert hashes[0] == hashes[1]


@pytest.mark.parametrize("name", NEURAL)
def test_a_baseline_has_the_dropout_that_suits_the_data_as_the_model_has(name):
    """Dropout is what counts most on sparse data; a baseline with another one is no comparison."""
    model = fit_interactions(ring(), replace(QUICK, steps=1))
    baseline, _ = train_baseline(name, ring(), replace(QUICK, steps=1))
    assert baseline.network.config.dropout == model.network.config.dropout > 0.2


def test_a_baseline_is_as_large_as_the_model_that_it_stands_beside():
    model = fit_interactions(ring(), replace(QUICK, steps=1), config=SMALL)
    baseline, _ = train_baseline("sasrec", ring(), replace(QUICK, steps=1), model.network.config)
    assert {name: getattr(baseline.network.config, name) for name in SMALL} == SMALL


def test_baselines_are_trained_with_the_options_of_the_model(tmp_path, monkeypatch):
    path, used = write_ring(tmp_path), []
    options = replace(QUICK, steps=2, loss="gbce", learning_rate=0.003)
    jobs.train_interactions(path, "pairs", tmp_path / "model", options, config=SMALL)
    train = baselines.train

    def watched(split, config, options, **rest):
        used.append((options.steps, options.loss, options.learning_rate, options.tokens))
        return train(split, config, options, **rest)

    monkeypatch.setattr(baselines, "train", watched)
    jobs.evaluate_ranking(tmp_path / "model", path, "pairs", baselines=["gru"])
    assert used == [(2, "gbce", 0.003, 512)]


def test_a_neural_baseline_is_trained_and_ranked_beside_the_model(tmp_path):
    path = write_ring(tmp_path)
    jobs.train_interactions(path, "pairs", tmp_path / "model", QUICK, config=SMALL)
    report = jobs.evaluate_ranking(tmp_path / "model", path, "pairs", baselines=["mlp", "gru", "sasrec"])
    found = {name: each["ndcg@10"] for name, each in report["baselines"].items()}
    assert min(found.values()) > 0.5


def test_rows_show_what_the_item_graph_brings_to_the_model_and_to_a_baseline(tmp_path, monkeypatch):
    """Networks of one step know nothing, the graph of a ring knows all."""
    path, trained = write_ring(tmp_path), []
    train = baselines.train

    def watched(*args, **rest):
        trained.append(rest["network"])
        return train(*args, **rest)

    monkeypatch.setattr(baselines, "train", watched)
    jobs.train_interactions(path, "pairs", tmp_path / "model", replace(QUICK, steps=1), config=SMALL)
    names = ["without_graph", "sasrec", "sasrec_with_graph"]
    told = jobs.evaluate_ranking(tmp_path / "model", path, "pairs", baselines=names)
    found = {name: each["hr@1"] for name, each in told["baselines"].items()}
    assert told["hr@1"] > 0.9
    assert found["sasrec_with_graph"] > 0.9
    assert max(found["without_graph"], found["sasrec"]) < 0.5
    assert len(trained) == 1  # the same network with and without


def test_the_graphs_share_is_that_of_the_items_own_column(tmp_path):
    """The file's items are numbered in another order than the model's rows."""
    model, data = fit_interactions(ring(), QUICK, config=SMALL), ring()
    model = replace(model, graph=replace(model.graph, blend=3.0))
    users = np.arange(len(data))
    alone = model_scores(without_graph(model), data)(users)
    share = (model_scores(model, data)(users) - alone) / 3
    np.testing.assert_allclose(share, markov_scores(data)(users), atol=1e-5)


@pytest.mark.parametrize("place", [1, 4, 9])
def test_scores_before_an_event_are_those_after_the_events_before_it(place):
    """One pass along a sequence, and a history cut there, say the same; with the item graph."""
    model, data = fit_interactions(ring(), QUICK, config=SMALL), ring()
    model = replace(model, graph=replace(model.graph, blend=3.0))
    along = ItemScorer.of(model, data).before(5, np.arange(1, 10))
    cut = ItemScorer.of(model, data.without_last(10 - place)).after_all(np.array([5]))
    np.testing.assert_allclose(along[place - 1], cut[0], atol=1e-4)


def test_scores_from_the_middle_of_a_long_sequence_need_no_more_than_what_attention_sees():
    model, data = fit_interactions(ring(), QUICK, config=SMALL), ring(users=3, length=80)
    scorer = ItemScorer.of(without_graph(model), data)
    whole, later = scorer.before(1, np.arange(1, 80)), scorer.before(1, np.arange(60, 80))
    np.testing.assert_allclose(later, whole[59:], atol=1e-4)


def test_an_unknown_baseline_is_refused_with_the_known_ones(tmp_path):
    path = write_ring(tmp_path)
    jobs.train_interactions(path, "pairs", tmp_path / "model", QUICK, config=SMALL)
    with pytest.raises(SettingError, match="markov"):
        jobs.evaluate_ranking(tmp_path / "model", path, "pairs", baselines=["oracle"])


def test_a_model_whose_tensors_do_not_fit_its_config_is_refused(tmp_path):
    path = write_ring(tmp_path)
    jobs.train_interactions(path, "pairs", tmp_path / "model", QUICK, config=SMALL)
    stored = artifact.load(tmp_path / "model")
    del stored.tensors["final_norm.weight"]
    artifact.save(tmp_path / "model", stored.tensors, stored.manifest)
    with pytest.raises(ArtifactError, match="final_norm"):
        Model.load(tmp_path / "model")


def test_titles_give_an_item_never_trained_on_a_sensible_rank(tmp_path):
    """Users keep to one of two topics; the last item is new to everyone, its title says which topic."""
    draw = np.random.default_rng(0)
    lines, items = [], ["item_id:token\ttitle:token_seq"]
    items += [f"{i}\t{['wine cheese grape', 'motor wheel brake'][i % 2]} number {i}" for i in range(42)]
    for user in range(200):
        seen = draw.permutation(20)[:8] * 2 + user % 2
        lines += [f"{user} {i}" for i in (*seen, 40 + user % 2)]
    path, titles = tmp_path / "pairs", tmp_path / "x.item"
    path.write_text("\n".join(lines))
    titles.write_text("\n".join(items))
    told = jobs.train_interactions(path, "pairs", tmp_path / "model", QUICK, config=SMALL, items=titles)
    assert told["steps"] == 40
    model, data = Model.load(tmp_path / "model"), jobs.read_interactions(path, "pairs")
    from models.scorer.fitting import items_table

    ads = items_table(data, jobs.read_items(titles))
    scores = model_scores(model, data, ads)(np.arange(200))
    even, odd = data.item_ids.index("40"), data.item_ids.index("41")
    likes_even = scores[0::2, even] - scores[0::2, odd]
    likes_odd = scores[1::2, odd] - scores[1::2, even]
    assert likes_even.mean() > 0
    assert likes_odd.mean() > 0
