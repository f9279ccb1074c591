"""A recorded decision in words and figures: parts, auction, filters, propensity, and what would flip it."""

from __future__ import annotations

import math
from typing import Any

import msgspec
from msgspec import UNSET

from models.domain.decision import Decision, Parts, Slot

_LIMIT = 1e-9


def explained(decision: Decision) -> dict[str, Any]:
    """Return the explanation of a decision as JSON-ready values."""
    return {
        "decision_id": decision.decision_id,
        "user_id": decision.user_id,
        "segment": decision.segment,
        "trigger": decision.trigger,
        "rung": decision.rung,
        "behavior_policy": decision.behavior_policy,
        "slate_propensity": decision.slate_propensity,
        "candidates": decision.candidates,
        "filtered": dict(sorted(decision.filtered.items(), key=lambda item: -item[1])),
        "versions": {
            "model": decision.model_hash,
            "catalogue": decision.catalogue_version,
            "adjustments": decision.adjustments_version,
            "pacing": decision.pacing_version,
            "policy": decision.policy_version,
        },
        "slots": [_slot(decision, slot) for slot in decision.ads],
    }


def _slot(decision: Decision, slot: Slot) -> dict[str, Any]:
    parts: dict[str, float] = msgspec.to_builtins(slot.parts)
    above = decision.ads[slot.slot - 1] if slot.slot else None
    return {
        "slot": slot.slot,
        "ad_id": slot.ad_id,
        "campaign_id": slot.campaign_id,
        "creative": _creative(slot),
        "pctr": slot.pctr,
        "pcvr": slot.pcvr,
        "logit": logit_of(slot.parts),
        "parts": {name: value for name, value in parts.items() if name == "base" or value},
        "bid_type": slot.bid_type,
        "bid_micros": slot.bid_micros,
        "pacing": slot.pacing,
        "ecpm_micros": slot.ecpm_micros,
        "price_micros": slot.price_micros,
        "propensity": slot.propensity,
        "expected_dwell_ms": None if slot.expected_dwell_ms is UNSET else slot.expected_dwell_ms,
        "to_overtake": flip(slot, above) if above is not None else None,
    }


def _creative(slot: Slot) -> dict[str, Any] | None:
    if not slot.creative_id:
        return None
    shown = {} if slot.presentation is UNSET else msgspec.to_builtins(slot.presentation)
    return {
        "id": slot.creative_id, "propensity": slot.creative_propensity, "generated": slot.generated, **shown,
    }  # fmt: skip


def logit_of(parts: Parts) -> float:
    """Return the click logit without exploration: pctr is its sigmoid."""
    learned = parts.bias + parts.ad + parts.campaign + parts.segment_category
    return parts.base + learned + parts.user_category + parts.creative + parts.calibration


def flip(slot: Slot, above: Slot) -> dict[str, Any]:
    """Return what would have put an ad over the one above it, one change at a time, all else equal.

    The one above counts as it was drawn (its exploration in); this ad without a draw, since only the
    winner's is logged. A factor of at most 1 says that the ad already ranks higher by value: it stands
    lower because of the draw, or of a rule between the ads of a slate. ``pctr`` and ``logit`` are
    None where clicks cannot do it (bids per impression, or a probability of 1 would be needed).
    """
    factor = _drawn_value(above) / slot.ecpm_micros if slot.ecpm_micros else math.inf
    if not math.isfinite(factor):
        return {"ad_id": above.ad_id, "factor": None, "bid_micros": None, "pctr": None, "logit": None}
    pctr = slot.pctr * factor
    reachable = slot.bid_type != "cpm" and pctr < 1.0 - _LIMIT
    return {
        "ad_id": above.ad_id,
        "factor": factor,
        "bid_micros": math.ceil(slot.bid_micros * factor),
        "pctr": pctr if reachable else None,
        "logit": _logit(pctr) - _logit(slot.pctr) if reachable else None,
    }


def _drawn_value(slot: Slot) -> float:
    """Return the rank value by which an ad won: eCPM, moved as exploration moved its click probability."""
    if not slot.parts.exploration or slot.bid_type == "cpm":
        return float(slot.ecpm_micros)
    moved = 1.0 / (1.0 + math.exp(-(_logit(slot.pctr) + slot.parts.exploration)))
    return slot.ecpm_micros * moved / slot.pctr


def _logit(p: float) -> float:
    held = min(max(p, _LIMIT), 1.0 - _LIMIT)
    return math.log(held) - math.log1p(-held)
