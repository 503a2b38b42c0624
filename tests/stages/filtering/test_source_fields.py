"""What a source said is read as a number or as a text by what is asked, in every shard alike."""

from __future__ import annotations

import json
import time
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from curate.core.errors import StageError
from curate.stages.filtering.columns import score_values
from curate.stages.filtering.expression import parse_expression
from curate.stages.filtering.expression_values import evaluate
from curate.stages.filtering.source_fields import read_source_field, said_numbers, said_texts

HUGE = 10**400


def read(*values: Any, name: str = "x") -> pa.ChunkedArray:
    """Read one entry of several samples' fields, as ingest writes them."""
    texts = [json.dumps({name: value}) for value in values]
    return pa.chunked_array([read_source_field(pa.chunked_array([texts], pa.string()), name)])


def holds(text: str, **columns: pa.ChunkedArray) -> list[bool | None]:
    table = pa.table({f"fields.{name}": column for name, column in columns.items()})
    return evaluate(parse_expression(text), table).to_pylist()


def test_numbers_are_those_that_are_spelt_so() -> None:
    values = [1, 0.5, "0.5", " -2e3 ", ".5", "5.", True, False, None, "n/a", "", "nan", "inf",
              "1_000", "0x1", "1e999", HUGE, [1], {"a": 1}, "\u0661"]  # fmt: skip
    expected = [1.0, 0.5, 0.5, -2000.0, 0.5, 5.0, 1.0, 0.0, *[None] * 12]
    assert said_numbers(read(*values)).to_pylist() == expected


def test_texts_are_as_they_were_written() -> None:
    values = ["n/a", "", 7, 0.5, True, None, HUGE, [1], {"a": 1}]
    expected = ["n/a", "", "7", "0.5", "true", None, str(HUGE), None, None]
    assert said_texts(read(*values)).to_pylist() == expected


def test_what_json_has_and_python_refuses_is_read() -> None:
    texts = pa.chunked_array([['{"x": ' + "9" * 5000 + "}", '{"x": NaN}', "{}", None]])
    found = pa.chunked_array([read_source_field(texts, "x")])
    assert said_numbers(found).to_pylist() == [None] * 4
    assert said_texts(found).to_pylist() == ["9" * 5000, "NaN", None, None]


def test_a_long_text_is_told_from_a_number_in_time() -> None:
    start = time.process_time()
    assert said_numbers(read("1" * 100_000 + "x")).to_pylist() == [None]
    assert time.process_time() - start < 0.5


@pytest.mark.parametrize(
    "values",
    [(None, None), ("0.7", "a"), (0.7, "n/a"), (0.2, 0.7), ("nan", "inf"), (HUGE, True)],
)
@pytest.mark.parametrize(
    "text",
    [
        "fields.x < 0.5", "0 <= fields.x < 0.5", "fields.x == 'a'", "'a' != fields.x",
        "fields.x in ['a', 'b']", "fields.x in [0.2, 1]", "fields.x * 2 > 1", "-fields.x < 0",
        "fields.x == True", "fields.x == fields.x", "fields.x <= fields.x",
    ],
)  # fmt: skip
def test_a_shard_never_decides_whether_a_condition_fits(text: str, values: tuple[Any, Any]) -> None:
    apart = [*holds(text, x=read(values[0])), *holds(text, x=read(values[1]))]
    assert apart == holds(text, x=read(*values))


def test_a_condition_asks_for_what_the_other_side_is() -> None:
    said = read(0.2, "0.7", "n/a", None)
    assert holds("fields.x < 0.5", x=said) == [True, False, None, None]
    assert holds("not fields.x < 0.5", x=said) == [False, True, None, None]
    assert holds("fields.x == 'n/a'", x=said) == [False, False, True, None]
    assert holds("fields.x in ['n/a', '0.7']", x=said) == [False, True, True, None]
    assert holds("fields.x in [0.2]", x=said) == [True, False, None, None]
    assert holds("fields.x == fields.y", x=said, y=read(0.2, 0.7, "n/a", 1)) == [
        True, True, True, None,
    ]  # fmt: skip


def test_a_rule_asks_for_numbers() -> None:
    table = pa.table({"fields.x": read(0.2, "0.7", "n/a", None)})
    np.testing.assert_array_equal(score_values(table, "fields.x"), [0.2, 0.7, np.nan, np.nan])


def test_a_column_of_nulls_is_of_any_kind() -> None:
    table = pa.table({"a.x": pa.nulls(2)})
    for text in ("a.x == 'a'", "a.x < 1", "a.x in ['a']", "a.x in [1]", "a.x + 1 > 0"):
        assert evaluate(parse_expression(text), table).to_pylist() == [None, None]


@pytest.mark.parametrize("text", ["fields.x", "not fields.x", "fields.x > 'a'"])
def test_what_makes_no_sense_of_any_value_is_refused(text: str) -> None:
    with pytest.raises(StageError, match=r"filter\.where: "):
        holds(text, x=read(None))
