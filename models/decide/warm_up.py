"""Compiling every kernel before the first record, so that no user waits for a compiler."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from models.domain import events
from models.domain.catalogue import Ad, Creative
from models.domain.events import Control, UserEvent
from models.domain.ids import decision_id
from models.domain.log import LogRecord, Received
from models.domain.policy import Exploration, Policy

from .shard import Place, Shard

_PLACE = Place("warm-up", 0, 0)


def warm_up(new_shard: Callable[[Place], Shard]) -> int:
    """Run a made-up log through a shard that is thrown away; return the decisions it made."""
    records = [
        Received(LogRecord(_PLACE.topic, 0, offset, event.event_time, None, None), event)
        for offset, event in enumerate(_log())
    ]
    return sum(hasattr(emission.body, "ads") for emission in new_shard(_PLACE).process(records))


def _log() -> list[UserEvent | Control]:
    ads = tuple(
        Ad(
            ad_id=f"a{n}",
            campaign_id=f"c{n}",
            category=f"k{n % 2}",
            labels=("separate:x",),
            creatives=(Creative(creative_id="x"), Creative(creative_id="y")),
        )
        for n in range(8)
    )
    randomized = Policy(exploration=Exploration(randomized_share=1.0))
    owing = Policy(exploration=Exploration(randomized_share=0.0), new_ad_share=1.0)
    asked = decision_id(_PLACE.topic, 0, 1)
    on_ad: dict[str, Any] = {"user_id": "u", "ad_id": "a0", "decision_id": asked}
    log: list[UserEvent | Control] = [
        events.AdUpsert(id="0", event_time=0, ads=ads),
        events.Request(id="1", event_time=1, user_id="u"),
        events.Impression(id="2", event_time=2, **on_ad),
        events.Click(id="3", event_time=3, **on_ad),
        events.Dwell(id="4", event_time=4, user_id="u", ad_id="a1", dwell_ms=9000),
        events.Hide(id="5", event_time=5, user_id="u", ad_id="a2"),
        events.Adjustments(id="6", event_time=6, version=1, ads={"a0": (0.1, 0.1)}),
        events.Request(id="7", event_time=7, user_id="u"),
        events.PolicyChange(id="8", event_time=8, policy=randomized),
        events.Request(id="9", event_time=9, user_id="u"),
        events.PolicyChange(id="12", event_time=10, policy=owing),
        events.Request(id="13", event_time=11, user_id="u"),
        events.View(id="10", event_time=100_000, user_id="v", ad_id="a3"),
        events.Click(id="11", event_time=100_001, **on_ad),
    ]
    return log
