"""The prior of every learned adjustment: an Ornstein-Uhlenbeck process around zero.

The hierarchy is additive: an ad's logit is bias + campaign + segment x category + ad (+ creative +
segment x creative) (+ user x category), each deviation with mean 0. So a new ad starts at its campaign's
weight and a new campaign at its category's, with the prior variance of the levels that have not been seen
yet, and what is learned of a campaign reaches its ads at once (random effects as in LASER, Agarwal et al.,
WSDM '14).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from models.domain.errors import SettingError


@dataclass(frozen=True)
class Priors:
    """Prior variances v0 in squared logits per level, and the time constant of forgetting.

    Between two updates dt apart a weight's mean shrinks by ``exp(-dt/T)`` towards 0 and its variance
    returns to v0 by ``v0 + (v - v0) exp(-2 dt/T)``; the stationary law is N(0, v0).
    """

    bias: float = 0.01
    ad: float = 0.06
    campaign: float = 0.015
    segment_category: float = 0.015
    creative: float = 0.1
    segment_creative: float = 0.05
    user_category: float = 0.06
    time_constant_s: float = 1200.0
    user_time_constant_s: float = 3600.0

    def __post_init__(self) -> None:
        for name in self.__dataclass_fields__:
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise SettingError(f"priors.{name}: got {value!r}, expected a positive number. Fix: set one.")


DEFAULT_PRIORS = Priors()
