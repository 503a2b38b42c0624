"""Train the toy CLIP, an open_clip CustomTextCLIP: toy pictures and alt texts in one space.

1. Pictures of the fit split as the web shows them, squashed to 96x96: the 3x3 grid of places stays
   on a 3x3 grid of features whatever the aspect was, and nothing at the border is lost.
2. Texts: true alts, hard negatives (one attribute wrong, colours swapped) and texts of no picture.
3. The loss: SigLIP's sigmoid loss, so that one threshold serves short and long texts alike; and,
   for training only, linear readouts of the scene from both embeddings, which teach the towers what
   belongs to what (binding) long before contrast alone would.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from open_clip.model import CustomTextCLIP
from open_clip.tokenizer import HFTokenizer
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from curate.core.seed import make_rng
from curate.models.clip import load_image_text
from curate.models.packs import ModelRef
from eval.ranking import auc
from pipelines.toyweb.alt_text import AltClass
from pipelines.toyweb.alt_text import write_alt as write_site_alt
from pipelines.toyweb.fit_alts import (
    LEVELS,
    Alt,
    state_of,
    write_alt,
    write_hard_negative,
    write_noise,
)
from pipelines.toyweb.fit_clip_model import (
    CONTEXT_LENGTH,
    EMBED_DIM,
    IMAGE_SIDE_PX,
    build_network,
    write_clip,
    write_tokenizer,
)
from pipelines.toyweb.fit_data import Pixels, WebPicture, web_pictures
from pipelines.toyweb.fit_optim import MatrixOptimizer
from pipelines.toyweb.scene import BACKGROUNDS, COLORS, PLACES, SHAPES, SIZES, Scene, Split

logger = logging.getLogger(__name__)

# Per cell: shape or none, colour, size; then background, watermark, text; then 24 pairs.
CELL_TARGETS = (len(SHAPES) + 1, len(COLORS), len(SIZES))
NUM_PAIRS = len(COLORS) * len(SHAPES)
NUM_READOUTS = len(PLACES) * sum(CELL_TARGETS) + len(BACKGROUNDS) + 2 + NUM_PAIRS
MARK_WEIGHT = 3.0  # a watermark is one bit of a picture; chosen by us for AUC >= 0.97
IGNORE = -100  # the label that torch's cross entropy skips


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipFit:
    """Set the training; all values chosen by us by trial on two cores."""

    num_pictures: int = 8192
    num_steps: int = 800
    batch_size: int = 128
    num_hard: int = 48
    num_noise: int = 16
    matrix_lr: float = 5e-3
    weight_decay: float = 0.05
    readout_weight: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Readouts:
    """Hold the truth of scenes as class indices, `IGNORE` where a text does not say.

    Args:
        cells: [N, 9, 3], int64: shape or none, colour, size.
        background: [N], int64.
        marks: [N, 2], float32: watermark, text; NaN where it is not known.
        pairs: [N, 24], float32: which colour-shape pairs are there; NaN where it is not known.
    """

    cells: Tensor
    background: Tensor
    marks: Tensor
    pairs: Tensor


def fit(out: Path, seed: int, setting: ClipFit | None = None) -> dict[str, float]:
    """Train the CLIP and write it to `out`/clip.

    Args:
        out: folder of the model pack.
        seed: of pictures, texts, weights and batches.
        setting: length and rates; the shipped pack uses the default.

    Returns:
        Measured quality on held-out pictures, and the seconds it took.
    """
    start = time.monotonic()
    setting = setting or ClipFit()
    pictures = draw_pictures(seed, setting.num_pictures)
    logger.info("clip: pictures drawn after %.0f s", time.monotonic() - start)
    folder = out / "clip"
    write_tokenizer(folder)
    network = build_network(seed)
    _train(
        network, HFTokenizer(str(folder), context_length=CONTEXT_LENGTH), pictures, setting, seed
    )
    write_clip(folder, network)
    return {**measure(folder, seed), "train_s": time.monotonic() - start}


def draw_pictures(seed: int, count: int, split: Split = "fit") -> list[WebPicture]:
    """Draw web pictures squashed to the network's input size."""
    return [
        replace(picture, pixels=squash(picture.pixels))
        for picture in web_pictures(seed, count, split, "clip")
    ]


def squash(pixels: Pixels) -> Pixels:
    """Resize as open_clip's "squash" does: bicubic, antialiased, aspect ignored."""
    size = (IMAGE_SIDE_PX, IMAGE_SIDE_PX)
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC))


