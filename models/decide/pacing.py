"""What outcomes mean for the budgets: the pacer's food, the same in the flow and in the closed loop."""

from __future__ import annotations

from collections.abc import Sequence

from models.domain.decision import Outcome
from models.domain.events import Control
from models.learning.event_clock import EventClock
from models.policy.pacing import Pacer
from models.policy.under_way import CLICKS, CONVERSIONS, Bill


def paced(pacer: Pacer, outcomes: Sequence[Outcome], clock: EventClock | None = None) -> list[Control]:
    """Charge outcomes to their campaigns and return the change of multipliers, if one is due.

    Those that charge nothing move the pacer's clock too: a stopped campaign may have no others. An outcome
    whose time ``clock`` does not believe is charged as of now: one wild timestamp must not end the day of
    every budget.
    """
    latest_ms = 0
    for outcome in outcomes:
        time_ms = outcome.event_time
        if clock is not None and not clock.advance(time_ms, outcome.user_id):
            time_ms = clock.now_ms or 0
        latest_ms = max(latest_ms, time_ms)
        shown = 1 if outcome.kind == "impression" else 0
        if shown or outcome.charge_micros:
            pacer.observe(outcome.campaign_id, outcome.charge_micros, time_ms, shown, bill_of(outcome))
    if outcomes:
        pacer.advance(latest_ms)
    change = pacer.emit()
    return [] if change is None else [change]


def bill_of(outcome: Outcome) -> Bill | None:
    """Return what an impression foretells of later charges, or how long a foretold charge took.

    None for a bid per impression, whose charge comes at once.
    """
    if outcome.kind == "impression":
        click = outcome.pctr * outcome.price_micros
        match outcome.bid_type:
            case "cpc":
                return Bill(CLICKS, click)
            case "cpa":
                return Bill(CONVERSIONS, click * outcome.pcvr)
        return None
    by = CONVERSIONS if outcome.kind == "conversion" else CLICKS
    return Bill(by, waited_ms=outcome.event_time - outcome.decision_time)
