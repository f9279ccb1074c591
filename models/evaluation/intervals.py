"""Intervals of a simulation's figures: over the users of one world, or over several worlds.

In one world a figure is a ratio of sums over users, and its standard error the jackknife's, a user's rows
left out together: what might other users of the very same world (its ads, its segments' tastes, its shifts)
have made of it? A figure that sets a policy against the oracle is a ratio too, of two runs which the same
users met with the same requests, so what they share cancels. A policy that learns has learned from all users
together; that is held as it is, and only several worlds show how much it varies.

Over several worlds the spread of the figure from one to the next holds the users' part already. With few
worlds it may come out too small by luck, so it is not taken to be less than the users' part alone:
Student's t with one degree less than there are worlds, on max(s², mean squared error over users).

The interval is set out on a scale without ends (`Link`; the delta method), so that a share stays between
0 and 1. Legend: U users, one row each.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import expit, logit, stdtrit

from .bootstrap import Interval, jackknife_error
from .draws import F64

UNKNOWN = float("nan")


class Link(NamedTuple):
    """A scale without ends for figures of some range: its map, the way back, and its slope at a figure."""

    apply: Callable[[float], float]
    back: Callable[[float], float]
    slope: Callable[[float], float]
    inside: Callable[[float], bool]


SHARE = Link(logit, expit, lambda p: 1 / (p * (1 - p)), lambda p: 0 < p < 1)
"""Figures between 0 and 1."""
AMOUNT = Link(np.log, np.exp, lambda x: 1 / x, lambda x: x > 0)
"""Figures of 0 and more."""
LOSS = Link(lambda x: -np.log1p(-x), lambda y: -np.expm1(-y), lambda x: 1 / (1 - x), lambda x: x < 1)
"""Figures of at most 1: the share lost of what might have been had."""


class Estimate(NamedTuple):
    """A figure of one world, with its standard error over users; the error is nan where it is not known."""

    value: float
    error: float = UNKNOWN
    freedom: float = UNKNOWN
    """Degrees of freedom of the error."""


def ratio_of_sums(top: F64, bottom: F64) -> Estimate:
    """Return Σ top / Σ bottom over users `[U]`, nan where there is nothing to divide by."""
    rows = np.stack([top, bottom], axis=1)[(top != 0) | (bottom != 0)]
    total = rows.sum(axis=0)
    if not total[1]:
        return Estimate(UNKNOWN)
    value = float(total[0] / total[1])
    if len(rows) < 2:
        return Estimate(value)
    return Estimate(value, jackknife_error(rows), len(rows) - 1.0)


def interval_of(worlds: Sequence[Estimate], link: Link, level: float = 0.95) -> Interval:
    """Return the mean of a figure over worlds with its interval, of a single world that over its users.

    The mean is nan where a world has no figure. The ends are nan where nothing is known of them: a single
    world whose figure has no error, or a figure at the end of its range (no click at all).
    """
    value = float(np.mean([world.value for world in worlds]))
    if not np.isfinite(value):
        return Interval(value, UNKNOWN, UNKNOWN)
    error, freedom = _spread(worlds)
    if error == 0 and (len(worlds) > 1 or link.inside(value)):
        return Interval(value, value, value)
    if not (np.isfinite(error) and link.inside(value)):
        return Interval(value, UNKNOWN, UNKNOWN)
    half = float(stdtrit(freedom, (1 + level) / 2)) * error * link.slope(value)
    place = float(link.apply(value))
    return Interval(value, float(link.back(place - half)), float(link.back(place + half)))


def _spread(worlds: Sequence[Estimate]) -> tuple[float, float]:
    """Return the standard error of the mean over worlds and its degrees of freedom."""
    if len(worlds) == 1:
        return worlds[0].error, worlds[0].freedom
    between = float(np.var([world.value for world in worlds], ddof=1))
    known = [world.error**2 for world in worlds if np.isfinite(world.error)]
    within = float(np.mean(known)) if known else 0.0
    return float(np.sqrt(max(between, within) / len(worlds))), len(worlds) - 1.0
