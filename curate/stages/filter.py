"""Judge every sample by thresholds on measured columns; no picture is opened.

annotate columns -> RULES in order -> keep, reason (the first rule that fails), failed_rules (all)

A shard is judged as whole columns: no Python object is made for a row, and only the columns of the
active rules are read. Scores and outcomes are arrays [R, N], R rules in order by N rows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow.compute import call_function

from curate.core.errors import ConfigError, ShardError, StageError
from curate.core.manifest import Task
from curate.core.schema import KEY, OK, STATUS, VERDICT_FIELDS
from curate.core.shard import ShardSet, ShardWriter
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

# What a rule says of a row: the codes of `judge`.
PASSED, OUTSIDE, UNMEASURED = 0, 1, 2
UNMEASURED_PREFIX = "unmeasured."


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
THRESHOLD_RANGES: Mapping[str, tuple[float, float]] = {
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
            check_threshold(rule, "min", bounds.min)
            check_threshold(rule, "max", bounds.max)
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
    takes: ClassVar[tuple[str, str] | None] = ("annotate", "in")

    def run(self, task: Task, place: Place) -> Counter[str]:
        rules = self.config.active_rules()
        table = read_measured(self.inputs["annotate"], task.shard, list(rules))
        outcomes = judge(measured_scores(table, list(rules)), list(rules.values()))
        verdicts = make_verdicts(table, outcomes, list(rules))
        with ShardWriter(place.out, task.shard, VERDICT_SCHEMA, with_tar=False) as writer:
            writer.write_table(verdicts)
        return _count(verdicts)


def finished_config(verdicts: ShardSet, shard: str) -> FilterConfig:
    """Read the thresholds that a finished shard was judged by, from its marker."""
    config = verdicts.marker(shard).identity.config
    return FilterConfig(**{rule: Bounds(**ends) for rule, ends in config.items()})


def check_threshold(rule: str, end: str, value: float | None) -> None:
    """Refuse a threshold that would make its rule keep all or none.

    Raises:
        ConfigError: the value is outside the rule's range, or not a number.
    """
    low, high = THRESHOLD_RANGES[rule]
    if value is not None and not low <= value <= high:
        raise ConfigError(
            f"filter.{rule}.{end}: must be in [{low:g}, {high:g}], got {value:g}; "
            "set it to null to switch it off"
        )


def read_measured(annotated: ShardSet, shard: str, rules: Sequence[str]) -> pa.Table:
    """Read key, status and the columns that some rules judge; nothing else leaves the disk.

    Raises:
        ShardError: the table cannot be read.
        StageError: a rule's column was not measured.
    """
    try:
        return annotated.table(shard, [KEY, STATUS, *(RULES[rule] for rule in rules)])
    except ShardError:
        measured = annotated.schema(shard).names
        missing = [rule for rule in rules if RULES[rule] not in measured]
        if not missing:
            raise
    raise StageError(
        f"filter.{missing[0]}: needs column {RULES[missing[0]]}, which was not measured; "
        f"add its annotator or set filter.{missing[0]}.min and .max to null"
    )


def measured_scores(table: pa.Table, rules: Sequence[str]) -> NDArray[np.float64]:
    """Give the scores that some rules judge.

    Returns:
        [R, N]; NaN where nothing was measured.
    """
    scores = np.empty((len(rules), table.num_rows))
    for row, rule in enumerate(rules):
        scores[row] = table[RULES[rule]].cast(pa.float64()).to_numpy(zero_copy_only=False)
    return scores


def judge(scores: NDArray[np.float64], bounds: Sequence[Bounds]) -> NDArray[np.uint8]:
    """Say of every rule and row whether the score is within the rule's bounds.

    Args:
        scores: [R, N]; NaN where nothing was measured.
        bounds: of the R rules, inclusive.

    Returns:
        [R, N] of PASSED, OUTSIDE or UNMEASURED; the unmeasured never passes.
    """
    low = np.array([-np.inf if item.min is None else item.min for item in bounds])[:, None]
    high = np.array([np.inf if item.max is None else item.max for item in bounds])[:, None]
    outcomes = np.where((scores >= low) & (scores <= high), PASSED, OUTSIDE).astype(np.uint8)
    outcomes[np.isnan(scores)] = UNMEASURED
    return outcomes


def make_verdicts(table: pa.Table, outcomes: NDArray[np.uint8], rules: Sequence[str]) -> pa.Table:
    """Turn outcomes into verdicts; a sample that failed before keeps its status as its reason.

    Args:
        table: columns `key` and `status`, N rows.
        outcomes: [R, N], as `judge` gives them.
        rules: names of the R rules; the first that fails gives the reason.

    Returns:
        A table of VERDICT_SCHEMA, row for row.
    """
    is_ok = find_ok(table)
    failed = (outcomes != PASSED).T & is_ok[:, None]  # [N, R]
    # Rule r fails as name r when outside, as name R + r when unmeasured; name 2R is "", kept.
    names = pa.array([*rules, *(UNMEASURED_PREFIX + rule for rule in rules), ""], pa.string())
    codes = np.arange(len(rules)) + len(rules) * (outcomes == UNMEASURED).T  # [N, R]
    last = ((0, 0), (0, 1))  # one more column, which fails where no rule does
    first = np.pad(failed, last, constant_values=True).argmax(axis=1)  # [N]
    codes_padded = np.pad(codes, last, constant_values=2 * len(rules))  # [N, R + 1]
    reasons = codes_padded[np.arange(table.num_rows), first]  # [N]
    starts = np.concatenate([[0], failed.sum(axis=1).cumsum()])  # [N + 1]
    columns = {
        "key": table[KEY],
        "status": table[STATUS],
        "keep": is_ok & ~failed.any(axis=1),
        "reason": _choose(is_ok, names.take(pa.array(reasons)), table[STATUS]),
        "failed_rules": pa.ListArray.from_arrays(
            pa.array(starts, pa.int32()), names.take(pa.array(codes[failed]))
        ),
    }
    return pa.table(columns, schema=VERDICT_SCHEMA)


def find_ok(table: pa.Table) -> NDArray[np.bool_]:
    """Tell which rows have the status ok: [N]."""
    return call_function("equal", [table[STATUS], OK]).to_numpy()


def _choose(where: NDArray[np.bool_], yes: pa.Array, no: pa.ChunkedArray) -> pa.ChunkedArray:
    return call_function("if_else", [pa.array(where), yes, no])


def _count(verdicts: pa.Table) -> Counter[str]:
    is_ok = find_ok(verdicts)
    counts = Counter({"in": verdicts.num_rows})
    for entry in verdicts["reason"].filter(pa.array(is_ok)).value_counts().to_pylist():
        name = f"dropped.{entry['values']}" if entry["values"] else "kept"
        counts[name] = entry["counts"]
    for entry in verdicts[STATUS].filter(pa.array(~is_ok)).value_counts().to_pylist():
        counts[f"failed.{entry['values']}"] = entry["counts"]
    return +counts
