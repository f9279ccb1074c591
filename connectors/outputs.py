"""Decisions and outcomes read back: lines of `impulse replay`, or topics recorded by `impulse record`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec

from connectors.log_files import raw_lines
from connectors.log_lines import decode_line
from models.domain.decision import Decision, Outcome
from models.domain.errors import LogError

_FIX = "give what `impulse replay --decisions/--outcomes` or `impulse record --outputs` wrote"


class _Probe(msgspec.Struct):
    """The field that tells the kinds of JSON objects apart."""

    topic: str | msgspec.UnsetType = msgspec.UNSET
    type: str | msgspec.UnsetType = msgspec.UNSET
    kind: str | msgspec.UnsetType = msgspec.UNSET
    ads: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


_PROBE = msgspec.json.Decoder(_Probe)
_DECISION = msgspec.json.Decoder(Decision)
_OUTCOME = msgspec.json.Decoder(Outcome)


def read_outputs(path: Path) -> Iterator[Decision | Outcome]:
    """Yield the decisions and outcomes of a file in its order; events and dead letters are passed over.

    Raises
    ------
    LogError
        naming file and line, when the file is missing, cut short or a line is none of these.

    """
    for number, line in enumerate(raw_lines(path), start=1):
        body = _body(line, path, number)
        if body is not None:
            yield body


def read_decisions(path: Path) -> Iterator[Decision]:
    """Yield the decisions of a file; raises LogError as `read_outputs`."""
    return (body for body in read_outputs(path) if isinstance(body, Decision))


def read_outcomes(path: Path) -> Iterator[Outcome]:
    """Yield the outcomes of a file; raises LogError as `read_outputs`."""
    return (body for body in read_outputs(path) if isinstance(body, Outcome))


def _body(line: bytes, path: Path, number: int) -> Decision | Outcome | None:
    try:
        probe = _PROBE.decode(line)
        if isinstance(probe.topic, str):
            value = decode_line(line, path, number).value
            return None if value is None or b"\n" in value else _body(value, path, number)
        if isinstance(probe.type, str):
            return None
        if isinstance(probe.kind, str):
            return _OUTCOME.decode(line)
        return _DECISION.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise LogError.expected(
            f"{path}:{number}", got=str(error), expected="a decision or an outcome", fix=_FIX
        ) from error
