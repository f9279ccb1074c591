"""Policies side by side in the same simulated worlds.

Each policy gets a world of its own per seed; users, requests and luck are the same in all of them, so
differences are the policies'. The oracle always runs: regret is measured against it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from models.domain.errors import SettingError

from .bootstrap import Interval, mean_interval
from .budgets import daily_budgets, overspend
from .draws import F64
from .ledger import Ledger
from .logbook import Logbook
from .loop import Delivered, LoopPolicy
from .oracle import OraclePolicy, PopularityPolicy, RandomPolicy
from .population import AdTable, make_ads
from .regret import recovery_after, regret_curve, regret_interval
from .vw import VowpalWabbitPolicy
from .world import World
from .world_config import WorldConfig, resized

TICK_MS = 250
WARM_UP_S = 60
CURVE_BIN_S = 10

MakePolicy = Callable[[World], LoopPolicy]
"""Makes a policy for a new world; only the baselines look at more than its config."""

BASELINES: dict[str, MakePolicy] = {
    "random": lambda world: RandomPolicy(world.state),
    "popularity": lambda world: PopularityPolicy(world.state),
    "oracle": lambda world: OraclePolicy(world.state),
    "vw": lambda world: VowpalWabbitPolicy(world.state),
    "frozen_oracle": lambda world: OraclePolicy(world.state, at_ms=world.config.start_ms),
}
"""The policies that need nothing trained; `vw` needs the extra ``bench``.

