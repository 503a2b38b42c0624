"""Remove what stages that will not run again hold of samples that are taken down.

    ingest's shards without such a sample -> shards made from their files alone -> ... : they stay
    all other shards, their markers first, and files that no marker names              : they go

What a shard was made from is in its marker, digests included, so that one from an earlier cut of
the input, where the samples lay elsewhere, goes too.
"""

from __future__ import annotations

import shutil
from collections.abc import Collection, Mapping

from curate.core.commit import Output, remove_shard
from curate.core.manifest import SUMMARY, Marker, find_markers, finished_shards, marker_name
from curate.core.store import Store
from pipelines.table import STAGES


def remove_traces(out: Store, hit: Collection[str], stages: Collection[str]) -> None:
    """Remove all that some stages may hold of the samples; what is left of them is not at its end.

    Args:
        out: folder of a run; the caller owns it.
        hit: ingest shards that hold the samples.
        stages: those that will not run again now; none is ingest.
    """
    clean: set[tuple[str, str]] = set()  # (file, sha256) of the shards that stay
    for stage in STAGES:
        store = out.child(stage)
        kept: dict[str, Marker] = {}
        for shard, marker in find_markers(store, finished_shards(store)):
            if marker and (shard not in hit if stage == "ingest" else _is_clean(marker, clean)):
                kept[shard] = marker
        for marker in kept.values():
            clean |= {(f"{stage}/{name}", file.sha256) for name, file in marker.files.items()}
        if stage in stages:
            _keep_only(store, kept)


def _is_clean(marker: Marker, clean: Collection[tuple[str, str]]) -> bool:
    """Tell whether all inputs are known to be clean; one that sums up many files is not known."""
    return all(item in clean for item in marker.identity.inputs.items())


def _keep_only(store: Store, kept: Mapping[str, Marker]) -> None:
    store.delete(SUMMARY)
    for shard in finished_shards(store):
        if shard not in kept:
            remove_shard(store, shard)
    known = {name for marker in kept.values() for name in marker.files}
    known |= {marker_name(shard) for shard in kept}
    for name in store.names():
        if name not in known:  # of a commit that was cut off
            store.delete(name)
    shutil.rmtree(Output(store=store).work, ignore_errors=True)
