"""Collect what samples are matched by, from the columns of ingest and annotate."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute

from curate.annotators.hash_spec import SPEC
from curate.core.errors import StageError
from curate.core.model_ref import ModelRef
from curate.core.schema import KEY
from curate.core.shard import ShardSet
from curate.stages.matching.embedders import EMBEDDERS, check_model
from curate.stages.matching.picture_index import Limits

pc: Any = pyarrow.compute  # its functions are made at import, unseen by type checkers

_INGESTED: Mapping[str, str] = {"bytes": "sha256", "caption": "caption"}
_HASHES: Mapping[str, str] = {"pixels": "hashes.sha256_pixels"}
_LOOKS: Mapping[str, str] = {"phash": "phash.phash", "thumbnail": "phash.thumbnail"}
_PDQ: Mapping[str, str] = {"hash": "pdq.hash", "quality": "pdq.quality"}


def read_samples(
    inputs: Mapping[str, ShardSet],
    shard: str,
    keys: pa.Array,
    limits: Limits | None,
    models: Mapping[str, ModelRef],
) -> pa.Table:
    """Read the columns that matching needs, under the names that it uses.

    Args:
        inputs: ingest and annotate.
        shard: its name.
        keys: of the samples; the rows come in their order.
        limits: how pictures are compared; None where no benchmark has pictures.
        models: the pack, to check whose embeddings they are.

    Raises:
        StageError: a column was not measured, or by another model.
    """
    columns = _take(inputs["ingest"], shard, keys, _INGESTED)
    if limits is None:
        return pa.table(columns)
    wanted = {**_HASHES, **(_PDQ if limits.pdq_radius >= 0 else {})}
    wanted |= _LOOKS if limits.phash_radius >= 0 else {}
    wanted |= {kind: EMBEDDERS[kind].column for kind in limits.min_cosine}
    schema = inputs["annotate"].schema(shard)
    for column in wanted.values():
        if column not in schema.names:
            raise StageError(
                f"decontaminate: needs column {column}, which was not measured; "
                f"add {column.partition('.')[0]} to annotate.annotators"
            )
    for kind in limits.min_cosine:
        check_model(schema, kind, models)
    if limits.phash_radius >= 0:
        _check_spec(schema)
    return pa.table({**columns, **_take(inputs["annotate"], shard, keys, wanted)})


def _check_spec(schema: pa.Schema) -> None:
    spec = (schema.metadata or {}).get(b"annotate.phash.spec", SPEC.encode()).decode()
    if spec != SPEC:
        raise StageError(
            f"decontaminate: phash.phash must be of the spec {SPEC}, got {spec}; set "
            f"annotate.hash_spec={SPEC} or decontaminate.phash_radius=-1"
        )


def _take(
    shards: ShardSet, shard: str, keys: pa.Array, names: Mapping[str, str]
) -> dict[str, pa.ChunkedArray]:
    table = shards.table(shard, [KEY, *names.values()])
    rows = pc.index_in(keys, value_set=table[KEY].combine_chunks())
    return {name: table[column].take(rows) for name, column in names.items()}
