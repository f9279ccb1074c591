"""Targeting: a small safe expression language over a request's situation.

``country in ("de", "at") and device == "mobile" and 8 <= hour < 20``

Grammar: ``and or not``, ``== != < <= > >= in``, ``not in``, parentheses, string and integer literals,
tuples of literals, ``True`` and ``False``, and the names of `VARIABLES`. A text is parsed once by Python's
parser, every node is checked against a whitelist, and what remains becomes closures; nothing is ever
evaluated as Python. Texts compare with texts and numbers with numbers; anything else is refused when
the ad arrives, so a compiled predicate cannot fail on a request.
"""

from __future__ import annotations

import ast
import operator
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

from models.domain.errors import BadRecord
from models.domain.events import Context

MAX_LENGTH = 2_000
MAX_PARTS = 400
MAX_DEPTH = 20
MAX_LITERALS = 1_000

HOUR_MS = 3_600_000
DAY_MS = 86_400_000

TEXT_VARIABLES = ("country", "device", "language", "segment", "placement")
NUMBER_VARIABLES = ("hour", "weekday")
VARIABLES = (*TEXT_VARIABLES, *NUMBER_VARIABLES)
"""Names that an expression may read; their order is the order of `values_of`."""

Values = tuple[str, str, str, str, str, int, int]
"""A request's situation, in the order of VARIABLES."""

_Read = Callable[[Values], Any]
_GRAMMAR = "and, or, not, ==, !=, <, <=, >, >=, in, parentheses, text and whole-number literals, tuples"
_COMPARE: dict[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.In: lambda left, right: left in right,
    ast.NotIn: lambda left, right: left not in right,
}


@dataclass(frozen=True)
class Condition:
    """One condition of an expression.

    ``variables`` are the places in `VARIABLES` that it reads: two requests that agree there get the
    same answer, which is what callers cache by. ``text`` is normalised, equal for equal conditions.
    """

    text: str
    variables: tuple[int, ...]
    _test: _Read = field(repr=False, compare=False)

    def __call__(self, values: Values) -> bool:
        """Return whether a request with these `values_of` meets the condition."""
        return bool(self._test(values))


@dataclass(frozen=True)
class Predicate:
    """A compiled expression: the conjunction of its top-level ``and`` conditions (none: always true).

    Conditions are kept apart because each usually reads one variable and recurs in many campaigns.
    """

    text: str
    conditions: tuple[Condition, ...]

    def __call__(self, values: Values) -> bool:
        """Return whether a request with these `values_of` may see the ad."""
        return all(condition(values) for condition in self.conditions)


def values_of(context: Context, placement_id: str, event_time: int) -> Values:
    """Return what expressions read: hour is the UTC hour 0-23, weekday 0 is Monday (1970-01-01: 3)."""
    return (
        context.country,
        context.device,
        context.language,
        context.segment,
        placement_id,
        event_time // HOUR_MS % 24,
        (event_time // DAY_MS + 3) % 7,
    )


def compile_expression(text: str) -> Predicate:
    """Compile a targeting expression; the empty text is true for everyone.

    Raises
    ------
    BadRecord
        reason ``bad_targeting``; the message names the offending part and the fix.

    """
    if not text.strip():
        return Predicate(text, ())
    if len(text) > MAX_LENGTH:
        _refuse("length of the expression", len(text), f"at most {MAX_LENGTH} characters", "split it")
    tree = _parse(text)
    _check_bounds(tree)
    joined = isinstance(tree, ast.BoolOp) and isinstance(tree.op, ast.And)
    conditions = tree.values if joined else [tree]  # type: ignore[attr-defined]
    return Predicate(text, tuple(_compile_condition(node) for node in conditions))


def _compile_condition(node: ast.expr) -> Condition:
    test = _condition(node)
    names = {name.id for name in ast.walk(node) if isinstance(name, ast.Name)}
    variables = tuple(i for i, name in enumerate(VARIABLES) if name in names)
    return Condition(ast.unparse(node), variables, test)


def _refuse(what: str, got: object, expected: str, fix: str) -> NoReturn:
    shown = ascii(got)[:120]
    raise BadRecord("bad_targeting", f"targeting {what}: got {shown}, expected {expected}. Fix: {fix}.")


def _parse(text: str) -> ast.expr:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            return ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError, Warning) as error:
        where = f" at column {error.offset}" if isinstance(error, SyntaxError) and error.offset else ""
        return _refuse(f"syntax{where}", text, f"an expression of {_GRAMMAR}", "correct the expression")


