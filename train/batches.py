"""Hold a batch as it was read, and as the model takes it.

RawBatch  float16 as stored, views of memory that is used again
Batch     float32, whitened, drawn from the VAE's posterior, on the model's device
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from curate.core.latent_column import KEY_BYTES
from curate.core.latent_manifest import TextForm
from train.latents import draw_raw, whiten
from train.space import LatentSpace


@dataclass(frozen=True, slots=True, kw_only=True)
class RawText:
    """Hold one text column as stored.

    Args:
        form: of the tokens.
        tokens: [B, T, D] float16, [B, T, D + 2] int8 (a float16 scale at each row's end) or [B, T]
            int32 token ids; zeros behind the last real token.
        lengths: [B], int64, real tokens.
        pooled: [B, P], float16.
    """

    form: TextForm
    tokens: Tensor
    lengths: Tensor
    pooled: Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class RawBatch:
    """Hold one batch as stored; the tensors are valid until the next one is asked for.

    Args:
        step: of the plan.
        bucket: of all samples.
        key_bytes: [B, 10], uint8, keys of the samples.
        sources: caption source of each sample, "" for the null caption.
        flipped: whether it is the mirrored record.
        latents: [B, 2C, h, w] moments or [B, C, h, w] latents, float16.
        texts: text column -> its part, the main one first.
        features: feature column -> [B, ...].
        uniform: [B], float64 in (0, 1), to be turned into timesteps.
        posterior: [B, C, h, w], float32, standard normal; None where there is nothing to draw.
        noise: [B, C, h, w], float32, standard normal; None when it is not wished for.
    """

    step: int
    bucket: str
    key_bytes: NDArray[np.uint8]
    sources: tuple[str, ...]
    flipped: tuple[bool, ...]
    latents: Tensor
    texts: Mapping[str, RawText]
    features: Mapping[str, Tensor]
    uniform: Tensor
    posterior: Tensor | None
    noise: Tensor | None

    @property
    def keys(self) -> tuple[str, ...]:
        """Give the samples' keys."""
        said, size = self.key_bytes.tobytes().hex(), 2 * KEY_BYTES
        return tuple(said[at : at + size] for at in range(0, len(said), size))


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """Hold one text column as a model takes it.

    Args:
        tokens: [B, T, D], float32, or [B, T] int64 token ids to be encoded in training.
        lengths: [B], int64, real tokens; those behind them are zeros.
        pooled: [B, P], float32.
    """

    tokens: Tensor
    lengths: Tensor
    pooled: Tensor

    @property
    def mask(self) -> Tensor:
        """Give [B, T], bool, true for real tokens."""
        places = torch.arange(self.tokens.shape[1], device=self.lengths.device)
        return places < self.lengths[:, None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Hold one training batch; noise and features are valid until the next one is asked for.

    Args:
        step: of the plan.
        keys: of the samples.
        sources: caption source of each sample, "" for the null caption.
        latents: [B, C, h, w], float32, whitened, drawn from the VAE's posterior.
        noise: [B, C, h, w], float32, standard normal.
        uniform: [B], float64 in (0, 1), to be turned into timesteps.
        texts: text column -> its part, the main one first.
        features: feature column -> [B, ...], as stored.
    """

    step: int
    keys: tuple[str, ...]
    sources: tuple[str, ...]
    latents: Tensor
    noise: Tensor
    uniform: Tensor
    texts: Mapping[str, Text]
    features: Mapping[str, Tensor]

    @property
    def text(self) -> Text:
        """Give the main text column."""
        return next(iter(self.texts.values()))


def finish(raw: RawBatch, space: LatentSpace, device: str = "cpu") -> Batch:
    """Draw from the posterior, whiten, widen to float32; on the device.

    Raises:
        ValueError: the batch was read without noise.
    """
    if raw.noise is None:
        raise ValueError("noise: must have been read for a training batch, got none")
    latents = raw.latents.to(device, non_blocking=True)
    if raw.posterior is not None:
        latents = draw_raw(latents, raw.posterior.to(device, non_blocking=True))
    return Batch(
        step=raw.step,
        keys=raw.keys,
        sources=raw.sources,
        latents=whiten(latents.float(), space),
        noise=raw.noise.to(device, non_blocking=True),
        texts={name: _finish_text(text, device) for name, text in raw.texts.items()},
        features={name: one.to(device, non_blocking=True) for name, one in raw.features.items()},
        # Last, and waited for: so all copies are done when the loader's memory is used again.
        uniform=raw.uniform.to(device),
    )


def widen_int8(tokens: Tensor) -> Tensor:
    """Unpack [..., D + 2] int8, a float16 scale at each row's end, to [..., D] float32."""
    scale = tokens[..., -2:].contiguous().view(torch.float16).float()
    return tokens[..., :-2].float() * scale


def _finish_text(raw: RawText, device: str) -> Text:
    tokens = raw.tokens.to(device, non_blocking=True)
    if raw.form == "int8":
        tokens = widen_int8(tokens)
    return Text(
        tokens=tokens.long() if raw.form == "ids" else tokens.float(),
        # The loader's memory is used again; these two are small.
        lengths=raw.lengths.to(device, copy=True),
        pooled=raw.pooled.to(device).float(),
    )
