"""Draw pictures for prompts with a trained model: an ordinary shard set comes out.

    prompts file -> tasks of `prompts_per_shard` -> text embeddings -> noise, one seed a picture
                 -> Euler with guidance -> VAE -> {key}.png + {key}.json + one row

A picture depends on its prompt's key and its number, not on the batch it is drawn in.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import pyarrow as pa
from PIL import Image

from curate.core.errors import ConfigError
from curate.core.image import encode_image
from curate.core.manifest import Task
from curate.core.schema import OK, make_key, shard_name
from curate.core.seed import derive_seed
from curate.core.shard import ShardWriter
from curate.core.stage import Place, Stage
from train.card import TrainCard
from train.prompts import Prompt, load_prompts

if TYPE_CHECKING:
    from train.sampler import Picture

TRAINED = "ema"
UNTRAINED = "untrained"

SAMPLE_SCHEMA = pa.schema(
    [
        pa.field("key", pa.string(), nullable=False),
        pa.field("status", pa.string(), nullable=False),
        ("variant", pa.string()),
        ("prompt_key", pa.string()),
        ("prompt", pa.string()),
        ("number", pa.int32()),
        ("seed", pa.uint64()),
        ("height", pa.int32()),
        ("width", pa.int32()),
        ("guidance_scale", pa.float64()),
        ("num_steps", pa.int32()),
    ]
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleConfig:
    """Configure sampling.

    Args:
        prompts: .parquet, .jsonl or .txt file; see `train.prompts`. Its content, not its path, is
            part of the fingerprint.
        height: of prompts that name none, pixels.
        width: of prompts that name none, pixels.
        guidance_scale: 1 is none. Chosen by us: 3 was best in the trial on the toy web.
        num_steps: Euler steps.
        batch_size: pictures drawn together.
        pictures_per_prompt: pictures of each prompt, with different noise.
        prompts_per_shard: prompts of a task.
        num_untrained: the first so many prompts are also drawn with the untrained model, as
            variant "untrained"; a measure of what training did.
    """

    prompts: str = field(default="", metadata={"fingerprint": False})
    height: int = 64
    width: int = 64
    guidance_scale: float = 3.0
    num_steps: int = 20
    batch_size: int = 64
    pictures_per_prompt: int = 1
    prompts_per_shard: int = 64
    num_untrained: int = 0

    def __post_init__(self) -> None:
        """Refuse what cannot be sampled, in one line."""
        for name in (
            "height",
            "width",
            "num_steps",
            "batch_size",
            "pictures_per_prompt",
            "prompts_per_shard",
        ):
            if getattr(self, name) < 1:
                raise ConfigError(
                    f"sample.{name} must be >= 1, got {getattr(self, name)}; see `curate config`"
                )
        for name in ("guidance_scale", "num_untrained"):
            if not getattr(self, name) >= 0:
                raise ConfigError(
                    f"sample.{name} must be >= 0, got {getattr(self, name)}; 0 is off"
                )


class SampleStage(Stage[SampleConfig]):
    """Draw every prompt of a file."""

    name: ClassVar[str] = "sample"
    version: ClassVar[int] = 2
    runs_in: ClassVar[Literal["worker", "client"]] = "worker"

    def waves(self) -> Iterator[Sequence[Task]]:
        prompts = self._prompts()
        trained = self.inputs["train"]
        digests = trained.digests(shard_name(0))
        tasks: list[Task] = []
        for variant, some in (
            (TRAINED, prompts),
            (UNTRAINED, prompts[: self.config.num_untrained]),
        ):
            for first in range(0, len(some), self.config.prompts_per_shard):
                chosen = some[first : first + self.config.prompts_per_shard]
                params = {"variant": variant, "first": first, "count": len(chosen)}
                inputs = {**digests, "prompts": _digest(chosen)}
                tasks.append(Task(shard=shard_name(len(tasks)), inputs=inputs, params=params))
        yield tasks

    def setup(self) -> None:
        from curate.models.text_encoder import load_text_encoder
        from curate.models.vae import load_vae

        self._card = TrainCard.load(self.inputs["train"].local_folder(shard_name(0)))
        for role, wanted in (
            ("vae", self._card.space.vae),
            ("text_encoder", self._card.space.text_encoder),
        ):
            if self.models[role].digest != wanted:
                raise ConfigError(
                    f"models: {role} must be the one the model was trained with ({wanted[:12]}), "
                    f"got {self.models[role].digest[:12]}; rerun encode and train, or change models"
                )
        self._vae = load_vae(self.models["vae"])
        self._text_encoder = load_text_encoder(self.models["text_encoder"])

    def run(self, task: Task, place: Place) -> Counter[str]:
        from train.sampler import Picture, Sampler

        config, params = self.config, task.params
        prompts = self._prompts()[params["first"] : params["first"] + params["count"]]
        folder = self.inputs["train"].local_folder(shard_name(0))
        backbone = self._card.load_model(folder, trained=params["variant"] == TRAINED)
        pictures = [
            Picture(prompt=p, number=n, seed=derive_seed(self.seed, "noise", p.key, n))
            for p in prompts
            for n in range(config.pictures_per_prompt)
        ]
        sampler = Sampler(
            card=self._card,
            backbone=backbone,
            text_encoder=self._text_encoder,
            vae=self._vae,
            guidance_scale=config.guidance_scale,
            num_steps=config.num_steps,
        )
        drawn = sampler.draw(pictures, config.batch_size)
        with ShardWriter(place.out, task.shard, SAMPLE_SCHEMA, with_tar=True) as writer:
            for picture, pixels in zip(pictures, drawn, strict=True):
                row = _row(picture, params["variant"], config)
                members = {
                    "png": encode_image(Image.fromarray(pixels), "png"),
                    "json": json.dumps(row, sort_keys=True).encode(),
                }
                writer.write(row, members)
        return Counter({"in": len(pictures), "kept": len(pictures)})

    def _prompts(self) -> list[Prompt]:
        config = self.config
        return load_prompts(Path(config.prompts), config.height, config.width)


def _row(picture: Picture, variant: str, config: SampleConfig) -> dict[str, Any]:
    prompt = picture.prompt
    return {
        "key": make_key("sample", variant, prompt.key, str(picture.number)),
        "status": OK,
        "variant": variant,
        "prompt_key": prompt.key,
        "prompt": prompt.text,
        "number": picture.number,
        "seed": picture.seed,
        "height": prompt.height,
        "width": prompt.width,
        "guidance_scale": config.guidance_scale,
        "num_steps": config.num_steps,
    }


def _digest(prompts: Sequence[Prompt]) -> str:
    text = json.dumps([asdict(prompt) for prompt in prompts], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
