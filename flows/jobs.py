"""The plain functions behind `impulse train` and `impulse evaluate ranking`; figures as JSON-ready values."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from connectors.interactions import read_interactions, read_items
from models.domain.errors import LogError, SettingError
from models.domain.ids import key64
from models.evaluation import ranking
from models.scorer.options import TrainOptions
from models.scorer.sequences import F32, I64, AdTable, Interactions, LogExamples
from models.scorer.training import Listener

if TYPE_CHECKING:
    from models.scorer.model import Model

CHEAP_BASELINES = ("popularity", "markov")
FIRST_STAGE = "first_stage"
WITHOUT_GRAPH, WITH_GRAPH, WITHOUT_TIME = "without_graph", "_with_graph", "without_time"
NEURAL_BASELINES = ("mlp", "gru", "sasrec", "sasrec" + WITH_GRAPH)


def train_interactions(
    file: Path,
    format: str,
    out_dir: Path,
    options: TrainOptions,
    *,
    config: dict[str, Any] | None = None,
    items: Path | None = None,
    content: str = "default",
    listener: Listener | None = None,
    checkpoints: Path | None = None,
) -> dict[str, Any]:
    """Train on an interaction file and write the model; return its hash, metrics and CPU minutes.

    The budget counts this process's CPU time from here on: reading, training and validation. ``content``
    names an encoder of `models.scorer.encoders`.
    """
    from models.scorer.fitting import fit_interactions

    started = time.process_time()
    interactions = read_interactions(file, format)
    ads, encoder = _encoded(_ads(interactions, items), content)
    model = fit_interactions(
        interactions,
        options,
        config=config,
        ads=ads,
        encoder=encoder,
        listener=listener,
        checkpoints=checkpoints,
        spent_s=time.process_time() - started,
    )
    return _saved(model, out_dir)


def train_log(
    examples: LogExamples,
    out_dir: Path,
    options: TrainOptions,
    *,
    config: dict[str, Any] | None = None,
    content: str = "default",
    listener: Listener | None = None,
    checkpoints: Path | None = None,
    spent_s: float = 0.0,
) -> dict[str, Any]:
    """Train on a recorded log's examples and write the model; return its hash, metrics and CPU minutes.

    ``spent_s`` of CPU time went into the examples and counts for the budget.
    """
    from models.scorer.fitting import fit_log

    started = time.process_time() - spent_s
    ads, encoder = _encoded(examples.ads, content)
    model = fit_log(
        replace(examples, ads=ads), options, config=config, encoder=encoder, listener=listener,
        checkpoints=checkpoints, spent_s=time.process_time() - started,
    )  # fmt: skip
    return _saved(model, out_dir)


def evaluate_ranking(
    model_dir: Path,
    file: Path,
    format: str,
    *,
    seen: ranking.Seen = "drop",
    baselines: Sequence[str] = (),
    baseline_minutes: float = 1.0,
    items: Path | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Rank every user's last item with a model and with baselines trained on the same split.

    The model ranks as its decisions do: the candidates of the first stage by click logits, the others after
    them. ``baselines`` names any of popularity, markov, first_stage (what the model retrieves by),
    without_graph (its network alone), without_time (for a model that is told when the target came: the same,
    untold), mlp, gru, sasrec and sasrec_with_graph; the last five have the model's sizes and options, and
    train for ``baseline_minutes`` each (or as many steps, where the model was given steps).

    ``same_data`` says whether the model was trained on this very file (None where it does not say on what):
    only then was each user's last item certainly held out. LogError where the model knows none of its items.
    """
    from models.scorer.model import Model

    interactions = read_interactions(file, format)
    model = Model.load(model_dir)
    known = _known(model, interactions)
    if not known["known_items"] and (items is None or model.encoder is None):
        raise _unknown_items(file)
    ads = _ads(interactions, items)
    task = ranking.Task.test(interactions)
    results = {"model": ranking.evaluate(task, _as_served(model, task, ads, seen), seen)}
    results["model"].extra["cpu_minutes"] = model.training.get("cpu_minutes")
    results["model"].extra["target_time"] = model.network.config.use_wait
    options = _options_of(model, baseline_minutes, seed)
    trained = _trainer(interactions, options, model)
    for name in baselines:
        if name == WITHOUT_TIME:
            untold = _untold(model, interactions, options, ads)
            scores, minutes = _as_served(untold, task, ads, seen), untold.training["cpu_minutes"]
        else:
            scores, minutes = _baseline(name, interactions, model, ads, trained)
        results[name] = ranking.evaluate(task, scores, seen)
        results[name].extra["cpu_minutes"] = minutes
    return ranking.report(task, results, "model") | known


