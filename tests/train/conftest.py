"""Give tests tiny latent stores."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from curate.core.latent_manifest import ShardEntry
from curate.core.shard import ShardSet
from tests.train.stores import SPACE, StoreOptions, write_manifest, write_null, write_shard

MakeEncoded = Callable[..., ShardSet]


@pytest.fixture
def make_encoded(tmp_path: Path) -> MakeEncoded:
    """Give a function that writes a store: bucket name -> number of samples."""

    def make(
        sizes: Mapping[str, int],
        folder: str = "encode",
        options: StoreOptions | None = None,
        **changes: Any,
    ) -> ShardSet:
        space, options = SPACE | changes, options or StoreOptions()
        (tmp_path / folder).mkdir()
        shards: list[ShardEntry] = []
        number = 0
        for bucket, count in sizes.items():
            height, width = map(int, bucket.split("x"))
            numbers = range(number, number + count)
            name = f"{len(shards):05d}"
            shards.append(
                write_shard(tmp_path / folder, name, numbers, (height, width), space, options)
            )
            number += count
        write_null(tmp_path / folder, space, options)
        write_manifest(tmp_path / folder, shards, space, options)
        return ShardSet(tmp_path / folder)

    return make
