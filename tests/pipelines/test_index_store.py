"""`curate index` makes what is missing, byte for byte, and takes over tars from elsewhere."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from webdataset.writer import TarWriter

from curate.core.errors import ShardError
from curate.core.latent_column import ArrayColumn
from curate.core.latent_manifest import (
    NULL_SHARD,
    FeatureFacts,
    LatentFacts,
    LatentManifest,
    ShardEntry,
    TextFacts,
)
from curate.core.record_index import open_index
from curate.core.store import LocalStore
from curate.models.packs import load_pack
from pipelines.cli import main
from pipelines.index_store import adopt_store, repair_store
from tests.core.latent_columns import DIM, POOLED_DIM, keys, moments, write_captions

CHANNELS = 4
LATENTS = LatentFacts(
    member="moments",
    vae="v" * 64,
    channels=CHANNELS,
    mean=(0.0,) * CHANNELS,
    std=(1.0,) * CHANNELS,
    downsample=8,
)
TEXT = TextFacts(
    name="main", encoder="main", dim=DIM, pooled_dim=POOLED_DIM, max_tokens=77, form="float16"
)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Write a store of two shards as encode does."""
    entries: list[ShardEntry] = []
    for name in ("00000", "00001"):
        column = ArrayColumn(tmp_path, name, {"bucket": "32x48", "vae": LATENTS.vae})
        features = ArrayColumn(tmp_path / "dino", name, {"model": "d"})
        for key in keys(5):
            column.add(key, {"moments": moments(key)})
            features.add(key, {"dino": moments(key, (4, 3))})
        column.close()
        features.close()
        write_text(tmp_path, name, 5)
        files = sorted(path for path in tmp_path.rglob(f"{name}.*"))
        sizes = {str(path.relative_to(tmp_path)): path.stat().st_size for path in files}
        entries.append(ShardEntry(name=name, bucket="32x48", num_samples=5, files=sizes))
    write_text(tmp_path, NULL_SHARD, 1)
    manifest = LatentManifest(
        latents=LATENTS,
        texts=(TEXT,),
        features=(FeatureFacts(name="dino", model="d"),),
        shards=tuple(entries),
    )
    LocalStore(tmp_path).write("manifest.json", manifest.to_json().encode())
    return tmp_path


def write_text(folder: Path, name: str, count: int) -> None:
    facts: dict[str, Any] = {"encoder": "main", "form": "float16"}
    facts |= {"error": 0.0} if name == NULL_SHARD else {}
    write_captions(folder / "text-main", count, name, facts)


def indexes(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in sorted(folder.rglob("*.idx"))}


def test_missing_damaged_and_old_indexes_come_back_byte_for_byte(store: Path) -> None:
    before = indexes(store)
    assert len(before) == 7
    first, second, third, *rest = before
    first.unlink()
    second.write_bytes(before[second][:-1])
    third.write_bytes(before[third][:40] + b"x" + before[third][41:])
    for path in rest:
        path.write_bytes(b"")
    assert len(list(repair_store(store))) == 7
    assert indexes(store) == before
    assert list(repair_store(store)) == []


def test_whole_store_is_left_alone(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path: path.stat().st_mtime_ns for path in indexes(store)}
    assert run("index", str(store)) == 0
    assert "every index is there" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in indexes(store)} == before


def run(*arguments: str) -> int:
    before = sys.argv
    sys.argv = ["curate", *arguments]
    try:
        return main()
    finally:
        sys.argv = before


@pytest.mark.parametrize("change", ["cut", "gone"])
def test_tar_that_is_not_as_the_manifest_says_is_named(store: Path, change: str) -> None:
    tar = store / "text-main" / "00001.tar"
    if change == "cut":
        tar.write_bytes(tar.read_bytes()[:-1024])
    else:
        tar.unlink()
    with pytest.raises(ShardError, match=r"00001\.tar: must be there with \d+ bytes, got"):
        list(repair_store(store))


