"""Read a model pack that a user wrote: `models=PATH.yaml`.

    base: toy                       # optional: a named pack whose other roles hold
    image_text: {kind: open_clip, paths: [ViT-B-32]}
    clip_l14: {kind: open_clip, paths: [ViT-L-14]}
    aesthetic: {kind: linear_head, paths: [heads/aesthetic.safetensors]}
    captioner: {kind: openai, url: "http://127.0.0.1:8000/v1", model: Qwen/Qwen3-VL-8B-Instruct}
    rewriter: {kind: lm, hub: Qwen/Qwen3-4B, revision: COMMIT}

Paths are relative to the file; a model of the hub is taken from the cache, or downloaded (hub.py).
Nothing is loaded here; that a file is no pickle is checked by its name, that it fits is checked by
its loader.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

import yaml

from curate.core.errors import ModelError
from curate.core.model_ref import ModelRef
from curate.models.hub import find_hub_model
from curate.models.server_settings import SERVER_KINDS, read_server_settings

BASE = "base"
# lid.176.bin is no pickle, and a copy detector is a whole network, which no command converts; their
# loaders check what a file is.
_OWN_FORMATS = ("fasttext", "isc", "sscd", "onnx_descriptor")
PICKLES = (".pt", ".pth", ".bin", ".ckpt", ".pkl", ".pickle", ".joblib")


def read_pack_file(
    path: Path, is_role: Callable[[str], bool], roles: str, load_base: Callable[[str], Any]
) -> dict[str, ModelRef]:
    """Read a pack.

    Args:
        path: of the YAML file.
        is_role: tells whether a name is a role.
        roles: the roles' names, for messages.
        load_base: finds a named pack.

    Raises:
        ModelError: the file or a path is missing, a role is unknown, an entry is malformed, or a
            path is a pickle.
    """
    entries = _read_yaml(path)
    base = entries.pop(BASE, None)
    pack: dict[str, ModelRef] = dict(load_base(str(base))) if base else {}
    for role, entry in entries.items():
        if not is_role(role):
            raise ModelError(f"{path}: a role must be one of {roles}, got {role!r}; fix the name")
        pack[role] = _read_entry(path, role, entry)
    return pack


def refuse_pickle(path: Path, what: str, out: str = "out.safetensors") -> None:
    """Refuse a file whose name says that it is a pickle.

    Args:
        path: of the file.
        what: names the place in messages.
        out: what the command that converts it is given beside the file.

    Raises:
        ModelError: names the command that converts it.
    """
    if path.suffix.lower() in PICKLES:
        raise ModelError(
            f"{what}: weights must be safetensors, got the pickle {path}; "
            f"run `curate convert-weights {path.name} {out}`"
        )


def _read_yaml(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise ModelError(f"models: a pack file must exist, got no {path}; fix the path")
    try:
        entries = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        where = " ".join(str(error).split())
        raise ModelError(f"{path}: must be YAML, got {where[:160]}; fix it") from error
    if not isinstance(entries, dict) or not entries:
        raise ModelError(
            f"{path}: must be a mapping role -> {{kind, paths}}, got {type(entries).__name__}; "
            "see `curate doctor models=toy` for the roles"
        )
    return {str(role): entry for role, entry in cast("dict[Any, Any]", entries).items()}


def _read_entry(path: Path, role: str, entry: Any) -> ModelRef:
    fields = cast("Mapping[str, Any]", entry) if isinstance(entry, dict) else {}
    if fields.get("kind") in SERVER_KINDS:
        settings = read_server_settings(fields, f"{path}: {role}")
        return ModelRef(kind=str(fields["kind"]), paths=(), settings=settings)
    if "hub" in fields:
        return _read_hub_entry(path, role, fields)
    names = fields.get("paths", [])
    texts = [names] if isinstance(names, str) else names
    is_list = isinstance(texts, list) and all(
        isinstance(text, str) for text in cast("list[Any]", texts)
    )
    if set(fields) != {"kind", "paths"} or not isinstance(fields["kind"], str) or not is_list:
        raise ModelError(
            f"{path}: {role} must be {{kind: NAME, paths: [PATH, ...]}}, got {entry!r}; fix it"
        )
    paths = tuple((path.parent / text).absolute() for text in cast("list[str]", texts))
    for found in paths:
        if not found.exists():
            raise ModelError(f"{path}: {role}.paths must exist, got {found}; fix the path")
        if fields["kind"] not in _OWN_FORMATS:
            refuse_pickle(found, f"{path}: {role}")
    return ModelRef(kind=str(fields["kind"]), paths=paths)


def _read_hub_entry(path: Path, role: str, fields: Mapping[str, Any]) -> ModelRef:
    is_text = all(isinstance(value, str) for value in fields.values())
    if set(fields) != {"kind", "hub", "revision"} or not is_text:
        raise ModelError(
            f"{path}: {role} must be {{kind: NAME, hub: ORGANISATION/MODEL, revision: COMMIT}}, "
            f"got {dict(fields)!r}; fix it (a commit of digits alone needs quotes)"
        )
    return find_hub_model(fields["kind"], fields["hub"], fields["revision"], f"{path}: {role}")
