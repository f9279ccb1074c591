"""How the pacer steers."""

from __future__ import annotations

from dataclasses import dataclass

from .slow_start import first_multiplier


@dataclass(frozen=True)
class PacingSettings:
    """How the pacer steers; the defaults hold for capacities of 2 to 50 times the budget."""

    eta: float = 0.12
    """Step of the dual descent; .04 to .2 all work, the larger the tighter the budget."""
    mu_max: float = 100.0
    first_mu: float | None = None
    """Multiplier that a campaign with a budget begins with; 0: at its full bid; None: by ``delay_s``."""
    delay_s: float = 60.0
    """How long after a decision its outcomes may reach the pacer."""
    deviations: float = 3.0
    """Width of the margin for chance in the spend under way."""
    emit_every_ms: int = 1_000
    tolerance: float = 0.01
    """Relative change of 1 + mu below which a multiplier is not broadcast again."""
    max_campaigns: int = 1_000_000
    plan: tuple[float, ...] = ()
    """Known weights of a day's hours or quarters (24 or 96) to begin with; none: foretold."""
    first_version: int = 1
    """Version of the first record; above every version in the log when a pacer starts without a snapshot."""

    @property
    def start_mu(self) -> float:
        """The multiplier that a start begins with."""
        first = first_multiplier(self.delay_s) if self.first_mu is None else self.first_mu
        return min(first, self.mu_max)


DEFAULTS = PacingSettings()
