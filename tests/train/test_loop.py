"""Training as a whole: it learns, and it can be killed anywhere without a trace."""

from pathlib import Path
from typing import Any

import pytest
import torch

from curate.core.errors import ConfigError, StageError
from curate.core.stage import Place
from tests.train.stores import StoreOptions
from train.backbones.backbone import BackboneConfig
from train.config import TrainConfig
from train.data import LatentSet
from train.loop import TrainState, make_identity, train
from train.stage import TrainStage

MODEL = BackboneConfig(depth=2, num_heads=2, head_dim=8, max_grid=8)
CONFIG = TrainConfig(
    model=MODEL,
    num_samples=64,
    batch_size=4,
    warmup_samples=8,
    log_every_samples=10,
    checkpoint_every_samples=12,
    ema_half_life_samples=16,
    num_loss_bins=2,
)


class Killed(Exception):
    """Stands for SIGKILL at a step's end."""


def run_training(
    config: TrainConfig, shards: Any, folder: Path, *, kill_at: int | None = None, seed: int = 0
) -> TrainState:
    def on_step(state: TrainState) -> None:
        if state.samples_seen == kill_at:
            raise Killed

    with LatentSet([(shards.store, 1.0)], config.reading) as data:
        identity = make_identity(config, {"shard": "digest"}, seed)
        return train(config, data, folder, identity, seed, on_step)


def weights(state: TrainState) -> list[torch.Tensor]:
    return [param.detach() for param in state.backbone.module.parameters()]


