"""What a model is worth on held-out data, and how much of the item graph to blend in.

Legend: B users of a chunk, V known ads, D width, I impressions, W band.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from . import batches
from .cooccurrence import ItemGraph, recent_events, shown_scores
from .datasets import Holdout
from .impressions import Shown, label_ads, shown_inner, shown_logits, shown_query_parts
from .leanings import LeaningTable, label_leanings
from .metrics import auc, calibration_error, grouped_auc, logloss, ndcg, target_ranks
from .sequences import F32, I64, Dataset, Labels
from .transformer import Ads, Events, Transformer

F64 = NDArray[np.float64]

CHUNK = 256
TOKENS = 8192
BLENDS = (0.0, 2.0, 4.0, 8.0, 12.0, 16.0, 24.0, 32.0, 48.0, 64.0, 96.0, 128.0, 192.0, 256.0)
"""Multipliers of the graph's score that `blend_and_measure` tries.

A network of little training wants large ones: from there on the graph alone decides.
"""


def catalogue_of(dataset: Dataset, device: torch.device) -> Ads:
    """Return all rows of the ad table `[V + 1]` as the tower sees them."""
    rows = torch.arange(len(dataset.category_of), device=device)
    category = torch.from_numpy(dataset.category_of).to(device)
    return Ads(rows, category, torch.from_numpy(dataset.content).to(device))


@torch.no_grad()
def user_vectors(model: Transformer, dataset: Dataset, users: I64) -> Tensor:
    """Return `[B, D]`: each user's vector after all events; the start vector where there is none."""
    device = model.start.device
    events, count, wait = batches.tails(dataset, users, model.config.receptive_field).to(device)
    h = model.hidden(events)  # [B, T, D]
    last = h[torch.arange(len(users), device=device), (count - 1).clamp(min=0)]
    return torch.where((count > 0)[:, None], model.asked(last, wait), model.start)


@torch.no_grad()
def all_scores(model: Transformer, dataset: Dataset, users: I64, ads: Ads | None = None) -> F32:
    """Return retrieval logits `[B, A]` of these ads (by default every row of the ad table) for users."""
    training = model.training
    model.eval()
    ads = catalogue_of(dataset, model.start.device) if ads is None else ads
    v, bias = model.ad_vectors(ads), model.ad_bias(ads)
    chunks = [users[i : i + CHUNK] for i in range(0, len(users), CHUNK)]
    scores = torch.cat([model.queries(user_vectors(model, dataset, chunk)) @ v.T + bias for chunk in chunks])
    model.train(training)
    return scores.float().cpu().numpy()


@torch.no_grad()
def item_tower(model: Transformer, ads: Ads) -> tuple[Tensor, Tensor]:
    """Return the vectors `[A, D]` and the biases `[A]` of ads."""
    model.eval()
    return model.ad_vectors(ads), model.ad_bias(ads)


@torch.no_grad()
def scores_along(
    model: Transformer, dataset: Dataset, user: int, places: I64, tower: tuple[Tensor, Tensor]
) -> F32:
    """Return retrieval logits `[N, A]` before the events of one user at ``places`` `[N]`, ascending, from 1.

    One pass over the sequence gives them all: attention looks back only. ``model`` is in evaluation.
    """
    begin, device = int(dataset.offsets[user]), model.start.device
    start = max(int(places[0]) - model.config.receptive_field, 0)
    at = np.arange(begin + start, begin + int(places[-1]))[None, :]
    events = batches.gather(dataset, at, np.ones(at.shape, np.bool_))
    h = model.hidden(type(events)(*(column.to(device) for column in events)))[0]  # [T, D]
    v, bias = tower
    wait = torch.from_numpy(dataset.wait[begin + places - 1]).to(device)
    queries = model.queries(model.asked(h[torch.from_numpy(places - start - 1).to(device)], wait))
    logits: F32 = (queries @ v.T + bias).float().cpu().numpy()
    return logits


def holdout_ranks(scores: F32, holdout: Holdout) -> I64:
    """Return where each held-out target stands among the known ads, by scores `[B, V + 1]`."""
    offsets, ad = holdout.history.offsets, holdout.history.ad
    seen = [ad[offsets[u] : offsets[u + 1]] for u in holdout.users] if holdout.drop_seen else None
    scores = scores.copy()
    scores[:, 0] = -np.inf
    return target_ranks(scores, holdout.target, seen)


