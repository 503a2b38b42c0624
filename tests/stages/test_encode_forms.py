"""What encode stores by its options: draws, mirror images, int8, ids, shared captions, features."""

from __future__ import annotations

import dataclasses
import errno
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from transformers import Dinov2Config, Dinov2Model

from curate.core.errors import ConfigError, StoreError
from curate.core.int8_tokens import unpack_int8
from curate.core.latent_manifest import LatentManifest
from curate.core.record_index import open_index
from curate.core.seed import make_rng
from curate.core.shard import ShardSet, read_members
from curate.core.tar_writer import TarWriter
from curate.models.clip import load_image_text
from curate.models.packs import ModelRef, load_pack
from curate.models.text_encoder import load_text_encoder
from curate.models.vae import load_vae
from curate.models.weights import seeded_weights
from curate.stages.encoding.config import EncodeConfig
from tests.models.test_vae_folder import dc, save
from tests.models.tiny_text import write_clip, write_t5
from tests.stages.encode_run import Encoded, Sample, draw, encode, write_bucketed

SAMPLES = [
    Sample(name="one", captions={"alt": "a red circle", "short": "a star"}),
    Sample(name="two", captions={"alt": "a star", "short": "red star " * 60}),
]


@pytest.fixture(scope="module")
def models() -> dict[str, ModelRef]:
    pack = load_pack("toy")
    return {role: pack[role] for role in ("vae", "text_encoder", "image_text")}


@pytest.fixture(scope="module")
def bucketed(tmp_path_factory: pytest.TempPathFactory) -> ShardSet:
    return write_bucketed(tmp_path_factory.mktemp("run") / "bucket", [("32x40", SAMPLES)])


def members_of(encoded: Encoded, name: str = "00000") -> dict[str, dict[str, np.ndarray]]:
    """Key -> member -> array."""
    return {
        key: {
            ext.removesuffix(".npy"): np.load(io.BytesIO(data), allow_pickle=False)
            for ext, data in members.items()
            if ext.endswith(".npy")
        }
        for key, members in read_members(encoded.folder / f"{name}.tar")
    }


def manifest_of(encoded: Encoded) -> LatentManifest:
    return LatentManifest.load(encoded.store.store)


def test_draws_are_of_the_posterior_and_of_the_key(
    bucketed: ShardSet, models: dict[str, ModelRef], tmp_path: Path
) -> None:
    drawn = encode(tmp_path / "drawn", bucketed, models, EncodeConfig(sample=True))
    moments = load_vae(models["vae"]).encode(np.stack([draw(s.name, 32, 40) for s in SAMPLES]))
    mean, std = np.split(moments, 2, axis=1)
    for i, sample in enumerate(SAMPLES):
        noise = make_rng(0, "vae", sample.key).standard_normal(mean[i].shape, dtype=np.float32)
        found = members_of(drawn)[sample.key]["latents"]
        np.testing.assert_allclose(found, mean[i] + std[i] * noise, atol=5e-3, rtol=2e-3)
    assert manifest_of(drawn).latents.member == "latents"
    alone = encode(tmp_path / "alone", bucketed, models, EncodeConfig(sample=True, batch_size=1))
    for key, arrays in members_of(alone).items():
        other = members_of(drawn)[key]["latents"]
        np.testing.assert_allclose(arrays["latents"], other, atol=5e-3, rtol=5e-3)


def test_the_mirrored_picture_is_encoded_not_the_latents_mirrored(
    bucketed: ShardSet, models: dict[str, ModelRef], tmp_path: Path
) -> None:
    encoded = encode(tmp_path / "encode", bucketed, models, EncodeConfig(flip=True))
    vae = load_vae(models["vae"])
    for sample in SAMPLES:
        pixels = np.ascontiguousarray(draw(sample.name, 32, 40)[None, :, ::-1])
        found = members_of(encoded)[sample.key]
        np.testing.assert_allclose(found["flipped"], vae.encode(pixels)[0], atol=5e-3, rtol=2e-3)
        assert not np.allclose(found["flipped"], found["moments"][:, :, ::-1], atol=0.05)
    assert manifest_of(encoded).latents.has_flipped
    index = open_index(encoded.folder / "00000.idx")
    assert {"moments.offset", "flipped.offset"} <= index.arrays.keys()


