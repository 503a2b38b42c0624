"""Copies of an evaluation set's pictures and prompts are found, reported, dropped or flagged."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from curate.core.commit import Output, commit
from curate.core.engine import StageReport, run_stage
from curate.core.errors import ConfigError, DataError, StageError
from curate.core.executor import InlineExecutor
from curate.core.manifest import Identity, finished_shards
from curate.core.model_ref import ModelRef
from curate.core.schema import VERDICT_FIELDS
from curate.core.seed import make_rng
from curate.core.shard import ShardSet, ShardWriter
from curate.core.stage import Stage
from curate.core.store import LocalStore
from curate.models.packs import load_pack
from curate.sources.config import IngestConfig
from curate.stages.annotate import AnnotateConfig, AnnotateStage
from curate.stages.decontaminate import DecontaminateStage
from curate.stages.ingest import IngestStage
from curate.stages.matching.benchmark_config import Actions, Benchmark, DecontaminateConfig
from curate.stages.matching.embedders import check_model
from tests.models.onnx_files import write_pooling
from tests.silent import Silent

NUM_PICTURES, NUM_COPIES = 12, 5
PROMPT = "a small red cube to the left of a tall green bottle"


def picture(number: int, side: int = 160) -> Image.Image:
    """Draw smooth noise with an edge or two: as many gradients as a photograph has."""
    rng = make_rng(0, "decontaminate", number)
    coarse = rng.integers(0, 256, (9, 9, 3), dtype=np.uint8)
    image = Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC)
    image.paste(tuple(rng.integers(0, 256, 3).tolist()), (20, 30, 60 + number, 90))
    return image


def write_benchmark(folder: Path) -> Path:
    """Write twenty pictures; the samples have copies of the first five."""
    pictures = folder / "benchmark"
    pictures.mkdir(parents=True)
    for number in range(20):
        picture(100 + number).save(pictures / f"{number:02d}.png")
    return pictures


def write_samples(folder: Path, benchmark: Path) -> None:
    """Write twelve pictures of their own, and five copies: each made in another way."""
    folder.mkdir()
    for number in range(NUM_PICTURES):
        picture(number).save(folder / f"own{number:02d}.png")
        (folder / f"own{number:02d}.txt").write_text(f"sample number {number} of its kind")
    (folder / "own00.txt").write_text(f"  {PROMPT.upper()}! ")
    (folder / "own01.txt").write_text(f"stock photo of {PROMPT} on white, free download for all")
    (folder / "own02.txt").write_text("A cat.")
    (folder / "copy0.png").write_bytes((benchmark / "00.png").read_bytes())
    picture(101).save(folder / "copy1.bmp")
    picture(102).resize((120, 120)).save(folder / "copy2.jpg", quality=60)
    picture(103).transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(folder / "copy3.jpg", quality=80)
    picture(104).transpose(Image.Transpose.ROTATE_90).resize((200, 200)).save(folder / "copy4.webp")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Take samples through ingest and annotate, in shards of five; dedup drops the last of all."""
    root = tmp_path_factory.mktemp("decontaminate")
    write_samples(root / "samples", write_benchmark(root))
    (root / "prompts.txt").write_text(f"a cat\n{PROMPT}\na dog on a wall\n")
    ingest, annotate = root / "ingest", root / "annotate"
    config = IngestConfig(source=str(root / "samples"), shard_size=5)
    run(IngestStage(config, {}, {}, 0, own=ShardSet(ingest)), ingest)
    given = {"ingest": ShardSet(ingest)}
    run(
        AnnotateStage(AnnotateConfig(annotators=["hashes", "phash", "pdq"]), given, {}, 0), annotate
    )
    for shard, table in ShardSet(ingest).tables(["key", "status"]):
        write_verdicts(root / "dedup", shard, table["key"].to_pylist())
    return root


def write_verdicts(
    folder: Path, shard: str, keys: Sequence[str], alternates: Sequence[str] = ()
) -> None:
    """Commit a shard of dedup that keeps all samples but the last of shard 00002."""
    work = folder / ".new"
    work.mkdir(parents=True)
    schema = pa.schema([*VERDICT_FIELDS, ("alternates", pa.list_(pa.string()))])
    with ShardWriter(work, shard, schema, with_tar=False) as writer:
        for key in keys:
            keep = shard != "00002" or key != keys[-1]
            reason = "" if keep else "duplicate_near"
            row = {"key": key, "status": "ok", "keep": keep, "reason": reason}
            writer.write({**row, "alternates": list(alternates)})
    parts: dict[str, Any] = {"config": {}, "models": {}, "inputs": {}, "params": {"n": shard}}
    identity = Identity(stage="dedup", version=1, seed=0, **parts)
    num_dropped = int(shard == "00002")
    counts = {"in": len(keys), "kept": len(keys) - num_dropped}
    counts |= {"dropped.duplicate_near": 1} if num_dropped else {}
    commit(work, Output(store=LocalStore(folder)), shard, identity, counts)
    work.rmdir()


def make(home: Path, folder: Path, models: Mapping[str, Any] | None = None, **config: Any) -> Any:
    inputs = {name: ShardSet(home / name) for name in ("dedup", "annotate", "ingest")}
    given = DecontaminateConfig(**config)
    return DecontaminateStage(given, inputs, models or {}, seed=0, own=ShardSet(folder))


def run(stage: Stage[Any], folder: Path) -> StageReport:
    return run_stage(stage, Output(store=LocalStore(folder)), InlineExecutor(), Silent())


def own_set(home: Path) -> dict[str, Benchmark]:
    return {"mine": Benchmark(pictures=str(home / "benchmark"))}


def rows(folder: Path) -> list[dict[str, Any]]:
    tables = [pq.read_table(path) for path in sorted(folder.glob("0*.parquet"))]
    return [row for table in tables for row in table.to_pylist()]


