"""Name what the stage blocklist says of samples, and find those of which nothing may be shown.

A sample that it did not let pass has one of REASONS as its status from there on. No picture,
caption or URL of it is shown anywhere; neither of one whose shard the stage has not judged.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import pyarrow as pa
import pyarrow.compute

from curate.core.manifest import Marker, find_markers
from curate.core.schema import KEY, STATUS
from curate.core.shard import ShardSet

pc: Any = pyarrow.compute  # its functions are made at import, unseen by type checkers

BLOCKLIST = "blocklist"  # the stage
HITS = "hits"  # its column: list, purpose, kind, distance of each hit
BLOCKED, OPTED_OUT = "blocked", "opted_out_hash"
HELD, UNMEASURED = "held_low_quality", "held_unmeasured"
REASONS = (BLOCKED, OPTED_OUT, HELD, UNMEASURED)
UNJUDGED = "not yet judged by blocklist"


def find_withheld(blocklist: ShardSet | None, keys: Collection[str]) -> dict[str, str]:
    """Find which of some samples must not be shown: key -> why.

    Args:
        blocklist: the stage's shards; None in a pipeline without it, where nothing is withheld.
        keys: of the samples.
    """
    if blocklist is None or not keys:
        return {}
    withheld = dict.fromkeys(keys, UNJUDGED)
    wanted = pa.array(sorted(keys), pa.string())
    for _, table in blocklist.tables([KEY, STATUS]):
        here = table.filter(pc.is_in(table[KEY], value_set=wanted))
        for key, status in zip(here[KEY].to_pylist(), here[STATUS].to_pylist(), strict=True):
            if status in REASONS:
                withheld[key] = status
            elif withheld.get(key) == UNJUDGED:
                del withheld[key]
    return withheld


def find_withheld_texts(blocklist: ShardSet | None, ingest: ShardSet, column: str) -> set[str]:
    """Find what ingest says of withheld samples: other rows may have it too.

    A row may repeat a withheld URL under a key of its own, and a keeper of dedup hold a withheld
    caption as an alternate, from before the list was there.

    Args:
        blocklist: the stage's shards; None in a pipeline without it.
        ingest: all samples.
        column: "url" or "caption".

    Returns:
        The texts, without white space around them.
    """
    if blocklist is None:
        return set()
    markers = dict(find_markers(blocklist.store, blocklist.shards()))
    found: set[str] = set()
    for shard in ingest.shards():
        marker = markers.get(shard)  # none where nothing was judged
        if marker and not _counts_withheld(marker):
            continue
        rows = ingest.table(shard, [KEY, column])
        shown = may_be_shown(rows, blocklist, shard)[KEY].combine_chunks()
        withheld = rows.filter(pc.invert(pc.is_in(rows[KEY], value_set=shown)))
        found.update(text.strip() for text in withheld[column].to_pylist() if text)
    return found - {""}


def _counts_withheld(marker: Marker) -> bool:
    return any(marker.counts.get(f"dropped.{reason}") for reason in REASONS)


def may_be_shown(table: pa.Table, blocklist: ShardSet | None, shard: str) -> pa.Table:
    """Keep the rows of a shard's table that may be shown; none where it is not judged.

    Args:
        table: has the column `key`.
        blocklist: the stage's shards; None in a pipeline without it.
        shard: whose table it is.
    """
    if blocklist is None:
        return table
    if shard not in blocklist.shards():
        return table.slice(0, 0)
    judged = blocklist.table(shard, [KEY, STATUS])
    is_withheld = pc.is_in(judged[STATUS], value_set=pa.array(REASONS))
    passed = judged.filter(pc.invert(is_withheld))[KEY].combine_chunks()
    return table.filter(pc.is_in(table[KEY], value_set=passed))
