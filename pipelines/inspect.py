"""Answer questions about a finished or running `out` from its files alone: status, show, why.

Import stays light: `curate status` reads JSON only.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curate.core.errors import ConfigError, DataError

if TYPE_CHECKING:
    from curate.core.shard import ShardSet

RUN_FILE = "run.json"
SUMMARY = "stage.json"
_STATUS_HEAD = ("stage", "shards", "in", "kept", "dropped", "failed", "state")


def read_run(out: Path) -> dict[str, Any]:
    """Read what `out` belongs to.

    Raises:
        ConfigError: the folder was not made by curate.
    """
    path = out / RUN_FILE
    if not path.exists():
        raise ConfigError(f"out: must be a folder made by `curate run`, got {out}; set out=DIR")
    return json.loads(path.read_text())


def status_table(out: Path) -> list[tuple[str, ...]]:
    """Give a header and a row per stage: shards done, samples in, kept, dropped, failed, state."""
    rows: list[tuple[str, ...]] = [_STATUS_HEAD]
    for stage in read_run(out)["stages"]:
        folder = out / stage
        markers = sorted(folder.glob("*.done.json"))
        num_done = sum(not path.name.startswith("_") for path in markers)
        counts: dict[str, int] = {}
        for path in markers:
            for name, count in json.loads(path.read_text())["counts"].items():
                counts[name] = counts.get(name, 0) + count
        state = "done" if (folder / SUMMARY).exists() else ("partial" if markers else "absent")
        if state == "done" and json.loads((folder / SUMMARY).read_text())["quarantined"]:
            state = "quarantined"
        numbers = (
            counts.get("in", 0),
            counts.get("kept", 0),
            _sum(counts, "dropped."),
            _sum(counts, "failed."),
        )
        rows.append((stage, str(num_done), *(f"{number:,}" for number in numbers), state))
    return rows


def show_rows(
    out: Path, stage: str, *, key: str = "", reason: str = "", limit: int = 10
) -> Iterator[dict[str, Any]]:
    """Yield rows of a stage's tables, filtered, with caption and the path of a thumbnail.

    Raises:
        DataError: the stage has no finished shards.
    """
    shard_set = _open(out, stage)
    found = 0
    for shard, table in shard_set.tables():
        for row in table.to_pylist():
            if key and row["key"] != key:
                continue
            if reason and reason not in (row.get("reason"), row["status"]):
                continue
            story = {name: value for name, value in row.items() if not name.endswith("embedding")}
            yield {"shard": shard, **story, **_picture(out, row["key"])}
            found += 1
            if found >= limit:
                return


def tell_story(out: Path, key: str) -> Iterator[tuple[str, list[str]]]:
    """Yield (stage, lines) for one sample: statuses, scores with thresholds, verdicts, models.

    Raises:
        DataError: no stage knows the key.
    """
    known = False
    for stage in read_run(out)["stages"]:
        lines: list[str] = []
        for row, marker in _rows_of(out, stage, key):
            lines += _tell_row(stage, row, marker)
        known = known or bool(lines)
        if lines:
            yield stage, lines
    if not known:
        raise DataError(
            f"{out}: no stage knows key {key}; see `curate show out={out} stage=ingest`"
        )


def _rows_of(out: Path, stage: str, key: str) -> Iterator[tuple[dict[str, Any], Any]]:
    import pyarrow.dataset as ds

    from curate.core.shard import ShardSet

    shard_set = ShardSet(out / stage)
    for shard in shard_set.shards():
        if not shard_set.table_path(shard).exists():
            continue
        table = shard_set.table(shard)
        if "key" in table.column_names:
            for row in table.filter(ds.field("key") == key).to_pylist():
                yield row, shard_set.marker(shard)


def _tell_row(stage: str, row: Mapping[str, Any], marker: Any) -> list[str]:
    skip = {"key", "clip.image_embedding", "phash.thumbnail", "captions.pooled"}
    lines = [
        f"{name} = {_brief(value)}"
        for name, value in row.items()
        if name not in skip and value not in (None, "", [])
    ]
    if stage == "filter":
        lines += [
            f"threshold {name} {bounds}" for name, bounds in _thresholds(marker.identity.config)
        ]
    lines += [
        f"model {role} sha256 {digest[:12]}" for role, digest in marker.identity.models.items()
    ]
    return lines


def _thresholds(config: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for rule, bounds in config.items():
        ends = [f">= {bounds['min']:g}"] if bounds.get("min") is not None else []
        ends += [f"<= {bounds['max']:g}"] if bounds.get("max") is not None else []
        if ends:
            yield rule, " and ".join(ends)


def _picture(out: Path, key: str) -> dict[str, str]:
    """Give the caption of a sample and write its picture to a file one can open."""
    from curate.core.image import encode_image
    from curate.stages.pictures import read_pictures

    ingested = _open(out, "ingest")
    for shard, table in ingested.tables(["key", "status"]):
        if key not in table["key"].to_pylist():
            continue
        for picture in read_pictures(ingested, shard, {key}):
            path = out / ".thumbnails" / f"{key}.png"
            path.parent.mkdir(exist_ok=True)
            picture.image.thumbnail((256, 256))
            path.write_bytes(encode_image(picture.image, "png"))
            return {"caption": picture.caption, "thumbnail": str(path)}
    return {}


def _open(out: Path, stage: str) -> ShardSet:
    from curate.core.shard import ShardSet

    stages: Sequence[str] = read_run(out)["stages"]
    if stage not in stages:
        raise ConfigError(f"stage: must be one of {', '.join(stages)}, got {stage!r}; choose one")
    shard_set = ShardSet(out / stage)
    shards = shard_set.shards()
    if shards and not shard_set.table_path(shards[0]).exists():
        raise DataError(f"{out / stage}: has no tables to show, got files only; open them")
    if not shards:
        raise DataError(
            f"{out / stage}: must hold finished shards, got none; run `curate run stage={stage}`"
        )
    return shard_set


def _sum(counts: Mapping[str, int], prefix: str) -> int:
    return sum(count for name, count in counts.items() if name.startswith(prefix))


def _brief(value: Any) -> str:
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    return text if len(text) <= 200 else text[:197] + "..."
