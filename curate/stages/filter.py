"""Judge every sample by thresholds on measured columns; no picture is opened.

annotate columns -> RULES in order -> keep, reason (the first rule that fails), failed_rules (all)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from curate.core.errors import ConfigError, StageError
from curate.core.manifest import Task
from curate.core.schema import OK, VERDICT_FIELDS
from curate.core.shard import ShardWriter
from curate.core.stage import MapStage, Place

# Rule -> the column it judges. The order is the order of judgement: cheap and certain rules first,
# so that a reason names the plainest fault.
RULES: Mapping[str, str] = {
    "min_side": "pixels.min_side_px",
    "aspect": "pixels.aspect",
    "contrast": "pixels.contrast",
    "entropy": "pixels.entropy",
    "caption_words": "caption_text.words",
    "caption_characters": "caption_text.characters",
    "caption_filename": "caption_text.is_filename",
    "caption_alpha": "caption_text.alpha_frac",
    "caption_repetition": "caption_text.repetition",
    "text_area": "text_area.frac",
    "watermark": "watermark.score",
    "nsfw": "nsfw.score",
    "similarity": "clip.similarity",
    "aesthetic": "aesthetic.score",
}

VERDICT_SCHEMA = pa.schema([*VERDICT_FIELDS, ("failed_rules", pa.list_(pa.string()))])


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """Bound one column, both ends inclusive; None leaves an end open."""

    min: float | None = None
    max: float | None = None

    @property
    def active(self) -> bool:
        """Tell whether any end is bounded."""
        return self.min is not None or self.max is not None


# Ranges a threshold can sensibly have; outside, the rule would keep all or none.
_RANGES: Mapping[str, tuple[float, float]] = {
    "min_side": (0, 1e6),
    "aspect": (1, 1e6),
    "contrast": (0, 255),
    "entropy": (0, 8),
    "caption_words": (0, 1e6),
    "caption_characters": (0, 1e7),
    "caption_filename": (0, 1),
    "caption_alpha": (0, 1),
    "caption_repetition": (0, 1),
    "text_area": (0, 1),
    "watermark": (0, 1),
    "nsfw": (0, 1),
    "similarity": (-1, 1),
    "aesthetic": (-10, 20),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class FilterConfig:
    """Set the thresholds; a rule without bounds is off.

    Args:
        min_side: shortest side in pixels.
        aspect: longest side over shortest side.
        contrast: standard deviation of luminance, 0..255 scale.
        entropy: of the luminance histogram, bits.
        caption_words: words of the caption; likewise caption_characters.
        caption_filename: 1 when the caption looks like a file name.
        caption_alpha: share of letters in the caption.
        caption_repetition: share of the caption that repeats itself.
        text_area: share of the picture covered by text.
        watermark: probability; likewise nsfw.
        similarity: cosine of picture and caption; scales differ between models.
        aesthetic: score of the pack's head.
    """

    min_side: Bounds = field(default_factory=Bounds)
    aspect: Bounds = field(default_factory=Bounds)
    contrast: Bounds = field(default_factory=Bounds)
    entropy: Bounds = field(default_factory=Bounds)
    caption_words: Bounds = field(default_factory=Bounds)
    caption_characters: Bounds = field(default_factory=Bounds)
    caption_filename: Bounds = field(default_factory=Bounds)
    caption_alpha: Bounds = field(default_factory=Bounds)
    caption_repetition: Bounds = field(default_factory=Bounds)
    text_area: Bounds = field(default_factory=Bounds)
    watermark: Bounds = field(default_factory=Bounds)
    nsfw: Bounds = field(default_factory=Bounds)
    similarity: Bounds = field(default_factory=Bounds)
    aesthetic: Bounds = field(default_factory=Bounds)

    def __post_init__(self) -> None:
        for rule in RULES:
            bounds: Bounds = getattr(self, rule)
            low, high = _RANGES[rule]
            for end in ("min", "max"):
                value = getattr(bounds, end)
                if value is not None and not low <= value <= high:
                    raise ConfigError(
                        f"filter.{rule}.{end}: must be in [{low:g}, {high:g}], got {value:g}; "
                        "set it to null to switch it off"
                    )
            if bounds.min is not None and bounds.max is not None and bounds.min > bounds.max:
                raise ConfigError(
                    f"filter.{rule}: min must be <= max, got {bounds.min:g} > {bounds.max:g}; "
                    "swap them"
                )

    def active_rules(self) -> dict[str, Bounds]:
        """Give the rules that judge, in order."""
        return {rule: getattr(self, rule) for rule in RULES if getattr(self, rule).active}


class FilterStage(MapStage[FilterConfig]):
    """Write a verdict for every sample of the annotated shards."""

    name: ClassVar[str] = "filter"

    def run(self, task: Task, place: Place) -> Counter[str]:
        table = self.inputs["annotate"].table(task.shard)
        rules = self.config.active_rules()
        failures = judge(_columns(table, rules), rules)
        counts: Counter[str] = Counter()
        with ShardWriter(place.out, task.shard, VERDICT_SCHEMA, with_tar=False) as writer:
            keys, statuses = table["key"].to_pylist(), table["status"].to_pylist()
            for key, status, failed in zip(keys, statuses, failures, strict=True):
                row = _verdict(key, status, failed)
                writer.write(row)
                counts["in"] += 1
                counts[_counter(row)] += 1
        return counts


def judge(columns: Mapping[str, np.ndarray], rules: Mapping[str, Bounds]) -> list[list[str]]:
    """List the rules that each row fails, in order of `rules`.

    Args:
        columns: rule -> float64 [N]; NaN where nothing was measured.
        rules: rule -> bounds, inclusive.

    Returns:
        N lists; an unmeasured value fails as "unmeasured.<rule>", never passes.
    """
    num_rows = len(next(iter(columns.values()))) if columns else 0
    failures: list[list[str]] = [[] for _ in range(num_rows)]
    for rule, bounds in rules.items():
        values = columns[rule]
        unmeasured = np.isnan(values)
        low = -np.inf if bounds.min is None else bounds.min
        high = np.inf if bounds.max is None else bounds.max
        outside = ~unmeasured & ~((values >= low) & (values <= high))
        for index in np.flatnonzero(outside | unmeasured):
            failures[index].append(f"unmeasured.{rule}" if unmeasured[index] else rule)
    return failures


def _columns(table: pa.Table, rules: Mapping[str, Bounds]) -> dict[str, np.ndarray]:
    missing = [rule for rule in rules if RULES[rule] not in table.column_names]
    if missing:
        raise StageError(
            f"filter.{missing[0]}: needs column {RULES[missing[0]]}, which was not measured; "
            f"add its annotator or set filter.{missing[0]}.min and .max to null"
        )
    columns = {
        rule: table[RULES[rule]].cast(pa.float64()).to_numpy(zero_copy_only=False) for rule in rules
    }
    return columns or {"": np.zeros(table.num_rows)}


def _verdict(key: str, status: str, failed: Sequence[str]) -> dict[str, Any]:
    if status != OK:
        return {"key": key, "status": status, "keep": False, "reason": status, "failed_rules": []}
    reason = failed[0] if failed else ""
    return {
        "key": key,
        "status": OK,
        "keep": not failed,
        "reason": reason,
        "failed_rules": list(failed),
    }


def _counter(row: Mapping[str, Any]) -> str:
    if row["status"] != OK:
        return f"failed.{row['status']}"
    return "kept" if row["keep"] else f"dropped.{row['reason']}"
