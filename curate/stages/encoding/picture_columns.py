"""Write the columns that come from a shard's pictures: latents, and features where asked for.

batch of pictures -> arrays of each -> NNNNN.tar + .idx; FEATURE/NNNNN.tar + .idx
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from curate.core.errors import ShardError
from curate.core.latent_column import ArrayColumn, ArrayRows
from curate.core.latent_manifest import FeatureFacts
from curate.core.record_index import SUFFIX
from curate.core.shard import ShardWriter, npy_bytes
from curate.stages.encoding.latents import LatentMaker, PictureBatch

if TYPE_CHECKING:
    from curate.models.picture_features import PictureFeatures

# What bucket says of a picture's size; all but the resolution are SDXL's six ids.
SIZES = (
    "resolution", "height", "width", "original_height", "original_width", "crop_top", "crop_left",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureMaker:
    """Hold a model of picture features and the name of its column.

    Args:
        name: of the column.
        digest: of the model's weights.
        features: the model.
    """

    name: str
    digest: str
    features: PictureFeatures

    @property
    def facts(self) -> FeatureFacts:
        """Describe the column."""
        return FeatureFacts(name=self.name, model=self.digest)


def write_latents(
    out: Path,
    shard: str,
    rows: Mapping[str, dict[str, Any]],
    batches: Iterable[PictureBatch],
    maker: LatentMaker,
    features: Iterable[FeatureMaker],
    *,
    facts: Mapping[str, Any],
    schema: pa.Schema,
    has_homes: bool,
) -> None:
    """Write latents, features and the side table of a shard.

    Args:
        out: folder of the store.
        shard: its name.
        rows: key -> row of the side table.
        batches: the shard's pictures.
        maker: of latents.
        features: of further columns.
        facts: of the latents' index.
        schema: of the side table.
        has_homes: the captions lie with other shards; the index says where.

    Raises:
        ShardError: a model gave numbers that float16 cannot hold.
    """
    index = ArrayRows(dict(facts))
    columns = [(one, ArrayColumn(out / one.name, shard, {"model": one.digest})) for one in features]
    with ShardWriter(out, shard, schema, with_tar=True) as writer:
        for batch in batches:
            for key, arrays in zip(batch.keys, maker.make(batch), strict=True):
                row = rows[key]
                members = {f"{name}.npy": npy_bytes(array) for name, array in arrays.items()}
                found = writer.write(row, {**members, "json": _describe(row)})
                ends = {name: sum(found[f"{name}.npy"]) for name in arrays}
                index.add(key, arrays, ends, _home(row) if has_homes else None)
            for one, column in columns:
                _add_features(column, one, batch)
    index.write(out / f"{shard}{SUFFIX}", writer.tar_digest)
    for _, column in columns:
        column.close()


def _add_features(column: ArrayColumn, maker: FeatureMaker, batch: PictureBatch) -> None:
    with np.errstate(over="ignore"):  # refused below
        made = maker.features(batch.pixels).astype(np.float16)
    for key, array in zip(batch.keys, made, strict=True):
        if not np.isfinite(array).all():
            raise ShardError(
                f"{key}: its features {maker.name} must be finite in float16, got inf or NaN; use "
                "another model"
            )
        column.add(key, {maker.name: array})


def _home(row: Mapping[str, Any]) -> dict[str, int]:
    """Say where a record's captions lie, for the index."""
    return {"home_shard": int(row["home_shard"]), "home_row": row["home_row"]}


def _describe(row: Mapping[str, Any]) -> bytes:
    listed = zip(
        row["captions.source"],
        row["captions.text"],
        row["captions.attempt"] or [""] * len(row["captions.source"]),
        strict=True,
    )
    captions = [{"source": s, "text": text, "attempt": attempt} for s, text, attempt in listed]
    said = {"captions": captions, **{name: row[name] for name in SIZES}}
    return json.dumps(said, ensure_ascii=False, sort_keys=True).encode()