def test_an_autoencoder_without_posterior_stores_latents(
    bucketed: ShardSet, models: dict[str, ModelRef], tmp_path: Path
) -> None:
    encoded = encode(tmp_path / "encode", bucketed, models | {"vae": save(tmp_path / "dc", dc)})
    facts = manifest_of(encoded).latents
    assert (facts.member, facts.channels, facts.downsample) == ("latents", 4, 2)
    assert facts.std == pytest.approx([1 / 0.41407] * 4)
    assert members_of(encoded)[SAMPLES[0].key]["latents"].shape == (4, 16, 20)


def test_another_vae_makes_every_shard_stale(
    bucketed: ShardSet, models: dict[str, ModelRef], tmp_path: Path
) -> None:
    encode(tmp_path / "encode", bucketed, models)
    other = models | {"vae": save(tmp_path / "dc", dc)}
    again = encode(tmp_path / "encode", bucketed, other)
    assert again.report.num_run == 3
    assert manifest_of(again).latents.vae == other["vae"].digest


def test_int8_tokens_come_back_within_the_measured_error(
    bucketed: ShardSet, models: dict[str, ModelRef], tmp_path: Path
) -> None:
    config = EncodeConfig(text_form={"main": "int8"})
    encoded = encode(tmp_path / "encode", bucketed, models, config)
    (text,) = manifest_of(encoded).texts
    assert text.form == "int8"
    assert 0.004 < text.error < 0.027
    encoder = load_text_encoder(models["text_encoder"])
    for sample in SAMPLES:
        found = members_of(encoded, "text-main/00000")[sample.key]["alt"]
        wanted = encoder.encode([sample.captions["alt"]])[0].tokens
        assert found.dtype == np.int8
        assert found.shape == (len(wanted), text.dim + 2)
        lost = unpack_int8(found).astype(np.float32) - wanted
        assert np.sqrt(np.mean(lost**2) / np.mean(wanted**2)) < 0.02


def test_int8_is_refused_where_a_channel_drowns_the_others(
    bucketed: ShardSet, models: dict[str, ModelRef], tmp_path: Path
) -> None:
    from safetensors.torch import load_file, save_file

    ref = write_t5(tmp_path / "t5")
    path = tmp_path / "t5/model.safetensors"
    tensors = load_file(path)
    tensors["encoder.final_layer_norm.weight"][3] = 500.0
    save_file(tensors, path, {"format": "pt"})
    config = EncodeConfig(text_form={"t5": "int8"})
    with pytest.raises(ConfigError, match=r"encode.text_form.t5: int8 .* by channel on 4 captions"):
        encode(tmp_path / "encode", bucketed, models | {"text_encoder_t5": ref}, config)


def test_ids_encode_to_what_would_have_been_stored(
    bucketed: ShardSet, models: dict[str, ModelRef], tmp_path: Path
) -> None:
    encoded = encode(tmp_path / "encode", bucketed, models, EncodeConfig(text_form={"main": "ids"}))
    (text,) = manifest_of(encoded).texts
    assert (text.form, text.pooled_dim) == ("ids", 0)
    encoder = load_text_encoder(models["text_encoder"])
    assert text.dim == encoder.dim
    found = members_of(encoded, "text-main/00000")
    for sample in SAMPLES:
        ids = found[sample.key]["alt.ids"]
        assert ids.dtype == np.int32
        (given,) = encoder.encode_ids([ids])
        np.testing.assert_allclose(
            given.tokens, encoder.encode([sample.captions["alt"]])[0].tokens, atol=1e-5
        )


def test_several_towers_have_their_columns(
    bucketed: ShardSet, models: dict[str, ModelRef], tmp_path: Path
) -> None:
    more = {
        "text_encoder_t5": write_t5(tmp_path / "t5"),
        "text_encoder_clip": write_clip(tmp_path / "clip", projected=True),
    }
    encoded = encode(tmp_path / "encode", bucketed, models | more)
    texts = manifest_of(encoded).texts
    assert [(t.name, t.folder) for t in texts] == [
        ("main", "text-main"), ("clip", "text-clip"), ("t5", "text-t5"),
    ]  # fmt: skip
    assert [t.pooled_dim for t in texts[1:]] == [8, 0]
    t5 = members_of(encoded, "text-t5/00000")[SAMPLES[0].key]
    assert t5["alt"].shape == (4, 16)  # three words and the end mark
    assert "pooled" not in t5
    keys = [open_index(encoded.folder / f"text-{t.name}/00000.idx").facts for t in texts]
    assert len({facts["keys_xxh3"] for facts in keys}) == 1


