"""Campaigns per minute: outcomes in; impressions, clicks, conversions, charges and value out.

    python -m bytewax.run flows.rollup       or        impulse rollup

Bytewax's windowing operator (tumbling, one minute) on a clock that only the log moves:

    ads.outcomes.v1 ─decode▸ (partition, Told | Rejected) ─mark▸ (partition|campaign, Marked)
                    ─fold_window▸ a partition's part of a campaign's minute, at its close; late outcomes
                    ─total▸ (campaign, [Output]), key ``campaign|minute`` ─▸ ads.rollups.v1

**The clock.** Every outcome carries the watermark of its partition, ``lateness_s`` behind the greatest event
time before it (and never ahead of the records' own timestamps). System time has no say, and a window that
Bytewax has closed and forgotten cannot open again, because the watermark comes with the outcome and not out
of the forgotten state. Campaigns that fall silent are closed by ticks, which the other outcomes of their
partition cause. What is late is therefore a function of one partition's records in order: the same live
and on the fastest replay.

**Late outcomes** correct the minute: its row is written again with a higher ``revision``, and so it is for
each partition that holds a part of it. Sums do not depend on the order of the parts, so the last row of a
key is the same whatever the interleaving. Only minutes more than ``MINUTES_KEPT`` (a day and an hour) behind
their campaign are forgotten; what comes for them is a dead letter (``late``), never a wrong row.

A minute's row comes when the log has passed it: the last minute of a silent topic waits for the next outcome.
"""

from __future__ import annotations

import threading

import bytewax.operators as op
from bytewax.dataflow import Dataflow, Stream
from bytewax.inputs import Source
from bytewax.operators.windowing import TumblingWindower, fold_window
from bytewax.outputs import Sink

from connectors.codec import encode
from connectors.consumer import ReadSettings
from connectors.dead_letters import to_dead_letter
from connectors.kafka import KafkaLogSource, KafkaSink
from models.domain.decision import Outcome
from models.domain.log import LogRecord, Rejected

from .learn import decode_outcomes
from .log_clock import EPOCH, MINUTE, MINUTE_MS, LogClock, Marked, Told
from .minutes import MarkLogic, Part, Sums, TotalLogic, added, nothing, row_key, row_of, sums_of
from .operators import Keyed
from .settings import Settings, load_settings


def flow(settings: Settings | None = None, stop: threading.Event | None = None) -> Dataflow:
    """Return the dataflow that reads and writes Kafka as the settings say."""
    settings = settings or load_settings()
    config, topics = settings.kafka.config(), settings.topics
    reading = ReadSettings(batch_size=settings.batch_size, group_id=f"{settings.group_id}-rollup")
    outcomes = KafkaLogSource(config, topics.outcomes, settings=reading, stop=stop)
    sink = KafkaSink(config, topics.by_stream(), linger_ms=settings.linger_ms)
    return rollup(outcomes, sink, settings.rollup_lateness_s)


def rollup(outcomes: Source[LogRecord], sink: Sink[Keyed], lateness_s: int = 60) -> Dataflow:
    """Return the dataflow between any source of outcomes and any sink of outputs."""
    dataflow = Dataflow("rollup")
    records: Stream[LogRecord] = op.input("outcomes", dataflow, outcomes)
    told = op.flat_map_batch("decode", records, decode_told)  # (partition, Told | Rejected)
    marked = op.stateful_batch("mark", told, lambda state: MarkLogic(state, lateness_s * 1000))
    counted = op.flat_map("by_campaign", marked, by_campaign)  # (partition|campaign, Marked)
    minutes = fold_window(
        "minute",
        counted,
        LogClock(),
        TumblingWindower(length=MINUTE, align_to=EPOCH),
        builder=nothing,
        folder=lambda sums, item: added(sums, sums_of(item)),
        merger=added,
        ordered=False,  # sums do not depend on the order, and nothing waits in a queue
    )
    shares = op.map("shares", minutes.down, share)  # (campaign, Part)
    late = op.flat_map("late", minutes.late, late_part)  # (campaign, Part)
    rows = op.stateful_batch("total", op.merge("parts", shares, late), TotalLogic)  # (campaign, [Output])
    refused = op.flat_map("refused", marked, dead_letter)  # (partition, [Output])
    op.output("out", op.merge("outputs", rows, refused), sink)
    return dataflow


def decode_told(records: list[LogRecord]) -> list[tuple[str, Told | Rejected]]:
    """Return each record's outcome under its partition; what is none becomes `Rejected`."""
    return [
        (
            f"{record.partition:05d}",
            Told(record, outcome) if isinstance(outcome, Outcome) else outcome._replace(stage="rollup"),
        )
        for record, outcome in zip(records, decode_outcomes(records), strict=True)
    ]


def by_campaign(item: tuple[str, Marked | Rejected]) -> list[tuple[str, Marked]]:
    """Key a marked outcome by its campaign within one partition, whose order the log fixes."""
    partition, marked = item
    return [] if isinstance(marked, Rejected) else [(f"{partition}|{marked.campaign_id}", marked)]


def share(item: tuple[str, tuple[int, Sums]]) -> tuple[str, Part]:
    """Return a closed window as its campaign's part; windows are numbered by minutes since 1970."""
    key, (window_id, sums) = item
    partition, _, campaign_id = key.partition("|")
    minute = window_id * MINUTE_MS
    value = encode(row_of(campaign_id, minute, sums, 0))
    record = LogRecord("rollup", int(partition), -1, minute, row_key(campaign_id, minute), value)
    return campaign_id, Part(campaign_id, minute, sums, record)


def late_part(item: tuple[str, tuple[int, Marked]]) -> list[tuple[str, Part]]:
    """Return a late outcome as a part of its own; ticks, which are late by design, are nothing."""
    _, (window_id, marked) = item
    if marked.told is None:
        return []
    campaign_id, record = marked.campaign_id, marked.told.record
    return [(campaign_id, Part(campaign_id, window_id * MINUTE_MS, sums_of(marked), record))]


def dead_letter(item: tuple[str, Marked | Rejected]) -> list[Keyed]:
    """Return the dead letter of what could not be used, under its partition."""
    partition, rejected = item
    if isinstance(rejected, Marked):
        return []
    return [(partition, [to_dead_letter(rejected.record, rejected.error, rejected.stage)])]
