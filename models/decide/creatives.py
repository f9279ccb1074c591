"""Which of its creatives an ad shows in one decision, and with what probability.

Creatives are chosen like ads, once an ad has its slot: by a Thompson draw on what is known of them, or
Plackett-Luce for users of the randomised bucket, seeded by the decision's id. The propensity, given the
ad, is that of the law it was drawn from (`models.learning.exploration`). While nothing is known of any
creative of an ad they have equal chances, also without exploration.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from models.domain.catalogue import Creative
from models.domain.decision import Parts
from models.domain.policy import Exploration
from models.learning.creative_weights import Choices
from models.learning.exploration import pick_rows

from .arithmetic import sigmoid

_STREAM = np.uint64(64)
"""Draws of creatives, apart from those of the slots."""


_BOLDER = 4.0
"""An ad has few creatives, so trying them costs little: at the default nu of .25 this is Thompson sampling
proper, and a creative that was alone for long does not keep later ones out."""


class ShownCreative(NamedTuple):
    """The creative that a slot shows (None: the ad as it stands), its propensity and its weight's mean."""

    creative: Creative | None
    propensity: float
    mean: float


def choose_creative(
    choices: Choices, seed: int, exploration: Exploration, *, randomized: bool
) -> ShownCreative:
    """Return the creative that this decision shows of an ad.

    Parameters
    ----------
    choices
        The ad's approved creatives.
    seed
        key64 of the decision's id.
    exploration
        How decisions explore.
    randomized
        Whether the user is in the randomised bucket.

    """
    if not choices.creatives:
        return ShownCreative(None, 1.0, 0.0)
    if len(choices.creatives) == 1:
        return ShownCreative(choices.creatives[0], 1.0, float(choices.mean[0, 0]))
    by_chance = randomized or not choices.known
    column, propensity, _ = pick_rows(
        choices.mean,
        _BOLDER * exploration.thompson_nu * np.sqrt(choices.variance),
        choices.keys,
        np.array([seed], np.uint64),
        _STREAM,
        np.array([by_chance]),
        exploration.temperature,
        exploration.uniform_mix,
    )
    n = int(column[0])
    return ShownCreative(choices.creatives[n], float(propensity[0]), float(choices.mean[0, n]))


def shown_pctr(parts: Parts) -> float:
    """Return the click probability of the creative shown: the sigmoid of the sum of the parts."""
    total = parts.base + parts.bias
    for part in (parts.ad, parts.campaign, parts.segment_category, parts.user_category, parts.creative):
        total += part
    return float(sigmoid(total))
