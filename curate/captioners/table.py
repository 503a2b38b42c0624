"""List the captioners: which loader reads which kind of model.

`CAPTIONERS` maps the kind of a `ModelRef` to a builder that imports its library only when called;
torch is not imported here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from curate.captioners.captioner import Captioner
from curate.captioners.instructions import Template
from curate.captioners.vlm_batches import BatchLimits
from curate.core.errors import ModelError
from curate.core.model_ref import ModelRef

_TEXT_KINDS = ("lm", "openai_text")  # that see no picture


def load_captioner(ref: ModelRef, limits: BatchLimits | None = None) -> Captioner:
    """Load the captioner that `ref` points at.

    Args:
        ref: kind and files.
        limits: of batches, for the kinds that run a model here; None takes the defaults.

    Raises:
        ModelError: the kind is not in `CAPTIONERS`, or the files cannot be loaded.
    """
    _check_kind(ref)
    return CAPTIONERS[ref.kind](ref, limits or BatchLimits())


def check_templates(ref: ModelRef, templates: Sequence[Template]) -> None:
    """Refuse, before anything is loaded, a style that the captioner cannot follow.

    Raises:
        ModelError: names the styles that it can; or the kind is not in `CAPTIONERS`.
    """
    _check_kind(ref)
    if ref.kind == "vlm":
        from curate.captioners import vlm_families

        model_type = vlm_families.read_model_type(ref.paths[0])
        vlm_families.check_templates(model_type, templates)
    elif ref.kind == "imagenet_classes":
        from curate.captioners import classes

        classes.check_templates(templates)
    elif ref.kind in _TEXT_KINDS:
        _check_show_text(templates)


def _check_show_text(templates: Sequence[Template]) -> None:
    """Refuse a template that shows a model without eyes no text."""
    for template in templates:
        if not (template.uses_draft or template.uses_alt):
            raise ModelError(
                f"rewriter: a template must show it {{draft}} or {{alt}}, got {template.id!r}, "
                "which asks about a picture; use it with a captioner"
            )


def _check_kind(ref: ModelRef) -> None:
    if ref.kind not in CAPTIONERS:
        kinds = ", ".join(CAPTIONERS)
        raise ModelError(f"captioner: kind must be one of {kinds}, got {ref.kind!r}; choose one")


def _build_vlm(ref: ModelRef, limits: BatchLimits) -> Captioner:
    from curate.captioners.vlm import VlmCaptioner

    return VlmCaptioner(ref, limits)


def _build_imagenet_classes(ref: ModelRef, limits: BatchLimits) -> Captioner:
    from curate.captioners.classes import ClassCaptioner

    return ClassCaptioner(ref)


def _build_lm(ref: ModelRef, limits: BatchLimits) -> Captioner:
    from curate.captioners.rewriter import LmRewriter

    return LmRewriter(ref, limits)


def _build_server(ref: ModelRef, limits: BatchLimits) -> Captioner:
    from curate.captioners.server import ServerCaptioner

    return ServerCaptioner(ref)


CAPTIONERS: Mapping[str, Callable[[ModelRef, BatchLimits], Captioner]] = {
    "vlm": _build_vlm,
    "imagenet_classes": _build_imagenet_classes,
    "lm": _build_lm,
    "openai": _build_server,
    "openai_text": _build_server,
}
