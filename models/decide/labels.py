"""What followed the shown ads of a recorded log, joined by the rules of `feedback`.

A log holds no decisions: whose and when one was is told by what asked for it, a request or a trigger of the
policy, and which ads it held by what was shown or clicked. Of conversions those count that belong to a click;
nothing is forgotten for want of room.
"""

from __future__ import annotations

from bisect import insort
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from models.domain.events import AdEvent, Click, Conversion, Dwell, Impression
from models.scorer.sequences import NEVER

from .attribution import either_ms, within
from .in_force import ClickWindows


class Asked(NamedTuple):
    """What asked for a decision, as the decision saw it."""

    offset: int
    user: int
    position: int
    """Events of the user's sequence before it."""
    segment: int
    time_ms: int
    click_through_s: int
    """How long after a click a conversion belongs to it, where the ad has no window of its own,"""
    own_windows: ClickWindows
    """and the ads' own."""

    def click_through_ms(self, ad_id: str) -> int:
        """Return how long after a click on an ad a conversion belongs to it."""
        return either_ms(self.own_windows.at(self.offset, ad_id), self.click_through_s)


@dataclass
class Shown:
    """An ad of a decision that was shown, and the first click, conversion and stay that followed."""

    asked: Asked
    ad_id: str
    time_ms: int
    click_through_ms: int
    slot: int | None = None
    clicked_ms: int = NEVER
    converted_ms: int = NEVER
    dwell_ms: int = NEVER


class ShownAds:
    """The ads that a log says were shown; feed it events and what asked in the order of the log."""

    def __init__(self) -> None:
        self._asked: dict[str, Asked] = {}
        self._shown: dict[tuple[str, str], Shown] = {}
        self._of_user: defaultdict[tuple[int, str], list[Shown]] = defaultdict(list)
        """The same by user and ad, in the order of the decisions."""

    def all(self) -> list[Shown]:
        """Return the shown ads in the order in which the log told of them."""
        return list(self._shown.values())

    def ask(self, decision: str, asked: Asked) -> None:
        """Note what a decision answers."""
        self._asked[decision] = asked

    def take(self, event: AdEvent, user: int) -> None:
        """Note what an event of a user tells."""
        match event:
            case Impression() if event.decision_id is not None:
                shown = self._place(event, user)
                if shown is not None and shown.slot is None:
                    shown.slot = event.slot
            case Click():
                shown = self._place(event, user)
                if shown is not None and shown.clicked_ms == NEVER:
                    shown.clicked_ms = event.event_time
            case Dwell():
                shown = next(iter(self._known(event, user)), None)
                if shown is not None and shown.clicked_ms != NEVER and shown.dwell_ms == NEVER:
                    shown.dwell_ms = event.dwell_ms
            case Conversion():
                time_ms, known = event.event_time, self._known(event, user)
                clicked = (s for s in known if within(s.clicked_ms, time_ms, s.click_through_ms))
                shown = next(clicked, None)
                if shown is not None and shown.converted_ms == NEVER:
                    shown.converted_ms = time_ms

    def erase(self, user: int) -> None:
        """Forget what was shown to a user."""
        self._shown = {key: shown for key, shown in self._shown.items() if shown.asked.user != user}
        for key in [key for key in self._of_user if key[0] == user]:
            del self._of_user[key]

    def _known(self, event: AdEvent, user: int) -> Iterable[Shown]:
        """Return what an event may belong to: what it names, else all that showed its ad, latest first."""
        if event.decision_id is None:
            return reversed(self._of_user.get((user, event.ad_id), []))
        named = self._shown.get((event.decision_id, event.ad_id))
        return () if named is None or named.asked.user != user else (named,)

    def _place(self, event: AdEvent, user: int) -> Shown | None:
        """Return what an impression or a click belongs to; a click implies the impression."""
        known = next(iter(self._known(event, user)), None)
        if known is not None or event.decision_id is None:
            return known
        asked = self._asked.get(event.decision_id)
        if asked is None or asked.user != user:  # not after an erasure, not of somebody else's
            return None
        shown = Shown(asked, event.ad_id, event.event_time, asked.click_through_ms(event.ad_id))
        self._shown[event.decision_id, event.ad_id] = shown
        insort(self._of_user[user, event.ad_id], shown, key=lambda each: each.asked.offset)
        return shown
