"""Describe a trained model in `train.json`: what is needed to sample from it, and to check inputs.

The card keeps the latent space and the config, so that the sampler refuses another VAE, another
text encoder or a size the model cannot take, and can build the untrained model again.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curate.core.errors import ConfigError, ModelError
from curate.core.stage import plain_config
from train.backbones.backbone import Backbone, BackboneConfig, BackboneShape
from train.backbones.table import BACKBONES
from train.config import TrainConfig
from train.objective import ObjectiveConfig
from train.space import LatentSpace

CARD = "train.json"
MODEL_FOLDER = "model"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainCard:
    """Hold what `train.json` says.

    Args:
        seed: the run's seed; the untrained model can be built again from it.
        samples_seen: samples trained on.
        num_parameters: of the model.
        space: latents and text the model was trained on.
        config: the run's config; fields that change no byte of the model are left out of the file.
    """

    seed: int
    samples_seen: int
    num_parameters: int
    space: LatentSpace
    config: TrainConfig

    def to_json(self) -> str:
        """Write the card."""
        values = dataclasses.asdict(self) | {"config": plain_config(self.config)}
        return json.dumps(values, indent=1, sort_keys=True) + "\n"

    @classmethod
    def load(cls, folder: Path) -> TrainCard:
        """Read the card of a finished run.

        Raises:
            ModelError: there is none, or it is of another version.
        """
        path = folder / CARD
        try:
            raw: dict[str, Any] = json.loads(path.read_text())
            space, config = raw.pop("space"), raw.pop("config")
            config["model"] = BackboneConfig(**config["model"])
            config["objective"] = ObjectiveConfig(**config["objective"])
            return cls(space=LatentSpace.from_values(space), config=TrainConfig(**config), **raw)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ModelError(
                f"{path}: must be written by train, got {error!r}; rerun train"
            ) from error

    def load_model(self, folder: Path, *, trained: bool) -> Backbone:
        """Load the trained model of this card's run, or build the one training began with."""
        kind = BACKBONES[self.config.backbone]
        if trained:
            return kind.load(folder / MODEL_FOLDER)
        return kind.build(self.config.model, backbone_shape(self.space), self.seed)


def backbone_shape(space: LatentSpace) -> BackboneShape:
    """Give what a latent space decides about a model."""
    return BackboneShape(
        latent_channels=space.latent_channels,
        text_dim=space.text_dim,
        pooled_dim=space.pooled_dim,
    )


def check_size(
    model: BackboneConfig, downsample: int, height: int, width: int, origin: str
) -> None:
    """Refuse a picture size, in pixels, that a model cannot take.

    Raises:
        ConfigError: a side is no whole number of tokens, or longer than the positional table.
    """
    token_px = downsample * model.patch_size
    if height % token_px or width % token_px or not height or not width:
        raise ConfigError(
            f"{origin}: sides must be multiples of {token_px} px, got {height}x{width}; "
            "change the size or train.model.patch_size"
        )
    if max(height, width) > token_px * model.max_grid:
        raise ConfigError(
            f"{origin}: sides must be at most {token_px * model.max_grid} px, got "
            f"{height}x{width}; raise train.model.max_grid"
        )
