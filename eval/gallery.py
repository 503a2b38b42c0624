"""Hold the pictures of a page: thumbnails and captions of all samples that it shows.

A picture whose `nsfw.score` or `nudenet.score` is too high, or missing where others have one, has
no thumbnail; an empty frame says so in its place. One that the stage blocklist did not let pass has
no caption either, nor has one that it has not judged.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from curate.core.schema import KEY
from curate.core.shard import ShardSet
from curate.core.withheld import find_withheld
from eval.row_stream import take_rows
from eval.thumbnails import load_thumbnails

MAX_UNSAFE: Mapping[str, float] = {
    "nsfw.score": 0.5,  # probability; LAION-5B keeps punsafe below it (arXiv 2210.08402)
    "nudenet.score": 0.25,  # from here on NudeNet 3.4 reports a part (its call of NMSBoxes)
}
"""Column to the highest score with which a picture is shown, inclusive."""


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
    """Hold thumbnails and captions by key, and why pictures are not shown, by key."""

    uris: Mapping[str, str]
    captions: Mapping[str, str]
    hidden: Mapping[str, str] = field(default_factory=dict[str, str])

    def view(self, key: str, mark: str = "", detail: str = "") -> PictureView:
        """Lay out one sample."""
        return PictureView(
            uri=self.uris.get(key, ""),
            caption=self.captions.get(key, ""),
            mark=mark,
            detail=detail,
            absence=self.hidden.get(key, "no picture"),
        )


def open_gallery(
    ingest: ShardSet,
    annotate: ShardSet | None,
    keys: Collection[str],
    side_px: int,
    blocklist: ShardSet | None = None,
) -> Gallery:
    """Load pictures and captions of all chosen samples.

    Args:
        ingest: where the pictures are.
        annotate: where the columns of MAX_UNSAFE are, if they were measured.
        keys: of the samples.
        side_px: longer side of a thumbnail.
        blocklist: whose hits are not shown at all, if the pipeline has it.
    """
    withheld = {key: f"not shown: {why}" for key, why in find_withheld(blocklist, keys).items()}
    told = set(keys) - withheld.keys()
    hidden = find_hidden(annotate, told) | withheld
    return Gallery(
        uris=load_thumbnails(ingest, set(keys) - hidden.keys(), side_px),
        captions={
            row[KEY]: row.get("caption") or "" for row in take_rows(ingest, told, ["caption"])
        },
        hidden=hidden,
    )


def find_hidden(annotate: ShardSet | None, keys: Collection[str]) -> dict[str, str]:
    """Find the samples whose pictures are not shown: key -> what its frame says.

    Where a column of MAX_UNSAFE is there, a sample without a value in it is hidden too.
    """
    rows = {row[KEY]: row for row in take_rows(annotate, keys, list(MAX_UNSAFE))}
    columns = [name for name in MAX_UNSAFE if any(name in row for row in rows.values())]
    found = {key: _say_absence(rows.get(key, {}), columns) for key in keys}
    return {key: absence for key, absence in found.items() if absence}


def _say_absence(row: Mapping[str, Any], columns: Collection[str]) -> str:
    """Say why a picture is not shown; "" if it is."""
    scores = {name: math.nan if row.get(name) is None else row[name] for name in columns}
    if any(score > MAX_UNSAFE[name] for name, score in scores.items()):  # never true of NaN
        return "not shown: nsfw"
    return "not shown: not measured" if any(map(math.isnan, scores.values())) else ""
