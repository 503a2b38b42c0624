"""Read existing WebDataset tars: keys, fields and original bytes survive, nothing is decoded.

    tar -> index of its headers (`tar_index.py`) -> the bytes of one sample at a time -> RawSample

What becomes of a sample's members (extensions in lower case):
    picture     the bare one that comes first in PICTURE_SUFFIXES (`jpg` before `png`), else the
                first with two or more dots (`left.jpg`); any other picture is a further member
    `txt`       the caption; without it the `caption` of `json`
    `json`      its object's fields, `url` and `license` among them
    all others  further members, byte by byte; pickles (`pyd`, `pkl`, `pth`) too, never opened

Text that is no UTF-8 and JSON that is no plain object stay as members `source.txt` and
`source.json`. What cannot be a sample is a row with a status:
    no_picture          no member is a picture, or it is one that is not read (a link, sparse)
    repeated_member     members that the key had before; the first ones are the sample's
    unsafe_name         an absolute name or one with `..`
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from curate.core.manifest import Task
from curate.core.schema import make_key, shard_name
from curate.core.store import Store
from curate.core.tar_index import (
    Member,
    TarSample,
    index_tar,
    is_outside,
    read_member,
)
from curate.sources.files import PICTURE_SUFFIXES, facts_of, place_of
from curate.sources.nesting import nests_too_deeply
from curate.sources.source import RawSample

_PICTURES = tuple(suffix[1:] for suffix in PICTURE_SUFFIXES)
_MAX_EXT = 60  # chosen by us: key, dot and extension fit into a tar header's 100 bytes


class WebDatasetSource:
    """Plan one shard per tar.

    Args:
        store: the folder that holds them.
        tars: names, in the order of the output shards.
        key_rule: how member names are cut into key and extension.
    """

    def __init__(self, store: Store, tars: Sequence[str], key_rule: str = "auto") -> None:
        self._store = store
        self._tars = list(tars)
        self._key_rule = key_rule

    def plan(self) -> Sequence[Task]:
        """List tasks; a task's input digest covers the tar's size and modification time or ETag."""
        tasks: list[Task] = []
        for index, name in enumerate(self._tars):
            size, version = facts_of(self._store, name)
            facts = f"{name}:{size}:{version}"
            tasks.append(
                Task(
                    shard=shard_name(index),
                    inputs={name: hashlib.sha256(facts.encode()).hexdigest()},
                    params={"tar": name},
                )
            )
        return tasks

    def read(
        self, task: Task, scratch: Path, rows: Collection[int] | None = None
    ) -> Iterator[RawSample]:
        """Yield the tar's samples in the order of their first members."""
        tar: str = task.params["tar"]
        place = place_of(self._store, tar)
        path = self._store.local_path(tar)
        samples = index_tar(path, place, self._key_rule)
        with path.open("rb") as stream:
            for row, found in enumerate(samples):
                if rows is None or row in rows:
                    yield _raw_sample(tar, row, found, partial(read_member, stream, place))


def _judge(found: TarSample) -> tuple[str, str]:
    """Say why a key gives no sample: status and detail; "" when it gives one."""
    if is_outside(found.key):
        return "unsafe_name", f"must stay inside its folder, got {found.key!r}"
    if found.repeat:
        names = ", ".join(sorted(found.members))
        return "repeated_member", f"{found.key} has {names} again; the first ones are kept"
    if _picture_ext(found) is None:
        return "no_picture", f"members: {_describe(found)}"
    return "", ""


def _picture_ext(found: TarSample) -> str | None:
    """Choose the picture among the members that can be read."""
    readable = [ext for ext, member in found.members.items() if not member.refused]
    bare = [ext for ext in _PICTURES if ext in readable]
    dotted = [ext for ext in readable if ext.rpartition(".")[2] in _PICTURES]
    return next(iter([*bare, *dotted]), None)


def _describe(found: TarSample) -> str:
    return ", ".join(
        f"{ext} ({member.refused}, not read)" if member.refused else ext
        for ext, member in sorted(found.members.items())
    )


def _raw_sample(tar: str, row: int, found: TarSample, read: Callable[[Member], bytes]) -> RawSample:
    """Sort a sample's members into picture, caption, fields and further members."""
    status, error = _judge(found)
    data = {
        ext: read(member)
        for ext, member in found.members.items()
        if not member.refused and (not status or ext in ("txt", "json"))
    }
    picture = None if status else data.pop(_picture_ext(found) or "")
    text, raw_text = _text(data.pop("txt", b""))
    fields, raw_fields = _fields(data.pop("json", b""))
    members = {_safe_ext(ext): value for ext, value in data.items()} | raw_text | raw_fields
    again = (str(found.repeat),) if found.repeat else ()
    return RawSample(
        key=make_key(tar, found.key, *again),
        row=row,
        url=str(fields.get("url") or ""),
        caption=text or str(fields.get("caption") or ""),
        source=f"{tar}/{found.key}",
        license=str(fields.get("license") or ""),
        source_key=found.key,
        fields=fields,
        members={} if status else members,
        data=picture,
        status=status or "ok",
        error=error or _unread(found),
    )


def _unread(found: TarSample) -> str:
    refused = any(member.refused for member in found.members.values())
    return f"members: {_describe(found)}" if refused else ""


def _text(data: bytes) -> tuple[str, dict[str, bytes]]:
    """Give the caption, and the original bytes where they say more than it."""
    try:
        return data.decode().strip(), {}
    except UnicodeDecodeError:
        return data.decode(errors="replace").strip(), {"source.txt": data}


def _fields(data: bytes) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Give the fields of a JSON object, or its bytes when it is none that can be written again."""
    if not data:
        return {}, {}
    try:
        value = json.loads(data, parse_constant=_refuse_constant)
        json.dumps(value, ensure_ascii=False).encode()  # lone surrogates
    except (ValueError, RecursionError):  # a broken .json costs its fields, not the sample
        return {}, {"source.json": data}
    if not isinstance(value, dict) or nests_too_deeply(value):
        return {}, {"source.json": data}
    return value, {}


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def _safe_ext(ext: str) -> str:
    """Give an extension that fits into a tar header; ordinary ones stay as they are."""
    if len(ext) <= _MAX_EXT and re.fullmatch(r"[a-z0-9._+-]+", ext):
        return ext
    digest = hashlib.sha256(ext.encode()).hexdigest()[:8]
    return f"{re.sub(r'[^a-z0-9._+-]', '_', ext)[: _MAX_EXT - 9]}_{digest}"
