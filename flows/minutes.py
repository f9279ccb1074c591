"""Minutes of campaigns: which outcomes count in them, their sums and their rows (see `flows.rollup`)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import msgspec
from bytewax.operators import StatefulBatchLogic

from connectors.codec import encode
from connectors.dead_letters import to_dead_letter
from connectors.timestamps import LATEST_MS
from models.domain.errors import BadRecord
from models.domain.log import LogRecord, Output, Rejected
from models.state.repeats import outcome_identity
from models.state.seen import SeenIds
from models.state.watermark import Watermark

from .log_clock import MINUTE_MS, Marked, Told, minute_of

STATE_VERSION = 1
MINUTES_KEPT = 1500
"""Minutes of a campaign that can still be corrected: a day and an hour."""

COUNTED = ("impression", "click", "conversion")
"""Kinds of outcomes that a row counts; the others only move the clock."""

_SEEN = 8192
_AHEAD_MS = 86_400_000
_LATEST_MS = int(LATEST_MS)  # whatever the record's own time says: Python's dates end in the year 9999
_NEVER = 1 << 62

Sums = tuple[int, int, int, int, int]
"""Impressions, clicks, conversions, charge and value in micros: plain, because Bytewax pickles it."""

_NOTHING: Sums = (0, 0, 0, 0, 0)


class CampaignMinute(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """What one campaign got and paid in one minute of event time; a higher ``revision`` replaces a lower.

    ``minute`` is its start in UTC milliseconds. Clicks count whenever they came, conversions by their own
    time.
    """

    campaign_id: str
    minute: int
    impressions: int
    clicks: int
    conversions: int
    charge_micros: int
    value_micros: int
    revision: int


class Part(NamedTuple):
    """Sums to add to a campaign's minute: one partition's share at its close, or one late outcome."""

    campaign_id: str
    minute: int
    sums: Sums
    record: LogRecord
    """The late outcome's record; for a share one that stands for it, should it come too late itself."""


def nothing() -> Sums:
    """Return the sums of an empty minute."""
    return _NOTHING


def sums_of(marked: Marked) -> Sums:
    """Return what one outcome adds to its minute."""
    if marked.told is None:
        return _NOTHING
    outcome = marked.told.outcome
    kind = outcome.kind
    return (
        int(kind == "impression"),
        int(kind == "click"),
        int(kind == "conversion"),
        outcome.charge_micros,
        outcome.value_micros,
    )


def added(one: Sums, other: Sums) -> Sums:
    """Return the sum of two sums."""
    return one[0] + other[0], one[1] + other[1], one[2] + other[2], one[3] + other[3], one[4] + other[4]


class MarkLogic(StatefulBatchLogic[Told | Rejected, Marked | Rejected, dict[str, Any]]):
    """One partition's clock: marks each outcome with the watermark, once, and ticks silent campaigns.

    An outcome that the sink of `flows.personalize` wrote twice after a crash counts once while it is among
    the last 8,192 of its partition.
    """

    def __init__(self, state: dict[str, Any] | None, lateness_ms: int) -> None:
        state = state or {"time_ms": 0, "open": {}, "seen": []}
        self._lateness_ms = lateness_ms
        self._clock = Watermark(state["time_ms"])
        self._open: dict[str, int] = dict(state["open"])  # campaign: end of its last open minute
        self._first_end = min(self._open.values(), default=_NEVER)  # or earlier
        self._seen = SeenIds(_SEEN)
        self._seen.load(state["seen"])

    def on_batch(self, values: list[Told | Rejected]) -> tuple[list[Marked | Rejected], bool]:
        """Mark outcomes in order; a tick for every campaign whose minute the clock has passed."""
        return [out for value in values for out in self._mark(value)], self.RETAIN

    def _mark(self, told: Told | Rejected) -> Iterable[Marked | Rejected]:
        if isinstance(told, Rejected):
            return (told,)
        if (error := _absurd(told)) is not None:
            return (Rejected(told.record, error, "rollup"),)
        outcome = told.outcome
        watermark = self._clock.advance(outcome.event_time, told.record.timestamp_ms) - self._lateness_ms
        ticks = self._ticks(watermark)
        if outcome.kind not in COUNTED or not self._seen.first_time(outcome_identity(outcome)):
            return ticks
        end = minute_of(outcome.event_time) + MINUTE_MS
        if end > watermark:
            self._open[outcome.campaign_id] = max(end, self._open.get(outcome.campaign_id, 0))
            self._first_end = min(self._first_end, end)
        return (*ticks, Marked(outcome.campaign_id, watermark, told))

    def _ticks(self, watermark: int) -> list[Marked]:
        if watermark < self._first_end:
            return []
        passed = [campaign for campaign, end in self._open.items() if end <= watermark]
        for campaign in passed:
            del self._open[campaign]
        self._first_end = min(self._open.values(), default=_NEVER)
        return [Marked(campaign, watermark, None) for campaign in passed]

    def snapshot(self) -> dict[str, Any]:
        """Return the partition's clock, open campaigns and seen outcomes as plain data."""
        return {
            "version": STATE_VERSION,
            "time_ms": self._clock.time_ms,
            "open": dict(self._open),
            "seen": self._seen.dump(),
        }


