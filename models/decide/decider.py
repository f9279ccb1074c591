"""From users who wait for a decision to decisions: retrieve, rank, adjust, explore, auction, explain.

Takes B users of one shard under one view; each row's result depends on that row alone.

Legend: B decisions, K candidates, S slots, A ads.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.domain.catalogue import BID_TYPES
from models.domain.decision import Decision, Parts, Rung, Slot, Trigger
from models.domain.events import Context, Request, UserEvent
from models.domain.ids import decision_id, key64
from models.domain.log import LogRecord
from models.learning.compiled import CandidateParts
from models.learning.exploration import behavior_policy, randomized_users
from models.policy.auction import ecpm_micros
from models.policy.caps import blocked_keys
from models.policy.creatives import choose_creative
from models.policy.eligibility import Eligibility, Situation
from models.scorer.interface import F32, I32, I64
from models.state.windows import NAMES

from .arithmetic import F64, gathered, probabilities, summed
from .compiled_view import CompiledView
from .profiles import Profiles
from .segments import behavioural_segment
from .slates import Candidates, Slates, fill
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


@dataclass(frozen=True)
class _Scored:
    """Everything known about the candidates of B decisions; arrays are `[B, K]`."""

    candidates: Candidates
    base: F32
    parts: CandidateParts
    taste: F64


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
        eligibility = _eligible(compiled, profiles, jobs, segments, rows, times)
        scored = _scored(compiled, profiles, eligibility, segments, rows, times)
        return _Explained(compiled, jobs, activity, segments, eligibility, scored).decisions()


def _eligible(
    compiled: CompiledView, profiles: Profiles, jobs: list[Job], segments: list[str], rows: I64, times: I64
) -> Eligibility:
    situations = [
        Situation(
            job.placement_id, _with_segment(job.context, segment), job.event.event_time, compiled.exhausted
        )
        for job, segment in zip(jobs, segments, strict=True)
    ]
    return compiled.rules.eligible_batch(situations, blocked_keys(profiles.caps, rows, times, compiled.caps))


def _with_segment(context: Context, segment: str) -> Context:
    if context.segment == segment:
        return context
    return Context(
        country=context.country,
        device=context.device,
        language=context.language,
        segment=segment,
        blocked_categories=context.blocked_categories,
    )


def _scored(
    compiled: CompiledView,
    profiles: Profiles,
    eligibility: Eligibility,
    segments: list[str],
    rows: I64,
    times: I64,
) -> _Scored:
    """Retrieve and rank the candidates of B users and add the adjustments up."""
    view, scorer = compiled.view, compiled.view.scorer
    users = scorer.encode(profiles.history, rows)
    bias, bias_row = compiled.situations(segments)
    found, _ = scorer.retrieve(
        users, compiled.index, bias, bias_row, eligibility.words, view.policy.candidates
    )
    click, conversion = scorer.rank(profiles.history, rows, users, compiled.index, found)
    parts = compiled.weights.parts(found, compiled.weights.segment_rows(segments))
    taste, taste_variance = profiles.tastes.read(rows, gathered(view.catalogue.category_keys, found), times)
    logits = summed(click, compiled.weights.bias[0], parts.ad, parts.campaign, parts.segment_category, taste)
    candidates = Candidates(
        rows=found,
        keys=gathered(view.catalogue.keys, found),
        pctr=probabilities(logits),
        pcvr=probabilities(conversion.astype(np.float64) + parts.conversion),
        variance=parts.variance + taste_variance,
        ad_variance=_ad_variance(compiled, found),
    )
    return _Scored(candidates, click, parts, taste)


def _ad_variance(compiled: CompiledView, rows: I32) -> F64:
    variance = compiled.weights.ad[:, 1]
    return variance[rows] if len(variance) else np.zeros(rows.shape)


class _Explained:
    """Turns the scored candidates of B decisions into decisions with their reasons."""

    def __init__(
        self,
        compiled: CompiledView,
        jobs: list[Job],
        activity: list[list[list[float]]],
        segments: list[str],
        eligibility: Eligibility,
        scored: _Scored,
    ) -> None:
        self._compiled, self._jobs, self._activity = compiled, jobs, activity
        self._segments, self._eligibility, self._scored = segments, eligibility, scored
        policy = compiled.view.policy
        users = np.array([key64(job.event.user_id) for job in jobs], np.uint64)
        self._seeds = np.array([key64(job.decision_id) for job in jobs], np.uint64)
        self._randomized = randomized_users(users, policy.exploration)
        self._rung: Rung = "full" if compiled.index.vectors.shape[1] else "popularity"

    def decisions(self) -> list[Decision]:
        """Return the decisions in the order of the jobs."""
        default = self._compiled.view.policy.slots
        wanted = [_slots_wanted(job, default) for job in self._jobs]
        made: dict[int, Decision] = {}
        for slots in sorted(set(wanted)):
            chosen = [b for b, slots_wanted in enumerate(wanted) if slots_wanted == slots]
            made.update(zip(chosen, self._of_size(np.array(chosen, np.int64), slots), strict=True))
        return [made[b] for b in range(len(self._jobs))]

    def _of_size(self, chosen: I64, slots: int) -> list[Decision]:
        candidates = _rows_of(self._scored.candidates, chosen)
        slates = fill(self._compiled, candidates, self._seeds[chosen], self._randomized[chosen], slots)
        seeds = self._seeds[chosen].tolist()
        columns = _SlotColumns.of(self._compiled, self._scored, candidates, slates, chosen, seeds)
        counts = (candidates.rows >= 0).sum(axis=1).tolist()
        whole = slates.slate_propensity.tolist()
        return [
            self._decision(b, columns.slots(i), counts[i], whole[i]) for i, b in enumerate(chosen.tolist())
        ]

    def _decision(self, b: int, ads: tuple[Slot, ...], candidates: int, propensity: float) -> Decision:
        job, view = self._jobs[b], self._compiled.view
        return Decision(
            decision_id=job.decision_id,
            trigger=job.trigger,
            request_id=job.event.id,
            user_id=job.event.user_id,
            placement_id=job.placement_id,
            segment=self._segments[b],
            event_time=job.event.event_time,
            ingest_time=job.record.timestamp_ms,
            ads=ads,
            candidates=candidates,
            filtered=self._eligibility.filtered(b),
            activity=dict(zip(NAMES, map(tuple, self._activity[b]), strict=True)),
            behavior_policy=behavior_policy(view.policy.exploration, bool(self._randomized[b])),
            slate_propensity=propensity,
            model_hash=view.scorer.model_hash,
            catalogue_version=view.catalogue.version,
            adjustments_version=view.weights.version,
            pacing_version=view.pacing.version,
            policy_version=view.policy.version,
            rung=self._rung,
        )


def _slots_wanted(job: Job, default: int) -> int:
    return (job.event.slots or default) if isinstance(job.event, Request) else default


def _rows_of(candidates: Candidates, chosen: I64) -> Candidates:
    return Candidates(**{name: values[chosen] for name, values in vars(candidates).items()})


class _SlotColumns(NamedTuple):
    """What the slots of B decisions say, as nested lists `[B][S]`."""

    compiled: CompiledView
    seeds: list[int]
    bias: float
    rows: list[list[int]]
    pctr: list[list[float]]
    pcvr: list[list[float]]
    ecpm: list[list[int]]
    price: list[list[int]]
    propensity: list[list[float]]
    base: list[list[float]]
    ad: list[list[float]]
    campaign: list[list[float]]
    segment_category: list[list[float]]
    user_category: list[list[float]]
    exploration: list[list[float]]

    @classmethod
    def of(
        cls,
        compiled: CompiledView,
        scored: _Scored,
        candidates: Candidates,
        slates: Slates,
        chosen: I64,
        seeds: list[int],
    ) -> _SlotColumns:
        """Gather the candidates that stand in slots."""
        column = np.maximum(slates.column, 0)

        def at(values: NDArray[np.generic]) -> list[list[float]]:
            picked: list[list[float]] = np.take_along_axis(values, column, axis=1).tolist()
            return picked

        rows = np.where(slates.column >= 0, np.take_along_axis(candidates.rows, column, axis=1), -1)
        parts = scored.parts
        return cls(
            compiled,
            seeds,
            compiled.weights.bias[0],
            rows.tolist(),
            at(candidates.pctr),
            at(candidates.pcvr),
            np.take_along_axis(ecpm_micros(slates.rank), column, axis=1).tolist(),
            slates.price_micros.tolist(),
            slates.propensity.tolist(),
            at(scored.base[chosen].astype(np.float64)),
            at(parts.ad[chosen]),
            at(parts.campaign[chosen]),
            at(parts.segment_category[chosen]),
            at(scored.taste[chosen]),
            slates.exploration.tolist(),
        )

    def slots(self, i: int) -> tuple[Slot, ...]:
        """Return the filled slots of one decision."""
        filled = [s for s, row in enumerate(self.rows[i]) if row >= 0]
        return tuple(self._slot(i, s, place) for place, s in enumerate(filled))

    def _slot(self, i: int, s: int, place: int) -> Slot:
        row = self.rows[i][s]
        ad = self.compiled.view.catalogue.ads[row]
        nu = self.compiled.view.policy.exploration.thompson_nu
        creative = choose_creative(ad, {}, nu, self.seeds[i]) if ad.creatives else None
        return Slot(
            slot=place,
            ad_id=ad.ad_id,
            campaign_id=ad.campaign_id,
            creative_id=creative.creative_id if creative else "",
            category=ad.category,
            pctr=self.pctr[i][s],
            pcvr=self.pcvr[i][s],
            bid_type=BID_TYPES[self.compiled.view.catalogue.bid_type[row]],
            bid_micros=ad.bid_micros,
            price_micros=self.price[i][s],
            ecpm_micros=self.ecpm[i][s],
            pacing=float(self.compiled.mu[row]),
            propensity=self.propensity[i][s],
            parts=self._parts(i, s),
        )

    def _parts(self, i: int, s: int) -> Parts:
        return Parts(
            base=self.base[i][s],
            bias=self.bias,
            ad=self.ad[i][s],
            campaign=self.campaign[i][s],
            segment_category=self.segment_category[i][s],
            user_category=self.user_category[i][s],
            exploration=self.exploration[i][s],
        )
