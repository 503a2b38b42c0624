"""Read a condition over columns: `pixels.min_side_px >= 200 and language.code in ["en", "de"]`.

    text -> ast.parse -> only the nodes listed here -> Expression -> expression_values.evaluate

Comparisons (also chained), `in` and `not in` with a list, and, or, not, + - * / and parentheses
over columns, numbers, texts, True and False; nothing is ever executed.

A column is written by its name, or by a rule's: `similarity >= 0.3`. Two short forms are known: a
rule's column without the unit at its end (`pixels.min_side`) and `text.` for `caption_text.`.
"""

from __future__ import annotations

import ast
import io
import re
import sys
import tokenize
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from curate.core.errors import ConfigError
from curate.stages.filtering.columns import is_known_of_ingest
from curate.stages.filtering.rules import RULES

WHERE = "filter.where"

# Chosen by us: far above what a person writes, far below what the parser's recursion bears.
MAX_CHARACTERS, MAX_DEPTH = 4000, 60
_MAX_QUOTED = 40  # characters of the condition that a message quotes; chosen by us

ARITHMETIC: Mapping[type[ast.operator], str] = {
    ast.Add: "add", ast.Sub: "subtract", ast.Mult: "multiply", ast.Div: "divide",
}  # fmt: skip
COMPARISONS: Mapping[type[ast.cmpop], str] = {
    ast.Lt: "less", ast.LtE: "less_equal", ast.Gt: "greater", ast.GtE: "greater_equal",
    ast.Eq: "equal", ast.NotEq: "not_equal",
}  # fmt: skip
MEMBERSHIP = (ast.In, ast.NotIn)
_LISTS = (ast.List, ast.Tuple, ast.Set)
_ALLOWED = (
    ast.BoolOp, ast.And, ast.Or, ast.UnaryOp, ast.Not, ast.USub, ast.UAdd, ast.BinOp, ast.Compare,
    ast.Constant, ast.Name, ast.Attribute, ast.Load, *_LISTS, *MEMBERSHIP, *ARITHMETIC,
    *COMPARISONS,
)  # fmt: skip
_UNITS = ("_px", "_frac")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Expression:
    """Hold a checked condition.

    Args:
        text: as it was written, on one line.
        columns: the columns it reads, in the order of the text.
        tree: of allowed nodes only.
    """

    text: str
    columns: tuple[str, ...]
    tree: ast.expr

    def parts(self) -> list[Expression]:
        """Give the conditions that a top-level `and` joins, or the whole when none does."""
        if not (isinstance(self.tree, ast.BoolOp) and isinstance(self.tree.op, ast.And)):
            return [self]
        return [
            Expression(
                text=ast.get_source_segment(self.text, tree) or ast.unparse(tree),
                columns=tuple(dict.fromkeys(_columns(tree))),
                tree=tree,
            )
            for tree in self.tree.values
        ]


def parse_expression(text: str) -> Expression:
    """Read the condition of `filter.where`.

    Raises:
        ConfigError: with the place of what is wrong.
    """
    if len(text) > MAX_CHARACTERS:
        raise ConfigError(
            f"{WHERE}: must have at most {MAX_CHARACTERS} characters, got {len(text)}; shorten it"
        )
    text = re.sub(r"\r\n?|\n", " ", text).strip()
    _check_comments(text)
    tree = _parse(text)
    _check_depth(tree)
    for node in ast.walk(tree):
        _check_node(node, tree, text)
    _check_lists(tree, text)
    if not _may_be_true(tree):
        raise _refuse(tree, "must be a condition, got a value", "compare it with something")
    return Expression(text=text, columns=tuple(dict.fromkeys(_columns(tree))), tree=tree)


def column_of(name: str) -> str:
    """Give the column that a name in a condition means."""
    return name if is_known_of_ingest(name) else _SHORT.get(name, name)


def dotted_name(node: ast.AST) -> str:
    """Give the name that a node spells, "" when it spells none."""
    if isinstance(node, ast.Name):
        return node.id
    front = dotted_name(node.value) if isinstance(node, ast.Attribute) else ""
    return f"{front}.{node.attr}" if front and isinstance(node, ast.Attribute) else ""


def constant_value(node: ast.AST) -> Any:
    """Give the value of a constant, also of a negative number; None for anything else."""
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        inner = constant_value(node.operand)
        return -inner if isinstance(inner, int | float) else None
    return node.value if isinstance(node, ast.Constant) else None


def _short_names() -> dict[str, str]:
    short: dict[str, str] = {}
    for rule in RULES.values():
        forms = {rule.column, *(rule.column.removesuffix(unit) for unit in _UNITS)}
        forms |= {form.removeprefix("caption_") for form in forms}
        short |= dict.fromkeys({rule.name, *forms}, rule.column)
    return short


