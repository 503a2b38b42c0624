"""Say what dedup bounded: hashes and embeddings too common to be compared in full."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from curate.core.shard import ShardSet

_CLUSTERS = "_clusters"  # the helper shard whose marker counts it
_SENTENCES: Mapping[str, str] = {
    "heavy_hashes": "perceptual hashes have more different pictures than are compared",
    "skipped_looks": "of these pictures are near to none that stand for them",
    "heavy_runs": "groups of hashes that may be near were too large to be compared in full",
    "skipped_comparisons": "comparisons were left out in them",
    "crowded_samples": "samples have more near embeddings than are kept",
}
"""Count of dedup -> what it says."""


def describe_bounds(dedup: ShardSet | None) -> Sequence[str]:
    """Give a sentence for each bound that dedup met; none where every comparison was made."""
    if dedup is None or not dedup.store.exists(f"{_CLUSTERS}.done.json"):
        return ()
    counts = dedup.marker(_CLUSTERS).counts
    return [
        f"{counts[name]:,} {sentence}" for name, sentence in _SENTENCES.items() if counts.get(name)
    ]
