"""Read prompts from a parquet, jsonl or txt file."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from curate.core.errors import DataError
from curate.core.schema import is_key, make_key


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """Hold one prompt.

    Args:
        key: of the prompt; names its noise.
        text: what to draw.
        height: of the picture, pixels.
        width: of the picture, pixels.
    """

    key: str
    text: str
    height: int
    width: int


def load_prompts(path: Path, height: int, width: int) -> list[Prompt]:
    """Read prompts in file order.

    Columns `prompt` (needed), `key`, `height`, `width`; in a txt file every line that is not blank
    is a prompt. A prompt without a key gets one from its text.

    Args:
        path: .parquet, .jsonl or .txt.
        height: of prompts that name none, pixels.
        width: of prompts that name none, pixels.

    Raises:
        DataError: no such file, another format, no prompts, a row without text, a repeated key.
    """
    if not path.is_file() or path.suffix not in _READERS:
        raise DataError(
            f"sample.prompts must be a {', '.join(_READERS)} file, got {str(path)!r}; "
            "give one prompt a line or row"
        )
    try:
        rows = _READERS[path.suffix](path)
    except (OSError, ValueError, pa.ArrowException) as error:
        reason = str(error).splitlines()[0]
        raise DataError(
            f"{path}: must be a readable {path.suffix} file, got {reason}; repair it"
        ) from error
    prompts = [_prompt(path, i, row, height, width) for i, row in enumerate(rows)]
    keys = [prompt.key for prompt in prompts]
    if not prompts or len(set(keys)) < len(keys):
        raise DataError(
            f"{path}: must hold prompts with distinct keys, got {len(prompts)} prompts with "
            f"{len(set(keys))} keys; remove repeated rows or give them keys"
        )
    return prompts


def _prompt(path: Path, number: int, row: Any, height: int, width: int) -> Prompt:
    text = row.get("prompt") if isinstance(row, Mapping) else None
    if not isinstance(text, str) or not text.strip():
        raise DataError(
            f"{path}: row {number} must have a text in `prompt`, got {text!r}; fill it in"
        )
    key = row.get("key") or make_key("prompt", text)
    sides = row.get("height") or height, row.get("width") or width
    if not isinstance(key, str) or not is_key(key) or not all(isinstance(s, int) for s in sides):
        raise DataError(
            f"{path}: row {number} needs a key of 20 hex characters and whole-number sides, got "
            f"{key!r}, {sides}; leave them out to have them filled in"
        )
    return Prompt(key=key, text=text.strip(), height=sides[0], width=sides[1])


def _read_txt(path: Path) -> list[Any]:
    return [{"prompt": line} for line in path.read_text().splitlines() if line.strip()]


def _read_jsonl(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text().splitlines() if line.strip()]


def _read_parquet(path: Path) -> list[Any]:
    return pq.read_table(path).to_pylist()


_READERS: Mapping[str, Callable[[Path], list[Any]]] = {
    ".parquet": _read_parquet,
    ".jsonl": _read_jsonl,
    ".txt": _read_txt,
}
