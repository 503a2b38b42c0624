"""Say what is done: tasks, fingerprints and the markers that are written last.

A marker `NNNNN.done.json` counts only while its fingerprint equals that of the task as it would run
now: stage name and version, the stage's resolved config, the seed, the digests of all inputs and
of all model weights. The marker keeps those parts, so `curate plan` can name what changed.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from curate.core.errors import ShardError


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
        text = json.dumps(dataclasses.asdict(self), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()


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


class State(StrEnum):
    """Name the states of a task's output."""

    ABSENT = "absent"
    STALE = "stale"
    DONE = "done"


def marker_path(folder: Path, shard: str) -> Path:
    """Give the path of a shard's marker."""
    return folder / f"{shard}.done.json"


def load_marker(path: Path) -> Marker:
    """Read a marker.

    Raises:
        ShardError: the file is missing or is not a marker.
    """
    try:
        raw = json.loads(path.read_text())
        return Marker(
            fingerprint=raw["fingerprint"],
            identity=Identity(**raw["identity"]),
            files={name: FileDigest(**file) for name, file in raw["files"].items()},
            counts=raw["counts"],
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ShardError(
            f"{path}: must be a marker of this version, got {error!r}; delete it and rerun"
        ) from error


def find_marker(folder: Path, shard: str) -> Marker | None:
    """Load a shard's marker, or None when there is none or it is damaged."""
    path = marker_path(folder, shard)
    if not path.exists():
        return None
    try:
        return load_marker(path)
    except ShardError:  # a damaged marker means "not done": the task runs again
        return None


def state_of(folder: Path, shard: str, identity: Identity) -> State:
    """Tell whether the shard in this folder is what this task would write."""
    marker = find_marker(folder, shard)
    if marker is None:
        return State.ABSENT
    return State.DONE if marker.fingerprint == identity.fingerprint else State.STALE


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
