"""What held-out impressions say of a trained network's logits, folded into its last layer.

A network that has read its clicks several times is surer than later clicks bear out (Platt 1999), and its
first stage learned from what users did of their own accord, too. Logistic regressions on impressions that
neither network nor graph has read bring three things to scale, each held by a Gaussian prior to what the
network says already, so that a few clicks change little:

- click logits: slopes of what the network says of everyone, of what it says of the user besides, and of the
  segments, a level, a share of the item graph, weight and shrink of users' leanings (leanings.py);
- queries of retrieval: how far to go by a user's own vector, how far by ``start``, which is everyone;
- conversion logits: a level; ``conversion_slope``: how much of a click logit holds for conversions besides
  what the network says of them; and ``adjustment_slope``: how much in all, for what is learned later.
  Conversions are few, so these are fitted on the clicks that were learned from.

Legend: I impressions, P parts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit

from .config import TYPICAL_PCVR
from .cooccurrence import ItemGraph, shown_scores
from .datasets import Split
from .leanings import SHRINK, LeaningTable, label_leanings, no_leanings, view_shares
from .sequences import F32, Dataset, Labels
from .transformer import Transformer
from .validation import impression_logits, query_parts, segment_logits, slot_bias

F64 = NDArray[np.float64]
Bools = NDArray[np.bool_]

SLOPE_SD, OWN_SD, LEVEL_SD, SHARE_SD, LEAN_SD = 0.3, 0.5, 0.3, 16.0, 0.5
LEAST_OWN = 0.05
"""Of what the network says of a user so much is kept at least."""
SHRINKS, SHRINK_SD = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0), 1.0
"""What leanings may be shrunk by, and the standard deviation of its logarithm around SHRINK's."""
QUERY_SD = 0.5
CONVERSION_SD = 0.3
WORTH_RETRIEVING = 0.9
"""Quantile of the conversion logits of clicks that stands for ads worth retrieving."""


class Belief(NamedTuple):
    """A Gaussian prior of one weight."""

    mean: float
    sd: float


class ClickParts(NamedTuple):
    """What click logits are made of, `[I]` each."""

    everyone: F64
    """The network's logit for a user without events,"""
    own: F64
    """what it says of the user besides,"""
    segment: F64
    score: F64
    """the item graph's score,"""
    leaning: F64


class Scale(NamedTuple):
    """The weights of `ClickParts` in their order, and a level that is added to their sum."""

    everyone: float
    own: float
    segments: float
    share: float
    lean: float
    level: float


BELIEFS = (
    Belief(1.0, SLOPE_SD),
    Belief(1.0, OWN_SD),
    Belief(1.0, SLOPE_SD),
    Belief(0.0, SHARE_SD),
    Belief(0.0, LEAN_SD),
)


class Fit(NamedTuple):
    """Weights and the level, in the order of the parts, and minus the logarithm of how likely they are."""

    weights: list[float]
    loss: float


def fit_scale(parts: ClickParts, offset: F64, click: Bools) -> Scale:
    """Return what fits clicks best; ``offset`` `[I]` is what is known of the slots. No weight is below 0."""
    return Scale(*fit_weights(parts, offset, click, BELIEFS).weights)


def fit_shrink(leanings: Mapping[float, F64], fit: Callable[[F64], Fit]) -> float:
    """Return the likeliest shrink; ``leanings`` holds those of the impressions, `[I]`, by shrink."""

    def loss(shrink: float) -> float:
        return fit(leanings[shrink]).loss + 0.5 * (math.log(shrink / SHRINK) / SHRINK_SD) ** 2

    return min(leanings, key=loss)


