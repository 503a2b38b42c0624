"""Examine the installation: versions, free disk, model packs, each model on one small picture."""

from __future__ import annotations

import importlib.metadata
import platform
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from curate.core.errors import CurateError, ModelError
from curate.models.packs import PACKS, ModelRef, is_feature_role, load_pack
from pipelines.golden import describe_golden, load_for_probe

_LIBRARIES = (
    "torch", "torchvision", "transformers", "open_clip_torch", "diffusers", "webdataset",
    "img2dataset", "imagehash", "pyarrow", "dask", "distributed",
)  # fmt: skip
_FREE_BYTES = 5 * 2**30
"""Less free disk is a warning; chosen by us: the demo writes under 1 GB."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """Report one finding."""

    name: str
    ok: bool
    detail: str


def examine(pack_name: str, folder: str = "") -> Iterator[Check]:
    """Yield checks, the cheap ones first.

    Args:
        pack_name: the pack to test; "" tests every pack that is installed.
        folder: of models that a pack does not ship.
    """
    yield Check(name="python", ok=True, detail=platform.python_version())
    for library in _LIBRARIES:
        yield _version(library)
    free = shutil.disk_usage(Path.cwd()).free
    yield Check(name="free disk", ok=free > _FREE_BYTES, detail=f"{free / 2**30:.1f} GiB")
    for name in [pack_name] if pack_name else PACKS:
        yield from _examine_pack(name, folder, required=bool(pack_name))


def _version(library: str) -> Check:
    try:
        return Check(name=library, ok=True, detail=importlib.metadata.version(library))
    except importlib.metadata.PackageNotFoundError:
        return Check(name=library, ok=False, detail="not installed; run `pip install .`")


def _examine_pack(name: str, folder: str, *, required: bool) -> Iterator[Check]:
    try:
        pack = load_pack(name, folder)
    except CurateError as error:
        yield Check(name=f"models={name}", ok=not required, detail=str(error))
        return
    picture = Image.fromarray(np.tile(np.arange(96, dtype=np.uint8)[:, None, None], (1, 96, 3)))
    for role, ref in pack.items():
        begun = time.perf_counter()
        try:
            detail = _test(role, ref, picture)
            seconds = time.perf_counter() - begun
            yield Check(name=f"{name}/{role}", ok=True, detail=f"{detail} ({seconds:.1f} s)")
        except (CurateError, ImportError, ValueError) as error:
            yield Check(name=f"{name}/{role}", ok=False, detail=str(error).splitlines()[0])


def _test(role: str, ref: ModelRef, picture: Image.Image) -> str:
    """Run a model's self test, and compare with its golden values where it has some."""
    name = "features" if is_feature_role(role) else role
    details = [SELF_TESTS[name](ref, picture)] if name in SELF_TESTS else []
    loaded = load_for_probe(role, ref)
    if loaded:
        details += [loaded.detail] if not details else []
        details.append(describe_golden(role, ref, loaded))
    return "; ".join(details)


def _test_text_area(ref: ModelRef, picture: Image.Image) -> str:
    from curate.models.text_area import load_text_area

    model = load_text_area(ref)
    found = [len(model.find_lines(image).boxes) for image in (picture, _card("latent"))]
    if found != [0, 1]:
        raise ValueError(f"must find no line in a plain picture and 1 on a card, got {found}")
    return f"{model.name}, 1 line on a card"


def _test_language(ref: ModelRef, picture: Image.Image) -> str:
    from curate.models.language import load_language

    found = load_language(ref)("a red circle and a blue square on a white background")
    return f"{found.code}, score {found.score:.3f}"


def _test_toxic_terms(ref: ModelRef, picture: Image.Image) -> str:
    from curate.models.term_list import load_term_list

    terms = load_term_list(ref)
    if terms.count("a red circle on the left").num_terms:
        raise ValueError("the list must not find anything in 'a red circle on the left'")
    return f"{len(terms)} terms"


