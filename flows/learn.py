"""Learning from what happened: outcomes in; learned adjustments and pacing back into every partition.

    python -m bytewax.run flows.learn        or        impulse learn

One logical learner: everything is keyed to one state. It needs no determinism for replay, because what it
says goes through the log like everything else; it is nevertheless a function of its inputs alone. Outcomes
that `flows.personalize` wrote again after a crash are dropped before anything learns or charges them.

    ads.outcomes.v1 ──▸ outcome ──┐
    ads.interests.v1 ─▸ interest ─┼─▸ learner + pacer ─▸ Adjustments, Pacing ─▸ a copy into every partition
    ads.events.v1/0 ──▸ offers ───┘                  └─▸ Notice of a drift ─▸ partition 0
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import bytewax.operators as op
import msgspec
from bytewax.dataflow import Dataflow, Stream
from bytewax.inputs import Source
from bytewax.operators import StatefulBatchLogic
from bytewax.outputs import Sink

from connectors.artifacts import ArtifactStore
from connectors.broadcast import copies
from connectors.catalogues import stored_ads
from connectors.codec import EventCodec, encode
from connectors.consumer import ReadSettings, list_partitions
from connectors.dead_letters import to_dead_letter
from connectors.kafka import KafkaLogSource, KafkaSink
from connectors.pieces import pieces
from models.decide.pacing import paced
from models.domain.decision import Interest, Outcome
from models.domain.errors import BadRecord
from models.domain.events import Control, Notice
from models.domain.ids import content_hash
from models.domain.log import LogRecord, Output, Rejected
from models.learning.drift import DriftAlarm
from models.learning.event_clock import EventClock
from models.learning.learner import Learner
from models.learning.settings import LearnerSettings
from models.policy.pacing import Pacer
from models.policy.pacing_settings import PacingSettings
from models.scorer.artifact import read_manifest
from models.scorer.slots import SlotCounts, stored_slots
from models.state.repeats import Repeats
from models.state.seen import SeenIds

from .metrics import LagMetrics, LearnMetrics, serve_metrics
from .offers import (
    REMEMBERED,
    AdsOf,
    Offered,
    OffersOnly,
    SlotsOf,
    no_artifacts,
    published_slots,
    unpublished,
)
from .operators import Keyed
from .settings import Settings, load_settings

Lesson = Outcome | Interest | Offered | Rejected
KEY = "learner"


class LearnOptions(NamedTuple):
    """What the flow can be told.

    ``engine`` names the learner's engine, ``pacing`` says how budgets are paced, ``ads_of`` opens the
    catalogue artifacts that the log names, ``slots_of`` its models; ``slots`` is what the first model brings.
    """

    engine: str = "impulse"
    pacing: PacingSettings = PacingSettings()
    ads_of: AdsOf = no_artifacts
    slots_of: SlotsOf = unpublished
    slots: SlotCounts | None = None


DEFAULT_OPTIONS = LearnOptions()


def flow(settings: Settings | None = None, stop: threading.Event | None = None) -> Dataflow:
    """Return the dataflow that reads and writes Kafka as the settings say."""
    settings = settings or load_settings()
    config, topics = settings.kafka.config(), settings.topics
    reading = ReadSettings(batch_size=settings.batch_size, group_id=f"{settings.group_id}-learn")
    outcomes = KafkaLogSource(config, topics.outcomes, settings=reading, stop=stop)
    interests = KafkaLogSource(config, topics.interests, settings=reading, stop=stop)
    log = KafkaLogSource(config, topics.events, partitions=(0,), settings=reading, stop=stop)
    sink = KafkaSink(config, topics.by_stream(), linger_ms=settings.linger_ms)
    partitions = list_partitions(config, topics.events)
    store = ArtifactStore(settings.artifacts)
    pacing = PacingSettings(
        plan=settings.pacing_plan, first_mu=settings.pacing_first_mu, delay_s=settings.pacing_delay_s
    )
    options = LearnOptions(
        settings.learner_engine,
        pacing,
        partial(stored_ads, store),
        partial(published_slots, settings.artifacts),
        None if settings.model is None else stored_slots(read_manifest(settings.model)),
    )
    metrics = LearnMetrics()
    lags = {"outcomes": outcomes.lag, "interests": interests.lag, "events": log.lag}
    serve_metrics(settings, (metrics, LagMetrics(lags)))
    return learn(outcomes, interests, log, sink, partitions, options, metrics)


def learn(
    outcomes: Source[LogRecord],
    interests: Source[LogRecord],
    log: Source[LogRecord],
    sink: Sink[Keyed],
    partitions: Sequence[int],
    options: LearnOptions = DEFAULT_OPTIONS,
    metrics: LearnMetrics | None = None,
) -> Dataflow:
    """Return the dataflow between any sources of what there is to learn from and any sink."""
    dataflow = Dataflow("learn")
    told: Stream[LogRecord] = op.input("outcomes", dataflow, outcomes)
    looked: Stream[LogRecord] = op.input("interests", dataflow, interests)
    known: Stream[LogRecord] = op.input("log", dataflow, log)
    followed = op.flat_map_batch("decode_outcomes", told, decode_outcomes)  # Outcome | Rejected
    interested = op.flat_map_batch("decode_interests", looked, decode_interests)  # Interest | Rejected
    offers = op.flat_map_batch(
        "decode_offers", known, OffersOnly(EventCodec(), options.ads_of, options.slots_of)
    )
    lessons = op.merge("merge", followed, interested, offers)
    keyed = op.key_on("one_learner", lessons, lambda _: KEY)
    versions = int(time.time() * 1000)  # above every version of an earlier run that left no snapshot

    def logic(state: dict[str, bytes] | None) -> LearnLogic:
        made = LearnLogic(state, partitions, options, versions)
        if metrics is not None:
            metrics.follow(made.learner, made.pacer)
        return made

    out = op.stateful_batch("learn", keyed, logic)  # (key, [Output])
    op.output("out", out, sink)
    return dataflow


def decode_outcomes(records: list[LogRecord]) -> list[Outcome | Rejected]:
    """Return the outcome in each record; what is none becomes `Rejected`."""
    return [_decode_outcome(record) for record in records]


def decode_interests(records: list[LogRecord]) -> list[Interest | Rejected]:
    """Return the interest in each record; what is none becomes `Rejected`."""
    return [_decode_interest(record) for record in records]


def _decode_interest(record: LogRecord) -> Interest | Rejected:
    try:
        return _INTERESTS.decode(record.value or b"")
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        return Rejected(record, BadRecord("bad_interest", str(error)), "learn")


_INTERESTS: msgspec.json.Decoder[Interest] = msgspec.json.Decoder(Interest)
_OUTCOMES: msgspec.json.Decoder[Outcome] = msgspec.json.Decoder(Outcome)


def _decode_outcome(record: LogRecord) -> Outcome | Rejected:
    try:
        return _OUTCOMES.decode(record.value or b"")
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        return Rejected(record, BadRecord("bad_outcome", str(error)), "learn")


def notice_of(alarm: DriftAlarm) -> Notice:
    """Return the record that tells people of a drift; equal alarms have equal ids."""
    return Notice(
        id=f"drift-{content_hash(f'{alarm.segment}|{alarm.category}'.encode())[:16]}-{alarm.time_ms}",
        event_time=alarm.time_ms,
        about="drift",
        segment=alarm.segment,
        category=alarm.category,
        before=round(alarm.before, 5),
        after=round(alarm.after, 5),
        labels=alarm.labels,
    )


class LearnLogic(StatefulBatchLogic[Lesson, list[Output], dict[str, bytes]]):
    """The learner and the pacer inside Bytewax."""

    def __init__(
        self,
        state: dict[str, bytes] | None,
        partitions: Sequence[int],
        options: LearnOptions,
        first_version: int,
    ) -> None:
        self._partitions = partitions
        settings = LearnerSettings(engine=options.engine, first_version=first_version)
        pacing = replace(options.pacing, first_version=first_version)
        self._repeats, self._clock = Repeats(), EventClock()
        self._offers = SeenIds(REMEMBERED)
        if state is None:
            self.learner, self.pacer = Learner(settings), Pacer(pacing)
            self.learner.forget_earlier("a learner starts without a snapshot")
            self.pacer.forget_earlier(due_ms=first_version)  # that is now; outcomes of before come first
        else:
            self.learner = Learner.from_bytes(state["learner"], settings)
            self.pacer = Pacer.restore(state["pacer"], pacing)
            self.learner.announce_again(first_version)
            self.pacer.announce_again(first_version)
            self._repeats.load(state["repeats"])
            self._offers.load(msgspec.msgpack.decode(state["offers"], type=list[str]))
            self._clock.restore(msgspec.msgpack.decode(state["clock"]))
        self._begin(options.slots)

    def on_batch(self, values: list[Lesson]) -> tuple[list[list[Output]], bool]:
        """Learn from outcomes and follow budgets; return the control records that are due."""
        told = (value for value in values if isinstance(value, Outcome))
        outcomes = [outcome for outcome in told if self._repeats.first_time(outcome)]
        for value in values:
            if isinstance(value, Offered) and self._offers.first_time(value.record_id):
                self._follow(value)
        self.learner.follow(value for value in values if isinstance(value, Interest))
        learned = self.learner.learn(outcomes)
        control: list[Control] = list(learned.adjustments)
        control += paced(self.pacer, outcomes, self._clock)
        said = [piece for change in control for piece in pieces(change)]
        out = [output for piece in said for output in copies(encode(piece), self._partitions)]
        for alarm in learned.alarms:
            out += copies(encode(notice_of(alarm)), self._partitions[:1])
        out += [to_dead_letter(v.record, v.error, v.stage) for v in values if isinstance(v, Rejected)]
        return [out] if out else [], self.RETAIN

    def snapshot(self) -> dict[str, bytes]:
        """Return the states as bytes of plain data."""
        return {
            "learner": self.learner.to_bytes(),
            "pacer": self.pacer.snapshot(),
            "repeats": self._repeats.dump(),
            "clock": msgspec.msgpack.encode(self._clock.values()),
            "offers": msgspec.msgpack.encode(self._offers.dump()),
        }

    def _follow(self, offered: Offered) -> None:
        """Follow the budgets and ends of the ads that come and go; begin with what a model brings."""
        (self.pacer.replace if offered.whole else self.pacer.follow)(offered.ads)
        self.pacer.withdraw(offered.withdrawn)
        self._begin(offered.slots)

    def _begin(self, slots: SlotCounts | None) -> None:
        if slots is not None:
            self.learner.begin(slots.shown, slots.clicks)
