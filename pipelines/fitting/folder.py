"""Write what was fitted: each folder is there whole or not at all, `fit.json` comes last.

out/adapter/    the low-rank updates, in peft's own format
out/model/      the base with the updates merged in, and its processor: a captioner
out/metrics.jsonl, out/fit.json
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
from collections.abc import Callable, Generator, Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from curate.captioners.vlm_folder import LoadedVlm
from curate.core.disk_errors import naming_hopeless

ADAPTER, MODEL, METRICS, RECORD, CARD = (
    "adapter", "model", "metrics.jsonl", "fit.json", "README.md",
)  # fmt: skip
WORK = ".work"  # of what only a fit under way needs
# What a processor and a tokenizer are saved as; weights, cards and code of the base stay behind.
_PROCESSOR_SUFFIXES = (".json", ".txt", ".model", ".jinja")
_NOT_COPIED = ("config.json", "golden.json", "adapter_config.json")
_TEMPLATES = "additional_chat_templates"  # where transformers keeps further ones


def put_folder(out: Path, name: str, write: Callable[[Path], None]) -> None:
    """Let `write` fill a folder, and give it its name when every byte is on the disk.

    An earlier folder of that name is replaced.
    """
    partial, final = out / WORK / name, out / name
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    write(partial)
    for path in [*partial.rglob("*"), partial]:
        _sync(path)
    shutil.rmtree(final, ignore_errors=True)
    partial.replace(final)
    _sync(out)


def save_model(vlm: LoadedVlm, base: Path, card: str, folder: Path) -> None:
    """Save model and processor so that both Auto classes load the folder.

    The processor's files are the base's own, byte by byte, and so are its settings of generation.
    """
    vlm.model.save_pretrained(folder)
    for file in base.iterdir():
        is_wanted = file.suffix in _PROCESSOR_SUFFIXES and file.name not in _NOT_COPIED
        if is_wanted and not file.name.endswith(".safetensors.index.json"):
            shutil.copyfile(file, folder / file.name)
    if (base / _TEMPLATES).is_dir():
        shutil.copytree(base / _TEMPLATES, folder / _TEMPLATES)
    (folder / CARD).write_text(card, encoding="utf-8")


def save_adapter(adapted: Any, card: str, folder: Path) -> None:
    """Save the low-rank updates as `peft.PeftModel.from_pretrained` loads them."""
    adapted.save_pretrained(folder)
    (folder / CARD).write_text(card, encoding="utf-8")  # peft's own has blanks to fill


def read_record(out: Path) -> dict[str, Any] | None:
    """Read `fit.json`; None if the fit is not done."""
    path = out / RECORD
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


@contextlib.contextmanager
def naming_full_disk(out: Path) -> Generator[None]:
    """Turn a full disk into one line, also where safetensors meets it.

    Raises:
        StoreError: instead of the error.
    """
    with naming_hopeless(str(out), writing=True):
        try:
            yield
        except SafetensorError as error:
            if "No space left" not in str(error):
                raise
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from error


def to_json(values: Mapping[str, Any]) -> str:
    """Write an object as sorted JSON."""
    return json.dumps(values, indent=2, sort_keys=True) + "\n"


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
