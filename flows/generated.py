"""A log of the simulated world that Impulse's own code decided: replay makes the same decisions again."""

from __future__ import annotations

from collections.abc import Iterator

from models.domain.events import PolicyChange
from models.domain.log import LogRecord
from models.domain.policy import Policy
from models.evaluation.core_policy import CorePolicy
from models.evaluation.generate import TICK_MS, written
from models.evaluation.logbook import Logbook
from models.evaluation.loop import Delivered
from models.evaluation.world import World
from models.evaluation.world_config import WorldConfig

from .service import Service


def own_log(
    config: WorldConfig, seconds: float, service: Service, policy: Policy, *, partitions: int = 4
) -> Iterator[LogRecord]:
    """Yield the log of a world whose users are shown what the service decides under a policy.

    The policy is the log's first record. Nothing learns beside, so the log alone holds all that the
    decisions depend on.
    """
    world, logbook = World(config), Logbook(partitions, delay_ms=config.traffic.ingest_delay_ms)
    core = CorePolicy(service.new_shard, service.slices)
    end_ms = world.now_ms + round(seconds * 1000)
    first = PolicyChange(id="first-policy", event_time=world.now_ms, policy=policy)
    batch = [Delivered(record, first) for record in logbook.append(first)]
    while world.now_ms < end_ms:
        for event in world.step(min(world.now_ms + TICK_MS, end_ms)):
            batch += [Delivered(record, event) for record in written(config, logbook, event)]
        yield from (record for record, _ in batch)
        world.react(core.decide_batch(batch))
        batch = []