def test_what_did_not_fit_is_counted_by_tower_and_source(
    bucketed: ShardSet, models: dict[str, ModelRef], tmp_path: Path
) -> None:
    encoded = encode(
        tmp_path / "encode", bucketed, models | {"text_encoder_t5": write_t5(tmp_path / "t5")}
    )
    assert encoded.report.counts["truncated.t5.short"] == 1
    assert encoded.report.counts["truncated.main.short"] == 1
    assert "truncated.t5.alt" not in encoded.report.counts
    assert encoded.report.counts["captions.short"] == 2
    rows = encoded.store.table("00000").to_pylist()
    assert rows[1]["captions.truncated.t5"] == [0, 121 - 12]
    assert rows[1]["captions.tokens.t5"] == [3, 12]


def test_shared_captions_are_stored_once(
    bucketed: ShardSet, models: dict[str, ModelRef], tmp_path: Path
) -> None:
    shared = encode(tmp_path / "shared", bucketed, models, EncodeConfig(share_captions=True))
    plain = encode(tmp_path / "plain", bucketed, models)
    one, two = (sample.key for sample in SAMPLES)
    assert "short" in members_of(shared, "text-main/00000")[one]
    assert "alt" not in members_of(shared, "text-main/00000")[two]
    tar = (shared.folder / "text-main/00000.tar").read_bytes()
    index = open_index(shared.folder / "text-main/00000.idx")
    at = index.arrays["base"][1] + index.arrays["captions"]["tokens_at"][2]
    wanted = members_of(plain, "text-main/00000")[two]["alt"]
    found = np.frombuffer(tar, "<f2", wanted.size, int(at)).reshape(wanted.shape)
    np.testing.assert_allclose(found, wanted, atol=2e-3)


def write_dino(folder: Path) -> ModelRef:
    config = Dinov2Config(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, image_size=28, patch_size=14
    )
    with seeded_weights(0):
        Dinov2Model(config).save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(
        '{"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}'
    )
    return ModelRef(kind="vision", paths=(folder,))


def test_features_are_columns_with_the_same_keys(
    models: dict[str, ModelRef], tmp_path: Path
) -> None:
    bucketed = write_bucketed(tmp_path / "bucket", [("32x48", SAMPLES)])
    more = models | {"features_dino": write_dino(tmp_path / "dino")}
    encoded = encode(tmp_path / "encode", bucketed, more, EncodeConfig(features=["clip", "dino"]))
    assert [f.name for f in manifest_of(encoded).features] == ["clip", "dino"]
    clip = members_of(encoded, "clip/00000")
    model = load_image_text(models["image_text"])
    images = [Image.fromarray(draw(s.name, 32, 48)) for s in SAMPLES]
    for sample, wanted in zip(SAMPLES, model.embed_images(images), strict=True):
        np.testing.assert_allclose(clip[sample.key]["clip"], wanted, atol=2e-3)
    dino = members_of(encoded, "dino/00000")
    assert list(dino) == list(clip) == [sample.key for sample in SAMPLES]
    assert dino[SAMPLES[0].key]["dino"].shape == (2 * 3, 16)  # a token for 16 x 16 pixels


