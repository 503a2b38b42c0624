"""Fit the toy pack's linear heads on CLIP embeddings: looks, watermarks, letters laid over.

All are closed-form or convex fits, so they need seconds. The aesthetic score is a rule of ours,
not people's taste: it stands in for the LAION predictor, which also is one linear layer on CLIP
embeddings with scores from 1 to 10. `watermark` and `text_overlay` are probabilities; a picture may
have both.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.optimize import minimize
from scipy.stats import spearmanr

from curate.models.clip import load_image_text
from curate.models.head import Head
from curate.models.heads import load_head
from curate.models.linear_head import LinearHead, write_linear_head
from curate.models.packs import ModelRef
from eval.ranking import auc
from pipelines.toyweb.fit_data import WebPicture, web_pictures
from pipelines.toyweb.scene import PLACES, RADII

logger = logging.getLogger(__name__)

FloatArray = NDArray[np.float32]

NUM_AESTHETIC = 4096
NUM_MARKS = 8192
NUM_GRAY = 1024  # of them fitted in gray too: without, 1 in 5 gray pictures passes for watermarked
NUM_MEASURE = 2048
MARK_PENALTY = 1e-4  # weight decay of the logistic fits; chosen by us on the fit split
AESTHETIC_PENALTY = 1e-2  # ridge; chosen by us on the fit split


def _has_watermark(picture: WebPicture) -> bool:
    return picture.has_watermark


def _has_text(picture: WebPicture) -> bool:
    return picture.has_text


MARKS: Mapping[str, Callable[[WebPicture], bool]] = {
    "watermark": _has_watermark,
    "text_overlay": _has_text,
}
"""Head that gives the probability of a mark -> the truth it is fitted to."""


def fit(out: Path, seed: int) -> dict[str, float]:
    """Fit the heads on embeddings of `out`/clip and write them beside it.

    Args:
        out: folder of the model pack, with its clip.
        seed: of the pictures.

    Returns:
        What `measure` gives on held-out pictures, and train_s.
    """
    start = time.monotonic()
    ref = ModelRef(kind="open_clip", paths=(out / "clip",))
    pictures = list(web_pictures(seed, NUM_MARKS, "fit", "heads"))
    embeddings = _embed(ref, [picture.pixels for picture in pictures])
    gray = _embed(ref, [_in_gray(picture.pixels) for picture in pictures[:NUM_GRAY]])
    for name, has_mark in MARKS.items():
        marked = np.asarray([has_mark(picture) for picture in pictures], np.float32)
        weight, bias = fit_logistic(
            np.concatenate([embeddings, gray]),
            np.concatenate([marked, marked[:NUM_GRAY]]),
            MARK_PENALTY,
        )
        head = LinearHead(
            weight=weight, bias=bias, activation="sigmoid", image_text_digest=ref.digest
        )
        write_linear_head(out / f"{name}.safetensors", head)
    scores = [aesthetic_rule(picture) for picture in pictures[:NUM_AESTHETIC]]
    weight, bias = fit_ridge(
        embeddings[:NUM_AESTHETIC], np.asarray(scores, np.float32), AESTHETIC_PENALTY
    )
    write_linear_head(
        out / "aesthetic.safetensors",
        LinearHead(weight=weight, bias=bias, activation="identity", image_text_digest=ref.digest),
    )
    return {**measure(out, seed), "train_s": time.monotonic() - start}


def aesthetic_rule(picture: WebPicture) -> float:
    """Score a picture's looks from 1 to 10 by its truth.

    Chosen by us: colourful and balanced scenes of large objects are better, a watermark or an
    overlay of text is worse. The weights spread the toy web over most of the range.
    """
    items = picture.scene.objects
    area = np.asarray([RADII[item.size] ** 2 for item in items])
    cells = np.asarray([divmod(PLACES.index(item.place), 3) for item in items]) - 1.0
    centroid = (area[:, None] * cells).sum(axis=0) / area.sum()
    balance = 1.0 - float(np.linalg.norm(centroid)) / 2**0.5
    colors = len({item.color for item in items})
    score = 3.0 + 2.5 * balance + 0.6 * colors + 6.0 * float(area.sum()) / len(PLACES) * 3
    score -= 2.5 * picture.has_watermark + 2.0 * picture.has_text
    return float(np.clip(score, 1.0, 10.0))


def fit_logistic(
    embeddings: FloatArray, labels: FloatArray, penalty: float
) -> tuple[FloatArray, float]:
    """Fit a logistic regression by L-BFGS.

    Args:
        embeddings: [N, D], float32.
        labels: [N], 0 or 1.
        penalty: times the squared norm of the weights, added to the mean loss.

    Returns:
        The weight [D] and the bias.
    """
    signs = 2.0 * labels.astype(np.float64) - 1.0
    features = embeddings.astype(np.float64)

    def loss(parameters: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        weight, bias = parameters[:-1], parameters[-1]
        margins = signs * (features @ weight + bias)
        value = np.logaddexp(0.0, -margins).mean() + penalty * (weight @ weight)
        slope = -signs * 0.5 * (1.0 - np.tanh(0.5 * margins)) / len(signs)
        gradient = np.append(features.T @ slope + 2 * penalty * weight, slope.sum())
        return float(value), gradient

    found = minimize(loss, np.zeros(features.shape[1] + 1), jac=True, method="L-BFGS-B")
    return found.x[:-1].astype(np.float32), float(found.x[-1])


def fit_ridge(
    embeddings: FloatArray, targets: FloatArray, penalty: float
) -> tuple[FloatArray, float]:
    """Fit a linear regression with a squared penalty on the weights, in closed form.

    Args:
        embeddings: [N, D], float32.
        targets: [N], float32.
        penalty: times N on the diagonal of the covariance, relative to its mean.

    Returns:
        The weight [D] and the bias.
    """
    mean, level = embeddings.mean(axis=0), float(targets.mean())
    centred = (embeddings - mean).astype(np.float64)
    covariance = centred.T @ centred
    ridge = penalty * np.trace(covariance) / len(covariance)
    weight = np.linalg.solve(
        covariance + ridge * np.eye(len(covariance)), centred.T @ (targets - level)
    )
    return weight.astype(np.float32), level - float(mean @ weight)


def measure(out: Path, seed: int) -> dict[str, float]:
    """Measure the heads on held-out pictures.

    Returns:
        For each mark its AUC against all pictures without it, and `*_confused`: the share of those
        pictures that bear only the other mark and still score above one half; aesthetic_spearman
        and aesthetic_rmse against the rule.
    """
    ref = ModelRef(kind="open_clip", paths=(out / "clip",))
    pictures = list(web_pictures(seed, NUM_MEASURE, "heldout", "heads"))
    embeddings = _embed(ref, [picture.pixels for picture in pictures])
    heads = {
        name: load_head(ModelRef(kind="linear_head", paths=(out / f"{name}.safetensors",)))
        for name in (*MARKS, "aesthetic")
    }
    wanted = np.asarray([aesthetic_rule(picture) for picture in pictures])
    scores = heads["aesthetic"](embeddings)
    return {
        **_measure_mark("watermark", "text_overlay", heads, pictures, embeddings),
        **_measure_mark("text_overlay", "watermark", heads, pictures, embeddings),
        "aesthetic_spearman": float(cast("Any", spearmanr(scores, wanted)).statistic),
        "aesthetic_rmse": float(np.sqrt(np.mean((scores - wanted) ** 2))),
    }


def _measure_mark(
    name: str,
    other: str,
    heads: Mapping[str, Head],
    pictures: Sequence[WebPicture],
    embeddings: FloatArray,
) -> dict[str, float]:
    has_mark, has_other = (
        np.asarray([MARKS[mark](picture) for picture in pictures]) for mark in (name, other)
    )
    probability = heads[name](embeddings)
    return {
        f"{name}_auc": auc(probability[has_mark], probability[~has_mark]),
        f"{name}_confused": float(np.mean(probability[has_other & ~has_mark] > 0.5)),
    }


def _embed(ref: ModelRef, pictures: Sequence[NDArray[np.uint8]]) -> FloatArray:
    return load_image_text(ref).embed_images([Image.fromarray(pixels) for pixels in pictures])


def _in_gray(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.asarray(Image.fromarray(pixels).convert("L").convert("RGB"))