def npy(array: np.ndarray[Any, Any]) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def write_foreign(folder: Path, names: list[str], shape: tuple[int, ...], text: str = "") -> None:
    """Write tars as a user of webdataset does: float times, keys of one's own, parts by name."""
    folder.mkdir(parents=True, exist_ok=True)
    with TarWriter(str(folder / "part-0.tar")) as writer:
        for name in names:
            writer.write({"__key__": name, "moments.npy": npy(moments(name, shape))})
    if text:
        (folder / f"text-{text}").mkdir()
        with TarWriter(str(folder / f"text-{text}" / "part-0.tar")) as writer:
            for name in names:
                tokens = moments(f"t{name}", (3, 6))
                pooled = moments(f"p{name}", (1, 5))
                writer.write({"__key__": name, "alt.npy": npy(tokens), "pooled.npy": npy(pooled)})


def toy_channels() -> int:
    from curate.models.vae import load_vae

    return load_vae(load_pack("toy")["vae"]).latent_channels


def test_tars_from_elsewhere_become_a_store(tmp_path: Path) -> None:
    shape = (2 * toy_channels(), 8, 6)
    write_foreign(tmp_path, ["cat", "dog"], shape, text="clip_l")
    lines = list(adopt_store(tmp_path, load_pack("toy")))
    assert len(lines) == 3
    manifest = LatentManifest.load(LocalStore(tmp_path))
    (entry,) = manifest.shards
    assert (entry.name, entry.bucket, entry.num_samples) == ("part-0", "64x48", 2)
    assert manifest.latents.vae == load_pack("toy")["vae"].digest
    (text,) = manifest.texts
    assert (text.name, text.dim, text.pooled_dim, text.max_tokens) == ("clip_l", 6, 5, 3)
    index = open_index(tmp_path / "part-0.idx")
    at = int(index.arrays["moments.offset"][1])
    expected = moments("dog", shape)
    assert (tmp_path / "part-0.tar").read_bytes()[at:][: expected.nbytes] == expected.tobytes()
    assert list(repair_store(tmp_path)) == []


def test_latents_of_another_vae_are_refused(tmp_path: Path) -> None:
    write_foreign(tmp_path, ["cat"], (2 * toy_channels() + 2, 8, 8))
    with pytest.raises(ShardError, match=r"must be float16 \[\d+, h, w\] for this VAE, got"):
        list(adopt_store(tmp_path, load_pack("toy")))
    assert not (tmp_path / "manifest.json").exists()


def test_texts_of_other_samples_are_refused(tmp_path: Path) -> None:
    shape = (2 * toy_channels(), 8, 8)
    write_foreign(tmp_path, ["cat", "dog"], shape, text="main")
    write_foreign(tmp_path / "other", ["dog", "cat"], shape, text="main")
    (tmp_path / "other" / "text-main" / "part-0.tar").rename(tmp_path / "text-main" / "part-0.tar")
    with pytest.raises(ShardError, match=r"hold the samples of part-0\.tar in their order"):
        list(adopt_store(tmp_path, load_pack("toy")))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "index: needs one folder, got 0"),
        (["{tmp}/nosuch", "models=toy"], "nosuch: must be a folder, got none"),
        (["{tmp}/empty", "models=toy"], "must have manifest.json or tars with .moments.npy"),
        (["{tmp}/run"], "got no tar with a sample; give {tmp}/run/encode"),
        (["{tmp}/pictures", "models=toy"], "got a tar with a.jpg; give the folder of a latent"),
        (["{tmp}/latents"], "models: must name the VAE of tars without manifest.json"),
    ],
)
def test_bad_calls_are_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    for name in ("empty", "run/encode", "pictures"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "run" / "encode" / "manifest.json").write_text("{}")
    with TarWriter(str(tmp_path / "pictures" / "0.tar"), mtime=0) as writer:
        writer.write({"__key__": "a", "jpg": b"x"})
    write_foreign(tmp_path / "latents", ["cat"], (8, 8, 8))
    given, expected = (
        [text.replace("{tmp}", str(tmp_path)) for text in some] for some in (arguments, [message])
    )
    assert run("index", *given) == 2
    assert expected[0] in capsys.readouterr().err