def test_patch_tokens_are_dinos_own(tmp_path: Path) -> None:
    import torch

    from curate.models.picture_features import load_patch_features

    features = load_patch_features(write_dino(tmp_path), "cpu", 14)
    pixels = draw("dino", 28, 42)
    network = Dinov2Model.from_pretrained(tmp_path).eval()
    values = (pixels / 255.0 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    given = torch.from_numpy(values).permute(2, 0, 1)[None].float()
    with torch.inference_mode():
        wanted = network(given).last_hidden_state[0, 1:]
    np.testing.assert_allclose(features(pixels[None])[0], wanted, atol=1e-4)


def test_a_full_disk_in_the_middle_of_a_shard_stops_with_one_line(
    bucketed: ShardSet,
    models: dict[str, ModelRef],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    added = 0

    def full(self: TarWriter, name: str, data: bytes, add: Any = TarWriter.add) -> int:
        nonlocal added
        added += 1
        if added > 12:
            raise OSError(errno.ENOSPC, "No space left on device", str(self.path))
        return add(self, name, data)

    with monkeypatch.context() as broken:
        broken.setattr(TarWriter, "add", full)
        with pytest.raises(StoreError, match="has no space left") as caught:
            encode(tmp_path / "encode", bucketed, models)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "encode/00000.tar").exists()
    assert not (tmp_path / "encode/manifest.json").exists()
    again = encode(tmp_path / "encode", bucketed, models)
    assert again.report.counts["kept"] == 2
    whole = encode(tmp_path / "whole", bucketed, models)
    for name in ("00000.tar", "00000.idx", "text-main/00000.tar", "manifest.json"):
        assert (again.folder / name).read_bytes() == (whole.folder / name).read_bytes()


def test_a_damaged_picture_quarantines_its_shard_and_the_manifest_leaves_it_out(
    models: dict[str, ModelRef], tmp_path: Path
) -> None:
    bad = [dataclasses.replace(SAMPLES[0], data=b"\x89PNG, cut")]
    copy = [Sample(name="one", captions={"alt": "a red circle"}, home=("00001", 0))]
    bucketed = write_bucketed(
        tmp_path / "bucket", [("32x40", SAMPLES[1:]), ("32x40", bad), ("64x80", copy)]
    )
    encoded = encode(tmp_path / "encode", bucketed, models)
    (line,) = encoded.report.quarantined.values()
    assert f"{SAMPLES[0].key}: must have a whole picture" in line
    # The larger copy's captions were in that shard, so it is of no use either.
    assert [shard.name for shard in manifest_of(encoded).shards] == ["00000"]


@pytest.mark.parametrize("ext", ["webp", "jpg"])
def test_pictures_of_any_format_that_bucket_writes_are_read(
    models: dict[str, ModelRef], tmp_path: Path, ext: str
) -> None:
    stream = io.BytesIO()
    Image.fromarray(draw("one", 32, 40)).save(stream, "WEBP" if ext == "webp" else "JPEG")
    samples = [dataclasses.replace(SAMPLES[0], data=stream.getvalue())]
    bucketed = write_bucketed(tmp_path / "bucket", [("32x40", samples)], ext=ext)
    encoded = encode(tmp_path / "encode", bucketed, models)
    assert encoded.report.counts["kept"] == 1


def test_captions_of_any_script_and_length_are_encoded(
    models: dict[str, ModelRef], tmp_path: Path
) -> None:
    captions = {
        "alt": "",
        "long": "red circle " * 9_091,
        "hindi": "\u0932\u093e\u0932 \u0935\u0943\u0924\u094d\u0924",
        "arabic": "\u062f\u0627\u0626\u0631\u0629",
        "emoji": "\U0001f469\u200d\U0001f680" * 30,
        "control": "\x00\x07\ufeff",
    }
    bucketed = write_bucketed(
        tmp_path / "bucket", [("32x40", [Sample(name="any", captions=captions)])]
    )
    encoded = encode(tmp_path / "encode", bucketed, models)
    (row,) = encoded.store.table("00000").to_pylist()
    assert all(1 <= count <= 64 for count in row["captions.tokens.main"])
    assert row["captions.truncated.main"][1] > 18_000
    assert encoded.report.counts["truncated.main.long"] == 1


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({"text_form": {"t6": "int8"}}, "encode.text_form.t6: must be a text encoder"),
        ({"features": ["dino"]}, "needs the role features_dino"),
    ],
)
def test_what_the_models_lack_is_named(
    bucketed: ShardSet,
    models: dict[str, ModelRef],
    tmp_path: Path,
    config: dict[str, Any],
    told: str,
) -> None:
    with pytest.raises(ConfigError, match=told):
        encode(tmp_path / "encode", bucketed, models, EncodeConfig(**config))


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({"batch_size": 0}, "encode.batch_size: must be >= 1"),
        ({"tile_px": -1}, "encode.tile_px: must be >= 0"),
        ({"text_form": {"main": "int4"}}, "encode.text_form.main: must be one of float16, int8"),
        ({"features": ["clip", "clip"]}, "must name each column once"),
    ],
)
def test_config_that_cannot_be_is_one_line(config: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told) as caught:
        EncodeConfig(**config)
    assert "\n" not in str(caught.value)


def test_every_option_has_its_words_on_the_page() -> None:
    page = (Path(__file__).parents[2] / "docs/encode.md").read_text(encoding="utf-8")
    missing = [f.name for f in dataclasses.fields(EncodeConfig) if f"encode.{f.name}" not in page]
    assert not missing


def test_every_kind_and_class_has_its_row_on_the_page() -> None:
    from curate.models.text_encoder import LOADERS
    from curate.models.vae_folder import FAMILIES

    page = (Path(__file__).parents[2] / "docs/encode.md").read_text(encoding="utf-8")
    assert not [name for name in (*LOADERS, *FAMILIES) if f"| `{name}`" not in page]
