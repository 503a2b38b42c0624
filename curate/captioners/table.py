"""List the captioners: which loader reads which kind of model.

`CAPTIONERS` maps the kind of a `ModelRef` to a builder that imports its library only when called;
torch is not imported here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from curate.captioners.captioner import Captioner
from curate.core.errors import ModelError
from curate.core.model_ref import ModelRef


def load_captioner(ref: ModelRef) -> Captioner:
    """Load the captioner that `ref` points at.

    Raises:
        ModelError: the kind is not in `CAPTIONERS`, or the files cannot be loaded.
    """
    if ref.kind not in CAPTIONERS:
        kinds = ", ".join(CAPTIONERS)
        raise ModelError(f"captioner: kind must be one of {kinds}, got {ref.kind!r}; choose one")
    return CAPTIONERS[ref.kind](ref)


def _build_vlm(ref: ModelRef) -> Captioner:
    from curate.captioners.vlm import VlmCaptioner

    return VlmCaptioner(ref)


def _build_imagenet_classes(ref: ModelRef) -> Captioner:
    from curate.captioners.classes import ClassCaptioner

    return ClassCaptioner(ref)


CAPTIONERS: Mapping[str, Callable[[ModelRef], Captioner]] = {
    "vlm": _build_vlm,
    "imagenet_classes": _build_imagenet_classes,
}
