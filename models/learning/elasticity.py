"""What a change in the share of a segment's views is worth in logits of a click, learned from its steps.

Each step that `interest` makes a weight take is judged a while later by where the clicks since then have put
the weight. Where views mean nothing for clicks the elasticity goes to 0, and steps with it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, NamedTuple

_MISFIT = 0.1
"""Variance of what a step ought to have been, however many clicks there are: views are not clicks."""

_LEAST_VARIANCE = 0.001
"""What views mean may change."""


class Judged(NamedTuple):
    """A weight as it was left by a step: posterior mean and variance, and when to look again."""

    before: float
    change: float
    mean: float
    variance: float
    due_ms: int


@dataclass
class Elasticity:
    """What a change of the log share of views is worth in logits, as a Gaussian belief.

    A step leaves a weight at N(m, v); ``after_s`` later it is at N(m', v'). What came between weighs
    L = 1/v' - 1/v and says (m'/v' - m/v) / L, so less the weight before the step, over d, it is an
    observation of the elasticity with variance (1/L + misfit) / d^2.
    """

    mean: float = 0.5
    variance: float = 0.0625
    after_s: float = 60.0
    pending: dict[str, Judged] = field(default_factory=dict)

    def expect(
        self, cell: str, before: float, change: float, after: tuple[float, float], now_ms: int,
        earlier: float = 0.0,
    ) -> None:  # fmt: skip
        """Note a step that was made; steps in quick succession are judged as one, after the last.

        ``earlier`` is what had changed by small steps that none was pending for; it is judged with this one.
        """
        held = self.pending.get(cell)
        if held is None:
            before, change = before - self.mean * earlier, change + earlier
        else:
            before, change = held.before, held.change + change
        self.pending[cell] = Judged(before, change, *after, now_ms + round(self.after_s * 1000))

    def refine(self, cell: str, change: float, step: float) -> None:
        """Add a small change, and its step, to the one that is pending; that is not judged later for it."""
        held = self.pending.get(cell)
        if held is not None:
            self.pending[cell] = held._replace(change=held.change + change, mean=held.mean + step)

    def trust(self, cell: str, variance: float) -> float:
        """Return how far a small step is to be made, 0 to 1, where the weight has this variance now.

        It makes a large one more exact that is still pending. As far as clicks have done so since, which
        is how much smaller they have made the variance, it is not made again.
        """
        held = self.pending.get(cell)
        return 1.0 if held is None else min(variance / held.variance, 1.0)

    def due(self, now_ms: int) -> list[str]:
        """Return the cells that are to be judged now."""
        return [cell for cell, held in self.pending.items() if held.due_ms <= now_ms]

    def drop(self, cell: str) -> None:
        """Judge no step of this cell: its weight is gone."""
        self.pending.pop(cell, None)

    def judge(self, cell: str, mean: float, variance: float) -> None:
        """Learn from where a cell's weight has come to."""
        held = self.pending.pop(cell)
        weight = 1.0 / variance - 1.0 / held.variance
        if weight <= 0.0 or abs(held.change) < 1e-6:
            return
        said = (mean / variance - held.mean / held.variance) / weight
        seen = (said - held.before) / held.change
        noise = (1.0 / weight + _MISFIT) / held.change**2
        gain = self.variance / (self.variance + noise)
        if math.isfinite(seen):
            self.mean = min(max(self.mean + gain * (seen - self.mean), 0.0), 2.0)
            self.variance = max(self.variance * (1.0 - gain), _LEAST_VARIANCE)

    def values(self) -> dict[str, Any]:
        """Return the state as plain values."""
        return {
            "belief": [self.mean, self.variance],
            "pending": {c: list(j) for c, j in self.pending.items()},
        }

    def restore(self, values: dict[str, Any]) -> None:
        """Take the state of `values`."""
        self.mean, self.variance = values["belief"]
        self.pending = {cell: Judged(*one) for cell, one in values["pending"].items()}
