"""Batches hold what the tars hold, as readers see them that know nothing of the index."""

import io
import json
import logging
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from curate.core.errors import DataError, ShardError
from curate.core.int8_tokens import unpack_int8
from curate.core.record_index import open_index
from curate.core.shard import ShardSet, read_members
from tests.train.stores import CHANNELS, MAX_TOKENS, SPACE, StoreOptions, make_key
from train.batches import Batch, RawBatch, finish
from train.data import BatchReader, LatentSet
from train.latents import draw_raw, unwhiten, whiten
from train.mix import CaptionMix
from train.plan import PlannedBatch
from train.reading import ReadConfig, TextShape, Wishes
from train.slot import Slot

MIX = CaptionMix(weights={"alt": 0.5, "detailed": 0.5}, dropout_frac=0.0)


def planned(bucket: str, positions: list[int], epoch: int = 0) -> PlannedBatch:
    return PlannedBatch(
        step=0,
        bucket=bucket,
        sets=np.zeros(len(positions), np.int64),
        positions=np.array(positions, np.int64),
        epochs=np.full(len(positions), epoch, np.int64),
    )


def make_reader(
    data: LatentSet, mix: CaptionMix = MIX, seed: int = 0, wishes: Wishes | None = None
) -> BatchReader:
    return BatchReader(data, data.plan(4, seed), mix, seed, wishes)


def read_raw(
    shards: ShardSet,
    batch: PlannedBatch,
    mix: CaptionMix = MIX,
    seed: int = 0,
    wishes: Wishes | None = None,
    reading: ReadConfig | None = None,
) -> RawBatch:
    with LatentSet([(shards.store, 1.0)], reading) as data:
        return make_reader(data, mix, seed, wishes).read(batch, Slot())


def read(shards: ShardSet, batch: PlannedBatch, *options: Any) -> Batch:
    with LatentSet([(shards.store, 1.0)]) as data:
        return finish(make_reader(data, *options).read(batch, Slot()), data.space)


def stored(tar: Path) -> dict[str, dict[str, Any]]:
    """Read every array through the tar reader, which knows nothing of offsets."""
    return {
        key: {
            ext: np.load(io.BytesIO(data)) if ext.endswith("npy") else json.loads(data)
            for ext, data in members.items()
        }
        for key, members in read_members(tar)
    }


def folder_of(shards: ShardSet) -> Path:
    return shards.tar_path("00000").parent


def test_batch_holds_what_the_tars_hold(make_encoded: Any) -> None:
    shards = make_encoded({"64x64": 5, "32x64": 4})
    latents = stored(shards.tar_path("00001"))
    text = stored(folder_of(shards) / "text-main/00001.tar")
    with LatentSet([(shards.store, 1.0)]) as data:
        assert len(data) == 9
        assert data.bucket_sizes == {"32x64": 4, "64x64": 5}
        raw = make_reader(data).read(planned("32x64", [3, 0, 1, 2]), Slot())
        batch = finish(raw, data.space)
        assert raw.latents.shape == (4, 2 * CHANNELS, 4, 8)
        assert batch.latents.shape == (4, CHANNELS, 4, 8)
        assert sorted(batch.keys) == sorted(latents)
        for i, (key, source) in enumerate(zip(batch.keys, batch.sources, strict=True)):
            tokens = text[key][f"{source}.npy"]
            assert batch.text.lengths[i] == len(tokens)
            assert batch.text.mask[i].sum() == len(tokens)
            assert np.array_equal(batch.text.tokens[i, : len(tokens)], tokens.astype(np.float32))
            assert batch.text.tokens[i, len(tokens) :].abs().sum() == 0
            at = [row["source"] for row in text[key]["json"]["captions"]].index(source)
            assert np.array_equal(batch.text.pooled[i], text[key]["pooled.npy"][at].astype("f4"))
            assert np.array_equal(raw.latents[i], latents[key]["moments.npy"])
            mean = torch.from_numpy(latents[key]["moments.npy"][:CHANNELS]).float()
            restored = unwhiten(batch.latents[i], data.space)
            assert (restored - mean).abs().max() < 0.3  # std 0.05
            assert not torch.equal(restored, mean)


