"""A consumed message as a record of the log, whatever its headers are."""

from __future__ import annotations

import pytest

from connectors.messages import UNREADABLE_HEADERS, to_record
from models.domain.log import LogRecord


class Message:
    """A message as confluent-kafka hands it out; its headers are found by ``headers``."""

    def __init__(self, headers) -> None:
        self.headers = headers

    def topic(self):
        return "t"

    def partition(self):
        return 3

    def offset(self):
        return 17

    def timestamp(self):
        return 1, 1000

    def key(self):
        return b"k"

    def value(self):
        return b"{}"


def unreadable():
    """Raise what confluent-kafka does of a header whose name is no UTF-8."""
    try:
        b"\xff".decode()
    except UnicodeDecodeError as error:
        raise SystemError("headers returned a result with an exception set") from error


def test_a_record_has_the_headers_of_its_message():
    record = to_record(Message(lambda: [("a", b"1"), ("b", None)]))
    assert record == LogRecord("t", 3, 17, 1000, b"k", b"{}", (("a", b"1"), ("b", b"")))
    assert to_record(Message(lambda: None)).headers == ()


def test_a_header_whose_name_is_no_utf_8_ends_nothing_and_is_told():
    record = to_record(Message(unreadable))
    assert record == LogRecord("t", 3, 17, 1000, b"k", b"{}", UNREADABLE_HEADERS)


def test_any_other_error_of_the_client_is_not_hidden():
    def broken():
        raise SystemError("something else")

    with pytest.raises(SystemError, match="something else"):
        to_record(Message(broken))
