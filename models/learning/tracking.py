"""What all engines share: refusing bad examples, reporting changed weights, snapshots."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from .packing import pack, unpack
from .priors import DEFAULT_PRIORS, Priors
from .protocol import GROUPS, NO_FEATURE, Changed, Examples

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

MEAN_TOLERANCE = 0.01
"""Logits a weight may drift from its last report; refreshing 10 s late costs .15 points of regret."""
VARIANCE_TOLERANCE = 0.1
"""Relative."""
_SWEEP_EVERY = 16
_SLOT_COLUMNS: dict[str, type] = {
    "group": np.int8,
    "time_ms": np.int64,
    "seen": np.bool_,
    "touched": np.bool_,
    "reported": np.bool_,
    "reported_mean": np.float64,
    "reported_variance": np.float64,
}


class TrackedEngine(ABC):
    """Base of the engines: arrays by slot that grow, and the bookkeeping of `changed`.

    Idle weights fade towards the prior without being touched, so every sixteenth call of `changed`
    looks at all of them.
    """

    name: str = ""
    _columns: ClassVar[dict[str, type]] = {}

    def __init__(self, priors: Priors = DEFAULT_PRIORS) -> None:
        self.priors = priors
        self._prior_variance = np.array([getattr(priors, group) for group in GROUPS])
        self._constant_ms = priors.time_constant_s * 1000.0
        self._clear()

    def _clear(self) -> None:
        self._calls = 0
        self.slots: dict[str, NDArray[Any]] = {
            name: np.zeros(0, dtype) for name, dtype in {**_SLOT_COLUMNS, **self._columns}.items()
        }

    def learn(self, examples: Examples) -> int:
        """See `Engine.learn`."""
        usable = examples.usable()
        good = examples if usable.all() else examples.take(usable)
        if len(good):
            self._grow(int(good.feature.max()) + 1)
            self._mark(good)
            self._learn(good)
        return len(examples) - len(good)

    def changed(self, time_ms: int, most: int | None = None) -> Changed:
        """See `Engine.changed`."""
        sweep = self._calls % _SWEEP_EVERY == _SWEEP_EVERY - 1
        self._calls += 1
        slot = np.flatnonzero(self.slots["seen"] if sweep else self.slots["touched"])
        mean, variance = self.posterior(slot, time_ms)
        moved = self._moved(slot, mean, variance)
        self.slots["touched"][slot] = False
        if most is not None and moved.sum() > most:
            moved = self._largest(slot, mean, moved, most)
        slot, mean, variance = slot[moved], mean[moved], variance[moved]
        self.slots["reported"][slot] = True
        self.slots["reported_mean"][slot] = mean
        self.slots["reported_variance"][slot] = variance
        return Changed(slot, mean, variance)

    def announce_again(self) -> None:
        """See `Engine.announce_again`."""
        self.slots["touched"] |= self.slots["reported"]
        self.slots["reported"][:] = False

    def forget(self, slot: I64) -> None:
        """See `Engine.forget`."""
        known = slot[slot < len(self.slots["seen"])]
        for column in self.slots.values():
            column[known] = 0

    def reset(self) -> None:
        """See `Engine.reset`."""
        self._clear()

    def to_bytes(self) -> bytes:
        """See `Engine.to_bytes`."""
        return pack(f"engine/{self.name}/1", self.slots, {"calls": self._calls, **self._values()})

    def restore(self, data: bytes) -> None:
        """See `Engine.restore`."""
        arrays, values = unpack(f"engine/{self.name}/1", data)
        self._clear()
        self.slots = arrays
        self._calls = values["calls"]
        self._take_values(values)

    @abstractmethod
    def _learn(self, examples: Examples) -> None:
        """Learn from usable examples; their slots exist."""

    @abstractmethod
    def posterior(self, slot: I64, time_ms: int) -> tuple[F64, F64]:
        """See `Engine.posterior`."""

    def _values(self) -> dict[str, Any]:
        return {}

    def _take_values(self, values: dict[str, Any]) -> None:
        return

    def _grow(self, size: int) -> None:
        have = len(self.slots["seen"])
        if size <= have:
            return
        size = max(size, 2 * have, 256)
        for name, column in self.slots.items():
            self.slots[name] = np.concatenate([column, np.zeros(size - have, column.dtype)])

    def _mark(self, examples: Examples) -> None:
        for group in range(examples.feature.shape[1]):
            slot = examples.feature[:, group]
            slot = slot[slot != NO_FEATURE]
            self.slots["group"][slot] = group
            self.slots["touched"][slot] = True

    def _moved(self, slot: I64, mean: F64, variance: F64) -> NDArray[np.bool_]:
        old_mean, old_variance = self.slots["reported_mean"][slot], self.slots["reported_variance"][slot]
        far = np.abs(mean - old_mean) > MEAN_TOLERANCE
        wide = np.abs(variance - old_variance) > VARIANCE_TOLERANCE * old_variance
        return ~self.slots["reported"][slot] | far | wide

    def _largest(self, slot: I64, mean: F64, moved: NDArray[np.bool_], most: int) -> NDArray[np.bool_]:
        """Keep the ``most`` largest moves; the others stay touched, to be reported next."""
        by_move = np.argsort(-np.abs(mean - self.slots["reported_mean"][slot]) * moved, kind="stable")
        by_move = by_move[moved[by_move]]
        self.slots["touched"][slot[by_move[most:]]] = True
        moved[by_move[most:]] = False
        return moved

    def _prior(self, slot: I64) -> F64:
        group = np.zeros(len(slot), np.int64)
        known = slot < len(self.slots["group"])
        group[known] = self.slots["group"][slot[known]]
        return self._prior_variance[group]
