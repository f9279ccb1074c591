"""Records of the outcomes topic."""

from __future__ import annotations

from typing import Any

from support.shards import START

from connectors.codec import encode
from models.domain.decision import Outcome, Parts
from models.domain.log import LogRecord

TOPIC = "ads.outcomes.v1"
MINUTE = START - START % 60_000
"""Where the clock of these tests begins: a whole minute."""


def outcome(kind: str = "impression", at_s: float = 0, **fields: Any) -> Outcome:
    """Return an outcome so many seconds after `MINUTE`."""
    time_ms = MINUTE + int(at_s * 1000)
    defaults: dict[str, Any] = {
        "decision_id": "ads.events.v1-0-1",
        "event_id": f"{kind}-{at_s}",
        "user_id": "u",
        "ad_id": "a",
        "campaign_id": "c",
        "creative_id": "",
        "category": "",
        "segment": "",
        "slot": 0,
        "decision_time": time_ms,
        "event_time": time_ms,
        "pctr": 0.1,
        "pcvr": 0.1,
        "propensity": 1.0,
        "behavior_policy": "greedy",
        "parts": Parts(base=-2.0),
        "model_hash": "m",
        "adjustments_version": 0,
    }
    return Outcome(kind=kind, **(defaults | fields))


class OutcomeLog:
    """Writes outcomes one after another into partitions."""

    def __init__(self) -> None:
        self.records: list[LogRecord] = []

    def add(
        self,
        kind: str = "impression",
        at_s: float = 0,
        partition: int = 0,
        written_s: float | None = None,
        **fields: Any,
    ) -> None:
        told = outcome(kind, at_s, **{"event_id": f"e{len(self.records)}", **fields})
        written = at_s if written_s is None else written_s
        self.raw(encode(told), partition, MINUTE + int(written * 1000))

    def raw(self, value: bytes, partition: int = 0, timestamp_ms: int = MINUTE) -> None:
        offset = sum(record.partition == partition for record in self.records)
        self.records.append(LogRecord(TOPIC, partition, offset, timestamp_ms, b"a", value))
