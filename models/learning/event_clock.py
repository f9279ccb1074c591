"""Event time of the outcomes' stream, which one wild timestamp cannot run away with."""

from __future__ import annotations

MAX_LEAP_MS = 3_600_000
"""A step ahead that one outcome alone may make the clock take."""
IN_A_ROW = 10
"""So many outcomes of a user with nobody else's between them are the stream, not a device gone wild."""


class EventClock:
    """The latest event time seen, in milliseconds; None before the first outcome.

    A time more than an hour ahead is believed once a second user's outcome says the like (after a quiet night
    the clock then jumps, one outcome late), or where a single user is all that comes.
    """

    def __init__(self) -> None:
        self.now_ms: int | None = None
        self._suspect: tuple[int, str] | None = None
        self._in_a_row = 0

    def advance(self, time_ms: int, user_id: str) -> bool:
        """Take an outcome's time; return False where it is not believed (yet) and should be left out."""
        if self.now_ms is None or time_ms <= self.now_ms + MAX_LEAP_MS:
            self.now_ms = max(time_ms, self.now_ms if self.now_ms is not None else time_ms)
            self._in_a_row = 0
            return True
        suspect, self._suspect = self._suspect, (time_ms, user_id)
        alike = suspect is not None and abs(time_ms - suspect[0]) <= MAX_LEAP_MS
        self._in_a_row = self._in_a_row + 1 if alike else 1
        if suspect is None or not alike or (suspect[1] == user_id and self._in_a_row < IN_A_ROW):
            return False
        self.now_ms, self._suspect, self._in_a_row = time_ms, None, 0
        return True

    def values(self) -> list[object]:
        """Return the state as plain values."""
        return [self.now_ms, list(self._suspect) if self._suspect else None, self._in_a_row]

    def restore(self, values: list[object]) -> None:
        """Take the state of `values`."""
        now, suspect, *in_a_row = values
        self.now_ms = now if isinstance(now, int) else None
        self._suspect = (int(suspect[0]), str(suspect[1])) if isinstance(suspect, list) else None
        self._in_a_row = next((n for n in in_a_row if isinstance(n, int)), 0)
