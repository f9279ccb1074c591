"""Records of the log as bytes, good and bad ones in turn."""

from __future__ import annotations

import json
from typing import Any

from support.shards import START, TOPIC

from models.domain.log import LogRecord


class RawLog:
    """Writes records into one partition, a second apart; what is not said of an event is filled in."""

    def __init__(self, partition: int = 0) -> None:
        self.partition = partition
        self.now = START
        self.records: list[LogRecord] = []

    def raw(self, value: bytes | None, key: bytes | None = b"u") -> LogRecord:
        """Append any bytes."""
        self.now += 1000
        record = LogRecord(TOPIC, self.partition, len(self.records), self.now, key, value)
        self.records.append(record)
        return record

    def event(self, kind: str, **fields: Any) -> LogRecord:
        """Append an event; fields are as JSON has them."""
        given = {"type": kind, "id": f"e{self.partition}-{len(self.records)}", "event_time": self.now + 1000}
        return self.raw(json.dumps(given | fields).encode())

    def request(self, user_id: str = "u", **fields: Any) -> LogRecord:
        return self.event("request", user_id=user_id, **fields)

    def ads(self, count: int = 6, **fields: Any) -> LogRecord:
        ads = [
            {"ad_id": f"a{n}", "campaign_id": f"c{n}", "bid_micros": 10**6 + n, **fields}
            for n in range(count)
        ]
        return self.event("ad_upsert", ads=ads)
