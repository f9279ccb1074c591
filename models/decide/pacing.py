"""What outcomes mean for the budgets: the pacer's food, the same in the flow and in the closed loop."""

from __future__ import annotations

from collections.abc import Sequence

from models.domain.decision import Outcome
from models.domain.events import Control
from models.policy.pacing import Pacer


def paced(pacer: Pacer, outcomes: Sequence[Outcome]) -> list[Control]:
    """Charge outcomes to their campaigns and return the change of multipliers, if one is due."""
    for outcome in outcomes:
        shown = 1 if outcome.kind == "impression" else 0
        if shown or outcome.charge_micros:
            pacer.observe(outcome.campaign_id, outcome.charge_micros, outcome.event_time, shown)
    change = pacer.emit()
    return [] if change is None else [change]
