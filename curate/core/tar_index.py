"""Find the samples of a WebDataset tar by its headers alone; members are read later, by offset.

    headers -> regular members -> (key, extension) by the name -> one `TarSample` a key

The webdataset library groups neighbours only: members of one key that lie scattered over the tar
become several partial samples there, repeated members end its run, and a header it cannot read
ends the tar silently. Here one pass over the headers sees the whole tar first.

How a name is cut (`ingest.tar_keys`):
    first_dot   webdataset's rule: at the first dot behind the last slash; a.seg.png -> a, seg.png
    last_dot    at the last dot; img_1.5x.jpg -> img_1.5x, jpg
    auto        webdataset's rule, but keys whose members all have two or more dots
                (img_1.5x.jpg, img_1.5x.txt) have dots in their stems: they are cut at the last dot
Extensions are lower-cased, as webdataset does. Hidden files (`._a.jpg` of macOS), `__MACOSX`,
webdataset's own `__meta__` names and names without an extension are no members.
"""

from __future__ import annotations

import tarfile
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from curate.core.errors import DataError

_END_BYTES = 1024
_GZIP = b"\x1f\x8b"  # Source: RFC 1952 section 2.3.1
_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """Point at one member's bytes.

    Args:
        name: as the tar has it.
        offset: of the payload in the tar, in bytes; likewise size.
        refused: why it is not read ("a link", "a sparse file"); "" for an ordinary file.
    """

    name: str
    offset: int
    size: int
    refused: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TarSample:
    """Hold the members of one key.

    Args:
        key: webdataset's `__key__`: the name up to the extension, folders included.
        members: extension -> member, in the tar's order.
        repeat: 0; for members that a key has again, how often it had them before.
    """

    key: str
    members: dict[str, Member] = field(default_factory=dict[str, Member])
    repeat: int = 0


def index_tar(path: Path, place: str, rule: str = "auto") -> list[TarSample]:
    """List a tar's samples in the order of their first members.

    Memory: some 500 bytes a member.

    Args:
        path: of the tar.
        place: what messages call it.
        rule: how names are cut into key and extension.

    Raises:
        DataError: the file is cut, compressed, damaged or no tar.
    """
    _check_ends(path, place)
    by_first_dot: dict[str, list[Member]] = {}
    for member in _walk(path, place):
        parts = split_name(member.name)
        if parts:
            by_first_dot.setdefault(parts[0], []).append(member)
    samples: dict[tuple[str, int], TarSample] = {}
    seen: Counter[tuple[str, str]] = Counter()
    for members in by_first_dot.values():
        last = rule == "last_dot" or (rule == "auto" and _have_dotted_stems(members))
        for member in members:
            parts = split_name(member.name, last=last)
            assert parts, f"{member.name}: a member by its first dot is one by its last"
            key, ext = parts
            at = key, seen[parts]
            samples.setdefault(at, TarSample(key=key, repeat=at[1])).members[ext] = member
            seen[parts] += 1
    return sorted(samples.values(), key=lambda sample: _first_offset(sample.members.values()))


def read_member(stream: BinaryIO, place: str, member: Member) -> bytes:
    """Read one member's bytes from its open tar.

    Raises:
        DataError: the tar is shorter than its headers say.
    """
    stream.seek(member.offset)
    data = stream.read(member.size)
    if len(data) != member.size:
        raise DataError(
            f"{place}: must be a whole WebDataset tar, got {len(data)} of {member.size} bytes of "
            f"{member.name}; replace it"
        )
    return data


def split_name(name: str, *, last: bool = False) -> tuple[str, str] | None:
    """Cut a member's name into key and lower-case extension; None when it is no member.

    Source: webdataset 0.2.111 tariterators.py, `base_plus_ext` and `skip_meta`; it takes hidden
    files in folders (`d/._a.jpg`) for members of a key `d/`, which is not followed.
    """
    folder, slash, base = name.rpartition("/")
    stem, _, ext = base.rpartition(".") if last else base.partition(".")
    top = name.removeprefix("./").split("/")[0]
    if not stem or not ext or base[0] == "." or base[-1] == ".":
        return None
    if top.startswith("__") and top.endswith("__"):
        return None
    if any(part == "__MACOSX" or _is_hidden(part) for part in folder.split("/")):
        return None
    return f"{folder}{slash}{stem}", ext.lower()


def is_outside(key: str) -> bool:
    """Tell whether a name would leave the folder it is unpacked into."""
    return key.startswith("/") or ".." in key.split("/")


def _is_hidden(part: str) -> bool:
    return part.startswith(".") and part not in (".", "..")


def _have_dotted_stems(members: Iterable[Member]) -> bool:
    parts = [split_name(member.name) for member in members]
    return all(part and "." in part[1] for part in parts)


def _first_offset(members: Iterable[Member]) -> int:
    return min(member.offset for member in members)


def _walk(path: Path, place: str) -> Iterator[Member]:
    """Yield all entries but folders, and check that nothing follows the last one."""
    with path.open("rb") as stream:
        try:
            # Names that are no UTF-8 keep their bytes visible instead of becoming surrogates.
            tar: Any = tarfile.open(  # noqa: SIM115  (only the stream is closed)
                fileobj=stream, mode="r:", encoding="utf-8", errors="backslashreplace"
            )
            position = -1
            while (info := tar.next()) is not None:
                if tar.offset <= position:
                    raise ValueError(f"a header at byte {position} that points back")
                position = tar.offset
                tar.members.clear()  # else it keeps every header
                if not info.isdir():
                    yield _member(info)
        except (tarfile.TarError, OSError, ValueError, IndexError, OverflowError) as error:
            raise DataError(
                f"{place}: must be a whole WebDataset tar, got {error}; replace it"
            ) from error
        _check_rest(stream, tar.offset, place)


def _member(info: tarfile.TarInfo) -> Member:
    refused = ""
    if info.issparse():
        refused = "a sparse file"
    elif info.issym() or info.islnk():
        refused = f"a link to {info.linkname}"
    elif not info.isreg():
        refused = f"an entry of type {info.type.decode('latin-1')!r}"
    return Member(name=info.name, offset=info.offset_data, size=info.size, refused=refused)


def _check_ends(path: Path, place: str) -> None:
    """Refuse a cut tar, which readers take for a short one, and a compressed one.

    Source: POSIX ustar: an archive ends with two blocks of 512 zero bytes.
    """
    with path.open("rb") as stream:
        if stream.read(2) == _GZIP:
            raise DataError(
                f"{place}: must be a plain tar, whose members are read by offset, got a gzip "
                "file; unpack it with gunzip"
            )
        stream.seek(max(path.stat().st_size - _END_BYTES, 0))
        if stream.read() != bytes(_END_BYTES):
            raise DataError(
                f"{place}: must be a whole WebDataset tar, got one without end; replace it"
            )


def _check_rest(stream: BinaryIO, end: int, place: str) -> None:
    """Refuse bytes behind the end: a damaged header or a second tar, which readers pass over."""
    stream.seek(end)
    while chunk := stream.read(_CHUNK_BYTES):
        if chunk.count(0) != len(chunk):
            raise DataError(
                f"{place}: must be a whole WebDataset tar, got more data behind its end at byte "
                f"{end}; replace it, or join tars with `tar -A` instead of cat"
            )