def same(one: list[torch.Tensor], other: list[torch.Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_eight_samples_are_learnt_by_heart(make_encoded: Any, tmp_path: Path) -> None:
    config = TrainConfig(
        model=BackboneConfig(depth=2, num_heads=2, head_dim=16, max_grid=8),
        num_samples=1200,
        batch_size=16,
        caption_dropout_frac=0.0,
        warmup_samples=60,
        log_every_samples=120,
        muon_lr=1e-2,
        adamw_lr=3e-3,
        precision="fp32",
    )
    state = run_training(config, make_encoded({"16x16": 8}), tmp_path)
    losses = [line["loss"] for line in state.lines]
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.parametrize("kill_at", [4, 12, 16, 40, 60])
def test_killed_run_goes_on_as_if_it_had_not_been(
    make_encoded: Any, tmp_path: Path, kill_at: int
) -> None:
    shards = make_encoded({"16x16": 7, "8x16": 3})
    straight = run_training(CONFIG, shards, tmp_path / "straight")
    with pytest.raises(Killed):
        run_training(CONFIG, shards, tmp_path / "cut", kill_at=kill_at)
    resumed = run_training(CONFIG, shards, tmp_path / "cut")
    assert same(weights(straight), weights(resumed))
    assert same(straight.ema.averages, resumed.ema.averages)
    assert straight.lines == resumed.lines


def test_run_killed_at_every_step_ends_in_the_same_weights(
    make_encoded: Any, tmp_path: Path
) -> None:
    shards = make_encoded({"16x16": 7})
    straight = run_training(CONFIG, shards, tmp_path / "straight")
    often = {"checkpoint_every_samples": 4}
    config = TrainConfig(**{n: getattr(CONFIG, n) for n in CONFIG.__dataclass_fields__} | often)
    for kill_at in range(4, 64, 4):
        with pytest.raises(Killed):
            run_training(config, shards, tmp_path / "cut", kill_at=kill_at)
    resumed = run_training(config, shards, tmp_path / "cut")
    assert same(weights(straight), weights(resumed))
    assert straight.lines == resumed.lines


def test_seeds_give_other_weights(make_encoded: Any, tmp_path: Path) -> None:
    shards = make_encoded({"16x16": 4})
    one = run_training(CONFIG, shards, tmp_path / "one", seed=0)
    other = run_training(CONFIG, shards, tmp_path / "other", seed=1)
    assert not same(weights(one), weights(other))


def test_metrics_name_the_cursor_and_no_clock(make_encoded: Any, tmp_path: Path) -> None:
    state = run_training(CONFIG, make_encoded({"16x16": 4}), tmp_path)
    assert [line["samples_seen"] for line in state.lines] == [12, 20, 32, 40, 52, 60, 64]
    names = {"samples_seen", "loss", "loss_bins", "grad_norm", "lr"}
    assert all(set(line) == names for line in state.lines)


def test_checkpoint_of_another_config_is_refused(make_encoded: Any, tmp_path: Path) -> None:
    shards = make_encoded({"16x16": 4})
    with pytest.raises(Killed):
        run_training(CONFIG, shards, tmp_path, kill_at=20)
    other = TrainConfig(model=MODEL, num_samples=64, batch_size=4, muon_lr=1e-3)
    with pytest.raises(StageError, match=r"a run goes on only with equal .*muon_lr"):
        run_training(other, shards, tmp_path)


@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning")
def test_loss_that_is_no_number_stops_the_run(make_encoded: Any, tmp_path: Path) -> None:
    shards = make_encoded({"16x16": 4}, latent_std=[0.0] * 4)
    with pytest.raises(StageError, match="loss and gradient must be finite"):
        run_training(CONFIG, shards, tmp_path)


def run_stage(config: TrainConfig, shards: Any, folder: Path) -> dict[str, bytes]:
    stage = TrainStage(config, {"encode": shards}, {}, 0)
    ((task,),) = stage.waves()
    place = Place(out=folder / "out", scratch=folder / "scratch")
    for path in (place.out, place.scratch):
        path.mkdir(parents=True, exist_ok=True)
    assert stage.run(task, place) == {"in": 10, "kept": 10}
    files = (path for path in place.out.rglob("*") if path.is_file())
    return {str(path.relative_to(place.out)): path.read_bytes() for path in files}


def test_stage_writes_equal_bytes_after_a_kill(make_encoded: Any, tmp_path: Path) -> None:
    shards = make_encoded({"16x16": 7, "8x16": 3})
    straight = run_stage(CONFIG, shards, tmp_path / "straight")
    assert set(straight) == {
        "00000.parquet",
        "metrics.jsonl",
        "model/config.json",
        "model/diffusion_pytorch_model.safetensors",
        "train.json",
    }

    def on_step(state: TrainState) -> None:
        if state.samples_seen == 32:
            raise Killed

    stage = TrainStage(CONFIG, {"encode": shards}, {}, 0)
    ((task,),) = stage.waves()
    with LatentSet([(shards.store, 1.0)]) as data, pytest.raises(Killed):
        identity = make_identity(CONFIG, task.inputs, 0)
        train(CONFIG, data, tmp_path / "cut/scratch/checkpoints", identity, 0, on_step)
    assert (tmp_path / "cut/scratch/checkpoints/000000000000024").is_dir()
    assert run_stage(CONFIG, shards, tmp_path / "cut") == straight


def test_task_depends_on_the_store_and_on_what_is_excluded(make_encoded: Any) -> None:
    shards = make_encoded({"16x16": 2, "8x16": 2})
    stage = TrainStage(CONFIG, {"encode": shards}, {}, 0)
    ((task,),) = stage.waves()
    assert list(task.inputs) == ["encode/manifest.json"]
    folder = shards.table_path("00000").parent
    (folder / "excluded.jsonl").write_text("")
    (folder / "_set.done.json").write_text("{}")
    ((task,),) = stage.waves()
    assert set(task.inputs) == {
        "encode/manifest.json",
        "encode/_set.done.json",
        "encode/excluded.jsonl",
    }


def test_other_stores_are_mixed_in(make_encoded: Any, tmp_path: Path) -> None:
    one = make_encoded({"16x16": 4})
    other = make_encoded({"16x16": 6}, folder="other", options=StoreOptions(seed=1))
    values = {name: getattr(CONFIG, name) for name in CONFIG.__dataclass_fields__}
    config = TrainConfig(**values | {"other_stores": {other.url: 2.0}})
    files = run_stage(config, one, tmp_path / "mixed")
    assert "train.json" in files  # of 10 samples, as run_stage checks
    ((task,),) = TrainStage(config, {"encode": one}, {}, 0).waves()
    assert list(task.inputs) == ["encode/manifest.json", "other-1/manifest.json"]


@pytest.mark.parametrize(
    ("bucket", "model", "message"),
    [
        ("24x16", {"patch_size": 2}, "bucket 24x16: sides must be multiples of 16 px"),
        ("16x32", {"max_grid": 3}, "bucket 16x32: sides must be at most 24 px"),
    ],
)
def test_buckets_the_model_cannot_take_are_refused(
    make_encoded: Any, tmp_path: Path, bucket: str, model: dict[str, int], message: str
) -> None:
    config = TrainConfig(model=BackboneConfig(depth=1, num_heads=1, head_dim=8, **model))
    stage = TrainStage(config, {"encode": make_encoded({bucket: 2})}, {}, 0)
    ((task,),) = stage.waves()
    with pytest.raises(ConfigError, match=message):
        stage.run(task, Place(out=tmp_path, scratch=tmp_path / "scratch"))


def test_damaged_store_stops_the_run_at_once(make_encoded: Any, tmp_path: Path) -> None:
    shards = make_encoded({"16x16": 4})
    stage = TrainStage(CONFIG, {"encode": shards}, {}, 0)
    ((task,),) = stage.waves()
    shards.tar_path("00000").write_bytes(bytes(2048))
    with pytest.raises(StageError, match=r"00000\.tar: must be the tar of 00000\.idx, \d+ bytes"):
        stage.run(task, Place(out=tmp_path / "out", scratch=tmp_path / "scratch"))
