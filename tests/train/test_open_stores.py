"""Stores that are trained on together agree, and a remote one's cache holds its windows."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from curate.core.errors import ConfigError, DataError
from curate.core.latent_manifest import NAME, LatentManifest
from curate.core.shard import ShardSet
from curate.core.store import Store, open_store
from tests.train.stores import StoreOptions
from train.data import LatentSet
from train.reading import ReadConfig


def copy_away(shards: ShardSet, url: str) -> Store:
    folder, remote = shards.table_path("00000").parent, open_store(url)
    for path in folder.rglob("*"):
        if path.is_file():
            remote.write(str(path.relative_to(folder)), path.read_bytes())
    return remote


def test_cache_below_the_windows_of_a_store_is_refused(make_encoded: Any, tmp_path: Path) -> None:
    shards = make_encoded({"64x64": 50})
    tars = shards.table_path("00000").parent.rglob("00000.tar")
    size = sum(path.stat().st_size for path in tars)  # all of it is one window
    remote = copy_away(shards, "memory://latents-of-test-open-stores")
    manifest = LatentManifest.load(remote)
    more = tuple(
        dataclasses.replace(entry, num_samples=500_000, files={"0.tar": 100_000 * size})
        for entry in manifest.shards
    )
    reading = ReadConfig(cache_folder=str(tmp_path), cache_bytes=50_000 * size)
    with LatentSet([(remote, 1.0)], reading):
        pass
    remote.write(NAME, dataclasses.replace(manifest, shards=more).to_json().encode())
    needed = 100_000 * size * 262_144 // 500_000  # four windows' worth of 500,000 samples
    with pytest.raises(ConfigError, match=rf"cache_bytes: must hold .* {needed} bytes, got"):
        LatentSet([(remote, 1.0)], reading)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"towers": ("main", "t5")}, r"texts must be that of .*, \['main'\], got"),
        ({"features": ("dino",)}, r"features must be that of .*, \[\], got \['dino'\]"),
    ],
)
def test_stores_with_other_columns_are_refused(
    make_encoded: Any, options: dict[str, Any], message: str
) -> None:
    one = make_encoded({"64x64": 2})
    other = make_encoded({"64x64": 2}, folder="other", options=StoreOptions(**options))
    with pytest.raises(DataError, match=message):
        LatentSet([(one.store, 1.0), (other.store, 1.0)])
