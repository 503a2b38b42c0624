"""Read what a sweep is asked to vary: `filter.RULE.END=VALUES` -> axes of thresholds.

END is `min`, `max`, `top_frac` or `by_language.CODE`; VALUES is `low:high:step` (inclusive of
high), a comma list, or one value.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation

from curate.core.errors import ConfigError
from curate.stages.filtering.config import check_code, check_threshold, check_top_frac
from curate.stages.filtering.rules import RULES

MAX_COMBINATIONS = 1_000_000  # chosen by us: an array of 8 MB
TOP_FRAC, BY_LANGUAGE = "top_frac", "by_language."


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """Hold the thresholds that one end of a rule is swept through, ascending."""

    rule: str
    end: str
    thresholds: tuple[float, ...]

    @property
    def key(self) -> str:
        """Give the config key, e.g. "filter.similarity.min"."""
        return f"filter.{self.rule}.{self.end}"

    @property
    def code(self) -> str:
        """Give the language that is swept, "" for other ends."""
        return self.end.removeprefix(BY_LANGUAGE) if self.end.startswith(BY_LANGUAGE) else ""

    @property
    def is_low(self) -> bool:
        """Tell whether it bounds scores from below."""
        if self.code or self.end == TOP_FRAC:
            return RULES[self.rule].better == "high"
        return self.end == "min"

    @property
    def strictest_last(self) -> bool:
        """Tell whether a larger value keeps fewer; a larger share keeps more."""
        return self.is_low and self.end != TOP_FRAC


def parse_axes(arguments: Sequence[str]) -> tuple[Axis, ...]:
    """Read what is swept.

    Raises:
        ConfigError: bad syntax, an unknown rule, a threshold out of range, or more than
            MAX_COMBINATIONS combinations.
    """
    axes: dict[str, Axis] = {}
    for text in arguments:
        axis = _parse_axis(text)
        if axis.key in axes:
            raise ConfigError(f"{axis.key}: must be given once, got it twice; join the values")
        axes[axis.key] = axis
    if not axes:
        raise ConfigError(
            "sweep: needs a threshold to sweep, got none; write filter.similarity.min=0.2:0.4:0.02"
        )
    num_combinations = 1
    for axis in axes.values():
        num_combinations *= len(axis.thresholds)
    if num_combinations > MAX_COMBINATIONS:
        raise ConfigError(
            f"sweep: must have at most {MAX_COMBINATIONS:,} combinations, "
            f"got {num_combinations:,}; sweep fewer keys or take larger steps"
        )
    return tuple(axes.values())


def _parse_axis(text: str) -> Axis:
    key, _, values = text.partition("=")
    section, _, name = key.partition(".")
    rule, _, end = name.partition(".")
    is_end = end in ("min", "max", TOP_FRAC) or end.startswith(BY_LANGUAGE)
    if section != "filter" or rule not in RULES or not is_end:
        raise ConfigError(
            f"{key}: must be filter.RULE.min, .max, .top_frac or .by_language.CODE, with RULE "
            f"among {', '.join(RULES)}, got {text!r}; fix the key"
        )
    parts = values.split(":")
    if len(parts) not in (1, 3) or (len(parts) == 3 and "," in values):
        raise ConfigError(
            f"{key}: must be low:high:step, a comma list or one value, got {values!r}; "
            f"write e.g. {key}=0.2:0.4:0.02"
        )
    numbers = [_number(key, part) for part in (parts if len(parts) == 3 else values.split(","))]
    for number in numbers[:2] if len(parts) == 3 else numbers:
        _check_value(rule, end, float(number))
    steps = _steps(key, *numbers) if len(parts) == 3 else numbers
    return Axis(rule=rule, end=end, thresholds=tuple(sorted({float(value) for value in steps})))


def _check_value(rule: str, end: str, value: float) -> None:
    if end == TOP_FRAC:
        check_top_frac(rule, value)
        return
    if end.startswith(BY_LANGUAGE):
        check_code(f"filter.{rule}.by_language", end.removeprefix(BY_LANGUAGE))
    check_threshold(rule, end, value)


def _number(key: str, text: str) -> Decimal:
    try:
        number = Decimal(text)
    except InvalidOperation:
        number = Decimal("NaN")
    if not number.is_finite() or (number and abs(number.adjusted()) > 12):  # keeps sums exact
        raise ConfigError(f"{key}: must be plain numbers, got {text!r}; fix the value")
    return number


def _steps(key: str, low: Decimal, high: Decimal, step: Decimal) -> Iterator[Decimal]:
    """Count in decimals, as the user does: 0.2:0.34:0.02 ends at 0.34 and has 0.26 in it."""
    if step <= 0 or low > high:
        raise ConfigError(
            f"{key}: low:high:step needs low <= high and step > 0, got {low}:{high}:{step}; "
            "fix the value"
        )
    if (high - low) / step >= MAX_COMBINATIONS:
        raise ConfigError(
            f"{key}: must have at most {MAX_COMBINATIONS:,} steps, got {low}:{high}:{step}; "
            "take larger steps"
        )
    return (low + index * step for index in range(int((high - low) / step) + 1))