@pytest.mark.parametrize("io_kind", ["preadv", "mmap"])
@pytest.mark.parametrize("verify", ["never", "sampled", "always"])
def test_ways_of_reading_give_the_same(make_encoded: Any, io_kind: Any, verify: Any) -> None:
    shards = make_encoded({"64x64": 9})
    batch = planned("64x64", [4, 8, 3, 0, 1])
    usual = read_raw(shards, batch)
    other = read_raw(shards, batch, reading=ReadConfig(io=io_kind, verify=verify))
    assert usual.keys == other.keys
    assert torch.equal(usual.latents, other.latents)
    assert torch.equal(usual.texts["main"].tokens, other.texts["main"].tokens)


def test_sample_meets_the_same_draws_in_any_batch(make_encoded: Any) -> None:
    shards = make_encoded({"64x64": 6})
    one = read(shards, planned("64x64", [0, 1, 2]))
    other = read(shards, planned("64x64", [5, 1]))
    assert other.keys[1] == one.keys[1]
    assert other.sources[1] == one.sources[1]
    assert torch.equal(other.latents[1], one.latents[1])
    assert torch.equal(other.noise[1], one.noise[1])
    assert other.uniform[1] == one.uniform[1]


def test_epochs_and_seeds_give_other_draws(make_encoded: Any) -> None:
    shards = make_encoded({"64x64": 1})
    draws = [
        read(shards, planned("64x64", [0], epoch), MIX, seed).noise.sum().item()
        for epoch, seed in ((0, 0), (1, 0), (0, 1))
    ]
    assert len(set(draws)) == 3


def test_captions_are_drawn_by_weight_and_dropped(make_encoded: Any) -> None:
    mix = CaptionMix(weights={"alt": 0.25, "detailed": 0.75}, dropout_frac=0.2)
    seen: Counter[str] = Counter()
    with LatentSet([(make_encoded({"64x64": 10}).store, 1.0)]) as data:
        reader, slot = make_reader(data, mix), Slot()
        for epoch in range(100):
            batch = finish(reader.read(planned("64x64", list(range(10)), epoch), slot), data.space)
            seen.update(batch.sources)
            dropped = torch.tensor([source == "" for source in batch.sources])
            assert batch.text.tokens[dropped].abs().sum() == 0
            assert batch.text.lengths[dropped].sum() == 0
            assert batch.text.pooled[dropped].abs().sum() == 0
            assert (batch.text.pooled[~dropped].abs().sum(dim=1) > 0).all()
    assert seen[""] / 1000 == pytest.approx(0.2, abs=0.04)
    assert seen["alt"] / (1000 - seen[""]) == pytest.approx(0.25, abs=0.05)


def some_sources(number: int) -> tuple[str, ...]:
    return (("alt", "detailed"), ("alt",), ("short", "alt"), ())[number % 4]


def test_samples_without_the_wanted_caption_fall_back_and_are_counted(make_encoded: Any) -> None:
    shards = make_encoded({"64x64": 8}, options=StoreOptions(sources=some_sources))
    mix = CaptionMix(weights={"detailed": 1.0, "alt": 0.0}, dropout_frac=0.0)
    expected = {make_key(n): ("detailed", "alt", "alt", "")[n % 4] for n in range(8)}
    with LatentSet([(shards.store, 1.0)]) as data:
        reader = make_reader(data, mix)
        raw = reader.read(planned("64x64", list(range(8))), Slot())
    assert dict(zip(raw.keys, raw.sources, strict=True)) == expected
    assert reader.counts == {"other_caption": 4, "without_caption": 2}


def test_the_encoded_empty_caption_can_stand_for_none(make_encoded: Any) -> None:
    shards = make_encoded({"64x64": 2})
    mix = CaptionMix(weights={"alt": 1.0}, dropout_frac=1.0 - 1e-12)
    null = stored(folder_of(shards) / "text-main/_null.tar")["0" * 20]
    wishes = Wishes(text=TextShape(null="encoded"))
    batch = read(shards, planned("64x64", [0, 1]), mix, 0, wishes)
    num_tokens = len(null["null.npy"])
    assert batch.sources == ("", "")
    assert batch.text.lengths.tolist() == [num_tokens] * 2
    assert np.array_equal(batch.text.tokens[0, :num_tokens], null["null.npy"].astype("f4"))
    assert np.array_equal(batch.text.pooled[1], null["pooled.npy"][0].astype("f4"))


