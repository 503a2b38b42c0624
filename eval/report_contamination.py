"""Say what of each evaluation set was found among the samples, and show some that were.

`_items-NAME.json` of decontaminate -> a row for each benchmark and kind of evidence
verdict tables                      -> samples that met a picture, chosen at random
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute

from curate.core.manifest import finished_shards
from curate.core.schema import KEY
from curate.core.shard import ShardSet
from eval.gallery import Gallery, PictureView
from eval.row_stream import read_parts, sample_rows

pc: Any = pyarrow.compute  # its functions are made at import, unseen by type checkers

_ITEMS = "_items-"  # begins the stage's shards that sum up a benchmark
_SHOWN = (
    "bytes",
    "pixels",
    "pdq",
    "phash",
    "descriptor",
    "clip",
)  # kinds of evidence that a picture shows
_WORDS: Mapping[str, str] = {
    "bytes": "same file",
    "pixels": "same picture",
    "pdq": "PDQ hash",
    "phash": "pHash and thumbnail",
    "descriptor": "copy detector",
    "clip": "CLIP",
    "exact": "caption is a prompt",
    "minhash": "caption is nearly a prompt",
    "ngram": "caption holds a prompt's words",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ContaminationRow:
    """Count what one kind of evidence found of a benchmark; kind "" counts all kinds together.

    Args:
        num_items: of the benchmark; None in the rows of single kinds.
        num_met: items that a sample meets.
        num_flagged: samples that meet an item and stay; likewise num_dropped.
    """

    benchmark: str
    kind: str
    num_items: int | None
    num_met: int
    num_dropped: int
    num_flagged: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundCopy:
    """Name a sample that met a picture of a benchmark, and how far it is from it."""

    key: str
    benchmark: str
    item: str
    kind: str
    distance: float


def measure_contamination(decontaminate: ShardSet | None) -> list[ContaminationRow]:
    """Read what decontaminate summed up, benchmark by benchmark; none without the stage."""
    return [row for summary in _summaries(decontaminate) for row in _rows(summary)]


def choose_copies(decontaminate: ShardSet | None, limit: int) -> list[FoundCopy]:
    """Choose samples at random among those that met a picture."""
    columns = [KEY, "benchmark", "item", "kind", "distance"]
    chosen = sample_rows(_met(decontaminate, columns), limit)
    return [FoundCopy(**row) for row in chosen.to_pylist()] if chosen else []


def view_copies(copies: Sequence[FoundCopy], gallery: Gallery) -> list[PictureView]:
    """Lay out the chosen samples."""
    return [
        gallery.view(
            copy.key,
            mark=f"{copy.benchmark}: {copy.item[:40]}",
            detail=_WORDS[copy.kind] + (f", {copy.distance:.3g} away" if copy.distance else ""),
        )
        for copy in copies
    ]


def _summaries(decontaminate: ShardSet | None) -> Iterator[dict[str, Any]]:
    for shard in finished_shards(decontaminate.store) if decontaminate else ():
        if decontaminate and shard.startswith(_ITEMS):
            yield json.loads(decontaminate.store.read(f"{shard}.json"))


def _rows(summary: Mapping[str, Any]) -> Iterator[ContaminationRow]:
    yield ContaminationRow(
        benchmark=summary["benchmark"],
        kind="",
        num_items=summary["pictures"] + summary["prompts"],
        num_met=summary["pictures_met"] + summary["prompts_met"],
        num_dropped=summary["dropped"],
        num_flagged=summary["samples"] - summary["dropped"],
    )
    for kind, counts in summary["kinds"].items():
        yield ContaminationRow(
            benchmark=summary["benchmark"],
            kind=_WORDS[kind],
            num_items=None,
            num_met=counts["items"],
            num_dropped=counts["dropped"],
            num_flagged=counts["samples"] - counts["dropped"],
        )


def _met(decontaminate: ShardSet | None, columns: Sequence[str]) -> Iterator[pa.Table]:
    for part in read_parts(decontaminate, columns):
        if "kind" in part.column_names:
            yield part.filter(pc.is_in(part["kind"], value_set=pa.array(_SHOWN))).select(columns)
