"""Decisions and outcomes read back: lines of `impulse replay`, or topics recorded by `impulse record`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec

from connectors.log_files import raw_lines
from connectors.log_lines import decode_line
from models.domain.decision import Decision, Outcome
from models.domain.errors import LogError
from models.evaluation.logbook import TOPIC

_FIX = "give what `impulse replay --decisions/--outcomes` or `impulse record --outputs` wrote"


class _Probe(msgspec.Struct):
    """The field that tells the kinds of JSON objects apart."""

    topic: str | msgspec.UnsetType = msgspec.UNSET
    type: str | msgspec.UnsetType = msgspec.UNSET
    kind: str | msgspec.UnsetType = msgspec.UNSET


_MARK = b'"behavior_policy"'
"""What decisions and outcomes hold, and no event does."""
_PROBE = msgspec.json.Decoder(_Probe)
_DECISION = msgspec.json.Decoder(Decision)
_OUTCOME = msgspec.json.Decoder(Outcome)


def read_outputs(path: Path, events: str = TOPIC) -> Iterator[Decision | Outcome]:
    """Yield the decisions and outcomes of a file in its order; events and dead letters are passed over.

    Parameters
    ----------
    path
        Lines of decisions and outcomes, or recorded topics.
    events
        The log topic: whatever its records hold, they are none.

    Raises
    ------
    LogError
        naming file and line, when the file is missing, cut short or a line is none of these.

    """
    for number, line in enumerate(raw_lines(path), start=1):
        body = _body(line, path, number, events)
        if body is not None:
            yield body


def read_decisions(path: Path, events: str = TOPIC) -> Iterator[Decision]:
    """Yield the decisions of a file; parameters and errors as of `read_outputs`."""
    return (body for body in read_outputs(path, events) if isinstance(body, Decision))


def read_outcomes(path: Path, events: str = TOPIC) -> Iterator[Outcome]:
    """Yield the outcomes of a file; parameters and errors as of `read_outputs`."""
    return (body for body in read_outputs(path, events) if isinstance(body, Outcome))


def _body(line: bytes, path: Path, number: int, events: str) -> Decision | Outcome | None:
    try:
        probe = _PROBE.decode(line)
        if isinstance(probe.topic, str):
            record = decode_line(line, path, number)
            return None if record.topic == events else _recorded(record.value or b"")
        return _told(line, probe)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise LogError.expected(
            f"{path}:{number}", got=str(error), expected="a decision or an outcome", fix=_FIX
        ) from error


def _recorded(value: bytes) -> Decision | Outcome | None:
    """Return what a recorded value tells; None where it looks like neither, whatever else it may be."""
    return _told(value, _PROBE.decode(value)) if _MARK in value else None


def _told(value: bytes, probe: _Probe) -> Decision | Outcome | None:
    if isinstance(probe.type, str):
        return None
    return _OUTCOME.decode(value) if isinstance(probe.kind, str) else _DECISION.decode(value)
