"""How a campaign that gets a budget begins: slowly, as TCP does.

At its full bid a campaign whose budget is small for its market has spent it before the first report. So it
begins at a bid that risks no more than some seconds of the full one would, and its bids double in the time
in which what they cost is seen: the delay of reports and ``WATCH_S``. Once a minute has cost what it should,
one doubling is taken back, for it was decided without knowing of that, and the dual descent goes on from
there (`pacing`).

A start waits for the `start_time` of the first of the campaign's ads.
"""

from __future__ import annotations

from collections.abc import Iterable

from models.domain.catalogue import Ad

WATCH_S = 10.0
"""How long a bid's cost is watched, beside the delay of reports, before it is doubled."""
RISK_S = 4.0
"""Seconds of spending at the full bid that a start may cost before it is seen, were cost as the bid."""
STEPS = 4
"""Raises per doubling."""
FAR_OFF = 2**62
"""A time that does not come."""


def first_starts(ads: Iterable[Ad]) -> dict[str, int]:
    """Return by campaign when the first of these ads may be shown."""
    starts: dict[str, int] = {}
    for ad in ads:
        starts[ad.campaign_id] = min(starts.get(ad.campaign_id, FAR_OFF), ad.start_time or 0)
    return starts


def first_multiplier(delay_s: float) -> float:
    """Return the multiplier to begin with where outcomes are reported so late."""
    return max((delay_s + WATCH_S) / RISK_S - 1.0, 0.0)


def start_step_ms(delay_s: float) -> int:
    """Return the time between two raises of a start's bids: a quarter of the time in which they double."""
    return round(1000.0 * (delay_s + WATCH_S) / STEPS)


def lowered(mu: float, steps: int) -> float:
    """Return the multiplier after so many raises of the bid."""
    return max((1.0 + mu) * 2.0 ** (-steps / STEPS) - 1.0, 0.0)


def taken_back(mu: float) -> float:
    """Return the multiplier before the bid was last doubled."""
    return 2.0 * (1.0 + mu) - 1.0
