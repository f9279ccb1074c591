"""Users of the simulated world as arrays, and effects that drift: functions of the seed and the row alone.

Legend: U users, C categories, G classes of users that targeting tells apart (country × device).
An effect that drifts is ``base·cos(ωt) + other·sin(ωt)`` with normal base, other and ω: stationary, and
known at any time without a history.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from models.domain.events import Context

from .draws import F64, hashes, normal
from .world_config import WorldConfig

I64 = NDArray[np.int64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Wave:
    """Effects that drift; all arrays of the same shape (``omega`` may broadcast), ω in radians per second."""

    base: F64
    other: F64
    omega: F64

    def at(self, seconds: F64 | float) -> F64:
        """Return the effects after so many seconds of drift."""
        angle = self.omega * seconds
        value: F64 = self.base * np.cos(angle) + self.other * np.sin(angle)
        return value

    def rows(self, rows: I64) -> Wave:
        """Return the effects of these rows alone."""
        return Wave(self.base[rows], self.other[rows], self.omega[rows])


def wave(seed: int, purpose: str, sd: float, tau_s: float, *parts: NDArray[np.int64]) -> Wave:
    """Return effects of standard deviation `sd` whose correlation falls to e^-½ after `tau_s` (0: never)."""
    omega = normal(seed, f"{purpose} omega", *parts) / tau_s if tau_s else np.zeros(1)
    base = sd * normal(seed, f"{purpose} base", *parts)
    other = sd * normal(seed, f"{purpose} other", *parts)
    return Wave(base, other, np.broadcast_to(omega, base.shape))


@dataclass(frozen=True, eq=False)
class Users:
    """The users. ``group`` is the class that targeting sees, country times devices plus device."""

    ids: tuple[str, ...]
    contexts: tuple[Context, ...]
    segment: I64
    group: I64
    activity_cdf: F64
    taste: Wave
    """`[U, C]`"""

    @cached_property
    def row_of(self) -> dict[str, int]:
        """Row of each user id."""
        return {user_id: row for row, user_id in enumerate(self.ids)}


def make_users(config: WorldConfig) -> Users:
    """Return the world's users."""
    seed, traffic, n = config.seed, config.traffic, config.sizes.users
    rows = np.arange(n)
    segment = pick(seed, "user segment", rows, config.sizes.segments)
    country = pick(seed, "user country", rows, len(traffic.countries))
    device = pick(seed, "user device", rows, len(traffic.devices))
    activity = np.exp(traffic.activity_sd * normal(seed, "user activity", rows))
    return Users(
        ids=tuple(f"user-{row:06d}" for row in range(n)),
        contexts=_contexts(config, segment, country, device),
        segment=segment,
        group=country * len(traffic.devices) + device,
        activity_cdf=np.cumsum(activity),
        taste=wave(
            seed, "user taste", config.tastes.user_sd, config.drift.user_s,
            rows[:, None], np.arange(config.sizes.categories)[None, :],
        ),
    )  # fmt: skip


def pick(seed: int, purpose: str, rows: I64, n: int) -> I64:
    """Return one of 0 .. n - 1 for each row, drawn by the purpose."""
    return (hashes(seed, purpose, rows) % np.uint64(n)).astype(np.int64)


def _contexts(config: WorldConfig, segment: I64, country: I64, device: I64) -> tuple[Context, ...]:
    traffic = config.traffic
    languages = traffic.languages
    return tuple(
        Context(
            country=traffic.countries[c],
            device=traffic.devices[d],
            language=languages[c % len(languages)],
            segment=f"s{s}",
        )
        for s, c, d in zip(segment.tolist(), country.tolist(), device.tolist(), strict=True)
    )
