"""Read the columns that rules judge, by name, from the tables of the stages before filter.

    "clip.similarity"       a column of annotate (names with a dot)
    "repeats.texts"         a column of repeats
    "bytes", "url", ...     a column of ingest (names without a dot)
    "host"                  of ingest's url; likewise the other DERIVED names
    "fields.punsafe"        an entry of ingest's JSON column `fields`, see source_fields.py

Where the pipeline has the stage blocklist, the status is what that says: a sample on a list is no
good one for any rule. Nothing else leaves the disk. All tables of a shard have the same samples in
the same order.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute
from numpy.typing import NDArray

from curate.core.errors import ShardError, StageError
from curate.core.schema import INGEST_SCHEMA, KEY, OK, STATUS, URL_HOST
from curate.core.shard import ShardSet
from curate.core.withheld import BLOCKLIST
from curate.stages.filtering.source_fields import SAID, read_source_field, said_numbers

pc: Any = pyarrow.compute  # its functions are made at import, unseen by type checkers

LANGUAGE = "language.code"
HOST = "host"
FIELDS = "fields."


def _host(table: pa.Table) -> Any:
    found = pc.extract_regex(table["url"], URL_HOST)
    return pc.utf8_lower(pc.struct_field(found, "host"))


def _original_min_side(table: pa.Table) -> Any:
    return pc.min_element_wise(table["original_width"], table["original_height"], skip_nulls=False)


def _original_aspect(table: pa.Table) -> Any:
    longest = pc.max_element_wise(
        table["original_width"], table["original_height"], skip_nulls=False
    )
    return pc.divide(longest.cast(pa.float64()), _original_min_side(table).cast(pa.float64()))


# Name -> the columns of ingest that it is made from, and how. The original sizes are those before
# ingest made a picture smaller.
DERIVED: Mapping[str, tuple[tuple[str, ...], Callable[[pa.Table], Any]]] = {
    HOST: (("url",), _host),
    "original_min_side_px": (("original_width", "original_height"), _original_min_side),
    "original_aspect": (("original_width", "original_height"), _original_aspect),
}


def stage_of(column: str) -> str:
    """Name the stage whose tables have a column."""
    if "." not in column or column.startswith(FIELDS):
        return "ingest"
    return "repeats" if column.startswith("repeats.") else "annotate"


def is_known_of_ingest(column: str) -> bool:
    """Tell whether a name is one that ingest's tables can answer."""
    return column in DERIVED or column in INGEST_SCHEMA.names or column.startswith(FIELDS)


def shards_of_all(inputs: Mapping[str, ShardSet]) -> list[str]:
    """Name the shards that all inputs have, sorted; what one lacks is left out, read or not."""
    first, *others = (shards.shards() for shards in inputs.values())
    return sorted(set(first).intersection(*others))


def read_columns(inputs: Mapping[str, ShardSet], shard: str, wanted: Mapping[str, str]) -> pa.Table:
    """Read key, status and the wanted columns of a shard.

    Args:
        inputs: stage -> its shards; annotate's always, blocklist's where the pipeline has it, the
            others' where a column is theirs.
        shard: which one.
        wanted: column -> the config key that needs it, for messages.

    Raises:
        ShardError: a table cannot be read, or two do not belong together.
        StageError: a column is not there.
    """
    names: dict[str, list[str]] = {"annotate": []}
    for column in wanted:
        if column not in (KEY, STATUS):
            names.setdefault(stage_of(column), []).append(column)
    table = _read(inputs["annotate"], shard, [KEY, STATUS, *names.pop("annotate")], wanted)
    if BLOCKLIST in inputs:
        table = _with_blocklist(inputs, shard, table, wanted)
    for stage, columns in names.items():
        if stage not in inputs:
            key = wanted[columns[0]]
            raise StageError(
                f"{key}: needs column {columns[0]} of stage {stage}, which this pipeline has not; "
                f"add {stage} to stages or switch {key} off"
            )
        sources = dict.fromkeys(source for name in columns for source in _sources(name))
        raw = _read(inputs[stage], shard, [KEY, *sources], wanted)
        _check_keys(inputs, stage, shard, raw, table)
        for name in columns:
            table = table.append_column(name, _derive(name, raw))
    return table


