"""Describe pictures by a copy detector's network, so that a cosine says how likely one is a copy.

    picture -> square of the network's side, aspect not kept -> normalised -> ONNX -> unit vector

Networks are ONNX files that the user gives (role descriptor of a pack file):

    descriptor: {kind: isc, paths: [isc_ft_v107.onnx]}
    descriptor: {kind: sscd, paths: [sscd_disc_mixup.onnx]}
    descriptor: {kind: onnx_descriptor, paths: [mine.onnx, mine.json]}

The JSON says what the first two kinds know: side_px, mean and std (of RGB in 0..1), min_cosine.
Their authors publish pickles and TorchScript; both can run code when they are loaded, so neither is
read here: `torch.onnx.export` writes the ONNX, with an input of [N, 3, side, side].
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from curate.core.errors import ModelError
from curate.core.model_ref import ModelRef
from curate.models.onnx_session import open_onnx

OWN_KIND = "onnx_descriptor"
_BATCH_SIZE = 8  # chosen by us: 512 px and a batch of 8 are 25 MB; larger is no faster on a CPU
_TINY = 1e-12
_FIELDS = ("side_px", "mean", "std", "min_cosine")

Rgb = tuple[float, float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """Say how a network wants its pictures, and from which cosine on they are copies.

    Args:
        side_px: of the square that it sees.
        mean: of RGB in 0..1; likewise std.
        min_cosine: least cosine of a copy.
    """

    side_px: int
    mean: Rgb
    std: Rgb
    min_cosine: float


FAMILIES: Mapping[str, Family] = {
    # Source: lyakaap/ISC21-Descriptor-Track-1st, isc_feature_extractor/model.py (512 px, skewed;
    # mean and std of timm's tf_efficientnetv2_m_in21ft1k). Threshold: DataComp's decontamination,
    # mlfoundations/datacomp#70.
    "isc": Family(side_px=512, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5), min_cosine=0.604169),
    # Source: facebookresearch/sscd-copy-detection, README: `skew_320`, and "cosine similarity
    # greater than 0.75 are copies with 90% precision" (sscd_disc_mixup on DISC).
    "sscd": Family(
        side_px=320, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), min_cosine=0.75
    ),
}
KINDS = (*FAMILIES, OWN_KIND)


class CopyDescriptor:
    """Embed pictures with a copy detector; one thread, on the CPU."""

    def __init__(self, session: Any, family: Family, name: str) -> None:
        """Hold the parts.

        Args:
            session: of onnxruntime.
            family: how it wants its pictures.
            name: for reports.
        """
        self.name = name
        self._session = session
        self._family = family
        self._input = session.get_inputs()[0].name
        batch = session.get_inputs()[0].shape[0]
        self._batch_size = batch if isinstance(batch, int) else _BATCH_SIZE
        self.dim = self.embed_images([Image.new("RGB", (8, 8), "red")]).shape[1]

    def embed_images(self, images: Sequence[Image.Image]) -> NDArray[np.float32]:
        """Embed RGB pictures of any size: [N, dim], float32, L2-normalised."""
        if not images:
            return np.empty((0, self.dim), np.float32)
        found: list[NDArray[np.float32]] = []
        for start in range(0, len(images), self._batch_size):
            pixels = np.stack([self._prepare(i) for i in images[start : start + self._batch_size]])
            (rows,) = self._session.run(None, {self._input: pixels})  # [B, dim]
            found.append(np.asarray(rows, np.float32).reshape(len(pixels), -1))
        rows = np.concatenate(found)
        return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), _TINY)

    def _prepare(self, image: Image.Image) -> NDArray[np.float32]:
        """Resize as torchvision does a PIL picture, and normalise: [3, side, side]."""
        side = self._family.side_px
        small = image.resize((side, side), Image.Resampling.BILINEAR)
        mean = np.asarray(self._family.mean, np.float32)
        std = np.asarray(self._family.std, np.float32)
        return ((np.asarray(small, np.float32) / np.float32(255) - mean) / std).transpose(2, 0, 1)


def read_family(ref: ModelRef) -> Family:
    """Give what is known of a network, without loading it.

    Raises:
        ModelError: the kind is unknown, or its JSON is missing or malformed.
    """
    if ref.kind in FAMILIES:
        return FAMILIES[ref.kind]
    if ref.kind != OWN_KIND:
        raise ModelError(
            f"models: descriptor must be of kind {', '.join(KINDS)}, got {ref.kind!r}; choose one"
        )
    from curate.models.weights import read_json

    path = _path_of(ref, ".json")
    return _parse_family(path, read_json(path))


def load_copy_descriptor(ref: ModelRef) -> CopyDescriptor:
    """Load the network that a reference points to.

    Raises:
        ModelError: its kind or files are wrong, or its input or output is not what it should be.
    """
    family, path = read_family(ref), _path_of(ref, ".onnx")
    if not path.is_file():
        raise ModelError(f"{path}: must exist, got no file; fix the path")
    session = open_onnx(path, "export it again")
    inputs, outputs = session.get_inputs(), session.get_outputs()
    wanted = [3, family.side_px, family.side_px]
    shape: list[Any] = list(inputs[0].shape)
    fits = len(shape) == 4 and all(
        not isinstance(got, int) or got == size for got, size in zip(shape[1:], wanted, strict=True)
    )
    if len(inputs) != 1 or inputs[0].type != "tensor(float)" or not fits:
        raise ModelError(
            f"{path}: must take one float32 input [N, 3, {family.side_px}, {family.side_px}], got "
            f"{inputs[0].type} {shape}; export it so, or say its side_px with kind {OWN_KIND}"
        )
    is_any_or_one = not isinstance(shape[0], int) or shape[0] == 1
    if len(outputs) != 1 or not is_any_or_one:
        raise ModelError(
            f"{path}: must give one output, for a batch of 1 or of any size, got {len(outputs)} "
            f"outputs and a batch of {shape[0]}; export it so"
        )
    return CopyDescriptor(session, family, f"{ref.kind}:{path.stem}")


def _path_of(ref: ModelRef, suffix: str) -> Path:
    found = [path for path in ref.paths if path.suffix == suffix]
    if len(found) != 1:
        names = ", ".join(path.name for path in ref.paths)
        raise ModelError(
            f"models: descriptor of kind {ref.kind} must have one {suffix} file, got {names}; "
            "TorchScript and pickles are not read, export the network by torch.onnx.export"
        )
    return found[0]


def _parse_family(path: Path, fields: Mapping[str, Any]) -> Family:
    if set(fields) != set(_FIELDS):
        raise ModelError(
            f"{path}: must have {', '.join(_FIELDS)}, got {', '.join(sorted(fields)) or 'nothing'};"
            " write them"
        )
    side, least = fields["side_px"], fields["min_cosine"]
    if not isinstance(side, int) or side < 1 or not _is_number(least) or not 0 < least <= 1:
        raise ModelError(
            f"{path}: side_px must be >= 1 and min_cosine in (0, 1], got {side!r} and {least!r}; "
            "fix them"
        )
    for name in ("mean", "std"):
        values = fields[name]
        is_rgb = isinstance(values, list) and len(cast("list[Any]", values)) == 3
        if not is_rgb or not all(_is_number(value) for value in values):
            raise ModelError(f"{path}: {name} must be three numbers, got {values!r}; fix it")
    if min(fields["std"]) <= 0:
        raise ModelError(f"{path}: std must be > 0, got {fields['std']!r}; fix it")
    return Family(
        side_px=side,
        mean=cast("Rgb", tuple(fields["mean"])),
        std=cast("Rgb", tuple(fields["std"])),
        min_cosine=float(least),
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
