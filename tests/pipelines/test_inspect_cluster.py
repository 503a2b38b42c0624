"""`curate show cluster=KEY` tells who stays and why the others go, and draws them on one sheet."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from curate.core.commit import Output, commit
from curate.core.image import encode_image
from curate.core.manifest import Identity
from curate.core.schema import INGEST_SCHEMA, OK, VERDICT_FIELDS, make_key
from curate.core.seed import make_rng
from curate.core.shard import ShardWriter
from curate.core.store import LocalStore
from curate.stages.duplicates.clusters import CLUSTER_FIELDS
from pipelines.cli import EXIT_OK, EXIT_USER, main
from pipelines.contact_sheet import COLUMNS, MARGIN_PX, SIDE_PX, SheetCell, draw_sheet
from pipelines.inspect_cluster import ClusterView, show_cluster

DEDUP = pa.schema([*VERDICT_FIELDS, *CLUSTER_FIELDS])
VERDICTS = pa.schema(VERDICT_FIELDS)
MEASURED = pa.schema([*VERDICT_FIELDS[:2], ("nsfw.score", pa.float32())])
RED, GREEN, BLUE, GREY, OTHER = (make_key(name) for name in ("red", "green", "blue", "grey", "o"))
COLORS = {
    RED: (200, 0, 0),
    GREEN: (0, 200, 0),
    BLUE: (0, 0, 200),
    GREY: (90, 90, 90),
    OTHER: (200, 200, 0),
}
# The keeper is red; blue is equal, green is near, grey is alike, all in other shards or places.
EDGES = {BLUE: ("exact", 0.0), GREEN: ("near", 4.0), GREY: ("semantic", 0.03125)}
ORDER = [RED, BLUE, GREEN, GREY]
SHARDS = {"00000": [GREEN, OTHER, RED], "00001": [GREY, BLUE]}


def finish(
    out: Path,
    stage: str,
    shard: str,
    schema: pa.Schema,
    rows: Sequence[Mapping[str, Any]],
    pictures: Mapping[str, bytes] | None = None,
) -> None:
    """Commit one finished shard of a stage, as the engine does."""
    work = out / "work"
    work.mkdir(parents=True)
    with ShardWriter(work, shard, schema, with_tar=pictures is not None) as writer:
        for row in rows:
            sample = {"status": OK, **row}
            if pictures is None:
                writer.write(sample)
            else:
                data = pictures[row["key"]]
                sample |= {"bytes": len(data), "offset": 0}
                sample["offset"] = writer.write(sample, {"png": data})["png"][0]
    identity = Identity(stage=stage, version=1, seed=0, config={}, models={}, inputs={}, params={})
    folder = out / stage
    folder.mkdir(exist_ok=True)
    commit(work, Output(store=LocalStore(folder)), shard, identity, {"in": len(rows)})
    work.rmdir()


def make_run(
    out: Path,
    *,
    withheld: Mapping[str, str] | None = None,
    nsfw: Mapping[str, float] | None = None,
) -> LocalStore:
    stages = ["ingest", "annotate", "filter", "dedup"]
    for shard, keys in SHARDS.items():
        pictures = {
            key: encode_image(Image.new("RGB", (40, 20), COLORS[key]), "png") for key in keys
        }
        rows = [{"key": key, "caption": f"it is {key}", "width": 40, "height": 20} for key in keys]
        finish(out, "ingest", shard, INGEST_SCHEMA, rows, pictures)
        verdicts = [{"key": key, "keep": key in (RED, OTHER), "reason": ""} for key in keys]
        for row in verdicts:
            if row["key"] in ORDER:
                edge, distance = EDGES.get(row["key"], (None, None))
                row |= {"cluster": RED, "keeper": RED, "edge": edge, "distance": distance}
        finish(out, "dedup", shard, DEDUP, verdicts)
        if nsfw is not None:
            scores = [{"key": key, "nsfw.score": nsfw.get(key, 0.0)} for key in keys]
            finish(out, "annotate", shard, MEASURED, scores)
        if withheld is not None:
            said = [
                {"key": key, "status": withheld.get(key, OK), "keep": key not in withheld,
                 "reason": withheld.get(key, "")}
                for key in keys
            ]  # fmt: skip
            finish(out, "blocklist", shard, VERDICTS, said)
    stages += ["blocklist"] if withheld is not None else []
    (out / "run.json").write_text(json.dumps({"pipeline": "base", "stages": stages}))
    return LocalStore(out)


def colors_of(view: ClusterView) -> list[tuple[int, ...]]:
    """Give the colour in the middle of each cell of a sheet of one row."""
    with Image.open(view.sheet) as sheet:
        pixels = np.asarray(sheet.convert("RGB"))
    step = SIDE_PX + MARGIN_PX
    middle = MARGIN_PX + SIDE_PX // 2
    return [tuple(pixels[middle, x].tolist()) for x in range(middle, pixels.shape[1], step)]


def test_the_keeper_comes_first_then_the_strongest_edge(tmp_path: Path) -> None:
    view = show_cluster(make_run(tmp_path), RED, limit=10)
    assert [member.key for member in view.members] == ORDER
    told = [member.describe_edge() for member in view.members]
    assert told == ["keeper", "exact", "near 4", "semantic 0.0312"]
    assert view.members[1].caption == f"it is {BLUE}"
    assert (view.members[1].shard, view.members[1].width, view.members[1].height) == (
        "00001", 40, 20,
    )  # fmt: skip
    assert Path(view.sheet) == tmp_path / ".thumbnails" / f"cluster-{RED}.png"
    assert colors_of(view) == [COLORS[key] for key in ORDER]


def test_a_limit_says_what_it_left_out(tmp_path: Path) -> None:
    view = show_cluster(make_run(tmp_path), RED, limit=2)
    assert [member.key for member in view.members] == ORDER[:2]
    assert (view.num_members, view.num_withheld) == (4, 0)
    assert colors_of(view) == [COLORS[key] for key in ORDER[:2]]


@pytest.mark.parametrize("key", [RED, GREEN])
def test_nothing_of_a_blocked_sample_is_shown(tmp_path: Path, key: str) -> None:
    view = show_cluster(make_run(tmp_path, withheld={key: "blocked"}), RED, limit=10)
    left = [other for other in ORDER if other != key]
    assert [member.key for member in view.members] == left
    assert view.num_withheld == 1
    assert colors_of(view) == [COLORS[other] for other in left]


def test_an_unsafe_picture_is_an_empty_frame(tmp_path: Path) -> None:
    view = show_cluster(make_run(tmp_path, nsfw={BLUE: 0.9}), RED, limit=10)
    assert [member.key for member in view.members] == ORDER
    colors = colors_of(view)
    assert colors[0] == COLORS[RED]
    assert COLORS[BLUE] not in colors


@pytest.mark.parametrize(
    ("key", "hint"),
    [
        ("0" * 20, "it must be a keeper's key"),
        (GREEN, f"its cluster is {RED}"),
        (OTHER, "it must be a keeper's key"),
    ],
)
def test_a_cluster_that_is_not_there_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    key: str, hint: str,
) -> None:  # fmt: skip
    make_run(tmp_path)
    monkeypatch.setattr(sys, "argv", ["curate", "show", f"out={tmp_path}", f"cluster={key}"])
    assert main() == EXIT_USER
    assert capsys.readouterr().err == (
        f"curate: cluster: must be one of {tmp_path}/dedup, got '{key}'; {hint}, "
        f"see `curate show out={tmp_path} stage=dedup`\n"
    )


def test_the_verb_prints_a_line_for_each_and_the_path_of_the_sheet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make_run(tmp_path, withheld={BLUE: "blocked"})
    call = ["curate", "show", f"out={tmp_path}", f"cluster={RED}", "limit=2"]
    monkeypatch.setattr(sys, "argv", call)
    assert main() == EXIT_OK
    lines = capsys.readouterr().out.splitlines()
    assert [line.split() for line in lines[:2]] == [
        [RED, "keeper", "40x20", "it", "is", RED],
        [GREEN, "near", "4", "40x20", "it", "is", GREEN],
    ]
    assert lines[2:] == [
        "withheld by blocklist: 1",
        "more: 1; set limit=N",
        f"sheet: {tmp_path}/.thumbnails/cluster-{RED}.png",
    ]


def test_a_cluster_of_a_run_is_shown_with_the_policy_that_chose_its_keeper(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pictures, out = tmp_path / "pictures", tmp_path / "out"
    pictures.mkdir()
    large, other = (
        Image.fromarray(make_rng(0, name).integers(0, 255, (5, 6, 3), dtype=np.uint8)).resize(
            (300, 250), Image.Resampling.BICUBIC
        )
        for name in ("large", "other")
    )
    small = large.resize((150, 125))
    large.save(pictures / "large.png")
    small.save(pictures / "small.png")
    small.save(pictures / "copy.png", compress_level=1)  # other bytes, equal pixels
    other.save(pictures / "other.png")
    words = {"large": "squares", "small": "many squares of all colours", "copy": "squares again"}
    for name, text in words.items():
        (pictures / f"{name}.txt").write_text(text)

    def curate(*arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", ["curate", *arguments])
        assert main() == EXIT_OK
        return capsys.readouterr().out

    curate(
        "run", "engine.name=inline", "stages=[ingest,annotate,filter,dedup]", f"input={pictures}",
        f"out={out}", "annotate.annotators=[pixels,hashes,phash,caption_text]",
        "dedup.keeper=[caption_words,resolution]", "dedup.keep_captions=4",
    )  # fmt: skip
    rows = pq.read_table(out / "dedup" / "00000.parquet").to_pylist()
    keeper = next(row for row in rows if row["alternates"])
    assert keeper["alternates"] == ["squares again", "squares"]
    lines = curate("show", f"out={out}", f"cluster={keeper['key']}").splitlines()
    assert [line.split()[1:] for line in lines[:2]] == [
        ["keeper", "150x125", "many", "squares", "of", "all", "colours"],
        ["pixels", "150x125", "squares", "again"],
    ]
    near = lines[2].split()
    assert (near[1], near[-2:]) == ("near", ["300x250", "squares"])
    assert lines[3:] == [f"sheet: {out}/.thumbnails/cluster-{keeper['key']}.png"]


@pytest.mark.parametrize("other", [f"key={RED}", "reason=duplicate_near", "stage=filter"])
def test_an_option_that_a_cluster_would_ignore_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], other: str
) -> None:
    make_run(tmp_path)
    call = ["curate", "show", f"out={tmp_path}", f"cluster={RED}", other]
    monkeypatch.setattr(sys, "argv", call)
    assert main() == EXIT_USER
    name, value = other.split("=")
    message = f"curate: {name}: must not be set beside cluster, got {value!r}; leave it out\n"
    assert capsys.readouterr().err == message


def test_a_sheet_has_full_rows_and_cuts_long_words() -> None:
    cells = [SheetCell(image=None, lines=("m" * 200,))] * (COLUMNS + 1)
    sheet = np.asarray(draw_sheet(cells))
    step = SIDE_PX + MARGIN_PX
    assert sheet.shape[1] == COLUMNS * step + MARGIN_PX
    has_ink = (sheet != 255).any(axis=(0, 2))
    margins = np.concatenate(
        [np.arange(n * step, n * step + MARGIN_PX) for n in range(COLUMNS + 1)]
    )
    assert not has_ink[margins].any()
    assert has_ink.sum() > COLUMNS * SIDE_PX // 2
    half = len(sheet) // 2
    assert (sheet[half:, step + MARGIN_PX :] == 255).all()  # one cell in the last row
    assert (sheet[half:, : step + MARGIN_PX] != 255).any()
