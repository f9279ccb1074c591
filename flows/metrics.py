"""What running flows say of themselves: Prometheus metrics, where the settings name a port for them.

Decisions and dead letters are counted as they leave; all else is read from shards, learner, pacer and
consumers when somebody asks. Counts of shards go on from their snapshots after a restart.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Any, get_args

from prometheus_client import CollectorRegistry, GCCollector, ProcessCollector, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from models.decide.shard import Place, Shard
from models.domain.decision import Decision, OutcomeKind
from models.domain.errors import SettingError
from models.domain.events import KINDS
from models.domain.log import Emission, Rejected
from models.learning.guard import GuardReport
from models.learning.learner import Learner
from models.policy.pacing import Pacer

from .settings import Settings

BOUNDS_S = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 30.0)
"""Upper bounds of the latency's buckets."""

Lag = Callable[[], Mapping[int, int]]


def serve_metrics(settings: Settings, collectors: Iterable[Collector]) -> None:
    """Answer `/metrics` from a thread of its own, if the settings name a port.

    Raises
    ------
    SettingError
        where the port cannot be had.

    """
    if settings.metrics_port is None:
        return
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    GCCollector(registry=registry)
    for collector in collectors:
        registry.register(collector)
    try:
        start_http_server(settings.metrics_port, settings.metrics_host, registry)
    except OSError as error:
        raise SettingError.expected(
            "metrics_port",
            got=f"{settings.metrics_host}:{settings.metrics_port} ({error.strerror})",
            expected="a free port of this machine",
            fix="give every process one of its own: IMPULSE_METRICS_PORT",
        ) from error


class LagMetrics(Collector):
    """How far behind the end of each partition a flow is, by what it reads."""

    def __init__(self, of: Mapping[str, Lag]) -> None:
        self._of = of

    def collect(self) -> Iterator[Metric]:
        """Yield the lag in offsets."""
        behind = {
            (name, str(partition)): records
            for name, read in self._of.items()
            for partition, records in read().items()
        }
        about = "Records between a flow and the end of a partition."
        yield gauged("impulse_lag_records", about, ["input", "partition"], behind)


class RunMetrics(Collector):
    """What `impulse run` does: its decisions and dead letters, and how full its shards are."""

    def __init__(self, clock_ms: Callable[[], float] = lambda: time.time() * 1000) -> None:
        self._clock_ms = clock_ms
        self._shards: list[Shard] = []
        self._decisions: Counter[tuple[str, str]] = Counter()
        self._refused: Counter[str] = Counter()
        self._buckets = [0] * (len(BOUNDS_S) + 1)
        self._sum_s = 0.0

    def following(self, new_shard: Callable[[Place], Shard]) -> Callable[[Place], Shard]:
        """Return what makes shards as ``new_shard`` does, and knows them from then on."""

        def make(place: Place) -> Shard:
            shard = new_shard(place)
            self._shards.append(shard)
            return shard

        return make

    def note(self, emissions: Sequence[Emission]) -> None:
        """Count what a batch has caused."""
        now_ms = self._clock_ms()
        for emission in emissions:
            body = emission.body
            if type(body) is Decision:
                took_s = max(now_ms - body.ingest_time, 0.0) / 1000
                self._buckets[bisect_left(BOUNDS_S, took_s)] += 1
                self._sum_s += took_s
                self._decisions[body.trigger, body.rung] += 1
            elif type(body) is Rejected:
                self._refused[body.error.reason] += 1

    def collect(self) -> Iterator[Metric]:
        """Yield all there is to know now."""
        yield self._latency()
        yield counted(
            "impulse_decisions", "Decisions, by what caused them and how candidates were scored.",
            ["trigger", "rung"], self._decisions,
        )  # fmt: skip
        yield counted("impulse_dead_letters", "Records that could not be used.", ["reason"], self._refused)
        yield from self._of_shards(list(self._shards))

    def _latency(self) -> HistogramMetricFamily:
        found = HistogramMetricFamily(
            "impulse_decision_seconds", "From a record's time in the log to the decision it causes."
        )
        ends = [*(str(bound) for bound in BOUNDS_S), "+Inf"]
        found.add_metric([], list(zip(ends, accumulate(self._buckets), strict=True)), self._sum_s)
        return found

    def _of_shards(self, shards: list[Shard]) -> Iterator[Metric]:
        counts, feedback = total(s.counts for s in shards), total(s.feedback.counts for s in shards)
        events = {kind: counts[kind] for kind in KINDS}
        aside = {name: counts[name] for name in ("duplicate", "late", "erased")}
        forgotten = {
            "users": sum(s.rows.forgotten for s in shards),
            "decisions": sum(s.ledger.overflowed for s in shards),
        }
        held = {"users": sum(len(s.rows) for s in shards), "decisions": sum(len(s.ledger) for s in shards)}
        yield counted("impulse_events", "Users' events taken in.", ["kind"], events)
        yield counted("impulse_events_aside", "Events known already, late ones, erasures.", ["what"], aside)
        yield counted("impulse_feedback_unused", "Feedback that joins no decision.", ["reason"], feedback)
        yield counted(
            "impulse_forgotten", "Gone before their time, to make room: raise `bounds`.", ["what"], forgotten
        )
        yield gauged("impulse_held", "Users and decisions that shards hold.", ["what"], held)
        if shards:
            about = "Least version that a shard decides by."
            yield gauged("impulse_view_version", about, ["of"], oldest(shards))


