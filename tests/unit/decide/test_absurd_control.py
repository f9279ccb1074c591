"""Whatever a control record says, shards go on: it is put in force or refused, and requests are answered."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from support.raw_log import RawLog
from support.shards import Bench, bodies

from connectors.codec import EventCodec
from flows.operators import decode_record, encode_emission
from models.domain.decision import Decision
from models.domain.log import Rejected

USUAL: list[dict[str, Any]] = [
    {
        "type": "ad_upsert",
        "ads": [
            {
                "ad_id": "a1", "campaign_id": "c1", "advertiser_id": "v", "category": "shoes", "title": "t",
                "labels": ["separate:x"], "vector": [0.5, 0.5], "bid_type": "cpc", "bid_micros": 10**6,
                "quality": 1.0, "daily_budget_micros": 10**9, "lifetime_budget_micros": 10**9,
                "start_time": 0, "end_time": 2 * 10**12, "targeting": "hour < 25", "placements": ["default"],
                "floor_micros": 1, "click_through_s": 60, "view_through_s": 60, "text": "t",
                "creatives": [
                    {"creative_id": "x", "headline": "{title}", "image_url": "u", "call_to_action": "go",
                     "generated": False, "review": "approved"}
                ],
            }
        ],
    },
    {"type": "ad_withdraw", "ad_ids": ["a2"]},
    {"type": "catalogue", "artifact": "0" * 32},
    {
        "type": "adjustments", "version": 7, "engine": "e", "reset": False, "reason": "r",
        "bias": [0.1, 0.1], "ads": {"a1": [0.1, 0.1]}, "campaigns": {"c1": [0.1, 0.1]},
        "segment_categories": {"s|shoes": [0.1, 0.1]}, "conversions": {"c1": [0.1, 0.1]},
        "creatives": {"a1|x": [0.1, 0.1]}, "position_logits": [0.0, -0.1], "calibration": [1.0, 0.0],
    },
    {
        "type": "pacing", "version": 7, "multipliers": {"c1": 0.5}, "exhausted": ["c9"],
        "lifetime_exhausted": ["c9"], "waived": {"c1": 1},
    },
    {"type": "model", "model_hash": "0" * 32},
    {
        "type": "policy",
        "policy": {
            "version": 3, "slots": 3, "candidates": 50, "no_repeat_s": 60, "personal_adjustments": True,
            "caps": [{"scope": "ad", "impressions": 3, "window_s": 60}],
            "exploration": {"thompson_nu": 0.5, "randomized_share": 0.5, "temperature": 0.5,
                            "uniform_mix": 0.1, "salt": "s"},
            "triggers": {"after_click": True, "after_dwell_ms": 10, "min_gap_s": 0},
            "attribution": {"no_click_after_s": 60, "click_through_s": 60, "view_through_s": 60},
            "lateness_s": 60, "future_s": 60, "reserve_micros": 0, "diversity": 0.5, "max_per_campaign": 2,
            "placements": [{"placement_id": "default", "slots": 2, "floor_micros": 0,
                            "blocked_categories": ["x"]}],
            "blocked_categories": ["x"], "blocked_advertisers": ["x"], "new_ad_share": 0.5,
            "new_ad_impressions": 10, "new_ad_s": 60, "expected_dwell": True,
        },
    },
    {"type": "erasure", "user_id": "u0"},
    {"type": "notice", "about": "drift", "before": 0.1, "after": 0.2, "labels": 3},
]  # fmt: skip

EXTREME: list[Any] = [
    0, -1, 1, 2**31, 2**53, 2**62, 2**63 - 1, 2**63, 2**64, 2**70, -(2**63), 10**20, 10**30,
    253_402_300_799_999, 315_360_000, 10**15, 0.0, -0.0, 5e-324, 1e-300, 1e-3, 1.0, 4.0, 50.0, 100.0, 1e6,
    3.5e38, 1e300, -1e308, "", "x\n", "cpc\n", "approved\n", "ad\n", "\0", "../..", "/", "|", "é" * 128,
    "x" * 5000, None, True, [], {}, [0.0, 1e9], [50.0, 100.0], [-50.0, 0.0], [4.0, -50.0],
]  # fmt: skip


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path of everything inside a record but its type."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in inside:
        if key != "type":
            yield (*path, key)
            yield from places(inner, (*path, key))


def changed(value: Any, path: tuple[Any, ...], to: Any) -> Any:
    """Return a record with another value in one place."""
    if not path:
        return to
    copy = value.copy()
    copy[path[0]] = changed(value[path[0]], path[1:], to)
    return copy


@st.composite
def absurd(draw: st.DrawFn) -> dict[str, Any]:
    """Draw a control record with an extreme value in one place or two."""
    record = draw(st.sampled_from(USUAL))
    for _ in range(draw(st.integers(1, 2))):
        record = changed(record, draw(st.sampled_from(list(places(record)))), draw(st.sampled_from(EXTREME)))
    return record


@settings(deadline=None)
@given(st.lists(absurd(), min_size=1, max_size=4))
def test_absurd_control_records_are_put_in_force_or_refused_and_requests_are_answered(records):
    log, bench, codec = RawLog(), Bench(), EventCodec()
    log.ads(3, category="shoes")
    for record in records:
        kind = record["type"]
        log.event(kind, **{name: value for name, value in record.items() if name != "type"})
        for user in ("u0", "u1"):
            log.request(user, slots=3)
            log.event("impression", user_id=user, ad_id="a1")
            log.event("click", user_id=user, ad_id="a1")
    shard = bench.shard()
    said = shard.process([decode_record(codec, record) for record in log.records])
    requests = [one for one in bodies(said, Decision) if one.trigger == "request"]
    assert len(requests) == 2 * len(records)
    assert "unexpected" not in {one.error.reason for one in bodies(said, Rejected)}
    for emission in said:
        encode_emission(emission)
    bench.shard().load(shard.dump())
