"""Find the image-text model of a pack that a head was trained on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from curate.core.errors import ModelError
from curate.core.model_ref import ModelRef
from curate.models.head import Head
from curate.models.packs import is_image_text_role


def find_image_text(name: str, head: Head, models: Mapping[str, ModelRef]) -> str:
    """Give the role of the model whose embeddings a head scores.

    A head names it by digest or by name (see `head.py`), and a model's folder must say that it is
    that one. A head that names none belongs to the main model.

    Args:
        name: the head's role, for messages.
        head: with what it says of its model.
        models: the pack.

    Raises:
        ModelError: the pack has no such model, or one that may be it and does not say so.
    """
    roles = [role for role in models if is_image_text_role(role)]
    fitting = [role for role in roles if _belongs(head, models[role])]
    if fitting:
        return "image_text" if "image_text" in fitting else fitting[0]
    if head.image_text and not head.image_text_digest:
        _refuse_nameless(name, head.image_text, [models[role] for role in roles])
    wanted = head.image_text or f"image_text {head.image_text_digest[:12]}"
    got = ", ".join(f"{role} {models[role].digest[:12]}" for role in roles) or "none"
    raise ModelError(
        f"models: head {name} must be on the embeddings of {wanted}, got {got}; "
        "use the pair that was trained together"
    )


def _belongs(head: Head, ref: ModelRef) -> bool:
    if head.image_text_digest:
        return head.image_text_digest == ref.digest
    if not head.image_text:
        return True
    from curate.models.open_clip_folder import is_model

    return is_model(ref, head.image_text)


def _refuse_nameless(name: str, wanted: str, refs: Sequence[ModelRef]) -> None:
    """Refuse a folder that may hold the wanted model and does not say so, with the remedy."""
    from curate.models.open_clip_folder import CONFIG_NAME, say_how_to_name

    for ref in refs:
        if remedy := say_how_to_name(ref, wanted):
            raise ModelError(
                f"{ref.paths[0] / CONFIG_NAME}: must name its model, for head {name} takes only "
                f"{wanted}, got no name; {remedy}"
            )
