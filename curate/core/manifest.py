"""Say what is done: tasks, fingerprints and the markers that are written last.

A marker `NNNNN.done.json` counts only while its fingerprint equals that of the task as it would run
now: stage name and version, the stage's resolved config, the seed, the digests of all inputs and
of all model weights. The marker keeps those parts, so `curate plan` can name what changed.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from curate.core.batches import batched
from curate.core.errors import ShardError
from curate.core.store import Store

MARKER_SUFFIX = ".done.json"
SUMMARY = "stage.json"  # written when a stage has run to its end
_AT_ONCE = 1024  # markers held while reading many; chosen by us: about 2 MB


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """Describe one resumable unit of work, which writes one output shard.

    Args:
        shard: name of the output shard; a leading underscore marks a helper shard of the stage.
        inputs: what the task reads -> sha256; part of the fingerprint.
        params: plain JSON values that `run` needs (row range, keys); part of the fingerprint.
    """

    shard: str
    inputs: Mapping[str, str]
    params: Mapping[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Hold everything that decides a task's bytes; its hash is the fingerprint."""

    stage: str
    version: int
    seed: int
    config: Mapping[str, Any]
    models: Mapping[str, str]
    inputs: Mapping[str, str]
    params: Mapping[str, Any]

    @property
    def fingerprint(self) -> str:
        """Give the sha256 over all parts."""
        parts = {name: getattr(self, name) for name in _PARTS}
        text = json.dumps(parts, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()


_PARTS = tuple(part.name for part in dataclasses.fields(Identity))


@dataclass(frozen=True, slots=True, kw_only=True)
class FileDigest:
    """Record one committed file."""

    sha256: str
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Marker:
    """Record a finished task: what it was, which files it wrote, what it counted."""

    fingerprint: str
    identity: Identity
    files: Mapping[str, FileDigest]
    counts: Mapping[str, int]

    def to_json(self) -> str:
        """Give the marker's text; no clock, no host: equal work gives equal bytes."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True, indent=1) + "\n"

    @property
    def digest(self) -> str:
        """Give the sha256 of the marker's text, which changes with any committed byte."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()


class State(StrEnum):
    """Name the states of a task's output."""

    ABSENT = "absent"
    STALE = "stale"
    DONE = "done"
    RETRY = "to retry"
    QUARANTINED = "quarantined"


def marker_name(shard: str) -> str:
    """Give the file name of a shard's marker."""
    return f"{shard}{MARKER_SUFFIX}"


def finished_shards(store: Store) -> list[str]:
    """List the shards that have a marker, helper shards too, sorted."""
    return [name.removesuffix(MARKER_SUFFIX) for name in store.names(MARKER_SUFFIX)]


def load_marker(store: Store, shard: str) -> Marker:
    """Read a marker.

    Raises:
        ShardError: the file is missing or is not a marker.
    """
    try:
        return parse_marker(store.read(marker_name(shard)))
    except (FileNotFoundError, ValueError) as error:
        raise ShardError(
            f"{store.url}/{marker_name(shard)}: must be a marker of this version, got {error}; "
            "delete it and rerun"
        ) from error


def parse_marker(data: bytes) -> Marker:
    """Turn a marker's bytes into its parts; ValueError when they are none."""
    try:
        raw = json.loads(data)
        return Marker(
            fingerprint=raw["fingerprint"],
            identity=Identity(**raw["identity"]),
            files={_inside(name): FileDigest(**file) for name, file in raw["files"].items()},
            counts=raw["counts"],
        )
    except (KeyError, TypeError) as error:
        raise ValueError(repr(error)) from error


def _inside(name: str) -> str:
    """Refuse a file name that would leave the stage's folder: files are deleted by these names."""
    if name.startswith("/") or ".." in name.split("/"):
        raise ValueError(f"a file name outside its folder: {name!r}")
    return name


def find_marker(store: Store, shard: str) -> Marker | None:
    """Load a shard's marker, or None when there is none or it is damaged."""
    return next(marker for _, marker in find_markers(store, [shard]))


def find_markers(store: Store, shards: Iterable[str]) -> Iterator[tuple[str, Marker | None]]:
    """Load many markers in one go; None where there is none or it is damaged."""
    for some in batched(shards, _AT_ONCE):
        found = store.read_many([marker_name(shard) for shard in some])
        for shard in some:
            data = found.get(marker_name(shard))
            try:
                yield shard, None if data is None else parse_marker(data)
            except ValueError:  # a damaged marker means "not done": the task runs again
                yield shard, None


def explain(old: Identity, new: Identity) -> list[str]:
    """List what differs between two identities: config keys, inputs, models, version, seed."""
    changes: list[str] = []
    if old.version != new.version:
        changes.append(f"version {old.version} -> {new.version}")
    if old.seed != new.seed:
        changes.append(f"seed {old.seed} -> {new.seed}")
    for title in ("config", "models", "inputs", "params"):
        before, after = flatten(getattr(old, title)), flatten(getattr(new, title))
        for name in sorted(before.keys() | after.keys()):
            if before.get(name) != after.get(name):
                changes.append(f"{title} {name}: {_brief(before, name)} -> {_brief(after, name)}")
    return changes


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Turn nested mappings into dotted names."""
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat


def _brief(values: Mapping[str, Any], name: str) -> str:
    text = str(values.get(name, "absent"))
    return text if len(text) <= 40 else text[:12] + "..."
