"""How simulated users answer a decision: impressions, clicks, dwell, swipes, hides, conversions.

Legend: N shown slots of a batch of decisions. Every draw depends on the user, the ad and the time, not on
the decision's id: two policies that show the same get the same answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri

from models.domain.decision import Decision
from models.domain.events import Click, Conversion, Dwell, Hide, Impression, Swipe

from .draws import F64, uniform
from .population import I64, Bools
from .traffic import Timed
from .truth import Truth

_SLOT_GAP_MS = 400


@dataclass(frozen=True, eq=False)
class Shown:
    """What a batch of decisions put in front of users, one row per slot `[N]`."""

    decision: I64
    """Index of the decision in the batch."""
    slot: I64
    user: I64
    ad: I64
    time_ms: I64
    visible: F64
    """Probability that the slot comes into view."""
    examination: F64
    """Probability that a slot in view is looked at."""
    pctr: F64
    pcvr: F64

    @property
    def click_probability(self) -> F64:
        """P(click | impression) `[N]`, position bias included."""
        return self.examination * self.pctr


@dataclass(frozen=True, eq=False)
class Answer:
    """What the users did, as bools per row of `Shown`."""

    impression: Bools
    click: Bools
    conversion: Bools
    swipe: Bools
    hide: Bools


def _per_slot(values: Sequence[float], slot: I64) -> F64:
    return np.asarray(values, dtype=np.float64)[np.minimum(slot, len(values) - 1)]


def shown(truth: Truth, decisions: Sequence[Decision]) -> Shown:
    """Return the slots of `decisions` with what is true of them; users and ads unknown here are left out."""
    users, ads = truth.users.row_of, truth.ads.row_of
    rows = [
        (i, slot.slot, users[d.user_id], ads[slot.ad_id], d.event_time)
        for i, d in enumerate(decisions)
        if d.user_id in users
        for slot in d.ads
        if slot.ad_id in ads
    ]
    decision, slot, user, ad, time_ms = np.array(rows, dtype=np.int64).reshape(-1, 5).T
    pctr, pcvr = truth.pairs(user, ad, time_ms) if rows else (np.zeros(0), np.zeros(0))
    reactions = truth.config.reactions
    return Shown(
        decision, slot, user, ad, time_ms,
        visible=_per_slot(reactions.visible, slot),
        examination=_per_slot(reactions.examination, slot),
        pctr=pctr, pcvr=pcvr,
    )  # fmt: skip


def answer(truth: Truth, what: Shown) -> Answer:
    """Draw what the users do. How far a user scrolls is one draw per decision: views are a cascade."""
    reactions, seed = truth.config.reactions, truth.config.seed
    scroll = uniform(seed, "scroll", what.user, what.time_ms)
    impression = scroll < what.visible

    def happens(purpose: str, probability: F64 | float) -> Bools:
        drawn: Bools = uniform(seed, purpose, what.user, what.ad, what.time_ms) < probability
        return drawn

    examined = impression & happens("examine", what.examination)
    click = examined & happens("click", what.pctr)
    left = examined & ~click
    return Answer(
        impression=impression,
        click=click,
        conversion=click & happens("convert", what.pcvr),
        swipe=left & happens("swipe", reactions.swipe),
        hide=left & happens("hide", reactions.hide * 2 * (1 - what.pctr)),
    )


@dataclass(frozen=True, eq=False)
class Delays:
    """When things happen, milliseconds of UTC per row of `Shown` `[N]`."""

    impression: I64
    click: I64
    dwell_ms: I64
    conversion: I64


def delays(truth: Truth, what: Shown, earliest_ms: int) -> Delays:
    """Draw when the events happen; none before `earliest_ms` (a late decision is answered late)."""
    reactions, seed = truth.config.reactions, truth.config.seed

    def exponential(purpose: str) -> F64:
        drawn: F64 = -np.log(uniform(seed, purpose, what.user, what.ad, what.time_ms))
        return drawn

    start = np.maximum(what.time_ms, earliest_ms) + reactions.render_ms
    impression = start + what.slot * _SLOT_GAP_MS
    click = impression + 200 + 1000 * reactions.click_after_s * exponential("click after")
    spread = ndtri(uniform(seed, "dwell", what.user, what.ad, what.time_ms))
    dwell = 1000 * reactions.dwell_s * np.exp(reactions.dwell_sd * spread) * (0.5 + what.pctr)
    wait = 1000 * truth.ads.delay_s[what.ad] * exponential("conversion after")
    return Delays(
        impression=impression,
        click=click.astype(np.int64),
        dwell_ms=np.clip(dwell, 100, 3_600_000).astype(np.int64),
        conversion=(click + 1000 + wait).astype(np.int64),
    )


def events(
    truth: Truth, decisions: Sequence[Decision], what: Shown, did: Answer, when: Delays
) -> list[Timed]:
    """Return the events of the answers, in no order."""
    made: list[Timed] = []
    value = truth.config.reactions.conversion_value_micros
    for i in np.flatnonzero(did.impression).tolist():
        decision = decisions[what.decision[i]]
        slot, user_id, ad_id = int(what.slot[i]), decision.user_id, truth.ads.ads[what.ad[i]].ad_id
        name, seen = f"{decision.decision_id}:{slot}", int(when.impression[i])
        about = {"user_id": user_id, "ad_id": ad_id, "decision_id": decision.decision_id}
        made.append((seen, f"i:{name}", Impression(id=f"i:{name}", event_time=seen, slot=slot, **about)))
        if did.click[i]:
            clicked, dwell = int(when.click[i]), int(when.dwell_ms[i])
            left = clicked + dwell
            made.append((clicked, f"c:{name}", Click(id=f"c:{name}", event_time=clicked, **about)))
            stay = Dwell(id=f"d:{name}", event_time=left, dwell_ms=dwell, **about)
            made.append((left, stay.id, stay))
        if did.conversion[i]:
            at = int(when.conversion[i])
            bought = Conversion(id=f"b:{name}", event_time=at, value_micros=value, **about)
            made.append((at, bought.id, bought))
        if did.swipe[i]:
            swipe = Swipe(id=f"s:{name}", event_time=seen + 1000, **about)
            made.append((seen + 1000, swipe.id, swipe))
        if did.hide[i]:
            hide = Hide(id=f"h:{name}", event_time=seen + 2000, **about)
            made.append((seen + 2000, hide.id, hide))
    return made
