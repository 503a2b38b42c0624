"""Read encoded shards into bucketed batches: raw moments and text in, everything a step needs out.

    ShardSet -> LatentSet     keys, positions of payloads, pooled text: columns in memory
             -> read()        one batch's payloads by preadv into reused arrays, no tar is parsed
             -> load_batch()  + draws by (seed, purpose, key, epoch): caption, dropout, VAE sample,
                              noise, timestep's uniform

Not for choosing which samples form a batch: see `train/plan.py`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray
from torch import Tensor

from curate.core.errors import DataError, ShardError
from curate.core.schema import OK
from curate.core.shard import ShardSet
from train.draws import draw_uniform, fill_normal
from train.plan import PlannedBatch
from train.space import METADATA_KEY, LatentSpace

# numpy pads the header of small arrays to 128 bytes. Source: numpy.lib.format, version 1.0.
_NPY_HEADER_BYTES = 128
_NPY_FLOAT16 = b"'<f2', 'fortran_order': False"
# Source: diffusers DiagonalGaussianDistribution clamps logvar to this range.
_LOGVAR_RANGE = (-30.0, 20.0)
_COLUMNS = (
    "key",
    "status",
    "height",
    "width",
    "moments.offset",
    "moments.bytes",
    "captions.source",
    "captions.offset",
    "captions.bytes",
    "captions.pooled",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Hold one training batch; the tensors are valid until the next batch of the same bucket.

    Args:
        keys: of the samples.
        sources: caption source of each sample, "" where the caption was dropped.
        latents: [B, C, h, w], float32, whitened, drawn from the VAE's posterior.
        noise: [B, C, h, w], float32, standard normal.
        uniform: [B], float64 in (0, 1), to be turned into timesteps.
        text: [B, T, D], float32, zeros after the last real token and for dropped captions.
        pooled: [B, P], float32, zeros for dropped captions.
    """

    keys: tuple[str, ...]
    sources: tuple[str, ...]
    latents: Tensor
    noise: Tensor
    uniform: Tensor
    text: Tensor
    pooled: Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptionMix:
    """Say which caption a sample is shown with.

    Args:
        weights: caption source -> weight; a sample without a source shares its weight among those
            it has, and captions of one source share that source's weight.
        dropout_frac: share of samples shown with the null caption.
    """

    weights: Mapping[str, float]
    dropout_frac: float


