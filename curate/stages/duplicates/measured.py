"""Check that all shards were measured alike before their hashes are compared.

Hashes of two specs, or embeddings of two models, are not comparable: what a shard was measured with
is in its table's metadata, and every shard of every generation must say the same.
"""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa
import pyarrow.parquet as pq

from curate.core.errors import StageError
from curate.core.manifest import Task
from curate.core.shard import ShardSet
from curate.core.stage import Place
from curate.stages.duplicates.dedup_config import DedupConfig
from curate.stages.duplicates.generations import Generation
from curate.stages.duplicates.keepers import check_measured

_OPTIONS = {
    "pdq.dihedral": "; set annotate.pdq_dihedral=true",
    "phash.miniature": "; set annotate.miniatures=true",
}
_FACTS = ("spec", "digest", "kind", "precision")  # of annotate.NAME.* in a table's metadata


def write_generation(
    measured: ShardSet, own: ShardSet, config: DedupConfig, task: Task, place: Place
) -> None:
    """Write the names of a generation's shards, and what they were measured with.

    Raises:
        StageError: a column that dedup needs was not measured, or not alike in all shards.
    """
    number = int(task.shard.rpartition("-")[2])
    facts: Mapping[str, str] | None = None
    if number:
        facts = _read_facts(own.schema(Generation(number=0, shards=()).name), config)
    for shard in task.params["shards"]:
        schema = measured.schema(shard)
        _check_columns(config, schema)
        found = _read_facts(schema, config)
        facts = found if facts is None else facts
        for name in sorted(found.keys() | facts.keys()):
            if found.get(name) != facts.get(name):
                raise StageError(
                    f"dedup: all shards must be measured alike, got {name} {found.get(name)} in "
                    f"{shard} and {facts.get(name)} before; run annotate again"
                )
    table = pa.table({"shard": pa.array(task.params["shards"], pa.string())})
    table = table.replace_schema_metadata(dict(facts or {}))
    pq.write_table(table, place.out / f"{task.shard}.parquet", compression="zstd")


def _check_columns(config: DedupConfig, schema: pa.Schema) -> None:
    missing = sorted(set(config.columns()) - set(schema.names))
    if missing:
        option = _OPTIONS.get(missing[0], "")
        annotators = dict.fromkeys(name.partition(".")[0] for name in config.columns())
        raise StageError(
            f"dedup: needs column {missing[0]}, which was not measured; "
            f"add {' and '.join(annotators)} to annotate.annotators{option}"
        )
    check_measured(config.policy(), [*schema.names, "num_pixels", "license", "source"])


def _read_facts(schema: pa.Schema, config: DedupConfig) -> dict[str, str]:
    """Give what the annotators of dedup's columns say of themselves."""
    annotators = {name.partition(".")[0] for name in config.columns()}
    wanted = {f"annotate.{name}.{fact}" for name in annotators for fact in _FACTS}
    metadata = {key.decode(): value.decode() for key, value in (schema.metadata or {}).items()}
    return {name: value for name, value in metadata.items() if name in wanted}
