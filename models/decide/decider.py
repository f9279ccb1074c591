"""From users who wait for a decision to decisions: retrieve, rank, adjust, explore, auction, explain.

Takes B users of one shard under one view; each row's result depends on that row alone.

Legend: B decisions, K candidates.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from msgspec import UNSET
from msgspec.structs import replace

from models.domain.decision import Decision, Parts, Rung, Slot, Trigger
from models.domain.events import Context, Request, UserEvent
from models.domain.ids import decision_id, key64
from models.domain.log import LogRecord
from models.learning.exploration import behavior_policy, randomized_users
from models.policy.caps import blocked_keys
from models.policy.diversity import Flags
from models.policy.eligibility import Eligibility, Situation
from models.scorer.interface import I32, I64
from models.scorer.segments import add_segments
from models.state.windows import NAMES

from .arithmetic import Logits, Offers, appraise, gathered
from .compiled_view import CompiledView
from .creatives import choose_creative, shown_pctr
from .frozen import frozen_propensities
from .profiles import Profiles
from .segments import behavioural_segment
from .slates import SlotFigures, fill
from .view import View
from .views import ViewBuilder

_NO_CONTEXT = Context()


class Job(NamedTuple):
    """A user who waits for a decision, and the record that asks for it."""

    row: int
    record: LogRecord
    event: UserEvent
    trigger: Trigger

    @property
    def decision_id(self) -> str:
        """Return the id of the decision to be made."""
        return decision_id(self.record.topic, self.record.partition, self.record.offset)

    @property
    def context(self) -> Context:
        """Return the request's context; a click or dwell brings none."""
        return self.event.context if isinstance(self.event, Request) else _NO_CONTEXT

    @property
    def placement_id(self) -> str:
        """Return the placement asked for."""
        return self.event.placement_id if isinstance(self.event, Request) else "default"


class Scored(NamedTuple):
    """The candidates of B decisions `[B, K]` as rows of the catalogue, and everything known of them."""

    rows: I32
    logits: Logits
    offers: Offers


class Decider:
    """Makes decisions; one per process, stateless but for the caches of views and scorers."""

    def __init__(self, views: ViewBuilder, history_length: int) -> None:
        self._views = views
        self.history_length = history_length

    def decide(self, view: View, profiles: Profiles, jobs: list[Job]) -> list[Decision]:
        """Return one decision per job; the jobs' users are all different."""
        compiled = self._views.compiled(view)
        rows = np.array([job.row for job in jobs], np.int64)
        times = np.array([job.event.event_time for job in jobs], np.int64)
        activity = profiles.windows.read(rows, times).tolist()
        segments = [
            job.context.segment or behavioural_segment(sums) for job, sums in zip(jobs, activity, strict=True)
        ]
        eligibility = find_eligible(compiled, profiles, jobs, segments, rows, times)
        scored = score_candidates(compiled, profiles, eligibility, segments, rows, times)
        explained = _Explained(compiled, jobs, activity, segments, eligibility, scored)
        if view.policy.expected_dwell:
            explained.tell_dwell(profiles, rows)
        return explained.decisions()


def find_eligible(
    compiled: CompiledView, profiles: Profiles, jobs: list[Job], segments: list[str], rows: I64, times: I64
) -> Eligibility:
    """Return which ads each of B users may see, and what kept the others out."""
    situations = [
        Situation(
            job.placement_id, with_segment(job.context, segment), job.event.event_time, compiled.exhausted
        )
        for job, segment in zip(jobs, segments, strict=True)
    ]
    return compiled.rules.eligible_batch(situations, blocked_keys(profiles.caps, rows, times, compiled.caps))


def with_segment(context: Context, segment: str) -> Context:
    """Return the context with the segment that holds for the decision."""
    if context.segment == segment:
        return context
    return Context(
        country=context.country,
        device=context.device,
        language=context.language,
        segment=segment,
        blocked_categories=context.blocked_categories,
    )


def score_candidates(
    compiled: CompiledView,
    profiles: Profiles,
    eligibility: Eligibility,
    segments: list[str],
    rows: I64,
    times: I64,
) -> Scored:
    """Retrieve and rank the candidates of B users and add the adjustments up."""
    view, scorer = compiled.view, compiled.view.scorer
    users = scorer.encode(profiles.history, rows)
    at = compiled.situations(segments)
    found, _ = scorer.retrieve(
        users, compiled.index, at.bias, at.bias_row, eligibility.words, view.policy.candidates
    )
    click, conversion = scorer.rank(profiles.history, rows, users, compiled.index, found)
    add_segments(click, found, scorer.segments.logits, at.model_row, compiled.model_category)
    taste, taste_variance = profiles.tastes.read(rows, gathered(view.catalogue.category_keys, found), times)
    learned = compiled.weights.parts(found, at.weight_row)
    logits = Logits(click, conversion, compiled.weights.bias[0], taste, taste_variance, learned)
    nu, reserve = view.policy.exploration.thompson_nu, view.policy.reserve_micros
    return Scored(found, logits, appraise(found, logits, compiled.ads, nu, reserve))


def _filled(compiled: CompiledView, jobs: list[Job], ids: list[str], scored: Scored) -> _Filled:
    policy = compiled.view.policy
    seeds = [key64(id_) for id_ in ids]
    users = np.array([key64(job.event.user_id) for job in jobs], np.uint64)
    randomized = randomized_users(users, policy.exploration)
    slots = np.array([_slots_wanted(job, policy.slots) for job in jobs], np.int64)
    slates = fill(compiled, *scored, np.array(seeds, np.uint64), randomized, slots)
    return _Filled(
        seeds,
        randomized.tolist(),
        (scored.rows >= 0).sum(axis=1).tolist(),
        slates.numbers.tolist(),
        slates.figures.tolist(),
        slates.propensity.tolist(),
        _frozen(compiled, scored, slates.numbers[:, :, 0], randomized),
    )


