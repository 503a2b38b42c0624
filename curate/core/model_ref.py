"""Point at the files of a frozen model, with their digest (curate/models loads them)."""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

GOLDEN_NAME = "golden.json"  # in a model's folder; see curate/models/golden.py


class ModelSettings(Protocol):
    """Say of a model what its files do not: what a server is asked for, for instance."""

    @property
    def identity(self) -> str:
        """Spell all that changes what the model gives, and nothing else."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRef:
    """Point at one model: which loader reads it, its files or folders, and its settings if any."""

    kind: str
    paths: tuple[Path, ...]
    settings: ModelSettings | None = None

    @property
    def digest(self) -> str:
        """Give the sha256 over the names and contents of all files, and the settings."""
        files = _digest_files(self.paths)
        if self.settings is None:
            return files
        return hashlib.sha256(f"{files}\0{self.settings.identity}".encode()).hexdigest()


@functools.lru_cache(maxsize=64)
def _digest_files(paths: tuple[Path, ...]) -> str:
    digest = hashlib.sha256()
    for root in paths:
        files = [root] if root.is_file() else sorted(p for p in root.rglob("*") if _is_weight(p))
        for file in files:
            digest.update(str(file.relative_to(root.parent)).encode() + b"\0")
            with file.open("rb") as stream:
                digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()


def _is_weight(path: Path) -> bool:
    """Leave out compiled code, and the golden values: they check a model and do not change it."""
    return path.is_file() and "__pycache__" not in path.parts and path.name != GOLDEN_NAME
