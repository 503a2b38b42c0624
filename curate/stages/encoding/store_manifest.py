"""Sum up a store whose shards are finished: its manifest lists what a loader may open."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from curate.core.errors import StageError
from curate.core.latent_manifest import (
    NULL_SHARD,
    FeatureFacts,
    LatentFacts,
    LatentManifest,
    ShardEntry,
    TextFacts,
)
from curate.core.manifest import Marker, find_markers
from curate.core.record_index import SUFFIX, RecordIndex, open_index
from curate.core.schema import shard_name
from curate.core.shard import ShardSet

logger = logging.getLogger(__name__)


def make_manifest(
    store: ShardSet,
    shards: Sequence[str],
    latents: LatentFacts,
    texts: Sequence[TextFacts],
    features: Sequence[FeatureFacts],
) -> LatentManifest:
    """List the shards that are finished and whose captions are there.

    Args:
        store: encode's own shard set.
        shards: those that a run should have; a quarantined one is left out.
        latents: facts of the main column.
        texts: facts of the text columns.
        features: facts of the columns of features.

    Raises:
        StageError: no shard is left.
    """
    markers = {
        shard: marker for shard, marker in find_markers(store.store, sorted(shards)) if marker
    }
    entries: list[ShardEntry] = []
    for shard, marker in markers.items():
        index = open_index(store.store.local_path(f"{shard}{SUFFIX}"))
        missing = _homes(index) - markers.keys()
        if missing:
            logger.warning("%s is left out: the captions of %s are not there", shard, min(missing))
        else:
            entries.append(_entry(shard, marker, index))
    if not entries:
        raise StageError("encode: needs a finished shard, got none; see why with `curate status`")
    return LatentManifest(
        latents=latents, texts=tuple(texts), features=tuple(features), shards=tuple(entries)
    )


def null_facts(store: ShardSet, text: TextFacts) -> TextFacts:
    """Add to a text column's facts what was measured before the shards were encoded."""
    index = open_index(store.store.local_path(f"{text.folder}/{NULL_SHARD}{SUFFIX}"))
    return replace(text, error=index.facts["error"])


def _homes(index: RecordIndex) -> set[str]:
    """Name the shards that hold the captions of this one, if others do."""
    numbers = index.arrays.get("home_shard", np.empty(0, np.uint32))
    return {shard_name(int(number)) for number in np.unique(numbers)}


def _entry(shard: str, marker: Marker, index: RecordIndex) -> ShardEntry:
    return ShardEntry(
        name=shard,
        bucket=index.facts["bucket"],
        num_samples=len(index.arrays["key"]),
        has_text="home_shard" not in index.arrays,
        files={
            name: file.bytes
            for name, file in sorted(marker.files.items())
            if not name.endswith(".parquet")
        },
    )
