"""The behavioural segment of a user whose request names none."""

from __future__ import annotations

from models.state.windows import CLICKS, CONVERSIONS, IMPRESSIONS, NAMES

_HOUR, _DAY = NAMES.index("1h"), NAMES.index("24h")

ENGAGED_CLICKS = 3


def behavioural_segment(activity: list[list[float]]) -> str:
    """Return ``buyer``, ``engaged``, ``active``, ``passive`` or ``new`` from the user's windows.

    ``activity`` is the sums by window and measure of `models.state.windows`: a conversion in a day makes
    a buyer, three clicks in an hour an engaged user, one click in a day an active one.
    """
    day, hour = activity[_DAY], activity[_HOUR]
    if day[CONVERSIONS] > 0:
        return "buyer"
    if hour[CLICKS] >= ENGAGED_CLICKS:
        return "engaged"
    if day[CLICKS] > 0:
        return "active"
    return "passive" if day[IMPRESSIONS] > 0 else "new"
