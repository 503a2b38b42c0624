"""Hold what is asked of filter: thresholds by rule, languages, a condition, a list of uids.

A rule without thresholds is off. Existing keys never change their meaning: `filter.RULE.min` and
`.max` bound everything inclusively; the others below refine the side that the rule wants
(`rules.Rule.better`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from curate.core.errors import ConfigError
from curate.stages.filtering.expression import parse_expression
from curate.stages.filtering.rules import RULES

LANGUAGE = "language"  # the rule over language codes, and the value of `within`
EXACT, DATACOMP = "exact", "datacomp"

# ISO 639 codes as identifiers give them ("en", "ceb", "zh-Hant"). YAML reads a bare `no`, which is
# Norwegian, as False; the pattern catches that.
_CODE = re.compile(r"[a-z]{2,3}(-[A-Za-z0-9]+)*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """Bound one column.

    Args:
        min: lowest score that passes; None leaves the end open.
        max: highest score that passes.
        by_language: language code -> a threshold that stands in for `min` (`max`, where low scores
            are wanted) in that language; null takes a preset's entry back.
        top_frac: keep the best share of all measured scores, in (0, 1]; see `quantiles.py` for
            which samples that is exactly. A sample must pass the bounds too.
        within: "language" takes the share within each language; "" over all samples.
        column: what is judged instead of the rule's own column, e.g. clip_l14.similarity.
    """

    min: float | None = None
    max: float | None = None
    by_language: dict[str, float | None] = field(default_factory=dict[str, "float | None"])
    top_frac: float | None = None
    within: str = ""
    column: str = ""

    @property
    def active(self) -> bool:
        """Tell whether anything is bounded."""
        ends = (self.min, self.max, self.top_frac, *self.by_language.values())
        return any(end is not None for end in ends)

    def languages(self) -> dict[str, float]:
        """Give the thresholds by language that are not taken back."""
        return {code: end for code, end in self.by_language.items() if end is not None}


@dataclass(frozen=True, slots=True, kw_only=True)
class Languages:
    """Choose languages.

    Args:
        keep: codes that pass, as language.code has them; empty switches the rule off.
    """

    keep: list[str] = field(default_factory=list[str])


@dataclass(frozen=True, slots=True, kw_only=True)
class FilterConfig:
    """Set the thresholds; a rule without any is off. What each judges: `rules.RULES`.

    Args:
        language: codes that pass.
        where: a condition over columns that must hold too, see `expression.py`.
        uids: DataComp's sorted `u8,u8` npy file; only samples whose source_key it lists pass.
        quantile_mode: which samples `top_frac` keeps, exact or datacomp, see `quantiles.py`.
    """

    bytes: Bounds = field(default_factory=Bounds)
    min_side: Bounds = field(default_factory=Bounds)
    aspect: Bounds = field(default_factory=Bounds)
    contrast: Bounds = field(default_factory=Bounds)
    brightness: Bounds = field(default_factory=Bounds)
    entropy: Bounds = field(default_factory=Bounds)
    flat: Bounds = field(default_factory=Bounds)
    uniform: Bounds = field(default_factory=Bounds)
    grey: Bounds = field(default_factory=Bounds)
    borders: Bounds = field(default_factory=Bounds)
    colorfulness: Bounds = field(default_factory=Bounds)
    blur: Bounds = field(default_factory=Bounds)
    pdq_quality: Bounds = field(default_factory=Bounds)
    placeholder: Bounds = field(default_factory=Bounds)
    caption_words: Bounds = field(default_factory=Bounds)
    caption_characters: Bounds = field(default_factory=Bounds)
    caption_filename: Bounds = field(default_factory=Bounds)
    caption_alpha: Bounds = field(default_factory=Bounds)
    caption_repetition: Bounds = field(default_factory=Bounds)
    latin: Bounds = field(default_factory=Bounds)
    caption_url: Bounds = field(default_factory=Bounds)
    caption_markup: Bounds = field(default_factory=Bounds)
    uppercase: Bounds = field(default_factory=Bounds)
    boilerplate: Bounds = field(default_factory=Bounds)
    caption_repeats: Bounds = field(default_factory=Bounds)
    caption_near_repeats: Bounds = field(default_factory=Bounds)
    caption_number: Bounds = field(default_factory=Bounds)
    nouns: Bounds = field(default_factory=Bounds)
    toxicity_terms: Bounds = field(default_factory=Bounds)
    toxicity: Bounds = field(default_factory=Bounds)
    language: Languages = field(default_factory=Languages)
    language_score: Bounds = field(default_factory=Bounds)
    text_area: Bounds = field(default_factory=Bounds)
    text_overlay: Bounds = field(default_factory=Bounds)
    caption_overlap: Bounds = field(default_factory=Bounds)
    faces: Bounds = field(default_factory=Bounds)
    face_area: Bounds = field(default_factory=Bounds)
    watermark: Bounds = field(default_factory=Bounds)
    nsfw: Bounds = field(default_factory=Bounds)
    similarity: Bounds = field(default_factory=Bounds)
    aesthetic: Bounds = field(default_factory=Bounds)
    where: str = ""
    uids: str = ""
    quantile_mode: str = EXACT

    def __post_init__(self) -> None:
        for rule in RULES:
            _check_bounds(rule, getattr(self, rule))
        for code in self.language.keep:
            check_code("filter.language.keep", code)
        if self.where:
            parse_expression(self.where)
        if self.quantile_mode not in (EXACT, DATACOMP):
            raise ConfigError(
                f"filter.quantile_mode: must be {EXACT} or {DATACOMP}, "
                f"got {self.quantile_mode!r}; choose one"
            )

    def active_rules(self) -> dict[str, Bounds]:
        """Give the rules that hold numbers against thresholds and are on, in order."""
        return {rule: getattr(self, rule) for rule in RULES if getattr(self, rule).active}

    @property
    def top_rules(self) -> dict[str, Bounds]:
        """Give the rules that need a threshold over all shards, in order."""
        active = self.active_rules()
        return {rule: item for rule, item in active.items() if item.top_frac is not None}


def read_config(values: Mapping[str, Any]) -> FilterConfig:
    """Build the config again from the plain values that a marker holds."""
    known: dict[str, Any] = {**values, "language": Languages(**values.get("language", {}))}
    known |= {rule: Bounds(**values[rule]) for rule in RULES if rule in values}
    return FilterConfig(**known)


def check_threshold(rule: str, end: str, value: float | None) -> None:
    """Refuse a threshold that would make its rule keep all or none.

    Raises:
        ConfigError: the value is outside the rule's range, or not a number.
    """
    low, high = RULES[rule].range
    if value is not None and not low <= value <= high:
        raise ConfigError(
            f"filter.{rule}.{end}: must be in [{low:g}, {high:g}], got {value:g}; "
            "set it to null to switch it off"
        )


def check_top_frac(rule: str, value: float | None) -> None:
    """Refuse a share that keeps none or more than all.

    Raises:
        ConfigError: it is not in (0, 1].
    """
    if value is not None and not 0 < value <= 1:
        raise ConfigError(
            f"filter.{rule}.top_frac: must be in (0, 1], got {value:g}; write 0.3 for the best 30 %"
        )


def check_code(key: str, code: str) -> None:
    """Refuse what cannot be a language code.

    Raises:
        ConfigError: it has another form.
    """
    if not _CODE.fullmatch(code):
        raise ConfigError(
            f"{key}: must be codes such as en, de or ceb, got {code!r}; "
            "fix it (YAML needs quotes around 'no')"
        )


def _check_bounds(rule: str, bounds: Bounds) -> None:
    key = f"filter.{rule}"
    check_threshold(rule, "min", bounds.min)
    check_threshold(rule, "max", bounds.max)
    check_top_frac(rule, bounds.top_frac)
    lows, highs = [bounds.min], [bounds.max]
    for code, end in bounds.by_language.items():
        check_code(f"{key}.by_language", code)
        check_threshold(rule, f"by_language.{code}", end)
        (lows if RULES[rule].better == "high" else highs).append(end)
    low = max((end for end in lows if end is not None), default=None)
    high = min((end for end in highs if end is not None), default=None)
    if low is not None and high is not None and low > high:
        raise ConfigError(f"{key}: min must be <= max, got {low:g} > {high:g}; swap them")
    if bounds.within not in ("", LANGUAGE):
        raise ConfigError(
            f'{key}.within: must be "{LANGUAGE}" or "", got {bounds.within!r}; choose one'
        )
    if bounds.within and bounds.top_frac is None:
        raise ConfigError(
            f"{key}.within: needs {key}.top_frac, got none; set it or leave within out"
        )
