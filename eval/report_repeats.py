"""Find the pictures and captions that come most often: placeholders, stock texts.

    columns repeats.* + pHash + caption, shard by shard -> the most repeated ones

Samples that the stage blocklist withholds are left out.

The columns already count over all shards, so that the few largest are exact in bounded memory.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute

from curate.core.schema import KEY
from curate.core.shard import ShardSet
from curate.core.withheld import BLOCKLIST, may_be_shown
from eval.gallery import Gallery, PictureView

pc: Any = pyarrow.compute  # its functions are made at import, unseen by type checkers

PICTURES, CAPTIONS = "repeats.pictures", "repeats.captions"
HOSTS, TEXTS = "repeats.hosts", "repeats.texts"
LOOK = "phash.phash"


@dataclass(frozen=True, slots=True, kw_only=True)
class RepeatedPicture:
    """Count a picture: samples that have it, different captions and hosts among them."""

    key: str
    num_samples: int
    num_captions: int
    num_hosts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RepeatedCaption:
    """Count a caption: samples that have it."""

    text: str
    num_samples: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Repeats:
    """Hold the most repeated pictures, most captions first, and the most repeated captions."""

    pictures: Sequence[RepeatedPicture] = ()
    captions: Sequence[RepeatedCaption] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RepeatsView:
    """Lay them out."""

    pictures: Sequence[PictureView]
    captions: Sequence[RepeatedCaption]


def find_repeats(inputs: Mapping[str, ShardSet], num_pictures: int, num_captions: int) -> Repeats:
    """Find what comes most often; nothing without the stages repeats, annotate and ingest.

    Args:
        inputs: stage -> its shards.
        num_pictures: how many pictures.
        num_captions: how many captions.
    """
    if not {"repeats", "annotate", "ingest"} <= inputs.keys():
        return Repeats()
    pictures: dict[int, RepeatedPicture] = {}  # by look
    captions: dict[str, RepeatedCaption] = {}  # by text without case and white space
    for shard in inputs["repeats"].shards():
        table = inputs["repeats"].table(shard, [KEY, PICTURES, CAPTIONS, HOSTS, TEXTS])
        table = may_be_shown(table, inputs.get(BLOCKLIST), shard)
        _add_pictures(pictures, inputs["annotate"], shard, table)
        _add_captions(captions, inputs["ingest"], shard, table)
        pictures = dict(sorted(pictures.items(), key=_rank_picture)[:num_pictures])
        captions = dict(sorted(captions.items(), key=_rank_caption)[:num_captions])
    return Repeats(pictures=list(pictures.values()), captions=list(captions.values()))


def view_repeats(repeats: Repeats, gallery: Gallery) -> RepeatsView | None:
    """Lay out what comes most often."""
    if not repeats.pictures and not repeats.captions:
        return None
    return RepeatsView(
        pictures=[
            gallery.view(
                item.key,
                detail=_plural(item.num_samples, "sample"),
                mark=f"{_plural(item.num_captions, 'caption')}, {_plural(item.num_hosts, 'host')}",
            )
            for item in repeats.pictures
        ],
        captions=repeats.captions,
    )


def _add_pictures(
    found: dict[int, RepeatedPicture], annotate: ShardSet, shard: str, table: pa.Table
) -> None:
    repeated = table.filter(pc.greater(table[PICTURES], 1))
    looks = _values_of(annotate, shard, LOOK, repeated[KEY])
    for row in repeated.to_pylist():
        look = looks.get(row[KEY])
        known = found.get(look) if look is not None else None
        if look is not None and (known is None or row[KEY] < known.key):
            found[look] = RepeatedPicture(
                key=row[KEY],
                num_samples=row[PICTURES],
                num_captions=row[CAPTIONS],
                num_hosts=row[HOSTS],
            )


def _add_captions(
    found: dict[str, RepeatedCaption], ingest: ShardSet, shard: str, table: pa.Table
) -> None:
    repeated = table.filter(pc.greater(table[TEXTS], 1))
    texts = _values_of(ingest, shard, "caption", repeated[KEY])
    for row in repeated.to_pylist():
        text = texts.get(row[KEY]) or ""
        name = " ".join(text.casefold().split())  # as the stage repeats compares them
        if name not in found or text < found[name].text:
            found[name] = RepeatedCaption(text=text, num_samples=row[TEXTS])


def _values_of(shards: ShardSet, shard: str, column: str, keys: pa.ChunkedArray) -> dict[str, Any]:
    """Read a column's values of some keys; none where the shard has no such column."""
    if column not in shards.schema(shard).names:
        return {}
    table = shards.table(shard, [KEY, column])
    rows = table.filter(pc.is_in(table[KEY], value_set=keys.combine_chunks()))
    return dict(zip(rows[KEY].to_pylist(), rows[column].to_pylist(), strict=True))


def _rank_picture(item: tuple[int, RepeatedPicture]) -> tuple[int, int, int]:
    look, picture = item
    return -picture.num_captions, -picture.num_samples, look


def _rank_caption(item: tuple[str, RepeatedCaption]) -> tuple[int, str]:
    name, caption = item
    return -caption.num_samples, name


def _plural(num: int, noun: str) -> str:
    return f"{num:,} {noun}" if num == 1 else f"{num:,} {noun}s"