_SHORT: Mapping[str, str] = _short_names()


def _check_comments(text: str) -> None:
    """Refuse a comment: lines are joined, so that it would take the rest of the condition along."""
    try:
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            if token.type == tokenize.COMMENT:
                place = f"{token.string[:_MAX_QUOTED]!r} at character {token.start[1] + 1}"
                raise ConfigError(
                    f"{WHERE}: must have no comment, got {place}; take it out or quote the text"
                )
    except (tokenize.TokenError, SyntaxError):
        return  # it is no condition either, and the parser says so in better words


def _parse(text: str) -> ast.expr:
    try:
        with warnings.catch_warnings():  # `1or 2` and `'\d'` are only warnings to Python
            warnings.simplefilter("error")
            return ast.parse(text, mode="eval").body
    except SyntaxError as error:
        place = f"at character {error.offset}" if error.offset else "at the end"
        raise ConfigError(
            f"{WHERE}: must be a condition, got {error.msg} {place} of {text[:80]!r}; fix it"
        ) from error
    except (ValueError, RecursionError, MemoryError) as error:
        raise ConfigError(f"{WHERE}: must be a condition, got {error}; fix it") from error


def _check_depth(tree: ast.expr) -> None:
    """Walk without recursion, so that the recursive walks after it are safe."""
    waiting: list[tuple[ast.AST, int]] = [(tree, 1)]
    while waiting:
        node, depth = waiting.pop()
        if depth > MAX_DEPTH:
            raise ConfigError(
                f"{WHERE}: must be nested at most {MAX_DEPTH} deep, got more; take it apart"
            )
        waiting += [(child, depth + 1) for child in ast.iter_child_nodes(node)]


def _check_node(node: ast.AST, tree: ast.expr, text: str) -> None:
    place = node if isinstance(node, ast.expr) else tree
    if not isinstance(node, _ALLOWED):
        rule = "may use only and, or, not, comparisons, in [...], + - * / and columns"
        raise _refuse(place, f"{rule}, got {type(node).__name__}", "take it out")
    if isinstance(node, ast.Constant) and not _is_plain(node.value):
        rule = "constants must be finite numbers, texts, True or False"
        raise _refuse(place, f"{rule}, got {_quote(node, text)}", "take it out")
    if isinstance(node, ast.Attribute) and not dotted_name(node):
        raise _refuse(place, "a dot must stand inside a column's name", "name a column")


def _check_lists(tree: ast.expr, text: str) -> None:
    """Check that a list of constants of one kind stands after each `in`, and nowhere else."""
    expected: set[int] = set()
    for node in ast.walk(tree):
        if not isinstance(node, ast.Compare):
            continue
        for operator, right in zip(node.ops, node.comparators, strict=True):
            if isinstance(operator, MEMBERSHIP):
                expected.add(id(right))
                _check_list(right, text)
    for node in ast.walk(tree):
        if isinstance(node, _LISTS) and id(node) not in expected:
            raise _refuse(node, "a list must stand after in, got it elsewhere", "move it")


def _check_list(node: ast.expr, text: str) -> None:
    items = node.elts if isinstance(node, _LISTS) else []
    values = [constant_value(item) for item in items]
    if None in values or len({isinstance(value, str) for value in values}) != 1:
        rule = f"in needs a list of texts or of numbers, got {_quote(node, text)}"
        raise _refuse(node, rule, "write e.g. in ['en', 'de']")


def _is_plain(value: Any) -> bool:
    is_number = isinstance(value, int | float) and abs(value) <= sys.float_info.max
    return is_number or isinstance(value, str)


def _may_be_true(node: ast.expr) -> bool:
    """Tell whether a node can be a condition, as far as that is known without the data."""
    if isinstance(node, ast.UnaryOp):
        return isinstance(node.op, ast.Not)
    if isinstance(node, ast.Constant):
        return isinstance(node.value, bool)
    return isinstance(node, ast.BoolOp | ast.Compare) or bool(dotted_name(node))


def _columns(node: ast.AST) -> Iterator[str]:
    if name := dotted_name(node):
        yield column_of(name)
        return
    for child in ast.iter_child_nodes(node):
        yield from _columns(child)


def _quote(node: ast.AST, text: str) -> str:
    """Give a node as it was written: Python will not spell a number of 4300 digits and more."""
    return (ast.get_source_segment(text, node) or "")[:_MAX_QUOTED]


def _refuse(node: ast.expr, rule: str, remedy: str) -> ConfigError:
    return ConfigError(f"{WHERE}: {rule} at character {node.col_offset + 1}; {remedy}")
