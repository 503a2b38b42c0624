"""Sampling through tiny models of the real classes: AutoencoderKL, open_clip's text tower."""

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from diffusers import AutoencoderKL
from PIL import Image

from curate.core.commit import Output, commit
from curate.core.errors import ConfigError, DataError, ModelError
from curate.core.manifest import Identity
from curate.core.shard import ShardSet, read_members
from curate.core.stage import Place
from curate.core.store import LocalStore
from curate.models.packs import ModelRef
from curate.models.weights import seeded_weights
from pipelines.toyweb.fit_clip_model import build_network, write_clip, write_tokenizer
from train.backbones.backbone import BackboneConfig
from train.config import TrainConfig
from train.sample import SampleConfig, SampleStage
from train.stage import TrainStage

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:open_clip.*")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ModelRef]:
    folder = tmp_path_factory.mktemp("models")
    with seeded_weights(0):
        network = AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            block_out_channels=(4, 4, 4, 4),
            norm_num_groups=2,
            latent_channels=4,
        )
    network.save_pretrained(folder / "vae")
    write_clip(folder / "clip", build_network(0))
    write_tokenizer(folder / "clip")
    return {
        "vae": ModelRef(kind="autoencoder", paths=(folder / "vae",)),
        "text_encoder": ModelRef(kind="open_clip", paths=(folder / "clip",)),
    }


@pytest.fixture
def trained(make_encoded: Any, tmp_path: Path, models: dict[str, ModelRef]) -> ShardSet:
    """A run of two steps on latents that claim to come from these models."""
    from curate.models.text_encoder import load_text_encoder

    text_encoder = load_text_encoder(models["text_encoder"])
    shards = make_encoded(
        {"16x16": 4},
        vae=models["vae"].digest,
        text_encoder=models["text_encoder"].digest,
        text_dim=text_encoder.dim,
        pooled_dim=text_encoder.pooled_dim,
        max_tokens=8,
    )
    config = TrainConfig(
        model=BackboneConfig(depth=1, num_heads=1, head_dim=8, max_grid=4),
        num_samples=8,
        batch_size=4,
        warmup_samples=0,
    )
    stage = TrainStage(config, {"encode": shards}, {}, 0)
    ((task,),) = stage.waves()
    place = Place(out=tmp_path / "work", scratch=tmp_path / "scratch")
    place.out.mkdir()
    stage.run(task, place)
    identity = Identity(
        stage="train", version=1, seed=0, config={}, models={}, inputs={}, params={}
    )
    (tmp_path / "train").mkdir()
    commit(place.out, Output(store=LocalStore(tmp_path / "train")), task.shard, identity, {})
    return ShardSet(tmp_path / "train")


def write_prompts(tmp_path: Path, rows: list[dict[str, Any]]) -> str:
    path = tmp_path / "prompts.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


PROMPTS = [
    {"prompt": "a large red circle in the center"},
    {"prompt": "a small blue square at the top", "height": 16, "width": 32},
    {"prompt": "a small green cross at the left"},
]
CONFIG = SampleConfig(height=16, width=16, num_steps=2, prompts_per_shard=2, batch_size=2)


def run_stage(
    config: SampleConfig, trained: ShardSet, models: dict[str, ModelRef], folder: Path
) -> dict[str, bytes]:
    stage = SampleStage(config, {"train": trained}, models, 0)
    stage.setup()
    out = folder / "out"
    out.mkdir(parents=True)
    for task in next(iter(stage.waves())):
        stage.run(task, Place(out=out, scratch=folder / "scratch"))
    return {path.name: path.read_bytes() for path in sorted(out.iterdir())}


def pictures(folder: Path, shard: str) -> dict[str, tuple[np.ndarray, dict[str, Any]]]:
    return {
        key: (np.asarray(Image.open(io.BytesIO(m["png"]))), json.loads(m["json"]))
        for key, m in read_members(folder / "out" / f"{shard}.tar")
    }


def test_every_prompt_gets_its_picture(
    trained: ShardSet, models: dict[str, ModelRef], tmp_path: Path
) -> None:
    config = replace(CONFIG, prompts=write_prompts(tmp_path, PROMPTS), num_untrained=1)
    files = run_stage(config, trained, models, tmp_path / "run")
    assert list(files) == [
        f"{i:05d}.{ext}" for i in range(3) for ext in ("parquet", "tar")
    ]  # two of the trained model, one of the untrained
    drawn = [pictures(tmp_path / "run", f"{i:05d}") for i in range(3)]
    rows = {record["prompt"]: (pixels, record) for pixels, record in drawn[0].values()}
    assert rows[PROMPTS[0]["prompt"]][0].shape == (16, 16, 3)
    assert rows[PROMPTS[1]["prompt"]][0].shape == (16, 32, 3)
    ((untrained, record),) = drawn[2].values()
    assert record["variant"] == "untrained"
    assert record["prompt"] == PROMPTS[0]["prompt"]
    assert not np.array_equal(untrained, rows[PROMPTS[0]["prompt"]][0])


