"""Read weights that others made: the one place where a pickle is opened, and only for its tensors.

`curate convert-weights` alone comes here; all loaders read safetensors. Known are safetensors, npz
without objects, PyTorch files that hold nothing but tensors and plain containers (torch's
weights-only unpickler builds no other thing), and OpenAI's own TorchScript archives, which are
programs: they are opened only if their sha256 is one that OpenAI publishes.
"""

from __future__ import annotations

import hashlib
import re
import warnings
import zipfile
from collections.abc import Collection, Mapping
from pathlib import Path
from pickle import UnpicklingError  # what torch raises; nothing here unpickles by itself
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from curate.core.errors import ModelError
from curate.models.weights import read_tensors

# Under these names training scripts keep the network's tensors beside their own state: open_clip
# and Lightning, LAION's watermark model, diffusers' EMA.
_WRAPPERS = ("state_dict", "weights", "model", "ema")
_PREFIX = "module."  # of DistributedDataParallel


def file_sha256(path: Path) -> str:
    """Give the sha256 of a file, or of a folder's files in the order of their names.

    Raises:
        ModelError: nothing is there.
    """
    if not path.exists():
        raise ModelError(f"{path}: must exist, got nothing; fix the path")
    files = [path] if path.is_file() else sorted(item for item in path.rglob("*") if item.is_file())
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as stream:
            found = hashlib.file_digest(stream, "sha256")
        if path.is_file():
            return found.hexdigest()
        digest.update(f"{file.relative_to(path)}\0{found.hexdigest()}\n".encode())
    return digest.hexdigest()


def read_foreign(path: Path, known_programs: Collection[str] = ()) -> dict[str, Tensor]:
    """Read the tensors of a file, by name, on the CPU.

    Args:
        path: of the file.
        known_programs: sha256 of the TorchScript archives that may be opened.

    Raises:
        ModelError: the file is missing, of an unknown format, holds more than tensors, or is a
            TorchScript archive that is not known.
    """
    if not path.is_file():
        raise ModelError(f"{path}: must be a file, got none; fix the path")
    if path.suffix == ".safetensors":
        return read_tensors(path)[0]
    if path.suffix == ".npz":
        return _read_npz(path)
    if _is_torchscript(path):
        return _read_torchscript(path, known_programs)
    return unwrap(path, _load_weights_only(path))


def unwrap(path: Path, loaded: Any) -> dict[str, Tensor]:
    """Find the tensors in what a training script saved.

    Raises:
        ModelError: there are none.
    """
    for name in _WRAPPERS:
        if isinstance(loaded, Mapping) and isinstance(loaded.get(name), Mapping):
            loaded = cast("Mapping[str, Any]", loaded)[name]
            break
    if not isinstance(loaded, Mapping) or not loaded:
        raise ModelError(
            f"{path}: must hold tensors by name, got {type(loaded).__name__}; save a state_dict"
        )
    tensors = {
        str(name).removeprefix(_PREFIX): value
        for name, value in cast("Mapping[str, Any]", loaded).items()
        if isinstance(value, Tensor)
    }
    if not tensors:
        raise ModelError(f"{path}: must hold tensors by name, got none; save a state_dict")
    return tensors


def _load_weights_only(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    # What torch raises for bytes that are no such file.
    except (UnpicklingError, RuntimeError, EOFError, ValueError, LookupError) as error:
        found = re.search(r"GLOBAL (\S+)", str(error))
        if found:
            raise ModelError(
                f"{path}: a pickle must hold nothing but tensors, got a call of {found[1]}; "
                "it was not run, ask its author for safetensors"
            ) from error
        raise ModelError(
            f"{path}: must be safetensors, npz or a PyTorch file of tensors, got one that torch "
            f"cannot read ({type(error).__name__}); fetch it again"
        ) from error


def _read_npz(path: Path) -> dict[str, Tensor]:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return {name: torch.from_numpy(arrays[name]) for name in arrays.files}
    except (ValueError, OSError, zipfile.BadZipFile, TypeError) as error:
        raise ModelError(
            f"{path}: must be an npz of numbers, got {_first_line(error)}; save plain arrays"
        ) from error


def _is_torchscript(path: Path) -> bool:
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())


def _read_torchscript(path: Path, known_programs: Collection[str]) -> dict[str, Tensor]:
    digest = file_sha256(path)
    if digest not in known_programs:
        raise ModelError(
            f"{path}: a TorchScript archive is a program and must be one that OpenAI publishes, "
            f"got sha256 {digest[:12]}...; take the safetensors of the same model"
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch 2.13 calls TorchScript deprecated; there are files
        return dict(torch.jit.load(path, map_location="cpu").state_dict())


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__} {lines[0] if lines else ''}".strip()[:160]
