"""Check every committed file against its marker, name the damaged members, make them anew.

markers -> sha256 of each file -> damaged files -> of a tar: members by their xxh3 digest
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import xxhash

from curate.core.commit import remove_shard
from curate.core.errors import ShardError
from curate.core.manifest import MARKER_SUFFIX, SUMMARY, Marker, find_markers, finished_shards
from curate.core.quarantine import SUFFIX as QUARANTINE_SUFFIX
from curate.core.shard import MEMBERS, ShardSet
from curate.core.store import Store
from pipelines.inspect import read_run
from pipelines.request import Request, reopen_request
from pipelines.verify_column import describe_damage

_CHUNK_BYTES = 1 << 20
_MOST_MEMBERS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Damage:
    """Name one damaged file of a shard and what is wrong with it."""

    stage: str
    shard: str
    file: str
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Hold what was found.

    Args:
        strangers: files in stage folders that no marker names; left alone.
    """

    damaged: Sequence[Damage]
    strangers: Sequence[str]
    num_files: int
    num_bytes: int


def verify(out: Store) -> Verdict:
    """Read every committed file of every stage once and compare its digest.

    Raises:
        ConfigError: the folder was not made by curate.
    """
    damaged: list[Damage] = []
    strangers: list[str] = []
    num_files = num_bytes = 0
    for stage in read_run(out)["stages"]:
        store = out.child(stage)
        known = {SUMMARY}
        shards = finished_shards(store)
        for shard in _lost(store, shards):
            name = f"{shard}{MARKER_SUFFIX}"
            detail = "is missing, and its shard with it"
            damaged.append(Damage(stage=stage, shard=shard, file=name, detail=detail))
        for shard, marker in find_markers(store, shards):
            known.add(f"{shard}{MARKER_SUFFIX}")
            if marker is None:
                detail = "is not a marker of this version"
                name = f"{shard}{MARKER_SUFFIX}"
                damaged.append(Damage(stage=stage, shard=shard, file=name, detail=detail))
                continue
            known |= marker.files.keys()
            num_files += len(marker.files)
            num_bytes += sum(file.bytes for file in marker.files.values())
            damaged += _check_shard(stage, store, shard, marker)
        names = (name for name in store.names() if not name.endswith(QUARANTINE_SUFFIX))
        strangers += [f"{stage}/{name}" for name in names if name not in known]
    return Verdict(damaged=damaged, strangers=strangers, num_files=num_files, num_bytes=num_bytes)


def remove_damaged(out: Store, found: Verdict) -> None:
    """Remove the damaged shards; the caller owns `out`."""
    for stage, shard in {(damage.stage, damage.shard) for damage in found.damaged}:
        remove_shard(out.child(stage), shard)
        out.child(stage).delete(SUMMARY)


def repair_request(out: Store, found: Verdict) -> Request:
    """Ask for just the stages of the damaged shards, with the config that `out` keeps.

    Everything else is done, so only the damaged tasks run. Their bytes come out as they were and
    nothing downstream grows stale, unless what they read has changed (a URL that is gone).
    """
    return reopen_request(out, {damage.stage for damage in found.damaged})


def _lost(store: Store, shards: Sequence[str]) -> list[str]:
    """List the shards that `stage.json` knows and the folder lacks."""
    if not store.exists(SUMMARY):
        return []
    summary = json.loads(store.read(SUMMARY))
    return sorted(summary["shards"].keys() - summary["quarantined"] - set(shards))


def _check_shard(stage: str, store: Store, shard: str, marker: Marker) -> Iterator[Damage]:
    for name, file in marker.files.items():
        try:
            digest, num_bytes = _digest(store, name)
        except FileNotFoundError:
            yield Damage(stage=stage, shard=shard, file=name, detail="is missing")
            continue
        if digest == file.sha256:
            continue
        detail = f"must be {file.bytes:,} bytes of sha256 {file.sha256[:12]}, got "
        detail += f"{num_bytes:,} bytes of {digest[:12]}"
        if name == f"{shard}.tar":
            detail += f"; {_name_members(store, shard)}"
        elif name.endswith(".tar"):
            detail += f"; {describe_damage(store, shard, name)}"
        yield Damage(stage=stage, shard=shard, file=name, detail=detail)


def _digest(store: Store, name: str) -> tuple[str, int]:
    digest, num_bytes = hashlib.sha256(), 0
    with store.open(name) as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            digest.update(chunk)
            num_bytes += len(chunk)
    return digest.hexdigest(), num_bytes


def _name_members(store: Store, shard: str) -> str:
    """Say which members of a damaged tar no longer have their digest."""
    try:
        table = ShardSet(store).table(shard, ["key", MEMBERS])
    except ShardError:
        return "its table is damaged too, so its members are not known"
    broken: list[str] = []
    with store.open(f"{shard}.tar") as tar:
        for row in table.to_pylist():
            for member in row[MEMBERS]:
                tar.seek(member["offset"])
                if xxhash.xxh3_64_intdigest(tar.read(member["bytes"])) != member["xxh3"]:
                    broken.append(f"{row['key']}.{member['ext']}")
    if not broken:
        return "no member is damaged, only headers or padding"
    more = f" and {len(broken) - _MOST_MEMBERS} more" if len(broken) > _MOST_MEMBERS else ""
    return f"damaged members: {', '.join(broken[:_MOST_MEMBERS])}{more}"
