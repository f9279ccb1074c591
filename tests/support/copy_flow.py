"""A flow that copies a topic, as a process to be killed: copy_flow.py BOOTSTRAP SOURCE TARGET RECOVERY.

As one process of a cluster it takes two more arguments: PROCESS and ADDRESS,ADDRESS,...
It counts the records of each partition in recovered state and writes the count before each record into
its header ``seen``: equal to the record's offset if state and offsets are in step.
"""

from __future__ import annotations

import sys
from datetime import timedelta
from pathlib import Path

import bytewax.operators as op
from bytewax.dataflow import Dataflow
from bytewax.recovery import RecoveryConfig
from bytewax.testing import cluster_main

from connectors.client import KafkaConfig
from connectors.kafka import KafkaLogSource, KafkaSink
from connectors.shutdown import stop_on_signals
from flows.recovery import forget_unfinished
from models.domain.log import LogRecord, Output


def by_partition(record: LogRecord) -> tuple[str, LogRecord]:
    return str(record.partition), record


def counted(seen: int | None, record: LogRecord) -> tuple[int, list[Output]]:
    headers = (("seen", b"%d" % (seen or 0)), ("offset", b"%d" % record.offset))
    place = (record.partition, record.offset)
    return (seen or 0) + 1, [Output("decisions", record.key, record.value, *place, headers=headers)]


def main(
    bootstrap: str,
    origin: str,
    target: str,
    recovery: str,
    process: str = "0",
    addresses: str = "",
) -> None:
    config = KafkaConfig(bootstrap)
    source = KafkaLogSource(config, origin)
    stop_on_signals(source.stop)
    flow = Dataflow("copy")
    keyed = op.map("by_partition", op.input("in", flow, source), by_partition)
    store = Path(recovery)
    if not addresses:
        forget_unfinished(store)
    sink = KafkaSink(config, {"decisions": target}, store=store)
    op.output("out", op.stateful_map("counted", keyed, counted), sink)
    cluster_main(
        flow,
        addresses.split(",") if addresses else [],
        int(process),
        epoch_interval=timedelta(milliseconds=200),
        recovery_config=RecoveryConfig(recovery, timedelta(0)),
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