def fit_weights(parts: Sequence[F64], offset: F64, click: Bools, beliefs: Sequence[Belief]) -> Fit:
    """Return the weights of ``parts``, `[I]` each, and a level, the most likely after the clicks.

    P(click) = sigmoid(sum of weight * part + level + offset). No weight is below 0. The prior of the level
    holds the mean logit to what it is at the beliefs' means.
    """
    count = len(click)
    centres = np.array([float(np.mean(part)) if count else 0.0 for part in parts])
    centred = [part - centre for part, centre in zip(parts, centres, strict=True)]
    design = np.stack([*centred, np.ones(count)], 1)  # [I, P + 1]
    means = np.array([belief.mean for belief in beliefs])
    prior = np.append(means, means @ centres)
    precision = np.array([*(belief.sd**-2 for belief in beliefs), LEVEL_SD**-2])

    def loss(weights: F64) -> tuple[float, F64]:
        logit, off = design @ weights + offset, weights - prior
        value = np.logaddexp(0, logit).sum() - logit[click].sum() + 0.5 * precision @ off**2
        return float(value), design.T @ (expit(logit) - click) + precision * off

    free = [*[(0.0, None)] * len(parts), (None, None)]
    exact = {"ftol": 1e-14, "gtol": 1e-8}
    found = minimize(loss, prior, jac=True, method="L-BFGS-B", bounds=free, options=exact)
    weights = found.x[:-1]
    return Fit([*weights.tolist(), float(found.x[-1] - weights @ centres)], float(found.fun))


class ConversionScale(NamedTuple):
    """``conversion logit + slope * click logit + level``."""

    slope: float
    level: float


def fit_conversions(conversion: F64, click: F64, arrived: F64, converted: Bools) -> ConversionScale:
    """Return what fits the conversions of clicks best; all arguments are `[I]`, of clicked impressions.

    ``conversion`` and ``click`` are logits; a click's conversion has been seen with probability ``arrived``
    times the sigmoid of the scaled logit. A slope below 0 is none.
    """
    if not converted.any():
        return ConversionScale(0.0, 0.0)
    centre = float(click.mean())

    def loss(weights: F64) -> float:
        slope, level = weights
        logit = np.clip(conversion + slope * (click - centre) + level, -30, 30)
        p = np.clip(arrived / (1 + np.exp(-logit)), 1e-12, 1 - 1e-12)
        held = 0.5 * (slope / CONVERSION_SD) ** 2 + 0.5 * (level / LEVEL_SD) ** 2
        return float(held - np.where(converted, np.log(p), np.log1p(-p)).sum())

    free = [(0.0, None), (None, None)]
    slope, level = minimize(loss, np.zeros(2), method="L-BFGS-B", bounds=free).x.tolist()
    return ConversionScale(slope, level - slope * centre)


class Calibrated(NamedTuple):
    """The scales by name, and what they make of the graph and of leanings."""

    scales: dict[str, list[float]]
    graph: ItemGraph
    leanings: LeaningTable


def calibrate(model: Transformer, graph: ItemGraph, split: Split) -> Calibrated:
    """Fit all scales and fold them into the network; without impressions nothing changes."""
    history, categories = split.holdout.labels_history, model.config.categories
    if history is None or len(history.labels) == 0:
        return Calibrated({}, graph, no_leanings(categories))
    shares = view_shares(split.train, model.config.segments, categories)
    scale, shrink = _scale_clicks(model, graph, shares, history)
    mix = _mix_queries(model, history)
    conversions = _scale_conversions(model, split.train)
    told = {"clicks": [*scale], "queries": mix, "conversions": [*conversions], "shrink": [shrink]}
    return Calibrated(told, replace(graph, click=scale.share), LeaningTable(shares, scale.lean, shrink))


