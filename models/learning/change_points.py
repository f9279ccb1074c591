"""Rates of events that stay what they are until, rarely and at once, they are others.

Bayesian online change-point detection (Adams & MacKay '07) of the shares that cells have of a group's
events. A run is a stretch in which a cell's share stands still. Of n events in the cell and N in its group,
n ~ Poisson(N share), and the share of a run is Gamma(a, b) beforehand: a = 1 event, b = one event for each
of the group's C cells, so that a run of which nothing is known has share 1/C. The belief in a run,
given the u and x events in cell and group since it began, is weighed by the negative binomial

    P(n | N) = G(a + u + n) / (G(a + u) n!) (b + x)^(a + u) N^n / (b + x + N)^(a + u + n),

and each moment a new run may begin, with the probability 1 - exp(-dt / change_s). Counts fade with
``memory_s``, so a long run follows slow drift. There are R runs at most: the one in which all cells
together believe least becomes one with its neighbour, in each cell by the cell's own beliefs.

What changes one cell often changes many at once. So how likely a run is beforehand is learned from all cells
(empirical Bayes, Robbins '56: a step of EM for the weights of a mixture),

    p_r <- (W q_r + sum_n P(cell n is in run r)) / (W + N),

with q_r what the hazard says and W `OWN` cells. When many cells show signs of a change, less of a sign is
enough in the others; when none does, chance must be stronger to be taken for a change.

Legend: R runs from the oldest (the one that has always been) to the newest, N cells.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

F64 = NDArray[np.float64]

RUNS = 16
_AHEAD = 1.0
"""Events of each cell that a run is given beforehand."""
OWN = 10.0
"""Cells that the hazard weighs as much as, where it is asked how many cells are in a run."""
_NEW = 3
"""Newest runs that are not given up yet: they have not had the time to be believed in."""
_NEVER = -1e30
_SHRINK = 0.25
"""Events of the cell that both shares are given beforehand where they are compared."""
_RAREST = -30.0
"""Least log share that is usual."""
MOST = 5.0
"""How far a log share is from the usual one at most."""


class Law(NamedTuple):
    """How likely each run is for a cell of which nothing is known, float64 `[R]`; each sums up to 1."""

    learned: F64
    """By what all cells show."""
    hazard: F64
    """By the hazard alone."""


class Runs(NamedTuple):
    """What is known of N cells in R runs, all float64 `[R, N]`."""

    events: F64
    """In the cell since the run began, faded."""
    exposure: F64
    """Events of its group since then, faded alike."""
    belief: F64
    """Log of the probability that the cell is in this run."""


def fresh_law(runs: int = RUNS) -> Law:
    """Return the law of a time in which nothing can have changed yet."""
    oldest = (np.arange(runs) == 0).astype(np.float64)
    return Law(oldest, oldest.copy())


def fresh_runs(cells: int, runs: int = RUNS) -> Runs:
    """Return cells of which nothing is known: they are in the oldest run."""
    belief = np.full((runs, cells), _NEVER)
    belief[0] = 0.0
    return Runs(np.zeros((runs, cells)), np.zeros((runs, cells)), belief)


def begin_run(runs: Runs, law: Law, seconds: float, change_s: float) -> None:
    """Let a change have been possible for so long; the least of the runs makes way for the new one."""
    least = _least_believed(runs.belief)
    into = least - 1 if least > 1 else 2
    _join(*runs, least, into)
    for share in law:
        share[into] += share[least]
    for column in (*runs, *law):
        column[least:-1] = column[least + 1 :]
        column[-1] = 0.0
    stays = -seconds / change_s
    begins = -math.expm1(stays)
    runs.belief[:-1] += stays
    runs.belief[-1] = math.log(begins)
    for share in law:
        share *= math.exp(stays)
        share[-1] = begins


def _least_believed(belief: F64) -> int:
    """Return the run, neither the oldest nor among the newest, that all cells together believe in least."""
    return 1 + int(np.argmin(np.exp(belief[1:-_NEW]).sum(axis=1)))


@njit(cache=True)
def _join(events: F64, exposure: F64, belief: F64, run: int, into: int) -> None:
    for n in range(belief.shape[1]):
        top = max(belief[run, n], belief[into, n])
        gone, kept = math.exp(belief[run, n] - top), math.exp(belief[into, n] - top)
        weight = gone / (gone + kept)
        events[into, n] += weight * (events[run, n] - events[into, n])
        exposure[into, n] += weight * (exposure[run, n] - exposure[into, n])
        belief[into, n] = top + math.log(gone + kept)


def observe(runs: Runs, law: Law, usual: F64, new: F64, total: F64, cells: F64, fade: float) -> F64:
    """Take in the events of a moment, in place; return how far each cell's log share is from its usual one.

    Parameters
    ----------
    usual
        `[N]` log share that is usual, nan where none is yet; it follows the oldest run as far as that is
        believed in.
    new, total
        `[N]` events in each cell and in its group.
    cells
        `[N]` cells of its group.
    fade
        What remains of the counts of before.

    Returns
    -------
    F64
        `[N]`, within ±MOST: log of the share in the later runs over the usual one, weighed by the belief in
        each. Here both shares are given a quarter of an event beforehand, and a run what else it is given
        is spread as usual: one that has seen nothing says nothing, and in the end neither does a cell
        that is never seen.

    """
    weigh(*runs, new, total, cells, fade)
    pool(runs.belief, *law)
    return _shifts(*runs, usual, cells)


@njit(cache=True)
def weigh(events: F64, exposure: F64, belief: F64, new: F64, total: F64, cells: F64, fade: float) -> None:
    """Weigh each cell's beliefs by the events of a moment, and count these; see `observe`."""
    for n in range(belief.shape[1]):
        ahead = _AHEAD * cells[n]
        for r in range(belief.shape[0]):
            belief[r, n] += _log_predictive(new[n], total[n], _AHEAD + events[r, n], ahead + exposure[r, n])
            events[r, n] = events[r, n] * fade + new[n]
            exposure[r, n] = exposure[r, n] * fade + total[n]
        _normalise(belief, n)