def names(home: Path, found: Sequence[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """Give rows by the stem of the sample's file."""
    ingested = ShardSet(home / "ingest").tables(["key", "source"])
    sources = {
        row["key"]: Path(row["source"]).stem for _, table in ingested for row in table.to_pylist()
    }
    return {sources[row["key"]]: row for row in found}


def summary(folder: Path, name: str = "mine") -> dict[str, Any]:
    return json.loads((folder / f"_items-{name}.json").read_text())


def test_copies_are_dropped_by_bytes_pixels_and_hashes_of_turned_forms(
    home: Path, tmp_path: Path
) -> None:
    report = run(make(home, tmp_path, benchmarks=own_set(home)), tmp_path)
    judged = names(home, rows(tmp_path))
    dropped = {name: row for name, row in judged.items() if row["kind"]}
    assert {name: (row["kind"], row["item"]) for name, row in dropped.items()} == {
        "copy0": ("bytes", "00.png"),
        "copy1": ("pixels", "01.png"),
        "copy2": ("pdq", "02.png"),
        "copy3": ("pdq", "03.png"),
        "copy4": ("pdq", "04.png"),
    }
    assert {row["reason"] for row in dropped.values()} == {"contaminated_picture"}
    assert {row["benchmark"] for row in dropped.values()} == {"mine"}
    assert report.counts["dropped.contaminated_picture"] == NUM_COPIES
    assert report.counts["kept"] == NUM_PICTURES - 1  # dedup has dropped one before


def test_what_dedup_has_dropped_keeps_its_reason_and_is_not_counted(
    home: Path, tmp_path: Path
) -> None:
    report = run(make(home, tmp_path, benchmarks=own_set(home)), tmp_path)
    before = [row for row in rows(home / "dedup") if not row["keep"]]
    after = {row["key"]: row for row in rows(tmp_path)}
    assert [after[row["key"]]["reason"] for row in before] == ["duplicate_near"]
    assert report.counts["in"] == NUM_PICTURES + NUM_COPIES - 1
    ingested = ShardSet(home / "ingest").tables(["key", "source"])
    sources = {row["key"]: row["source"] for _, table in ingested for row in table.to_pylist()}
    (tmp_path / "own").mkdir()
    for row in before:
        shutil.copy(home / "samples" / Path(sources[row["key"]]).name, tmp_path / "own")
    again = make(home, tmp_path / "a", benchmarks={"mine": Benchmark(pictures=f"{tmp_path}/own")})
    run(again, tmp_path / "a")
    told = summary(tmp_path / "a")
    assert (told["pictures"], told["samples"], told["dropped"]) == (1, 0, 0)


def test_a_caption_that_is_a_prompt_is_dropped_and_one_that_holds_it_is_flagged(
    home: Path, tmp_path: Path
) -> None:
    benchmarks = {"parti": Benchmark(prompts=str(home / "prompts.txt"))}
    report = run(make(home, tmp_path, benchmarks=benchmarks), tmp_path)
    judged = names(home, rows(tmp_path))
    told = {
        name: (row["keep"], row["reason"], row["kind"], row["item"])
        for name, row in judged.items()
        if row["kind"]
    }
    assert told == {
        "own00": (False, "contaminated_prompt", "exact", "2"),
        "own01": (True, "", "ngram", "2"),
        "own02": (True, "", "ngram", "1"),  # "a cat" is too short to be telling
    }
    assert report.counts["flagged.contaminated_prompt"] == 2
    assert report.counts["dropped.contaminated_prompt"] == 1


def test_actions_decide_by_kind(home: Path, tmp_path: Path) -> None:
    action = Actions(bytes="flag", pdq="flag", ngram="drop")
    benchmarks = {
        **own_set(home),
        "parti": Benchmark(prompts=str(home / "prompts.txt")),
    }
    run(make(home, tmp_path, benchmarks=benchmarks, action=action), tmp_path)
    judged = names(home, rows(tmp_path))
    assert {name for name, row in judged.items() if row["kind"] and row["keep"]} == {
        "copy0", "copy2", "copy3", "copy4",
    }  # fmt: skip
    assert {name for name, row in judged.items() if row["kind"] and not row["keep"]} == {
        "copy1", "own00", "own01", "own02",
    }  # fmt: skip
    with pytest.raises(ConfigError, match=r"action\.pdq: must be drop or flag, got 'delete'"):
        Actions(pdq="delete")


def test_items_tell_which_were_met_and_by_whom(home: Path, tmp_path: Path) -> None:
    benchmarks = {"both": Benchmark(pictures=str(home / "benchmark"),
                                    prompts=str(home / "prompts.txt"))}  # fmt: skip
    run(make(home, tmp_path, benchmarks=benchmarks), tmp_path)
    items = pq.read_table(tmp_path / "_items-both.parquet").to_pylist()
    assert [item["is_prompt"] for item in items] == [False] * 20 + [True] * 3
    met = {item["item"]: item for item in items if item["is_met"]}
    assert set(met) == {"00.png", "01.png", "02.png", "03.png", "04.png", "1", "2"}
    assert (met["2"]["samples"], met["2"]["dropped"], met["2"]["kind"]) == (2, 1, "exact")
    assert met["2"]["sample"] == names(home, rows(tmp_path))["own00"]["key"]
    told = summary(tmp_path, "both")
    kinds = told.pop("kinds")
    assert told == {
        "benchmark": "both", "pictures": 20, "unreadable": 0, "prompts": 3, "wordless": 0,
        "pictures_met": 5, "prompts_met": 2, "samples": 8, "dropped": 6,
    }  # fmt: skip
    assert kinds["pdq"] == {"items": 3, "samples": 3, "dropped": 3}
    assert kinds["ngram"] == {"items": 2, "samples": 2, "dropped": 0}


def test_the_cut_of_a_benchmark_changes_no_verdict_and_no_item(home: Path, tmp_path: Path) -> None:
    for name, size in (("one", 1000), ("many", 3)):
        stage = make(home, tmp_path / name, benchmarks=own_set(home), shard_size=size)
        run(stage, tmp_path / name)
    assert len(list((tmp_path / "many").glob("_benchmark-mine-*.parquet"))) == 7
    assert rows(tmp_path / "one") == rows(tmp_path / "many")
    assert summary(tmp_path / "one") == summary(tmp_path / "many")


def test_a_benchmark_is_hashed_once(home: Path, tmp_path: Path) -> None:
    run(make(home, tmp_path, benchmarks=own_set(home), shard_size=5), tmp_path)
    num_shards = len(ShardSet(home / "ingest").shards())
    again = run(make(home, tmp_path, benchmarks=own_set(home), shard_size=5), tmp_path)
    assert again.num_run == 0
    other = make(home, tmp_path, benchmarks=own_set(home), shard_size=5, pdq_radius=0)
    assert run(other, tmp_path).num_run == num_shards + 1  # verdicts and items
    more = {**own_set(home), "parti": Benchmark(prompts=str(home / "prompts.txt"))}
    grown = run(make(home, tmp_path, benchmarks=more, shard_size=5, pdq_radius=0), tmp_path)
    assert grown.num_run == 1 + num_shards + 2  # the prompts, verdicts, items of both


def test_a_changed_picture_hashes_its_own_part_again(home: Path, tmp_path: Path) -> None:
    pictures = tmp_path / "set"
    pictures.mkdir()
    for path in sorted((home / "benchmark").iterdir()):
        (pictures / path.name).write_bytes(path.read_bytes())
    benchmarks = {"mine": Benchmark(pictures=str(pictures))}
    run(make(home, tmp_path / "out", benchmarks=benchmarks, shard_size=5), tmp_path / "out")
    own = ShardSet(tmp_path / "out")
    before = {name: own.marker(name).digest for name in finished_shards(own.store)}
    picture(900).save(pictures / "07.png")
    run(make(home, tmp_path / "out", benchmarks=benchmarks, shard_size=5), tmp_path / "out")
    after = {name: own.marker(name).digest for name in finished_shards(own.store)}
    changed = {name for name in before if before[name] != after[name]}
    hashed = {name for name in changed if name.startswith("_benchmark")}
    assert hashed == {"_benchmark-mine-00001"}
    assert "_items-mine" in changed


def test_pictures_that_do_not_decode_are_named_and_stop_the_run_unless_allowed(
    home: Path, tmp_path: Path
) -> None:
    pictures = tmp_path / "set"
    pictures.mkdir()
    picture(100).save(pictures / "good.png")
    (pictures / "cut.png").write_bytes((home / "benchmark" / "01.png").read_bytes()[:3000])
    (pictures / "text.jpg").write_text("not found")
    benchmarks = {"mine": Benchmark(pictures=str(pictures))}
    with pytest.raises(DataError, match=r"mine\.pictures: .* got 2 .*cut\.png.*text\.jpg"):
        run(make(home, tmp_path / "out", benchmarks=benchmarks), tmp_path / "out")
    with pytest.raises(DataError, match="got 2 that do not"):
        run(make(home, tmp_path / "out", benchmarks=benchmarks, max_unreadable=1), tmp_path / "out")
    allowed = make(home, tmp_path / "out", benchmarks=benchmarks, max_unreadable=2)
    run(allowed, tmp_path / "out")
    items = pq.read_table(tmp_path / "out" / "_items-mine.parquet").to_pylist()
    assert {item["item"]: item["status"] for item in items} == {
        "cut.png": "unreadable", "good.png": "ok", "text.jpg": "unreadable",
    }  # fmt: skip
    assert summary(tmp_path / "out")["unreadable"] == 2


def test_no_benchmark_a_missing_one_and_an_empty_one_are_refused(
    home: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=r"decontaminate\.benchmarks: must name"):
        run(make(home, tmp_path), tmp_path)
    for benchmark, message in (
        (Benchmark(pictures=str(tmp_path / "none")), r"mine\.pictures: must exist"),
        (Benchmark(pictures=str(tmp_path)), r"mine\.pictures: must hold pictures"),
        (Benchmark(prompts=str(tmp_path / "none.txt")), r"mine\.prompts: must exist"),
    ):
        with pytest.raises(DataError, match=message):
            run(make(home, tmp_path / "out", benchmarks={"mine": benchmark}), tmp_path / "out")
    with pytest.raises(ConfigError, match=r"thumbnail_change: must be in \[0, 1\], got nan"):
        DecontaminateConfig(thumbnail_change=float("nan"))  # nothing would match
    with pytest.raises(ConfigError, match=r"mine: must have pictures or prompts"):
        DecontaminateConfig(benchmarks={"mine": Benchmark()})
    with pytest.raises(ConfigError, match=r"a name must be of lower-case letters"):
        DecontaminateConfig(benchmarks={"My Set": Benchmark(prompts="x.txt")})
    with pytest.raises(ConfigError, match=r"mine\.format: must be auto or one of .* 'docx'"):
        DecontaminateConfig(benchmarks={"mine": Benchmark(prompts="x.txt", format="docx")})


def test_columns_that_were_not_measured_are_named(home: Path, tmp_path: Path) -> None:
    stage = make(home, tmp_path / "out", benchmarks=own_set(home))
    annotate = tmp_path / "annotate"
    given = {"ingest": stage.inputs["ingest"]}
    run(AnnotateStage(AnnotateConfig(annotators=["hashes"]), given, {}, 0), annotate)
    stage.inputs = {**stage.inputs, "annotate": ShardSet(annotate)}
    with pytest.raises(StageError, match=r"needs column pdq\.hash.*add pdq to annotate"):
        run(stage, tmp_path / "out")
    stage = make(home, tmp_path / "out", benchmarks=own_set(home), pdq_radius=-1, phash_radius=-1)
    stage.inputs = {**stage.inputs, "annotate": ShardSet(annotate)}
    run(stage, tmp_path / "out")
    assert summary(tmp_path / "out")["pictures_met"] == 2  # equal bytes and equal pixels


def test_a_threshold_for_a_model_that_the_pack_lacks_is_refused(home: Path, tmp_path: Path) -> None:
    for kind, role in (("clip", "image_text"), ("descriptor", "descriptor")):
        config: dict[str, Any] = {"benchmarks": own_set(home), f"{kind}_min_cosine": 0.9}
        stage = make(home, tmp_path, **config)
        with pytest.raises(ConfigError, match=f"{kind}_min_cosine: needs a model of role {role}"):
            run(stage, tmp_path)


def with_descriptor(home: Path, folder: Path) -> tuple[dict[str, ModelRef], Path]:
    """Annotate the samples by a copy detector, too: coarse averages of the picture."""
    folder.mkdir()
    write_pooling(folder / "mine.onnx", side=32, cell=4)
    facts = {"side_px": 32, "mean": [0.5] * 3, "std": [0.25] * 3, "min_cosine": 0.97}
    (folder / "mine.json").write_text(json.dumps(facts))
    paths = (folder / "mine.onnx", folder / "mine.json")
    models = {"descriptor": ModelRef(kind="onnx_descriptor", paths=paths)}
    annotate = folder / "annotate"
    config = AnnotateConfig(annotators=["hashes", "phash", "pdq", "descriptor"])
    given = {"ingest": ShardSet(home / "ingest")}
    run(AnnotateStage(config, given, models, 0), annotate)
    return models, annotate


def test_a_copy_detector_of_the_pack_finds_what_hashes_are_not_asked_for(
    home: Path, tmp_path: Path
) -> None:
    models, annotate = with_descriptor(home, tmp_path / "models")
    alone = {"pdq_radius": -1, "phash_radius": -1}
    stage = make(home, tmp_path / "out", models, benchmarks=own_set(home), **alone)
    stage.inputs = {**stage.inputs, "annotate": ShardSet(annotate)}
    run(stage, tmp_path / "out")
    found = {n: r["kind"] for n, r in names(home, rows(tmp_path / "out")).items() if r["kind"]}
    assert found == {"copy0": "bytes", "copy1": "pixels", "copy2": "descriptor"}
    strict = make(
        home, tmp_path / "out", models,
        benchmarks=own_set(home), descriptor_min_cosine=1.0, **alone,
    )  # fmt: skip
    strict.inputs = stage.inputs
    run(strict, tmp_path / "out")
    assert "descriptor" not in summary(tmp_path / "out")["kinds"]


def test_embeddings_of_another_model_are_refused(home: Path, tmp_path: Path) -> None:
    models, annotate = with_descriptor(home, tmp_path / "models")
    write_pooling(tmp_path / "models" / "new.onnx", side=32, cell=8)
    paths = (tmp_path / "models" / "new.onnx", tmp_path / "models" / "mine.json")
    models = {"descriptor": ModelRef(kind="onnx_descriptor", paths=paths)}
    stage = make(home, tmp_path / "out", models, benchmarks=own_set(home))
    stage.inputs = {**stage.inputs, "annotate": ShardSet(annotate)}
    with pytest.raises(StageError, match=r"descriptor\.embedding must be of the model of role"):
        run(stage, tmp_path / "out")


def test_columns_that_do_not_say_who_made_them_are_refused(home: Path, tmp_path: Path) -> None:
    stage = make(home, tmp_path / "out", benchmarks=own_set(home))
    annotate = tmp_path / "annotate"
    shutil.copytree(home / "annotate", annotate)
    for path in annotate.glob("*.parquet"):
        table = pq.read_table(path)
        facts = {**(table.schema.metadata or {}), b"annotate.phash.spec": b"imagehash"}
        pq.write_table(table.replace_schema_metadata(facts), path)
    stage.inputs = {**stage.inputs, "annotate": ShardSet(annotate)}
    with pytest.raises(StageError, match=r"phash\.phash must be of the spec lm1, got imagehash"):
        run(stage, tmp_path / "out")
    models = {"descriptor": ModelRef(kind="onnx_descriptor", paths=(home / "prompts.txt",))}
    with pytest.raises(StageError, match="got one of an unknown model; run `curate run stage=an"):
        check_model(pa.schema([("descriptor.embedding", pa.list_(pa.float16()))]), "descriptor",
                    models)  # fmt: skip


def test_a_duplicates_caption_that_is_a_prompt_is_left_out_and_its_keeper_stays(
    home: Path, tmp_path: Path
) -> None:
    dedup = tmp_path / "dedup"
    taken = ["another view", f"{PROMPT}.", f"photo of {PROMPT} in a room"]
    for shard, table in ShardSet(home / "ingest").tables(["key"]):
        write_verdicts(dedup, shard, table["key"].to_pylist(), alternates=taken)
    stage = make(home, tmp_path / "out", benchmarks={"parti": Benchmark(prompts=str(
        home / "prompts.txt"))})  # fmt: skip
    stage.inputs = {**stage.inputs, "dedup": ShardSet(dedup)}
    report = run(stage, tmp_path / "out")
    kept = [row for row in rows(tmp_path / "out") if row["keep"]]
    assert {tuple(row["alternates"]) for row in kept} == {(taken[0], taken[2])}
    assert report.counts["left_out.alternates"] == NUM_PICTURES + NUM_COPIES
    assert report.counts["dropped.contaminated_prompt"] == 1  # by its own caption


def test_clip_finds_copies_where_its_cosine_is_asked_for(home: Path, tmp_path: Path) -> None:
    models = {"image_text": load_pack("toy")["image_text"]}
    annotate = tmp_path / "annotate"
    config = AnnotateConfig(annotators=["hashes", "clip"])
    run(AnnotateStage(config, {"ingest": ShardSet(home / "ingest")}, models, 0), annotate)
    stage = make(
        home, tmp_path / "out", models,
        benchmarks=own_set(home), pdq_radius=-1, phash_radius=-1, clip_min_cosine=0.99,
    )  # fmt: skip
    stage.inputs = {**stage.inputs, "annotate": ShardSet(annotate)}
    run(stage, tmp_path / "out")
    judged = names(home, rows(tmp_path / "out"))
    nearest = {name: (row["kind"], row["item"]) for name, row in judged.items() if row["kind"]}
    assert nearest["copy2"] == ("clip", "02.png")
    assert 0 < judged["copy2"]["distance"] < 0.01
    assert {name for name in nearest if name.startswith("copy")} >= {"copy0", "copy1", "copy2"}
