"""What a recorded log teaches the Transformer, read by the same rules as serving reads it.

Which events count (repeated and future-dated ones do not, late ones tell what followed an ad and enter no
sequence), what enters a user's sequence and in which form is decided by the code that serves: `SeenIds`,
`Watermark`, `sequence_entry`. Labels come from the log's own decisions, joined as `labels` says; each is
paired with the sequence as it stood at the request.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np

from models.domain.catalogue import Ad, Catalogue, text_of
from models.domain.errors import ArtifactError, LogError
from models.domain.events import (
    AdUpsert,
    AdWithdraw,
    CatalogueSnapshot,
    Control,
    Erasure,
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

from .labels import Asked, ShownAds
from .profiles import SequenceEntry, sequence_entry
from .validated import split_valid

_SEEN = 1 << 16


@dataclass
class _Partition:
    seen: SeenIds = field(default_factory=lambda: SeenIds(_SEEN))
    watermark: Watermark = field(default_factory=Watermark)
    policy: Policy = field(default_factory=Policy)


class ExampleCollector:
    """Collects the examples of a log; feed it the log's records in order, then call `examples`.

    ``ads_of`` returns the ads of a catalogue artifact and raises ArtifactError where it cannot.
    """

    def __init__(self, ads_of: Callable[[str], tuple[Ad, ...]] | None = None) -> None:
        self._ads_of = ads_of
        self._ads: dict[str, Ad] = {}
        """All that were ever in force: what was shown of them is learned from later on, too."""
        self._in_force: dict[str, Ad] = {}
        self._snapshots: set[str] = set()
        self._partitions: dict[int, _Partition] = defaultdict(_Partition)
        self._users: dict[str, int] = {}
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
        partition = self._partitions[record.partition]
        match event:
            case AdUpsert():
                self._in_force.update((ad.ad_id, ad) for ad in event.ads)
                self._ads.update((ad.ad_id, ad) for ad in event.ads)
            case CatalogueSnapshot():
                self._replace(event)
            case PolicyChange():
                partition.policy = event.policy
            case Erasure():
                self._erase(event.user_id)
            case AdWithdraw():
                return
            case _ if hasattr(event, "user_id"):
                self._user_event(partition, record, event)  # type: ignore[arg-type]

    def _replace(self, event: CatalogueSnapshot) -> None:
        """Put a whole catalogue in force, once: every partition has a copy of the record."""
        if event.id in self._snapshots:
            return
        self._snapshots.add(event.id)
        ads, error = split_valid(self._artifact(event.artifact))
        if error is None:  # serving refuses it whole
            self._in_force = {ad.ad_id: ad for ad in ads}
            self._ads |= self._in_force

    def _artifact(self, artifact: str) -> tuple[Ad, ...]:
        try:
            if self._ads_of is None:
                raise ArtifactError("no folder of artifacts was named")
            return self._ads_of(artifact)
        except ArtifactError as missing:
            raise LogError.expected(
                f"catalogue {artifact} of the log", got=str(missing), expected="the ads that it names",
                fix="let `artifacts` (IMPULSE_ARTIFACTS) be the folder that `impulse ads --replace` wrote to",
            ) from missing  # fmt: skip

    def _user_event(self, partition: _Partition, record: LogRecord, event: UserEvent) -> None:
        policy = partition.policy
        timely = partition.watermark.judge(
            event.event_time, record.timestamp_ms, policy.lateness_s * 1000, policy.future_s * 1000
        )
        if timely is Timeliness.FUTURE or not partition.seen.first_time(event.id):
            return
        partition.watermark.advance(event.event_time, record.timestamp_ms)
        user = self._user(event.user_id)
        if isinstance(event, Request):
            self._ask(record, event, user, policy)
            return
        ad = self._in_force.get(event.ad_id)
        self._shown.take(event, user, ad)
        entry = sequence_entry(event, ad) if timely is Timeliness.ON_TIME else None
        if entry is not None:
            self._sequences[user].append(entry)

    def _ask(self, record: LogRecord, event: Request, user: int, policy: Policy) -> None:
        segment = label_key(event.context.segment) if event.context.segment else NO_KEY
        position, window_s = len(self._sequences[user]), policy.attribution.click_through_s
        asked = Asked(record.offset, user, position, segment, event.event_time, window_s)
        self._shown.ask(decision_id(record.topic, record.partition, record.offset), asked)

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
            ads=ad_table(Catalogue().upsert(tuple(self._ads.values()))),
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
