"""What was recorded in a world before second 0: what models are trained on and what every policy has read.

A dataflow that starts on a topic with a past reads it from the beginning: it knows the users before it
makes its first decision. So do all policies of a comparison.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import msgspec

from models.domain.decision import Decision
from models.domain.events import Request

from .generate import TICK_MS, written
from .logbook import Logbook
from .logging_policy import LoggingPolicy
from .loop import Delivered
from .world import World
from .world_config import WorldConfig

BATCH = 512


class Past(NamedTuple):
    """A log as it was delivered, the decisions behind it, and the logbook that goes on from its end."""

    delivered: tuple[Delivered, ...] = ()
    decisions: tuple[Decision, ...] = ()
    offsets: tuple[int, ...] = ()

    def logbook(self, partitions: int, delay_ms: int) -> Logbook:
        """Return the logbook in which the world's present is written, behind the past."""
        return Logbook(partitions, delay_ms=delay_ms, offsets=self.offsets or None)

    def batches(self) -> Iterator[list[Delivered]]:
        """Return the log for a policy to read; its requests were answered then, by another policy."""
        events = [one for one in self.delivered if not isinstance(one.event, Request)]
        return (events[i : i + BATCH] for i in range(0, len(events), BATCH))


NO_PAST = Past()


def record_past(config: WorldConfig, seconds: float, partitions: int = 1) -> Past:
    """Return the log of the `seconds` before a world begins, decided by a `LoggingPolicy`.

    Tastes stand still then (``drift.from_s``), and the ads are those of the first catalogue. The records
    keep their places and times; their bytes are dropped.
    """
    if seconds <= 0:
        return Past()
    world = World(msgspec.structs.replace(config, start_s=config.start_s - seconds))
    policy = LoggingPolicy(world.state)
    logbook = Logbook(partitions, delay_ms=config.traffic.ingest_delay_ms)
    delivered: list[Delivered] = []
    decisions: list[Decision] = []
    while world.now_ms < config.start_ms:
        happened = world.step(min(world.now_ms + TICK_MS, config.start_ms))
        batch = [Delivered(record, event) for event in happened for record in written(config, logbook, event)]
        delivered += (Delivered(record._replace(value=None), event) for record, event in batch)
        made = policy.decide_batch(batch)
        world.react(made)
        decisions += made
    return Past(tuple(delivered), tuple(decisions), tuple(logbook.offsets))