def _test_toxicity(ref: ModelRef, picture: Image.Image) -> str:
    from curate.models.text_classifier import load_toxicity

    return f"score {float(load_toxicity(ref)(['a red circle'])[0]):.3f}"


def _test_ocr(ref: ModelRef, picture: Image.Image) -> str:
    from curate.models.text_reader import load_text_reader

    middle = np.asarray([[[0.1, 0.35], [0.9, 0.35], [0.9, 0.65], [0.1, 0.65]]], np.float32)
    text = " ".join(line.text for line in load_text_reader(ref).read(_card("latent"), middle))
    if text != "latent":
        raise ValueError(f"must read 'latent', got {text!r}")
    return f"reads {text!r}"


def _test_faces(ref: ModelRef, picture: Image.Image) -> str:
    import matplotlib

    from curate.models.faces import load_faces

    detector = load_faces(ref)
    file = Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg"
    found = [len(detector.find(image)) for image in (picture, Image.open(file).convert("RGB"))]
    if found != [0, 1]:
        raise ValueError(f"must find no face in a plain picture and 1 in {file.name}, got {found}")
    return f"{detector.name}, 1 face in a portrait"


def _card(text: str) -> Image.Image:
    image = Image.new("RGB", (200, 120), "white")
    font = ImageFont.load_default(28)
    ImageDraw.Draw(image).text((100, 60), text, "black", font, anchor="mm")
    return image


def _test_captioner(ref: ModelRef, picture: Image.Image) -> str:
    return _ask_captioner(ref, picture, "short")


def _test_rewriter(ref: ModelRef, picture: Image.Image) -> str:
    return _ask_captioner(ref, picture, "fused")


def _ask_captioner(ref: ModelRef, picture: Image.Image, style: str) -> str:
    from curate.captioners.captioner import CaptionRequest, Sampling
    from curate.captioners.instructions import find_template
    from pipelines.captioners import open_captioner

    template = find_template(style)
    request = CaptionRequest(
        key="doctor", image=picture, template=template, alt="Fido at home", draft="A dog on grass."
    )
    (attempt,) = open_captioner(ref).caption([request], Sampling())
    if attempt.finish_reason == "error":
        raise ModelError(f"{ref.kind}: must answer {template.name}, got {attempt.text_raw}")
    return repr(attempt.text_raw[:100])


def _test_vae(ref: ModelRef, picture: Image.Image) -> str:
    from curate.models.vae import load_vae

    vae = load_vae(ref)
    moments = vae.encode(np.array(picture)[None])
    back = vae.decode(moments[:, : vae.latent_channels])
    return f"{vae.latent_channels} channels, round trip {back.shape[1]}x{back.shape[2]}"


def _test_text_encoder(ref: ModelRef, picture: Image.Image) -> str:
    from curate.models.text_encoder import load_text_encoder

    encoder = load_text_encoder(ref)
    num_tokens = len(encoder.encode(["a red circle"])[0].tokens)
    return f"{encoder.name}, {num_tokens} tokens of {encoder.dim}"


def _test_features(ref: ModelRef, picture: Image.Image) -> str:
    from curate.models.picture_features import load_patch_features

    found = load_patch_features(ref, "cpu", token_px=16)(np.array(picture)[None])
    return f"{found.shape[1]} patches of {found.shape[2]}"


SELF_TESTS: Mapping[str, Callable[[ModelRef, Image.Image], str]] = {
    "text_area": _test_text_area,
    "ocr": _test_ocr,
    "faces": _test_faces,
    "language": _test_language,
    "toxic_terms": _test_toxic_terms,
    "toxicity": _test_toxicity,
    "captioner": _test_captioner,
    "rewriter": _test_rewriter,
    "verifier": _test_captioner,
    "vae": _test_vae,
    "text_encoder": _test_text_encoder,
    "features": _test_features,
}
"""Role to a test beyond golden values."""
