"""Configure what encode stores of a picture and of its captions; imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import get_args

from curate.core.errors import ConfigError
from curate.core.latent_manifest import TextForm
from curate.core.model_ref import ModelRef

MAIN = "main"  # the text encoder of role `text_encoder`
TEXT_ROLE = "text_encoder"
CLIP = "clip"  # of `features`: the pooled picture embedding of role `image_text`
FORMS: tuple[str, ...] = get_args(TextForm)


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodeConfig:
    """Set what is stored.

    Args:
        batch_size: pictures that are encoded together.
        sample: store latents drawn from the VAE's posterior, one draw a picture, instead of its
            moments, from which every epoch draws anew.
        flip: store each picture's mirror image too.
        tile_px: pictures with a longer side are encoded in overlapping tiles of at most this side;
            0 is never.
        text_form: text encoder ("main", or NAME of role text_encoder_NAME) -> float16, int8 (a
            byte a channel, where the first captions' error allows it) or ids (token ids alone;
            whoever trains encodes them).
        share_captions: store equal captions of a shard once.
        features: further columns: "clip" (the picture embedding of role image_text) or NAME of
            role features_NAME.
        device: where models run: cpu, cuda, or auto (a GPU where there is one).
    """

    batch_size: int = 32
    sample: bool = False
    flip: bool = False
    tile_px: int = 0
    text_form: dict[str, str] = field(default_factory=dict[str, str])
    share_captions: bool = False
    features: list[str] = field(default_factory=list[str])
    device: str = field(default="auto", metadata={"fingerprint": False})

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ConfigError(f"encode.batch_size: must be >= 1, got {self.batch_size}; raise it")
        if self.tile_px < 0:
            raise ConfigError(f"encode.tile_px: must be >= 0, got {self.tile_px}; 0 is no tiles")
        for name, form in self.text_form.items():
            if form not in FORMS:
                raise ConfigError(
                    f"encode.text_form.{name}: must be one of {', '.join(FORMS)}, got {form!r}; "
                    "choose one"
                )
        if len(set(self.features)) < len(self.features):
            raise ConfigError(
                f"encode.features: must name each column once, got {self.features}; drop one"
            )


def text_roles(models: Mapping[str, ModelRef]) -> dict[str, str]:
    """Give text encoder's name -> its role, the main one first."""
    others = sorted(role for role in models if role.startswith(f"{TEXT_ROLE}_"))
    return {MAIN: TEXT_ROLE} | {role.removeprefix(f"{TEXT_ROLE}_"): role for role in others}


def used_models(config: EncodeConfig, models: Mapping[str, ModelRef]) -> dict[str, ModelRef]:
    """Choose the models that a config makes use of: others must not make a shard stale.

    Raises:
        ConfigError: a field names a text encoder or a column whose role the models lack.
    """
    roles = text_roles(models)
    for name in config.text_form:
        if name not in roles:
            raise ConfigError(
                f"encode.text_form.{name}: must be a text encoder of the models, got one beside "
                f"{', '.join(roles)}; rename it, or add the role {TEXT_ROLE}_{name}"
            )
    features = {name: feature_role(name) for name in config.features}
    for name, role in features.items():
        if role not in models or name != name.lower():
            raise ConfigError(
                f"encode.features: {name} needs the role {role} in lower case, got models without "
                "it; add it to the models' file, or leave it out"
            )
    return {role: models[role] for role in ("vae", *roles.values(), *features.values())}


def feature_role(name: str) -> str:
    """Give the role whose model makes a column of features."""
    return "image_text" if name == CLIP else f"features_{name}"