@pytest.mark.parametrize(
    ("shape", "width"),
    [
        (TextShape(), MAX_TOKENS),
        (TextShape(max_tokens=2), 2),
        (TextShape(step=1), 6),
        (TextShape(step=4), MAX_TOKENS),  # 8 would be more than the encoder's
        (TextShape(step=4, max_tokens=5), 5),
    ],
)
def test_captions_are_padded_and_cut(make_encoded: Any, shape: TextShape, width: int) -> None:
    shards = make_encoded({"64x64": 3})  # detailed captions of 4, 5 and 6 tokens
    mix = CaptionMix(weights={"detailed": 1.0}, dropout_frac=0.0)
    batch = planned("64x64", [0, 1, 2])
    whole = read(shards, batch, mix).text
    reading = ReadConfig(verify="always")
    text = read_raw(shards, batch, mix, 0, Wishes(text=shape), reading).texts["main"]
    assert text.tokens.shape[1] == width
    assert text.lengths.tolist() == [min(n, width) for n in whole.lengths.tolist()]
    assert torch.equal(text.tokens.float(), whole.tokens[:, :width])


def test_several_text_encoders_show_the_same_caption(make_encoded: Any) -> None:
    shards = make_encoded({"64x64": 6}, options=StoreOptions(towers=("main", "second")))
    raw = read_raw(shards, planned("64x64", [0, 3, 5]))
    assert list(raw.texts) == ["main", "second"]
    for name, text in raw.texts.items():
        truth = stored(folder_of(shards) / f"text-{name}/00000.tar")
        for i, (key, source) in enumerate(zip(raw.keys, raw.sources, strict=True)):
            tokens = truth[key][f"{source}.npy"]
            assert np.array_equal(text.tokens[i, : len(tokens)], tokens)


def test_int8_tokens_are_widened(make_encoded: Any) -> None:
    shards = make_encoded({"64x64": 3}, options=StoreOptions(form="int8"))
    truth = stored(folder_of(shards) / "text-main/00000.tar")
    batch = read(shards, planned("64x64", [0, 1, 2]))
    for i, (key, source) in enumerate(zip(batch.keys, batch.sources, strict=True)):
        packed = truth[key][f"{source}.npy"]
        expected = unpack_int8(packed, np.empty((len(packed), SPACE["text_dim"]), np.float32))
        assert np.array_equal(batch.text.tokens[i, : len(packed)], expected)


def test_token_ids_are_given_as_ids(make_encoded: Any) -> None:
    shards = make_encoded({"64x64": 3}, options=StoreOptions(form="ids"))
    truth = stored(folder_of(shards) / "text-main/00000.tar")
    batch = read(shards, planned("64x64", [0, 1, 2]))
    assert batch.text.tokens.dtype == torch.int64
    for i, (key, source) in enumerate(zip(batch.keys, batch.sources, strict=True)):
        ids = truth[key][f"{source}.ids.npy"]
        assert batch.text.tokens[i, : len(ids)].tolist() == ids.tolist()


def test_stored_draws_and_mirrored_copies_are_read(make_encoded: Any) -> None:
    options = StoreOptions(member="latents", has_flipped=True)
    shards = make_encoded({"64x64": 6}, options=options)
    truth = stored(shards.tar_path("00000"))
    sides: set[bool] = set()
    for epoch in range(4):
        raw = read_raw(shards, planned("64x64", [0, 1, 2], epoch))
        assert raw.posterior is None
        for key, latents, flipped in zip(raw.keys, raw.latents, raw.flipped, strict=True):
            assert np.array_equal(latents, truth[key]["flipped.npy" if flipped else "latents.npy"])
            sides.add(flipped)
    assert sides == {False, True}
    plain = read_raw(shards, planned("64x64", [0, 1, 2]), wishes=Wishes(with_flips=False))
    assert plain.flipped == (False,) * 3


def test_features_come_with_their_samples(make_encoded: Any) -> None:
    shards = make_encoded({"64x64": 6}, options=StoreOptions(features=("dino",)))
    raw = read_raw(shards, planned("64x64", [5, 0]), wishes=Wishes(features=("dino",)))
    numbers = {make_key(number): number for number in range(6)}
    assert raw.features["dino"].shape == (2, 2, 3)
    assert raw.features["dino"][:, 0, 0].tolist() == [numbers[key] for key in raw.keys]


