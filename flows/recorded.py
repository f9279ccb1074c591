"""Recorded decisions and outcomes as evaluation takes them: each once, and some of them at least."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from connectors.outputs import read_decisions, read_outcomes
from models.domain.decision import Decision, Outcome
from models.domain.errors import LogError
from models.evaluation.logbook import TOPIC
from models.state.repeats import outcome_identity

T = TypeVar("T")


@dataclass(frozen=True)
class Recorded(Generic[T]):
    """What a file holds, each once; ``repeats`` came again, as a flow writes after a crash."""

    rows: list[T]
    repeats: int = 0


def once(rows: Iterable[T], identity: Callable[[T], str]) -> Recorded[T]:
    """Return the rows, of those with equal identities the first."""
    kept: dict[str, T] = {}
    count = 0
    for row in rows:
        kept.setdefault(identity(row), row)
        count += 1
    return Recorded(list(kept.values()), count - len(kept))


def decisions_of(file: Path, events: str = TOPIC) -> Recorded[Decision]:
    """Return the decisions of a file, none of the log topic; raises LogError where it cannot be read."""
    return once(read_decisions(file, events), lambda decision: decision.decision_id)


def outcomes_of(file: Path, events: str = TOPIC) -> Recorded[Outcome]:
    """Return the outcomes of a file, none of the log topic; raises LogError where it cannot be read."""
    return once(read_outcomes(file, events), outcome_identity)


def some_decisions(file: Path, events: str = TOPIC) -> Recorded[Decision]:
    """Return the decisions of a file that must hold some; raises LogError where it holds none."""
    found = decisions_of(file, events)
    if not found.rows:
        raise nothing_in(file, "no decisions", "give what `impulse replay --decisions` wrote")
    return found


def some_outcomes(file: Path, events: str = TOPIC) -> Recorded[Outcome]:
    """Return the outcomes of a file that must hold some; raises LogError where it holds none."""
    found = outcomes_of(file, events)
    if not found.rows:
        raise nothing_in(file, "no outcomes", "give what `impulse replay --outcomes` wrote")
    return found


def nothing_in(file: Path, got: str, fix: str) -> Exception:
    """Return the error of a file that holds nothing of what it is named for."""
    return LogError.expected(f"{file}", got=got, expected="what it is named for", fix=fix)
