"""Joining feedback with the decision it belongs to.

An event joins by its ``decision_id`` where it has one, else by the user's latest decision of which the
ad was shown; a conversion without one by the latest whose click it is attributed to, else whose view. The
windows of a conversion are those of the decision. Every impression gets exactly one label: ``click``, or
``no_click`` once its time has passed in event time; a click after that is reported as ``late``. A click whose
impression was never seen implies it. What cannot be joined still counts in the user's windows and is counted
as ``unjoined`` or ``repeated``; a look on the user's own account (``view``) has nothing to join.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Literal

from models.domain.decision import Outcome, OutcomeKind
from models.domain.events import AdEvent, Click, Conversion, Dwell, Hide, Impression, Swipe, View
from models.domain.ids import key64
from models.state.ledger import NOT_YET, Followed, Ledger

from .attribution import within

Through = Literal["", "click", "view"]
Place = tuple[Followed, int]
"""A decision and one of its slots."""


class Feedback:
    """The join of one shard; ``counts`` says how often it could not be made and why."""

    def __init__(self, ledger: Ledger, prefix: str) -> None:
        self.ledger = ledger
        self.counts: Counter[str] = Counter()
        self._prefix = prefix

    def join(self, event: AdEvent, no_click_after_s: int) -> Iterator[Outcome]:
        """Yield the outcomes of one event; an impression has so many seconds for its click."""
        if isinstance(event, View):
            return
        places = self._places(event)
        latest = next(places, None)
        if latest is None:
            self.counts["unjoined"] += 1
            return
        followed, slot = latest
        match event:
            case Impression():
                yield from self._impression(followed, slot, event, no_click_after_s)
            case Click():
                yield from self._click(followed, slot, event, no_click_after_s)
            case Conversion():
                yield from self._conversion(chain((latest,), places), event)
            case Dwell():
                yield outcome(followed, slot, "dwell", event.id, event.event_time, dwell_ms=event.dwell_ms)
            case Swipe() | Hide():
                kind: OutcomeKind = "swipe" if isinstance(event, Swipe) else "hide"
                yield outcome(followed, slot, kind, event.id, event.event_time)

    def names(self, event: AdEvent) -> bool:
        """Say whether an event names a decision that holds its ad, and so joins that one or nothing."""
        return event.decision_id is not None and next(self._places(event), None) is not None

    def unanswered(self, now_ms: int) -> Iterator[Outcome]:
        """Yield a ``no_click`` for every impression whose window has passed."""
        while (due := self.ledger.next_due(now_ms)) is not None:
            followed, slot, due_ms = due
            self.ledger.label(followed, slot)
            yield outcome(followed, slot, "no_click", "", due_ms)

    def _places(self, event: AdEvent) -> Iterator[Place]:
        """Yield what an event may belong to: what it names, else all that showed the ad, the latest first."""
        if event.decision_id is None:
            for followed in self.ledger.shown(event.user_id, event.ad_id):
                yield followed, followed.slot_of(event.ad_id)
            return
        named = self._named(event.decision_id)
        if named is not None and named.decision.user_id == event.user_id:
            slot = named.slot_of(event.ad_id)
            if slot >= 0:
                yield named, slot

    def _named(self, decision_id: str) -> Followed | None:
        if not decision_id.startswith(self._prefix):
            return None
        offset = decision_id[len(self._prefix) :]
        return self.ledger.find(int(offset)) if offset.isdecimal() and len(offset) < 20 else None

    def _impression(
        self, followed: Followed, slot: int, event: AdEvent, no_click_after_s: int
    ) -> Iterator[Outcome]:
        if followed.shown_ms[slot] != NOT_YET:
            self.counts["repeated"] += 1
            return
        due = event.event_time + no_click_after_s * 1000
        self.ledger.mark_shown(followed, slot, event.event_time, due)
        charge = charge_micros(followed, slot, "cpm")
        yield outcome(followed, slot, "impression", event.id, event.event_time, charge=charge)

    def _click(
        self, followed: Followed, slot: int, event: AdEvent, no_click_after_s: int
    ) -> Iterator[Outcome]:
        if followed.clicked_ms[slot] != NOT_YET:
            self.counts["repeated"] += 1
            return
        if followed.shown_ms[slot] == NOT_YET:
            yield from self._impression(followed, slot, event, no_click_after_s)
        late = self.ledger.label(followed, slot)
        self.ledger.mark_clicked(followed, slot, event.event_time)
        charge = charge_micros(followed, slot, "cpc")
        yield outcome(followed, slot, "click", event.id, event.event_time, charge=charge, late=late)

    def _conversion(self, places: Iterable[Place], event: Conversion) -> Iterator[Outcome]:
        found = attributed(places, event.event_time)
        if found is None:
            self.counts["unattributed"] += 1
            return
        (followed, slot), through = found
        yield outcome(
            followed, slot, "conversion", event.id, event.event_time,
            charge=charge_micros(followed, slot, "cpa"), value_micros=event.value_micros, through=through,
        )  # fmt: skip


def attributed(places: Iterable[Place], time_ms: int) -> tuple[Place, Through] | None:
    """Return what a conversion belongs to: the first place clicked in time, else the first seen in time."""
    viewed = None
    for place in places:
        followed, slot = place
        windows = followed.windows[slot]
        if within(followed.clicked_ms[slot], time_ms, windows.click_ms):
            return place, "click"
        if viewed is None and within(followed.shown_ms[slot], time_ms, windows.view_ms):
            viewed = place
    return None if viewed is None else (viewed, "view")


def charge_micros(followed: Followed, slot: int, billed: str) -> int:
    """Return what this event costs the campaign: the auction's price where the bid pays for it."""
    shown = followed.decision.ads[slot]
    if shown.bid_type != billed:
        return 0
    if billed == "cpm":
        return one_of_a_thousand(shown.price_micros, f"{followed.decision.decision_id}/{slot}")
    return shown.price_micros


def one_of_a_thousand(price_micros: int, impression: str) -> int:
    """Return what one impression costs at a price per thousand: whole micros, on average a thousandth.

    What does not divide evenly is a micro more for as many impressions of a thousand, by their hashes.
    """
    whole, rest = divmod(price_micros, 1000)
    return whole + 1 if rest and key64(impression) % 1000 < rest else whole


def outcome(
    followed: Followed,
    slot: int,
    kind: OutcomeKind,
    event_id: str,
    time_ms: int,
    *,
    charge: int = 0,
    dwell_ms: int = 0,
    value_micros: int = 0,
    late: bool = False,
    through: Through = "",
) -> Outcome:
    """Return the outcome that joins a decision's slot with one event."""
    decision, shown = followed.decision, followed.decision.ads[slot]
    return Outcome(
        kind=kind,
        decision_id=decision.decision_id,
        event_id=event_id,
        user_id=decision.user_id,
        ad_id=shown.ad_id,
        campaign_id=shown.campaign_id,
        creative_id=shown.creative_id,
        category=shown.category,
        segment=decision.segment,
        slot=slot,
        decision_time=decision.event_time,
        event_time=time_ms,
        pctr=shown.pctr,
        pcvr=shown.pcvr,
        propensity=shown.propensity,
        behavior_policy=decision.behavior_policy,
        parts=shown.parts,
        model_hash=decision.model_hash,
        adjustments_version=decision.adjustments_version,
        charge_micros=charge,
        dwell_ms=dwell_ms,
        value_micros=value_micros,
        late=late,
        through=through,
        creative_propensity=shown.creative_propensity,
        frozen_propensity=shown.frozen_propensity,
        bid_type=shown.bid_type,
        price_micros=shown.price_micros,
    )
