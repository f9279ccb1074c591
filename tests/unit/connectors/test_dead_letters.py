from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.dead_letters import LARGEST, read_dead_letter, to_dead_letter
from models.domain.errors import BadRecord, LogError
from models.domain.log import LogRecord, Output

RECORD = LogRecord("ads.events.v1", 3, 17, 1000, b"u1", b"\xff{", (("traceparent", b"00-ab"),))
BAD = BadRecord("not_json", "JSON is malformed")


def test_key_value_and_headers_stay_what_they_were():
    letter = to_dead_letter(RECORD, BAD, "decode")
    assert (letter.stream, letter.key, letter.value) == ("dead_letters", b"u1", b"\xff{")
    assert letter.headers[0] == ("traceparent", b"00-ab")


def test_the_headers_say_why_and_where():
    headers = dict(to_dead_letter(RECORD, BAD, "decode").headers)
    assert headers["dead-letter-reason"] == b"not_json"
    assert headers["dead-letter-message"] == b"JSON is malformed"
    assert headers["dead-letter-error"] == b"BadRecord"
    assert headers["dead-letter-stage"] == b"decode"
    assert headers["dead-letter-source-topic"] == b"ads.events.v1"
    assert headers["dead-letter-source-partition"] == b"3"
    assert headers["dead-letter-source-offset"] == b"17"


def test_it_belongs_to_the_place_of_the_record_that_caused_it():
    letter = to_dead_letter(RECORD, BAD, "decode")
    assert (letter.source_partition, letter.source_offset) == (3, 17)


def written(record: LogRecord, bad: BadRecord = BAD) -> LogRecord:
    letter = to_dead_letter(record, bad, "decode")
    return LogRecord("ads.events.v1.dlq", 0, 99, 2000, letter.key, letter.value, letter.headers)


def test_the_refused_record_and_the_reason_are_read_back():
    original, letter = read_dead_letter(written(RECORD))
    assert original == RECORD._replace(timestamp_ms=2000)
    assert (letter.reason, letter.stage, letter.source_offset) == ("not_json", "decode", 17)


def test_a_record_refused_twice_carries_the_last_reason_only():
    again = to_dead_letter(written(RECORD), BadRecord("bad_value", "still wrong"), "shard")
    names = [name for name, _ in again.headers]
    assert len(names) == len(set(names))
    assert dict(again.headers)["dead-letter-reason"] == b"bad_value"


@given(st.text(), st.none() | st.binary(max_size=20))
def test_any_message_and_value_can_be_a_dead_letter(message, value):
    original, letter = read_dead_letter(written(RECORD._replace(value=value), BadRecord("x", message)))
    assert original.value == value
    assert letter.reason == "x"


def test_a_message_without_end_is_cut():
    headers = dict(to_dead_letter(RECORD, BadRecord("x", "y" * 10**6), "decode").headers)
    assert len(headers["dead-letter-message"]) == 2000


def size(letter: Output) -> int:
    return len(letter.key) + len(letter.value) + sum(len(n) + len(d) for n, d in letter.headers)


@pytest.mark.parametrize("large", ["key", "value", "headers"])
def test_a_record_too_large_for_any_topic_is_cut_and_says_so(large):
    data = b"x" * 50_000_000
    record = RECORD._replace(**{large: (("h", data),) if large == "headers" else data})
    letter = to_dead_letter(record, BadRecord("too_large", "m"), "decode")
    assert size(letter) < LARGEST
    assert b"50000" in dict(letter.headers)["dead-letter-cut"]
    assert read_dead_letter(LogRecord("q", 0, 0, 0, letter.key, letter.value, letter.headers))[1].reason


def test_a_record_that_fits_is_never_cut():
    letter = to_dead_letter(RECORD._replace(value=b"x" * (LARGEST - 100)), BAD, "decode")
    assert len(letter.value) == LARGEST - 100
    assert "dead-letter-cut" not in dict(letter.headers)


def test_a_record_that_is_no_dead_letter_is_refused():
    with pytest.raises(LogError, match="not a dead letter"):
        read_dead_letter(RECORD)
