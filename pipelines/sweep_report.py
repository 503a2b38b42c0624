"""Show a sweep: tables to print, and all combinations as CSV."""

from __future__ import annotations

import csv
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path

from pipelines.sweep import Sweep

MAX_LINES = 50  # chosen by us: what one can take in at a glance


def describe_sweep(found: Sweep) -> list[str]:
    """Give the lines to print: a table for each key, and the first combinations of several."""
    lines = [
        f"{found.num_samples:,} samples; the thresholds of the run keep "
        f"{found.num_kept:,} ({_percent(found.num_kept, found.num_samples)})"
    ]
    for axis in found.axes:
        counts = [int(count) for count in found.kept[axis.key]]
        rows = zip(axis.thresholds, counts, strict=True)
        lines += ["", f"{axis.key}, all other rules as in the run"]
        lines += _table([((f"{value:.12g}",), kept) for value, kept in rows], ["threshold"], found)
    if len(found.axes) > 1:
        rows = list(itertools.islice(_combinations(found), MAX_LINES))
        lines += ["", "all combinations, the rules that are not swept as in the run"]
        lines += _table(
            [(tuple(f"{value:.12g}" for value in values), kept) for values, kept in rows],
            [f"{axis.rule}.{axis.end}" for axis in found.axes],
            found,
        )
        if found.combinations.size > MAX_LINES:
            lines.append(
                f"... the first {MAX_LINES} of {found.combinations.size:,}; csv=PATH writes all"
            )
    return lines


def write_combinations(found: Sweep, path: Path) -> None:
    """Write every combination as CSV: a column for each key, `kept` and `kept_frac`."""
    with path.open("w", newline="", encoding="ascii") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow([*(axis.key for axis in found.axes), "kept", "kept_frac"])
        for values, kept in _combinations(found):
            writer.writerow([*values, kept, kept / max(found.num_samples, 1)])


def _combinations(found: Sweep) -> Iterator[tuple[tuple[float, ...], int]]:
    """Yield thresholds and survivors, the last key's thresholds running fastest."""
    values = itertools.product(*(axis.thresholds for axis in found.axes))
    return zip(values, (int(count) for count in found.combinations.flat), strict=True)


def _table(
    rows: Sequence[tuple[tuple[str, ...], int]], heads: Sequence[str], found: Sweep
) -> list[str]:
    cells = [[*heads, "kept", "kept %"]]
    cells += [[*names, f"{kept:,}", _percent(kept, found.num_samples)] for names, kept in rows]
    widths = [max(len(row[column]) for row in cells) for column in range(len(cells[0]))]
    return [
        "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        for row in cells
    ]


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / max(whole, 1):.2f} %"
