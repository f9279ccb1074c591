"""Click logits brought to scale on held-out impressions (Platt 1999), folded into the network's last layer.

A network that has read its clicks several times is surer than later clicks bear out. A slope and a level are
fitted on impressions that it has not read, both held to "nothing to correct" by a Gaussian prior, so that
a few clicks change little. Legend: I impressions.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from .datasets import Holdout
from .transformer import Transformer
from .validation import impression_logits, slot_bias

F64 = NDArray[np.float64]

SLOPE_SD, LEVEL_SD = 0.15, 0.3
NEWTON_STEPS = 20


class Scale(NamedTuple):
    """``slope * logit + level``."""

    slope: float
    level: float


def fit_scale(logit: F64, offset: F64, click: NDArray[np.bool_]) -> Scale:
    """Return the slope and level that fit clicks best under P = sigmoid(slope * logit + level + offset).

    ``offset`` `[I]` is what is known of the slots; the priors are N(1, SLOPE_SD²) and N(0, LEVEL_SD²).
    """
    centre = float(np.mean(logit)) if len(logit) else 0.0
    design = np.stack((logit - centre, np.ones(len(logit))), 1)  # [I, 2]
    prior, precision = np.array([1.0, centre]), np.diag((SLOPE_SD**-2, LEVEL_SD**-2))
    weights = prior.copy()
    for _ in range(NEWTON_STEPS):
        p = 1 / (1 + np.exp(-np.clip(design @ weights + offset, -30, 30)))
        gradient = design.T @ (p - click) + precision @ (weights - prior)
        hessian = (design * (p * (1 - p))[:, None]).T @ design + precision
        weights = weights - np.linalg.solve(hessian, gradient)
    slope, level = (float(w) for w in weights)
    return Scale(slope, level - slope * centre)


@torch.no_grad()
def calibrate(model: Transformer, holdout: Holdout) -> Scale:
    """Fit the scale on held-out impressions and fold it into the network; return it."""
    history = holdout.labels_history
    if history is None or len(history.labels) == 0:
        return Scale(1.0, 0.0)
    labels = history.labels
    logit = impression_logits(model, history, labels)[:, 0].astype(np.float64)
    scale = fit_scale(logit, slot_bias(model, labels).astype(np.float64), labels.click)
    for parameter in (
        model.head_out.weight,
        model.head_out.bias,
        model.shortcut_scale,
        model.shortcut_offset,
    ):
        parameter[0] *= scale.slope
    model.shortcut_offset[0] += scale.level
    if model.config.segments:
        model.segment_logits *= scale.slope
    return scale
