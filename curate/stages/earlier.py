"""Reuse what an earlier version of an ingest shard holds, when a retry or a takedown renews it.

A finished shard is put aside first (links on a local disk, copies behind a URL), for its marker
goes before the new files come: a kill in between costs no picture. It lies in the task's scratch
folder, which survives kills and belongs to one fingerprint.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from curate.core.errors import ShardError
from curate.core.manifest import Identity, find_marker, marker_name
from curate.core.shard import MEMBERS, ShardSet
from curate.core.store import LocalStore

TAKEDOWN_INPUT = "takedown"  # the input that changes when samples are taken down


class EarlierShard:
    """Read rows and members of a shard that was put aside.

    Args:
        folder: that holds its files.
        shard: its name.
        is_retried: whether the task is the very same: then failed samples are wanted anew.
    """

    def __init__(self, folder: Path, shard: str, *, is_retried: bool) -> None:
        self.is_retried = is_retried
        self._shards = ShardSet(folder)
        self._shard = shard

    def rows(self) -> list[dict[str, Any]]:
        """Give the rows, with the positions of their members."""
        return self._shards.table(self._shard).to_pylist()

    def open_tar(self) -> BinaryIO:
        """Open the tar for `read_members_of`."""
        return self._shards.tar_path(self._shard).open("rb")


def read_members_of(row: dict[str, Any], tar: BinaryIO) -> Iterator[tuple[str, bytes]]:
    """Yield (extension, bytes) of a row's members.

    Raises:
        ShardError: the tar is shorter than its table says.
    """
    for member in row[MEMBERS]:
        tar.seek(member["offset"])
        data = tar.read(member["bytes"])
        if len(data) != member["bytes"]:
            raise ShardError(
                f"{tar.name}: must hold {member['bytes']} bytes at {member['offset']}, "
                f"got {len(data)}; run `curate verify` on it"
            )
        yield member["ext"], data


def put_aside(own: ShardSet, shard: str, identity: Identity, scratch: Path) -> EarlierShard | None:
    """Find an earlier version of a shard whose rows still hold, and keep it until the commit.

    Args:
        own: the stage's shard set.
        shard: name of the shard.
        identity: of the task as it runs now; an earlier version may differ in takedowns alone.
        scratch: the task's scratch folder.
    """
    folder = scratch / "earlier"
    marker = find_marker(LocalStore(folder), shard)
    if marker is None:
        marker = find_marker(own.store, shard)
        if marker is None or _without_takedown(marker.identity) != _without_takedown(identity):
            return None
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for name in marker.files:
            _link(own.store.local_path(name), folder / name)
        LocalStore(folder).write(marker_name(shard), marker.to_json().encode())
    return EarlierShard(folder, shard, is_retried=marker.identity == identity)


def _without_takedown(identity: Identity) -> Identity:
    inputs = {name: value for name, value in identity.inputs.items() if name != TAKEDOWN_INPUT}
    return dataclasses.replace(identity, inputs=inputs)


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without links
        shutil.copyfile(source, target)