class LatentSet:
    """Open all encoded shards of a set.

    Args:
        shards: output of encode.
        mix: which captions are drawn.
        max_text_tokens: see `TrainConfig`.

    Raises:
        DataError: no sample to train on, or a sample has no caption of a weighted source.
        ShardError: shards of different models, or positions that do not fit the format.
    """

    def __init__(self, shards: ShardSet, mix: CaptionMix, max_text_tokens: int = 0) -> None:
        tables = [(shard, shards.table(shard, _COLUMNS)) for shard in shards.shards()]
        self.space = _shared_space(shards, tables)
        index = _index(tables)
        if index.num_rows == 0:
            raise DataError(
                f"{shards.url}: must hold at least one encoded sample, got 0; see its reasons "
                "with `curate show stage=filter`"
            )
        self._paths = [shards.tar_path(shard) for shard in shards.shards()]
        self._files: dict[int, int] = {}
        self._buffers: dict[tuple[str, tuple[int, ...]], NDArray[Any]] = {}
        self._num_tokens = text_length(self.space, max_text_tokens)
        self._dropout_frac = mix.dropout_frac
        self._keys: list[str] = index["key"].to_pylist()
        self._shard = index["shard"].to_numpy()
        self._moments_at = index["moments.offset"].to_numpy()
        self._captions = _Captions.read(index, mix.weights, shards.url)
        self._buckets = _group(index)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the tars."""
        for descriptor in self._files.values():
            os.close(descriptor)
        self._files.clear()

    def __len__(self) -> int:
        return len(self._keys)

    @property
    def bucket_sizes(self) -> dict[str, int]:
        """Give bucket name ("64x64", pixels) -> number of samples."""
        return {name: len(rows) for name, rows in self._buckets.items()}

    @property
    def sources(self) -> tuple[str, ...]:
        """List the caption sources that occur."""
        return self._captions.sources

    def load_batch(self, planned: PlannedBatch, seed: int) -> Batch:
        """Read a planned batch and draw everything random about it."""
        rows = self._buckets[planned.bucket][planned.positions].tolist()
        epochs = planned.epochs.tolist()
        keys = [self._keys[row] for row in rows]
        names = list(zip(keys, epochs, strict=True))
        height, width = (int(side) // self.space.downsample for side in planned.bucket.split("x"))
        count, channels = len(rows), self.space.latent_channels

        captions = [self._choose(row, seed, *name) for row, name in zip(rows, names, strict=True)]
        text, pooled = self._read_text(rows, captions)
        moments = self._read_moments(rows, height, width)
        posterior = self._buffer("posterior", (count, channels, height, width), np.float32)
        noise = self._buffer("noise", (count, channels, height, width), np.float32)
        for i, (key, epoch) in enumerate(names):
            fill_normal(seed, "vae", key, epoch, posterior[i])
            fill_normal(seed, "noise", key, epoch, noise[i])
        uniform = [draw_uniform(seed, "timestep", key, epoch) for key, epoch in names]
        return Batch(
            keys=tuple(keys),
            sources=tuple(self._captions.source(caption) for caption in captions),
            latents=whiten(
                draw_raw(torch.from_numpy(moments), torch.from_numpy(posterior)), self.space
            ),
            noise=torch.from_numpy(noise),
            uniform=torch.tensor(uniform, dtype=torch.float64),
            text=torch.from_numpy(text).float(),
            pooled=torch.from_numpy(pooled).float(),
        )

    def _choose(self, row: int, seed: int, key: str, epoch: int) -> int:
        """Give the number of the caption to show, or -1 for the null caption."""
        if draw_uniform(seed, "dropout", key, epoch) < self._dropout_frac:
            return -1
        return self._captions.choose(row, draw_uniform(seed, "caption", key, epoch))

    def _read_moments(self, rows: Sequence[int], height: int, width: int) -> NDArray[np.float16]:
        shape = (len(rows), 2 * self.space.latent_channels, height, width)
        moments = self._buffer("moments", shape, np.float16)
        for i, row in enumerate(rows):
            self._read(row, int(self._moments_at[row]), moments[i])
        return moments

    def _read_text(
        self, rows: Sequence[int], captions: Sequence[int]
    ) -> tuple[NDArray[np.float16], NDArray[np.float16]]:
        space = self.space
        text = self._buffer("text", (len(rows), self._num_tokens, space.text_dim), np.float16)
        pooled = self._buffer("pooled", (len(rows), space.pooled_dim), np.float16)
        for i, (row, caption) in enumerate(zip(rows, captions, strict=True)):
            num_tokens = 0
            if caption >= 0:
                offset, size = self._captions.position(caption)
                num_tokens = min(
                    (size - _NPY_HEADER_BYTES) // (2 * space.text_dim), self._num_tokens
                )
                self._read(row, offset, text[i, :num_tokens])
            text[i, num_tokens:] = 0
            pooled[i] = self._captions.pooled[caption] if caption >= 0 else 0
        return text, pooled

    def _read(self, row: int, offset: int, out: NDArray[np.float16]) -> None:
        """Read the start of one .npy payload straight into its place in the batch."""
        shard = int(self._shard[row])
        if shard not in self._files:
            self._files[shard] = os.open(self._paths[shard], os.O_RDONLY)
        header = bytearray(_NPY_HEADER_BYTES)
        parts = [header, out.data.cast("B")] if out.size else [header]
        got = os.preadv(self._files[shard], parts, offset)
        if got != sum(map(len, parts)) or _NPY_FLOAT16 not in header:
            raise ShardError(
                f"{self._paths[shard]}: must hold {out.shape} float16 of {self._keys[row]} "
                f"at {offset}, got {got} bytes or another array; rerun encode"
            )

    def _buffer(self, name: str, shape: tuple[int, ...], dtype: type[Any]) -> NDArray[Any]:
        slot = (name, shape)
        if slot not in self._buffers:
            self._buffers[slot] = np.empty(shape, dtype)
        return self._buffers[slot]


def text_length(space: LatentSpace, max_text_tokens: int) -> int:
    """Give T, the number of tokens every caption is cut or padded to."""
    return min(space.max_tokens, max_text_tokens or space.max_tokens)


def draw_raw(moments: Tensor, posterior_noise: Tensor) -> Tensor:
    """Draw raw latents from the VAE's posterior: mean + exp(logvar / 2) * noise.

    Args:
        moments: [B, 2C, h, w], float16, mean then logvar.
        posterior_noise: [B, C, h, w], float32, standard normal.

    Returns:
        [B, C, h, w], float32.
    """
    mean, logvar = moments.float().chunk(2, dim=1)
    return mean + torch.exp(0.5 * logvar.clamp(*_LOGVAR_RANGE)) * posterior_noise


def whiten(raw: Tensor, space: LatentSpace) -> Tensor:
    """Bring raw latents to mean 0 and std 1 by channel: the model's input."""
    mean, std = channel_stats(space)
    return (raw - mean) / std


def unwhiten(latents: Tensor, space: LatentSpace) -> Tensor:
    """Bring latents back to what the VAE decodes."""
    mean, std = channel_stats(space)
    return latents * std + mean


def channel_stats(space: LatentSpace) -> tuple[Tensor, Tensor]:
    """Give mean and std of raw latents, each [C, 1, 1], float32."""
    return (
        torch.tensor(space.latent_mean)[:, None, None],
        torch.tensor(space.latent_std)[:, None, None],
    )


