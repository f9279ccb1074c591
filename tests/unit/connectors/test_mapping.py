"""A mapping turns raw records into events, or says what is wrong; a wrong mapping stops the start."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.mapped import at, mapped
from connectors.mapping import parse_mappings, read_mappings
from models.domain import events
from models.domain.errors import BadRecord, SettingError
from models.domain.log import LogRecord

SHOP = """
[[topics]]
topic = "shop.clicks"
type = "event.name"
ignore = ["heartbeat"]
id = ["order.id", "order.lines.0"]
time = { field = "ts", format = "rfc3339" }
factors = { value_micros = 1_000_000, dwell_ms = 1000 }
constants = { placement_id = "home" }

[topics.types]
product_view = "view"
add_to_cart = "click"
stay = "dwell"
purchase = "conversion"
page = "request"

[topics.fields]
user_id = "session.user"
ad_id = "sku"
dwell_ms = "seconds"
value_micros = "total"
"context.country" = "geo.cc"
"""
(MAPPING,) = parse_mappings(SHOP)
RAW = {
    "event": {"name": "add_to_cart"},
    "order": {"id": 7, "lines": ["x"]},
    "ts": "2026-01-31T12:00:00.250+01:00",
    "session": {"user": "u1"},
    "sku": 42,
    "seconds": 2.5,
    "total": 12.99,
    "geo": {"cc": "de"},
}


def record(value, timestamp_ms=1_700_000_000_000) -> LogRecord:
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return LogRecord("shop.clicks", 3, 17, timestamp_ms, b"k", data)


def of_kind(name: str, **fields):
    return mapped(record(RAW | {"event": {"name": name}} | fields), MAPPING)


def minimal(**lines: str):
    base = {"topic": '"t"', "kind": '"view"', "fields": '{ user_id = "u", ad_id = "a" }'} | lines
    return parse_mappings("[[topics]]\n" + "\n".join(f"{name} = {value}" for name, value in base.items()))


def test_dotted_paths_constants_types_and_factors_make_an_event():
    assert mapped(record(RAW), MAPPING) == events.Click(
        id="7-x", event_time=1_769_857_200_250, user_id="u1", ad_id="42"
    )
    assert of_kind("purchase").value_micros == 12_990_000
    assert of_kind("stay").dwell_ms == 2500
    assert of_kind("page").placement_id == "home"
    assert of_kind("page").context.country == "de"


def test_a_kind_that_the_mapping_ignores_is_nothing():
    assert of_kind("heartbeat") is None


def test_without_an_id_a_record_is_named_by_its_place():
    (mapping,) = minimal()
    assert mapped(record({"u": "u", "a": "a"}), mapping).id == "shop.clicks-3-17"


@pytest.mark.parametrize(
    ("time", "found", "expected"),
    [
        (None, 0, 1_700_000_000_000),
        ('{ field = "t" }', 1_700_000_000_123, 1_700_000_000_123),
        ('{ field = "t", format = "epoch_s" }', 1_700_000_000.5, 1_700_000_000_500),
        ('{ field = "t", format = "epoch_s" }', "1700000000", 1_700_000_000_000),
        ('{ field = "t", format = "rfc3339" }', "2023-11-14T22:13:20Z", 1_700_000_000_000),
    ],
)
def test_times_are_read_in_each_format(time, found, expected):
    (mapping,) = minimal(**({"time": time} if time else {}))
    assert mapped(record({"u": "u", "a": "a", "t": found}), mapping).event_time == expected


@pytest.mark.parametrize(
    ("change", "reason", "message"),
    [
        ({"event": {"name": "scroll"}}, "unknown_type", "'scroll', expected one of"),
        ({"event": {}}, "unknown_type", "got None"),
        ({"ts": "2026-01-31T12:00:00"}, "bad_value", "a time with its zone"),
        ({"ts": "yesterday"}, "bad_value", "event_time: got 'yesterday'"),
        ({"ts": None}, "bad_value", "event_time: got None"),
        ({"order": {}}, "bad_value", "whole number at 'order.id'"),
        ({"session": {}}, "bad_value", "a value at 'session.user'"),
        ({"session": {"user": ["u"]}}, "bad_value", "user_id"),
        ({"sku": "x" * 129}, "bad_value", "ad_id"),
        ({"sku": True}, "bad_value", "ad_id"),
        ({"sku": 1.5}, "bad_value", "ad_id"),
    ],
)
def test_a_record_that_cannot_be_mapped_says_which_field_and_why(change, reason, message):
    with pytest.raises(BadRecord, match=message) as caught:
        mapped(record(RAW | change), MAPPING)
    assert caught.value.reason == reason


@pytest.mark.parametrize("total", ["12", True, 1e308, -5])
def test_an_amount_that_is_none_is_refused(total):
    with pytest.raises(BadRecord, match="value_micros"):
        of_kind("purchase", total=total)


@pytest.mark.parametrize(
    ("value", "reason"),
    [(b"", "empty"), (b'{"a":', "not_json"), (b"\xff", "not_json"), (b"NaN", "not_json")],
)
def test_bytes_that_are_no_json_are_refused(value, reason):
    with pytest.raises(BadRecord) as caught:
        mapped(record(value), MAPPING)
    assert caught.value.reason == reason


@given(st.binary(max_size=60) | st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(["event", "name", "ts", "order", "id", "lines", "session", "user", "sku"]), inner
    ),
    max_leaves=12,
))  # fmt: skip
def test_whatever_a_record_holds_only_a_bad_record_comes_out(value):
    try:
        found = mapped(record(value), MAPPING)
    except BadRecord as error:
        assert str(error)
    else:
        assert found is None or isinstance(found.user_id, str)


def test_paths_step_into_objects_and_arrays():
    raw = {"a": [{"b": 1}, {"b": 2}]}
    assert at(raw, "a.1.b") == 2
    assert at(raw, "a.2.b") is None
    assert at(raw, "a.b") is None
    assert at("text", "a") is None


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ({"kind": '"buy"'}, "Invalid enum value 'buy'"),
        ({"tipes": "{}"}, "unknown field `tipes`"),
        ({"fields": '{ user_id = "u" }'}, r"got no \['ad_id'\], expected it of a view"),
        ({"fields": '{ user_id = "u", ad_id = "a", price = "p" }'}, "got the field 'price', expected one of"),
        ({"fields": '{ user_id = "u..x", ad_id = "a" }'}, "matching regex"),
        ({"factors": "{ ad_id = 0 }"}, "> 0"),
        ({"factors": "{ decision_id = 2 }"}, "factor for 'decision_id'"),
        ({"constants": '{ ad_id = "a" }'}, "'ad_id' as field and constant"),
        ({"type": '"t"'}, "either kind"),
        ({"time": '{ field = "t", format = "ms" }'}, "Invalid enum value 'ms'"),
        ({"topic": "3"}, "Expected `str`"),
        ({"id": '"a"'}, "Expected `array`"),
    ],
)
def test_a_wrong_mapping_is_one_error_with_the_fix(lines, message):
    with pytest.raises(SettingError, match=message) as caught:
        minimal(**lines)
    assert "Fix: " in str(caught.value)


def test_all_that_is_wrong_is_said_at_once():
    with pytest.raises(SettingError) as caught:
        minimal(fields='{ price = "p" }')
    assert len(str(caught.value).splitlines()) == 2


def test_a_topic_has_one_mapping():
    with pytest.raises(SettingError, match="several mappings"):
        parse_mappings(SHOP + SHOP)


def test_a_mapping_that_is_missing_or_no_toml_is_an_error(tmp_path):
    with pytest.raises(SettingError, match="cannot be read"):
        read_mappings(tmp_path / "none.toml")
    (tmp_path / "bad.toml").write_text("[[topics")
    with pytest.raises(SettingError, match=r"bad\.toml"):
        read_mappings(tmp_path / "bad.toml")


@pytest.mark.parametrize("path", ["event.name", "order.id", "ts", "sku", "total", "geo.cc", "session.user"])
def test_a_value_nested_at_any_depth_is_a_bad_record(path):
    for depth in (1, 300, *range(940, 1001, 3)):
        nested = "[" * depth + "]" * depth
        name, _, inner = path.partition(".")
        fields = RAW | {"event": {"name": "purchase"}, name: {inner: "HERE"} if inner else "HERE"}
        if name == "geo":
            fields["event"] = {"name": "page"}
        with pytest.raises(BadRecord):
            mapped(record(json.dumps(fields).replace('"HERE"', nested).encode()), MAPPING)


def test_an_object_and_an_array_are_named_not_shown():
    with pytest.raises(BadRecord, match=r"event\.name: got an array, expected one of"):
        of_kind("page", event={"name": [1]})
    with pytest.raises(BadRecord, match="event_time: got an object"):
        of_kind("page", ts={"a": 1})
