"""The second stage as decisions use it: the first candidates of retrieval, ordered by their click logits.

Its weights come from true clicks where a log has impressions (calibration.py). Interaction files have none,
and what stands in for them (losses.py) makes a poorer judge than retrieval; there `order` mixes both and the
item graph by what ranks held-out targets best. Legend: B users, K candidates, A ads, D width, W band.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import expit
from torch import Tensor

from . import batches
from .calibration import assume_conversions, rescale_clicks
from .config import TYPICAL_PCTR
from .cooccurrence import ItemGraph, recent_events
from .datasets import Holdout
from .metrics import ndcg, top
from .sequences import F32, I64, Dataset
from .transformer import Transformer
from .validation import BLENDS, CHUNK, all_scores, catalogue_of, item_tower, last_band

CANDIDATES, SHOWN = 100, 5
"""Candidates and slots per user, as policies have by default."""

MIXES = (0.0, 0.5, 1.0, 2.0, 4.0)
"""Shares of the retrieval logit that `order` tries beside the second stage's own."""


@torch.no_grad()
def click_logits(
    model: Transformer, dataset: Dataset, users: I64, candidates: I64, tower: tuple[Tensor, Tensor]
) -> F32:
    """Return the click logits `[B, K]` of ``candidates`` `[B, K]` after all events of users, less the graph.

    Candidates are rows of ``tower``, ads' vectors `[A, D]` and biases `[A]`; ``model`` is in evaluation.
    """
    v, bias = tower
    device = model.start.device
    out = np.zeros(candidates.shape, np.float32)
    for begin in range(0, len(users), CHUNK):
        part = slice(begin, begin + CHUNK)
        events, count, wait = batches.tails(dataset, users[part], model.config.history_length).to(device)
        h = model.hidden(events)  # [B, T, D]
        end = count - 1
        band, seen = last_band(h, torch.arange(len(h), device=device), end, model.config.window)
        u = torch.where((end >= 0)[:, None], model.asked(band[:, -1], wait), model.start)
        chosen = torch.from_numpy(candidates[part]).to(device)
        out[part] = model.rank(u, band, seen, v[chosen], bias[chosen])[..., 0].float().cpu().numpy()
    return out


class Candidates(NamedTuple):
    """What the first stage retrieved."""

    column: I64
    """`[B, K]` columns of the scores, best first, ties in the columns' order."""
    real: NDArray[np.bool_]
    """`[B, K]` false past the last one that may be shown, where the column is 0."""


def retrieved(scores: F32, hidden: Sequence[I64], count: int = CANDIDATES) -> Candidates:
    """Return the best of each row of ``scores`` `[B, A]` but for the row's ``hidden`` columns."""
    scores = scores.copy()
    for values, columns in zip(scores, hidden, strict=True):
        values[columns] = -np.inf
    row, item = top(scores, count)
    begin = np.searchsorted(row, np.arange(len(scores) + 1))
    place = begin[:-1, None] + np.arange(min(count, scores.shape[1]))  # [B, K]
    real = place < begin[1:, None]
    column = np.append(item, 0)[np.where(real, place, len(item))]
    value = np.where(real, np.take_along_axis(scores, column, 1), -np.inf)
    best = np.argsort(-value, axis=1, kind="stable")
    return Candidates(*(np.take_along_axis(x, best, 1) for x in (column, real)))


def lifted(scores: F32, candidates: Candidates, logits: F32) -> F32:
    """Return ``scores`` `[B, A]` with the candidates above all others, ordered by ``logits`` `[B, K]`."""
    column, real = candidates
    above = scores.max(1) - np.where(real, logits, np.inf).min(1, initial=np.inf) + 1
    out = scores.copy()
    row, place = real.nonzero()
    out[row, column[row, place]] = logits[row, place] + above[row]
    return out


def order(model: Transformer, graph: ItemGraph, holdout: Holdout) -> tuple[ItemGraph, dict[str, float]]:
    """Mix retrieval logits into click logits, in place, and return the graph with its share in them.

    The second stage's logit l becomes ``(l + mix * retrieval + share * score) / (1 + mix)``; mix and share
    are those of MIXES and BLENDS with the best NDCG@10 on the held-out targets. How often ads are clicked or
    bought is not known: the first SHOWN of each user are clicked, and clicks convert, at typical rates.
    No click logit changes where there are no targets. The figures are those of the order of decisions.
    """
    assume_conversions(model)
    if len(holdout.users) == 0:
        return graph, {}
    history, training = holdout.history, model.training
    retrieval = all_scores(model, history, holdout.users)  # [B, V + 1]
    score = graph.scores(recent_events(history.offsets, history.ad, holdout.users, graph.options.recent))
    tower = item_tower(model, catalogue_of(history, model.start.device))
    column, real = retrieved(retrieval + np.float32(graph.blend) * score, _hidden(holdout))
    own = np.where(real, click_logits(model, history, holdout.users, column, tower), -np.inf)
    model.train(training)
    retrieval, score = (np.take_along_axis(x, column, 1) for x in (retrieval, score))
    wanted = column == holdout.target[:, None]
    ranks = {
        (mix, share): _ranks(own + np.float32(mix) * retrieval + np.float32(share) * score, wanted)
        for mix in MIXES
        for share in BLENDS
    }
    gains = {key: float(ndcg(found, 10).mean()) for key, found in ranks.items()}
    mix, share = best = max(gains, key=lambda key: gains[key])
    served = (own + np.float32(mix) * retrieval + np.float32(share) * score) / (1 + mix)
    with torch.no_grad():
        model.shortcut_scale[0] += mix
    rescale_clicks(model, 1 / (1 + mix), _level(-np.sort(-served, axis=1)[:, :SHOWN]))
    metrics = {
        "validation_hr@10_served": float((ranks[best] < 10).mean()),
        "validation_ndcg@10_served": gains[best],
    }
    return replace(graph, click=share / (1 + mix)), metrics


def _level(shown: F32) -> float:
    """Return what to add to the logits `[B, SHOWN]`, -inf for none, that the mean rate be the typical one."""
    logits = shown[np.isfinite(shown)].astype(np.float64)
    if not len(logits):
        return 0.0
    return float(brentq(lambda x: expit(logits + x).mean() - TYPICAL_PCTR, -1e3, 1e3))


def _hidden(holdout: Holdout) -> list[I64]:
    """Return what may not be retrieved: the unknown ad, and seen ones where they are dropped."""
    offsets, ad = holdout.history.offsets, holdout.history.ad
    unknown = np.zeros(1, np.int64)
    if not holdout.drop_seen:
        return [unknown] * len(holdout.users)
    seen = (ad[offsets[user] : offsets[user + 1]] for user in holdout.users)
    return [
        np.append(rows[rows != target], unknown) for rows, target in zip(seen, holdout.target, strict=True)
    ]


def _ranks(scores: F32, wanted: NDArray[np.bool_]) -> I64:
    """Return where the wanted candidate stands in each row, far behind where it is not there."""
    at = np.take_along_axis(wanted, np.argsort(-scores, axis=1, kind="stable"), 1)
    found: I64 = np.where(at.any(1), at.argmax(1), np.iinfo(np.int32).max)
    return found
