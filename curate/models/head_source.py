"""Find the image-text model of a pack that a head was trained on."""

from __future__ import annotations

from collections.abc import Mapping

from curate.core.errors import ModelError
from curate.core.model_ref import ModelRef
from curate.models.heads import Head
from curate.models.packs import is_image_text_role


def find_image_text(name: str, head: Head, models: Mapping[str, ModelRef]) -> str:
    """Give the role of the model whose embeddings a head scores.

    A head names it by digest or by name (see `heads.py`); one that names none belongs to the main
    model.

    Args:
        name: the head's role, for messages.
        head: with what it says of its model.
        models: the pack.

    Raises:
        ModelError: the pack has no such model.
    """
    roles = [role for role in models if is_image_text_role(role)]
    fitting = [role for role in roles if _belongs(head, models[role])]
    if fitting:
        return "image_text" if "image_text" in fitting else fitting[0]
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
