"""Pacing in the closed loop against hindsight: value per spend in the first hours of the simulated world.

    python tests/benchmarks/bench_hindsight.py [--json] [--quick]

The decision core with its learner and pacer and without a model decides the requests of some hours; outcomes
reach both a minute late, and half the campaigns have budgets. The first two hours are those of a learner that
knows nothing, and who waits with his money for a better one is better off; so the four hours after them are
told apart. Beside it the same hours

- with nobody held back, as if all budgets were large enough;
- with one multiplier per campaign for all of them, so chosen that each spends what it spent when paced:
  what a pacer could do that knows what comes. They are run again and again to find these multipliers, by
  interpolation of log spend over log(1 + mu).

``value`` is that of expected clicks at bids, ``spend`` that at prices, both of the campaigns with budgets and
under the world's truth; ``per_spend`` is their quotient, and ``ratio`` the paced one's over that of the line.
``spends_off`` is by how much the campaigns' spends differ from the paced ones, summed up.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import sys
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from printed import Row, print_rows

sys.path.insert(0, str(Path(__file__).parents[1]))

from support.shards import Bench

from models.domain.events import Pacing
from models.evaluation.budgets import daily_budgets
from models.evaluation.core_policy import CorePolicy
from models.evaluation.ledger import AD_FIELDS
from models.evaluation.simulate import run_policy
from models.evaluation.world import World
from models.evaluation.world_config import Drift, Inventory, Reactions, Sizes, Tastes, Traffic, WorldConfig
from models.learning.learner import Learner
from models.policy.pacing import Pacer

F64 = NDArray[np.float64]

TICK_MS = 20_000
DELAY_S = 60.0
ROUNDS = 6
FIRST_GUESS = -4.0
"""Elasticity of spend in 1 + mu, until a campaign has spent both too much and too little."""


def world() -> WorldConfig:
    """Return a world whose tastes stand still.

    Half the campaigns have budgets: a tenth to all of what they would spend, or more than they could.
    """
    return WorldConfig(
        sizes=Sizes(users=400, ads=100, categories=12, segments=4),
        tastes=Tastes(base_logit=-2.4),
        traffic=Traffic(requests_per_s=2.0, views_per_s=0.2),
        drift=Drift(shift_every_s=0, segment_s=0, user_s=0, ad_s=0, campaign_s=0),
        inventory=Inventory(
            burst_every_s=0, cpa_share=0, cpm_share=0, budget_share=0.5,
            daily_budget_micros=200_000_000,
        ),
        reactions=Reactions(report_delay_s=DELAY_S),
    )  # fmt: skip


class Watched(Pacer):
    """The product's pacer; it remembers each campaign's mean log(1 + mu) from second ``from_s`` on."""

    def __init__(self, from_s: int = 0) -> None:
        super().__init__()
        self._from_ms = world().start_ms + from_s * 1000
        self._sums: dict[str, float] = {}
        self._since = self._passed = 0

    def emit(self) -> Pacing | None:
        """Do as the pacer does, and take note."""
        now = self._state.clock_ms
        passed, self._since = (now - self._since if self._since >= self._from_ms else 0), now
        self._passed += passed
        for name, account in self._state.accounts.items():
            if account.has_budget():
                self._sums[name] = self._sums.get(name, 0.0) + np.log1p(account.mu) * passed
        return super().emit()

    def mean(self) -> dict[str, float]:
        """Return each campaign's log(1 + mu) in the mean over time."""
        return {name: total / max(self._passed, 1) for name, total in self._sums.items()}


class Fixed(Pacer):
    """Paces until second ``from_s``; then says these multipliers, once, 0 for those it does not name."""

    def __init__(self, multipliers: dict[str, float], from_s: int = 0) -> None:
        super().__init__()
        self._multipliers, self._said = multipliers, False
        self._from_ms = world().start_ms + from_s * 1000 if from_s else -1

    def emit(self) -> Pacing | None:
        """Do as the pacer does at first; then return the multipliers once."""
        now, accounts = self._state.clock_ms, self._state.accounts
        if now < self._from_ms:
            return super().emit()
        if self._said or not accounts:
            return None
        self._said = True
        said = {name: self._multipliers.get(name, 0.0) for name in accounts}
        return Pacing(id="fixed", event_time=max(now, 0), version=self.version + 1, multipliers=said)


@dataclass(frozen=True)
class Spent:
    """What the campaigns with budgets made of their budgets, in micros `[C]`."""

    names: list[str]
    value: F64
    spend: F64

    def since(self, before: Spent | None) -> Spent:
        """Return what was made after an earlier moment of the same run."""
        if before is None:
            return self
        return Spent(self.names, self.value - before.value, np.maximum(self.spend - before.spend, 1.0))

    def per_spend(self) -> float:
        """Return value over spend of all of them."""
        return float(self.value.sum() / self.spend.sum())


