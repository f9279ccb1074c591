"""What outcomes mean for the budgets: the pacer's food, the same in the flow and in the closed loop."""

from __future__ import annotations

from collections.abc import Sequence

from models.domain.decision import Outcome
from models.domain.events import Control
from models.learning.event_clock import EventClock
from models.policy.pacing import Pacer


def paced(pacer: Pacer, outcomes: Sequence[Outcome], clock: EventClock | None = None) -> list[Control]:
    """Charge outcomes to their campaigns and return the change of multipliers, if one is due.

    An outcome whose time ``clock`` does not believe is charged as of now: one wild timestamp must not end
    the day of every budget.
    """
    for outcome in outcomes:
        time_ms = outcome.event_time
        if clock is not None and not clock.advance(time_ms, outcome.user_id):
            time_ms = clock.now_ms or 0
        shown = 1 if outcome.kind == "impression" else 0
        if shown or outcome.charge_micros:
            pacer.observe(outcome.campaign_id, outcome.charge_micros, time_ms, shown)
    change = pacer.emit()
    return [] if change is None else [change]