@njit(cache=True)
def pool(belief: F64, learned: F64, hazard: F64) -> None:
    """Learn from all cells how likely each run is, and believe in it so much more or less in each."""
    runs, cells = belief.shape
    step = np.zeros(runs)
    for r in range(runs):
        for n in range(cells):
            step[r] += math.exp(belief[r, n])
    for r in range(runs):
        found = (OWN * hazard[r] + step[r]) / (OWN + cells)
        step[r] = math.log(found / learned[r]) if found > 0.0 and learned[r] > 0.0 else 0.0
        learned[r] = found
    for n in range(cells):
        for r in range(runs):
            belief[r, n] += step[r]
        _normalise(belief, n)


@njit(cache=True)
def _normalise(belief: F64, n: int) -> None:
    """Let a cell's beliefs add up to one."""
    top, mass = -np.inf, 0.0
    for r in range(belief.shape[0]):
        top = max(top, belief[r, n])
    for r in range(belief.shape[0]):
        mass += math.exp(belief[r, n] - top)
    for r in range(belief.shape[0]):
        belief[r, n] = max(belief[r, n] - top - math.log(mass), _NEVER)


@njit(cache=True)
def _shifts(events: F64, exposure: F64, belief: F64, usual: F64, cells: F64) -> F64:
    """Let the usual log shares follow the oldest run; return how far off the later runs are."""
    shift = np.zeros(belief.shape[1])
    for n in range(belief.shape[1]):
        ahead = _AHEAD * cells[n]
        always = math.log((_AHEAD + events[0, n]) / (ahead + exposure[0, n]))
        if math.isnan(usual[n]):
            usual[n] = always
        usual[n] = max(usual[n] + math.exp(belief[0, n]) * (always - usual[n]), _RAREST)
        share = math.exp(usual[n])
        for r in range(1, belief.shape[0]):
            likely = math.exp(belief[r, n])
            expected = _SHRINK + ahead * share
            told = (expected + events[r, n]) / (expected + exposure[r, n] * share)
            shift[n] += likely * min(max(math.log(told), -MOST), MOST)
        shift[n] = min(max(shift[n], -MOST), MOST)  # the beliefs add up to one but for rounding
    return shift


@njit(cache=True)
def _log_predictive(n: float, total: float, shape: float, rate: float) -> float:
    """Return the log of P(n | N) less what is the same in all runs."""
    if total <= 0.0:
        return 0.0
    ratio = math.lgamma(shape + n) - math.lgamma(shape) if n > 0.0 else 0.0
    return ratio - shape * math.log1p(total / rate) - n * math.log(rate + total)
