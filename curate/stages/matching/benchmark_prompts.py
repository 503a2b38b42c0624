"""Bring the prompts of an evaluation set into a table, and tell versions of its files apart."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from curate.core.errors import DataError
from curate.core.schema import OK, make_key
from curate.stages.matching.prompt_sets import read_prompts
from curate.stages.matching.words import words_of

NO_WORDS = "no_words"  # of a prompt that nothing can meet ("!!!")

PROMPT_SCHEMA = pa.schema(
    [
        pa.field("key", pa.string(), nullable=False),
        pa.field("status", pa.string(), nullable=False),
        ("item", pa.string()),
        ("text", pa.string()),
    ]
)


def digest_prompts(benchmark: str, path: Path) -> str:
    """Give a sha256 over the file, or over the files of a folder and their names.

    Raises:
        DataError: it is not there.
    """
    if not path.exists():
        raise DataError(
            f"decontaminate.benchmarks.{benchmark}.prompts: must exist, got {path}; fix the path"
        )
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    digest = hashlib.sha256()
    for file in files:
        if file.is_file():
            digest.update(file.name.encode() + b"\0")
            digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()


def prompt_rows(shard: str, path: Path, form: str) -> Iterator[dict[str, Any]]:
    """Yield a row of PROMPT_SCHEMA for each prompt, in the file's order.

    Args:
        shard: name of the table, for keys.
        path: of the prompts.
        form: see `prompt_sets.py`.

    Raises:
        DataError: the file breaks the form.
    """
    for number, prompt in enumerate(read_prompts(path, form)):
        yield {
            "key": make_key(shard, str(number)),
            "status": OK if words_of(prompt.text) else NO_WORDS,
            "item": prompt.item,
            "text": prompt.text,
        }
