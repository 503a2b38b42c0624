"""Train the toy captioner: an Idefics3 of about a million parameters that describes toy scenes.

The way of the data: pictures of the "fit" split at the model's input size (captioner_pictures.py)
-> teacher forcing on the short or the detailed description.

A head on the nine visual tokens (training only, not saved) is asked for each cell's shape, colour
and size, which teaches the tower what to see before the decoder has learned to ask. The model
itself is in toy_captioner.py. `fit` is deterministic from its seed on one machine with one thread.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional
from transformers import Idefics3ForConditionalGeneration, Idefics3Processor

from curate.captioners.captioner import CaptionRequest, Sampling
from curate.captioners.instructions import TEMPLATES
from curate.captioners.table import load_captioner
from curate.core.model_ref import ModelRef
from curate.core.seed import derive_seed, make_rng
from pipelines.toyweb.captioner_pictures import Pictures, draw_picture, make_pictures
from pipelines.toyweb.scene import (
    COLORS,
    PLACES,
    SHAPES,
    SIZES,
    Scene,
    describe,
    describe_short,
    parse_description,
    random_split_scene,
)
from pipelines.toyweb.toy_captioner import (
    EOS,
    HIDDEN_SIZE,
    NUM_CELLS,
    SIDE_PX,
    build_model,
    build_processor,
    draw_weights,
    save,
)

logger = logging.getLogger(__name__)

IGNORE = -100  # the label that torch's cross entropy skips
# Shape, colour and size of a cell; the last of each means "no object".
CELL_CLASSES = (len(SHAPES) + 1, len(COLORS) + 1, len(SIZES) + 1)
GROUP = 8  # batches between which alike lengths are sorted together


@dataclass(frozen=True, slots=True, kw_only=True)
class FitConfig:
    """Hold the sizes of the training; all chosen by us from trials of a few minutes."""

    num_pictures: int = 40_000
    num_steps: int = 2_400
    batch_size: int = 64
    lr: float = 2e-3
    warmup_steps: int = 100
    short_frac: float = 0.25  # the short style is the easier one
    cell_loss_weight: float = 1.0
    watermark_frac: float = 0.1  # some pass the filter and must still be read
    num_heldout: int = 500

    def __post_init__(self) -> None:
        """Refuse fewer pictures than one group of batches needs."""
        least = GROUP * self.batch_size
        if self.num_pictures < least:
            raise ValueError(
                f"num_pictures must be >= {GROUP} * batch_size = {least}, got {self.num_pictures}"
            )


def fit(out: Path, seed: int, config: FitConfig | None = None) -> dict[str, float]:
    """Train the captioner, save it to a folder and measure it on held-out pictures.

    Args:
        out: folder to fill with config, weights (fp16 safetensors), tokenizer and processor.
        seed: of scenes, pictures, initial weights and batches.
        config: sizes; the default is what the shipped pack was trained with.

    Returns:
        The numbers of `measure`, and "train_s".
    """
    config = config or FitConfig()
    started = time.monotonic()
    processor = build_processor()
    model = build_model(processor, seed)
    pictures = make_pictures(
        processor, config.num_pictures, seed, watermark_frac=config.watermark_frac
    )
    logger.info("rendered %d pictures in %.0f s", len(pictures.scenes), time.monotonic() - started)
    _train(model, processor, pictures, config, seed)
    save(model, processor, out)
    train_s = time.monotonic() - started
    return {**measure(out, seed, config.num_heldout), "train_s": train_s}


def measure(
    folder: Path, seed: int, count: int = 500, *, watermark_frac: float = 0.0
) -> dict[str, float]:
    """Measure a saved captioner on pictures of held-out scenes, loaded as the pipeline loads it.

    Returns:
        "detailed_exact": share of detailed captions that state the scene exactly;
        "short_exact": share of short captions equal to `describe_short`;
        "ended": share of captions that the model ended by itself; "captions_per_s".
    """
    rngs = [make_rng(seed, "captioner", "heldout", index) for index in range(count)]
    scenes = [random_split_scene(rng, "heldout") for rng in rngs]
    pictures = [
        draw_picture(scene, rng, watermark_frac=watermark_frac)
        for scene, rng in zip(scenes, rngs, strict=True)
    ]
    captioner = load_captioner(ModelRef(kind="vlm", paths=(folder,)))
    requests = [
        CaptionRequest(key=str(index), image=picture, template=TEMPLATES[style])
        for index, picture in enumerate(pictures)
        for style in ("short", "detailed")
    ]
    started = time.monotonic()
    attempts = captioner.caption(requests, Sampling())
    seconds = time.monotonic() - started
    short, detailed = attempts[::2], attempts[1::2]
    exact = [parse_description(a.text_raw) == s for a, s in zip(detailed, scenes, strict=True)]
    named = [a.text_raw == describe_short(s) for a, s in zip(short, scenes, strict=True)]
    return {
        "detailed_exact": sum(exact) / count,
        "short_exact": sum(named) / count,
        "ended": sum(a.finish_reason == "stop" for a in attempts) / len(attempts),
        "captions_per_s": len(attempts) / seconds,
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class _Texts:
    """Hold prompt ids and both captions' ids of every picture, by style."""

    prompts: dict[str, list[int]]
    captions: dict[str, list[list[int]]]


