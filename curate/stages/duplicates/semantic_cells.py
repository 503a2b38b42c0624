"""Cut the space of embeddings into cells by a sample of the first generations: `_cells`.

a shard's keys -> a draw for each, by seed and key alone
the rows of smallest draw of all shards -> centroids, kept by all later generations
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from curate.core.manifest import Task
from curate.core.seed import derive_seed
from curate.core.shard import npy_bytes
from curate.core.stage import Place
from curate.stages.duplicates.cells import count_sample, fit_cells
from curate.stages.duplicates.dedup_config import DedupConfig
from curate.stages.duplicates.embeddings import Embeddings
from curate.stages.duplicates.groups import Sources
from curate.stages.duplicates.semantic import CELLS, read_embeddings

_SAMPLED_SHARDS = 256  # chosen by us: 2.5 million samples of usual shards, for 65,536 cells

_Drawn = tuple[NDArray[np.uint64], Embeddings]  # a draw for each row, and the rows


def write_cells(sources: Sources, config: DedupConfig, seed: int, task: Task, place: Place) -> None:
    """Write the centroids of the cells, [K, D] float32; [0, 0] where nothing was embedded.

    The sample is the `count_sample` rows of smallest draw, of at most 256 shards, so it belongs to
    the samples and not to their order or shards as long as there are no more shards. Three such
    samples and a shard are held at most.
    """
    num_cells = task.params["num_cells"]
    most = count_sample(num_cells)
    shards = sorted(task.params["shards"], key=lambda name: derive_seed(seed, "cells", name))
    parts: list[_Drawn] = []
    for shard in sorted(shards[:_SAMPLED_SHARDS]):
        keys, embeddings = read_embeddings(sources, config, shard)
        if keys:
            draws = np.array([derive_seed(seed, "cells", key) for key in keys], np.uint64)
            parts.append((draws, embeddings))
        if sum(len(draws) for draws, _ in parts) > 2 * most:
            parts = _keep_smallest(parts, most)
    centroids = np.empty((0, 0), np.float32)
    if parts:
        sample: Any = np.concatenate([rows for _, rows in _keep_smallest(parts, most)])
        centroids = fit_cells(sample, num_cells, seed)
    (place.out / f"{CELLS}.npy").write_bytes(npy_bytes(centroids))


def _keep_smallest(parts: Sequence[_Drawn], most: int) -> list[_Drawn]:
    """Keep the rows of smallest draw, at most so many of all parts together."""
    last = np.sort(np.concatenate([draws for draws, _ in parts]))[:most][-1]
    return [(draws[draws <= last], rows[draws <= last]) for draws, rows in parts]