class _Captions:
    """Hold where each caption's tokens are, its pooled vector and its share of the mix."""

    def __init__(
        self,
        *,
        sources: tuple[str, ...],
        source_ids: NDArray[np.int64],
        starts: NDArray[np.int64],
        shares: NDArray[np.float64],
        offsets: NDArray[np.int64],
        sizes: NDArray[np.int64],
        pooled: NDArray[np.float16],
    ) -> None:
        self.sources = sources
        self.pooled = pooled
        self._source_ids = source_ids
        self._starts = starts
        self._shares = shares
        self._offsets = offsets
        self._sizes = sizes

    @classmethod
    def read(cls, index: pa.Table, weights: Mapping[str, float], folder: str) -> _Captions:
        """Flatten the caption columns; positions of a sample's captions are consecutive."""
        names = _flat(index, "captions.source").to_pylist()
        counts = np.array([len(row) for row in index["captions.source"].to_pylist()], np.int64)
        starts = np.concatenate([[0], np.cumsum(counts)])
        sources = tuple(sorted(set(names)))
        source_ids = np.array([sources.index(name) for name in names], np.int64)
        owner = np.repeat(np.arange(len(counts)), counts)
        weight = np.array([weights.get(name, 0.0) for name in sources])[source_ids]
        total = np.bincount(owner, weight, len(counts))
        if (total <= 0).any():
            raise DataError(
                f"{folder}: every sample must have a caption of a source in train.caption_weights "
                f"{dict(weights)}, got {int((total <= 0).sum())} without among sources {sources}; "
                "add a weight or rerun recaption"
            )
        same = np.zeros((len(counts), len(sources)))
        np.add.at(same, (owner, source_ids), 1)
        pooled = _flat(index, "captions.pooled")
        return cls(
            sources=sources,
            source_ids=source_ids,
            starts=starts,
            shares=weight / same[owner, source_ids],
            offsets=_flat(index, "captions.offset").to_numpy(),
            sizes=_flat(index, "captions.bytes").to_numpy(),
            pooled=pooled.flatten().to_numpy().reshape(len(names), -1),
        )

    def choose(self, row: int, uniform: float) -> int:
        """Choose a caption of a sample in proportion to its share of the mix."""
        start, end = int(self._starts[row]), int(self._starts[row + 1])
        bounds = np.cumsum(self._shares[start:end])
        return start + int(np.searchsorted(bounds, uniform * bounds[-1], side="right"))

    def source(self, caption: int) -> str:
        """Name a caption's source; "" for the null caption."""
        return "" if caption < 0 else self.sources[int(self._source_ids[caption])]

    def position(self, caption: int) -> tuple[int, int]:
        """Give offset and size of the tokens' payload, bytes."""
        return int(self._offsets[caption]), int(self._sizes[caption])


def _shared_space(shards: ShardSet, tables: Sequence[tuple[str, pa.Table]]) -> LatentSpace:
    spaces: dict[LatentSpace, str] = {}
    for shard, table in tables:
        raw = (table.schema.metadata or {}).get(METADATA_KEY, b"{}")
        try:
            spaces[LatentSpace.from_metadata(raw)] = shard
        except (ValueError, KeyError, TypeError) as error:
            raise ShardError(
                f"{shards.url}/{shard}.parquet: must name its VAE and text encoder in its "
                f"metadata, got {error!r}; rerun encode"
            ) from error
    if not spaces:
        raise DataError(f"{shards.url}: must hold encoded shards, got none; run encode first")
    if len(spaces) > 1:
        raise ShardError(
            f"{shards.url}: all shards must come from the same VAE and text encoder, got shards "
            f"{sorted(spaces.values())} that differ; rerun encode"
        )
    return next(iter(spaces))


def _index(tables: Sequence[tuple[str, pa.Table]]) -> pa.Table:
    """Join the usable rows of all tables, sorted by key, so that shard boundaries do not matter."""
    parts: list[pa.Table] = []
    for number, (_, table) in enumerate(tables):
        usable = table.filter(pc.field("status") == OK)
        shard = pa.array(np.full(usable.num_rows, number, np.int32))
        parts.append(usable.append_column("shard", shard).replace_schema_metadata(None))
    joined = pa.concat_tables(parts)
    return joined.sort_by("key").combine_chunks()


def _group(index: pa.Table) -> dict[str, NDArray[np.int64]]:
    names = [
        f"{height}x{width}"
        for height, width in zip(
            index["height"].to_pylist(), index["width"].to_pylist(), strict=True
        )
    ]
    labels = np.array(names)
    return {name: np.flatnonzero(labels == name) for name in sorted(set(names))}


def _flat(index: pa.Table, column: str) -> Any:
    return cast(Any, index[column].combine_chunks()).flatten()
