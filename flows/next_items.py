"""Next items in the order of time: what counts online beside the Transformer, frozen after its training."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from connectors.ratings import Ratings
from models.evaluation.next_item import (
    OnlineMarkov,
    OnlinePopularity,
    hit_figures,
    ranks_along,
    ranks_in_turn,
)
from models.scorer.options import TrainOptions
from models.scorer.sequences import Interactions, hash_arrays

I64 = NDArray[np.int64]

ONLINE = {"popularity": OnlinePopularity, "markov": OnlineMarkov}


def next_item_figures(
    data: Ratings, about: Mapping[str, tuple[str, str]], cut: int, options: TrainOptions | None
) -> dict[str, Any]:
    """Return how well each event's item is foreseen from what came before it; seen items are dropped.

    ``popularity`` and ``markov`` count online and are judged on the whole stream; under ``later`` they are
    judged from event ``cut`` on, beside ``frozen``: the Transformer with its item graph, trained on the
    events before ``cut`` and not after, while users' histories go on. ``frozen_without_graph`` is its
    network alone. ``about`` tells items' categories and texts; without ``options`` nothing is trained.
    """
    ranks = {
        name: ranks_in_turn(make, data.user, data.item, len(data.items)) for name, make in ONLINE.items()
    }
    figures: dict[str, Any] = {name: hit_figures(found, data.user) for name, found in ranks.items()}
    told: dict[str, Any] = {"trained_on": cut}
    if options is not None:
        frozen, told["training"] = frozen_ranks(data, about, cut, options)
        ranks |= frozen
    since = np.arange(len(data)) >= cut
    later = {name: hit_figures(np.where(since, found, -1), data.user) for name, found in ranks.items()}
    return figures | {"later": told | later}


def frozen_ranks(
    data: Ratings, about: Mapping[str, tuple[str, str]], cut: int, options: TrainOptions
) -> tuple[dict[str, I64], dict[str, Any]]:
    """Return the ranks `[N]` of a model trained on the events before ``cut``, with and without its graph.

    Of those, each user's last two validate the training and are not learned from.
    """
    from models.scorer.baselines import ItemScorer, without_graph
    from models.scorer.fitting import fit_interactions, items_table

    started = time.process_time()
    whole = _sequences(data, len(data))
    ads = items_table(whole, dict(about)) if about else None
    spent_s = time.process_time() - started
    model = fit_interactions(_sequences(data, cut), options, ads=ads, spent_s=spent_s)
    rows = {"frozen": model, "frozen_without_graph": without_graph(model)}
    ranks = {
        name: ranks_along(ItemScorer.of(each, whole, ads).before, data.user, data.item, cut)
        for name, each in rows.items()
    }
    return ranks, {"cpu_minutes": model.training["cpu_minutes"], "steps": model.training["steps"]}


def _sequences(data: Ratings, count: int) -> Interactions:
    """Return the first ``count`` ratings as users' sequences; users and items are those of all."""
    order = np.argsort(data.user[:count], kind="stable")
    lengths = np.bincount(data.user[:count], minlength=len(data.users))
    offsets = np.concatenate(([0], np.cumsum(lengths)))
    item, times = data.item[order], data.time_ms[order]
    return Interactions(data.users, data.items, offsets, item, times, hash_arrays(offsets, item, times))
