"""A clock for Bytewax's windows that only the log moves.

Bytewax's own event clock adds the system time that passes between records, so the same records are late
live and on time in a replay; and it keeps its watermark per key in a state that it forgets with the key's
last window, so that a closed window can open again. Here every item brings the watermark along.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from bytewax.operators.windowing import UTC_MIN, Clock, ClockLogic

from models.domain.decision import Outcome
from models.domain.log import LogRecord

MINUTE_MS = 60_000
MINUTE = timedelta(milliseconds=MINUTE_MS)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Told(NamedTuple):
    """A record of the outcomes topic and the outcome it holds."""

    record: LogRecord
    outcome: Outcome


class Marked(NamedTuple):
    """An outcome with the watermark of its partition after it; without one, a tick that moves the clock."""

    campaign_id: str
    watermark_ms: int
    told: Told | None


class LogClock(Clock[Marked, int]):
    """Gives items their event time and the watermark that they carry.

    An outcome is late once its minute has closed, not before. Ticks lie before all time: they close
    windows, open none and come out with the late items. Nothing ever wakes by system time.
    """

    def build(self, resume_state: int | None) -> ClockLogic[Marked, int]:
        """Return the clock of one key."""
        return _LogClockLogic(resume_state)


class _LogClockLogic(ClockLogic[Marked, int]):
    def __init__(self, watermark_ms: int | None) -> None:
        self._watermark_ms = -MINUTE_MS if watermark_ms is None else watermark_ms

    def before_batch(self) -> None:
        """Do nothing: no system time is read."""

    def on_item(self, value: Marked) -> tuple[datetime, datetime]:
        """Return the item's time and the watermark that it brings."""
        now_ms = self._watermark_ms = max(self._watermark_ms, value.watermark_ms)
        if value.told is None:
            return UTC_MIN, _utc(now_ms)
        time_ms = value.told.outcome.event_time
        closed = minute_of(time_ms) + MINUTE_MS <= now_ms
        return _utc(time_ms if closed else max(time_ms, now_ms)), _utc(now_ms)

    def on_notify(self) -> datetime:
        """Return the watermark, which waking does not move."""
        return _utc(self._watermark_ms)

    def on_eof(self) -> datetime:
        """Return the watermark, which the end of the input does not move."""
        return _utc(self._watermark_ms)  # the flow may go on from here: nothing closes for its end

    def to_system_utc(self, timestamp: datetime) -> datetime | None:
        """Return None: no event time has a system time to wake at."""
        return None

    def snapshot(self) -> int:
        """Return the watermark in milliseconds."""
        return self._watermark_ms


def minute_of(time_ms: int) -> int:
    """Return the start of the minute that holds this time."""
    return time_ms - time_ms % MINUTE_MS


def _utc(time_ms: int) -> datetime:
    return EPOCH + timedelta(milliseconds=time_ms)
