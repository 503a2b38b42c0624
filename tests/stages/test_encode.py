"""Encode writes a latent store: latents, captions by every text encoder, and a manifest."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest

from curate.core.errors import ConfigError
from curate.core.latent_column import CAPTION
from curate.core.latent_manifest import LatentManifest
from curate.core.record_index import open_index
from curate.core.shard import ShardSet, read_members
from curate.models.packs import ModelRef, load_pack
from curate.models.text_encoder import load_text_encoder
from curate.models.vae import load_vae
from curate.stages.encoding.config import EncodeConfig, used_models
from tests.stages.encode_run import Encoded, Sample, draw, encode, write_bucketed

SMALL = [
    Sample(name=f"s{number}", captions={"alt": f"a red circle {number}", "detailed": "a star"})
    for number in range(5)
]
WIDE = [Sample(name="wide", captions={"alt": ""})]
LARGE = [Sample(name="s3", captions={"alt": "a red circle 3"}, home=("00000", 3))]


@pytest.fixture(scope="module")
def models() -> dict[str, ModelRef]:
    pack = load_pack("toy")
    return {role: pack[role] for role in ("vae", "text_encoder", "image_text")}


@pytest.fixture(scope="module")
def bucketed(tmp_path_factory: pytest.TempPathFactory) -> ShardSet:
    folder = tmp_path_factory.mktemp("run") / "bucket"
    return write_bucketed(folder, [("64x64", SMALL), ("48x80", WIDE), ("128x128", LARGE)])


@pytest.fixture(scope="module")
def encoded(
    bucketed: ShardSet, models: dict[str, ModelRef], tmp_path_factory: pytest.TempPathFactory
) -> Encoded:
    return encode(tmp_path_factory.mktemp("run") / "encode", bucketed, models)


def load(data: bytes) -> np.ndarray:
    return np.load(io.BytesIO(data), allow_pickle=False)


def test_moments_are_mean_and_standard_deviation_of_each_picture(
    encoded: Encoded, models: dict[str, ModelRef]
) -> None:
    vae = load_vae(models["vae"])
    members = dict(read_members(encoded.folder / "00000.tar"))
    assert list(members) == [sample.key for sample in SMALL]
    wanted = vae.encode(np.stack([draw(sample.name, 64, 64) for sample in SMALL]))
    for sample, expected in zip(SMALL, wanted, strict=True):
        stored = load(members[sample.key]["moments.npy"])
        assert stored.dtype == np.float16
        np.testing.assert_allclose(stored, expected, atol=2e-3, rtol=2e-3)
        assert (stored[vae.latent_channels :] > 0).all()


def test_index_points_at_the_numbers_of_each_record(encoded: Encoded) -> None:
    index = open_index(encoded.folder / "00000.idx")
    tar = (encoded.folder / "00000.tar").read_bytes()
    shape = index.facts["members"]["moments"]["shape"]
    index.check_tar(len(tar), "00000.tar")
    for row, (key, members) in enumerate(read_members(encoded.folder / "00000.tar")):
        assert bytes(index.arrays["key"][row]).hex() == key
        start = int(index.arrays["moments.offset"][row])
        found = np.frombuffer(tar, "<f2", int(np.prod(shape)), start).reshape(shape)
        np.testing.assert_array_equal(found, load(members["moments.npy"]))


def test_captions_keep_their_real_tokens_and_nothing_else(
    encoded: Encoded, models: dict[str, ModelRef]
) -> None:
    encoder = load_text_encoder(models["text_encoder"])
    members = dict(read_members(encoded.folder / "text-main/00000.tar"))
    for sample in SMALL:
        pooled = load(members[sample.key]["pooled.npy"])
        for row, (source, text) in enumerate(sample.captions.items()):
            (expected,) = encoder.encode([text])
            stored = load(members[sample.key][f"{source}.npy"])
            assert stored.shape == expected.tokens.shape
            np.testing.assert_allclose(stored, expected.tokens, atol=4e-3)
            np.testing.assert_allclose(pooled[row], expected.pooled, atol=8e-3)


def test_larger_resolutions_point_at_their_captions(encoded: Encoded) -> None:
    index = open_index(encoded.folder / "00002.idx")
    assert index.arrays["home_shard"].tolist() == [0]
    assert index.arrays["home_row"].tolist() == [3]
    assert not (encoded.folder / "text-main/00002.tar").exists()
    home = open_index(encoded.folder / "text-main/00000.idx")
    assert home.arrays["captions"].dtype == CAPTION
    assert home.arrays["first"].tolist() == [0, 2, 4, 6, 8, 10]


def test_manifest_lists_what_a_loader_may_open(
    encoded: Encoded, models: dict[str, ModelRef]
) -> None:
    manifest = LatentManifest.load(encoded.store.store)
    assert [(s.name, s.bucket, s.num_samples, s.has_text) for s in manifest.shards] == [
        ("00000", "64x64", 5, True),
        ("00001", "48x80", 1, True),
        ("00002", "128x128", 1, False),
    ]
    for shard in manifest.shards:
        for name, size in shard.files.items():
            assert (encoded.folder / name).stat().st_size == size
    vae = load_vae(models["vae"])
    assert manifest.latents.member == "moments"
    assert manifest.latents.vae == models["vae"].digest
    np.testing.assert_allclose(manifest.latents.std, vae.latent_std)
    (text,) = manifest.texts
    assert (text.name, text.encoder) == ("main", models["text_encoder"].digest)


def test_null_caption_is_stored_once(encoded: Encoded, models: dict[str, ModelRef]) -> None:
    ((_, members),) = read_members(encoded.folder / "text-main/_null.tar")
    (expected,) = load_text_encoder(models["text_encoder"]).encode([""])
    np.testing.assert_allclose(load(members["null.npy"]), expected.tokens, atol=4e-3)


def test_every_sample_has_a_row_with_its_lengths(encoded: Encoded) -> None:
    rows = encoded.store.table("00000").to_pylist()
    assert [row["key"] for row in rows] == [sample.key for sample in SMALL]
    json_of = {key: json.loads(m["json"]) for key, m in read_members(encoded.folder / "00000.tar")}
    for row in rows:
        said = json_of[row["key"]]
        assert said["captions"][1] == {"source": "detailed", "text": "a star", "attempt": ""}
        assert (said["height"], said["width"]) == (64, 64)
        assert row["captions.truncated.main"] == [0, 0]
        assert row["captions.tokens.main"][1] == 3  # a, star and the end mark


def test_a_second_run_has_nothing_to_do_and_equal_runs_give_equal_bytes(
    encoded: Encoded, bucketed: ShardSet, models: dict[str, ModelRef], tmp_path: Path
) -> None:
    again = encode(encoded.folder, bucketed, models)
    assert again.report.num_run == 0
    other = encode(tmp_path / "encode", bucketed, models)
    for path in encoded.folder.rglob("*"):
        if path.is_file():
            assert (other.folder / path.relative_to(encoded.folder)).read_bytes() == (
                path.read_bytes()
            ), path


def test_a_bucket_that_the_vae_cannot_halve_is_named(
    models: dict[str, ModelRef], tmp_path: Path
) -> None:
    bucketed = write_bucketed(tmp_path / "bucket", [("60x64", SMALL[:1])])
    with pytest.raises(ConfigError, match=r"bucket.step_px: must be a multiple of .* 8, got .*60"):
        encode(tmp_path / "encode", bucketed, models)


def test_models_that_a_config_does_not_use_are_left_out(models: dict[str, ModelRef]) -> None:
    assert "image_text" not in used_models(EncodeConfig(), models)
    assert "image_text" in used_models(EncodeConfig(features=["clip"]), models)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # open tars of it
def test_webdataset_reads_every_column(encoded: Encoded) -> None:
    import webdataset

    latents = webdataset.WebDataset(str(encoded.folder / "00000.tar"), shardshuffle=False).decode()
    texts = webdataset.WebDataset(
        str(encoded.folder / "text-main/00000.tar"), shardshuffle=False
    ).decode()
    for sample, one, other in zip(SMALL, latents, texts, strict=True):
        assert one["__key__"] == other["__key__"] == sample.key
        assert one["moments.npy"].shape == (32, 8, 8)
        assert [c["text"] for c in one["json"]["captions"]] == list(sample.captions.values())
        assert len(other["alt.npy"]) == other["json"]["captions"][0]["tokens"]
        assert other["pooled.npy"].shape == (2, 192)


def test_a_lost_index_is_made_again_as_encode_wrote_it(encoded: Encoded, tmp_path: Path) -> None:
    from curate.core.index_tars import index_arrays, index_captions

    for name in ("00000", "text-main/00000"):
        known = (encoded.folder / f"{name}.idx").read_bytes()
        facts = open_index(encoded.folder / f"{name}.idx").facts
        tar = tmp_path / "00000.tar"
        tar.write_bytes((encoded.folder / f"{name}.tar").read_bytes())
        made = {"members", "sources", "keys_xxh3"}
        given = {key: value for key, value in facts.items() if key not in made}
        if "/" in name:
            made_again = index_captions(tar, given)
        else:
            made_again = index_arrays(tar, given, ("moments",))
        assert made_again.read_bytes() == known
