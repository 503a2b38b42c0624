"""Write what a vision-language model is asked, as its family wants it.

Alt text comes from strangers: a "<image>" or "<|im_end|>" in it would stand for a second picture or
end the user's turn, so the model's special tokens are taken out of it, and it is cut.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from curate.captioners.captioner import CaptionRequest
from curate.captioners.vlm_families import Family

# Characters of a text from outside that a model is shown. Chosen by us: some 500 tokens, far more
# than any caption has; what is longer is markup or a list of keywords.
MAX_TEXT_CHARS = 2_000


class PromptWriter:
    """Write prompts for one model; equal questions are rendered once a call of `write_all`."""

    def __init__(self, family: Family, processor: Any) -> None:
        self._family = family
        self._processor = processor
        self._marks = list_marks(processor)

    def write_all(self, requests: Sequence[CaptionRequest]) -> list[str]:
        """Write the prompts of many requests; most of them are the same."""
        known: dict[tuple[str, str, str], str] = {}
        prompts: list[str] = []
        for request in requests:
            template = request.template
            alt = request.alt if template.uses_alt else ""
            draft = request.draft if template.uses_draft else ""
            asked = (template.digest, alt, draft)
            if asked not in known:
                known[asked] = self.write(request)
            prompts.append(known[asked])
        return prompts

    def write(self, request: CaptionRequest) -> str:
        """Write one instruction with its place for the picture; "" for families without words."""
        if self._family.prompt != "chat":
            return self._family.tasks[request.template.id]
        text = request.template.fill(
            alt=clean_text(request.alt, self._marks), draft=clean_text(request.draft, self._marks)
        )
        content = [{"type": "image"}, {"type": "text", "text": text}]
        return self._processor.apply_chat_template(
            [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=False
        )


def clean_text(text: str, marks: Sequence[str]) -> str:
    """Take a model's marks out of a text, and cut it to `MAX_TEXT_CHARS`.

    Args:
        text: from outside.
        marks: longest first.
    """
    text = text[:MAX_TEXT_CHARS]
    while found := next((mark for mark in marks if mark in text), ""):
        text = text.replace(found, " ")  # again, for what is left may join to another mark
    return text


def list_marks(processor: Any) -> list[str]:
    """List the strings that mean more than their letters to a processor, longest first."""
    own = {
        value
        for name, value in vars(processor).items()
        if name.endswith("_token") and isinstance(value, str)
    }
    marks = own | set(processor.tokenizer.all_special_tokens)
    return sorted((mark for mark in marks if mark.strip()), key=lambda mark: (-len(mark), mark))
