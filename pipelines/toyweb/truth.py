"""Compare what the stages found with what is true of a toy site.

Pure functions. `truth` is the table of `site.truth_table`; what a stage found comes as a mapping
from `row` (the URL table's, int) to a value, and rows that a stage never saw are left out of it.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import pyarrow as pa

from eval.ranking import auc

# Plants that leave the picture itself whole; "odd_mode" is not among them, for gray has no colours.
WHOLE_PLANTS = frozenset({"clean", "redirect", "slow_drip", "png_as_jpeg", "exif_rotated"})
# Copies that show another cut or side of their original: near duplicates have the whole picture.
CHANGED_PLANTS = frozenset({"cropped_duplicate", "flipped_duplicate"})

Pair = tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundScore:
    """Count pairs or rows; `recall` and `precision` are 1 where there is nothing to find."""

    num_true: int
    num_found: int
    num_right: int

    @property
    def recall(self) -> float:
        """Give the share of the true ones that were found."""
        return self.num_right / self.num_true if self.num_true else 1.0

    @property
    def precision(self) -> float:
        """Give the share of the found ones that are true."""
        return self.num_right / self.num_found if self.num_found else 1.0


def mismatch_auc(truth: pa.Table, similarity: Mapping[int, float]) -> float:
    """Tell how well similarity ranks good alt texts over those of another picture.

    Only rows whose picture is whole count (`WHOLE_PLANTS`).
    """
    scores: dict[str, list[float]] = {"good": [], "mismatched": []}
    for row, plant, alt_class in _columns(truth, "row", "plant", "alt_class"):
        if plant in WHOLE_PLANTS and alt_class in scores and row in similarity:
            scores[alt_class].append(similarity[row])
    return auc(scores["good"], scores["mismatched"])


def watermark_auc(truth: pa.Table, score: Mapping[int, float]) -> float:
    """Tell how well a score ranks watermarked pictures over whole ones (`WHOLE_PLANTS`)."""
    marked: list[float] = []
    whole: list[float] = []
    for row, plant in _columns(truth, "row", "plant"):
        if row in score and plant == "watermark":
            marked.append(score[row])
        elif row in score and plant in WHOLE_PLANTS:
            whole.append(score[row])
    return auc(marked, whole)


def exact_duplicates(truth: pa.Table, clusters: Mapping[int, Hashable]) -> FoundScore:
    """Score clusters of equal bytes, pair by pair.

    Args:
        truth: the site's truth table.
        clusters: row to any name of its cluster, e.g. the sha256 of its bytes.
    """
    true = _pairs(_groups(truth, "bytes_group", clusters))
    found = _pairs(_invert(clusters))
    return FoundScore(num_true=len(true), num_found=len(found), num_right=len(true & found))


def near_duplicates(truth: pa.Table, clusters: Mapping[int, Hashable]) -> FoundScore:
    """Score perceptual clusters by the pairs that show one picture in different bytes.

    Pairs of equal bytes and pairs with a cropped or mirrored copy count neither for nor against:
    see `exact_duplicates` and `copy_recall`.
    """
    same_picture = _pairs(_groups(truth, "cluster", clusters))
    same_bytes = _pairs(_groups(truth, "bytes_group", clusters))
    changed = _rows_of(truth, *CHANGED_PLANTS)
    excluded = {pair for pair in same_picture if changed & set(pair)} | same_bytes
    true = same_picture - excluded
    found = _pairs(_invert(clusters)) - excluded
    return FoundScore(num_true=len(true), num_found=len(found), num_right=len(true & found))


def copy_recall(truth: pa.Table, clusters: Mapping[int, Hashable], plant: str) -> FoundScore:
    """Count the pairs of a picture and its copy of one plant that share a cluster.

    Precision is not asked: a pair of strangers is of no plant; see `near_duplicates`.
    """
    copies, others = _rows_of(truth, plant), _rows_of(truth, *(CHANGED_PLANTS - {plant}))
    true = {
        pair
        for pair in _pairs(_groups(truth, "cluster", clusters))
        if copies & set(pair) and not others & set(pair)
    }
    right = true & _pairs(_invert(clusters))
    return FoundScore(num_true=len(true), num_found=len(right), num_right=len(right))


def leaks(truth: pa.Table, column: str, is_found: Mapping[int, bool]) -> FoundScore:
    """Score the rows that decontamination found to be of the benchmark.

    Args:
        truth: the site's truth table.
        column: what leaked: benchmark_key for pictures, prompt_key for prompts.
        is_found: row -> whether it matched an item of that kind; rows that were dropped before
            are left out.
    """
    true = {row for row, key in _columns(truth, "row", column) if key and row in is_found}
    found = {row for row, matched in is_found.items() if matched}
    return FoundScore(num_true=len(true), num_found=len(found), num_right=len(true & found))


def plant_rates(
    truth: pa.Table, status: Mapping[int, str], failed_rules: Mapping[int, Collection[str]]
) -> dict[str, tuple[int, int]]:
    """Count for every planted fault the rows that ended as they must: plant -> (right, all).

    A row is right with the status that a careful ingest finds, or, where a rule of filter must
    see the fault, when that rule is among those it fails.

    Args:
        truth: the site's truth table.
        status: row -> ingest's status.
        failed_rules: row -> all rules that filter says it fails.
    """
    right: Counter[str] = Counter()
    seen: Counter[str] = Counter()
    for row, plant, expected, rule in _columns(
        truth, "row", "plant", "expected_status", "expected_rule"
    ):
        if expected == "ok" and not rule:
            continue
        seen[plant] += 1
        right[plant] += rule in failed_rules.get(row, ()) if rule else status.get(row) == expected
    return {plant: (right[plant], count) for plant, count in sorted(seen.items())}


def _columns(truth: pa.Table, *names: str) -> Iterable[tuple[Any, ...]]:
    return zip(*(truth[name].to_pylist() for name in names), strict=True)


def _rows_of(truth: pa.Table, *plants: str) -> set[int]:
    return {row for row, plant in _columns(truth, "row", "plant") if plant in plants}


def _groups(truth: pa.Table, column: str, seen: Mapping[int, Hashable]) -> list[list[int]]:
    """List the rows of each true group, of those that the stage saw."""
    return _invert({row: group for row, group in _columns(truth, "row", column) if row in seen})


def _invert(clusters: Mapping[int, Hashable]) -> list[list[int]]:
    members: defaultdict[Hashable, list[int]] = defaultdict(list)
    for row, cluster in clusters.items():
        members[cluster].append(row)
    return list(members.values())


def _pairs(groups: Iterable[Sequence[int]]) -> set[Pair]:
    return {pair for group in groups for pair in combinations(sorted(group), 2)}
