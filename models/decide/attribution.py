"""How long a decision's ads wait for what may follow, by the view in force when it was asked for."""

from __future__ import annotations

from models.domain.catalogue import Ad
from models.domain.decision import Decision
from models.state.ledger import Windows

from .view import View


def windows_of(view: View, decision: Decision) -> list[Windows]:
    """Return the conversion windows of each slot: the ad's own, else the policy's."""
    attribution, catalogue = view.policy.attribution, view.catalogue
    default = Windows(1000 * attribution.click_through_s, 1000 * attribution.view_through_s)
    rows = (catalogue.row_of.get(slot.ad_id) for slot in decision.ads)  # a recorded ad may be unknown here
    return [default if row is None else _own(catalogue.ads[row], default) for row in rows]


def _own(ad: Ad, default: Windows) -> Windows:
    if ad.click_through_s is None and ad.view_through_s is None:
        return default
    return Windows(
        default.click_ms if ad.click_through_s is None else 1000 * ad.click_through_s,
        default.view_ms if ad.view_through_s is None else 1000 * ad.view_through_s,
    )


def horizon_ms(view: View) -> int:
    """Return how long a decision waits for its first feedback: the longest window of policy and ads."""
    of = view.policy.attribution
    windows = of.click_through_s, of.view_through_s, of.no_click_after_s, view.catalogue.longest_window_s
    return 1000 * max(windows)