def test_captions_of_other_resolutions_are_found_at_home(make_encoded: Any) -> None:
    from curate.core.latent_column import ArrayRows

    shards = make_encoded({"64x64": 4, "32x32": 4})
    folder = folder_of(shards)
    # The second shard: the same samples, whose captions lie with the first, in another order.
    first, second = (open_index(folder / f"0000{i}.idx") for i in (0, 1))
    rows = ArrayRows(dict(first.facts, members={}))
    keys = [first.arrays["key"][i].tobytes().hex() for i in range(4)]
    moments = [members["moments.npy"] for members in stored(shards.tar_path("00001")).values()]
    for i, home in enumerate((2, 0, 3, 1)):
        end = int(second.arrays["moments.offset"][i]) + moments[i].nbytes
        extra = {"home_shard": 0, "home_row": home}
        rows.add(keys[home], {"moments": moments[i]}, {"moments": end}, extra)
    rows.write(folder / "00001.idx", second.tar)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["shards"][1]["has_text"] = False
    (folder / "manifest.json").write_text(json.dumps(manifest))
    raw = read_raw(shards, planned("32x32", [0, 1, 2, 3]))
    text = stored(folder / "text-main/00000.tar")
    for i, (key, source) in enumerate(zip(raw.keys, raw.sources, strict=True)):
        tokens = text[key][f"{source}.npy"]
        assert np.array_equal(raw.texts["main"].tokens[i, : len(tokens)], tokens)


def test_stores_are_mixed_and_their_facts_must_agree(make_encoded: Any) -> None:
    one = make_encoded({"64x64": 4}, folder="one")
    two = make_encoded({"64x64": 4, "32x32": 4}, folder="two", options=StoreOptions(seed=1))
    with LatentSet([(one.store, 1.0), (two.store, 2.0)]) as data:
        assert data.bucket_sizes == {"32x32": 4, "64x64": 8}
        reader, slot = make_reader(data), Slot()
        batches = [reader.read(reader.plan.batch(step), slot).keys for step in range(20)]
    seen = Counter(key for batch in batches for key in batch)
    theirs = {make_key(number, 1) for number in range(8)}
    assert set(seen) == theirs | {make_key(number) for number in range(4)}
    assert abs(sum(seen[key] for key in theirs) - 64) <= 4  # 16 of 20 by size times weight
    for changes, message in (
        ({"vae": "other"}, "latents.vae must be that of .*one, vae-digest, got other"),
        ({"latent_std": [1.0] * 4}, r"latents.std must be that of .*\(2.0, .*got \(1.0"),
        ({"text_encoder": "other"}, "texts.main.encoder must be that of"),
    ):
        folder = f"other-{next(iter(changes))}"
        third = make_encoded({"64x64": 1}, folder=folder, **changes)
        with pytest.raises(DataError, match=message):
            LatentSet([(one.store, 1.0), (third.store, 1.0)])


def test_excluded_samples_are_never_met(make_encoded: Any) -> None:
    shards = make_encoded({"64x64": 6, "32x32": 3})
    gone = [make_key(1), make_key(4), make_key(7)]
    lines = "".join(json.dumps({"key": key}) + "\n" for key in gone)
    (folder_of(shards) / "excluded.jsonl").write_text(lines)
    with LatentSet([(shards.store, 1.0)]) as data:
        assert data.bucket_sizes == {"32x32": 2, "64x64": 4}
        reader, slot = make_reader(data), Slot()
        seen = {k for step in range(12) for k in reader.read(reader.plan.batch(step), slot).keys}
    assert seen == {make_key(number) for number in range(9)} - set(gone)
    (folder_of(shards) / "excluded.jsonl").write_text("{}\n")
    with pytest.raises(ShardError, match=r"excluded\.jsonl: each line must be like"):
        LatentSet([(shards.store, 1.0)])


def flip_byte(path: Path, offset: int) -> None:
    with path.open("r+b") as stream:
        stream.seek(offset)
        byte = stream.read(1)[0]
        stream.seek(offset)
        stream.write(bytes([byte ^ 1]))


