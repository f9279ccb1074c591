"""What is settled of a decision before any ad is looked at: its draws, its slots and its least value.

Legend: B decisions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.domain.events import Request
from models.domain.ids import key64
from models.domain.policy import Policy
from models.learning.exploration import randomized_users
from models.policy.new_ads import owes_new_ad
from models.policy.placements import PlacementRules, default_rules

from .job import Job

I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]
Flags = NDArray[np.bool_]


class Terms(NamedTuple):
    """Arrays are `[B]`."""

    ids: list[str]
    """Ids of the decisions."""
    seed: U64
    """key64 of them: the seed of every draw."""
    randomized: Flags
    """The user is in the randomised bucket."""
    slots: I64
    """Slots to fill."""
    least_micros: I64
    """What a thousand impressions must bring, by the policy's reserve and the placement's floor."""
    owes_new: Flags
    """The last slot is owed to a new ad."""


def terms_of(jobs: Sequence[Job], policy: Policy, placements: Mapping[str, PlacementRules]) -> Terms:
    """Return the terms of the decisions that these jobs cause."""
    ids = [job.decision_id for job in jobs]
    seed = np.array([key64(id_) for id_ in ids], np.uint64)
    users = np.array([key64(job.event.user_id) for job in jobs], np.uint64)
    randomized = randomized_users(users, policy.exploration)
    usual = default_rules(policy)
    here = [placements.get(job.placement_id, usual) for job in jobs] if placements else [usual] * len(jobs)
    slots = [_own_slots(job) or place.slots for job, place in zip(jobs, here, strict=True)]
    least = [place.least_micros for place in here]
    owes = owes_new_ad(seed, policy.new_ad_share) & ~randomized
    return Terms(ids, seed, randomized, np.array(slots, np.int64), np.array(least, np.int64), owes)


def _own_slots(job: Job) -> int | None:
    return job.event.slots if isinstance(job.event, Request) else None