def _absurd(told: Told) -> BadRecord | None:
    time_ms, latest_ms = told.outcome.event_time, min(told.record.timestamp_ms + _AHEAD_MS, _LATEST_MS)
    if 0 <= time_ms <= latest_ms:
        return None
    return BadRecord(
        "future" if time_ms > 0 else "bad_value",
        f"event_time: got {time_ms}, expected 0 to {latest_ms}: a day after the record's own time, "
        "or the year 5138. Fix: set the clock of what wrote the outcome.",
    )


class TotalLogic(StatefulBatchLogic[Part, list[Output], dict[str, Any]]):
    """One campaign's minutes: adds parts to their minute and writes its row anew."""

    def __init__(self, state: dict[str, Any] | None) -> None:
        self._minutes: dict[int, tuple[Sums, int]] = dict(state["minutes"]) if state else {}
        self._newest: int = state["newest"] if state else 0

    def on_batch(self, values: list[Part]) -> tuple[list[list[Output]], bool]:
        """Return a row for every part, or its dead letter."""
        return [[self._add(part) for part in values]], self.RETAIN

    def _add(self, part: Part) -> Output:
        if part.minute < self._newest - MINUTES_KEPT * MINUTE_MS:
            return to_dead_letter(part.record, _too_late(part, self._newest), "rollup")
        sums, revision = self._minutes.get(part.minute, (_NOTHING, 0))
        sums = added(sums, part.sums)
        self._minutes[part.minute] = sums, revision + 1
        self._forget(part.minute)
        key = row_key(part.campaign_id, part.minute)
        row = row_of(part.campaign_id, part.minute, sums, revision + 1)
        return Output("rollups", key, encode(row), part.record.partition, part.record.offset)

    def _forget(self, minute: int) -> None:
        if minute <= self._newest:
            return
        self._newest = minute
        oldest = minute - MINUTES_KEPT * MINUTE_MS
        for passed in [known for known in self._minutes if known < oldest]:
            del self._minutes[passed]

    def snapshot(self) -> dict[str, Any]:
        """Return the minutes that can still be corrected as plain data."""
        return {"version": STATE_VERSION, "minutes": dict(self._minutes), "newest": self._newest}


def row_key(campaign_id: str, minute: int) -> bytes:
    """Return the key of a row: the campaign and the start of its minute in UTC milliseconds."""
    return f"{campaign_id}|{minute}".encode()


def row_of(campaign_id: str, minute: int, sums: Sums, revision: int) -> CampaignMinute:
    """Return the row that says these sums."""
    return CampaignMinute(
        campaign_id=campaign_id,
        minute=minute,
        impressions=sums[0],
        clicks=sums[1],
        conversions=sums[2],
        charge_micros=sums[3],
        value_micros=sums[4],
        revision=revision,
    )


def _too_late(part: Part, newest: int) -> BadRecord:
    return BadRecord(
        "late",
        f"minute {part.minute} of campaign {part.campaign_id!r}: got {(newest - part.minute) // MINUTE_MS} "
        f"minutes behind its last one, expected at most {MINUTES_KEPT}. Fix: add it to the row by hand.",
    )