def _frozen(compiled: CompiledView, scored: Scored, shown: I64, randomized: Flags) -> list[list[float]]:
    """Return what the base model alone would have thought of randomised slots, by decision and slot."""
    return frozen_propensities(
        *scored, compiled.ads.bid_type, shown, randomized, compiled.facets, compiled.slate_rules,
        compiled.view.policy.exploration,
    ).tolist()  # fmt: skip


def _slots_wanted(job: Job, default: int) -> int:
    return (job.event.slots or default) if isinstance(job.event, Request) else default


class _Filled(NamedTuple):
    """What was decided, as lists by decision."""

    seeds: list[int]
    randomized: list[bool]
    candidates: list[int]
    numbers: list[list[list[int]]]
    figures: list[list[list[float]]]
    propensity: list[float]
    frozen: list[list[float]]


class _Explained:
    """Turns filled slots into decisions with their reasons."""

    def __init__(
        self,
        compiled: CompiledView,
        jobs: list[Job],
        activity: list[list[list[float]]],
        segments: list[str],
        eligibility: Eligibility,
        scored: Scored,
    ) -> None:
        self._compiled, self._jobs, self._activity = compiled, jobs, activity
        self._segments, self._eligibility = segments, eligibility
        self._ids = [job.decision_id for job in jobs]
        self._filled = _filled(compiled, jobs, self._ids, scored)
        self._rung: Rung = "full" if compiled.index.vectors.shape[1] else "popularity"
        self._dwell: list[list[float]] | None = None

    def tell_dwell(self, profiles: Profiles, rows: I64) -> None:
        """Let the slots say how long users stay after a click, where the model tells."""
        compiled = self._compiled
        shown = np.array(self._filled.numbers, np.int32)[:, :, 0]
        told = compiled.view.scorer.dwell_ms(profiles.history, rows, compiled.index, shown)
        self._dwell = None if told is None else told.tolist()

    def decisions(self) -> list[Decision]:
        """Return the decisions in the order of the jobs."""
        return [self._decision(b, job) for b, job in enumerate(self._jobs)]

    def _decision(self, b: int, job: Job) -> Decision:
        view, filled = self._compiled.view, self._filled
        return Decision(
            decision_id=self._ids[b],
            trigger=job.trigger,
            request_id=job.event.id,
            user_id=job.event.user_id,
            placement_id=job.placement_id,
            segment=self._segments[b],
            event_time=job.event.event_time,
            ingest_time=job.record.timestamp_ms,
            ads=self._slots(filled.numbers[b], filled.figures[b], b),
            candidates=filled.candidates[b],
            filtered=self._eligibility.filtered(b),
            activity=dict(zip(NAMES, map(tuple, self._activity[b]), strict=True)),
            behavior_policy=behavior_policy(view.policy.exploration, filled.randomized[b]),
            slate_propensity=filled.propensity[b],
            model_hash=view.scorer.model_hash,
            catalogue_version=view.catalogue.version,
            adjustments_version=view.weights.version,
            pacing_version=view.pacing.version,
            policy_version=view.policy.version,
            rung=self._rung,
        )

    def _slots(self, numbers: list[list[int]], figures: list[list[float]], b: int) -> tuple[Slot, ...]:
        filled = [(at, of) for at, of in zip(numbers, figures, strict=True) if at[0] >= 0]
        return tuple(self._slot(slot, at, SlotFigures(*of), b) for slot, (at, of) in enumerate(filled))

    def _slot(self, slot: int, numbers: list[int], figures: SlotFigures, b: int) -> Slot:
        row, ecpm, price = numbers
        compiled = self._compiled
        ad = compiled.view.catalogue.ads[row]
        made = Slot(
            slot=slot,
            ad_id=ad.ad_id,
            campaign_id=ad.campaign_id,
            creative_id="",
            category=ad.category,
            pctr=figures.pctr,
            pcvr=figures.pcvr,
            bid_type=ad.bid_type,
            bid_micros=ad.bid_micros,
            price_micros=price,
            ecpm_micros=ecpm,
            pacing=compiled.pacing[row],
            propensity=figures.propensity,
            frozen_propensity=self._filled.frozen[b][slot],
            parts=_parts(figures, compiled.weights.bias[0]),
            expected_dwell_ms=UNSET if self._dwell is None else self._dwell[b][slot],
        )
        return self._presented(made, row, b) if ad.creatives else made

    def _presented(self, slot: Slot, row: int, b: int) -> Slot:
        """Return the slot of an ad with creatives, with the one that it shows."""
        compiled, filled = self._compiled, self._filled
        exploration, randomized = compiled.view.policy.exploration, filled.randomized[b]
        choices = compiled.weights.choices(row)
        shown = choose_creative(choices, filled.seeds[b], exploration, randomized=randomized)
        parts = replace(slot.parts, ad=float(compiled.weights.ad[row, 0]), creative=shown.mean)
        return replace(
            slot,
            creative_id=shown.creative.creative_id if shown.creative else "",
            creative_propensity=shown.propensity,
            generated=shown.creative is not None and shown.creative.generated,
            pctr=shown_pctr(parts),
            parts=parts,
        )


def _parts(figures: SlotFigures, bias: float) -> Parts:
    return Parts(
        base=figures.base,
        bias=bias,
        ad=figures.ad,
        campaign=figures.campaign,
        segment_category=figures.segment_category,
        user_category=figures.user_category,
        exploration=figures.exploration,
    )