def score_values(table: pa.Table, column: str) -> NDArray[np.float64]:
    """Give a column as numbers [N]; NaN where nothing was measured.

    Raises:
        StageError: the column holds no numbers.
    """
    kind = table.schema.field(column).type
    if kind == SAID:
        return said_numbers(table[column]).to_numpy(zero_copy_only=False)
    is_number = pa.types.is_integer(kind) or pa.types.is_floating(kind)
    if not (is_number or pa.types.is_boolean(kind) or pa.types.is_null(kind)):
        raise StageError(
            f"{column}: must be numbers to be held against a threshold, got {kind}; "
            "judge it with filter.where"
        )
    return table[column].cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)


def find_places(codes: pa.ChunkedArray, known: Sequence[str]) -> NDArray[np.int64]:
    """Give the place of each code among the known ones: len(known) for others, -1 for null."""
    found = pc.index_in(codes, value_set=pa.array(known, pa.string()))
    places = pc.fill_null(found, len(known)).to_numpy().astype(np.int64)
    places[pc.is_null(codes).to_numpy()] = -1
    return places


def find_ok(table: pa.Table) -> NDArray[np.bool_]:
    """Tell which rows have the status ok: [N]."""
    return pc.equal(table[STATUS], OK).to_numpy()


def _read(
    shards: ShardSet, shard: str, columns: Sequence[str], wanted: Mapping[str, str]
) -> pa.Table:
    try:
        return shards.table(shard, columns)
    except ShardError:
        there = shards.schema(shard).names
        missing = [name for name in columns if name not in there]
        if not missing:
            raise
    raise StageError(_say_missing(missing[0], wanted, there))


def _with_blocklist(
    inputs: Mapping[str, ShardSet], shard: str, table: pa.Table, wanted: Mapping[str, str]
) -> pa.Table:
    """Give the samples the status that blocklist gave them."""
    judged = _read(inputs[BLOCKLIST], shard, [KEY, STATUS], wanted)
    _check_keys(inputs, BLOCKLIST, shard, judged, table)
    return table.set_column(table.column_names.index(STATUS), STATUS, judged[STATUS])


def _check_keys(
    inputs: Mapping[str, ShardSet], stage: str, shard: str, raw: pa.Table, table: pa.Table
) -> None:
    if not raw[KEY].equals(table[KEY]):
        raise ShardError(
            f"{inputs[stage].url}: must have the keys of annotate, got others in shard {shard}; "
            f"run `curate run stage={stage},annotate`"
        )


def _say_missing(column: str, wanted: Mapping[str, str], there: Iterable[str]) -> str:
    asker = wanted.get(column) or next(
        (key for name, key in wanted.items() if column in _sources(name)), "filter"
    )
    near = difflib.get_close_matches(column, list(there), n=1, cutoff=0.6)
    hint = f"did you mean {near[0]}? Else " if near else ""
    remedy = (
        f"add its annotator or switch {asker} off"
        if stage_of(column) == "annotate"
        else f"run `curate run stage={stage_of(column)}` again or switch {asker} off"
    )
    return f"{asker}: needs column {column}, which was not measured; {hint}{remedy}"


def _sources(name: str) -> tuple[str, ...]:
    """Name the columns of ingest that a wanted name is made from."""
    if name in DERIVED:
        return DERIVED[name][0]
    return ("fields",) if name.startswith(FIELDS) else (name,)


def _derive(name: str, raw: pa.Table) -> Any:
    if name in DERIVED:
        return DERIVED[name][1](raw)
    if name.startswith(FIELDS):
        return read_source_field(raw["fields"], name.removeprefix(FIELDS))
    return raw[name]
