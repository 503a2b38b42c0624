"""A condition reads columns in three-valued logic, and nothing but what is listed is allowed."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from curate.core.errors import ConfigError, StageError
from curate.stages.filtering.expression import MAX_CHARACTERS, parse_expression
from curate.stages.filtering.expression_values import evaluate

TABLE = pa.table(
    {
        "pixels.min_side_px": pa.array([100, 200, None, 500], pa.int32()),
        "caption_text.words": pa.array([3, 2, 3, None], pa.int32()),
        "caption_text.is_filename": [True, False, None, False],
        "language.code": pa.array(["en", None, "de", "fr"]).dictionary_encode(),
        "clip.similarity": pa.array([0.5, float("nan"), 0.25, float("inf")], pa.float32()),
        "width": pa.array([1, 0, 2, 4], pa.int64()),
        "url": ["http://a/1", "http://b/2", None, ""],
    }
)


def holds(text: str) -> list[bool | None]:
    return evaluate(parse_expression(text), TABLE).to_pylist()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("pixels.min_side_px >= 200", [False, True, None, True]),
        ("100 < pixels.min_side_px <= 200", [False, True, None, False]),
        ("language.code in ['en', 'de']", [True, None, True, False]),
        ("language.code not in ['en']", [False, None, True, True]),
        ("language.code == 'en' or width > 1", [True, None, True, True]),
        ("width in (1, 4)", [True, False, False, True]),
        ("width in [-1, 0]", [False, True, False, False]),
        ("not caption_text.is_filename", [False, True, None, True]),
        ("caption_text.is_filename == False", [False, True, None, True]),
        ("caption_text.is_filename", [True, False, None, False]),
        ("clip.similarity > 0.3", [True, None, False, True]),
        ("1 / width > 0.4", [True, None, True, False]),
        ("width * 2 - 1 == 7 or -width < -1", [False, False, True, True]),
        ("+width >= 2 and (width - 2) * 2 <= 4", [False, False, True, True]),
        ("url != 'http://a/1'", [False, True, None, True]),
        ("True", [True, True, True, True]),
        ("language.code != '# en'\nand width > 1", [False, False, True, True]),
        ("min_side >= 200\r\nand width > 1", [False, False, None, True]),
        ("pixels.min_side>=200 and text.words>2", [False, False, None, None]),
        ("min_side >= 200\nand similarity > 0", [False, None, None, True]),
    ],
)
def test_conditions_hold_row_by_row(text: str, expected: list[bool | None]) -> None:
    assert holds(text) == expected


@pytest.mark.parametrize("operator", ["and", "or"])
def test_logic_is_kleenes(operator: str) -> None:
    values = [True, False, None]
    pairs = list(itertools.product(values, values))
    table = pa.table({"a.x": [a for a, _ in pairs], "a.y": [b for _, b in pairs]})
    table = table.cast(pa.schema([("a.x", pa.bool_()), ("a.y", pa.bool_())]))

    def kleene(a: bool | None, b: bool | None) -> bool | None:
        absorbing = operator == "or"
        if absorbing in (a, b):
            return absorbing
        return None if None in (a, b) else not absorbing

    expected = [kleene(a, b) for a, b in pairs]
    assert evaluate(parse_expression(f"a.x {operator} a.y"), table).to_pylist() == expected


def test_random_arithmetic_equals_numpy() -> None:
    rng = np.random.default_rng(0)
    table = pa.table({"a.x": rng.normal(size=50), "a.y": rng.normal(size=50)})
    x, y = (table[name].to_numpy() for name in ("a.x", "a.y"))
    text = "(a.x + 2) * a.y / 3 - 1 < a.x and not a.y > 1 or a.x * a.x >= 2"
    expected = ((x + 2) * y / 3 - 1 < x) & ~(y > 1) | (x * x >= 2)
    assert evaluate(parse_expression(text), table).to_pylist() == expected.tolist()


@pytest.mark.parametrize("kind", [pa.float32(), pa.float64()])
@pytest.mark.parametrize("value", [0.1, 0.2, 0.3, 0.7])
def test_a_constant_has_the_precision_of_its_column(value: float, kind: pa.DataType) -> None:
    table = pa.table({"a.x": pa.array([value], kind)})
    for text in ("a.x <= {}", "a.x >= {}", "a.x == {}", "{} <= a.x <= {}", "a.x in [{}]",
                 "-a.x == -{}", "not a.x < {}", "not a.x > {}", "a.x < 1e300",
                 "not a.x in [1e300]"):  # fmt: skip
        condition = text.replace("{}", str(value))
        assert evaluate(parse_expression(condition), table).to_pylist() == [True], condition


def test_an_empty_table_gives_no_rows() -> None:
    assert evaluate(parse_expression("width > 1 and True"), TABLE.slice(0, 0)).to_pylist() == []


def test_the_columns_are_named_once_and_in_order() -> None:
    found = parse_expression("width > 1 and aesthetic > 5 and (width < 9 or host == 'a')")
    assert found.columns == ("width", "aesthetic.score", "host")


def test_a_top_level_and_comes_apart() -> None:
    parts = parse_expression("width > 1 and (a.b > 2 or width > 5) and not a.c").parts()
    assert [part.text for part in parts] == ["width > 1", "a.b > 2 or width > 5", "not a.c"]
    assert [part.columns for part in parts] == [("width",), ("a.b", "width"), ("a.c",)]
    assert len(parse_expression("width > 1 or a.b > 2").parts()) == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must be a condition, got invalid syntax"),
        ("width >", "got invalid syntax at the end of 'width >'"),
        ("(width > 1", "'(' was never closed at character 1"),
        ("width > 1 and open('x')", "got Call at character 15"),
        ("__import__('os').system('ls')", "got Call"),
        ("a.b[0] > 1", "got Subscript at character 1"),
        ("(lambda: 1) == 1", "got Lambda at character 2"),
        ("[x for x in y] == 1", "got ListComp"),
        ("1 if a.b else 2", "got IfExp"),
        ("a.b ** 9 > 1", "got Pow"),
        ("a.b % 2 == 1", "got Mod"),
        ("f'{a.b}' == 'x'", "got JoinedStr"),
        ("a.b is None", "got Is"),
        ("a.b == None", "constants must be finite numbers, texts, True or False, got None"),
        ("a.b > 1j", "got 1j at character 7"),
        ("a.b > 1e999", "constants must be finite numbers"),
        ("a.b > " + "9" * 400, "constants must be finite numbers"),
        ("a.b > 0x" + "F" * 3900, "got 0xFFFFFFFFFF"),
        ("a.b in [1, 0x" + "F" * 3900 + "]", "constants must be finite numbers"),
        ("a.b in [" + "1, " * 900 + "'x']", "got [1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, "),
        (
            "a.b > 1 # big\nand a.c > 2",
            "must have no comment, got '# big and a.c > 2' at character 9",
        ),
        ("(a.b > 1 # big\r\nand a.c > 2)", "must have no comment, got '# big and a.c > 2)'"),
        ("a.b > 1 #", "must have no comment, got '#' at character 9"),
        ("# only", "must have no comment"),
        ("'x'.join > 1", "a dot must stand inside a column's name"),
        ("a.b in a.c", "in needs a list of texts or of numbers, got a.c"),
        ("a.b in []", "in needs a list"),
        ("a.b in ['x', 1]", "in needs a list"),
        ("[1] == a.b", "a list must stand after in"),
        ("a.b + 1", "must be a condition, got a value"),
        ("'text'", "must be a condition, got a value"),
        ("a.b > 1; a.c", "invalid syntax"),
        ("a := 1", "invalid syntax"),
        ("1or a.b", "invalid decimal literal"),
        ("a.b\0", "null bytes"),
        ("not " * 70 + "a.b", "must be nested at most 60 deep"),
        ("-" * 3900 + "1 > a.b", "must be a condition"),
        ("(" * 300 + "a.b" + ")" * 300, "too many nested parentheses"),
        ("a.b > 1 or " * 400 + "a.c", f"must have at most {MAX_CHARACTERS} characters"),
    ],
)
def test_all_else_is_refused_with_its_place(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_expression(text)
    assert str(caught.value).startswith("filter.where: ")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("url > 'a'", "texts have no order"),
        ("url == 1", "texts compare with texts and numbers with numbers, got 1 at character 8"),
        ("width == 'a'", "texts compare with texts"),
        ("url in [1]", "texts compare with texts"),
        ("width in ['a']", "texts compare with texts"),
        ("url + 1 > 2", "texts compare with texts"),
        ("width and True", "and, or and not need conditions, got width at character 1"),
        ("not url", "and, or and not need conditions"),
        ("width", "and, or and not need conditions"),
    ],
)
def test_kinds_that_do_not_fit_are_refused(text: str, message: str) -> None:
    with pytest.raises(StageError) as caught:
        holds(text)
    assert message in str(caught.value)


def test_a_column_of_another_kind_is_refused() -> None:
    table: Any = pa.table({"a.x": [[1.0], [2.0]]})
    with pytest.raises(StageError, match="columns must hold numbers, texts or truths"):
        evaluate(parse_expression("a.x > 1"), table)