@pytest.mark.parametrize("column", ["latents", "text"])
def test_a_flipped_byte_is_replaced_by_the_spare_and_named(
    make_encoded: Any, caplog: pytest.LogCaptureFixture, column: str
) -> None:
    shards = make_encoded({"64x64": 8})
    folder = folder_of(shards)
    keys = open_index(folder / "00000.idx").arrays["key"]
    if column == "latents":
        at = int(open_index(folder / "00000.idx").arrays["moments.offset"][2])
        flip_byte(folder / "00000.tar", at + 5)
    else:
        index = open_index(folder / "text-main/00000.idx")
        first = int(index.arrays["first"][2])
        for number in (first, first + 1):
            at = int(index.arrays["base"][2]) + int(index.arrays["captions"][number]["tokens_at"])
            flip_byte(folder / "text-main/00000.tar", at + 1)
    batch = planned("64x64", [0, 2, 5, 1])
    whole = read_raw(shards, batch, reading=ReadConfig(verify="never"))
    with LatentSet([(shards.store, 1.0)], ReadConfig(verify="always")) as data:
        reader = make_reader(data)
        with caplog.at_level(logging.WARNING):
            raw = reader.read(batch, Slot())
        again = make_reader(data).read(batch, Slot())
    bad = keys[2].tobytes().hex()
    assert bad in whole.keys
    assert bad not in raw.keys
    assert raw.latents.shape == whole.latents.shape
    assert [raw.keys[i] for i in (0, 2, 3)] == [whole.keys[i] for i in (0, 2, 3)]
    assert raw.keys == again.keys
    assert {record.key for record in reader.bad} == {bad}
    assert reader.counts["bad_record"] >= 1
    assert f"record {bad} is bad and another is shown in its place" in caplog.text


def test_too_many_bad_records_stop_the_run(make_encoded: Any) -> None:
    shards = make_encoded({"64x64": 4})
    tar = shards.tar_path("00000")
    tar.write_bytes(bytes(tar.stat().st_size))
    with pytest.raises(DataError, match=r"train.reading.max_bad: at most 2 bad .* got 3"):
        read_raw(shards, planned("64x64", [0]), reading=ReadConfig(verify="always", max_bad=2))
    with pytest.raises(DataError, match="got 16 bad ones in a row"):
        read_raw(shards, planned("64x64", [0]), reading=ReadConfig(verify="always"))


def test_a_tar_cut_after_it_was_opened_gives_spares(make_encoded: Any) -> None:
    shards = make_encoded({"64x64": 20})
    tar = shards.tar_path("00000")
    with LatentSet([(shards.store, 1.0)]) as data:
        reader = make_reader(data)
        reader.read(planned("64x64", [19]), Slot())
        with tar.open("r+b") as stream:
            stream.truncate(tar.stat().st_size * 9 // 10)
        raw = reader.read(planned("64x64", [0, 19]), Slot())
    assert len(raw.keys) == 2
    assert "must reach to byte" in reader.bad[0].reason


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / "00000.tar").unlink(), "its tar and its index must be there"),
        (lambda f: (f / "text-main/00000.tar").unlink(), "its tar and its index must be there"),
        (lambda f: flip_byte(f / "00000.idx", 300), "must be as it was written"),
        (lambda f: (f / "00000.tar").write_bytes(bytes(700)), "must be the tar of 00000.idx"),
    ],
)
def test_damaged_shards_are_refused_by_name(make_encoded: Any, damage: Any, message: str) -> None:
    shards = make_encoded({"64x64": 3})
    damage(folder_of(shards))
    with pytest.raises(ShardError, match=message):
        read_raw(shards, planned("64x64", [0]))


