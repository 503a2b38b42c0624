"""Read and write weights as safetensors, and build modules with weights drawn from a seed.

The one border to weight files: nothing here unpickles, downloads or asks a hub. Every refusal is
one line that names the file. What a network does with its weights: see clip.py, vae.py, heads.py.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from curate.core.errors import ModelError


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read all tensors of a safetensors file and its metadata.

    Raises:
        ModelError: the file is missing or is not safetensors.
    """
    check_safetensors(path)
    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        return tensors, dict(file.metadata() or {})


def write_tensors(
    path: Path,
    tensors: Mapping[str, Tensor],
    metadata: Mapping[str, str] | None = None,
    *,
    dtype: torch.dtype = torch.float16,
) -> None:
    """Write tensors as safetensors; floating point ones as `dtype`, the others as they are."""
    path.parent.mkdir(parents=True, exist_ok=True)
    cast = {
        name: (tensor.to(dtype) if tensor.is_floating_point() else tensor).detach().contiguous()
        for name, tensor in tensors.items()
    }
    # Not save_file: it makes the file readable by its owner alone.
    path.write_bytes(_with_sorted_metadata(save(cast, metadata=dict(metadata or {}))))


def _with_sorted_metadata(file: bytes) -> bytes:
    """Order the metadata by name; safetensors 0.8 writes it in another order each run.

    Source: safetensors format: 8 bytes with the header's length, then the header as JSON.
    """
    end = 8 + int.from_bytes(file[:8], "little")
    header = json.loads(file[8:end])
    if "__metadata__" in header:
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    assert len(text) <= end - 8, "the same values take the same space"
    return file[:8] + text.ljust(end - 8) + file[end:]


def check_safetensors(path: Path) -> None:
    """Refuse a file that is missing or is not safetensors; only its header is read.

    Raises:
        ModelError: says which.
    """
    if not path.is_file():
        raise ModelError(f"{path}: weights must exist, got no file; reinstall the model pack")
    try:
        with safe_open(path, framework="pt"):
            return
    except SafetensorError as error:
        raise ModelError(
            f"{path}: must be a safetensors file, got {error}; convert it or fetch it again"
        ) from error


def check_shapes(path: Path, tensors: Mapping[str, Tensor], module: nn.Module) -> None:
    """Refuse weights that do not fit a module.

    Raises:
        ModelError: a tensor is missing, unexpected or of another shape; the first one is named.
    """
    wanted = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    for name in sorted(wanted.keys() | tensors.keys()):
        got = tuple(tensors[name].shape) if name in tensors else None
        if got != wanted.get(name):
            expected = wanted.get(name, "no such tensor")
            raise ModelError(
                f"{path}: {name} must be {expected}, got {got or 'nothing'}; "
                "use the weights that belong to this config"
            )


def read_json(path: Path) -> dict[str, Any]:
    """Read a model's JSON file.

    Raises:
        ModelError: the file is missing or is not a JSON object.
    """
    if not path.is_file():
        raise ModelError(f"{path}: must exist, got no file; reinstall the model pack")
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ModelError(f"{path}: must be JSON, got {error}; fetch it again") from error
    if not isinstance(value, dict):
        raise ModelError(
            f"{path}: must be a JSON object, got {type(value).__name__}; fetch it again"
        )
    return value


@contextlib.contextmanager
def seeded_weights(seed: int) -> Generator[None]:
    """Let modules built inside draw their first weights from `seed`.

    Layers of torch initialise themselves from torch's global generator and take no other; it is set
    here and put back afterwards, so that nothing outside sees the change.

    Args:
        seed: from `curate.core.seed.derive_seed`, in [0, 2**64).
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield
