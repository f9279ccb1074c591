"""Sums that forget: what the guard's windows are made of."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class FadingSums:
    """Exponentially weighted sums over the last ``window`` labels or so: the float fields of a subclass."""

    window: int = 5000

    def fade_in(self, **terms: float) -> None:
        """Add a label's terms to the sums of these names, after a step of forgetting."""
        keep = 1.0 - 1.0 / self.window
        for name, term in terms.items():
            setattr(self, name, getattr(self, name) * keep + term)

    def correct_by(self, **changes: float) -> None:
        """Change sums by what turned out of a label that was taken earlier."""
        for name, change in changes.items():
            setattr(self, name, getattr(self, name) + change)
