"""Event time of the outcomes' stream, which one wild timestamp cannot run away with."""

from __future__ import annotations

MAX_LEAP_MS = 3_600_000
"""A step ahead that one outcome alone may make the clock take."""


class EventClock:
    """The latest event time seen, in milliseconds; None before the first outcome.

    A time more than an hour ahead is believed only once a second user's outcome says the like (after a
    quiet night the clock then jumps, one outcome late).
    """

    def __init__(self) -> None:
        self.now_ms: int | None = None
        self._suspect: tuple[int, str] | None = None

    def advance(self, time_ms: int, user_id: str) -> bool:
        """Take an outcome's time; return False where it is not believed (yet) and should be left out."""
        if self.now_ms is None or time_ms <= self.now_ms + MAX_LEAP_MS:
            self.now_ms = max(time_ms, self.now_ms if self.now_ms is not None else time_ms)
            return True
        suspect, self._suspect = self._suspect, (time_ms, user_id)
        if suspect is None or suspect[1] == user_id or abs(time_ms - suspect[0]) > MAX_LEAP_MS:
            return False
        self.now_ms, self._suspect = time_ms, None
        return True

    def values(self) -> list[object]:
        """Return the state as plain values."""
        return [self.now_ms, list(self._suspect) if self._suspect else None]

    def restore(self, values: list[object]) -> None:
        """Take the state of `values`."""
        now, suspect = values
        self.now_ms = now if isinstance(now, int) else None
        self._suspect = (int(suspect[0]), str(suspect[1])) if isinstance(suspect, list) else None