def _check_bounds(tree: ast.expr) -> None:
    """Bound size and depth before anything recurses over the tree."""
    level: list[ast.AST] = [tree]
    parts = depth = 0
    while level:
        parts += sum(1 for node in level if not isinstance(node, ast.Constant))
        depth += 1
        level = [child for node in level for child in ast.iter_child_nodes(node)]
        if depth > MAX_DEPTH:
            _refuse("depth of the expression", depth, f"at most {MAX_DEPTH} levels", "flatten it")
    if parts > MAX_PARTS:
        _refuse("size of the expression", parts, f"at most {MAX_PARTS} parts", "use `in` with a tuple")


def _compile(node: ast.expr) -> tuple[str, _Read]:
    """Return the node's type (``bool``, ``text``, ``number``, or a tuple of these) and its reader."""
    if isinstance(node, ast.BoolOp):
        return _compile_logic(node)
    if isinstance(node, ast.UnaryOp):
        return _compile_unary(node)
    if isinstance(node, ast.Compare):
        return _compile_comparison(node)
    if isinstance(node, ast.Name):
        return _compile_name(node)
    if isinstance(node, ast.Constant):
        return _compile_literal(node)
    if isinstance(node, ast.Tuple):
        return _compile_tuple(node)
    return _refuse("part", ast.unparse(node), _GRAMMAR, "remove that part")


def _compile_logic(node: ast.BoolOp) -> tuple[str, _Read]:
    tests = [_condition(value) for value in node.values]
    if isinstance(node.op, ast.And):
        return "bool", lambda values: all(test(values) for test in tests)
    return "bool", lambda values: any(test(values) for test in tests)


def _compile_unary(node: ast.UnaryOp) -> tuple[str, _Read]:
    if isinstance(node.op, ast.Not):
        test = _condition(node.operand)
        return "bool", lambda values: not test(values)
    return _refuse("operator", ast.unparse(node), _GRAMMAR, "use a plain whole number")


def _condition(node: ast.expr) -> _Read:
    kind, read = _compile(node)
    if kind != "bool":
        _refuse("condition", ast.unparse(node), "a comparison", "write it as `name == value`")
    return read


def _compile_comparison(node: ast.Compare) -> tuple[str, _Read]:
    sides = [_compile(side) for side in (node.left, *node.comparators)]
    tests = [
        _compile_pair(node, op, left, right)
        for op, left, right in zip(node.ops, sides, sides[1:], strict=False)
    ]
    if len(tests) == 1:
        return "bool", tests[0]
    return "bool", lambda values: all(test(values) for test in tests)


def _compile_pair(
    node: ast.Compare, op: ast.cmpop, left: tuple[str, _Read], right: tuple[str, _Read]
) -> _Read:
    if type(op) not in _COMPARE:
        _refuse("comparison", ast.unparse(node), _GRAMMAR, "use ==, !=, <, <=, >, >=, in or not in")
    member = isinstance(op, ast.In | ast.NotIn)
    if left[0] not in ("text", "number") or right[0] != (f"tuple of {left[0]}" if member else left[0]):
        expected = "text or number, in a tuple of the same" if member else "texts or numbers on both sides"
        fix = 'compare text with "text", numbers with numbers, and write a single choice as ("de",)'
        _refuse("comparison", ast.unparse(node), expected, fix)
    compare, read_left, read_right = _COMPARE[type(op)], left[1], right[1]
    return lambda values: compare(read_left(values), read_right(values))


def _compile_name(node: ast.Name) -> tuple[str, _Read]:
    if node.id not in VARIABLES:
        _refuse("name", node.id, f"one of {', '.join(VARIABLES)}", "use one of these names, or quote a text")
    kind = "text" if node.id in TEXT_VARIABLES else "number"
    return kind, operator.itemgetter(VARIABLES.index(node.id))


def _compile_literal(node: ast.Constant) -> tuple[str, _Read]:
    value = node.value
    if isinstance(value, bool):
        return "bool", lambda values: value
    if isinstance(value, str):
        return "text", lambda values: value
    if isinstance(value, int):
        return "number", lambda values: value
    return _refuse("literal", value, "a text or a whole number", "quote it, or round it")


def _compile_tuple(node: ast.Tuple) -> tuple[str, _Read]:
    literals = [_literal_of(element) for element in node.elts]
    if not 1 <= len(literals) <= MAX_LITERALS:
        _refuse("tuple", len(literals), f"1 to {MAX_LITERALS} literals", "name at least one choice")
    kinds = _kinds(literals)
    if len(kinds) > 1:
        _refuse("tuple", ast.unparse(node), "texts only or numbers only", "do not mix them")
    members = frozenset(literals)
    return f"tuple of {kinds.pop()}", lambda values: members


def _literal_of(node: ast.expr) -> str | int:
    if isinstance(node, ast.Constant) and type(node.value) in (str, int):
        return node.value  # type: ignore[return-value]
    return _refuse("member of a tuple", ast.unparse(node), "a text or a whole number", "use literals only")


def _kinds(literals: Sequence[str | int]) -> set[str]:
    return {"text" if isinstance(literal, str) else "number" for literal in literals}