def _scale_clicks(model: Transformer, graph: ItemGraph, shares: F32, history: Dataset) -> tuple[Scale, float]:
    labels = history.labels
    segment = segment_logits(model, labels).astype(np.float64)
    everyone = _everyones(model, history, labels)
    network = impression_logits(model, history, labels)[:, 0].astype(np.float64) - segment
    score = shown_scores(graph, history, labels)
    length = model.config.history_length
    leanings = {shrink: label_leanings(shares, history, labels, length, shrink) for shrink in SHRINKS}
    parts = ClickParts(everyone, network - everyone, segment, score, leanings[SHRINK])
    offset = slot_bias(model, labels).astype(np.float64)

    def fit(leaning: F64) -> Fit:
        return fit_weights(parts._replace(leaning=leaning), offset, labels.click, BELIEFS)

    shrink = fit_shrink(leanings, fit)
    scale = fit_scale(parts._replace(leaning=leanings[shrink]), offset, labels.click)
    scale = scale._replace(own=max(scale.own, LEAST_OWN))
    rescale_clicks(model, scale.own, scale.level)
    more = scale.everyone / scale.own - 1
    model.everyone.copy_(torch.tensor([more, -more * scale.level]))
    if model.config.segments:
        model.segment_logits *= scale.segments
    return scale, shrink


def _mix_queries(model: Transformer, history: Dataset) -> list[float]:
    """Set the mix of queries; what bids and adjustments are added to in retrieval is a click logit then."""
    labels = history.labels
    common, own, bias = query_parts(model, history, labels).astype(np.float64).T
    offset = slot_bias(model, labels) + segment_logits(model, labels) + bias
    believed = Belief(1.0, QUERY_SD)
    shares = fit_weights(
        (common, own), offset.astype(np.float64), labels.click, (believed, believed)
    ).weights[:2]
    model.query_mix.copy_(torch.tensor(shares))
    return shares


def _scale_conversions(model: Transformer, train: Dataset) -> ConversionScale:
    clicked: Labels = train.labels.take(np.flatnonzero(train.labels.click))
    logits = impression_logits(model, train, clicked).astype(np.float64)
    arrived = clicked.maturity.astype(np.float64)
    scale = fit_conversions(logits[:, 1], logits[:, 0], arrived, clicked.conversion)
    own = model.conversion_bias.cpu().numpy()[clicked.ad].astype(np.float64)
    liking = logits[:, 0] - _everyones(model, train, clicked)
    with torch.no_grad():
        for parameter in _last_layer(model):
            parameter[1] += scale.slope * parameter[0]
        model.shortcut_offset[1] += scale.level
        model.conversion_slope.fill_(scale.slope)
        if len(clicked):
            likely = logits[:, 1] + scale.slope * logits[:, 0] + scale.level - own
            model.typical_conversion.fill_(float(np.quantile(likely, WORTH_RETRIEVING)))
            same = np.full(len(own), float(np.mean(logits[:, 1] - own)))
            alone = fit_conversions(same + own, liking, arrived, clicked.conversion)
            model.adjustment_slope.fill_(alone.slope)
    return scale


def _everyones(model: Transformer, dataset: Dataset, labels: Labels) -> F64:
    """Return the click logits `[I]` for users of whom neither events nor the segment are known."""
    blank = replace(labels, position=np.zeros_like(labels.position))
    everyones: F64 = impression_logits(model, dataset, blank)[:, 0].astype(np.float64)
    return everyones - segment_logits(model, labels)


@torch.no_grad()
def assume_conversions(model: Transformer) -> None:
    """Let every click convert at the typical rate: of conversions, no impressions have told."""
    for parameter in _last_layer(model):
        parameter[1] = 0.0
    model.shortcut_offset[1] = torch.tensor(TYPICAL_PCVR).logit()


@torch.no_grad()
def rescale_clicks(model: Transformer, slope: float, level: float) -> None:
    """Make the network's click logit ``slope`` times what it was, plus ``level``; segments' stay."""
    for parameter in _last_layer(model):
        parameter[0] *= slope
    model.shortcut_offset[0] += level


def _last_layer(model: Transformer) -> tuple[torch.Tensor, ...]:
    """Return what makes the logits; row 0 of each is of the click, row 1 of the conversion."""
    return model.head_out.weight, model.head_out.bias, model.shortcut_scale, model.shortcut_offset
