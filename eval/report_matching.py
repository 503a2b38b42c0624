"""Say how well each image-text model tells a picture's caption from another picture's.

    columns NAME.similarity, NAME.similarity_other of some samples -> AUC, means

A threshold on a model that cannot tell them apart drops at random.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute

from curate.core.schema import KEY
from curate.core.shard import ShardSet
from eval.ranking import auc
from eval.row_stream import read_parts, sample_rows

pc: Any = pyarrow.compute  # its functions are made at import, unseen by type checkers
logger = logging.getLogger(__name__)

_OTHER = ".similarity_other"
_MAX_SAMPLES = 50_000  # chosen by us: an AUC of 0.5 is then known to 0.002


@dataclass(frozen=True, slots=True, kw_only=True)
class Matching:
    """Hold what one model says of a data set.

    Args:
        model: its annotator, e.g. "clip".
        num: samples with both similarities.
        auc: chance that a caption of its own scores above one of another picture, ties half.
        mean_own: mean similarity with the own caption.
        mean_other: mean similarity with another picture's.
    """

    model: str
    num: int
    auc: float
    mean_own: float
    mean_other: float


def measure_matching(annotate: ShardSet | None) -> list[Matching]:
    """Measure every image-text model over at most 50,000 samples chosen at random."""
    found: list[Matching] = []
    for model in _models(annotate):
        columns = [KEY, f"{model}.similarity", f"{model}{_OTHER}"]
        table = sample_rows(_measured(annotate, columns), _MAX_SAMPLES)
        if table is None or not table.num_rows:
            continue
        own, other = (np.asarray(table[name]) for name in columns[1:])
        found.append(
            Matching(
                model=model,
                num=len(own),
                auc=auc(own, other),
                mean_own=float(own.mean()),
                mean_other=float(other.mean()),
            )
        )
    for item in found:
        logger.info(
            "%s: own against others' captions, AUC %.3f (%d samples)",
            item.model,
            item.auc,
            item.num,
        )
    return found


def _models(annotate: ShardSet | None) -> list[str]:
    """List the image-text models of the first shard, in the table's order."""
    for shard in annotate.shards() if annotate else ():
        names = annotate.schema(shard).names if annotate else []
        return [name.removesuffix(_OTHER) for name in names if name.endswith(_OTHER)]
    return []


def _measured(annotate: ShardSet | None, columns: list[str]) -> Iterator[pa.Table]:
    """Yield the rows that have all of the columns."""
    for part in read_parts(annotate, columns):
        if set(columns) <= set(part.column_names):
            yield part.filter(pc.and_(*(part[name].is_valid() for name in columns[1:])))
