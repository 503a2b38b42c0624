"""Say what a captioner is asked: the instruction behind each caption style.

An id and a version travel with every caption: change the words, raise the version.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """Hold the instruction of one caption style."""

    id: str
    version: int
    text: str
    max_new_tokens: int

    @property
    def name(self) -> str:
        """Give id and version as one string, e.g. "detailed-v1"."""
        return f"{self.id}-v{self.version}"


# Token limits chosen by us: a short caption is one sentence (about 10 words in COCO), so 48 do;
# detailed ones of large models have 826 to 942 characters on average (ShareGPT4V, arXiv 2311.12793,
# table 1), some 200 tokens; `judge` rejects those that 256 cuts off.
TEMPLATES: Mapping[str, Template] = {
    "short": Template(
        id="short",
        version=1,
        text="Describe this image in one short sentence.",
        max_new_tokens=48,
    ),
    "detailed": Template(
        id="detailed",
        version=1,
        text="Describe this image in detail.",
        max_new_tokens=256,
    ),
}


def find_template(style: str) -> Template:
    """Give the template of a style.

    Raises:
        ValueError: the style is not in `TEMPLATES`.
    """
    if style not in TEMPLATES:
        known = ", ".join(TEMPLATES)
        raise ValueError(f"styles: must be of {known}, got {style!r}; choose one or more of them")
    return TEMPLATES[style]
