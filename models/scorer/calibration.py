"""Click logits brought to scale on held-out impressions (Platt 1999), folded into the network's last layer.

A network that has read its clicks several times is surer than later clicks bear out. A slope, a level and a
share of the item graph's score are fitted on impressions that neither network nor graph has read, all held to
"nothing to correct" by a Gaussian prior, so that a few clicks change little. Legend: I impressions.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from .cooccurrence import ItemGraph, shown_scores
from .datasets import Holdout
from .transformer import Transformer
from .validation import impression_logits, slot_bias

F64 = NDArray[np.float64]

SLOPE_SD, LEVEL_SD, SHARE_SD = 0.15, 0.3, 16.0
NEWTON_STEPS = 20


class Scale(NamedTuple):
    """``slope * logit + level + share * score``."""

    slope: float
    level: float
    share: float


def fit_scale(logit: F64, score: F64, offset: F64, click: NDArray[np.bool_]) -> Scale:
    """Return what fits clicks best under P = sigmoid(slope * logit + level + share * score + offset).

    All arguments are `[I]`; ``score`` is the item graph's, ``offset`` what is known of the slots. The priors
    are N(1, SLOPE_SD²), N(0, LEVEL_SD²) and N(0, SHARE_SD²). A share below 0 is none.
    """
    scale = _fitted(logit, score, offset, click)
    return scale if scale.share >= 0 else _fitted(logit, np.zeros(len(score)), offset, click)


def _fitted(logit: F64, score: F64, offset: F64, click: NDArray[np.bool_]) -> Scale:
    centre = float(np.mean(logit)) if len(logit) else 0.0
    design = np.stack((logit - centre, np.ones(len(logit)), score), 1)  # [I, 3]
    prior, precision = np.array([1.0, centre, 0.0]), np.diag((SLOPE_SD**-2, LEVEL_SD**-2, SHARE_SD**-2))
    weights = prior.copy()
    for _ in range(NEWTON_STEPS):
        p = 1 / (1 + np.exp(-np.clip(design @ weights + offset, -30, 30)))
        gradient = design.T @ (p - click) + precision @ (weights - prior)
        hessian = (design * (p * (1 - p))[:, None]).T @ design + precision
        weights = weights - np.linalg.solve(hessian, gradient)
    slope, level, share = (float(w) for w in weights)
    return Scale(slope, level - slope * centre, share)


def calibrate(model: Transformer, graph: ItemGraph, holdout: Holdout) -> tuple[Scale, ItemGraph]:
    """Fit the scale on held-out impressions and fold it into the network and the graph, which is returned.

    Without impressions nothing changes.
    """
    history = holdout.labels_history
    if history is None or len(history.labels) == 0:
        return Scale(1.0, 0.0, 0.0), graph
    labels = history.labels
    logit = impression_logits(model, history, labels)[:, 0].astype(np.float64)
    offset = slot_bias(model, labels).astype(np.float64)
    scale = fit_scale(logit, shown_scores(graph, history, labels), offset, labels.click)
    rescale_clicks(model, scale.slope, scale.level)
    return scale, replace(graph, click=scale.share)


@torch.no_grad()
def rescale_clicks(model: Transformer, slope: float, level: float) -> None:
    """Make the network's click logit ``slope`` times what it was, plus ``level``."""
    for parameter in (
        model.head_out.weight,
        model.head_out.bias,
        model.shortcut_scale,
        model.shortcut_offset,
    ):
        parameter[0] *= slope
    model.shortcut_offset[0] += level
    if model.config.segments:
        model.segment_logits *= slope
