"""Going through a recorded log again to look at decisions, with the same shards as `impulse run`."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Mapping
from pathlib import Path
from typing import Any

from connectors.log_files import read_log
from models.decide.asked import Asked, WatchedDecider
from models.decide.chunks import Item, chunks, slice_of
from models.decide.explain import Fate, fate_of
from models.decide.profiles import Profiles
from models.decide.shard import Place, Shard
from models.decide.view import View
from models.domain.decision import Decision
from models.domain.errors import LogError
from models.domain.events import CONTROL_TYPES
from models.domain.log import LogRecord, Received

from .operators import decode_record
from .service import Service

Look = Callable[[View, Profiles, Any], None]


def watched(service: Service, watch: Look, recorded: Mapping[str, Decision] | None = None) -> WatchedDecider:
    """Return a decider that shows each job to ``watch``; recorded decisions are followed, not made anew."""
    return WatchedDecider(service.views, watch, recorded)


def replay_watched(log: Path, service: Service, decider: WatchedDecider, topics: Container[str]) -> None:
    """Take the records of these topics of a log through the shards of a service, deciding by ``decider``."""
    shards: dict[Place, Shard] = {}
    for batch in read_log(log):
        items = [decode_record(service.codec, record) for record in batch if record.topic in topics]
        for part in chunks(items, service.slices):
            shard = shards.get(part.place)
            if shard is None:
                shard = shards[part.place] = _shard(service, part.place, decider)
            shard.process(part.items)


def fate_in_log(log: Path, service: Service, decision_id: str, ad_id: str) -> Fate:
    """Return what became of an ad in a decision, by replaying its shard up to the record that caused it.

    Raises
    ------
    LogError
        where the log does not hold the record, or the record causes no decision (a duplicate, late beyond
        the policy, future-dated, or no request).

    """
    place = locate(log, service, decision_id)
    found: list[Fate] = []

    def watch(view: View, profiles: Profiles, job: Any) -> None:
        if job.decision_id == decision_id:
            found.append(fate_of(Asked.of(service.views.compiled(view), profiles, job), ad_id))

    shard = _shard(service, place, watched(service, watch))
    for items in _of_shard(log, service, place, int(decision_id.rpartition("-")[2])):
        shard.process(items)
    if not found:
        raise LogError.expected(
            f"record {decision_id} of {log}", got="no decision",
            expected="a request, or a trigger of the policy",
            fix="give the id of a decision; duplicates and future-dated records cause none",
        )  # fmt: skip
    return found[0]


def locate(log: Path, service: Service, decision_id: str) -> Place:
    """Return the shard of a decision; raises LogError as `fate_in_log`."""
    topic, partition, offset = _parsed(decision_id)
    for batch in read_log(log):
        for record in batch:
            if (record.topic, record.partition, record.offset) == (topic, partition, offset):
                item = decode_record(service.codec, record)
                if isinstance(item, Received) and not isinstance(item.event, CONTROL_TYPES):
                    return Place(topic, partition, slice_of(item.event.user_id, service.slices))
                raise LogError.expected(
                    f"record {decision_id} of {log}", got="no user's event", expected="a request",
                    fix="give the id of a decision",
                )  # fmt: skip
    raise LogError.expected(
        f"decision {decision_id}", got=f"no such record in {log}",
        expected="topic-partition-offset of a record", fix="give the log that the decision was made from",
    )  # fmt: skip


def topic_of(decision_id: str) -> str:
    """Return the topic of the record that caused a decision; raises LogError for what is no decision's id."""
    return _parsed(decision_id)[0]


def _parsed(decision_id: str) -> tuple[str, int, int]:
    topic, *place = decision_id.rsplit("-", 2)
    if len(place) != 2 or not all(part.isdecimal() for part in place):
        raise LogError.expected(
            "decision id", got=decision_id, expected="topic-partition-offset", fix="copy it from a decision"
        )
    return topic, int(place[0]), int(place[1])


def _of_shard(log: Path, service: Service, place: Place, last: int) -> Iterator[list[Item]]:
    """Yield the items of one shard up to and including an offset."""
    for batch in read_log(log):
        own = [
            r for r in batch if r.topic == place.topic and r.partition == place.partition and r.offset <= last
        ]
        yield [item for record in own for item in _own_items(service, place, record)]


def _own_items(service: Service, place: Place, record: LogRecord) -> list[Item]:
    parts = chunks([decode_record(service.codec, record)], service.slices)
    return [item for part in parts if part.place == place for item in part.items]


def _shard(service: Service, place: Place, decider: WatchedDecider) -> Shard:
    return Shard(place, service.views, decider, service.bounds)