`frozen_oracle` knows everything about the first second and nothing since: no static scorer does better.
"""


def run_policy(
    config: WorldConfig, make: MakePolicy, seconds: int, *, tick_ms: int = TICK_MS, partitions: int = 1,
    progress: Callable[[World], None] | None = None,
) -> World:  # fmt: skip
    """Let one policy decide in a new world for so long and return the world with its ledger.

    Parameters
    ----------
    tick_ms
        Events are delivered in batches of so many milliseconds of the world; reactions to a decision
        come in later batches.
    progress
        Called after every batch.

    """
    world = World(config)
    policy, logbook = make(world), Logbook(partitions, delay_ms=config.traffic.ingest_delay_ms)
    end_ms = world.now_ms + seconds * 1000
    while world.now_ms < end_ms:
        happened = world.step(min(world.now_ms + tick_ms, end_ms))
        batch = [Delivered(record, event) for event in happened for record in logbook.append(event)]
        world.react(policy.decide_batch(batch))
        if progress:
            progress(world)
    return world


@dataclass(frozen=True, eq=False)
class Simulation:
    """The ledgers of a run: one per policy and seed."""

    config: WorldConfig
    seconds: int
    seeds: tuple[int, ...]
    ledgers: dict[str, list[Ledger]] = field(default_factory=dict)

    def series(self, name: str, what: str = "value_micros") -> list[F64]:
        """Return a field of the ledgers per second `[seconds]`, one array per seed."""
        first = int(np.floor(self.config.start_s))
        return [ledger.series(what, first, first + self.seconds) for ledger in self.ledgers[name]]

    def per_seed(self, name: str, figure: Callable[[dict[str, float]], float]) -> Interval:
        """Return a figure of the totals, averaged over the seeds with its interval."""
        return mean_interval(np.array([figure(ledger.totals()) for ledger in self.ledgers[name]]))

    def shifts(self) -> list[int]:
        """Return the seconds after the start at which tastes shift within the run."""
        drift, start = self.config.drift, self.config.start_s
        every = drift.shift_every_s
        horizon = start + self.seconds
        regular = np.arange(drift.from_s + every, horizon, every).tolist() if every else []
        return sorted({int(s - start) for s in [*regular, *drift.shift_at_s] if start < s < horizon})


def run_policies(
    config: WorldConfig, policies: Mapping[str, MakePolicy], seconds: int, *,
    seeds: Sequence[int] = (0, 1, 2), tick_ms: int = TICK_MS,
    progress: Callable[[str, int, World], None] | None = None,
) -> Simulation:  # fmt: skip
    """Run every policy, and the oracle, in the same worlds.

    Raises
    ------
    SettingError
        There is no seed or no time to run for.

    """
    if not seeds or seconds <= 0:
        raise SettingError.expected(
            "simulation", got=f"{len(seeds)} seeds, {seconds} s", expected="at least one seed and one second",
            fix="give --seconds and --seed",
        )  # fmt: skip
    ledgers: dict[str, list[Ledger]] = {}
    for name, make in {**policies, "oracle": policies.get("oracle", BASELINES["oracle"])}.items():
        for seed in seeds:
            watch = (lambda world, n=name, s=seed: progress(n, s, world)) if progress else None
            world = run_policy(resized(config, seed=seed), make, seconds, tick_ms=tick_ms, progress=watch)
            ledgers.setdefault(name, []).append(world.ledger)
    return Simulation(config, seconds, tuple(seeds), ledgers)


BUDGET_NOTE = (
    "Campaigns have daily budgets, and every policy obeys them. The oracle and the other baselines serve "
    "greedily until a budget is spent; only policies with a pacer spread it over the day. So the oracle is "
    "no upper bound here: over less than a day regret holds pacing against them, over a whole day it may be "
    "negative."
)
"""What to know of regret in a world with budgets."""


def _ratio(top: str, bottom: str) -> Callable[[dict[str, float]], float]:
    return lambda sums: sums[top] / sums[bottom] if sums[bottom] else 0.0


FIGURES: dict[str, Callable[[dict[str, float]], float]] = {
    "ctr": _ratio("expected_clicks", "expected_impressions"),
    "cvr": _ratio("expected_conversions", "expected_clicks"),
    "revenue_micros": lambda sums: sums["revenue_micros"],
    "value_micros": lambda sums: sums["value_micros"],
    "charged_micros": lambda sums: sums["charged_micros"],
    "observed_ctr": _ratio("clicks", "impressions"),
    "new_ad_impression_share": _ratio("new_impressions", "expected_impressions"),
    "new_ad_ctr": _ratio("new_clicks", "new_impressions"),
}
"""Figures of a policy. CTR and CVR are expected ones, in truth; revenue is what the counted events pay at
the ads' bids, value the same in expectation, charged what the decisions' own prices came to."""


def policy_report(run: Simulation, name: str) -> dict[str, Any]:
    """Return the figures of one policy as JSON takes them: each a value with its interval over seeds."""
    values, oracles = run.series(name), run.series("oracle")
    figures = {key: _json(run.per_seed(name, figure)) for key, figure in FIGURES.items()}
    clicks = [(a.totals()["expected_clicks"], b.totals()["expected_clicks"]) for a, b in _pairs(run, name)]
    shares = [ours / max(best, 1e-9) for ours, best in clicks]
    warm = run.config.start_s + WARM_UP_S
    figures["regret"] = _json(regret_interval(values, oracles))
    figures["clicks_share_of_oracle"] = _json(mean_interval(np.array(shares)))
    errors = [ledger.calibration_error(warm) for ledger in run.ledgers[name]]
    figures["ece"] = _json(mean_interval(np.array(errors)))
    shifts = run.shifts()
    ends = [*shifts[1:], run.seconds][: len(shifts)]
    recoveries = [recovery_after(values, oracles, s, e) for s, e in zip(shifts, ends, strict=True)]
    return {
        **figures,
        "regret_curve": [_finite(r) for r in regret_curve(values, oracles, CURVE_BIN_S).tolist()],
        "recovery_s": [_finite(r) for r in recoveries],
        **_budget_figures(run, name),
        "impressions_per_s": run.per_seed(name, lambda sums: sums["impressions"]).value / run.seconds,
    }


def _budget_figures(run: Simulation, name: str) -> dict[str, Any]:
    """Return by how much the worst campaign's day went over its budget, where there are budgets."""
    if not run.config.inventory.budget_share:
        return {}
    worst = [
        overspend(ledger.spend, daily_budgets(_first_ads(run.config, seed)))
        for ledger, seed in zip(run.ledgers[name], run.seeds, strict=True)
    ]
    return {"overspend": _json(mean_interval(np.array(worst)))}


def _first_ads(config: WorldConfig, seed: int) -> AdTable:
    return make_ads(resized(config, seed=seed), 0, config.sizes.ads, config.start_s)


def _pairs(run: Simulation, name: str) -> list[tuple[Ledger, Ledger]]:
    return list(zip(run.ledgers[name], run.ledgers["oracle"], strict=True))


def simulation_report(run: Simulation) -> dict[str, Any]:
    """Return the whole comparison as JSON takes it, ``policies.NAME.ctr.value`` and so on."""
    return {
        "users": run.config.sizes.users,
        "ads": run.config.sizes.ads,
        "seconds": run.seconds,
        "seeds": list(run.seeds),
        "shifts_s": run.shifts(),
        "curve_bin_s": CURVE_BIN_S,
        "notes": [BUDGET_NOTE] if run.config.inventory.budget_share else [],
        "policies": {name: policy_report(run, name) for name in run.ledgers},
    }


def _json(interval: Interval) -> dict[str, float | None]:
    return {"value": _finite(interval.value), "low": _finite(interval.low), "high": _finite(interval.high)}


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