def _known(model: Model, interactions: Interactions) -> dict[str, Any]:
    """Return what a model knows of a file: whether it is the one it was trained on, and how many items."""
    keys = np.array([key64(item_id) for item_id in interactions.item_ids], np.uint64)
    trained_on = model.training.get("data_hash")
    return {
        "same_data": None if trained_on is None else trained_on == interactions.data_hash,
        "known_items": int(np.isin(keys, model.vocabulary).sum()),
    }


def _unknown_items(file: Path) -> Exception:
    return LogError.expected(
        f"items of {file}", got="none that the model knows", expected="the items that it was trained on",
        fix="name the file and --format that it was trained from, or a model of content and --items",
    )  # fmt: skip


def _as_served(
    model: Model, task: ranking.Task, ads: AdTable | None, seen: ranking.Seen
) -> ranking.ItemScores:
    """Return the model as its decisions rank; a target is never hidden, though it was seen before."""
    from models.scorer.baselines import ItemScorer

    scorer, nothing = ItemScorer.of(model, task.history, ads), np.zeros(0, np.int64)

    def scores(users: I64) -> F32:
        if seen == "keep":
            return scorer.as_served(users, [nothing] * len(users))
        return scorer.as_served(users, [np.setdiff1d(task.seen(u), task.target[u]) for u in users])

    return scores


Trained = Callable[[str], "tuple[Model, float]"]
"""A neural baseline by its name, and its CPU minutes."""


def _trainer(interactions: Interactions, options: TrainOptions, like: Model) -> Trained:
    """Return what trains each neural baseline, once."""
    from models.scorer.baselines import train_baseline

    return cache(lambda name: train_baseline(name, interactions, options, like.network.config))


def _untold(model: Model, interactions: Interactions, options: TrainOptions, ads: AdTable | None) -> Model:
    """Return a model of the same sizes and content that is not told when targets come."""
    from models.scorer.fitting import fit_interactions

    config = model.network.config.to_dict() | {"use_wait": False}
    del config["vocabulary"]
    return fit_interactions(interactions, options, config=config, ads=ads, encoder=model.encoder)


def _baseline(
    name: str, interactions: Interactions, model: Model, ads: AdTable | None, trained: Trained
) -> tuple[ranking.ItemScores, float | None]:
    from models.scorer import baselines

    started = time.process_time()
    if name in (FIRST_STAGE, WITHOUT_GRAPH):
        part = model if name == FIRST_STAGE else baselines.without_graph(model)
        return baselines.model_scores(part, interactions, ads), model.training.get("cpu_minutes")
    if name in CHEAP_BASELINES:
        make = {"popularity": baselines.popularity_scores, "markov": baselines.markov_scores}[name]
        return make(interactions), (time.process_time() - started) / 60
    if name not in NEURAL_BASELINES:
        known = (*CHEAP_BASELINES, FIRST_STAGE, WITHOUT_GRAPH, WITHOUT_TIME, *NEURAL_BASELINES)
        raise SettingError.expected("baseline", got=name, expected=f"one of {known}", fix="name one of them")
    network, spent = trained(name.removesuffix(WITH_GRAPH))
    started = time.process_time()
    if name.endswith(WITH_GRAPH):
        network = baselines.with_graph(network, interactions)
    return baselines.model_scores(network, interactions), spent + (time.process_time() - started) / 60


def _options_of(model: Model, minutes: float, seed: int) -> TrainOptions:
    """Return the options that a model was trained with, for what is compared with it."""
    names = {each.name for each in fields(TrainOptions)}
    told = {name: value for name, value in model.training.get("options", {}).items() if name in names}
    return TrainOptions(**{**told, "minutes": minutes, "seed": seed, "device": "cpu"})


def _ads(interactions: Interactions, items: Path | None) -> AdTable | None:
    from models.scorer.fitting import items_table

    return None if items is None else items_table(interactions, read_items(items))


@overload
def _encoded(ads: AdTable, content: str) -> tuple[AdTable, Any]: ...
@overload
def _encoded(ads: AdTable | None, content: str) -> tuple[AdTable | None, Any]: ...
def _encoded(ads: AdTable | None, content: str) -> tuple[AdTable | None, Any]:
    """Return the ads as a model with this encoder sees them, and the encoder; None is the default."""
    from models.scorer.encoders import DEFAULT, NONE, encoder_for, without_content

    if ads is None or content == DEFAULT:
        return ads, None
    return (without_content(ads), None) if content == NONE else (ads, encoder_for(content, ads))


def _saved(model: Any, out_dir: Path) -> dict[str, Any]:
    model_hash = model.save(out_dir)
    return {"model_hash": model_hash, "directory": str(out_dir), **model.metrics, **model.training}
