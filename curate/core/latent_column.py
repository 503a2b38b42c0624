"""Write the columns of a latent store: each a tar that any WebDataset reader opens, and its index.

    ArrayColumn     one array of a fixed shape for each record (moments, features)
        <key>.moments.npy  <key>.json           index: key, moments.offset, moments.xxh3
    CaptionColumn   some captions for each record, each of its own length, by one text encoder
        <key>.alt.npy  <key>.detailed.npy  <key>.pooled.npy  <key>.json   (ids: <key>.alt.ids.npy)
        index: base [N], first [N + 1], captions [sum of captions] of `CAPTION`

Offsets point at an array's numbers, behind its .npy header; digests are xxh3-64 of the numbers that
are read together: an array, or the tokens and then the pooled vector of a caption.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import xxhash
from numpy.typing import NDArray

from curate.core.errors import ShardError
from curate.core.record_index import SUFFIX, write_index
from curate.core.shard import npy_bytes
from curate.core.tar_writer import TarDigest, TarWriter

KEY_BYTES = 10  # a key's 20 hex characters
POOLED = "pooled"  # the member with all captions' pooled vectors: no name for a caption's source
CAPTION = np.dtype(
    [
        ("tokens_at", "<u4"),  # bytes behind the sample's base
        ("pooled_at", "<u4"),  # likewise
        ("num_tokens", "<u2"),
        ("source", "<u2"),  # place in the index's facts["sources"]
        ("xxh3", "<u8"),
    ]
)

_MAX_RELATIVE = 2**32 - 1
_MAX_TOKENS = 2**16 - 1


@dataclass(slots=True)
class ArrayRows:
    """Collect the index of records with arrays of fixed shapes.

    Args:
        facts: of the index; each array's dtype and shape are added.
    """

    facts: dict[str, Any]
    _keys: list[bytes] = field(default_factory=list[bytes])
    _at: dict[str, list[int]] = field(default_factory=dict[str, list[int]])
    _xxh3: dict[str, list[int]] = field(default_factory=dict[str, list[int]])
    _extra: dict[str, list[int]] = field(default_factory=dict[str, list[int]])

    def add(
        self,
        key: str,
        arrays: Mapping[str, NDArray[Any]],
        ends: Mapping[str, int],
        extra: Mapping[str, int] | None = None,
    ) -> None:
        """Note one record.

        Args:
            key: of the sample.
            arrays: name -> array; every record has the same names, dtypes and shapes.
            ends: name -> offset in the tar at which the array's .npy payload ends.
            extra: name -> whole number, kept as a column of its own (u4).

        Raises:
            ShardError: an array differs in shape or dtype from those before.
        """
        for name, array in arrays.items():
            said = {"dtype": array.dtype.str, "shape": list(array.shape)}
            known = self.facts.setdefault("members", {}).setdefault(name, said)
            if known != said:
                raise ShardError(
                    f"{key}.{name}.npy: all records of a shard have one shape, "
                    f"{known['dtype']} {known['shape']}, got {said['dtype']} {said['shape']}; "
                    "keep one bucket per shard"
                )
            self._at.setdefault(name, []).append(ends[name] - array.nbytes)
            self._xxh3.setdefault(name, []).append(xxhash.xxh3_64_intdigest(array.tobytes()))
        for name, value in (extra or {}).items():
            self._extra.setdefault(name, []).append(value)
        self._keys.append(bytes.fromhex(key))

    def write(self, path: Path, tar: TarDigest) -> None:
        """Write the index of the finished tar."""
        keys = np.frombuffer(b"".join(self._keys), np.uint8).reshape(-1, KEY_BYTES)
        arrays: dict[str, NDArray[Any]] = {"key": keys}
        for name, offsets in self._at.items():
            arrays[f"{name}.offset"] = np.array(offsets, "<u8")
            arrays[f"{name}.xxh3"] = np.array(self._xxh3[name], "<u8")
        arrays |= {name: np.array(values, "<u4") for name, values in self._extra.items()}
        write_index(path, tar, self.facts, arrays)


class ArrayColumn:
    """Write one column of arrays: FOLDER/NAME.tar and FOLDER/NAME.idx.

    Args:
        folder: made when absent.
        name: of the shard.
        facts: of the index.
    """

    def __init__(self, folder: Path, name: str, facts: Mapping[str, Any]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._tar = TarWriter(folder / f"{name}.tar")
        self._path = folder / f"{name}{SUFFIX}"
        self._rows = ArrayRows(dict(facts))

    def add(self, key: str, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Append one record's arrays as `<key>.<name>.npy`."""
        ends: dict[str, int] = {}
        for name, array in arrays.items():
            data = npy_bytes(array)
            ends[name] = self._tar.add(f"{key}.{name}.npy", data) + len(data)
        self._rows.add(key, arrays, ends)

    def close(self) -> None:
        """End the tar and write its index."""
        self._rows.write(self._path, self._tar.close())


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptionRecord:
    """Hold one caption as one text encoder gives it.

    Args:
        source: "alt", "detailed", ...
        text: the caption.
        tokens: [T, D] float16, [T, D + 2] int8 (a float16 scale at each row's end) or [T] int32
            token ids; T from 1 to 65535.
        pooled: [P], float16.
        num_truncated: tokens that did not fit the encoder.
    """

    source: str
    text: str
    tokens: NDArray[Any]
    pooled: NDArray[np.float16]
    num_truncated: int


