"""From users who wait for a decision to decisions: retrieve, rank, adjust, explore, auction, explain.

Takes B users of any shards under one view; each row's result depends on that row alone. What a call costs
besides is shared by its users, so the users of all shards that wait at one moment are decided together.

Legend: B decisions, K candidates.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain, islice
from typing import NamedTuple, Protocol

import numpy as np

from models.domain.decision import Decision
from models.domain.events import Context
from models.policy.diversity import Flags
from models.policy.eligibility import Eligibility, Situation
from models.policy.new_ads import CANDIDATES, eligible_new, with_new
from models.scorer.interface import F32, I32, I64
from models.scorer.segments import add_segments

from .arithmetic import Logits, Offers, appraise, gathered
from .askers import Askers
from .compiled_view import CompiledView, Situations
from .frozen import frozen_propensities
from .job import Job
from .profiles import Profiles
from .segments import behavioural_segment
from .slates import fill
from .terms import Terms, terms_of
from .view import View
from .views import ViewBuilder
from .writer import Filled, Writer


class Scored(NamedTuple):
    """The candidates of B decisions `[B, K]` as rows of the catalogue, and everything known of them."""

    rows: I32
    logits: Logits
    offers: Offers
    is_new: Flags
    """The new ads among the candidates of decisions that owe one; `[B, 0]` where none does."""


class Group(NamedTuple):
    """Users of one shard who wait for a decision, all of them different."""

    profiles: Profiles
    jobs: list[Job]


class Waiting(Protocol):
    """A shard whose users wait."""

    def asking(self) -> list[tuple[View, Group]]:
        """Return the jobs by the view that each is decided under, after what happened before was applied."""
        ...

    def receive(self, decisions: list[Decision]) -> None:
        """Take the decisions, in the order of the jobs, and go on, maybe to wait again."""
        ...


class Decider:
    """Makes decisions; one per process, with no state but the caches of views and scorers and who waits."""

    def __init__(self, views: ViewBuilder) -> None:
        self._views = views
        self.history_length = views.history_length
        self._waiting: dict[int, Waiting] = {}

    def await_turn(self, shard: Waiting) -> None:
        """Take note of a shard whose users wait until the next `settle`."""
        self._waiting[id(shard)] = shard

    def settle(self) -> None:
        """Make all decisions that are waited for, until no shard waits any more."""
        while self._waiting:
            waiting, self._waiting = list(self._waiting.values()), {}
            asked = [shard.asking() for shard in waiting]
            made = self._made(list(chain.from_iterable(asked)))
            for shard, groups in zip(waiting, asked, strict=True):
                jobs = sum(len(group.jobs) for _, group in groups)
                shard.receive(list(islice(made, jobs)))

    def _made(self, asked: list[tuple[View, Group]]) -> Iterator[Decision]:
        """Yield the decisions of all jobs in their order; those under one view are made together."""
        by_view: dict[int, tuple[View, list[Group]]] = {}
        for view, group in asked:
            by_view.setdefault(id(view), (view, []))[1].append(group)
        made = {id(view): iter(self.decide(view, groups)) for view, groups in by_view.values()}
        for view, group in asked:
            yield from islice(made[id(view)], len(group.jobs))

    def decide(self, view: View, groups: Sequence[Group]) -> list[Decision]:
        """Return one decision per job, group by group."""
        compiled = self._views.compiled(view)
        jobs = [job for group in groups for job in group.jobs]
        askers = askers_of(groups)
        activity = askers.activity()
        segments = [
            job.context.segment or behavioural_segment(sums) for job, sums in zip(jobs, activity, strict=True)
        ]
        eligibility = find_eligible(compiled, askers, jobs, segments)
        terms = terms_of(jobs, view.policy, compiled.placements)
        users = askers.encode(view.scorer)
        scored = score_candidates(compiled, askers, users, eligibility, segments, terms)
        filled = _filled(compiled, scored, terms)
        if view.policy.expected_dwell:
            filled = filled._replace(dwell_ms=_dwell_ms(compiled, askers, users, filled))
        return Writer(compiled, filled).decisions(jobs, activity, segments, eligibility)


def askers_of(groups: Sequence[Group]) -> Askers:
    """Return the users of these jobs at the times of the jobs."""
    return Askers.of(
        [(profiles, [job.row for job in jobs]) for profiles, jobs in groups],
        [job.event.event_time for group in groups for job in group.jobs],
    )


def find_eligible(
    compiled: CompiledView, askers: Askers, jobs: list[Job], segments: list[str]
) -> Eligibility:
    """Return which ads each of B users may see, and what kept the others out."""
    situations = [
        Situation(
            job.placement_id,
            with_segment(job.context, segment),
            job.event.event_time,
            compiled.exhausted(job.event.event_time),
        )
        for job, segment in zip(jobs, segments, strict=True)
    ]
    return compiled.rules.eligible_batch(situations, askers.blocked(compiled.caps))


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
    askers: Askers,
    users: F32,
    eligibility: Eligibility,
    segments: list[str],
    terms: Terms,
) -> Scored:
    """Retrieve and rank the candidates of B ``users`` (vectors `[B, D]`) and add the adjustments up."""
    view, scorer = compiled.view, compiled.view.scorer
    at = compiled.situations(segments)
    found, _ = scorer.retrieve(
        users, compiled.index, at.bias, at.bias_row, eligibility.words, view.policy.candidates
    )
    is_new = np.zeros((len(found), 0), np.bool_)
    if terms.owes_new.any():
        found, is_new = _with_new_ads(compiled, askers.times, users, at, eligibility, terms.owes_new, found)
    click, conversion = askers.rank(scorer, users, compiled.index, found)
    segment_logits, category = scorer.segments.logits, compiled.model_category
    add_segments(click, conversion, found, segment_logits, scorer.conversion_slope, at.model_row, category)
    askers.lean(scorer, at.model_row, category, found, click, conversion)
    taste, taste_variance = askers.tastes(gathered(view.catalogue.category_keys, found))
    learned = compiled.weights.parts(found, at.weight_row)
    bias, calibration = compiled.weights.bias[0], compiled.weights.calibration
    slope = scorer.adjustment_slope
    logits = Logits(click, conversion, bias, taste, taste_variance, learned, slope, calibration)
    nu, reserve = view.policy.exploration.thompson_nu, view.policy.reserve_micros
    offers = appraise(found, logits, compiled.ads, nu, reserve, terms.least_micros)
    return Scored(found, logits, offers, is_new)


def _with_new_ads(
    compiled: CompiledView,
    times: I64,
    users: F32,
    at: Situations,
    eligibility: Eligibility,
    owes: Flags,
    found: I32,
) -> tuple[I32, Flags]:
    """Return the candidates with the best new ads of those who owe one, and which of them are new."""
    after_ms = times[owes] - compiled.view.policy.new_ad_s * 1000
    words = eligible_new(compiled.new_ads, after_ms, eligibility.words[owes])
    extra, _ = compiled.view.scorer.retrieve(
        users[owes], compiled.index, at.bias, at.bias_row[owes], words, CANDIDATES
    )
    return with_new(found, owes, extra, words)


def _filled(compiled: CompiledView, scored: Scored, terms: Terms) -> Filled:
    slates = fill(compiled, *scored, terms)
    return Filled(
        terms.ids,
        terms.seed.tolist(),
        terms.randomized.tolist(),
        terms.owes_new.tolist(),
        (scored.rows >= 0).sum(axis=1).tolist(),
        slates.numbers.tolist(),
        slates.figures.tolist(),
        slates.propensity.tolist(),
        slates.kept_out.tolist(),
        _frozen(compiled, scored, slates.numbers[:, :, 0], terms.randomized),
    )


def _frozen(compiled: CompiledView, scored: Scored, shown: I64, randomized: Flags) -> list[list[float]]:
    """Return what the base model alone would have thought of randomised slots, by decision and slot."""
    return frozen_propensities(
        scored.rows, scored.logits, scored.offers, compiled.ads.bid_type, shown, randomized, compiled.facets,
        compiled.slate_rules, compiled.view.policy.exploration,
    ).tolist()  # fmt: skip


def _dwell_ms(compiled: CompiledView, askers: Askers, users: F32, filled: Filled) -> list[list[float]] | None:
    """Return how long users would stay after a click, by decision and slot, where the model tells."""
    shown = np.array(filled.numbers, np.int32)[:, :, 0]
    told = askers.dwell_ms(compiled.view.scorer, users, compiled.index, shown)
    return None if told is None else told.tolist()
