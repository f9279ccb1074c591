"""Recorded logs made by the simulated world under a policy that explores."""

from __future__ import annotations

from collections.abc import Iterator

from models.domain.events import Event
from models.domain.log import LogRecord

from .draws import uniform
from .logbook import Logbook
from .logging_policy import LoggingPolicy
from .loop import Delivered, LoopPolicy
from .world import World
from .world_config import WorldConfig

TICK_MS = 200


def generate_log(
    config: WorldConfig, seconds: float, *, partitions: int = 4, policy: LoopPolicy | None = None,
    world: World | None = None,
) -> Iterator[LogRecord]:  # fmt: skip
    """Yield the log of a world over `seconds` from its start, in the order in which it was written.

    Every partition begins with the catalogue.

    Parameters
    ----------
    config
        The world.
    seconds
        How long to let it run.
    partitions
        Of the log.
    policy
        What decides; a `LoggingPolicy` if None. The decisions themselves are no part of the log.
    world
        A world of `config` to continue, for its ledger; a new one if None.

    """
    world = world or World(config)
    policy = policy or LoggingPolicy(world.state)
    logbook = Logbook(partitions, delay_ms=config.traffic.ingest_delay_ms)
    end_ms = world.now_ms + round(seconds * 1000)
    while world.now_ms < end_ms:
        batch: list[Delivered] = []
        for event in world.step(min(world.now_ms + TICK_MS, end_ms)):
            for record in written(config, logbook, event):
                batch.append(Delivered(record, event))
                yield record
        world.react(policy.decide_batch(batch))


def written(config: WorldConfig, logbook: Logbook, event: Event) -> Iterator[LogRecord]:
    """Yield the records of an event of this world.

    A share ``traffic.duplicate_share`` of the users' events comes twice, as from a producer that retries.
    """
    for record in logbook.append(event):
        yield record
        if _comes_twice(config, record):
            yield from logbook.append(event)


def _comes_twice(config: WorldConfig, record: LogRecord) -> bool:
    share = config.traffic.duplicate_share
    if not share or record.key is None:
        return False
    return bool(uniform(config.seed, "twice", record.partition, record.offset)[0] < share)
