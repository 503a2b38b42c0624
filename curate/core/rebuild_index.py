"""Make the indexes of a latent store's tars again, by its manifest: the bytes that encode wrote."""

from __future__ import annotations

from pathlib import Path

from curate.core.errors import ShardError
from curate.core.index_tars import index_arrays, index_captions
from curate.core.latent_manifest import NULL_SHARD, LatentManifest, ShardEntry
from curate.core.record_index import SUFFIX, open_index
from curate.core.shard import ShardSet

FLIPPED = "flipped"


def rebuild_index(folder: Path, manifest: LatentManifest, name: str) -> Path:
    """Make one index.

    Args:
        folder: of the store.
        manifest: of the store.
        name: of the tar in it: "00000.tar", "text-main/00000.tar".

    Raises:
        ShardError: the tar is missing, has not the manifest's size, or is of no column.
        DataError: the tar is damaged.
    """
    column, _, file = name.rpartition("/")
    shard = file.removesuffix(".tar")
    tar = folder / name
    for text in manifest.texts:
        if column == text.folder:
            facts = {"encoder": text.encoder, "form": text.form}
            facts |= {"error": text.error} if shard == NULL_SHARD else {}
            if shard != NULL_SHARD:
                check_size(folder, _entry(folder, manifest, shard), name)
            return index_captions(tar, facts)
    entry = _entry(folder, manifest, shard)
    check_size(folder, entry, name)
    for feature in manifest.features:
        if column == feature.name:
            return index_arrays(tar, {"model": feature.model}, [feature.name])
    if column:
        raise ShardError(
            f"{tar}: must be of a column of the manifest, got folder {column}; take it away"
        )
    members = [manifest.latents.member, *([FLIPPED] if manifest.latents.has_flipped else [])]
    facts = {"bucket": entry.bucket, "vae": manifest.latents.vae}
    return index_arrays(tar, facts, members, None if entry.has_text else _homes(folder, shard))


def fits(tar: Path) -> bool:
    """Tell whether a tar's index is there, whole, and made for a tar of this size."""
    path = tar.with_suffix(SUFFIX)
    if not path.exists():
        return False
    try:
        open_index(path).check_tar(tar.stat().st_size, str(tar))
    except ShardError:
        return False
    return True


def check_size(folder: Path, entry: ShardEntry, name: str) -> None:
    """Refuse a tar that is not as the manifest says.

    Raises:
        ShardError: it is missing, or of another size.
    """
    tar, num_bytes = folder / name, entry.files.get(name, -1)
    if num_bytes < 0:
        raise ShardError(f"{tar}: must be listed in the manifest, got none; run encode again")
    if not tar.is_file() or tar.stat().st_size != num_bytes:
        got = f"{tar.stat().st_size} bytes" if tar.is_file() else "no file"
        raise ShardError(
            f"{tar}: must be there with {num_bytes} bytes, got {got}; run "
            "`curate verify --repair`, or fetch it again"
        )


def _entry(folder: Path, manifest: LatentManifest, shard: str) -> ShardEntry:
    for entry in manifest.shards:
        if entry.name == shard:
            return entry
    raise ShardError(
        f"{folder}/{shard}.tar: must be listed in the manifest, got a shard that is not; take it "
        "away, or run encode again"
    )


def _homes(folder: Path, shard: str) -> dict[str, dict[str, int]]:
    """Read where the captions of a further resolution's shard lie."""
    table = ShardSet(folder).table(shard, ["key", "home_shard", "home_row"]).to_pylist()
    return {
        "home_shard": {row["key"]: int(row["home_shard"]) for row in table},
        "home_row": {row["key"]: row["home_row"] for row in table},
    }