def measure(folder: Path, seed: int, count: int = 1024) -> dict[str, float]:
    """Measure on held-out pictures: does similarity tell true texts from others'?

    Returns:
        Areas under the curve of the site's good alt texts against its other classes, and of true
        texts of the trainer's own against those with one attribute wrong.
    """
    model = load_image_text(ModelRef(kind="open_clip", paths=(folder,)))
    pictures = list(web_pictures(seed, count, "heldout", "clip measure"))
    embeddings = model.embed_images([Image.fromarray(picture.pixels) for picture in pictures])
    rng = make_rng(seed, "clip", "measure", "texts")
    hard = [write_hard_negative(picture.scene, rng) for picture in pictures]
    is_hard = [not _is_true(alt, item.scene) for alt, item in zip(hard, pictures, strict=True)]

    def similarity(texts: list[str]) -> NDArray[np.float32]:
        return (embeddings * model.embed_texts(texts)).sum(axis=1)

    def site(alt_class: AltClass) -> NDArray[np.float32]:
        return similarity([write_site_alt(alt_class, p.scene, "heldout", rng) for p in pictures])

    good = site("good")
    near = similarity([write_alt(picture.scene, rng).text for picture in pictures])
    near_wrong = similarity([alt.text for alt in hard])[np.asarray(is_hard)]
    return {
        "mismatched_auc": auc(good, site("mismatched")),
        "vague_auc": auc(good, site("vague")),
        "spam_auc": auc(good, site("spam")),
        "foreign_auc": auc(good, site("foreign")),
        "one_attribute_auc": auc(near, near_wrong),
    }


def _is_true(alt: Alt, scene: Scene) -> bool:
    return any(alt.state == state_of(scene, level) for level in LEVELS)


def _train(
    network: CustomTextCLIP,
    tokenizer: HFTokenizer,
    pictures: list[WebPicture],
    setting: ClipFit,
    seed: int,
) -> None:
    readout = nn.Linear(EMBED_DIM, NUM_READOUTS)
    nn.init.zeros_(readout.weight)
    nn.init.zeros_(readout.bias)
    named = [*network.named_parameters(), *readout.named_parameters("readout")]
    optimizer = MatrixOptimizer(
        named,
        num_steps=setting.num_steps,
        matrix_lr=setting.matrix_lr,
        weight_decay=setting.weight_decay,
        is_end=_is_end,
    )
    network.train()
    rng = make_rng(seed, "clip", "batches")
    for step in range(setting.num_steps):
        chosen = [pictures[i] for i in rng.choice(len(pictures), setting.batch_size, replace=False)]
        loss, parts = _loss(network, readout, tokenizer, chosen, setting, rng)
        optimizer.step(loss)
        if step % 10 == 0 or step == setting.num_steps - 1:
            logger.info("clip: step %d %s", step, parts)
    network.eval()


def _loss(
    network: CustomTextCLIP,
    readout: nn.Linear,
    tokenizer: HFTokenizer,
    pictures: list[WebPicture],
    setting: ClipFit,
    rng: np.random.Generator,
) -> tuple[Tensor, dict[str, float]]:
    scenes = [picture.scene for picture in pictures]
    hard = [write_hard_negative(scene, rng) for scene in scenes[: setting.num_hard]]
    noise = [write_noise(rng) for _ in range(setting.num_noise)]
    alts = [*(write_alt(scene, rng) for scene in scenes), *hard, *noise]
    ids = tokenizer([alt.text for alt in alts])
    with torch.autocast("cpu", torch.bfloat16):
        images = network.encode_image(_augment(pictures, rng), normalize=True).float()
        texts = functional.normalize(_encode_texts(network, ids).float(), dim=-1)
    is_true = _truth(alts, scenes)
    logits = images @ texts.T * network.logit_scale.exp() + cast("Tensor", network.logit_bias)
    # Source: Zhai et al. 2023, Sigmoid Loss for Language Image Pre-Training, equation 1.
    contrast = -functional.logsigmoid(logits * (2 * is_true - 1)).sum() / len(pictures)
    scale = EMBED_DIM**0.5
    seen = _readout_loss(readout(images * scale), picture_truth(pictures))
    said = _readout_loss(readout(texts[: len(scenes)] * scale), text_truth(alts, scenes))
    loss = contrast + setting.readout_weight * (seen + said)
    parts = {"contrast": contrast, "seen": seen, "said": said, "scale": network.logit_scale.exp()}
    return loss, {name: round(value.item(), 3) for name, value in parts.items()}


def _is_end(name: str) -> bool:
    """First layers and readouts; and the attention pool, whose 512x512 matrices make Muon slow."""
    return "visual.conv1." in name or "attnpool" in name or name.startswith("readout")


def _encode_texts(network: CustomTextCLIP, ids: Tensor, num_groups: int = 4) -> Tensor:
    """Encode texts in groups of like length: padding would be two thirds of the work."""
    order = (ids != 0).sum(dim=1).argsort()
    parts = [_encode_text(network, ids[group]) for group in order.chunk(num_groups)]
    return torch.cat(parts)[order.argsort()]


