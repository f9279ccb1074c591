"""What a recorded log teaches the Transformer, read by the same rules as serving reads it.

Which events count (repeated and future-dated ones do not, late ones tell what followed an ad and enter no
sequence), what enters a user's sequence and in which form and what asks for a decision is told by the code
that serves: `SeenIds`, `Watermark`, `sequence_entry`, `trigger_of`. As there, partitions have nothing in
common but the ads' records, so it is the same whether a log is read partition by partition or all together.
Labels come from the log's own decisions, joined as `labels` says; each is paired with the sequence as the
decision saw it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import cast

import numpy as np

from models.domain.catalogue import Ad, Catalogue, text_of
from models.domain.events import CONTROL_TYPES, Control, Erasure, Request, UserEvent
from models.domain.ids import NO_KEY, decision_id, known_key64, label_key
from models.domain.log import LogRecord, Received, Rejected
from models.scorer.sequences import NEVER, AdTable, LogExamples
from models.state.seen import SeenIds
from models.state.watermark import Timeliness, Watermark

from .in_force import SEEN, InForce, KnownAds
from .job import trigger_of
from .labels import Asked, ShownAds
from .profiles import SequenceEntry, sequence_entry

_CONTROL = frozenset(CONTROL_TYPES)


@dataclass
class _Partition:
    in_force: InForce
    seen: SeenIds = field(default_factory=lambda: SeenIds(SEEN))
    seen_control: SeenIds = field(default_factory=lambda: SeenIds(SEEN))
    watermark: Watermark = field(default_factory=Watermark)
    users: dict[str, int] = field(default_factory=dict)


class ExampleCollector:
    """Collects the examples of a log; feed it each partition's records in order, then call `examples`.

    ``ads_of`` returns the ads of a catalogue artifact and raises ArtifactError where it cannot.
    """

    def __init__(self, ads_of: Callable[[str], tuple[Ad, ...]] | None = None) -> None:
        self._known = KnownAds(ads_of)
        self._partitions: dict[int, _Partition] = {}
        self._sequences: list[list[SequenceEntry]] = []
        self._shown = ShownAds()

    def take(self, batch: Iterable[Received | Rejected]) -> None:
        """Read records; those that could not be decoded teach nothing.

        Raises
        ------
        LogError
            where the catalogue that the log names is not at hand.

        """
        for item in batch:
            if isinstance(item, Received):
                self._take(item.record, item.event)

    def _take(self, record: LogRecord, event: UserEvent | Control) -> None:
        partition = self._partitions.get(record.partition)
        if partition is None:
            partition = self._partitions[record.partition] = _Partition(InForce(self._known))
        if type(event) not in _CONTROL:
            self._user_event(partition, record, cast("UserEvent", event))
        elif isinstance(event, Erasure):
            self._erase(partition, event.user_id)
        elif partition.seen_control.first_time(event.id):
            partition.in_force.apply(record.offset, cast("Control", event))

    def _user_event(self, partition: _Partition, record: LogRecord, event: UserEvent) -> None:
        policy = partition.in_force.policy
        timely = partition.watermark.judge(
            event.event_time, record.timestamp_ms, policy.lateness_s * 1000, policy.future_s * 1000
        )
        if timely is Timeliness.FUTURE or not partition.seen.first_time(event.id):
            return
        partition.watermark.advance(event.event_time, record.timestamp_ms)
        user = self._user(partition, event.user_id)
        if not isinstance(event, Request):
            self._shown.take(event, user)
            if timely is Timeliness.ON_TIME:
                entry = sequence_entry(event, partition.in_force.ad(event.ad_id))
                if entry is not None:
                    self._sequences[user].append(entry)
        if trigger_of(event, policy) is not None:  # of one that ``min_gap_s`` held back nothing will tell
            self._ask(partition.in_force, record, event, user)

    def _ask(self, in_force: InForce, record: LogRecord, event: UserEvent, user: int) -> None:
        segment = event.context.segment if isinstance(event, Request) else ""
        asked = Asked(
            record.offset,
            user,
            len(self._sequences[user]),
            label_key(segment) if segment else NO_KEY,
            event.event_time,
            in_force.policy.attribution.click_through_s,
            in_force.windows,
        )
        self._shown.ask(decision_id(record.topic, record.partition, record.offset), asked)

    def _user(self, partition: _Partition, user_id: str) -> int:
        user = partition.users.setdefault(user_id, len(self._sequences))
        if user == len(self._sequences):
            self._sequences.append([])
        return user

    def _erase(self, partition: _Partition, user_id: str) -> None:
        user = partition.users.pop(user_id, None)
        if user is not None:
            self._sequences[user] = []
            self._shown.erase(user)

    def examples(self) -> LogExamples:
        """Return what was collected.

        Raises
        ------
        LogError
            when no user did anything a model could learn from.

        """
        entries = [entry for sequence in self._sequences for entry in sequence]
        columns = list(zip(*entries, strict=True)) if entries else [()] * 5
        shown = self._shown.all()
        lengths = [len(sequence) for sequence in self._sequences]
        return LogExamples(
            offsets=np.concatenate(([0], np.cumsum(lengths))).astype(np.int64),
            ad_key=np.array(columns[0], np.uint64),
            category_key=np.array(columns[1], np.uint64),
            kind=np.array(columns[2], np.uint8),
            dwell_ms=np.array(columns[3], np.int64),
            time_ms=np.array(columns[4], np.int64),
            ads=ad_table(Catalogue().upsert(tuple(self._known.all.values()))),
            impression_user=np.array([s.asked.user for s in shown], np.int64),
            impression_position=np.array([s.asked.position for s in shown], np.int64),
            impression_ad_key=np.array([known_key64(s.ad_id) for s in shown], np.uint64),
            impression_time_ms=np.array([s.time_ms for s in shown], np.int64),
            click=np.array([s.clicked_ms != NEVER for s in shown], np.bool_),
            conversion=np.array([s.converted_ms != NEVER for s in shown], np.bool_),
            slot=np.array([s.slot or 0 for s in shown], np.int64),
            click_time_ms=np.array([s.clicked_ms for s in shown], np.int64),
            conversion_time_ms=np.array([s.converted_ms for s in shown], np.int64),
            segment_key=np.array([s.asked.segment for s in shown], np.uint64),
            stay_ms=np.array([s.dwell_ms for s in shown], np.int64),
            decision_time_ms=np.array([s.asked.time_ms for s in shown], np.int64),
        )


def ad_table(catalogue: Catalogue) -> AdTable:
    """Return the ads of a catalogue as training takes them: key, category, text, vector, campaign.

    The commonest width of vectors counts; an ad without one of it has zeros, as in serving.
    """
    texts = tuple(text_of(ad) for ad in catalogue.ads)
    widths = Counter(len(ad.vector) for ad in catalogue.ads if ad.vector)
    vector = None
    if widths:
        width = min(widths, key=lambda w: (-widths[w], w))
        rows = [ad.vector if len(ad.vector) == width else (0.0,) * width for ad in catalogue.ads]
        vector = np.array(rows, np.float32)
    campaign = np.fromiter((label_key(ad.campaign_id) for ad in catalogue.ads), np.uint64, len(texts))
    return AdTable(catalogue.keys, catalogue.category_keys, texts, vector, campaign)
