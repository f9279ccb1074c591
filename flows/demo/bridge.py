"""The simulated world on the other side of Kafka: it writes events and reads decisions, nothing else."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import msgspec

from connectors.client import KafkaConfig
from connectors.codec import encode
from connectors.consumer import PartitionReader, ReadSettings, list_partitions
from connectors.producer import OutputWriter
from models.domain.decision import Decision
from models.domain.errors import ImpulseError
from models.domain.events import CONTROL_TYPES, Event, Request
from models.domain.log import Output
from models.evaluation.world import World

_DECISIONS: msgspec.json.Decoder[Decision] = msgspec.json.Decoder(Decision)

_TICK_S = 0.005
"""Longest time for which the world stands still; a decision wakes it."""


@dataclass
class Traffic:
    """What went over the topics; latencies are from writing a request to reading its decision."""

    events: int = 0
    decisions: int = 0
    latencies_ms: list[float] = field(default_factory=list)
    last: list[Decision] = field(default_factory=list)


def wait_for_flow(
    config: KafkaConfig, events: str, decisions: str, check: Callable[[], None], timeout_s: float = 120.0
) -> None:
    """Ask for a decision for nobody until one comes: then the flow is up.

    Raises
    ------
    ImpulseError
        when none comes in time, or ``check`` finds that a process has ended.

    """
    writer = OutputWriter(config, {"events": events}, linger_ms=0.5)
    read = dict.fromkeys(list_partitions(config, decisions))
    reader = PartitionReader(config, decisions, read, ReadSettings(group_id="impulse-demo-ready"))
    now_ms = int(time.time() * 1000)
    probe = Request(id=f"probe-{now_ms}", event_time=now_ms, user_id="probe")
    writer.write([Output("events", b"probe", encode(probe), -1, -1)])
    writer.flush()
    deadline = time.monotonic() + timeout_s
    while not sum(len(reader.take(partition)) for partition in read):
        check()
        if time.monotonic() > deadline:
            raise ImpulseError(f"no decision within {timeout_s:.0f} s. Fix: read run.log beside the report")
    for partition in read:
        reader.close(partition)


class WorldBridge:
    """Lets a world live through Kafka in real time."""

    def __init__(self, world: World, config: KafkaConfig, events: str, decisions: str) -> None:
        self.world = world
        self.traffic = Traffic()
        self._partitions = list_partitions(config, events)
        self._writer = OutputWriter(config, {"events": events}, linger_ms=0.5)
        read = dict.fromkeys(list_partitions(config, decisions))
        settings = ReadSettings(group_id="impulse-demo-world", poll_s=_TICK_S)
        self._reader = PartitionReader(config, decisions, read, settings)
        self._read_partitions = list(read)
        self._asked: dict[str, float] = {}

    def live_until(self, time_ms: int) -> None:
        """Write what happens in the world before this time."""
        happened = self.world.step(time_ms)
        self._writer.write([output for event in happened for output in self._outputs(event)])
        self.traffic.events += len(happened)

    def _outputs(self, event: Event) -> list[Output]:
        value = encode(event)
        if isinstance(event, CONTROL_TYPES):
            return [Output("events", None, value, -1, -1, partition=p) for p in self._partitions]
        if isinstance(event, Request):
            self._asked[event.id] = time.perf_counter()
        return [Output("events", event.user_id.encode(), value, -1, -1)]

    def read_decisions(self) -> int:
        """Let the world react to the decisions that have arrived; return how many there were.

        Waits for one, but not for long: the world goes on meanwhile.
        """
        records = [r for partition in self._read_partitions for r in self._reader.take(partition)]
        now = time.perf_counter()
        decisions = [_DECISIONS.decode(record.value or b"") for record in records]
        for decision in decisions:
            asked = self._asked.pop(decision.request_id, None)
            if asked is not None:
                self.traffic.latencies_ms.append((now - asked) * 1000)
        if decisions:
            self.world.react(decisions)
            self.traffic.decisions += len(decisions)
            self.traffic.last = decisions[-3:]
        return len(decisions)

    def close(self) -> None:
        """Wait until everything written is acknowledged."""
        self._writer.flush()
