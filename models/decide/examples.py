"""What a recorded log teaches the Transformer, read by the same rules as serving reads it.

Which events count (repeated, late, future-dated ones do not), what enters a user's sequence and in which
form is decided by the code that serves: `SeenIds`, `Watermark`, `sequence_entry`. Labels come from the
log's own decisions: an impression belongs to the request that its ``decision_id`` names, and is paired with
the sequence as it stood then.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from models.domain.catalogue import Ad, Catalogue, text_of
from models.domain.events import (
    AdUpsert,
    AdWithdraw,
    Click,
    Control,
    Conversion,
    Dwell,
    Erasure,
    Impression,
    PolicyChange,
    Request,
    UserEvent,
)
from models.domain.ids import NO_KEY, decision_id, known_key64, label_key
from models.domain.log import LogRecord, Received, Rejected
from models.domain.policy import Policy
from models.scorer.sequences import NEVER, AdTable, LogExamples
from models.state.seen import SeenIds
from models.state.watermark import Timeliness, Watermark

from .profiles import SequenceEntry, sequence_entry

_SEEN = 1 << 16


@dataclass
class _Shown:
    user: int
    position: int
    ad_key: int
    time_ms: int
    slot: int
    segment: int
    asked_ms: int
    clicked_ms: int = NEVER
    converted_ms: int = NEVER
    dwell_ms: int = NEVER

    def can_convert(self) -> bool:
        """Say whether a conversion would be the first after the click."""
        return self.clicked_ms != NEVER and self.converted_ms == NEVER


@dataclass
class _Partition:
    seen: SeenIds = field(default_factory=lambda: SeenIds(_SEEN))
    watermark: Watermark = field(default_factory=Watermark)
    policy: Policy = field(default_factory=Policy)


class ExampleCollector:
    """Collects the examples of a log; feed it the log's records in order, then call `examples`."""

    def __init__(self) -> None:
        self.catalogue = Catalogue()
        self._upserts: dict[str, Ad] = {}
        self._partitions: dict[int, _Partition] = defaultdict(_Partition)
        self._users: dict[str, int] = {}
        self._sequences: list[list[SequenceEntry]] = []
        self._asked: dict[str, tuple[int, int, int, int]] = {}
        """Of each request: user, events before it, segment, event time."""
        self._shown: dict[tuple[str, str], _Shown] = {}

    def take(self, batch: Iterable[Received | Rejected]) -> None:
        """Read records; those that could not be decoded teach nothing."""
        for item in batch:
            if isinstance(item, Received):
                self._take(item.record, item.event)

    def _take(self, record: LogRecord, event: UserEvent | Control) -> None:
        partition = self._partitions[record.partition]
        match event:
            case AdUpsert():
                self._upserts.update((ad.ad_id, ad) for ad in event.ads)
            case PolicyChange():
                partition.policy = event.policy
            case Erasure():
                self._erase(event.user_id)
            case AdWithdraw():
                return
            case _ if hasattr(event, "user_id"):
                self._user_event(partition, record, event)  # type: ignore[arg-type]

    def _user_event(self, partition: _Partition, record: LogRecord, event: UserEvent) -> None:
        policy = partition.policy
        timely = partition.watermark.judge(
            event.event_time, record.timestamp_ms, policy.lateness_s * 1000, policy.future_s * 1000
        )
        if timely is not Timeliness.ON_TIME or not partition.seen.first_time(event.id):
            return
        partition.watermark.advance(event.event_time, record.timestamp_ms)
        user = self._user(event.user_id)
        if isinstance(event, Request):
            asked = decision_id(record.topic, record.partition, record.offset)
            segment = label_key(event.context.segment) if event.context.segment else NO_KEY
            self._asked[asked] = (user, len(self._sequences[user]), segment, event.event_time)
            return
        self._label(event, user)
        entry = sequence_entry(event, self._upserts.get(event.ad_id))
        if entry is not None:
            self._sequences[user].append(entry)

    def _label(self, event: UserEvent, user: int) -> None:
        if isinstance(event, Request) or event.decision_id is None:
            return
        key = (event.decision_id, event.ad_id)
        asked, position, segment, asked_ms = self._asked.get(event.decision_id, (NEVER, 0, 0, 0))
        if isinstance(event, Impression) and asked == user:  # not after an erasure, not of somebody else's
            ad_key, slot = known_key64(event.ad_id), event.slot or 0
            label = _Shown(user, position, ad_key, event.event_time, slot, segment, asked_ms)
            self._shown.setdefault(key, label)
        elif isinstance(event, Click) and (shown := self._shown.get(key)) and shown.clicked_ms == NEVER:
            shown.clicked_ms = event.event_time
        elif isinstance(event, Dwell) and (shown := self._shown.get(key)) and shown.dwell_ms == NEVER:
            shown.dwell_ms = event.dwell_ms if shown.clicked_ms != NEVER else NEVER
        elif isinstance(event, Conversion) and (shown := self._shown.get(key)) and shown.can_convert():
            shown.converted_ms = event.event_time

    def _user(self, user_id: str) -> int:
        user = self._users.setdefault(user_id, len(self._users))
        if user == len(self._sequences):
            self._sequences.append([])
        return user

    def _erase(self, user_id: str) -> None:
        user = self._users.pop(user_id, None)
        if user is not None:
            self._users[f"\0erased-{user}"] = user
            self._sequences[user] = []
            self._shown = {k: s for k, s in self._shown.items() if s.user != user}

    def examples(self) -> LogExamples:
        """Return what was collected.

        Raises
        ------
        LogError
            when no user did anything a model could learn from.

        """
        entries = [entry for sequence in self._sequences for entry in sequence]
        columns = list(zip(*entries, strict=True)) if entries else [()] * 5
        shown = list(self._shown.values())
        lengths = [len(sequence) for sequence in self._sequences]
        return LogExamples(
            offsets=np.concatenate(([0], np.cumsum(lengths))).astype(np.int64),
            ad_key=np.array(columns[0], np.uint64),
            category_key=np.array(columns[1], np.uint64),
            kind=np.array(columns[2], np.uint8),
            dwell_ms=np.array(columns[3], np.int64),
            time_ms=np.array(columns[4], np.int64),
            ads=ad_table(Catalogue().upsert(tuple(self._upserts.values()))),
            impression_user=np.array([s.user for s in shown], np.int64),
            impression_position=np.array([s.position for s in shown], np.int64),
            impression_ad_key=np.array([s.ad_key for s in shown], np.uint64),
            impression_time_ms=np.array([s.time_ms for s in shown], np.int64),
            click=np.array([s.clicked_ms != NEVER for s in shown], np.bool_),
            conversion=np.array([s.converted_ms != NEVER for s in shown], np.bool_),
            slot=np.array([s.slot for s in shown], np.int64),
            click_time_ms=np.array([s.clicked_ms for s in shown], np.int64),
            conversion_time_ms=np.array([s.converted_ms for s in shown], np.int64),
            segment_key=np.array([s.segment for s in shown], np.uint64),
            stay_ms=np.array([s.dwell_ms for s in shown], np.int64),
            decision_time_ms=np.array([s.asked_ms for s in shown], np.int64),
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
