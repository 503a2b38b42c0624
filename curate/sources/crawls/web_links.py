"""Collect the picture links of one WARC or WAT file as a table without repeats.

    pages -> links with resolved URLs -> sorted pieces on disk -> merged, repeats dropped -> parquet

A link's key is that of its URL and alt text, as in a URL table. The table is sorted by key, which
spreads hosts: neighbours on a page do not become neighbours in a shard. Of equal links the first in
the file stays; but when any page with this link opts out, the link is opted out.

Losses (a cut file, a bad record) are rows like any other, with their status, so that they reach
the shards, the report and `curate show`. The table has one row group for each output shard; the
file's metadata holds a digest of each, so that planning reads keys and digests only.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from curate.core.merge import BATCH_ROWS, merge_sorted, read_pieces
from curate.core.schema import OK, make_key
from curate.core.tombstones import TAKEN_DOWN
from curate.sources.config import IngestConfig
from curate.sources.crawls.page import Page, PageImage, join_url
from curate.sources.crawls.warc_blocks import Loss
from curate.sources.fetching.web_url import read_web_url

logger = logging.getLogger(__name__)

OPTED_OUT = "opted_out"
REPEATED = "dropped.repeated_link"
GROUPS = b"groups"  # metadata of the table: JSON list of the digests of its row groups
_PIECE_ROWS = 50_000  # sorted at once; chosen by us: some 60 MB as Python objects
_PIECES = 32  # merged at a time; chosen by us: each holds some 7 MB (measured)
_ORDER = ("key", "rank", "position")

LINKS_SCHEMA = pa.schema(
    [
        pa.field("key", pa.string(), nullable=False),
        pa.field("status", pa.string(), nullable=False),
        pa.field("rank", pa.int8(), nullable=False),  # the lowest of equal keys stays
        pa.field("position", pa.int64(), nullable=False),  # in the file, among its links
        ("error", pa.string()),
        ("url", pa.string()),
        ("caption", pa.string()),
        ("page_url", pa.string()),
        ("license", pa.string()),
    ]
)


def write_links(
    pages: Iterable[Page | Loss],
    file: str,
    target: Path,
    scratch: Path,
    config: IngestConfig,
    removed: Collection[str] = (),
) -> Counter[str]:
    """Write the links of a file's pages.

    Args:
        pages: of the file, in its order.
        file: its name, for messages and for the keys of losses.
        target: of the table.
        scratch: folder for sorted pieces.
        config: rows of a row group, least characters of an alt text.
        removed: keys that were taken down.

    Returns:
        Repeats ("in" and "dropped.repeated_link"), "pages", and the images that are no links:
        "images.no_alt", "images.no_url".
    """
    counts: Counter[str] = Counter()
    pieces = _write_pieces(_rows(pages, file, config.alt_min_chars, counts), scratch)
    tables = [partial(read_pieces, path) for path in pieces]
    merged = merge_sorted(tables, _ORDER, scratch, _PIECES)
    _write_groups(_drop_repeats(merged, counts), target, config.shard_size, removed)
    return counts


def read_group_digests(file: pq.ParquetFile) -> list[str]:
    """Give the digests of a links table's row groups."""
    return json.loads(file.metadata.metadata[GROUPS])


def _rows(
    pages: Iterable[Page | Loss], file: str, alt_min_chars: int, counts: Counter[str]
) -> Iterator[dict[str, Any]]:
    for page in pages:
        if isinstance(page, Loss):
            error = f"{file}, byte {page.offset}: {page.detail}"
            if page.status == "cut_file":
                logger.warning("%s; what comes before is kept", error)
            key = make_key(page.status, file, str(page.offset))
            yield {"key": key, "status": page.status, "error": error}
            continue
        counts["pages"] += 1
        license_ = join_url(page.base, page.license) if page.license else ""
        for image in page.images:
            link = _link(page, image, alt_min_chars, counts)
            if link:
                yield {**link, "page_url": page.url, "license": license_}


def _link(
    page: Page, image: PageImage, alt_min_chars: int, counts: Counter[str]
) -> dict[str, Any] | None:
    """Resolve one image; None when it is no link."""
    caption = " ".join(image.alt.split())
    if len(caption) < alt_min_chars:
        counts["images.no_alt"] += 1
        return None
    url = read_web_url(join_url(page.base, image.src)).url
    if not url:
        counts["images.no_url"] += 1
        return None
    return {
        "key": make_key(url, caption),
        "status": OPTED_OUT if page.opt_out else OK,
        "error": f"the page says {page.opt_out}" if page.opt_out else None,
        "url": url,
        "caption": caption,
    }


def _write_pieces(rows: Iterator[dict[str, Any]], scratch: Path) -> list[Path]:
    """Number the rows and write them in sorted pieces."""
    paths: list[Path] = []
    numbered = enumerate(rows)
    while some := list(islice(numbered, _PIECE_ROWS)):
        ranked = [
            {**row, "position": position, "rank": int(row["status"] == OK)}
            for position, row in some
        ]
        table = pa.Table.from_pylist(ranked, schema=LINKS_SCHEMA)
        paths.append(scratch / f"piece-{len(paths)}.parquet")
        in_order = table.sort_by([(name, "ascending") for name in _ORDER])
        pq.write_table(in_order, paths[-1], row_group_size=BATCH_ROWS)  # the merge holds one each
    return paths


def _drop_repeats(pieces: Iterable[pa.Table], counts: Counter[str]) -> Iterator[pa.Table]:
    last = ""
    for piece in pieces:
        keys = piece["key"].to_pylist()
        is_first = [key != before for key, before in zip(keys, [last, *keys[:-1]], strict=True)]
        num_repeats = len(keys) - sum(is_first)
        counts.update({"in": num_repeats, REPEATED: num_repeats})
        last = keys[-1]
        yield piece.filter(pa.array(is_first))


def _write_groups(
    pieces: Iterable[pa.Table], target: Path, group_rows: int, removed: Collection[str]
) -> None:
    """Write row groups of equal size, and a digest of each into the file's metadata.

    The digests are those of the links as found: a takedown must not make a shard fetch all others
    again.
    """
    digests: list[str] = []
    waiting = LINKS_SCHEMA.empty_table()
    with pq.ParquetWriter(target, LINKS_SCHEMA, compression="zstd") as writer:

        def write(table: pa.Table) -> None:
            writer.write_table(_blank(table, removed), row_group_size=group_rows)
            text = json.dumps(table.to_pylist(), ensure_ascii=False)
            digests.append(hashlib.sha256(text.encode()).hexdigest())

        for piece in pieces:
            waiting = pa.concat_tables([waiting, piece])
            while len(waiting) >= group_rows:
                write(waiting.slice(0, group_rows))
                waiting = waiting.slice(group_rows)
        if len(waiting):
            write(waiting)
        writer.add_key_value_metadata({GROUPS: json.dumps(digests).encode()})


def _blank(table: pa.Table, removed: Collection[str]) -> pa.Table:
    """Keep nothing of the links that were taken down but their key and place."""
    rows = table.to_pylist()
    if not any(row["key"] in removed for row in rows):
        return table
    kept = ("key", "rank", "position")
    blank = [
        {name: row[name] for name in kept} | {"status": TAKEN_DOWN}
        if row["key"] in removed
        else row
        for row in rows
    ]
    return pa.Table.from_pylist(blank, schema=LINKS_SCHEMA)