def test_equal_runs_give_equal_bytes(
    trained: ShardSet, models: dict[str, ModelRef], tmp_path: Path
) -> None:
    config = replace(CONFIG, prompts=write_prompts(tmp_path, PROMPTS))
    one = run_stage(config, trained, models, tmp_path / "one")
    assert one == run_stage(config, trained, models, tmp_path / "other")


def test_picture_does_not_depend_on_its_batch(
    trained: ShardSet, models: dict[str, ModelRef], tmp_path: Path
) -> None:
    prompts = write_prompts(tmp_path, PROMPTS)
    run_stage(replace(CONFIG, prompts=prompts), trained, models, tmp_path / "small")
    large = replace(CONFIG, prompts=prompts, batch_size=8, prompts_per_shard=8)
    run_stage(large, trained, models, tmp_path / "large")
    one = pictures(tmp_path / "small", "00000") | pictures(tmp_path / "small", "00001")
    other = pictures(tmp_path / "large", "00000")
    assert one.keys() == other.keys()
    for key, (pixels, record) in one.items():
        assert other[key][1] == record
        # bfloat16 products round differently in other batch shapes
        assert np.abs(pixels.astype(int) - other[key][0]).max() <= 4


def test_pictures_of_one_prompt_differ(
    trained: ShardSet, models: dict[str, ModelRef], tmp_path: Path
) -> None:
    prompts = write_prompts(tmp_path, PROMPTS[:1])
    run_stage(
        replace(CONFIG, prompts=prompts, pictures_per_prompt=2), trained, models, tmp_path / "run"
    )
    (one, first), (other, second) = pictures(tmp_path / "run", "00000").values()
    assert (first["number"], second["number"]) == (0, 1)
    assert not np.array_equal(one, other)


def test_another_vae_is_refused(
    trained: ShardSet, models: dict[str, ModelRef], tmp_path: Path
) -> None:
    swapped = models | {"vae": models["text_encoder"]}
    config = replace(CONFIG, prompts=write_prompts(tmp_path, PROMPTS))
    with pytest.raises(ConfigError, match="vae must be the one the model was trained with"):
        SampleStage(config, {"train": trained}, swapped, 0).setup()


def test_sizes_the_model_cannot_take_are_refused(
    trained: ShardSet, models: dict[str, ModelRef], tmp_path: Path
) -> None:
    config = replace(CONFIG, prompts=write_prompts(tmp_path, PROMPTS), height=20)
    with pytest.raises(ConfigError, match="sample: size 20x16: sides must be multiples of 8 px"):
        run_stage(config, trained, models, tmp_path / "run")


def test_missing_prompts_are_refused(trained: ShardSet, models: dict[str, ModelRef]) -> None:
    with pytest.raises(DataError, match=r"sample\.prompts must be a"):
        next(iter(SampleStage(CONFIG, {"train": trained}, models, 0).waves()))


def test_task_depends_on_its_prompts_and_not_on_their_path(
    trained: ShardSet, models: dict[str, ModelRef], tmp_path: Path
) -> None:
    def inputs(folder: Path, rows: list[dict[str, Any]]) -> list[dict[str, str]]:
        folder.mkdir()
        config = replace(CONFIG, prompts=write_prompts(folder, rows))
        stage = SampleStage(config, {"train": trained}, models, 0)
        return [dict(task.inputs) for task in next(iter(stage.waves()))]

    before = inputs(tmp_path / "a", PROMPTS)
    assert before == inputs(tmp_path / "b", PROMPTS)
    changed = inputs(tmp_path / "c", [*PROMPTS[:2], {"prompt": "a red cross at the top"}])
    assert changed[0] == before[0]
    assert changed[1] != before[1]


def test_damaged_card_is_refused(
    trained: ShardSet, models: dict[str, ModelRef], tmp_path: Path
) -> None:
    trained.store.write("train.json", b"{}")
    with pytest.raises(ModelError, match="must be written by train"):
        SampleStage(CONFIG, {"train": trained}, models, 0).setup()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_steps": 0}, "sample.num_steps must be >= 1, got 0"),
        ({"guidance_scale": -1.0}, "sample.guidance_scale must be >= 0"),
    ],
)
def test_what_cannot_be_sampled_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        SampleConfig(**changes)
