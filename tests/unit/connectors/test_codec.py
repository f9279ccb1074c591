from __future__ import annotations

import json

import jsonschema
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.codec import MAX_BYTES, EventCodec, encode, json_schemas
from models.domain.decision import DeadLetter, Parts
from models.domain.errors import BadRecord, ImpulseError
from models.domain.events import AdUpsert, Click, Event, Request
from models.domain.log import LogRecord

CODEC = EventCodec()
CLICK = {"type": "click", "id": "e1", "event_time": 5, "user_id": "u1", "ad_id": "a1"}

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


def record(value: bytes | None) -> LogRecord:
    return LogRecord("ads.events.v1", 0, 0, 0, b"u1", value)


def reason_for(value: bytes | None) -> str:
    with pytest.raises(BadRecord) as caught:
        CODEC.decode(record(value))
    assert str(caught.value)
    return caught.value.reason


def changed(**fields: object) -> bytes:
    return json.dumps(CLICK | fields).encode()


def test_a_click_is_decoded():
    assert CODEC.decode(record(changed())) == Click(id="e1", event_time=5, user_id="u1", ad_id="a1")


def test_fields_that_no_contract_names_are_ignored():
    value = changed(campaign={"nested": [1, {"type": "foo"}]}, zz="\ud83d\ude00")
    assert CODEC.decode(record(value)) == CODEC.decode(record(changed()))


def test_a_request_may_leave_out_its_context():
    event = CODEC.decode(record(b'{"type":"request","id":"r","event_time":1,"user_id":"u"}'))
    assert isinstance(event, Request) and event.context.country == ""


@pytest.mark.parametrize("value", [None, b""])
def test_no_value_is_empty(value):
    assert reason_for(value) == "empty"


