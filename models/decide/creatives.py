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
from models.learning.exploration import pick_row

from .arithmetic import sigmoid

_STREAM = np.uint64(64)
"""Draws of creatives, apart from those of the slots."""


_BOLDER = 20.0
"""An ad has few creatives, so trying them costs little: from the default nu of .05 on this is Thompson
sampling proper, and a creative that was alone for long does not keep later ones out."""


class ShownCreative(NamedTuple):
    """The creative that a slot shows (None: the ad as it stands), its propensity and its weight's mean."""

    creative: Creative | None
    propensity: float
    mean: float


AS_IT_STANDS = ShownCreative(None, 1.0, 0.0)


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
        return AS_IT_STANDS
    if len(choices.creatives) == 1:
        return ShownCreative(choices.creatives[0], 1.0, float(choices.mean[0, 0]))
    n, propensity, _ = pick_row(
        choices.mean[0],
        min(_BOLDER * exploration.thompson_nu, 1.0) * choices.deviation,
        choices.shown.keys[0],
        np.uint64(seed),
        _STREAM,
        randomized or not choices.known,
        exploration.temperature,
        exploration.uniform_mix,
    )
    return ShownCreative(choices.creatives[n], propensity, float(choices.mean[0, n]))


def shown_pctr(parts: Parts) -> float:
    """Return the click probability of the creative shown: the sigmoid of the sum of the parts."""
    return float(sigmoid(uncalibrated(parts) + parts.calibration))


def uncalibrated(parts: Parts) -> float:
    """Return the sum of the parts that calibration draws in."""
    total = parts.base + parts.bias
    for part in (parts.ad, parts.campaign, parts.segment_category, parts.user_category, parts.creative):
        total += part
    return total