class CaptionRows:
    """Collect the index of records with captions.

    Args:
        facts: of the index; the sources and a digest of the keys are added.
    """

    def __init__(self, facts: Mapping[str, Any]) -> None:
        self._facts = dict(facts)
        self._keys: list[bytes] = []
        self._base: list[int] = []
        self._first: list[int] = [0]
        self._rows: list[tuple[int, int, int, int, int]] = []
        self._sources: dict[str, int] = {}

    def add(
        self,
        key: str,
        sources: Sequence[str],
        tokens: Sequence[NDArray[Any]],
        offsets: Sequence[int],
        pooled: NDArray[Any],
        pooled_at: int,
    ) -> None:
        """Note one record.

        Args:
            key: of the sample.
            sources: of its captions.
            tokens: of each caption.
            offsets: of each caption's numbers in the tar, in bytes.
            pooled: [N, P], one row a caption.
            pooled_at: offset of its numbers in the tar, in bytes.

        Raises:
            ShardError: a caption has more tokens, or lies further off, than an index can say.
        """
        starts = [pooled_at + i * pooled[i].nbytes if pooled.nbytes else offsets[i]
                  for i in range(len(sources))]  # fmt: skip
        base = min([*offsets, *starts], default=0)
        if max([*offsets, *starts], default=0) - base > _MAX_RELATIVE:
            raise ShardError(
                f"{key}: a sample's captions must lie within 4 GiB of each other, got more; make "
                "shards smaller with bucket.shard_size"
            )
        for source, one, at, start, row in zip(
            sources, tokens, offsets, starts, pooled, strict=True
        ):
            if len(one) > _MAX_TOKENS:
                raise ShardError(
                    f"{key}: a caption must have at most {_MAX_TOKENS} tokens, got {len(one)} in "
                    f"{source}; cut it"
                )
            digest = xxhash.xxh3_64(one.tobytes())
            digest.update(row.tobytes())
            number = self._sources.setdefault(source, len(self._sources))
            self._rows.append((at - base, start - base, len(one), number, digest.intdigest()))
        self._keys.append(bytes.fromhex(key))
        self._base.append(base)
        self._first.append(len(self._rows))

    def write(self, path: Path, tar: TarDigest) -> None:
        """Write the index of the finished tar."""
        facts = {
            **self._facts,
            "sources": list(self._sources),
            "keys_xxh3": xxhash.xxh3_64_hexdigest(b"".join(self._keys)),
        }
        arrays = {
            "base": np.array(self._base, "<u8"),
            "first": np.array(self._first, "<u4"),
            "captions": np.array(self._rows, CAPTION),
        }
        write_index(path, tar, facts, arrays)


class CaptionColumn:
    """Write one text encoder's column: FOLDER/NAME.tar and FOLDER/NAME.idx.

    Args:
        folder: made when absent.
        name: of the shard.
        facts: of the index.
        is_shared: equal captions of the shard are stored once; a later record's json names the
            member that has it.
    """

    def __init__(
        self, folder: Path, name: str, facts: Mapping[str, Any], *, is_shared: bool = False
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._tar = TarWriter(folder / f"{name}.tar")
        self._path = folder / f"{name}{SUFFIX}"
        self._rows = CaptionRows(facts)
        self._is_shared = is_shared
        self._stored: dict[str, tuple[str, int]] = {}

    def add(self, key: str, captions: Sequence[CaptionRecord]) -> None:
        """Append one record's captions, none or more, of different sources."""
        places = [self._add_tokens(key, caption) for caption in captions]
        pooled = np.stack([c.pooled for c in captions]) if captions else np.empty((0, 0), "<f2")
        end = 0
        if pooled.nbytes:
            data = npy_bytes(pooled)
            end = self._tar.add(f"{key}.{POOLED}.npy", data) + len(data)
        self._tar.add(f"{key}.json", _describe(captions, [name for name, _ in places]))
        self._rows.add(
            key,
            [caption.source for caption in captions],
            [caption.tokens for caption in captions],
            [at for _, at in places],
            pooled,
            end - pooled.nbytes,
        )

    def close(self) -> None:
        """End the tar and write its index."""
        self._rows.write(self._path, self._tar.close())

    def _add_tokens(self, key: str, caption: CaptionRecord) -> tuple[str, int]:
        """Store the tokens, or find them; give the member's name and the offset of its numbers."""
        if self._is_shared and caption.text in self._stored:
            return self._stored[caption.text]
        data = npy_bytes(caption.tokens)
        kind = "ids.npy" if caption.tokens.ndim == 1 else "npy"
        name = f"{key}.{caption.source}.{kind}"
        at = self._tar.add(name, data) + len(data) - caption.tokens.nbytes
        self._stored[caption.text] = (name, at)
        return name, at


def _describe(captions: Sequence[CaptionRecord], names: Sequence[str]) -> bytes:
    rows = [
        {
            "source": caption.source,
            "text": caption.text,
            "tokens": len(caption.tokens),
            "truncated": caption.num_truncated,
            "member": name,
        }
        for caption, name in zip(captions, names, strict=True)
    ]
    return json.dumps({"captions": rows}, ensure_ascii=False, sort_keys=True).encode()
