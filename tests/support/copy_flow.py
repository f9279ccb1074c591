"""A flow that copies a topic, as a process to be killed: copy_flow.py BOOTSTRAP SOURCE TARGET RECOVERY."""

from __future__ import annotations

import sys
from datetime import timedelta

import bytewax.operators as op
from bytewax.dataflow import Dataflow
from bytewax.recovery import RecoveryConfig
from bytewax.testing import run_main

from connectors.client import KafkaConfig
from connectors.kafka import KafkaLogSource, KafkaSink
from connectors.shutdown import stop_on_signals
from models.domain.log import LogRecord, Output


def copied(record: LogRecord) -> tuple[str, list[Output]]:
    output = Output("decisions", record.key, record.value, record.partition, record.offset)
    return str(record.partition), [output]


def main(bootstrap: str, source_topic: str, target_topic: str, recovery: str) -> None:
    config = KafkaConfig(bootstrap)
    source = KafkaLogSource(config, source_topic)
    stop_on_signals(source.stop)
    flow = Dataflow("copy")
    stream = op.map("copied", op.input("in", flow, source), copied)
    op.output("out", stream, KafkaSink(config, {"decisions": target_topic}))
    run_main(
        flow,
        epoch_interval=timedelta(milliseconds=200),
        recovery_config=RecoveryConfig(recovery, timedelta(0)),
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