class LearnMetrics(Collector):
    """What `impulse learn` does: outcomes learned, versions told, and how the guard judges."""

    def __init__(self) -> None:
        self._state: tuple[Learner, Pacer] | None = None

    def follow(self, learner: Learner, pacer: Pacer) -> None:
        """Take note of the learner and the pacer at work."""
        self._state = learner, pacer

    def collect(self) -> Iterator[Metric]:
        """Yield all there is to know now; nothing before the first record."""
        if self._state is None:
            return
        learner, pacer = self._state
        counts, prefix = total([learner.counts]), "refused_"
        kinds = {kind: counts[kind] for kind in get_args(OutcomeKind)}
        refused = {name.removeprefix(prefix): n for name, n in counts.items() if name.startswith(prefix)}
        yield counted("impulse_outcomes", "Outcomes learned from.", ["kind"], kinds)
        yield counted("impulse_outcomes_refused", "Outcomes that teach nothing.", ["reason"], refused)
        backs = {(): counts["roll_backs"]}
        yield counted("impulse_roll_backs", "Times the guard took back what was learned.", [], backs)
        versions = {"adjustments": learner.version, "pacing": pacer.version}
        yield gauged("impulse_told_version", "Last version that was told.", ["of"], versions)
        yield from _of_guard(learner.guard_report())


def _of_guard(report: GuardReport) -> Iterator[Metric]:
    loss = {"frozen": report.logloss_frozen, "adjusted": report.logloss_adjusted}
    level = {"frozen": report.calibration_frozen, "adjusted": report.calibration_adjusted}
    yield gauged("impulse_guard_logloss", "Log-loss of recent labels.", ["model"], loss)
    yield gauged("impulse_guard_calibration", "Clicks foretold over clicks seen.", ["model"], level)
    yield gauged("impulse_guard_ctr", "Clicks per impression of recent labels.", [], {(): report.ctr})


def counted(name: str, about: str, labels: Sequence[str], values: Mapping[Any, float]) -> CounterMetricFamily:
    """Return a counter by its labels' values: texts, or tuples where there is not exactly one label."""
    found = CounterMetricFamily(name, about, labels=labels)
    _fill(found, values)
    return found


def gauged(name: str, about: str, labels: Sequence[str], values: Mapping[Any, float]) -> GaugeMetricFamily:
    """Return a gauge by its labels' values: texts, or tuples where there is not exactly one label."""
    found = GaugeMetricFamily(name, about, labels=labels)
    _fill(found, values)
    return found


def _fill(family: CounterMetricFamily | GaugeMetricFamily, values: Mapping[Any, float]) -> None:
    for key, value in dict(values).items():  # a copy: the flow goes on counting meanwhile
        family.add_metric([key] if isinstance(key, str) else list(key), value)


def total(counts: Iterable[Counter[str]]) -> Counter[str]:
    """Return the sum of counts that others may be adding to."""
    return sum((Counter(dict(one)) for one in counts), Counter[str]())


def oldest(shards: Sequence[Shard]) -> dict[str, float]:
    """Return the least version that one of the shards decides by, of what comes through the log."""
    views = [shard.view for shard in shards]
    return {
        "adjustments": min(view.weights.version for view in views),
        "pacing": min(view.pacing.version for view in views),
        "policy": min(view.policy.version for view in views),
    }
