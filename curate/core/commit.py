"""Move a finished task's files into its stage's folder: the only place where files reach it.

    seal (digest, fsync) -> old marker away -> files into place -> marker, last

Kill it anywhere and the marker is missing, so the task runs again.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from curate.core.disk_errors import naming_hopeless
from curate.core.errors import StageError
from curate.core.lock import Claim
from curate.core.manifest import FileDigest, Identity, Marker, find_marker, marker_name
from curate.core.store import LocalStore, Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """Name the folder that a stage writes, and the claim under which it may.

    Args:
        store: the stage's folder.
        claim: None where nobody else can write (tests, notebooks).
    """

    store: Store
    claim: Claim | None = None

    def changing(self) -> contextlib.AbstractContextManager[None]:
        """Hold the folder while its files change, if there is a claim; see `Claim.committing`."""
        return self.claim.committing() if self.claim else contextlib.nullcontext()

    @property
    def work(self) -> Path:
        """Give the local folder of unfinished work: inside a local store, beside a remote one."""
        if isinstance(self.store, LocalStore):
            return self.store.folder / ".work"
        name = hashlib.sha256(self.store.url.encode()).hexdigest()[:16]
        return Path(tempfile.gettempdir()) / f"latentmill-work-{os.getuid()}" / name


def commit(
    out: Path, output: Output, shard: str, identity: Identity, counts: Mapping[str, int]
) -> None:
    """Move a task's files into the stage's folder; the marker comes last or not at all.

    Args:
        out: the task's own folder, on the same disk as a local store.
        output: where to.
        shard: name of the output shard.
        identity: of the task that wrote the files.
        counts: what it counted.

    Raises:
        StageError: the task wrote nothing.
        StoreError: the folder cannot be written, or belongs to another run by now.
    """
    store = output.store
    names = sorted(str(path.relative_to(out)) for path in out.rglob("*") if path.is_file())
    if not names:
        raise StageError(f"{identity.stage}: a task must write files, got none for shard {shard}")
    with naming_hopeless(store.url, writing=True):
        files = {name: _seal(out / name) for name in names}
        marker = Marker(
            fingerprint=identity.fingerprint, identity=identity, files=files, counts=counts
        )
        with output.changing():
            remove_shard(store, shard, but=set(names))
            for name in names:
                store.put(out / name, name)
            store.sync(names)
            store.write(marker_name(shard), marker.to_json().encode())


def remove_shard(store: Store, shard: str, but: set[str] | None = None) -> None:
    """Remove a shard, its marker first, so that it is never taken for whole.

    Args:
        store: the stage's folder.
        shard: name of the shard; one that is absent stays absent.
        but: files that are about to be replaced anyway.
    """
    if not store.exists(marker_name(shard)):
        return
    marker = find_marker(store, shard)
    store.delete(marker_name(shard))
    store.sync()
    for name in set(marker.files if marker else ()) - (but or set()):
        store.delete(name)


def _seal(path: Path) -> FileDigest:
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
        os.fsync(stream.fileno())
    return FileDigest(sha256=digest, bytes=path.stat().st_size)