def run(config: WorldConfig, pacer: Pacer, hours: int) -> Spent:
    """Let the core decide for so long under a pacer."""
    bench = Bench()

    def policy(_: World) -> CorePolicy:
        return CorePolicy(
            lambda place: bench.shard(place.partition, place.slice),
            learner=Learner(), pacer=pacer, report_delay_s=DELAY_S,
        )  # fmt: skip

    made = run_policy(config, policy, hours * 3600, tick_ms=TICK_MS)
    campaign, books = made.state.ads.campaign, made.ledger.by_ad
    held = sorted(daily_budgets(made.state.ads))
    value, spend = (
        np.bincount(campaign, books[:, AD_FIELDS.index(name)])[held]
        for name in ("value_micros", "charged_micros")
    )
    names = {int(c): ad.campaign_id for c, ad in zip(campaign, made.state.ads.ads, strict=True)}
    return Spent([names[c] for c in held], value, np.maximum(spend, 1.0))


@dataclass
class Search:
    """Looks for the multipliers under which each campaign spends what it should."""

    wanted: F64
    at: F64
    """log(1 + mu) `[C]` to try next."""
    tried: list[tuple[F64, F64]] = field(default_factory=list)
    """log(1 + mu) and by how much log spend was off `[C]`, one pair per run."""

    def take(self, spend: F64) -> None:
        """Take in what was spent, and move each campaign between the runs nearest above and below."""
        self.tried.append((self.at, np.log(spend / self.wanted)))
        where, off = (np.array(column) for column in zip(*self.tried, strict=True))
        every = np.arange(len(self.at))
        over, under = (np.where(side, np.abs(off), np.inf).argmin(axis=0) for side in (off > 0, off <= 0))
        low, high = off[under, every], off[over, every]
        nearest = np.abs(off).argmin(axis=0), every
        guess = where[nearest] - off[nearest] / FIRST_GUESS
        between = where[over, every] - high * (where[under, every] - where[over, every]) / (
            low - high - 1e-12
        )
        self.at = np.maximum(np.where((low <= 0) & (high > 0), between, guess), 0.0)


@dataclass(frozen=True)
class Window:
    """Hours to measure: ``hours`` after ``lead`` in which all pace alike."""

    config: WorldConfig
    lead: int
    hours: int

    def made(self, pacer: Pacer) -> Spent:
        """Return what was made in these hours under a pacer."""
        return run(self.config, pacer, self.lead + self.hours).since(self._before)

    @cached_property
    def _before(self) -> Spent | None:
        return run(self.config, Pacer(), self.lead) if self.lead else None

    def best_fixed(self, paced: Spent, start: dict[str, float]) -> Spent:
        """Return the run under one multiplier per campaign whose spends are nearest to the paced ones."""
        search = Search(paced.spend, np.array([start.get(name, 0.0) for name in paced.names]))
        found: list[tuple[float, Spent]] = []
        for _ in range(ROUNDS):
            multipliers = dict(zip(paced.names, np.expm1(search.at).tolist(), strict=True))
            made = self.made(Fixed(multipliers, self.lead * 3600))
            search.take(made.spend)
            found.append((float(np.abs(made.spend - paced.spend).sum()), made))
        return min(found, key=lambda pair: pair[0])[1]

    def rows(self) -> list[Row]:
        """Return the lines of these hours."""
        pacer = Watched(self.lead * 3600)
        paced = self.made(pacer)
        free = self.made(Fixed({}, self.lead * 3600))
        fixed = self.best_fixed(paced, pacer.mean())
        told = (("paced", paced), ("nobody held back", free), ("best fixed multipliers", fixed))
        what = f"hours {self.lead} to {self.lead + self.hours}, {len(paced.names)} campaigns with budgets"
        return [_row(what, how, made, paced) for how, made in told]


def measure(quick: bool) -> list[Row]:
    """Return the lines."""
    windows = [Window(world(), 0, 2)] + ([] if quick else [Window(world(), 2, 4)])
    return [row for window in windows for row in window.rows()]


def _row(what: str, how: str, made: Spent, paced: Spent) -> Row:
    off = np.abs(made.spend - paced.spend).sum() / paced.spend.sum()
    return {
        "what": what,
        "how": how,
        "ratio": round(paced.per_spend() / made.per_spend(), 3),
        "per_spend": round(made.per_spend(), 3),
        "value": round(float(made.value.sum() / paced.value.sum()), 3),
        "spend": round(float(made.spend.sum() / paced.spend.sum()), 3),
        "spends_off": round(float(off), 3),
    }


def main() -> None:
    """Measure and print."""
    print_rows(__doc__, measure, "the first two hours alone")


if __name__ == "__main__":
    main()
