"""Load the heads that score image embeddings, by kind: aesthetic quality, watermarks and the like.

Heads of one layer are in linear_head.py, those of several in mlp_head.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from curate.core.errors import ModelError
from curate.models.head import Head
from curate.models.linear_head import load_linear_head
from curate.models.mlp_head import load_mlp_head
from curate.models.packs import ModelRef


def load_head(ref: ModelRef) -> Head:
    """Load a head.

    Raises:
        ModelError: the kind is unknown, the file is missing, or its contents are no head.
    """
    if ref.kind not in LOADERS:
        raise ModelError(
            f"head: kind must be one of {', '.join(LOADERS)}, got {ref.kind!r}; choose one"
        )
    return LOADERS[ref.kind](ref.paths[0])


LOADERS: Mapping[str, Callable[[Path], Head]] = {
    "linear_head": load_linear_head,
    "mlp_head": load_mlp_head,
}
"""Kind to loader."""
