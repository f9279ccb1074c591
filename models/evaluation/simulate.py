"""Policies side by side in the same simulated worlds.

Each policy gets a world of its own per seed; users, requests and luck are the same in all of them, so
differences are the policies'. The oracle always runs: regret is measured against it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from models.domain.errors import SettingError

from .draws import F64
from .generate import written
from .informed import InformedPolicy
from .ledger import Ledger
from .loop import Delivered, LoopPolicy
from .oracle import OraclePolicy, PopularityPolicy, RandomPolicy
from .past import NO_PAST, Past
from .referee import Referee
from .vw import VowpalWabbitPolicy
from .world import World
from .world_config import WorldConfig, resized

TICK_MS = 250

MakePolicy = Callable[[World], LoopPolicy]
"""Makes a policy for a new world; only the baselines look at more than its config."""

BASELINES: dict[str, MakePolicy] = {
    "random": lambda world: RandomPolicy(world.state),
    "popularity": lambda world: PopularityPolicy(world.state),
    "oracle": lambda world: OraclePolicy(world.state),
    "vw": lambda world: VowpalWabbitPolicy(world.state),
    "frozen_oracle": lambda world: OraclePolicy(world.state, at_ms=world.config.start_ms),
    "informed": lambda world: InformedPolicy(world.state),
}
"""The policies that need nothing trained; `vw` needs the extra ``bench``.

`frozen_oracle` knows everything about the first second and nothing since: no static scorer does better.
`informed` knows everything about the users and has to learn the ads.
"""


def run_policy(
    config: WorldConfig, make: MakePolicy, seconds: int, *, tick_ms: int = TICK_MS, partitions: int = 1,
    progress: Callable[[World], None] | None = None, past: Past = NO_PAST,
) -> World:  # fmt: skip
    """Let one policy decide in a new world for so long and return the world with its ledger.

    Parameters
    ----------
    tick_ms
        Events are delivered in batches of so many milliseconds of the world; reactions to a decision
        come in later batches.
    progress
        Called after every batch.
    past
        What the policy reads before the world begins, a log of as many partitions.

    """
    return judged_run(
        config, make, seconds, tick_ms=tick_ms, partitions=partitions, progress=progress, past=past
    )[0]


def judged_run(
    config: WorldConfig, make: MakePolicy, seconds: int, *, tick_ms: int = TICK_MS, partitions: int = 1,
    progress: Callable[[World], None] | None = None, past: Past = NO_PAST,
) -> tuple[World, Referee]:  # fmt: skip
    """Do as `run_policy`, and return the referee of every decision beside the world."""
    world = World(config)
    referee = Referee(world.state, world.ledger.at_bids)
    policy, logbook = make(world), past.logbook(partitions, config.traffic.ingest_delay_ms)
    policy.recall(past.decisions)
    for batch in past.batches():
        policy.decide_batch(batch)
        referee.follow(batch, ())
    end_ms = world.now_ms + seconds * 1000
    while world.now_ms < end_ms:
        happened = world.step(min(world.now_ms + tick_ms, end_ms))
        batch = [Delivered(record, event) for event in happened for record in written(config, logbook, event)]
        decisions = policy.decide_batch(batch)
        referee.follow(batch, decisions)
        world.react(decisions)
        if progress:
            progress(world)
    return world, referee


@dataclass(frozen=True, eq=False)
class Simulation:
    """The books of a run: a ledger and a referee per policy and seed."""

    config: WorldConfig
    seconds: int
    seeds: tuple[int, ...]
    ledgers: dict[str, list[Ledger]] = field(default_factory=dict)
    referees: dict[str, list[Referee]] = field(default_factory=dict)

    def series(self, name: str, what: str = "value_micros") -> list[F64]:
        """Return a field of the ledgers per second `[seconds]`, one array per seed."""
        first = int(np.floor(self.config.start_s))
        return [ledger.series(what, first, first + self.seconds) for ledger in self.ledgers[name]]

    def judged(self, name: str) -> tuple[list[F64], list[F64]]:
        """Return the judged decisions' value per second, and that of the best slates in their place."""
        first = int(np.floor(self.config.start_s))
        pairs = [referee.series(first, first + self.seconds) for referee in self.referees[name]]
        return [value for value, _ in pairs], [bound for _, bound in pairs]

    def books(self, name: str) -> list[tuple[Ledger, Ledger]]:
        """Return the policy's ledger beside the oracle's, one pair per seed."""
        return list(zip(self.ledgers[name], self.ledgers["oracle"], strict=True))

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
    past_of: Callable[[WorldConfig], Past] = lambda _: NO_PAST,
) -> Simulation:  # fmt: skip
    """Run every policy, and the oracle, in the same worlds, all of them after the same past.

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
    run = Simulation(config, seconds, tuple(seeds))
    everyone = {**policies, "oracle": policies.get("oracle", BASELINES["oracle"])}
    for seed in seeds:
        of_seed = resized(config, seed=seed)
        past = past_of(of_seed)
        for name, make in everyone.items():
            watch = (lambda world, n=name, s=seed: progress(n, s, world)) if progress else None
            world, referee = judged_run(of_seed, make, seconds, tick_ms=tick_ms, progress=watch, past=past)
            run.ledgers.setdefault(name, []).append(world.ledger)
            run.referees.setdefault(name, []).append(referee)
    return run
