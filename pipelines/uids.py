"""Write the uids of a run's kept samples as DataComp passes subsets on: one sorted npy of `u8,u8`.

    verdicts of a stage + ingest's source_key, shard by shard -> uids, sorted -> PATH.npy

Memory: 16 bytes a kept sample, and as much again while they are sorted.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
from pyarrow.compute import SetLookupOptions, call_function

from curate.core.errors import ConfigError, DataError, StoreError
from curate.core.manifest import SUMMARY
from curate.core.schema import KEY
from curate.core.shard import ShardSet
from curate.core.store import Store
from curate.stages.filtering.rules_in_force import SOURCE_KEY
from curate.stages.filtering.uid_lists import Uids, parse_uids, sort_uids
from pipelines.inspect import read_run

WITH_VERDICTS = ("filter", "dedup", "decontaminate")


def write_uids(out: Store, stage: str, path: Path) -> int:
    """Write the uids of what a stage kept.

    Args:
        out: folder of a run.
        stage: filter, dedup or decontaminate.
        path: of the npy file.

    Returns:
        How many there are.

    Raises:
        ConfigError: another stage, or a path of another kind.
        DataError: the stage is not finished, or a kept sample has no uid.
        StoreError: the file cannot be written.
    """
    stages = read_run(out)["stages"]
    if stage not in WITH_VERDICTS or stage not in stages:
        able = [name for name in WITH_VERDICTS if name in stages]
        raise ConfigError(f"stage: must be one of {', '.join(able)}, got {stage!r}; choose one")
    if path.suffix != ".npy":
        raise ConfigError(f"uids: must be written to a .npy file, got {path}; rename it")
    verdicts = ShardSet(out.child(stage))
    if not verdicts.store.exists(SUMMARY):
        raise DataError(
            f"{verdicts.url}: must be a finished stage, got no end; run `curate run stage={stage}`"
        )
    found = list(_kept(ShardSet(out.child("ingest")), verdicts))
    high = np.concatenate([np.zeros(0, np.uint64), *(uids.high for uids in found)])
    low = np.concatenate([np.zeros(0, np.uint64), *(uids.low for uids in found)])
    _save(path, sort_uids(high, low))
    return len(high)


def _kept(ingested: ShardSet, verdicts: ShardSet) -> Iterator[Uids]:
    for shard, table in verdicts.tables([KEY, "keep"]):
        kept = SetLookupOptions(value_set=table.filter(table["keep"])[KEY].combine_chunks())
        samples = ingested.table(shard, [KEY, SOURCE_KEY])
        samples = samples.filter(call_function("is_in", [samples[KEY]], kept))
        uids = parse_uids(samples[SOURCE_KEY])
        if not uids.known.all():
            _refuse(ingested, samples, int(np.argmin(uids.known)))
        yield uids


def _refuse(ingested: ShardSet, samples: pa.Table, row: int) -> None:
    raise DataError(
        f"{ingested.url}: source_key must be a uid of 32 hexadecimal digits, "
        f"got {samples[SOURCE_KEY][row].as_py()!r} for key {samples[KEY][row].as_py()}; "
        "ingest a table that has a uid column"
    )


def _save(path: Path, uids: np.ndarray) -> None:
    """Write the file under another name first, so that it is whole or not there."""
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("wb") as stream:
            np.lib.format.write_array(stream, uids, allow_pickle=False)
            stream.flush()
            os.fsync(stream.fileno())
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise StoreError(f"{path}: cannot be written, got {error}; choose another path") from error
