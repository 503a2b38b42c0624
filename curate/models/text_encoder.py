"""Load the text encoder that a reference names: its kind chooses the loader.

Each gives, of a caption, what a text-to-image backbone attends to: one vector a token, and one in
all (`text_embedding.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from curate.core.errors import ModelError
from curate.models.packs import ModelRef
from curate.models.text_embedding import TextEncoder


def load_text_encoder(ref: ModelRef, device: str = "cpu") -> TextEncoder:
    """Load the text encoder a reference points to.

    Args:
        ref: its kind and folders.
        device: where to run, e.g. "cpu" or "cuda"; MiniLM stays on the CPU.

    Raises:
        ModelError: the kind is not in `LOADERS`, or its files are missing or do not fit.
    """
    if ref.kind not in LOADERS:
        raise ModelError(
            f"text_encoder: kind must be one of {', '.join(LOADERS)}, got {ref.kind!r}; choose one"
        )
    return LOADERS[ref.kind](ref, device)


def _load_open_clip(ref: ModelRef, device: str) -> TextEncoder:
    from curate.models.open_clip_text import load_open_clip_text

    return load_open_clip_text(ref, device)


def _load_minilm(ref: ModelRef, device: str) -> TextEncoder:
    from curate.models.minilm import load_minilm_text_encoder

    return load_minilm_text_encoder(ref)


def _load_clip(ref: ModelRef, device: str) -> TextEncoder:
    from curate.models.clip_text import load_clip_text

    return load_clip_text(ref, device, "penultimate")


def _load_clip_last(ref: ModelRef, device: str) -> TextEncoder:
    from curate.models.clip_text import load_clip_text

    return load_clip_text(ref, device, "last")


def _load_t5(ref: ModelRef, device: str) -> TextEncoder:
    from curate.models.any_text import load_t5_text

    return load_t5_text(ref, device)


def _load_encoder(ref: ModelRef, device: str) -> TextEncoder:
    from curate.models.any_text import load_any_text

    return load_any_text(ref, device)


LOADERS: Mapping[str, Callable[[ModelRef, str], TextEncoder]] = {
    "open_clip": _load_open_clip,
    "minilm": _load_minilm,
    "clip": _load_clip,
    "clip_last": _load_clip_last,
    "t5": _load_t5,
    "encoder": _load_encoder,
}
"""Kind to loader; a loader imports its libraries when it is called."""
