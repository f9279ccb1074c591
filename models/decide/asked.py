"""One decision's inputs, gathered as the decider gathers them, for everything that looks over its shoulder.

The functions that decide are called here, so an explanation cannot drift from the decision it explains.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from models.domain.decision import Decision
from models.policy.bitsets import pack
from models.policy.eligibility import Eligibility, Situation
from models.policy.why_not import Why, why_not

from .askers import Askers
from .compiled_view import CompiledView
from .decider import (
    Decider,
    Group,
    Scored,
    askers_of,
    find_eligible,
    score_candidates,
    with_segment,
)
from .job import Job
from .profiles import Profiles
from .segments import behavioural_segment
from .terms import Terms, terms_of
from .view import View
from .views import ViewBuilder

Watch = Callable[[View, Profiles, Job], None]


class WatchedDecider(Decider):
    """Decides as `Decider` does, and shows each job to ``watch`` first, with the state it is decided from.

    Parameters
    ----------
    recorded
        Decisions that were made already, by id: they are followed instead of deciding anew, so that the
        state of a shard moves on as it did, whatever model is in force here.

    """

    def __init__(
        self,
        views: ViewBuilder,
        watch: Watch,
        recorded: Mapping[str, Decision] | None = None,
    ) -> None:
        super().__init__(views)
        self._watch = watch
        self._recorded = recorded or {}

    def decide(self, view: View, groups: Sequence[Group]) -> list[Decision]:
        """Return one decision per job: the recorded one, or else the one made here."""
        jobs = [job for group in groups for job in group.jobs]
        for profiles, of_shard in groups:
            for job in of_shard:
                self._watch(view, profiles, job)
        made = {id_: self._recorded[id_] for job in jobs if (id_ := job.decision_id) in self._recorded}
        missing = [Group(p, [job for job in own if job.decision_id not in made]) for p, own in groups]
        if left := [group for group in missing if group.jobs]:
            made.update((decision.decision_id, decision) for decision in super().decide(view, left))
        return [made[job.decision_id] for job in jobs]


class Asked(NamedTuple):
    """One job with everything that the decider reads for it."""

    compiled: CompiledView
    profiles: Profiles
    job: Job
    segment: str
    askers: Askers
    terms: Terms

    @classmethod
    def of(cls, compiled: CompiledView, profiles: Profiles, job: Job) -> Asked:
        """Gather what a job's decision is made from."""
        askers = askers_of([Group(profiles, [job])])
        segment = job.context.segment or behavioural_segment(askers.activity()[0])
        terms = terms_of([job], compiled.view.policy, compiled.placements)
        return cls(compiled, profiles, job, segment, askers, terms)

    @property
    def slots(self) -> int:
        """Slots wanted."""
        return int(self.terms.slots[0])

    @property
    def seed(self) -> np.uint64:
        """The seed of every draw of this decision."""
        return self.terms.seed[0]

    @property
    def randomized(self) -> bool:
        """Whether the user is in the randomised bucket."""
        return bool(self.terms.randomized[0])

    @property
    def owes_new(self) -> bool:
        """Whether the last slot is owed to a new ad."""
        return bool(self.terms.owes_new[0])

    def situation(self) -> Situation:
        """Return what the rules are asked with."""
        context = with_segment(self.job.context, self.segment)
        job, now_ms = self.job, self.job.event.event_time
        return Situation(job.placement_id, context, now_ms, self.compiled.exhausted(now_ms))

    def eligible(self) -> Eligibility:
        """Return the ads that may be shown."""
        return find_eligible(self.compiled, self.askers, [self.job], [self.segment])

    def rules_against(self, row: int) -> list[Why]:
        """Return every rule that keeps the ad of a row out."""
        blocked = self.askers.blocked(self.compiled.caps)
        return why_not(self.compiled.rules, row, self.situation(), blocked)

    def scored(self, eligibility: Eligibility) -> Scored:
        """Return the candidates among eligible ads with their scores."""
        users = self.askers.encode(self.compiled.view.scorer)
        return score_candidates(self.compiled, self.askers, users, eligibility, [self.segment], self.terms)

    def scored_alone(self, row: int) -> Scored:
        """Return the scores of one ad, eligible or not, as its only candidate."""
        flags = np.zeros(len(self.compiled.view.catalogue), np.bool_)
        flags[row] = True
        return self.scored(Eligibility(pack(flags)[None, :], np.zeros((1, 0), np.int64)))
