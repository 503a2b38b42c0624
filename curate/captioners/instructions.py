"""Say what a captioner is asked: the instruction behind each caption style.

An id and a version travel with every caption: change the words, raise the version. A template that
shows the model the alt text ({alt}) makes captions of a style of its own, for the alt text leaks
into them; likewise one that rewrites a caption ({draft}).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """Hold the instruction of one caption style.

    Args:
        id: the style, which is the source of its captions: lower-case letters, digits, "_".
        version: raised when the words change.
        text: what the model is asked; {alt} and {draft} stand for what the request brings.
        max_new_tokens: of the answer.
    """

    id: str
    version: int
    text: str
    max_new_tokens: int

    @property
    def name(self) -> str:
        """Give id and version as one string, e.g. "detailed-v1"."""
        return f"{self.id}-v{self.version}"

    @property
    def digest(self) -> str:
        """Give 16 hex characters of sha256 over all that it says."""
        said = "\x1f".join((self.id, str(self.version), self.text, str(self.max_new_tokens)))
        return hashlib.sha256(said.encode()).hexdigest()[:16]

    @property
    def uses_alt(self) -> bool:
        """Tell whether the model sees the alt text."""
        return "{alt}" in self.text

    @property
    def uses_draft(self) -> bool:
        """Tell whether the model sees an earlier caption."""
        return "{draft}" in self.text

    def fill(self, *, alt: str = "", draft: str = "") -> str:
        """Write the instruction for one sample; braces in the texts stay as they are."""
        parts = {"{alt}": alt, "{draft}": draft}
        first = min((at for at in (self.text.find(name) for name in parts) if at >= 0), default=-1)
        if first < 0:
            return self.text
        name = next(name for name in parts if self.text.startswith(name, first))
        rest = Template(
            id=self.id,
            version=self.version,
            text=self.text[first + len(name) :],
            max_new_tokens=self.max_new_tokens,
        )
        return self.text[:first] + parts[name] + rest.fill(alt=alt, draft=draft)


# All words are ours. Token limits chosen by us: a short caption is one sentence (about 10 words in
# COCO), so 48 do; detailed ones of large models have 826 to 942 characters on average (ShareGPT4V,
# arXiv 2311.12793, table 1), some 200 tokens; `judge` rejects those that 256 cuts off. None says
# "the image shows": `judge` strips such openings, and models copy the instruction's words.
_TEMPLATES = (
    Template(
        id="tags",
        version=1,
        text=(
            "List what this image shows as short tags, separated by commas, at most thirty: the "
            "main things first, then their colors, materials and actions, then the place, the "
            "light and the style. Write only the tags."
        ),
        max_new_tokens=128,
    ),
    Template(
        id="short",
        version=1,
        text="Describe this image in one short sentence.",
        max_new_tokens=48,
    ),
    # Between the two, so that lengths can be mixed. Source of the wish: Brack et al. 2025, arXiv
    # 2506.16679: captions of random length gave the best balance.
    Template(
        id="medium",
        version=1,
        text=(
            "Describe this image in two or three sentences: what the main things are, what they "
            "look like and do, and where they are. Start with the main thing itself."
        ),
        max_new_tokens=96,
    ),
    Template(
        id="detailed",
        version=1,
        text="Describe this image in detail.",
        max_new_tokens=256,
    ),
    # Source of the idea: PixArt-alpha (arXiv 2310.00426) shows the model the alt text. Names and
    # places come from there, and mistakes too, so its captions are an arm of their own.
    Template(
        id="alt_conditioned",
        version=1,
        text=(
            'The page that this image was found on says of it: "{alt}". Describe the image in '
            "detail. Use the names that the page gives where the image agrees with them, and "
            "leave out of the page's words whatever cannot be seen."
        ),
        max_new_tokens=256,
    ),
    # Source of the kinds of questions: the Davidsonian scene graph (Cho et al. 2023, arXiv
    # 2310.18235) asks a picture for entities, attributes, relations and the whole.
    Template(
        id="question",
        version=1,
        text=(
            "Answer these questions about the image in one paragraph of plain sentences, without "
            "repeating them. What are the main things, and how many of each are there? What "
            "colors, materials and shapes do they have? What do they do, and where are they: left "
            "or right, in front or behind, on or under what? What is the place, the light and the "
            "style? Which words can be read in it? Leave out what cannot be seen."
        ),
        max_new_tokens=256,
    ),
    # For a language model that sees no picture. Source of the idea: CapsFusion (Yu et al. 2024,
    # arXiv 2310.20550): generated captions alone lose the names of the world, alt text alone the
    # picture. That the alt text has nothing to give is the web's usual case, and is said last.
    Template(
        id="fused",
        version=1,
        text=(
            "Two texts are about the same picture. A describes what can be seen in it, knows no "
            "names and may err in details. B stood beside the picture on a web page: it may name "
            "people, places, works and dates, and it may be advertising, wrong or about something "
            "else.\n\nA: {draft}\n\nB: {alt}\n\nDescribe the picture in one paragraph. Say all "
            "that A says. From B take the names and facts that fit what A describes, and use them "
            "in the place of A's general words. Leave out what contradicts A, and prices, dates "
            "of publication, file names, hashtags and calls to buy. Add nothing that neither text "
            "says. If B has nothing to add, repeat A. Write only the paragraph."
        ),
        max_new_tokens=320,
    ),
)
TEMPLATES: Mapping[str, Template] = {one.id: one for one in _TEMPLATES}


def find_template(style: str) -> Template:
    """Give the template of a style.

    Raises:
        ValueError: the style is not in `TEMPLATES`.
    """
    if style not in TEMPLATES:
        known = ", ".join(TEMPLATES)
        raise ValueError(f"styles: must be of {known}, got {style!r}; choose one or more of them")
    return TEMPLATES[style]