@pytest.mark.parametrize("name", ["00000.idx", "text-main/00000.idx"])
def test_a_lost_index_is_made_again(
    make_encoded: Any, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    shards = make_encoded({"64x64": 6})
    before = read_raw(shards, planned("64x64", [4, 1]))
    path = folder_of(shards) / name
    said = {name: array.tolist() for name, array in open_index(path).arrays.items()}
    path.unlink()
    after = read_raw(shards, planned("64x64", [4, 1]))
    assert torch.equal(before.latents, after.latents)
    assert torch.equal(before.texts["main"].tokens, after.texts["main"].tokens)
    assert f"{name} was missing and is made again" in caplog.text
    assert {name: array.tolist() for name, array in open_index(path).arrays.items()} == said


def test_a_lost_index_of_a_tar_of_another_size_is_not_made(make_encoded: Any) -> None:
    shards = make_encoded({"64x64": 3})
    folder = folder_of(shards)
    (folder / "00000.idx").unlink()
    (folder / "00000.tar").write_bytes((folder / "00000.tar").read_bytes() + bytes(512))
    with pytest.raises(ShardError, match=r"00000\.tar: must be there with \d+ bytes, got"):
        read_raw(shards, planned("64x64", [0]))
    assert not (folder / "00000.idx").exists()


def test_columns_of_other_samples_are_refused(make_encoded: Any) -> None:
    one = make_encoded({"64x64": 3}, folder="one")
    two = make_encoded({"64x64": 3}, folder="two", options=StoreOptions(seed=1))
    for suffix in ("tar", "idx"):
        source = folder_of(two) / f"text-main/00000.{suffix}"
        (folder_of(one) / f"text-main/00000.{suffix}").write_bytes(source.read_bytes())
    with pytest.raises(ShardError, match=r"must have the keys of 00000\.tar in the same order"):
        read_raw(one, planned("64x64", [0]))


def test_folder_without_samples_is_refused(make_encoded: Any, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="must hold at least one encoded sample, got 0"):
        LatentSet([(make_encoded({"64x64": 0}).store, 1.0)])
    with pytest.raises(DataError, match=r"manifest.json: must be there, got no file"):
        LatentSet([(ShardSet(tmp_path / "absent").store, 1.0)])


def test_whitening_is_undone(make_encoded: Any) -> None:
    with LatentSet([(make_encoded({"64x64": 1}).store, 1.0)]) as data:
        raw = torch.full((1, 4, 2, 2), 2.5)
        assert whiten(raw, data.space).unique().tolist() == [1.0]
        assert torch.equal(unwhiten(whiten(raw, data.space), data.space), raw)


def test_posterior_has_the_stored_mean_and_std() -> None:
    moments = torch.cat([torch.full((1, 2, 1, 1), 3.0), torch.full((1, 2, 1, 1), 0.5)], dim=1)
    drawn = draw_raw(moments.half(), torch.full((1, 2, 1, 1), 2.0))
    assert drawn.flatten().tolist() == [4.0, 4.0]


def test_a_remote_store_gives_the_same_batches(make_encoded: Any, tmp_path: Path) -> None:
    from curate.core.store import open_store

    shards = make_encoded({"64x64": 9})
    remote = open_store("memory://latents-of-test-data")
    for path in folder_of(shards).rglob("*"):
        if path.is_file():
            remote.write(str(path.relative_to(folder_of(shards))), path.read_bytes())
    batch = planned("64x64", [4, 8, 3, 0, 1])
    local = read_raw(shards, batch)
    reading = ReadConfig(cache_folder=str(tmp_path / "cache"), cache_bytes=64 << 20)
    with LatentSet([(remote, 1.0)], reading) as data:
        reader = make_reader(data)
        reader.announce(reader.visits(batch))
        raw = reader.read(batch, Slot())
    assert raw.keys == local.keys
    assert torch.equal(raw.latents, local.latents)
    assert torch.equal(raw.texts["main"].tokens, local.texts["main"].tokens)
    assert any((tmp_path / "cache").rglob("*-0"))


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning")
def test_a_plain_webdataset_reader_joins_the_same_samples(make_encoded: Any) -> None:
    import webdataset

    shards = make_encoded({"64x64": 9})
    folder = folder_of(shards)
    latents, text = (
        webdataset.WebDataset([str(tar)], shardshuffle=False, empty_check=False).decode()
        for tar in (folder / "00000.tar", folder / "text-main/00000.tar")
    )
    raw = read_raw(shards, planned("64x64", list(range(9))))
    number = {key: i for i, key in enumerate(raw.keys)}
    joined = 0
    for one, other in zip(latents, text, strict=True):
        assert one["__key__"] == other["__key__"]
        i = number[one["__key__"]]
        tokens = other[f"{raw.sources[i]}.npy"]
        assert np.array_equal(raw.latents[i], one["moments.npy"])
        assert np.array_equal(raw.texts["main"].tokens[i, : len(tokens)], tokens)
        joined += 1
    assert joined == 9
