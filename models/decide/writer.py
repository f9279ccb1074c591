"""From filled slots to decisions with their reasons."""

from __future__ import annotations

from itertools import product
from typing import NamedTuple

import msgspec
from msgspec import UNSET

from models.domain.catalogue import Creative
from models.domain.decision import Decision, Parts, Presentation, Rung, Slot
from models.learning.exploration import behavior_policy
from models.policy.eligibility import Eligibility
from models.policy.standing import counts_by_name
from models.state.windows import NAMES

from .arithmetic import drawn_in
from .compiled_view import CompiledView
from .creatives import AS_IT_STANDS, ShownCreative, choose_creative, shown_pctr, uncalibrated
from .job import Job
from .slates import SlotFigures


class Filled(NamedTuple):
    """What was decided, as lists by decision; see `slates.Slates` for numbers and figures."""

    ids: list[str]
    seeds: list[int]
    randomized: list[bool]
    owes_new: list[bool]
    candidates: list[int]
    numbers: list[list[list[int]]]
    figures: list[list[list[float]]]
    propensity: list[float]
    kept_out: list[list[int]]
    frozen: list[list[float]]
    dwell_ms: list[list[float]] | None = None
    """How long the users would stay after a click; None where nobody asks or the model does not tell."""


class Writer:
    """Writes the decisions of one batch down."""

    def __init__(self, compiled: CompiledView, filled: Filled) -> None:
        self._compiled, self._filled = compiled, filled
        exploration = compiled.view.policy.exploration
        self._policies = {
            kind: behavior_policy(exploration, *kind) for kind in product((False, True), repeat=2)
        }
        self._bias = compiled.weights.bias[0]
        self._rung: Rung = "full" if compiled.index.vectors.shape[1] else "popularity"

    def decisions(
        self,
        jobs: list[Job],
        activity: list[list[list[float]]],
        segments: list[str],
        eligibility: Eligibility,
    ) -> list[Decision]:
        """Return the decisions in the order of the jobs."""
        told = zip(jobs, activity, segments, eligibility.filtered_all(), strict=True)
        return [self._decision(b, *of_job) for b, of_job in enumerate(told)]

    def _decision(
        self, b: int, job: Job, activity: list[list[float]], segment: str, filtered: dict[str, int]
    ) -> Decision:
        view, filled = self._compiled.view, self._filled
        return Decision(
            decision_id=filled.ids[b],
            trigger=job.trigger,
            request_id=job.event.id,
            user_id=job.event.user_id,
            placement_id=job.placement_id,
            segment=segment,
            event_time=job.event.event_time,
            ingest_time=job.record.timestamp_ms,
            ads=self._slots(b, segment),
            candidates=filled.candidates[b],
            filtered=filtered | counts_by_name(filled.kept_out[b]),
            activity=dict(zip(NAMES, map(tuple, activity), strict=True)),
            behavior_policy=self._policies[filled.randomized[b], filled.owes_new[b]],
            slate_propensity=filled.propensity[b],
            model_hash=view.scorer.model_hash,
            catalogue_version=view.catalogue.version,
            adjustments_version=view.weights.version,
            pacing_version=view.pacing.version,
            policy_version=view.policy.version,
            rung=self._rung,
        )

    def _slots(self, b: int, segment: str) -> tuple[Slot, ...]:
        numbers, figures = self._filled.numbers[b], self._filled.figures[b]
        filled = [(at, of) for at, of in zip(numbers, figures, strict=True) if at[0] >= 0]
        return tuple(
            [self._slot(slot, at, SlotFigures(*of), b, segment) for slot, (at, of) in enumerate(filled)]
        )

    def _slot(self, slot: int, numbers: list[int], figures: SlotFigures, b: int, segment: str) -> Slot:
        row, ecpm, price = numbers
        compiled = self._compiled
        ad = compiled.view.catalogue.ads[row]
        shown = self._presented(row, b, segment) if ad.creatives else AS_IT_STANDS
        parts = Parts(
            base=figures.base,
            bias=self._bias,
            ad=float(compiled.weights.ad[row, 0]) if ad.creatives else figures.ad,
            campaign=figures.campaign,
            segment_category=figures.segment_category,
            user_category=figures.user_category,
            creative=shown.mean,
            exploration=figures.exploration,
        )
        if compiled.weights.calibration[0] != 1.0:
            added = float(drawn_in(uncalibrated(parts), compiled.weights.calibration))
            parts = msgspec.structs.replace(parts, calibration=added)
        return Slot(
            slot=slot,
            ad_id=ad.ad_id,
            campaign_id=ad.campaign_id,
            creative_id=shown.creative.creative_id if shown.creative else "",
            category=ad.category,
            pctr=shown_pctr(parts) if ad.creatives else figures.pctr,
            pcvr=figures.pcvr,
            bid_type=ad.bid_type,
            bid_micros=ad.bid_micros,
            price_micros=price,
            ecpm_micros=ecpm,
            pacing=compiled.pacing[row],
            propensity=figures.propensity,
            parts=parts,
            creative_propensity=shown.propensity,
            generated=shown.creative is not None and shown.creative.generated,
            frozen_propensity=self._filled.frozen[b][slot],
            expected_dwell_ms=UNSET if self._filled.dwell_ms is None else self._filled.dwell_ms[b][slot],
            presentation=UNSET if shown.creative is None else _presentation(shown.creative),
        )

    def _presented(self, row: int, b: int, segment: str) -> ShownCreative:
        """Return the creative that the ad of a row shows in a decision."""
        weights, exploration = self._compiled.weights, self._compiled.view.policy.exploration
        seed, randomized = self._filled.seeds[b], self._filled.randomized[b]
        return choose_creative(weights.choices(row, segment), seed, exploration, randomized=randomized)


def _presentation(creative: Creative) -> Presentation:
    return Presentation(
        headline=creative.headline, image_url=creative.image_url, call_to_action=creative.call_to_action
    )
