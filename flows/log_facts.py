"""What a recorded log says beside its events: whose each ad is, and how the learner found slots looked at."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from connectors.codec import EventCodec
from connectors.log_files import read_log
from models.domain.errors import BadRecord
from models.domain.events import Adjustments, AdUpsert
from models.domain.log import LogRecord

_CODEC = EventCodec()
_ADS, _LEARNED = (str(kind.__struct_config__.tag) for kind in (AdUpsert, Adjustments))


class _Typed(msgspec.Struct):
    """The field that tells events apart."""

    type: str = ""


_TYPE = msgspec.json.Decoder(_Typed)


@dataclass(frozen=True)
class LogFacts:
    """What a log says of its ads and slots; empty without a log."""

    advertiser_of: dict[str, str]
    """Of each ad that the log brings, "" where it names none."""
    examination: tuple[float, ...] = ()
    """How often each slot is looked at, beside the first, as last learned; empty where nobody learned it."""
    unusable_ad_records: int = 0


def facts_of(log: Path) -> LogFacts:
    """Return what a log says; raises LogError where it cannot be read."""
    advertisers: dict[str, str] = {}
    newest, unusable = 0, 0
    logits: tuple[float, ...] = ()
    for kind, record in _told(log):
        try:
            event = _CODEC.decode(record)
        except BadRecord:
            unusable += kind == _ADS
            continue
        if isinstance(event, AdUpsert):
            advertisers.update((ad.ad_id, ad.advertiser_id) for ad in event.ads)
        elif isinstance(event, Adjustments) and event.position_logits and event.version >= newest:
            newest, logits = event.version, event.position_logits
    return LogFacts(advertisers, tuple(math.exp(logit) for logit in logits), unusable)


def _told(log: Path) -> Iterator[tuple[str, LogRecord]]:
    """Yield the records of ads and adjustments, well formed or not, in whatever order their fields stand."""
    for batch in read_log(log):
        for record in batch:
            if (kind := _type_of(record.value)) in (_ADS, _LEARNED):
                yield kind, record


def _type_of(value: bytes | None) -> str:
    try:
        return "" if value is None else _TYPE.decode(value).type
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ""
