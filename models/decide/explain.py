"""What became of one ad in one decision: kept out, not retrieved, not admitted, outranked, or shown.

Legend: K candidates, S slots.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import msgspec
import numpy as np

from models.domain.decision import Parts
from models.learning.exploration import behavior_policy
from models.policy.bitsets import popcount
from models.policy.eligibility import Eligibility
from models.policy.standing import reason_of
from models.policy.why_not import Why

from .arithmetic import drawn_in
from .asked import Asked
from .creatives import uncalibrated
from .decider import Scored
from .slate_trace import Contest, Place, Slate

Status = Literal["unknown", "kept_out", "not_retrieved", "not_admitted", "outranked", "shown"]


@dataclass(frozen=True)
class Worth:
    """What one ad is worth to this user now; ``value_micros`` before quality and pacing, per thousand.

    ``least_micros`` is the larger of the policy's reserve and the placement's floor.
    """

    pctr: float
    pcvr: float
    bid_type: str
    bid_micros: int
    floor_micros: int
    quality: float
    pacing: float
    value_micros: int
    ecpm_micros: int
    reserve_micros: int
    least_micros: int
    admitted: bool
    parts: Parts


@dataclass(frozen=True)
class Fate:
    """What became of one ad in one decision, step by step; the steps it did not reach are None or empty.

    ``why`` names the rules that keep an ad out, or the one of the auction that does not admit it.
    ``bid_needed_micros`` is the least bid that would have won the cheapest slot it competed for, all else
    equal; None in the randomised bucket, where the draw decides.
    """

    decision_id: str
    ad_id: str
    status: Status
    behavior_policy: str
    model_hash: str
    catalogue_version: str
    why: tuple[Why, ...] = ()
    retrieval: Place | None = None
    ranking: Place | None = None
    worth: Worth | None = None
    contests: tuple[Contest, ...] = ()
    slot: int | None = None
    bid_needed_micros: int | None = None


def fate_of(asked: Asked, ad_id: str) -> Fate:
    """Return what became of an ad in the decision that a job causes."""
    view = asked.compiled.view
    policy = behavior_policy(view.policy.exploration, asked.randomized, asked.owes_new)
    told = Fate(
        asked.job.decision_id, ad_id, "unknown", policy, view.scorer.model_hash, view.catalogue.version
    )
    row = view.catalogue.row_of.get(ad_id)
    if row is None:
        return told
    told = replace(told, worth=worth_of(asked, row), why=tuple(asked.rules_against(row)))
    return replace(told, status="kept_out") if told.why else _competed(asked, row, told)


def _competed(asked: Asked, row: int, told: Fate) -> Fate:
    """Return the fate of an eligible ad."""
    eligibility = asked.eligible()
    told = replace(told, retrieval=retrieval_place(asked, eligibility, row))
    scored = asked.scored(eligibility)
    found = np.flatnonzero(scored.rows[0] == row)
    if len(found) == 0:
        return replace(told, status="not_retrieved")
    slate, k = Slate.of(asked, scored), int(found[0])
    told = replace(told, ranking=slate.place(k))
    if k in slate.column:
        return replace(told, status="shown", slot=slate.column.index(k))
    if not scored.offers.log_rank[0, k] > -np.inf:
        why = unsold(told.worth, reason_of(int(scored.offers.standing[0, k])), asked.job.placement_id)
        return replace(told, status="not_admitted", why=(why,))
    contests = tuple(slate.contest(k, slot) for slot in range(len(slate.column)))
    bid = int(scored.offers.bid_micros[0, k])
    needed = None if asked.randomized else bid_needed(bid, contests)
    return replace(told, status="outranked", contests=contests, bid_needed_micros=needed)


def unsold(worth: Worth | None, reason: str, placement_id: str) -> Why:
    """Return which rule of the auction does not admit an ad; ``reason`` is one of CANDIDATE_REASONS."""
    assert worth is not None
    paced = 1.0 + worth.pacing
    held_back = f" (held back to 1/{paced:.2f})" if worth.pacing else ""
    value = f"worth {round(worth.value_micros / paced)} micros per thousand impressions{held_back}, "
    bid = f"a bid of {round(worth.bid_micros / paced)} micros{held_back}, "
    match reason:
        case "reserve":
            return Why(reason, f"{value}the reserve is {worth.reserve_micros}")
        case "placement_floor":
            return Why(reason, f"{value}the floor of placement {placement_id!r} is {worth.least_micros}")
        case "floor":
            return Why(reason, f"{bid}its own floor is {worth.floor_micros}")
        case _:
            return Why(reason, f"{value}so it competes for nothing")


def worth_of(asked: Asked, row: int) -> Worth:
    """Return what the ad of a row is worth to the job's user, eligible or not.

    An ad that no model can retrieve (a bid of 0) is worth nothing, and has no parts.
    """
    scored, compiled = asked.scored_alone(row), asked.compiled
    ad, offers = compiled.view.catalogue.ads[row], scored.offers
    known = scored.rows.shape[1] > 0 and int(scored.rows[0, 0]) == row
    return Worth(
        pctr=float(offers.pctr[0, 0]) if known else 0.0,
        pcvr=float(offers.pcvr[0, 0]) if known else 0.0,
        bid_type=ad.bid_type,
        bid_micros=ad.bid_micros,
        floor_micros=ad.floor_micros,
        quality=ad.quality,
        pacing=float(compiled.mu[row]),
        value_micros=round(float(offers.value[0, 0])) if known else 0,
        ecpm_micros=round(max(float(offers.rank[0, 0]), 0.0)) if known else 0,
        reserve_micros=compiled.view.policy.reserve_micros,
        least_micros=int(asked.terms.least_micros[0]),
        admitted=known and bool(offers.log_rank[0, 0] > -np.inf),
        parts=_parts(asked, scored) if known else Parts(base=0.0),
    )


def _parts(asked: Asked, scored: Scored) -> Parts:
    """Return the parts of the only candidate; ``creative`` is what its best one adds."""
    logits, weights, row = scored.logits, asked.compiled.weights, int(scored.rows[0, 0])
    parts = Parts(
        base=float(logits.click[0, 0]),
        bias=weights.bias[0],
        ad=float(weights.ad[row, 0]),
        campaign=float(logits.learned.campaign[0, 0]),
        segment_category=float(logits.learned.segment_category[0, 0]),
        user_category=float(logits.taste[0, 0]),
        creative=float(logits.learned.ad[0, 0] - weights.ad[row, 0]),
    )
    added = float(drawn_in(uncalibrated(parts), weights.calibration))
    return msgspec.structs.replace(parts, calibration=added)


def retrieval_place(asked: Asked, eligibility: Eligibility, row: int) -> Place:
    """Return where an eligible ad stands in retrieval, by asking for all eligible ads."""
    compiled, scorer = asked.compiled, asked.compiled.view.scorer
    count = int(popcount(eligibility.words[0]))
    users = asked.askers.encode(scorer)
    bias, bias_row, *_ = compiled.situations([asked.segment])
    found, _scores = scorer.retrieve(users, compiled.index, bias, bias_row, eligibility.words, count)
    places = np.flatnonzero(found[0] == row)
    return Place(int(places[0]) + 1 if len(places) else count, count, compiled.view.policy.candidates)


def bid_needed(bid_micros: int, contests: Sequence[Contest]) -> int | None:
    """Return the least bid with which an ad would have won the cheapest slot that was open to it."""
    gaps = [c.winner_value - c.own_value for c in contests if not c.ruled_out]
    return int(np.ceil(bid_micros * np.exp(min(gaps)))) + 1 if gaps else None
