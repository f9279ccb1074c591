"""The main flow: the log in; decisions, outcomes and dead letters out.

    python -m bytewax.run flows.personalize          settings from the environment
    impulse run --settings FILE                       the same, with recovery and sub-second epochs

One worker per process, one input step, one output step. Several processes share the partitions either
by ``IMPULSE_PARTITIONS`` (independent processes, each with a recovery folder of its own) or as a Bytewax
cluster (``-i``/``-a``).
"""

from __future__ import annotations

import threading

import bytewax.operators as op
from bytewax.dataflow import Dataflow, Stream
from bytewax.inputs import Source
from bytewax.outputs import Sink

from connectors.consumer import ReadSettings
from connectors.kafka import KafkaLogSource, KafkaSink
from models.domain.log import LogRecord

from .metrics import LagMetrics, RunMetrics, serve_metrics
from .operators import Keyed, chunk, decide, decode, encode_outputs
from .service import Service
from .settings import Settings, load_settings

FLOW_ID = "personalize"
WRITTEN = ("decisions", "outcomes", "interests", "dead_letters")
"""The streams that this flow writes."""


def flow(settings: Settings | None = None, stop: threading.Event | None = None) -> Dataflow:
    """Return the dataflow that reads and writes Kafka as the settings say."""
    settings = settings or load_settings()
    config = settings.kafka.config()
    source = KafkaLogSource(
        config,
        settings.topics.events,
        partitions=settings.partitions,
        settings=ReadSettings(batch_size=settings.batch_size, group_id=settings.group_id, stamped=True),
        stop=stop,
    )
    topics = settings.topics.by_stream()
    sink = KafkaSink(
        config,
        {stream: topics[stream] for stream in WRITTEN},
        linger_ms=settings.linger_ms,
        store=settings.recovery and settings.recovery / FLOW_ID,
        partitions=settings.partitions,
    )
    service = Service.of(settings)
    service.warm_up()
    if settings.metrics_port is None:
        return personalize(source, sink, service)
    metrics = RunMetrics()
    serve_metrics(settings, (metrics, LagMetrics({"events": source.lag})))
    return personalize(source, sink, service, metrics)


def personalize(
    source: Source[LogRecord], sink: Sink[Keyed], service: Service, metrics: RunMetrics | None = None
) -> Dataflow:
    """Return the dataflow between any source of log records and any sink of outputs."""
    new_shard = metrics.following(service.new_shard) if metrics else service.new_shard
    dataflow = Dataflow(FLOW_ID)
    records: Stream[LogRecord] = op.input("log", dataflow, source)
    items = decode("decode", records, service.codec)  # Received | Rejected
    shards = chunk("chunk", items, service.slices)  # (shard key, Chunk)
    emissions = decide("decide", shards, new_shard)  # (shard key, [Emission])
    outputs = encode_outputs("encode", emissions, metrics.note if metrics else None)  # (shard key, [Output])
    op.output("out", outputs, sink)
    return dataflow