def validation_ndcg(model: Transformer, holdout: Holdout) -> float:
    """Return NDCG@10 of the retrieval logits on the held-out targets (0 where there is none)."""
    if len(holdout.users) == 0:
        return 0.0
    scores = all_scores(model, holdout.history, holdout.users)
    return float(ndcg(holdout_ranks(scores, holdout), 10).mean())


def validation_gain(model: Transformer, holdout: Holdout) -> float | None:
    """Return what training tries to raise: minus the log loss of clicks and conversions, else NDCG@10.

    None where nothing is held out that tells.
    """
    if metrics := label_metrics(model, holdout):
        return -metrics["click_logloss"] - metrics["conversion_logloss"]
    return validation_ndcg(model, holdout) if len(holdout.users) else None


def blend_and_measure(
    model: Transformer, graph: ItemGraph, holdout: Holdout
) -> tuple[ItemGraph, dict[str, float]]:
    """Return the graph with the multiplier that ranks the held-out targets best, and what that gives."""
    if len(holdout.users) == 0:
        return graph, {}
    history = holdout.history
    base = all_scores(model, history, holdout.users)
    extra = graph.scores(recent_events(history.offsets, history.ad, holdout.users, graph.options.recent))
    ranks = [holdout_ranks(base + np.float32(b) * extra, holdout) for b in BLENDS]
    gains = [float(ndcg(r, 10).mean()) for r in ranks]
    best = int(np.argmax(gains))
    metrics = {
        "validation_users": float(len(holdout.users)),
        "validation_hr@10": float((ranks[best] < 10).mean()),
        "validation_ndcg@10": gains[best],
        "validation_ndcg@10_without_graph": gains[0],
    }
    return replace(graph, blend=BLENDS[best]), metrics


def impression_logits(model: Transformer, dataset: Dataset, labels: Labels) -> F32:
    """Return click and conversion logits `[I, 2]` of shown ads, each from the history at its decision."""
    return _of_impressions(shown_logits, 2, model, dataset, labels)


def whole_logits(
    model: Transformer,
    dataset: Dataset,
    labels: Labels,
    graph: ItemGraph | None,
    leanings: LeaningTable | None,
) -> F64:
    """Return `impression_logits` `[I, 2]` with what slots, graph and leanings add to those of clicks."""
    logits = impression_logits(model, dataset, labels).astype(np.float64)
    logits[:, 0] += slot_bias(model, labels)
    if graph is not None:
        logits[:, 0] += graph.click * shown_scores(graph, dataset, labels)
    if leanings is not None and leanings.weight:
        found = label_leanings(leanings.shares, dataset, labels, model.config.history_length, leanings.shrink)
        logits[:, 0] += leanings.weight * found
    return logits


def query_parts(model: Transformer, dataset: Dataset, labels: Labels) -> F32:
    """Return `[I, 3]`: ``start . v``, ``(u - start) . v`` and the bias of shown ads: retrieval's parts."""
    return _of_impressions(shown_query_parts, 3, model, dataset, labels)


def impression_inner(model: Transformer, dataset: Dataset, labels: Labels) -> F32:
    """Return the second stage's inner layer `[I, M]` of shown ads, each from the history at its decision."""
    return _of_impressions(shown_inner, model.config.head_width, model, dataset, labels)


@torch.no_grad()
def _of_impressions(
    of: Callable[[Transformer, Shown, Ads], Tensor],
    width: int,
    model: Transformer,
    dataset: Dataset,
    labels: Labels,
) -> F32:
    training, device = model.training, model.start.device
    model.eval()
    out = torch.zeros(len(labels), width)
    for rows, events, row, end in shown_windows(dataset, labels, model.config.history_length):
        h = model.hidden(type(events)(*(column.to(device) for column in events)))  # [B, T, D]
        part = labels.take(rows)
        shown = Shown.of(model, h, row.to(device), end.to(device), part)
        out[rows] = of(model, shown, label_ads(dataset, part, device)).cpu()
    model.train(training)
    return out.numpy()


