"""Moves the weights of cells whose share of views has changed; clicks judge the moves later."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.domain.decision import Interest

from .elasticity import Elasticity
from .interest import LARGE, InterestWatch
from .protocol import Engine
from .sample import SEGMENT_CATEGORY
from .settings import LearnerSettings
from .vocabulary import Vocabulary

I64 = NDArray[np.int64]


class InterestFollower:
    """The learner's part that listens to views.

    Parameters
    ----------
    engine, vocabulary
        The learner's.
    flush
        Lets the engine learn what waits, and forget the slots that were given to other features.

    """

    def __init__(
        self, settings: LearnerSettings, engine: Engine, vocabulary: Vocabulary, flush: Callable[[], None]
    ) -> None:
        self._engine, self._vocabulary, self._flush = engine, vocabulary, flush
        self._on = settings.interest_weight > 0.0
        self._watch = InterestWatch(settings.interest_change_s, settings.priors.time_constant_s)
        self.elasticity = Elasticity(settings.interest_weight)

    def take(self, interests: Iterable[Interest]) -> list[bool]:
        """Take records in; return of each whether it was new. A weight of 0 takes none."""
        return [self._watch.add(interest) for interest in interests] if self._on else []

    def move(self, now_ms: int) -> int:
        """Judge earlier moves, make those that are due and return how many."""
        self._judge(now_ms)
        cells, steps, changes, since = self._watch.steps(self.elasticity.mean, now_ms)
        if not cells:
            return 0
        slots, large = self._slots(cells), np.abs(since) >= LARGE
        self._flush()  # before they are moved: a slot may have been another feature's
        before, variance = self._posterior(slots, now_ms)
        trust = [
            1.0 if much else self.elasticity.trust(cell, v)
            for cell, much, v in zip(cells, large.tolist(), variance, strict=True)
        ]
        self._engine.move(slots, SEGMENT_CATEGORY, steps * np.array(trust), now_ms)
        after = list(zip(*self._posterior(slots, now_ms), strict=True))
        moves = zip(cells, changes.tolist(), since.tolist(), steps.tolist(), strict=True)
        for at, (cell, change, together, step) in enumerate(moves):
            if large[at]:
                self.elasticity.expect(cell, before[at], change, after[at], now_ms, together - change)
            else:
                self.elasticity.refine(cell, change, step)
        return len(cells)

    def forget(self, cells: Sequence[str]) -> None:
        """Note that the weights of these cells made way for others."""
        self._watch.forget(cells)
        for cell in cells:
            self.elasticity.drop(cell)

    def rolled_back(self) -> None:
        """Judge no move that a roll-back has undone; what was believed then counts as usual."""
        self.elasticity.pending.clear()
        self._watch.rolled_back()

    def values(self) -> dict[str, Any]:
        """Return the state as plain values and bytes."""
        return {"watch": self._watch.to_bytes(), "elasticity": self.elasticity.values()}

    def restore(self, values: dict[str, Any]) -> None:
        """Take the state of `values`."""
        self._watch.restore(values["watch"])
        self.elasticity.restore(values["elasticity"])

    def _judge(self, now_ms: int) -> None:
        due = {cell: self._vocabulary.find(SEGMENT_CATEGORY, cell) for cell in self.elasticity.due(now_ms)}
        for cell in [cell for cell, slot in due.items() if slot < 0]:
            self.elasticity.drop(cell)
            del due[cell]
        slots = np.array(list(due.values()), np.int64)
        for cell, mean, variance in zip(due, *self._posterior(slots, now_ms), strict=True):
            self.elasticity.judge(cell, mean, variance)

    def _slots(self, cells: Iterable[str]) -> I64:
        return np.array([self._vocabulary.slot(SEGMENT_CATEGORY, cell) for cell in cells], np.int64)

    def _posterior(self, slots: I64, now_ms: int) -> tuple[list[float], list[float]]:
        mean, variance = self._engine.posterior(slots, now_ms)
        return mean.tolist(), variance.tolist()
