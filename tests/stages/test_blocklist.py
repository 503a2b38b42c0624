"""What is on a list does not pass, and what cannot be held against a list is not let through."""

from __future__ import annotations

import dataclasses
import hashlib
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pdqhash
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from curate.core.commit import Output
from curate.core.engine import run_stage
from curate.core.engine_config import EngineConfig
from curate.core.errors import ShardError, StageError
from curate.core.executor import InlineExecutor
from curate.core.manifest import State, Task
from curate.core.schema import OK
from curate.core.seed import make_rng
from curate.core.shard import ShardSet
from curate.core.stage import Place, plan_wave
from curate.core.store import LocalStore
from curate.stages.blocklist import BlocklistStage
from curate.stages.filter import FilterStage
from curate.stages.filtering.config import Bounds, FilterConfig
from curate.stages.matching.blocklist_config import BlocklistConfig, ListConfig
from pipelines.request import parse_request
from pipelines.run import run_request
from tests.silent import Silent

NAMES = ("a", "b", "c", "d", "flat", "turned")


def scene(seed: int) -> Image.Image:
    coarse = make_rng(seed, "scene").integers(0, 256, (9, 12, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((96, 72), Image.Resampling.BICUBIC)


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ingest and annotate six pictures and a broken file."""
    folder = tmp_path_factory.mktemp("measured")
    pictures = folder / "pictures"
    pictures.mkdir()
    for seed, name in enumerate("abcd"):
        scene(seed).save(pictures / f"{name}.png")
    Image.new("RGB", (64, 64), (9, 9, 9)).save(pictures / "flat.png")
    scene(0).transpose(Image.Transpose.ROTATE_90).save(pictures / "turned.png")
    (pictures / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n nothing more")
    run_request(
        parse_request(
            [f"input={pictures}", f"out={folder / 'out'}", "stages=[ingest,annotate]",
             "engine=inline", "annotate.annotators=[pixels,pdq]", "annotate.pdq_dihedral=true"]
        ),
        Silent(),
    )  # fmt: skip
    return folder


def bytes_of(measured: Path, name: str) -> bytes:
    return (measured / "pictures" / f"{name}.png").read_bytes()


def pdq_of(measured: Path, name: str, *, flipped: int = 0) -> str:
    """Hash a picture with the library, and change some bits."""
    with Image.open(measured / "pictures" / f"{name}.png") as image:
        bits = pdqhash.compute(np.asarray(image))[0].copy()
    bits[make_rng(1, "flip", name).permutation(256)[:flipped]] ^= 1
    return np.packbits(bits).tobytes().hex()


def keys(measured: Path) -> dict[str, str]:
    """Give key -> name of the pictures."""
    names = {hashlib.sha256(bytes_of(measured, name)).hexdigest(): name for name in NAMES}
    table = ShardSet(measured / "out" / "ingest").table("00000", ["key", "sha256"])
    return {row["key"]: names.get(row["sha256"], "broken") for row in table.to_pylist()}


def build(
    measured: Path, lists: Mapping[str, ListConfig], annotate: Path | None = None
) -> BlocklistStage:
    out = measured / "out"
    inputs = {
        "ingest": ShardSet(out / "ingest"),
        "annotate": ShardSet(annotate or out / "annotate"),
    }
    return BlocklistStage(BlocklistConfig(lists=dict(lists)), inputs, {}, 0)


def judge(
    measured: Path, tmp_path: Path, lists: Mapping[str, ListConfig], annotate: Path | None = None
) -> tuple[dict[str, dict[str, Any]], Counter[str]]:
    """Run the stage: name -> row, and the counts."""
    out = tmp_path / "judged" / "blocklist"
    out.mkdir(parents=True, exist_ok=True)
    stage = build(measured, lists, annotate)
    stage.setup()
    ((task,),) = list(stage.waves())
    counts = stage.run(task, Place(out=out, scratch=out))
    rows = pq.read_table(out / "00000.parquet").to_pylist()
    names = keys(measured)
    return {names[row["key"]]: row for row in rows}, counts


def a_list(tmp_path: Path, text: str, name: str = "list.txt", **options: Any) -> ListConfig:
    path = tmp_path / name
    path.write_text(text)
    given: dict[str, Any] = {"path": str(path), "purpose": "harm", **options}
    return ListConfig(**given)


def blocked(rows: Mapping[str, Mapping[str, Any]]) -> set[str]:
    return {name for name, row in rows.items() if row["reason"] == "blocked"}


@pytest.mark.parametrize("kind", ["md5", "sha1", "sha256"])
def test_a_file_is_found_by_its_digest(measured: Path, tmp_path: Path, kind: str) -> None:
    digest = hashlib.new(kind, bytes_of(measured, "b")).hexdigest().upper()
    rows, counts = judge(measured, tmp_path, {"known": a_list(tmp_path, f"{kind} {digest}\n")})
    assert blocked(rows) == {"b"}
    assert rows["b"]["status"] == rows["b"]["reason"] == "blocked"
    assert not rows["b"]["keep"]
    (hit,) = rows["b"]["hits"]
    assert (hit["list"], hit["kind"], hit["distance"]) == ("known", kind, 0)
    assert counts == {"in": 7, "kept": 5, "dropped.blocked": 1, "failed.not_image": 1}


def test_the_radius_is_inclusive(measured: Path, tmp_path: Path) -> None:
    lists = {
        "near": a_list(tmp_path, f"pdq {pdq_of(measured, 'b', flipped=31)}", "near.txt"),
        "far": a_list(tmp_path, f"pdq {pdq_of(measured, 'c', flipped=32)}", "far.txt"),
        "same": a_list(
            tmp_path, f"pdq {pdq_of(measured, 'd', flipped=1)}", "same.txt", pdq_radius=0
        ),
    }
    rows, _ = judge(measured, tmp_path, lists)
    assert blocked(rows) == {"b"}
    assert [(hit["list"], hit["distance"]) for hit in rows["b"]["hits"]] == [("near", 31)]


def test_turned_copies_are_found_where_dihedral_forms_were_measured(
    measured: Path, tmp_path: Path
) -> None:
    lists = {"known": a_list(tmp_path, f"pdq {pdq_of(measured, 'a')}")}
    rows, _ = judge(measured, tmp_path, lists)
    assert blocked(rows) == {"a", "turned"}
    rows, _ = judge(measured, tmp_path, lists, change_annotate(measured, tmp_path, dihedral=False))
    assert blocked(rows) == {"a"}


def change_annotate(
    measured: Path, tmp_path: Path, *, dihedral: bool = True, unmeasured: str = ""
) -> Path:
    """Copy annotate's shard without the turned hashes, or without one picture's hash."""
    source, folder = measured / "out" / "annotate", tmp_path / "annotate"
    folder.mkdir()
    table = pq.read_table(source / "00000.parquet")
    if not dihedral:
        table = table.drop_columns(["pdq.dihedral"])
    names = [keys(measured)[key] for key in table["key"].to_pylist()]
    for column in ("pdq.hash", "pdq.quality", "pdq.dihedral"):
        if column in table.column_names:
            values = table[column].to_pylist()
            values = [None if n == unmeasured else v for n, v in zip(names, values, strict=True)]
            place = table.column_names.index(column)
            kind = table.schema.field(column).type
            table = table.set_column(place, column, pa.array(values, kind))
    pq.write_table(table, folder / "00000.parquet")
    (folder / "00000.done.json").write_bytes((source / "00000.done.json").read_bytes())
    return folder


def test_a_low_quality_hash_matches_nothing_but_is_no_bypass(
    measured: Path, tmp_path: Path
) -> None:
    own_hash = f"pdq {pdq_of(measured, 'flat')}\n"
    rows, _ = judge(measured, tmp_path, {"known": a_list(tmp_path, own_hash)})
    assert rows["flat"]["keep"]
    digest = hashlib.sha256(bytes_of(measured, "flat")).hexdigest()
    both = a_list(tmp_path, f"{own_hash}sha256 {digest}\n", "both.txt")
    rows, _ = judge(measured, tmp_path, {"known": both})
    assert [hit["kind"] for hit in rows["flat"]["hits"]] == ["sha256"]
    rows, counts = judge(
        measured, tmp_path, {"known": a_list(tmp_path, own_hash, low_quality="hold")}
    )
    assert (rows["flat"]["status"], rows["flat"]["keep"]) == ("held_low_quality", False)
    assert rows["flat"]["hits"] == []
    assert counts["dropped.held_low_quality"] == 1
    assert rows["a"]["keep"]
    held = a_list(tmp_path, f"{own_hash}sha256 {digest}\n", "held.txt", low_quality="hold")
    rows, _ = judge(measured, tmp_path, {"known": held})
    assert rows["flat"]["status"] == "blocked"  # a hit goes before doubt
    lists = {"known": a_list(tmp_path, own_hash, low_quality="hold"), "more": both}
    rows, _ = judge(measured, tmp_path, {**lists, "other": a_list(tmp_path, own_hash, "o.txt")})
    assert rows["flat"]["status"] == "blocked"
    assert rows["turned"]["keep"]


def test_hold_asks_for_nothing_of_a_list_without_pdq(measured: Path, tmp_path: Path) -> None:
    rows, _ = judge(measured, tmp_path, {"known": a_list(tmp_path, "a1" * 16, low_quality="hold")})
    assert all(row["keep"] for name, row in rows.items() if name != "broken")


def test_a_picture_without_a_hash_does_not_pass_a_list_of_them(
    measured: Path, tmp_path: Path
) -> None:
    annotate = change_annotate(measured, tmp_path, unmeasured="c")
    known = a_list(tmp_path, f"pdq {pdq_of(measured, 'a')}")
    rows, _ = judge(measured, tmp_path, {"known": known}, annotate)
    assert rows["c"]["status"] == "held_unmeasured"
    exact = a_list(tmp_path, "a1" * 16, "exact.txt")
    rows, _ = judge(measured, tmp_path, {"known": exact}, annotate)
    assert rows["c"]["keep"]


def test_harm_goes_before_opt_out_and_all_hits_are_kept(measured: Path, tmp_path: Path) -> None:
    digests = {name: hashlib.sha256(bytes_of(measured, name)).hexdigest() for name in ("b", "c")}
    lists = {
        "artists": a_list(
            tmp_path,
            f"sha256 {digests['b']}\nsha256 {digests['c']}\n",
            "artists.txt",
            purpose="opt_out",
        ),
        "known": a_list(tmp_path, f"sha256 {digests['b']}\npdq {pdq_of(measured, 'b')}\n"),
    }
    rows, counts = judge(measured, tmp_path, lists)
    assert rows["b"]["status"] == "blocked"
    assert {(hit["list"], hit["purpose"], hit["kind"]) for hit in rows["b"]["hits"]} == {
        ("artists", "opt_out", "sha256"), ("known", "harm", "sha256"), ("known", "harm", "pdq"),
    }  # fmt: skip
    assert rows["c"]["status"] == "opted_out_hash"
    assert (counts["dropped.blocked"], counts["dropped.opted_out_hash"]) == (1, 1)


def test_without_lists_all_good_samples_pass(measured: Path, tmp_path: Path) -> None:
    rows, counts = judge(measured, tmp_path, {})
    assert {name for name, row in rows.items() if row["keep"]} == set(NAMES)
    assert rows["broken"]["reason"] == rows["broken"]["status"] == "not_image"
    assert counts == {"in": 7, "kept": 6, "failed.not_image": 1}


def test_a_file_that_failed_is_found_by_its_digest_all_the_same(
    measured: Path, tmp_path: Path
) -> None:
    digest = hashlib.sha256(bytes_of(measured, "broken")).hexdigest()
    rows, counts = judge(measured, tmp_path, {"known": a_list(tmp_path, f"sha256 {digest}")})
    assert blocked(rows) == {"broken"}
    assert counts == {"in": 7, "kept": 6, "dropped.blocked": 1}


def test_a_picture_that_ingest_made_smaller_has_no_bytes_to_compare(
    measured: Path, tmp_path: Path
) -> None:
    small = tmp_path / "small"
    run_request(
        parse_request(
            [f"input={measured / 'pictures'}", f"out={small / 'out'}", "stages=[ingest]",
             "engine=inline", "ingest.resize_px=64"]
        ),
        Silent(),
    )  # fmt: skip
    stage = BlocklistStage(
        BlocklistConfig(lists={"known": a_list(tmp_path, "a1" * 16)}),
        {"ingest": ShardSet(small / "out" / "ingest")}, {}, 0,
    )  # fmt: skip
    stage.setup()
    ((task,),) = list(stage.waves())
    counts = stage.run(task, Place(out=tmp_path, scratch=tmp_path))
    assert counts == {  # the flat one is 64 pixels high as it came
        "in": 7, "kept": 1, "dropped.held_unmeasured": 5, "failed.not_image": 1,
    }  # fmt: skip


def test_filter_takes_a_hit_for_a_failed_sample(measured: Path, tmp_path: Path) -> None:
    digest = hashlib.md5(bytes_of(measured, "b")).hexdigest()
    judge(measured, tmp_path, {"known": a_list(tmp_path, digest)})
    out = tmp_path / "filter"
    out.mkdir()
    inputs = {
        "annotate": ShardSet(measured / "out" / "annotate"),
        "blocklist": ShardSet(tmp_path / "judged" / "blocklist"),
    }
    stage = FilterStage(FilterConfig(min_side=Bounds(min=100)), inputs, {}, 0)
    counts = stage.run(Task(shard="00000", inputs={}), Place(out=out, scratch=out))
    rows = {row["key"]: row for row in pq.read_table(out / "00000.parquet").to_pylist()}
    row = next(row for key, row in rows.items() if keys(measured)[key] == "b")
    assert (row["keep"], row["status"], row["reason"]) == (False, "blocked", "blocked")
    assert row["failed_rules"] == []  # no rule looked at it
    assert counts["failed.blocked"] == 1


def test_a_changed_list_makes_the_stage_stale_and_a_moved_one_does_not(
    measured: Path, tmp_path: Path
) -> None:
    item = a_list(tmp_path, "a1" * 16)
    store = LocalStore(tmp_path / "blocklist")
    executor = InlineExecutor(EngineConfig(name="inline"))
    run_stage(build(measured, {"known": item}), Output(store=store), executor, Silent())

    def state(item: ListConfig) -> State:
        stage = build(measured, {"known": item})
        ((task,),) = list(stage.waves())
        (job,) = plan_wave(stage, [task], store)
        return job.state

    assert state(item) is State.DONE
    moved = tmp_path / "moved.txt"
    Path(item.path).rename(moved)
    assert state(dataclasses.replace(item, path=str(moved))) is State.DONE
    kept = dataclasses.replace(item, path=str(moved))
    for changed in (
        dataclasses.replace(kept, pdq_radius=30),
        dataclasses.replace(kept, purpose="opt_out"),
        dataclasses.replace(kept, low_quality="hold"),
    ):
        assert state(changed) is State.STALE
    moved.write_text("a2" * 16)
    assert state(dataclasses.replace(item, path=str(moved))) is State.STALE
    for path in (tmp_path / "blocklist").iterdir():
        assert b"a1" * 16 not in path.read_bytes()  # a list is copied nowhere


def test_a_list_that_changes_during_a_run_stops_it(measured: Path, tmp_path: Path) -> None:
    item = a_list(tmp_path, "a1" * 16)
    stage = build(measured, {"known": item})
    ((task,),) = list(stage.waves())
    Path(item.path).write_text("a2" * 16)
    stage.setup()
    with pytest.raises(StageError, match="must not change during a run"):
        stage.run(task, Place(out=tmp_path, scratch=tmp_path))


def test_a_list_of_pdq_without_its_column_stops_the_stage(measured: Path, tmp_path: Path) -> None:
    stage = build(measured, {"known": a_list(tmp_path, f"pdq {pdq_of(measured, 'a')}")})
    ((task,),) = list(stage.waves())
    blind = BlocklistStage(stage.config, {"ingest": stage.inputs["ingest"]}, {}, 0)
    blind.setup()
    with pytest.raises(StageError, match=r"lists\.known: needs column pdq\.hash.*add pdq"):
        blind.run(task, Place(out=tmp_path, scratch=tmp_path))


def test_columns_of_other_samples_are_not_held_against_these(
    measured: Path, tmp_path: Path
) -> None:
    annotate = change_annotate(measured, tmp_path)
    table = pq.read_table(annotate / "00000.parquet")
    pq.write_table(table.take(list(range(table.num_rows))[::-1]), annotate / "00000.parquet")
    known = a_list(tmp_path, f"pdq {pdq_of(measured, 'a')}")
    with pytest.raises(ShardError, match="must have the keys of ingest, got others in shard 00000"):
        judge(measured, tmp_path, {"known": known}, annotate)


def test_a_shard_that_annotate_gave_up_is_left_out(measured: Path, tmp_path: Path) -> None:
    stage = build(measured, {"known": a_list(tmp_path, "a1" * 16)}, tmp_path / "none")
    assert list(stage.waves()) == [[]]


def test_rows_do_not_depend_on_the_order_of_lists(measured: Path, tmp_path: Path) -> None:
    digest = hashlib.md5(bytes_of(measured, "b")).hexdigest()
    one = a_list(tmp_path, digest, "one.txt")
    two = a_list(tmp_path, f"pdq {pdq_of(measured, 'b')}", "two.txt")
    first, _ = judge(measured, tmp_path, {"one": one, "two": two})
    second, _ = judge(measured, tmp_path, {"two": two, "one": one})
    assert first == second
    assert first["a"]["status"] == OK