@pytest.mark.parametrize(
    "value",
    [
        b"nul",
        b'{"type":"click","id":"e1"',
        b"\xff\xfe\x00",
        b"\xef\xbb\xbf{}",
        changed()[:-3],
        changed() + b"}",
        changed(id="X").replace(b'"X"', b'"\xff"'),
        changed(id="X").replace(b'"X"', b'"\\ud800"'),
        b'{"type":"click","id":"e1","event_time":NaN,"user_id":"u1","ad_id":"a1"}',
        b'{"a":' * 100_000,
        changed()[:-1] + b',"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    ],
    ids=[
        "cut word",
        "cut object",
        "no text",
        "byte order mark",
        "cut end",
        "trailing bytes",
        "not UTF-8",
        "lone surrogate",
        "NaN",
        "deep",
        "deep where ignored",
    ],
)
def test_what_is_not_json_is_not_json(value):
    assert reason_for(value) == "not_json"


@pytest.mark.parametrize("value", [changed(type="purchase"), b"{}", b'{"id":"e1"}', changed(type=5)])
def test_a_type_that_no_contract_names_is_an_unknown_type(value):
    assert reason_for(value) == "unknown_type"


@pytest.mark.parametrize(
    "value",
    [
        b"[]",
        b"17",
        b'"text"',
        b"null",
        changed(event_time="yesterday"),
        changed(event_time=-1),
        changed(event_time=10**40),
        changed(event_time=1.5),
        changed(user_id=""),
        changed(user_id="u" * 129),
        changed(ad_id=None),
        changed(type="dwell", dwell_ms=-5),
        changed(type="conversion", value_micros=10**18),
    ],
)
def test_a_wrong_type_or_range_is_a_bad_value(value):
    assert reason_for(value) == "bad_value"


def test_an_infinite_vector_is_a_bad_value():
    ad = b'{"ad_id":"a","campaign_id":"c","vector":[1e999]}'
    assert reason_for(b'{"type":"ad_upsert","id":"1","event_time":5,"ads":[%s]}' % ad) == "bad_value"


def test_a_value_above_the_limit_is_refused_unparsed():
    assert reason_for(b"x" * (MAX_BYTES + 1)) == "too_large"


def test_the_limit_is_the_codecs():
    value = changed()
    assert EventCodec(max_bytes=len(value)).decode(record(value))
    with pytest.raises(BadRecord, match="expected at most"):
        EventCodec(max_bytes=len(value) - 1).decode(record(value))


def test_the_message_of_a_bad_record_stays_short():
    with pytest.raises(BadRecord) as caught:
        CODEC.decode(record(changed(type="x" * 100_000)))
    assert len(str(caught.value)) < 500


@given(st.binary(max_size=200))
def test_any_bytes_give_an_event_or_a_bad_record(value):
    try:
        CODEC.decode(record(value))
    except BadRecord as bad:
        assert bad.reason in {"empty", "not_json", "unknown_type", "bad_value"}


@given(json_values)
def test_any_json_gives_an_event_or_a_bad_record(value):
    text = json.dumps(value)
    with pytest.raises(BadRecord):
        CODEC.decode(record(text.encode()))


@given(st.sampled_from([*CLICK, "decision_id", "slot", "ads", "context", "dwell_ms"]), json_values)
def test_any_value_of_any_field_gives_an_event_or_a_bad_record(field, value):
    try:
        event = CODEC.decode(record(changed(**{field: value})))
    except BadRecord:
        return
    event.id.encode()


@given(st.data())
def test_a_cut_or_flipped_event_gives_an_event_or_a_bad_record(data):
    value = bytearray(changed())
    place = data.draw(st.integers(0, len(value) - 1))
    value[place] = data.draw(st.integers(0, 255))
    for damaged in (bytes(value), bytes(value[:place])):
        try:
            CODEC.decode(record(damaged))
        except BadRecord as bad:
            assert str(bad)


def test_encoding_then_decoding_gives_the_event_back():
    event = CODEC.decode(record(changed(decision_id="d1")))
    assert CODEC.decode(record(encode(event))) == event


def test_equal_records_have_equal_bytes():
    assert encode(Parts(base=0.1 + 0.2)) == encode(Parts(base=0.30000000000000004))


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_float_keeps_every_bit(value):
    assert msgspec.json.decode(encode(Parts(base=value)), type=Parts).base.hex() == value.hex()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_float_that_json_cannot_say_is_refused_and_named(value):
    with pytest.raises(ImpulseError, match=r"float at \$\.ad: .*finite"):
        encode(Parts(base=0.0, ad=value))


def test_a_float_deep_inside_is_found():
    ads = [{"ad_id": "a", "campaign_id": "c"}]
    event = msgspec.convert({"type": "ad_upsert", "id": "1", "event_time": 1, "ads": ads}, AdUpsert)
    broken = msgspec.structs.replace(event.ads[0], vector=(1.0, float("nan")))
    with pytest.raises(ImpulseError, match=r"\$\.ads\[0\]\.vector\[1\]"):
        encode(msgspec.structs.replace(event, ads=(broken,)))


def test_a_missing_optional_value_is_written_as_null():
    assert b'"decision_id":null' in encode(CODEC.decode(record(changed())))


def test_the_word_null_in_a_text_is_no_reason_to_refuse():
    assert b"null" in encode(CODEC.decode(record(changed(user_id="null", decision_id="x"))))


def test_there_is_a_schema_for_each_kind_of_record():
    schemas = json_schemas()
    assert list(schemas) == ["event", "decision", "outcome", "interest", "dead_letter"]
    for schema in schemas.values():
        jsonschema.Draft202012Validator.check_schema(schema)


def test_the_event_schema_accepts_what_the_codec_accepts_and_refuses_what_it_refuses():
    validator = jsonschema.Draft202012Validator(json_schemas()["event"])
    assert validator.is_valid(CLICK)
    assert not validator.is_valid(CLICK | {"event_time": "yesterday"})
    assert not validator.is_valid(CLICK | {"type": "purchase"})


def test_the_dead_letter_schema_holds_for_a_dead_letter():
    letter = DeadLetter(
        reason="not_json", message="m", stage="decode", source_topic="t", source_partition=0, source_offset=1
    )
    jsonschema.validate(json.loads(encode(letter)), json_schemas()["dead_letter"])


def test_every_event_type_stands_in_the_event_schema():
    kinds = {kind.__struct_config__.tag for kind in Event.__args__}
    defined = json_schemas()["event"]["$defs"].values()
    assert kinds <= {tag for d in defined for tag in d.get("properties", {}).get("type", {}).get("enum", [])}