def _encode_text(network: CustomTextCLIP, ids: Tensor) -> Tensor:
    """The tower's forward pass without the padding that no text of the group needs."""
    tower = cast("Any", network.text)
    length = int((ids != 0).sum(dim=1).max())
    ids = ids[:, :length]
    hidden = tower.token_embedding(ids) + tower.positional_embedding[:length]
    hidden = tower.transformer(hidden, attn_mask=tower.attn_mask[:length, :length])
    hidden = tower.ln_final(hidden)  # [N, T, D]
    ends = (ids == tower.eos_id).int().argmax(dim=1)
    return hidden[torch.arange(len(ids)), ends] @ tower.text_projection


def _augment(pictures: list[WebPicture], rng: np.random.Generator) -> Tensor:
    """Shift by up to 4 px, change brightness and contrast a little: [B, 3, 96, 96] in [-1, 1]."""
    pixels = torch.from_numpy(np.stack([picture.pixels for picture in pictures]))
    batch = pixels.permute(0, 3, 1, 2).float() / 127.5 - 1.0
    padded = functional.pad(batch, (4, 4, 4, 4), mode="replicate")
    top, left = rng.integers(0, 9, 2)
    batch = padded[:, :, top : top + IMAGE_SIDE_PX, left : left + IMAGE_SIDE_PX]
    gain = torch.from_numpy(rng.uniform(0.8, 1.1, (len(batch), 1, 1, 1)).astype(np.float32))
    shift = torch.from_numpy(rng.uniform(-0.1, 0.1, (len(batch), 1, 1, 1)).astype(np.float32))
    return (batch * gain + shift).contiguous(memory_format=torch.channels_last)


def _truth(alts: list[Alt], scenes: list[Scene]) -> Tensor:
    """Which text is true of which picture: [pictures, texts], float32 of 0 and 1."""
    states = [{state_of(scene, level) for level in LEVELS} for scene in scenes]
    return torch.tensor([[float(alt.state in known) for alt in alts] for known in states])


def picture_truth(pictures: list[WebPicture]) -> Readouts:
    """Give all that a picture shows."""
    cells, background, pairs = _scene_arrays([picture.scene for picture in pictures])
    marks = [[float(picture.has_watermark), float(picture.has_text)] for picture in pictures]
    return Readouts(cells=cells, background=background, marks=torch.tensor(marks), pairs=pairs)


def text_truth(alts: list[Alt], scenes: list[Scene]) -> Readouts:
    """Give what a text says of its scene, and `IGNORE` or NaN for what it does not say."""
    cells, background, pairs = _scene_arrays(scenes)
    for row, alt in enumerate(alts[: len(scenes)]):
        level = (alt.state or "short").partition("|")[0]
        if level not in ("grounded", "detailed"):
            background[row] = IGNORE
        if level == "placed":
            cells[row, :, 2] = IGNORE
        elif level != "detailed":
            cells[row] = IGNORE
    marks = torch.full((len(scenes), 2), torch.nan)
    return Readouts(cells=cells, background=background, marks=marks, pairs=pairs)


def _scene_arrays(scenes: list[Scene]) -> tuple[Tensor, Tensor, Tensor]:
    cells = torch.full((len(scenes), len(PLACES), 3), IGNORE)
    cells[:, :, 0] = len(SHAPES)  # nothing there
    pairs = torch.zeros(len(scenes), NUM_PAIRS)
    for row, scene in enumerate(scenes):
        for item in scene.objects:
            shape, color = SHAPES.index(item.shape), tuple(COLORS).index(item.color)
            place = PLACES.index(item.place)
            cells[row, place] = torch.tensor([shape, color, SIZES.index(item.size)])
            pairs[row, color * len(SHAPES) + shape] = 1.0
    background = torch.tensor([tuple(BACKGROUNDS).index(scene.background) for scene in scenes])
    return cells, background, pairs


def _readout_loss(output: Tensor, truth: Readouts) -> Tensor:
    """Cross entropies of the linear readouts, summed over what is asked, a mean over pictures."""
    sizes = [len(PLACES) * sum(CELL_TARGETS), len(BACKGROUNDS), 2, NUM_PAIRS]
    cells, background, marks, pairs = output.split(sizes, dim=1)
    total = _masked_entropy(background, truth.background)
    groups = cells.unflatten(1, (len(PLACES), -1)).split(CELL_TARGETS, dim=2)
    for index, group in enumerate(groups):
        total = total + _masked_entropy(group.flatten(0, 1), truth.cells[:, :, index].flatten())
    for logits, target, weight in ((marks, truth.marks, MARK_WEIGHT), (pairs, truth.pairs, 1.0)):
        known = ~target.isnan()
        if known.any():
            entropy = functional.binary_cross_entropy_with_logits(logits[known], target[known])
            total = total + weight * entropy
    return total


def _masked_entropy(logits: Tensor, target: Tensor) -> Tensor:
    if (target == IGNORE).all():
        return logits.sum() * 0.0
    return functional.cross_entropy(logits, target, ignore_index=IGNORE)
