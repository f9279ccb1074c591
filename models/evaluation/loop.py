"""What a policy is to the closed loop, and what every policy of it shares: rules and the form of decisions.

All baselines obey the rules that the decision core obeys (targeting, no repeats, a cap per ad, ads per
campaign, hidden ads, daily budgets), so that their values compare.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, Protocol

import numpy as np

from models.domain.catalogue import BID_TYPES
from models.domain.decision import Decision, Parts, Slot
from models.domain.events import Event, Hide, Impression, Request
from models.domain.ids import decision_id
from models.domain.log import LogRecord
from models.domain.policy import Policy

from .budgets import Budgets
from .draws import F64
from .inventory import AdTable
from .population import I64
from .truth import Truth

KNOWN_IDS = 1 << 16
"""Event ids that those beside the product's core remember, to drop what comes twice."""


class Delivered(NamedTuple):
    """An event at its place in the log."""

    record: LogRecord
    event: Event


class LoopPolicy(Protocol):
    """Decides in the closed loop.

    `decide_batch` is given every event, in log order, control records and feedback included, and returns
    the decisions that the batch calls for; each carries `decision_id(topic, partition, offset)`.
    `recall` is given the decisions that another policy made in the past which it is about to read.
    """

    def recall(self, decisions: Sequence[Decision]) -> None:
        """Take note of another policy's decisions; their feedback comes with the batches that follow."""
        ...

    def decide_batch(self, batch: Sequence[Delivered]) -> list[Decision]:
        """Take in a batch of events and return the decisions for its requests."""
        ...


class Rules:
    """Who may not be shown what again; fed with every event."""

    def __init__(self, truth: Truth, policy: Policy | None = None) -> None:
        self.truth = truth
        self.policy = policy or Policy()
        cap = next((c for c in self.policy.caps if c.scope == "ad"), None)
        self._cap = cap.impressions if cap else 1_000_000
        self._window_ms = 1000 * max(self.policy.no_repeat_s, cap.window_s if cap else 0)
        self._seen: dict[str, deque[tuple[int, int]]] = defaultdict(deque)
        self._hidden: dict[str, set[int]] = defaultdict(set)
        self._budgets = Budgets(truth)

    def observe(self, event: Event) -> None:
        """Take note of an impression or a hide, and of what an event costs its campaign."""
        self._budgets.observe(event)
        if isinstance(event, Impression):
            self._seen[event.user_id].append((event.event_time, self.truth.ads.row_of[event.ad_id]))
        elif isinstance(event, Hide):
            self._hidden[event.user_id].add(self.truth.ads.row_of[event.ad_id])

    def blocked(self, user_id: str, now_ms: int) -> set[int]:
        """Return the rows of ads that this user may not see now."""
        seen = self._seen[user_id]
        while seen and seen[0][0] <= now_ms - self._window_ms:
            seen.popleft()
        count: dict[int, int] = defaultdict(int)
        for _, row in seen:
            count[row] += 1
        recent = now_ms - 1000 * self.policy.no_repeat_s
        repeats = {row for time, row in seen if time > recent}
        capped = {row for row, n in count.items() if n >= self._cap}
        return repeats | capped | self._hidden[user_id] | self._budgets.exhausted(now_ms)

    def fill(self, rows: Iterable[int], blocked: set[int], slots: int) -> list[int]:
        """Return the first `slots` of the ranked `rows` that the rules let through."""
        chosen: list[int] = []
        per_campaign: dict[int, int] = defaultdict(int)
        campaign = self.truth.ads.campaign
        for row in rows:
            if row in blocked or per_campaign[int(campaign[row])] >= self.policy.max_per_campaign:
                continue
            per_campaign[int(campaign[row])] += 1
            chosen.append(row)
            if len(chosen) == slots:
                break
        return chosen

    def fill_from(
        self, ranking: Callable[[int], Iterable[int]], blocked: set[int], slots: int, candidates: int
    ) -> list[int]:
        """Return the first `slots` of all candidates that the rules let through.

        ``ranking(n)`` gives the first n of them. It is asked for more until the slate is full or there are
        none: where campaigns are large, the rules keep out most of the first ones.
        """
        count = looked_at(slots, blocked)
        while True:
            rows = self.fill(ranking(min(count, candidates)), blocked, slots)
            if len(rows) == slots or count >= candidates:
                return rows
            count *= 2


def looked_at(slots: int, blocked: set[int]) -> int:
    """Return how many of the first candidates usually fill the slots."""
    return 8 * slots + len(blocked)


class Groups:
    """The rows that each class of users may see, kept until the catalogue changes."""

    def __init__(self, truth: Truth) -> None:
        self._truth = truth
        self._of: AdTable | None = None
        self._rows: dict[int, I64] = {}

    def rows(self, group: int) -> I64:
        """Return the rows of active ads whose targeting allows this class, ascending."""
        ads = self._truth.ads
        if self._of is not ads:
            self._of, self._rows = ads, {}
        if group not in self._rows:
            self._rows[group] = np.flatnonzero(ads.active & ads.allowed[:, group])
        return self._rows[group]


def make_decision(
    truth: Truth,
    record: LogRecord,
    request: Request,
    rows: Sequence[int],
    *,
    policy: str,
    propensities: Sequence[float],
    candidates: int,
    pctr: Sequence[float] | F64,
    pcvr: Sequence[float] | F64,
) -> Decision:
    """Return the decision that shows the ads of `rows`, best first, charged at their bids."""
    made = zip(rows, propensities, pctr, pcvr, strict=True)
    ads = tuple(_slot(truth, i, *values) for i, values in enumerate(made))
    return Decision(
        decision_id=decision_id(record.topic, record.partition, record.offset),
        trigger="request",
        request_id=request.id,
        user_id=request.user_id,
        placement_id=request.placement_id,
        segment=request.context.segment,
        event_time=request.event_time,
        ingest_time=record.timestamp_ms,
        ads=ads,
        candidates=candidates,
        filtered={},
        activity={},
        behavior_policy=policy,
        slate_propensity=float(np.prod(propensities)) if len(ads) else 1.0,
        model_hash="",
        catalogue_version="",
        adjustments_version=0,
        pacing_version=0,
        policy_version=0,
        rung="popularity",
    )


def _slot(truth: Truth, place: int, row: int, propensity: float, pctr: float, pcvr: float) -> Slot:
    ad = truth.ads.ads[row]
    p = min(max(float(pctr), 1e-6), 1 - 1e-6)
    per_impression = {"cpm": 1e-3, "cpc": p, "cpa": p * float(pcvr)}[BID_TYPES[truth.ads.bid_type[row]]]
    return Slot(
        slot=place,
        ad_id=ad.ad_id,
        campaign_id=ad.campaign_id,
        creative_id="",
        category=ad.category,
        pctr=p,
        pcvr=float(pcvr),
        bid_type=ad.bid_type,
        bid_micros=ad.bid_micros,
        price_micros=ad.bid_micros,
        ecpm_micros=int(1000 * per_impression * ad.bid_micros),
        pacing=0.0,
        propensity=float(propensity),
        parts=Parts(base=float(np.log(p / (1 - p)))),
    )
