"""Vowpal Wabbit's contextual bandit in the closed loop, as a yardstick (extra ``bench``).

`cb_explore_adf` with softmax exploration over candidates: the most clicked ads and random ones. A slate is
drawn without replacement from its probabilities; it learns from every impression, once it is known
whether a click followed, with the propensity that it had.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from importlib import import_module
from typing import Any, NamedTuple

import numpy as np

from models.domain.decision import Decision
from models.domain.errors import SettingError
from models.domain.events import Click, Impression, Request
from models.domain.log import LogRecord
from models.domain.policy import Policy

from .draws import uniform
from .logging_policy import draw_slate
from .oracle import PRIOR_PCTR, Choice, PopularityPolicy
from .truth import Truth

ARGUMENTS = (
    "--cb_explore_adf --softmax --lambda {greed} --cb_type mtr --quiet -q ua -q sa "
    "--ignore_linear u --ignore_linear s -b 22 --power_t 0 -l {rate}"
)
LABEL_AFTER_MS = 15_000
MEAN_PCVR = 0.12


class _Waiting(NamedTuple):
    """An impression whose label is not known yet."""

    due_ms: int
    row: int
    shared: str
    propensity: float
    key: tuple[str, str]


def load_vowpal_wabbit() -> Any:
    """Return the module `vowpalwabbit`.

    Raises
    ------
    SettingError
        It is not installed.

    """
    try:
        return import_module("vowpalwabbit")
    except ImportError as error:
        raise SettingError.expected(
            "policy vw", got="no module vowpalwabbit", expected="the extra `bench`",
            fix="pip install 'impulse[bench]', or leave vw out of --policies",
        ) from error  # fmt: skip


class VowpalWabbitPolicy(PopularityPolicy):
    """VW over `candidates` ads per request; `greed` is the softmax's λ, `rate` the learning rate."""

    name = "vw"

    def __init__(
        self, truth: Truth, policy: Policy | None = None, *, candidates: int = 120,
        greed: float = 40.0, rate: float = 0.5,
    ) -> None:  # fmt: skip
        super().__init__(truth, policy)
        self._half = candidates // 2
        self._model = load_vowpal_wabbit().Workspace(ARGUMENTS.format(greed=greed, rate=rate))
        self._open: dict[tuple[str, str], tuple[str, float]] = {}
        self._clicked: set[tuple[str, str]] = set()
        self._queue: deque[_Waiting] = deque()

    def decide(self, record: LogRecord, request: Request) -> Decision:
        """Return the decision, and keep what learning from its impressions will need."""
        self._learn_until(request.event_time)
        decision = super().decide(record, request)
        self.recall([decision])
        return decision

    def recall(self, decisions: Sequence[Decision]) -> None:
        """Keep what learning from the decisions' impressions will need; their propensities are exact."""
        for decision in decisions:
            shared = self._shared(self.truth.users.row_of[decision.user_id])
            for slot in decision.ads:
                self._open[decision.decision_id, slot.ad_id] = (shared, slot.propensity)

    def observe(self, event: object) -> None:
        """Queue impressions for learning, with the clicks that follow."""
        super().observe(event)
        if isinstance(event, Impression | Click) and event.decision_id:
            key = (event.decision_id, event.ad_id)
            if isinstance(event, Click):
                self._clicked.add(key)
            elif key in self._open:
                row, due = self.truth.ads.row_of[event.ad_id], event.event_time + LABEL_AFTER_MS
                self._queue.append(_Waiting(due, row, *self._open.pop(key), key))

    def choose(self, user: int, now_ms: int, blocked: set[int], slots: int) -> Choice:
        """Draw the slots from VW's probabilities over the candidates."""
        candidates = self._candidates(user, now_ms, blocked, slots)
        if not candidates:
            return Choice([], [], 0, [], [])
        lines = [self._shared(user), *(self._action(row) for row in candidates)]
        scores = np.asarray(self._model.predict(lines), dtype=np.float64)
        u = uniform(self.truth.config.seed, "vw", user, now_ms, np.arange(slots))
        places, propensities = draw_slate(scores + 1e-9, u[: min(slots, len(scores))])
        flat = np.full(len(places), PRIOR_PCTR)
        return Choice([candidates[p] for p in places], propensities, len(candidates), flat, flat)

    def _candidates(self, user: int, now_ms: int, blocked: set[int], slots: int) -> list[int]:
        """Return the most clicked ads and random ones, half and half, that the rules let through."""
        popular = super().choose(user, now_ms, blocked, max(self._half, slots)).rows
        allowed = self.groups.rows(int(self.truth.users.group[user]))
        u = uniform(self.truth.config.seed, "vw candidates", user, now_ms, np.arange(self._half))
        drawn = allowed[(u * len(allowed)).astype(np.int64)].tolist() if len(allowed) else []
        return self.rules.fill(dict.fromkeys([*popular, *drawn]), blocked, 2 * self._half)

    def _learn_until(self, now_ms: int) -> None:
        while self._queue and self._queue[0].due_ms <= now_ms:
            row, shared, propensity, key = self._queue.popleft()[1:]
            cost = -self._reward(row, key in self._clicked)
            self._clicked.discard(key)
            self._model.learn([shared, f"0:{cost:.6f}:{max(propensity, 1e-3):.6f} {self._action(row)}"])

    def _reward(self, row: int, clicked: bool) -> float:
        """Return what the impression brought, in mean bids per click (a conversion at its mean rate)."""
        one = np.array([row])
        value = self.truth.value_micros(one, np.array([float(clicked)]), np.array([MEAN_PCVR]))
        return float(value[0]) / self.truth.config.inventory.bid_micros

    def _shared(self, user: int) -> str:
        context = self.truth.users.contexts[user]
        return f"shared |u u{user} |s {context.segment} {context.device} {context.country}"

    def _action(self, row: int) -> str:
        ads = self.truth.ads
        return f"|a ad{row} campaign{ads.campaign[row]} category{ads.category[row]}"
