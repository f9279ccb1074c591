"""Recording topics into a log file (`impulse record`)."""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace
from pathlib import Path

from connectors.client import KafkaConfig
from connectors.consumer import PartitionReader, ReadSettings, list_partitions
from connectors.log_files import LogWriter


@dataclass(frozen=True)
class Recording:
    """What was recorded: how many records, and per topic the next offset of each partition seen."""

    records: int
    next_offsets: dict[str, dict[int, int]]


def record(
    config: KafkaConfig,
    topics: list[str],
    path: Path,
    *,
    settings: ReadSettings | None = None,
    max_records: int | None = None,
    stop: threading.Event | None = None,
) -> Recording:
    """Write what topics hold, and with ``settings.until_end`` false what goes on arriving, into a log file.

    Guarantee: each partition's records in order, without gaps; the partitions of all topics interleave as
    they arrive. Ends at the end of the topics (``until_end``), after ``max_records``, or at ``stop``; the
    file has its name only then.

    Raises
    ------
    LogError
        when a topic is missing, its records have expired, or the file cannot be written.

    """
    settings = replace(settings or ReadSettings(until_end=True), group_id="impulse-record")
    stop = stop or threading.Event()
    lanes = [lane for topic in topics for lane in _open(config, topic, settings)]
    ends: dict[str, dict[int, int]] = {topic: {} for topic in topics}
    with LogWriter(path) as writer:
        while not stop.is_set() and any(not reader.finished(p) for reader, p in lanes):
            for reader, partition in lanes:
                room = None if max_records is None else max_records - writer.records
                records = reader.take(partition)[:room]
                writer.write(records)
                if records:
                    ends[records[0].topic][partition] = records[-1].offset + 1
            if writer.records == max_records:
                break
    for reader, partition in lanes:
        reader.close(partition)
    return Recording(writer.records, ends)


def _open(config: KafkaConfig, topic: str, settings: ReadSettings) -> list[tuple[PartitionReader, int]]:
    partitions = list_partitions(config, topic)
    reader = PartitionReader(config, topic, dict.fromkeys(partitions), settings)
    return [(reader, partition) for partition in partitions]
