from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from curate.core.errors import DataError, ShardError
from curate.core.shard import ShardSet
from train.data import CaptionMix, LatentSet, draw_raw, unwhiten, whiten
from train.plan import PlannedBatch

MIX = CaptionMix(weights={"alt": 0.5, "detailed": 0.5}, dropout_frac=0.0)


def planned(bucket: str, positions: list[int], epoch: int = 0) -> PlannedBatch:
    return PlannedBatch(
        step=0,
        bucket=bucket,
        sets=np.zeros(len(positions), np.int64),
        positions=np.array(positions, np.int64),
        epochs=np.full(len(positions), epoch, np.int64),
    )


def stored(shards: ShardSet, shard: str) -> dict[str, dict[str, Any]]:
    """Read every payload through the tar reader, which knows nothing of offsets."""
    import io

    return {
        key: {ext: np.load(io.BytesIO(data)) for ext, data in members.items()}
        for key, members in shards.members(shard)
    }


def test_batch_holds_what_the_tar_holds(make_encoded: Any) -> None:
    shards = make_encoded({"64x64": 5, "32x64": 4})
    truth = stored(shards, "00001")
    pooled = {row["key"]: row for row in shards.table("00001").to_pylist()}
    with LatentSet(shards, MIX) as data:
        assert len(data) == 9
        assert data.bucket_sizes == {"32x64": 4, "64x64": 5}
        batch = data.load_batch(planned("32x64", [3, 0, 1, 2]), seed=0)
        assert batch.latents.shape == (4, 4, 4, 8)
        assert sorted(batch.keys) == sorted(truth)
        for i, (key, source) in enumerate(zip(batch.keys, batch.sources, strict=True)):
            tokens = truth[key][f"{source}.npy"]
            assert np.array_equal(batch.text[i, : len(tokens)], tokens.astype(np.float32))
            assert batch.text[i, len(tokens) :].abs().max() == 0
            at = pooled[key]["captions.source"].index(source)
            assert batch.pooled[i].tolist() == pooled[key]["captions.pooled"][at]
            mean = torch.from_numpy(truth[key]["moments.npy"][:4]).float()
            raw = unwhiten(batch.latents[i], data.space)
            assert (raw - mean).abs().max() < 0.3  # logvar -6: std 0.05
            assert not torch.equal(raw, mean)


def test_sample_meets_the_same_draws_in_any_batch(make_encoded: Any) -> None:
    with LatentSet(make_encoded({"64x64": 6}), MIX) as data:
        one = data.load_batch(planned("64x64", [0, 1, 2]), seed=0)
        latents, noise, uniform = one.latents[1].clone(), one.noise[1].clone(), one.uniform[1]
        other = data.load_batch(planned("64x64", [5, 1]), seed=0)
        assert other.keys[1] == one.keys[1]
        assert other.sources[1] == one.sources[1]
        assert torch.equal(other.latents[1], latents)
        assert torch.equal(other.noise[1], noise)
        assert other.uniform[1] == uniform


def test_epochs_and_seeds_give_other_draws(make_encoded: Any) -> None:
    with LatentSet(make_encoded({"64x64": 1}), MIX) as data:
        draws = [
            data.load_batch(planned("64x64", [0], epoch), seed=seed).noise.sum().item()
            for epoch, seed in ((0, 0), (1, 0), (0, 1))
        ]
        assert len(set(draws)) == 3


def test_order_does_not_depend_on_shard_boundaries(make_encoded: Any) -> None:
    together = make_encoded({"64x64": 6}, folder="one")
    apart = make_encoded({"64x64": 6, "32x64": 2}, folder="two")
    with LatentSet(together, MIX) as one, LatentSet(apart, MIX) as other:
        plan = planned("64x64", [2, 4])
        assert one.load_batch(plan, 0).keys == other.load_batch(plan, 0).keys


