"""Hold the pictures of a page: thumbnails and captions of all samples that it shows.

A picture whose `nsfw.score` is above 0.5 has no thumbnail; an empty frame says so in its place.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from curate.core.schema import KEY
from curate.core.shard import ShardSet
from eval.row_stream import take_rows
from eval.thumbnails import load_thumbnails

MAX_NSFW = 0.5  # probability; LAION-5B keeps punsafe below it (arXiv 2210.08402)
NSFW = "nsfw.score"


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureView:
    """Hold one picture with its words; `uri` "" shows an empty frame that says `absence`."""

    uri: str
    caption: str
    mark: str = ""
    detail: str = ""
    absence: str = "no picture"


@dataclass(frozen=True, slots=True, kw_only=True)
class Gallery:
    """Hold thumbnails and captions by key, and the keys whose pictures are not shown."""

    uris: Mapping[str, str]
    captions: Mapping[str, str]
    hidden: Collection[str] = ()

    def view(self, key: str, mark: str = "", detail: str = "") -> PictureView:
        """Lay out one sample."""
        return PictureView(
            uri=self.uris.get(key, ""),
            caption=self.captions.get(key, ""),
            mark=mark,
            detail=detail,
            absence="not shown: nsfw" if key in self.hidden else "no picture",
        )


def open_gallery(
    ingest: ShardSet, annotate: ShardSet | None, keys: Collection[str], side_px: int
) -> Gallery:
    """Load pictures and captions of all chosen samples.

    Args:
        ingest: where the pictures are.
        annotate: where `nsfw.score` is, if it was measured.
        keys: of the samples.
        side_px: longer side of a thumbnail.
    """
    hidden = find_hidden(annotate, keys)
    return Gallery(
        uris=load_thumbnails(ingest, set(keys) - hidden, side_px),
        captions={
            row[KEY]: row.get("caption") or "" for row in take_rows(ingest, keys, ["caption"])
        },
        hidden=hidden,
    )


def find_hidden(annotate: ShardSet | None, keys: Collection[str]) -> set[str]:
    """Find the samples whose pictures are not shown."""
    rows = take_rows(annotate, keys, [NSFW])
    return {row[KEY] for row in rows if (row.get(NSFW) or 0.0) > MAX_NSFW}
