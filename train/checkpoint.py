"""Save and find training checkpoints: safetensors + JSON, atomic, verified, no pickle.

    folder/.partial/   state.safetensors, then state.json (digest, identity, cursor): both fsynced
    folder/<samples>/  the same after one rename: a folder with this name is whole

Reading trusts nothing: the newest folder whose digest is right wins, a damaged one is passed over.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor

from curate.core.errors import StageError

logger = logging.getLogger(__name__)

_TENSORS = "state.safetensors"
_RECORD = "state.json"
# Chosen by us: the newest may be damaged by a dying disk, so one more is kept.
_NUM_KEPT = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """Hold everything a run needs to go on as if it had never stopped.

    Args:
        samples_seen: the cursor; data order and all draws follow from it.
        tensors: "<part>/<name>" -> tensor, parts model, ema, optimizer, meter.
        lines: metrics so far.
        identity: what must be equal for the run to go on (config, data, seed), plain JSON values.
    """

    samples_seen: int
    tensors: dict[str, Tensor]
    lines: list[dict[str, Any]]
    identity: Mapping[str, Any]

    def part(self, name: str) -> dict[str, Tensor]:
        """Give the tensors of one part, without its prefix."""
        prefix = name + "/"
        return {
            key.removeprefix(prefix): value
            for key, value in self.tensors.items()
            if key.startswith(prefix)
        }


def save_checkpoint(folder: Path, checkpoint: Checkpoint) -> Path:
    """Write a checkpoint so that it is there whole or not at all, then drop old ones."""
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / ".partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    save_file({k: v.contiguous() for k, v in checkpoint.tensors.items()}, partial / _TENSORS)
    record = {
        "samples_seen": checkpoint.samples_seen,
        "sha256": _digest(partial / _TENSORS),
        "identity": checkpoint.identity,
        "lines": checkpoint.lines,
    }
    (partial / _RECORD).write_text(json.dumps(record, indent=1))
    for path in (partial / _TENSORS, partial / _RECORD, partial):
        _sync(path)
    final = folder / f"{checkpoint.samples_seen:015d}"
    shutil.rmtree(final, ignore_errors=True)  # damaged, or it would have been resumed from
    partial.replace(final)
    _sync(folder)
    for old in _folders(folder)[_NUM_KEPT:]:
        shutil.rmtree(old)
    return final


def find_checkpoint(folder: Path, identity: Mapping[str, Any]) -> Checkpoint | None:
    """Load the newest whole checkpoint, or None.

    Raises:
        StageError: the checkpoint belongs to another run; the message names what differs.
    """
    for path in _folders(folder):
        try:
            checkpoint = _load(path)
        except (OSError, ValueError, KeyError) as error:
            logger.warning("%s: passed over, not a whole checkpoint (%s)", path, error)
            continue
        _check_identity(path, checkpoint.identity, identity)
        return checkpoint
    return None


def _load(path: Path) -> Checkpoint:
    record = json.loads((path / _RECORD).read_text())
    digest = _digest(path / _TENSORS)
    if digest != record["sha256"]:
        raise ValueError(f"{_TENSORS} has another digest than {_RECORD} says")
    fields = {field.name for field in dataclasses.fields(Checkpoint)} - {"tensors"}
    return Checkpoint(tensors=load_file(path / _TENSORS), **{name: record[name] for name in fields})


def _check_identity(path: Path, saved: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    plain = json.loads(json.dumps(dict(wanted)))
    names = sorted(n for n in saved.keys() | plain.keys() if saved.get(n) != plain.get(n))
    if names:
        raise StageError(
            f"{path}: a run goes on only with equal {', '.join(names)}, got "
            f"{plain.get(names[0])!r} instead of {saved.get(names[0])!r}; "
            "delete the folder to start anew"
        )


def _folders(folder: Path) -> list[Path]:
    """List checkpoint folders, newest first."""
    if not folder.is_dir():
        return []
    return sorted((path for path in folder.iterdir() if path.name.isdigit()), reverse=True)


def _digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
