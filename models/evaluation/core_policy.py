"""The real decision core in the closed loop, without Kafka: shards, learner and pacer in one process.

The same `Shard`, `Learner` and `Pacer` as in the flows; what the flows send back through the log is handed
to the shards directly, between two batches.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

from models.decide.chunks import chunks
from models.decide.pacing import paced
from models.decide.shard import Place, Shard
from models.domain.decision import Decision, Interest, Outcome
from models.domain.events import AdUpsert, Control, PolicyChange
from models.domain.log import Emission, LogRecord, Received
from models.domain.policy import Policy
from models.learning.learner import Learner
from models.policy.pacing import Pacer

from .loop import Delivered


class CorePolicy:
    """Decides with the product's own code.

    Parameters
    ----------
    new_shard
        Makes an empty shard; what shards share is bound in it.
    slices
        Shards per partition.
    learner, pacer
        None: no adjustments are learned, no budgets paced.
    policy
        In force from each partition's first record on; None: the default one.
    report_delay_s
        How long after it happened an outcome reaches learner and pacer.

    """

    def __init__(
        self,
        new_shard: Callable[[Place], Shard],
        slices: int = 1,
        *,
        learner: Learner | None = None,
        pacer: Pacer | None = None,
        policy: Policy | None = None,
        report_delay_s: float = 0.0,
    ) -> None:
        self._new_shard, self._slices = new_shard, slices
        self.learner, self.pacer = learner, pacer
        self.shards: dict[Place, Shard] = {}
        self._policy = policy
        self._last: dict[int, LogRecord] = {}
        self._delay_ms = round(report_delay_s * 1000)
        self._unreported: deque[Outcome] = deque()

    def recall(self, decisions: Sequence[Decision]) -> None:
        """Take no note of another policy's decisions: what they showed and what followed is in the log."""

    def decide_batch(self, batch: Sequence[Delivered]) -> list[Decision]:
        """Take in a batch of events and return the decisions that it causes."""
        items = [Received(record, event) for record, event in batch]
        for record, event in batch:
            if record.partition not in self._last and self._policy is not None:
                first = PolicyChange(id="first-policy", event_time=event.event_time, policy=self._policy)
                self._process([Received(record, first)])
            self._last[record.partition] = record
        emissions = self._process(items)
        if self.learner is not None:
            self.learner.follow([e.body for e in emissions if isinstance(e.body, Interest)])
        self._learn(items, self._reported([e.body for e in emissions if isinstance(e.body, Outcome)]))
        return [e.body for e in emissions if isinstance(e.body, Decision)]

    def _reported(self, outcomes: list[Outcome]) -> list[Outcome]:
        """Return the outcomes that are told by now, the first that happened first in line."""
        if not self._delay_ms:
            return outcomes
        self._unreported += outcomes
        told_ms = max((record.timestamp_ms for record in self._last.values()), default=0) - self._delay_ms
        told = []
        while self._unreported and self._unreported[0].event_time <= told_ms:
            told.append(self._unreported.popleft())
        return told

    def _process(self, items: Sequence[Received]) -> list[Emission]:
        turns = []
        for part in chunks(items, self._slices):
            shard = self.shards.get(part.place)
            if shard is None:
                shard = self.shards[part.place] = self._new_shard(part.place)
            turns.append(shard.take(part.items))
        return [emission for turn in turns for emission in turn.emissions()]

    def _learn(self, items: Sequence[Received], outcomes: Sequence[Outcome]) -> None:
        control: list[Control] = []
        if self.learner is not None and outcomes:
            control += self.learner.learn(outcomes).adjustments
        if self.pacer is not None:
            for item in items:
                if isinstance(item.event, AdUpsert) and item.record.partition == min(self._last):
                    self.pacer.follow(item.event.ads)
            control += paced(self.pacer, outcomes)
        self._process([Received(record, event) for event in control for record in self._last.values()])
