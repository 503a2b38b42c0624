"""Evaluate a checked condition over the columns of an Arrow table, all rows at once.

Logic has three values: what was not measured is null, null is never true, `null and False` is False
and `null or True` is True (Kleene, as in SQL). A quotient that is not finite, as 1 / 0, is null.

A constant that is held against a column in single precision is rounded to it, as thresholds of
rules are; arithmetic is in double precision.

What a source said (`fields.NAME`) is a text where it is held against texts, else a number; two of
them are equal as texts. What cannot be read so is null.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute
from pyarrow.compute import SetLookupOptions

from curate.core.errors import StageError
from curate.stages.filtering.expression import (
    ARITHMETIC,
    COMPARISONS,
    MEMBERSHIP,
    WHERE,
    Expression,
    column_of,
    constant_value,
    dotted_name,
)
from curate.stages.filtering.precision import in_precision_of
from curate.stages.filtering.source_fields import SAID, said_numbers, said_texts

pc: Any = pyarrow.compute  # its functions are made at import, unseen by type checkers


def evaluate(expression: Expression, table: pa.Table) -> pa.ChunkedArray:
    """Say of every row whether the condition holds.

    Returns:
        [N] bool; null where it hangs on something that was not measured.

    Raises:
        StageError: it compares texts with numbers, or orders texts.
    """
    truth = _truth(expression.tree, table)
    if isinstance(truth, pa.Scalar):
        return pa.chunked_array([pa.repeat(truth, table.num_rows)])
    return truth


def _value(node: ast.expr, table: pa.Table) -> Any:
    """Give the texts, truths or numbers of a node: an array, or a scalar of a constant."""
    if name := dotted_name(node):
        return _read(table[column_of(name)], node)
    return _EVALUATORS[type(node)](node, table)


def _truth(node: ast.expr, table: pa.Table) -> Any:
    value = _value(node, table)
    if not pa.types.is_boolean(value.type):
        raise _misfit(node, "and, or and not need conditions")
    return value


def _number(node: ast.expr, table: pa.Table) -> Any:
    return _as_number(_value(node, table), node)


def _constant(node: Any, table: pa.Table) -> Any:
    is_truth_or_text = isinstance(node.value, bool | str)
    return pa.scalar(node.value if is_truth_or_text else float(node.value))


def _logic(node: Any, table: pa.Table) -> Any:
    function = "and_kleene" if isinstance(node.op, ast.And) else "or_kleene"
    first, *rest = (_truth(part, table) for part in node.values)
    for other in rest:
        first = pc.call_function(function, [first, other])
    return first


def _sign(node: Any, table: pa.Table) -> Any:
    if isinstance(node.op, ast.Not):
        return pc.invert(_truth(node.operand, table))
    value = _number(node.operand, table)
    return pc.negate(value) if isinstance(node.op, ast.USub) else value


def _arithmetic(node: Any, table: pa.Table) -> Any:
    sides = [_number(side, table).cast(pa.float64()) for side in (node.left, node.right)]
    result = pc.call_function(ARITHMETIC[type(node.op)], sides)
    return pc.if_else(pc.is_finite(result), result, pa.scalar(None, pa.float64()))


def _comparison(node: Any, table: pa.Table) -> Any:
    """Join the links of a chain as Python does: `1 < x < 3` is `1 < x and x < 3`."""
    found: Any = pa.scalar(True)
    left = _value(node.left, table)
    for operator, part in zip(node.ops, node.comparators, strict=True):
        if isinstance(operator, MEMBERSHIP):
            holds = _is_in(left, part)
            holds = pc.invert(holds) if isinstance(operator, ast.NotIn) else holds
        else:
            right = _value(part, table)
            holds = _compare(operator, left, right, part)
            left = right
        found = pc.and_kleene(found, holds)
    return found


_EVALUATORS: Mapping[type[ast.expr], Callable[[Any, pa.Table], Any]] = {
    ast.Constant: _constant,
    ast.BoolOp: _logic,
    ast.UnaryOp: _sign,
    ast.BinOp: _arithmetic,
    ast.Compare: _comparison,
}


def _compare(operator: ast.cmpop, left: Any, right: Any, node: ast.expr) -> Any:
    left, right = _read_alike(operator, left, right)
    is_text = [pa.types.is_string(side.type) for side in (left, right)]
    if all(is_text):
        if not isinstance(operator, ast.Eq | ast.NotEq):
            raise _misfit(node, "texts have no order (use ==, != or in)")
        return pc.call_function(COMPARISONS[type(operator)], [left, right])
    first, second = (_as_number(side, node) for side in (left, right))
    sides = [_in_precision_of(second, first), _in_precision_of(first, second)]
    return pc.call_function(COMPARISONS[type(operator)], sides)


def _in_precision_of(other: Any, value: Any) -> Any:
    """Round a constant to what the column that it is held against can hold."""
    if not isinstance(value, pa.Scalar) or not value.is_valid:
        return value
    return pa.scalar(float(in_precision_of(other.type, [value.as_py()])[0]))


def _read_alike(operator: ast.cmpop, left: Any, right: Any) -> tuple[Any, Any]:
    """Read what a source said as the other side is; of two, as texts only to be equal or not."""
    kinds = {side.type for side in (left, right)}
    is_equality = isinstance(operator, ast.Eq | ast.NotEq)
    as_text = is_equality if kinds == {SAID} else pa.string() in kinds
    return _reading(left, as_text=as_text), _reading(right, as_text=as_text)


def _reading(value: Any, *, as_text: bool) -> Any:
    if value.type != SAID:
        return value
    return said_texts(value) if as_text else said_numbers(value)


def _is_in(value: Any, node: Any) -> Any:
    """Look values up in a list; null stays null."""
    wanted = [constant_value(item) for item in node.elts]
    value = _reading(value, as_text=isinstance(wanted[0], str))
    if isinstance(wanted[0], str) != pa.types.is_string(value.type):
        raise _misfit(node, "texts compare with texts and numbers with numbers")
    if not isinstance(wanted[0], str):
        value = _as_number(value, node)
        wanted = in_precision_of(value.type, [float(item) for item in wanted])
        value = value.cast(pa.float64())
    found = pc.is_in(value, options=SetLookupOptions(value_set=pa.array(wanted)))
    return pc.if_else(pc.is_valid(value), found, pa.scalar(None, pa.bool_()))


def _read(column: pa.ChunkedArray, node: ast.expr) -> Any:
    """Give a column as texts, truths, numbers or what a source said; NaN becomes null."""
    kind = column.type
    if pa.types.is_dictionary(kind) or pa.types.is_large_string(kind):
        return column.cast(pa.string())
    if pa.types.is_string(kind) or pa.types.is_boolean(kind) or kind == SAID:
        return column
    if pa.types.is_null(kind):  # nothing was measured, so that it is of any kind
        return column.cast(SAID)
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        is_single = kind == pa.float32()  # constants must know; all else is judged in double
        number = column if is_single else column.cast(pa.float64(), safe=False)
        return pc.if_else(pc.is_nan(number), pa.scalar(None, number.type), number)
    raise _misfit(node, f"columns must hold numbers, texts or truths, not {kind}")


def _as_number(value: Any, node: ast.expr) -> Any:
    value = _reading(value, as_text=False)
    if pa.types.is_string(value.type):
        raise _misfit(node, "texts compare with texts and numbers with numbers")
    return value.cast(pa.float64()) if pa.types.is_boolean(value.type) else value


def _misfit(node: ast.expr, rule: str) -> StageError:
    place = f"{ast.unparse(node)} at character {node.col_offset + 1}"
    return StageError(f"{WHERE}: {rule}, got {place}; fix it")
