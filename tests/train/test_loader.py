"""What a loader gives depends on the plan and the step alone."""

import threading
from typing import Any

import pytest
import torch

from curate.core.errors import ShardError
from curate.core.shard import ShardSet
from tests.train.stores import StoreOptions
from train.batches import RawBatch
from train.data import BatchReader, LatentSet
from train.loader import Loader
from train.mix import CaptionMix
from train.reading import TextShape, Wishes

MIX = CaptionMix(weights={"alt": 0.5, "detailed": 0.5}, dropout_frac=0.1)
SIZES = {"64x64": 20, "32x64": 7, "64x32": 1}
BATCH_SIZE, NUM_STEPS = 24, 6


def make_reader(data: LatentSet) -> BatchReader:
    wishes = Wishes(text=TextShape(step=2))
    return BatchReader(data, data.plan(BATCH_SIZE, 0), MIX, 0, wishes)


def content(raw: RawBatch) -> tuple[Any, ...]:
    """Copy what a batch holds; padding apart, which is of a rank's own longest caption."""
    text = raw.texts["main"]
    rows = zip(
        raw.keys,
        raw.sources,
        raw.latents.tolist(),
        [tokens[:n].tolist() for tokens, n in zip(text.tokens, text.lengths, strict=True)],
        text.pooled.tolist(),
        raw.uniform.tolist(),
        [] if raw.noise is None else raw.noise.tolist(),
        strict=True,
    )
    return raw.step, raw.bucket, list(rows)


def load(shards: ShardSet, **options: Any) -> list[tuple[Any, ...]]:
    with (
        LatentSet([(shards.store, 1.0)]) as data,
        Loader(make_reader(data), **{"end_step": NUM_STEPS} | options) as loader,
    ):
        return [content(raw) for raw in loader]


@pytest.fixture
def shards(make_encoded: Any) -> ShardSet:
    return make_encoded(SIZES)


@pytest.mark.parametrize("num_threads", [0, 1, 2, 4])
@pytest.mark.parametrize("ahead_steps", [0, 3])
def test_threads_change_nothing(shards: ShardSet, num_threads: int, ahead_steps: int) -> None:
    usual = load(shards, num_threads=0, ahead_steps=0)
    assert [step for step, *_ in usual] == list(range(NUM_STEPS))
    assert load(shards, num_threads=num_threads, ahead_steps=ahead_steps) == usual


@pytest.mark.parametrize("world_size", [1, 2, 3, 4, 8])
def test_ranks_share_the_same_global_batches(shards: ShardSet, world_size: int) -> None:
    whole = load(shards)
    ranks = [load(shards, part=(rank, world_size)) for rank in range(world_size)]
    for step in range(NUM_STEPS):
        parts = [rank[step] for rank in ranks]
        assert {part[:2] for part in parts} == {whole[step][:2]}
        assert [row for part in parts for row in part[2]] == whole[step][2]


@pytest.mark.parametrize("first_step", range(NUM_STEPS + 1))
def test_any_step_is_a_place_to_begin(shards: ShardSet, first_step: int) -> None:
    assert load(shards, first_step=first_step) == load(shards)[first_step:]


def test_step_counts_what_was_taken_and_not_what_was_read(shards: ShardSet) -> None:
    with (
        LatentSet([(shards.store, 1.0)]) as data,
        Loader(make_reader(data), num_threads=2) as loader,
    ):
        assert loader.step == 0
        next(loader)
        next(loader)
        assert loader.step == 2


def test_a_fault_is_raised_at_its_step_and_threads_end(make_encoded: Any) -> None:
    shards = make_encoded({"64x64": 4, "32x64": 40})
    before = threading.active_count()
    with LatentSet([(shards.store, 1.0)]) as data:
        reader = BatchReader(data, data.plan(4, 0), MIX, 0)
        buckets = [reader.plan.batch(step).bucket for step in range(30)]
        shards.tar_path("00000").unlink()
        with Loader(reader, num_threads=2) as loader:
            for _ in range(buckets.index("64x64")):
                next(loader)
            with pytest.raises(ShardError, match="its tar and its index must be there"):
                next(loader)
            with pytest.raises(StopIteration):
                next(loader)
    assert threading.active_count() == before


def test_a_loader_that_is_left_early_ends_its_threads(shards: ShardSet) -> None:
    before = threading.active_count()
    with LatentSet([(shards.store, 1.0)]) as data:
        with Loader(make_reader(data), num_threads=3) as loader:
            next(loader)
        with pytest.raises(StopIteration):
            next(loader)
    assert threading.active_count() == before


def test_slots_are_used_again(make_encoded: Any) -> None:
    shards = make_encoded({"64x64": 32}, options=StoreOptions(member="latents"))
    places: set[int] = set()
    with LatentSet([(shards.store, 1.0)]) as data, Loader(make_reader(data)) as loader:
        for _ in range(20):
            places.add(next(loader).latents.data_ptr())
    assert len(places) <= 5


def test_the_batch_in_hand_is_not_overwritten(shards: ShardSet) -> None:
    with (
        LatentSet([(shards.store, 1.0)]) as data,
        Loader(make_reader(data), num_threads=4) as loader,
    ):
        for _ in range(20):
            raw = next(loader)
            kept = raw.latents.clone()
            reader = make_reader(data)
            again = reader.read(reader.plan.batch(raw.step), _new_slot())
            assert torch.equal(raw.latents, again.latents)
            assert torch.equal(raw.latents, kept)


def _new_slot() -> Any:
    from train.slot import Slot

    return Slot()


@pytest.mark.parametrize("num_threads", [0, 2])
def test_a_loader_ends_with_its_first_error(make_encoded: Any, num_threads: int) -> None:
    shards = make_encoded({"64x64": 8})
    shards.tar_path("00000").write_bytes(bytes(700))
    with LatentSet([(shards.store, 1.0)]) as data:
        loader = Loader(make_reader(data), num_threads=num_threads)
        with pytest.raises(ShardError, match=r"must be the tar of 00000\.idx"):
            next(loader)
        with pytest.raises(StopIteration):
            next(loader)
