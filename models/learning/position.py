"""Position bias: log examination odds per slot, estimated where slots were given at random.

In the randomised bucket an ad's slot depends on chance and on its rank value; the rank value's effect
is in the logged logit, which is the offset here, so what is left of a slot's click rate is the slot's
(an additive examination model; Wang et al., WSDM '18, use randomisation the same way). Slot 0 is the
reference and has log odds 0: base logits are read as those of the first slot.
"""

from __future__ import annotations

import numpy as np

from .impulse import ImpulseEngine
from .priors import Priors
from .protocol import NO_FEATURE, Examples

_LEVEL = 0
_SLOTS = 20
_PRIORS = Priors(bias=0.5, ad=1.0, time_constant_s=6 * 3600.0)


class PositionBias:
    """Learns one logit per slot; a level, learned beside them, takes the offset's overall error."""

    def __init__(self, least_labels: int = 1000) -> None:
        self.labels = 0
        self._least_labels = least_labels
        self._engine = ImpulseEngine(_PRIORS)

    def learn(self, slot: int, offset: float, label: float, time_ms: int, age_ms: int = -1) -> None:
        """Learn one label of the randomised bucket; ``age_ms`` 0 or more marks a correction."""
        column = 1 + slot if 0 < slot < _SLOTS else NO_FEATURE
        self.labels += age_ms < 0
        self._engine.learn(
            Examples(
                np.array([[_LEVEL, column, NO_FEATURE, NO_FEATURE]], np.int32),
                np.array([offset]),
                np.array([label]),
                np.array([time_ms], np.int64),
                np.ones(1),
                np.array([age_ms], np.int64),
            )
        )

    def logits(self, time_ms: int) -> tuple[float, ...]:
        """Return the log examination odds of slots 0.., empty until enough labels have been seen."""
        if self.labels < self._least_labels:
            return ()
        mean, _ = self._engine.posterior(np.arange(1, _SLOTS + 1), time_ms)
        learned = np.flatnonzero(self._engine.slots["seen"][1 : _SLOTS + 1])
        last = int(learned[-1]) if len(learned) else 0
        return (0.0, *(round(float(m), 3) for m in mean[1 : last + 1]))

    def values(self) -> list[object]:
        """Return the state as plain values."""
        return [self.labels, self._engine.to_bytes()]

    def restore(self, labels: int, engine: bytes) -> None:
        """Take the state of `values`."""
        self.labels = labels
        self._engine.restore(engine)
