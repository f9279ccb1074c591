"""Placements: how many slots a page's place has, and what a thousand impressions there must bring at least.

The number of slots is the request's own, else its placement's, else the policy's. The least value of an ad
is the larger of the policy's reserve and the placement's floor: both are expected revenue per thousand
impressions in micros, before quality and pacing, whatever the ad pays for. (An ad's own ``floor_micros`` is
another thing: its least price per billed event.) A placement that the policy does not name has no rule.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from models.domain.policy import Policy


class PlacementRules(NamedTuple):
    """What holds at one placement."""

    slots: int
    least_micros: int
    """Least expected revenue of a thousand impressions: of reserve and floor the larger."""
    blocked_categories: tuple[str, ...] = ()


def places_of(policy: Policy) -> Mapping[str, PlacementRules]:
    """Return what holds at each placement that the policy names."""
    return {
        each.placement_id: PlacementRules(
            each.slots or policy.slots,
            max(policy.reserve_micros, each.floor_micros),
            each.blocked_categories,
        )
        for each in policy.placements
    }


def default_rules(policy: Policy) -> PlacementRules:
    """Return what holds at all other placements."""
    return PlacementRules(policy.slots, policy.reserve_micros)
