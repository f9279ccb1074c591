"""How long a decision's ads wait for what may follow, by the view in force when it was asked for."""

from __future__ import annotations

from models.domain.catalogue import Ad
from models.domain.decision import Decision
from models.domain.policy import Attribution
from models.state.ledger import Windows

from .view import View


def windows_of(view: View, decision: Decision) -> list[Windows]:
    """Return the conversion windows of each slot: the ad's own, else the policy's."""
    attribution, catalogue = view.policy.attribution, view.catalogue
    default = _own(None, None, attribution)
    return [_windows(catalogue.ad(slot.ad_id), attribution, default) for slot in decision.ads]


def _windows(ad: Ad | None, attribution: Attribution, default: Windows) -> Windows:
    if ad is None or (ad.click_through_s is None and ad.view_through_s is None):
        return default
    return _own(ad.click_through_s, ad.view_through_s, attribution)


def _own(click_s: int | None, view_s: int | None, policys: Attribution) -> Windows:
    return Windows(either_ms(click_s, policys.click_through_s), either_ms(view_s, policys.view_through_s))


def either_ms(own_s: int | None, policys_s: int) -> int:
    """Return a window: the ad's own where it has one, else the policy's."""
    return 1000 * (policys_s if own_s is None else own_s)


def within(since_ms: int, time_ms: int, window_ms: int) -> bool:
    """Say whether a time belongs to what happened at ``since_ms``; that is negative where nothing did."""
    return 0 <= since_ms <= time_ms <= since_ms + window_ms


def horizon_ms(view: View) -> int:
    """Return how long a decision waits for its first feedback: the longest window of policy and ads."""
    of = view.policy.attribution
    windows = of.click_through_s, of.view_through_s, of.no_click_after_s, view.catalogue.longest_window_s
    return 1000 * max(windows)
