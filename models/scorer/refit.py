"""Ads' click rates anew, from all impressions, once all else in a model is settled.

Before training, ads are counted beside categories and segments alone (rates.py). Afterwards the network, the
item graph and the users' views say more of whom an ad was shown to, and nothing need be held out any more:
with all that as the offset, campaigns and ads get the random effects (effects.py) that fit the impressions of
the whole log. Metrics are measured before, on what was held out then.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from .cooccurrence import ItemGraph
from .datasets import Split
from .effects import fit_effects
from .leanings import LeaningTable
from .rates import ads_in_campaigns
from .sequences import Dataset
from .transformer import Transformer
from .validation import drawn_rows, whole_logits

F64 = NDArray[np.float64]

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

    level: float
    """Added to all click logits."""
    campaigns: F64
    """`[N + 1]` what ads of a campaign have in common, in units of the biases; 0 for no campaign."""
    heard: Heard


@torch.no_grad()
def refit_ads(model: Transformer, graph: ItemGraph, leanings: LeaningTable, split: Split) -> Refitted | None:
    """Set the ads' biases to what fits all impressions.

    What the model says of conversions stays as it is. None, and nothing changes, where no impressions were
    held out: nothing has told then how much of the network to believe.
    """
    held_out, heard = split.holdout.labels_history, heard_of(model)
    if held_out is None or len(held_out.labels) == 0 or heard.click < LEAST_HEARD:
        return None
    believed = model.log_popularity.cpu().numpy().astype(np.float64)
    offset, click, ad = _impressions(model, graph, leanings, (held_out, split.train))
    ads = ads_in_campaigns(ad, split.train)
    found = fit_effects(offset - heard.click * believed[ad], click, np.ones(len(ad)), [ads])
    better = found.whole(0, ads) / heard.click
    better[0] = believed[0]
    model.log_popularity.copy_(torch.from_numpy(better))
    model.conversion_bias -= torch.from_numpy(heard.conversion * (better - believed)).to(
        model.conversion_bias
    )
    model.everyone[1] += found.level
    model.shortcut_offset[1] -= model.conversion_slope * found.level
    campaigns = found.coarse[0] / heard.click
    campaigns[0] = 0.0
    return Refitted(found.level, campaigns, heard)


def heard_of(model: Transformer) -> Heard:
    """Return what the logits take of an ad's bias: by the shortcut, and again by what is everyone's."""
    more = model.shortcut_scale[0] * model.everyone[0]
    click = model.shortcut_scale[0] + more
    conversion = model.shortcut_scale[1] + model.conversion_slope * more
    return Heard(float(click), float(conversion))


def _impressions(
    model: Transformer, graph: ItemGraph, leanings: LeaningTable, data: tuple[Dataset, ...]
) -> tuple[F64, F64, NDArray[np.int64]]:
    """Return click logits, clicks and ads `[I]` of the impressions of data sets."""
    found, left = [], MOST
    for dataset in data:
        labels = dataset.labels.take(drawn_rows(len(dataset.labels), left))
        logits = whole_logits(model, dataset, labels, graph, leanings)[:, 0]
        found.append((logits, labels.click.astype(np.float64), labels.ad))
        left -= len(labels)
    logits, click, ad = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return logits, click, ad
