"""Rules judge columns in order, bounds are inclusive, the unmeasured never passes."""

from __future__ import annotations

import numpy as np
import pytest

from curate.core.errors import ConfigError
from curate.stages.filter import RULES, Bounds, FilterConfig, judge


def failures(values: list[float], bounds: Bounds, rule: str = "similarity") -> list[list[str]]:
    return judge({rule: np.array(values)}, {rule: bounds})


def test_bounds_are_inclusive_at_both_ends() -> None:
    assert failures([0.1, 0.2, 0.3, 0.4, 0.5], Bounds(min=0.2, max=0.4)) == [
        ["similarity"],
        [],
        [],
        [],
        ["similarity"],
    ]


def test_an_open_end_bounds_nothing() -> None:
    assert failures([-1.0, 1.0], Bounds(max=0.5)) == [[], ["similarity"]]


def test_the_unmeasured_fails_with_a_reason_of_its_own() -> None:
    assert failures([np.nan], Bounds(max=0.5)) == [["unmeasured.similarity"]]


def test_infinite_values_fail_a_bound_they_exceed() -> None:
    assert failures([np.inf], Bounds(max=0.5)) == [["similarity"]]


def test_the_first_failing_rule_comes_first_and_all_are_listed() -> None:
    rules = {"min_side": Bounds(min=10), "similarity": Bounds(min=0.3)}
    columns = {"min_side": np.array([5.0, 20.0]), "similarity": np.array([0.1, 0.1])}
    assert judge(columns, rules) == [["min_side", "similarity"], ["similarity"]]


@pytest.mark.parametrize(
    ("bounds", "message"),
    [
        ({"similarity": Bounds(min=1.5)}, "filter.similarity.min: must be in [-1, 1], got 1.5"),
        ({"watermark": Bounds(max=-0.1)}, "filter.watermark.max"),
        ({"similarity": Bounds(min=0.5, max=0.2)}, "min must be <= max"),
    ],
)
def test_thresholds_out_of_range_are_refused(bounds: dict[str, Bounds], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        FilterConfig(**bounds)
    assert message in str(caught.value)


def test_a_rule_without_bounds_is_off() -> None:
    assert FilterConfig().active_rules() == {}
    assert list(FilterConfig(aspect=Bounds(max=3)).active_rules()) == ["aspect"]


def test_every_rule_has_a_field() -> None:
    config = FilterConfig()
    assert all(isinstance(getattr(config, rule), Bounds) for rule in RULES)