def _tokenize(processor: Idefics3Processor, scenes: Sequence[Scene]) -> _Texts:
    blank = Image.new("RGB", (SIDE_PX, SIDE_PX))
    describers = {"short": describe_short, "detailed": describe}
    prompts: dict[str, list[int]] = {}
    captions: dict[str, list[list[int]]] = {}
    for style, describer in describers.items():
        text = f"<image>{TEMPLATES[style].text}"
        prompts[style] = processor(text=[text], images=[[blank]])["input_ids"][0]
        texts = [describer(scene) + EOS for scene in scenes]
        captions[style] = processor.tokenizer(texts)["input_ids"]
    return _Texts(prompts=prompts, captions=captions)


def _collate(
    pictures: Pictures, texts: _Texts, rows: Sequence[int], styles: Sequence[str]
) -> dict[str, Tensor]:
    """Stack a batch; padded at the end, where a causal decoder needs no mask.

    Returns:
        pixel_values [B, 1, 3, S, S] float32 in [-1, 1], input_ids and labels [B, T] int64.
    """
    sequences = [
        (texts.prompts[style], texts.captions[style][row])
        for row, style in zip(rows, styles, strict=True)
    ]
    longest = max(len(prompt) + len(caption) for prompt, caption in sequences)
    ids = torch.zeros(len(rows), longest, dtype=torch.long)
    labels = torch.full((len(rows), longest), IGNORE)
    for index, (prompt, caption) in enumerate(sequences):
        end = len(prompt) + len(caption)
        ids[index, :end] = torch.tensor(prompt + caption)
        labels[index, len(prompt) : end] = torch.tensor(caption)
    pixels = torch.from_numpy(pictures.pixels[np.asarray(rows)]).float()
    return {
        "pixel_values": (pixels / 127.5 - 1)[:, None],
        "input_ids": ids,
        "labels": labels,
    }


def _label_cells(scenes: Sequence[Scene]) -> Tensor:
    """Give shape, colour and size of each cell: [N, NUM_CELLS, 3] int64."""
    labels = torch.tensor(CELL_CLASSES).sub(1).repeat(len(scenes), NUM_CELLS, 1)
    colors = tuple(COLORS)
    for row, scene in enumerate(scenes):
        for item in scene.objects:
            values = (SHAPES.index(item.shape), colors.index(item.color), SIZES.index(item.size))
            labels[row, PLACES.index(item.place)] = torch.tensor(values)
    return labels


def _cell_loss(logits: Tensor, labels: Tensor) -> Tensor:
    parts = logits.float().split(CELL_CLASSES, dim=-1)
    losses = [
        functional.cross_entropy(part.flatten(0, -2), labels[..., index].flatten())
        for index, part in enumerate(parts)
    ]
    return torch.stack(losses).sum()


def _iterate_batches(
    texts: _Texts, config: FitConfig, seed: int
) -> Iterator[tuple[list[int], list[str]]]:
    """Draw batches by epochs; inside a group of batches alike lengths go together."""
    rng = make_rng(seed, "captioner", "batches")
    count, group = len(texts.captions["short"]), GROUP * config.batch_size
    while True:
        order = rng.permutation(count)
        for start in range(0, count - group + 1, group):
            rows = order[start : start + group].tolist()
            styles = [
                "short" if draw < config.short_frac else "detailed" for draw in rng.random(group)
            ]
            pairs = sorted(
                zip(rows, styles, strict=True), key=lambda p: len(texts.captions[p[1]][p[0]])
            )
            for batch in rng.permutation(GROUP):
                part = pairs[batch * config.batch_size : (batch + 1) * config.batch_size]
                yield [row for row, _ in part], [style for _, style in part]


def _make_optimizers(
    model: nn.Module, cell_head: nn.Module, config: FitConfig
) -> list[torch.optim.Optimizer]:
    """Give Muon the matrices of the blocks and AdamW all else.

    Source: Keller Jordan, Muon (2024), https://kellerjordan.github.io/posts/muon/, and torch.optim.
    """
    named = dict(model.named_parameters())
    matrices = [value for name, value in named.items() if "layers." in name and value.ndim == 2]
    others = [v for n, v in named.items() if not ("layers." in n and v.ndim == 2)]
    return [
        torch.optim.Muon(matrices, lr=config.lr, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(
            [*others, *cell_head.parameters()], lr=config.lr, weight_decay=0.01, betas=(0.9, 0.98)
        ),
    ]


def _train(
    model: Idefics3ForConditionalGeneration,
    processor: Idefics3Processor,
    pictures: Pictures,
    config: FitConfig,
    seed: int,
) -> None:
    texts, cells = _tokenize(processor, pictures.scenes), _label_cells(pictures.scenes)
    cell_head = nn.Linear(HIDDEN_SIZE, sum(CELL_CLASSES))
    draw_weights(cell_head, derive_seed(seed, "captioner", "cell_head"))
    optimizers = _make_optimizers(model, cell_head, config)
    batches = _iterate_batches(texts, config, seed)
    model.train()
    started = time.monotonic()
    for step in range(config.num_steps):
        warm = min(1.0, (step + 1) / config.warmup_steps)
        scale = warm * 0.5 * (1 + math.cos(math.pi * step / config.num_steps))
        rows, styles = next(batches)
        output = model(**_collate(pictures, texts, rows, styles))
        seen = output.image_hidden_states.view(len(rows), NUM_CELLS, -1)
        cell_loss = _cell_loss(cell_head(seen), cells[rows])
        loss = output.loss + config.cell_loss_weight * cell_loss
        loss.backward()
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = config.lr * scale
            optimizer.step()
            optimizer.zero_grad()
        if step % 50 == 0 or step + 1 == config.num_steps:
            logger.info(
                "step %d caption loss %.4f cell loss %.4f, %.0f s",
                step,
                output.loss.item(),
                cell_loss.item(),
                time.monotonic() - started,
            )
