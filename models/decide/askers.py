"""The users of one batch of decisions in the tables of their shards.

Every shard has tables of its own; everything else about a decision does not care whose it is. So a batch
asks each shard's tables once, and lays the answers end to end.

Legend: B users, K candidates, W windows, M measures.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.policy.caps import BlockedKeys, CompiledCaps, blocked_keys, end_to_end
from models.scorer.interface import F32, I32, I64, U64, AdIndex, Scorer

from .profiles import Profiles

F64 = NDArray[np.float64]


class _Part(NamedTuple):
    """The users of one shard: their rows, and which of the batch they are."""

    profiles: Profiles
    rows: I64
    of: slice


@dataclass(frozen=True, eq=False)
class Askers:
    """B users, shard by shard; ``times`` `[B]` are the event times at which they are looked at."""

    parts: tuple[_Part, ...]
    times: I64

    @classmethod
    def of(cls, groups: Sequence[tuple[Profiles, Sequence[int]]], times: Sequence[int]) -> Askers:
        """Return the users in these rows of these shards, laid end to end."""
        parts, begin = [], 0
        for profiles, rows in groups:
            parts.append(_Part(profiles, np.array(rows, np.int64), slice(begin, begin + len(rows))))
            begin += len(rows)
        return cls(tuple(parts), np.array(times, np.int64))

    def activity(self) -> list[list[list[float]]]:
        """Return the sums of each user's windows `[B, W, M]`."""
        return [
            sums
            for part in self.parts
            for sums in part.profiles.windows.read(part.rows, self.times[part.of]).tolist()
        ]

    def blocked(self, caps: CompiledCaps) -> BlockedKeys:
        """Return what each user may not be shown now."""
        found = [blocked_keys(p.profiles.shown, p.rows, self.times[p.of], caps) for p in self.parts]
        return found[0] if len(found) == 1 else end_to_end(found)

    def encode(self, scorer: Scorer) -> F32:
        """Return the users' vectors `[B, D]`."""
        return self._joined(lambda p: scorer.encode(p.profiles.history, p.rows, self.times[p.of]))

    def rank(self, scorer: Scorer, users: F32, ads: AdIndex, candidates: I32) -> tuple[F32, F32]:
        """Return the logits of click and of conversion `[B, K]`; ``users`` is what `encode` returned."""
        return self._paired(
            lambda p: scorer.rank(p.profiles.history, p.rows, users[p.of], ads, candidates[p.of])
        )

    def lean(
        self, scorer: Scorer, segment: I64, category: I64, candidates: I32, click: F32, conversion: F32
    ) -> None:
        """Add what the users' views tell to the logits of ``candidates`` `[B, K]`, in place.

        ``segment`` `[B]` are the users' rows in the model's table of segments, ``category`` `[A]` the ads'.
        """
        slope, length = scorer.conversion_slope, scorer.history_length
        for p in self.parts:
            of = p.of
            scorer.leanings.add(
                click[of], conversion[of], candidates[of], slope, p.profiles.history, p.rows, segment[of],
                category, length,
            )  # fmt: skip

    def dwell_ms(self, scorer: Scorer, users: F32, ads: AdIndex, candidates: I32) -> F64 | None:
        """Return the expected stays `[B, K]`, None where the model does not tell; ``users`` as for `rank`."""
        told = [
            scorer.dwell_ms(p.profiles.history, p.rows, users[p.of], ads, candidates[p.of])
            for p in self.parts
        ]
        known = [one for one in told if one is not None]
        return np.concatenate(known) if len(known) == len(told) else None

    def tastes(self, category_key: U64) -> tuple[F64, F64]:
        """Return mean and variance of each user's adjustment for each candidate's category `[B, K]`."""
        return self._paired(lambda p: p.profiles.tastes.read(p.rows, category_key[p.of], self.times[p.of]))

    def _joined(self, ask: Callable[[_Part], NDArray]) -> NDArray:  # type: ignore[type-arg]
        found = [ask(part) for part in self.parts]
        return found[0] if len(found) == 1 else np.concatenate(found)

    def _paired(self, ask: Callable[[_Part], tuple[NDArray, NDArray]]) -> tuple[NDArray, NDArray]:  # type: ignore[type-arg]
        found = [ask(part) for part in self.parts]
        if len(found) == 1:
            return found[0]
        return np.concatenate([one for one, _ in found]), np.concatenate([other for _, other in found])
