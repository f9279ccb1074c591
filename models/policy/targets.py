"""All targeting texts of a catalogue, asked at once.

Texts share conditions (``device == "mobile"``), and most conditions read one variable. So distinct
conditions are grouped by the variables they read, a group's answers are kept by the values of these,
and a text's answer is the conjunction of its conditions'.

Legend: T texts, C distinct conditions.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import chain
from operator import itemgetter

import numpy as np
from numpy.typing import NDArray

from models.domain.errors import BadRecord

from .memo import Memo
from .targeting import Condition, Predicate, Values, compile_expression

Flags = NDArray[np.bool_]

_MEMO_BYTES = 16 << 20


@dataclass(frozen=True, eq=False)
class _Group:
    """Conditions that read the same variables, and where their answers go."""

    read: Callable[[Values], Hashable]
    codes: NDArray[np.int64]
    conditions: tuple[Condition, ...]
    memo: Memo[Flags]

    def answers(self, values: Values) -> Flags:
        """Return the answer of each condition in this situation."""
        return self.memo.get(
            self.read(values), lambda: np.array([condition(values) for condition in self.conditions])
        )


@dataclass(frozen=True, eq=False)
class Targets:
    """Distinct targeting texts, compiled; text t's code is t."""

    texts: tuple[str, ...] = ()
    predicates: dict[str, Predicate] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)
    """Why a text could not be compiled; it is met by nobody."""
    variables: tuple[int, ...] = ()
    """Places in VARIABLES that some text reads: requests equal there get equal answers."""
    _groups: tuple[_Group, ...] = ()
    _conditions: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    _starts: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))

    def met(self, values: Values) -> Flags:
        """Return `[T]` whether a request with these values meets each text."""
        answers = np.empty(sum(len(group.codes) for group in self._groups) + 2, np.bool_)
        answers[_ALWAYS], answers[_NEVER] = True, False
        for group in self._groups:
            answers[group.codes] = group.answers(values)
        if not self.texts:
            return np.zeros(0, np.bool_)
        return np.logical_and.reduceat(answers[self._conditions], self._starts)

    def read(self, values: Values) -> tuple[str | int, ...]:
        """Return the values of `variables` alone."""
        return tuple(values[v] for v in self.variables)


_ALWAYS, _NEVER = 0, 1


def compile_targets(texts: tuple[str, ...], previous: Targets | None = None) -> Targets:
    """Compile distinct texts, taking those that ``previous`` holds from there."""
    if previous is not None and texts == previous.texts:
        return previous
    predicates = dict(previous.predicates) if previous else {}
    errors = dict(previous.errors) if previous else {}
    for text in texts:
        if text not in predicates and text not in errors:
            _compile_into(text, predicates, errors)
    distinct = _distinct_conditions(predicates[text] for text in texts if text in predicates)
    code = {condition: n + 2 for n, condition in enumerate(distinct)}
    of_text = [_codes_of(predicates.get(text), code) for text in texts]
    return Targets(
        texts=texts,
        predicates={text: predicates[text] for text in texts if text in predicates},
        errors={text: errors[text] for text in texts if text in errors},
        variables=tuple(sorted({v for condition in distinct for v in condition.variables})),
        _groups=_groups(code),
        _conditions=np.array(list(chain.from_iterable(of_text)), np.int64),
        _starts=np.cumsum([0, *(len(codes) for codes in of_text[:-1])]),
    )


def _compile_into(text: str, predicates: dict[str, Predicate], errors: dict[str, str]) -> None:
    try:
        predicates[text] = compile_expression(text)
    except BadRecord as error:
        errors[text] = str(error)


def _distinct_conditions(predicates: Iterable[Predicate]) -> tuple[Condition, ...]:
    return tuple(dict.fromkeys(condition for p in predicates for condition in p.conditions))


def _codes_of(predicate: Predicate | None, code: dict[Condition, int]) -> Sequence[int]:
    if predicate is None:
        return (_NEVER,)
    return [code[condition] for condition in predicate.conditions] or (_ALWAYS,)


def _groups(code: dict[Condition, int]) -> tuple[_Group, ...]:
    by_variables: dict[tuple[int, ...], list[Condition]] = {}
    for condition in code:
        by_variables.setdefault(condition.variables, []).append(condition)
    return tuple(_group(variables, members, code) for variables, members in by_variables.items())


def _group(variables: tuple[int, ...], members: Sequence[Condition], code: dict[Condition, int]) -> _Group:
    return _Group(
        read=itemgetter(*variables) if variables else lambda values: (),
        codes=np.array([code[condition] for condition in members], np.int64),
        conditions=tuple(members),
        memo=Memo(_MEMO_BYTES // (len(members) + 200)),
    )
