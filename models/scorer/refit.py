"""Views and ads anew, from all impressions, once the network is settled.

Before training, ads are counted beside categories and segments alone (rates.py), and how much a user's views
tell is weighed on the impressions held out (calibration.py), which are few. Afterwards nothing need be held
out any more. With the calibrated network and the item graph as the offset, the whole log says what weight
and shrink the leanings get; with those added, campaigns and ads get the random effects (effects.py) that fit
it. What the network has learned by heart it would overrate on its own impressions: its scales stay. Metrics
are measured before, on what was held out then.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from .calibration import LEAN_SD, SHRINKS, Belief, Fit, fit_shrink, fit_weights
from .cooccurrence import ItemGraph
from .datasets import Split
from .effects import Factor, fit_effects
from .leanings import LeaningTable, label_leanings
from .rates import ads_in_campaigns
from .sequences import F32, Dataset
from .transformer import Transformer
from .validation import drawn_rows, whole_logits

F64 = NDArray[np.float64]
Bools = NDArray[np.bool_]

MOST = 1_000_000
"""Impressions that are read at most: those held out, and of the others so many, drawn by chance."""
LEAST_HEARD = 0.1
"""Where the click logit takes less than this of an ad's bias, the bias is left as it is."""


class Heard(NamedTuple):
    """How much of an ad's bias the click logit takes, and how much the conversion logit."""

    click: float
    conversion: float


class Refitted(NamedTuple):
    """What was found besides the ads' biases."""

    leanings: LeaningTable
    level: float
    """Added to all click logits."""
    campaigns: F64
    """`[N + 1]` what ads of a campaign have in common, in units of the biases; 0 for no campaign."""
    heard: Heard


@torch.no_grad()
def refit(model: Transformer, graph: ItemGraph, leanings: LeaningTable, split: Split) -> Refitted | None:
    """Return leanings that fit all impressions, and set the ads' biases to what fits them.

    What the model says of conversions stays as it is. None, and nothing changes, where no impressions were
    held out: nothing has told then how much of the network to believe.
    """
    held_out, heard = split.holdout.labels_history, heard_of(model)
    if held_out is None or len(held_out.labels) == 0 or heard.click < LEAST_HEARD:
        return None
    parts = _drawn((held_out, split.train))
    logits = np.concatenate([whole_logits(model, part, part.labels, graph, None)[:, 0] for part in parts])
    click, ad = (np.concatenate([getattr(part.labels, name) for part in parts]) for name in ("click", "ad"))
    found = _refit_leanings(leanings, parts, logits, click, model.config.history_length)
    logits += found.weight * _leanings(found.shares, parts, model.config.history_length, found.shrink)
    level, campaigns = _refit_ads(model, heard, ads_in_campaigns(ad, split.train), logits, click)
    return Refitted(found, level, campaigns, heard)


def _refit_leanings(
    leanings: LeaningTable, parts: Sequence[Dataset], logits: F64, click: Bools, length: int
) -> LeaningTable:
    by_shrink = {shrink: _leanings(leanings.shares, parts, length, shrink) for shrink in SHRINKS}

    def fit(leaning: F64) -> Fit:
        return fit_weights((leaning,), logits, click, (Belief(0.0, LEAN_SD),))

    shrink = fit_shrink(by_shrink, fit)
    return LeaningTable(leanings.shares, fit(by_shrink[shrink]).weights[0], shrink)


def _refit_ads(model: Transformer, heard: Heard, ads: Factor, logits: F64, click: Bools) -> tuple[float, F64]:
    """Set the ads' biases; return the level and what campaigns have in common, as `Refitted` has them."""
    believed = model.log_popularity.cpu().numpy().astype(np.float64)
    offset = logits - heard.click * believed[ads.fine]
    found = fit_effects(offset, click.astype(np.float64), np.ones(len(click)), [ads])
    better, campaigns = found.whole(0, ads) / heard.click, found.coarse[0] / heard.click
    better[0], campaigns[0] = believed[0], 0.0
    model.log_popularity.copy_(torch.from_numpy(better))
    model.conversion_bias -= torch.from_numpy(heard.conversion * (better - believed)).to(
        model.conversion_bias
    )
    model.everyone[1] += found.level
    model.shortcut_offset[1] -= model.conversion_slope * found.level
    return found.level, campaigns


def heard_of(model: Transformer) -> Heard:
    """Return what the logits take of an ad's bias: by the shortcut, and again by what is everyone's."""
    more = model.shortcut_scale[0] * model.everyone[0]
    click = model.shortcut_scale[0] + more
    conversion = model.shortcut_scale[1] + model.conversion_slope * more
    return Heard(float(click), float(conversion))


def _drawn(data: Sequence[Dataset]) -> list[Dataset]:
    """Return the data sets with `MOST` of their impressions in all, those of the first one first."""
    drawn, left = [], MOST
    for dataset in data:
        rows = drawn_rows(len(dataset.labels), left)
        drawn.append(replace(dataset, labels=dataset.labels.take(rows)))
        left -= len(rows)
    return drawn


def _leanings(shares: F32, parts: Sequence[Dataset], length: int, shrink: float) -> F64:
    """Return the leanings `[I]` of all impressions."""
    return np.concatenate([label_leanings(shares, part, part.labels, length, shrink) for part in parts])