def shown_windows(
    dataset: Dataset, labels: Labels, length: int
) -> Iterator[tuple[I64, Events, Tensor, Tensor]]:
    """Yield batches of impressions: which `[I]`, events `[B, T]`, and each one's row and last place in them.

    A user's impressions within ``length`` positions share a window with ``length`` events before the first.
    """
    order = np.lexsort((labels.position, labels.user))
    group = np.stack((labels.user, labels.position // length))[:, order]
    bounds = np.append(np.flatnonzero((np.diff(group, axis=1, prepend=-1) != 0).any(0)), len(order))
    first, last = labels.position[order[bounds[:-1]]], labels.position[order[bounds[1:] - 1]]
    start = np.maximum(first - length, 0)
    for pick in np.array_split(
        np.argsort(last - start, kind="stable"), int((last - start).sum()) // TOKENS + 1
    ):
        row = np.repeat(np.arange(len(pick)), (bounds[1:] - bounds[:-1])[pick])
        rows = np.concatenate([order[bounds[p] : bounds[p + 1]] for p in pick])
        step = np.arange(max(int((last - start)[pick].max()), 1))
        at = (dataset.offsets[labels.user[order[bounds[pick]]]] + start[pick])[:, None] + step  # [B, T]
        events = batches.gather(
            dataset, np.minimum(at, len(dataset.ad) - 1), step < (last - start)[pick][:, None]
        )
        position = labels.position[rows]
        end = np.where(position > 0, position - 1 - start[pick][row], -1)
        yield rows, events, torch.from_numpy(row), torch.from_numpy(end)


@torch.no_grad()
def segment_logits(model: Transformer, labels: Labels) -> F32:
    """Return what the requests' segments say of impressions, logits `[I]`."""
    device = model.start.device
    rows, category = (torch.from_numpy(x).to(device) for x in (labels.segment, labels.category))
    return model.segment_bias(rows, Ads(rows, category, torch.zeros(0))).float().cpu().numpy()


@torch.no_grad()
def slot_bias(model: Transformer, labels: Labels) -> F32:
    """Return the logits `[I]` of the slots that impressions stood in."""
    bias = model.slot_bias(torch.from_numpy(labels.slot).to(model.start.device))
    return bias.float().cpu().numpy()


def last_band(h: Tensor, row: Tensor, end: Tensor, window: int) -> tuple[Tensor, Tensor]:
    """Return the last W hidden states up to ``end`` `[I]` of rows ``row`` `[I]` of ``h`` `[B, T, D]`.

    Right aligned `[I, W, D]`, with `[I, W]` bool true where there is an event; ``end`` is -1 for none.
    """
    at = end[:, None] - torch.arange(window - 1, -1, -1, device=h.device)  # [I, W]
    return h[row[:, None], at.clamp(min=0)], at >= 0


def label_metrics(
    model: Transformer,
    holdout: Holdout,
    most: int = 20_000,
    graph: ItemGraph | None = None,
    leanings: LeaningTable | None = None,
) -> dict[str, float]:
    """Return click and conversion metrics on held-out impressions; empty where there are none.

    ``graph`` and ``leanings`` add their shares to the click logits.
    Of more than ``most``, so many are drawn: every n-th would be one slot's, where slates are as long as n.
    The loss of conversions is that of those that had had time to come; what no class has is left out.
    """
    dataset = holdout.labels_history
    if dataset is None or len(dataset.labels) == 0:
        return {}
    labels = dataset.labels.take(drawn_rows(len(dataset.labels), most))
    p = 1 / (1 + np.exp(-whole_logits(model, dataset, labels, graph, leanings)))
    both = p[:, 0] * p[:, 1]
    metrics = {
        "impressions": float(len(labels)),
        "ctr": float(labels.click.mean()),
        "click_auc": auc(labels.click, p[:, 0]),
        "click_gauc": grouped_auc(labels.click, p[:, 0], labels.user),
        "click_logloss": logloss(labels.click, p[:, 0]),
        "click_ece": calibration_error(labels.click, p[:, 0]),
        "conversion_auc": auc(labels.conversion, both),
        "conversion_logloss": logloss(labels.conversion, both * labels.maturity),
    }
    return {name: value for name, value in metrics.items() if not np.isnan(value)}


def drawn_rows(count: int, most: int) -> I64:
    """Return ``most`` of ``count`` rows, ascending, always the same ones; all of fewer."""
    if count <= most:
        return np.arange(count)
    return np.sort(np.random.default_rng(0).choice(count, most, replace=False))
