"""The options of hashes reach the annotators, the table says which rules were followed."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import imagehash
import pyarrow as pa
import pytest
from PIL import Image

from curate.core.errors import ConfigError
from curate.core.seed import make_rng
from curate.core.shard import ShardSet
from curate.models.packs import load_pack
from curate.stages.annotate import AnnotateConfig
from pipelines.request import parse_request
from pipelines.run import run_request
from tests.silent import Silent


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    rng = make_rng(1, "pictures")
    for number in range(3):
        Image.fromarray(rng.integers(0, 256, (40, 50, 3), dtype="uint8")).save(
            folder / f"{number}.png"
        )
    return folder


def annotate(pictures: Path, out: Path, *options: str) -> tuple[pa.Table, Mapping[bytes, bytes]]:
    names = "annotate.annotators=[pixels,hashes,phash,pdq]"
    call = [f"input={pictures}", f"out={out}", "stages=[ingest,annotate]", "engine=inline"]
    run_request(parse_request([*call, names, *options]), Silent())
    shards = ShardSet(out / "annotate")
    (shard,) = shards.shards()
    return shards.table(shard), shards.schema(shard).metadata


def test_the_table_names_the_hash_spec(pictures: Path, tmp_path: Path) -> None:
    table, metadata = annotate(pictures, tmp_path)
    assert metadata[b"annotate.phash.spec"] == b"lm1"
    assert metadata[b"annotate.pdq.spec"] == b"full"
    assert "pdq.dihedral" not in table.column_names


def test_options_change_what_is_measured(pictures: Path, tmp_path: Path) -> None:
    options = ("annotate.hash_spec=imagehash", "annotate.pdq_dihedral=true")
    table, metadata = annotate(pictures, tmp_path, *options)
    assert metadata[b"annotate.phash.spec"] == b"imagehash"
    assert metadata[b"annotate.phash.imagehash"] == imagehash.__version__.encode()
    expected = set()
    for path in pictures.iterdir():
        with Image.open(path) as image:
            expected.add(int(str(imagehash.phash(image)), 16))
    assert set(table["phash.phash"].to_pylist()) == expected
    for row in table.to_pylist():
        assert len(row["pdq.dihedral"]) == 8
        assert row["pdq.dihedral"][0] == row["pdq.hash"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hash_spec": "lm2"}, "annotate.hash_spec: must be among lm1, imagehash, got 'lm2'"),
        (
            {"hash_spec": "imagehash", "annotators": ["pdq"]},
            "annotate.hash_spec: needs phash among annotate.annotators, got pdq; add it",
        ),
        (
            {"pdq_dihedral": True, "annotators": ["phash", "pixels"]},
            "annotate.pdq_dihedral: needs pdq among annotate.annotators",
        ),
    ],
)
def test_options_that_would_be_ignored_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        AnnotateConfig(**options)
    assert message in str(caught.value)


def test_a_model_of_two_names_fills_the_columns_of_both(pictures: Path, tmp_path: Path) -> None:
    clip = load_pack("toy")["image_text"].paths[0]
    pack = tmp_path / "pack.yaml"
    pack.write_text(f"base: toy\nclip_own: {{kind: open_clip, paths: ['{clip}']}}\n")
    names = "annotate.annotators=[clip_own,clip,aesthetic]"
    table, metadata = annotate(pictures, tmp_path / "out", names, f"models={pack}")
    assert table["clip_own.similarity"].equals(table["clip.similarity"])
    assert table["clip_own.image_embedding"].equals(table["clip.image_embedding"])
    assert table["clip.similarity"].null_count == 0
    for fact in ("kind", "digest", "model", "precision"):
        assert (
            metadata[f"annotate.clip_own.{fact}".encode()]
            == (metadata[f"annotate.clip.{fact}".encode()])
        )
