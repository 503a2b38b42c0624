"""Show one cluster of duplicates: who stays, who goes and on what evidence, and how they look.

dedup's tables -> rows of the cluster, keeper first -> sizes and captions of ingest
                                                    -> one sheet under `.thumbnails`
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from curate.core.errors import DataError
from curate.core.store import Store
from pipelines.inspect import SHEET, open_stage, withheld_of

if TYPE_CHECKING:
    import pyarrow as pa

    from curate.core.shard import ShardSet

_MAX_CELLS = 120  # of a sheet, twenty rows; chosen by us: 5 MB
_COLUMNS = ("key", "cluster", "keeper", "edge", "distance")


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterMember:
    """Hold one sample of a cluster.

    Args:
        edge: kind of its edge to the keeper; "keeper" for the keeper.
        distance: to the keeper: bits, or 1 - cosine; None for the keeper.
        height: in pixels.
        width: in pixels.
    """

    key: str
    shard: str
    edge: str
    distance: float | None
    height: int
    width: int
    caption: str

    def describe_edge(self) -> str:
        """Give kind and distance in a few words."""
        return self.edge if not self.distance else f"{self.edge} {self.distance:.3g}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterView:
    """Hold what is shown of a cluster.

    Args:
        members: the keeper first, then the strongest edge first.
        num_members: of the whole cluster.
        num_withheld: of them on a block list, or not held against it: nothing of them is shown.
        sheet: path of the sheet.
    """

    members: Sequence[ClusterMember]
    num_members: int
    num_withheld: int
    sheet: str


def show_cluster(out: Store, cluster: str, *, limit: int) -> ClusterView:
    """Read a cluster and draw its sheet.

    Args:
        out: folder of a run.
        cluster: the keeper's key.
        limit: members shown, the keeper among them.

    Raises:
        ConfigError: the run has no dedup.
        DataError: there is no such cluster.
    """
    rows = _find_rows(out, cluster)
    withheld = withheld_of(out, {row["key"] for row in rows})
    chosen = [row for row in rows if row["key"] not in withheld][:limit]
    members = _describe(open_stage(out, "ingest"), chosen)
    return ClusterView(
        members=members,
        num_members=len(rows),
        num_withheld=len(withheld),
        sheet=_write_sheet(out, cluster, members),
    )


def _find_rows(out: Store, cluster: str) -> list[dict[str, Any]]:
    """Find a cluster's rows: the keeper's, then those of the strongest edge, by key."""
    import pyarrow.dataset as ds

    from curate.stages.duplicates.edges import KIND_NAMES

    rows: list[dict[str, Any]] = []
    elsewhere = ""
    for shard, table in open_stage(out, "dedup").tables(_COLUMNS):
        here = table.filter((ds.field("cluster") == cluster) | (ds.field("key") == cluster))
        for row in here.to_pylist():
            if row["cluster"] == cluster:
                rows.append({"shard": shard, **row})
            elsewhere = elsewhere or row["cluster"] or ""
    if not rows:
        hint = f"its cluster is {elsewhere}" if elsewhere else "it must be a keeper's key"
        raise DataError(
            f"cluster: must be one of {out.url}/dedup, got {cluster!r}; {hint}, "
            f"see `curate show out={out.url} stage=dedup`"
        )

    def strength(row: Mapping[str, Any]) -> tuple[bool, int, float, str]:
        is_member = row["key"] != row["keeper"]
        kind = KIND_NAMES.index(row["edge"]) if is_member else 0
        return is_member, kind, row["distance"] or 0.0, row["key"]

    return sorted(rows, key=strength)


def _describe(ingested: ShardSet, rows: Sequence[Mapping[str, Any]]) -> list[ClusterMember]:
    """Add size and caption."""
    facts: dict[str, dict[str, Any]] = {}
    for shard in dict.fromkeys(row["shard"] for row in rows):
        keys = [row["key"] for row in rows if row["shard"] == shard]
        table = ingested.table(shard, ["key", "caption", "height", "width"])
        facts |= {row["key"]: row for row in _rows_of(table, keys)}
    return [
        ClusterMember(
            key=row["key"],
            shard=row["shard"],
            edge=row["edge"] if row["key"] != row["keeper"] else "keeper",
            distance=row["distance"] if row["key"] != row["keeper"] else None,
            height=facts[row["key"]]["height"] or 0,
            width=facts[row["key"]]["width"] or 0,
            caption=facts[row["key"]]["caption"] or "",
        )
        for row in rows
        if row["key"] in facts  # taken out of ingest since then
    ]


def _rows_of(table: pa.Table, keys: Sequence[str]) -> list[dict[str, Any]]:
    import pyarrow.dataset as ds

    return table.filter(ds.field("key").isin(list(keys))).to_pylist()


def _write_sheet(out: Store, cluster: str, members: Sequence[ClusterMember]) -> str:
    """Draw the members on one sheet; give its path."""
    from curate.core.image import encode_image
    from curate.core.shard import ShardSet
    from eval.gallery import find_hidden
    from pipelines.contact_sheet import SIDE_PX, SheetCell, draw_sheet

    drawn = members[:_MAX_CELLS]
    annotate = ShardSet(out.child("annotate"))
    hidden = find_hidden(annotate, [member.key for member in drawn])
    wanted = [member for member in drawn if member.key not in hidden]
    images = _read_thumbnails(open_stage(out, "ingest"), wanted, SIDE_PX)
    cells = [
        SheetCell(
            image=images.get(member.key),
            lines=(member.key[:12], f"{member.describe_edge()}, {member.width}x{member.height}"),
            absence=hidden.get(member.key, "no picture"),
        )
        for member in drawn
    ]
    name = f".thumbnails/{SHEET}{cluster}.png"
    out.write(name, encode_image(draw_sheet(cells), "png"))
    return str(out.local_path(name))


def _read_thumbnails(
    ingested: ShardSet, members: Sequence[ClusterMember], side_px: int
) -> dict[str, Any]:
    """Read pictures, made small at once; what does not decode is left out."""
    from curate.stages.pictures import read_pictures

    found: dict[str, Any] = {}
    for shard in dict.fromkeys(member.shard for member in members):
        keys = {member.key for member in members if member.shard == shard}
        for picture in read_pictures(ingested, shard, keys, damaged={}):
            picture.image.thumbnail((side_px, side_px))
            found[picture.key] = picture.image
    return found