def test_captions_are_drawn_by_weight_and_dropped(make_encoded: Any) -> None:
    mix = CaptionMix(weights={"alt": 0.25, "detailed": 0.75}, dropout_frac=0.2)
    seen: Counter[str] = Counter()
    with LatentSet(make_encoded({"64x64": 10}), mix) as data:
        for epoch in range(100):
            batch = data.load_batch(planned("64x64", list(range(10)), epoch), seed=0)
            seen.update(batch.sources)
            dropped = torch.tensor([source == "" for source in batch.sources])
            assert batch.text[dropped].abs().sum() == 0
            assert batch.pooled[dropped].abs().sum() == 0
            assert (batch.pooled[~dropped].abs().sum(dim=1) > 0).all()
    assert seen[""] / 1000 == pytest.approx(0.2, abs=0.04)
    assert seen["alt"] / (1000 - seen[""]) == pytest.approx(0.25, abs=0.05)


def test_sources_without_weight_are_never_shown(make_encoded: Any) -> None:
    mix = CaptionMix(weights={"detailed": 1.0}, dropout_frac=0.0)
    with LatentSet(make_encoded({"64x64": 10}), mix) as data:
        batch = data.load_batch(planned("64x64", list(range(10))), seed=0)
        assert set(batch.sources) == {"detailed"}


def test_long_captions_are_cut(make_encoded: Any) -> None:
    shards = make_encoded({"64x64": 3})
    mix = CaptionMix(weights={"detailed": 1.0}, dropout_frac=0.0)
    with LatentSet(shards, mix) as whole, LatentSet(shards, mix, max_text_tokens=2) as cut:
        plan = planned("64x64", [0, 1, 2])
        text = cut.load_batch(plan, 0).text
        assert text.shape[1] == 2
        assert torch.equal(text, whole.load_batch(plan, 0).text[:, :2])


def test_whitening_is_undone(make_encoded: Any) -> None:
    with LatentSet(make_encoded({"64x64": 1}), MIX) as data:
        raw = torch.full((1, 4, 2, 2), 2.5)
        assert whiten(raw, data.space).unique().tolist() == [1.0]
        assert torch.equal(unwhiten(whiten(raw, data.space), data.space), raw)


def test_posterior_has_the_stored_mean_and_std() -> None:
    moments = torch.cat([torch.full((1, 2, 1, 1), 3.0), torch.full((1, 2, 1, 1), 2.0)], dim=1)
    drawn = draw_raw(moments.half(), torch.ones(1, 2, 1, 1))
    assert drawn.flatten().tolist() == pytest.approx([3 + np.e] * 2, abs=1e-5)


def test_folder_without_samples_is_refused(make_encoded: Any, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="must hold at least one encoded sample, got 0"):
        LatentSet(make_encoded({"64x64": 0}), MIX)
    with pytest.raises(DataError, match="must hold encoded shards, got none"):
        LatentSet(ShardSet(tmp_path / "absent"), MIX)


def test_samples_without_a_weighted_caption_are_refused(make_encoded: Any) -> None:
    mix = CaptionMix(weights={"short": 1.0}, dropout_frac=0.0)
    with pytest.raises(DataError, match="got 3 without among sources"):
        LatentSet(make_encoded({"64x64": 3}), mix)


def test_shards_of_two_vaes_are_refused(make_encoded: Any) -> None:
    make_encoded({"64x64": 1})
    shards = make_encoded({"64x64": 1, "32x64": 1}, folder="other", vae="another")
    folder = shards.table_path("00000").parent
    for path in (folder.parent / "encode").iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    with pytest.raises(ShardError, match="must come from the same VAE"):
        LatentSet(shards, MIX)


def test_truncated_tar_is_refused(make_encoded: Any) -> None:
    shards = make_encoded({"64x64": 2})
    tar = shards.tar_path("00000")
    with tar.open("r+b") as stream:
        stream.truncate(700)
    with (
        LatentSet(shards, MIX) as data,
        pytest.raises(ShardError, match=r"got \d+ bytes or another array; rerun encode"),
    ):
        data.load_batch(planned("64x64", [0, 1]), seed=0)
