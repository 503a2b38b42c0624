"""Judge a generated caption by rules on its text: no model, no picture, one reason each.

Path of a text: whitespace folded -> boilerplate prefix stripped -> rules in the order of the list
in `judge_caption`; the first that fires names the status. A boilerplate prefix ("The image shows")
is stripped, not rejected: it would mark the style of a caption set and say nothing. A refusal
counts only at the start, so that a sign reading "sorry, closed" stays describable.

Not for alt text of the web: that is measured by annotators/caption_text.py and cut by thresholds.
"""

from __future__ import annotations

import re
import zlib
from collections import Counter
from dataclasses import dataclass

# Source: Conceptual 12M (Changpinyo et al. 2021, arXiv 2102.08981, section 2.2): 3 to 256 words.
MIN_WORDS = 3
MAX_WORDS = 256
# Source: Whisper (Radford et al. 2022, arXiv 2212.04356, section 4.5): text that gzip shrinks by
# more than 2.4 is taken for a repetition loop.
MAX_COMPRESSION = 2.4
# Chosen by us: a loop repeats almost all of its 4-grams (share > 0.8 after four rounds), while a
# list of three alike objects ("a red circle and a red circle and a red circle") has 0.5. The
# 4-gram is the longest of the gopher "top n-gram" rules (Rae et al. 2021, arXiv 2112.11446, A1).
MAX_REPEATED_FRAC = 0.6
# Chosen by us: below this a text is one repeated phrase at most, and zlib's 11-byte frame and
# 4-gram counts of a handful say nothing.
MIN_WORDS_FOR_REPETITION = 12

_REFUSAL = re.compile(
    r"(?:i'?m sorry|i am sorry|sorry,|i apologi[sz]e|unfortunately, i"
    r"|i(?: am|'m) (?:unable|not able)|i (?:cannot|can't|can not|could not|couldn't)"
    r"|as an? (?:ai|language model|assistant))\b",
    re.IGNORECASE,
)
_LEAK = re.compile(
    r"<\|[^<>]{0,40}\|>"  # <|im_end|>, <|endoftext|>
    r"|</?(?:s|pad|unk|bos|eos|image|img|global-img|end_of_utterance|fake_token_around_image)>"
    r"|\[/?(?:INST|IMG|PAD|UNK|CLS|SEP)\]"
    r"|\b(?:USER|ASSISTANT|SYSTEM|User|Assistant|Human):"
    r"|\{\{|\}\}|\{%|```"
)
_BOILERPLATE = re.compile(
    r"(?:here is (?:a|the) (?:short |detailed )?(?:caption|description)"
    r"(?: of (?:the|this) \w+)?:\s*"
    r"|(?:caption|description):\s*"
    r"|in (?:the|this) (?:image|picture|photo|photograph|scene),?\s+"
    r"(?:there (?:is|are)\s+|(?:we|you|i) (?:can )?see\s+)?"
    r"|(?:the|this) (?:image|picture|photo|photograph|scene) "
    r"(?:shows|features|depicts|displays|contains|captures|presents|is of|is)(?:\s+|$))",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """Hold the cleaned text and "ok" or the reason for its rejection."""

    text: str
    status: str


def judge_caption(text_raw: str, *, prompt: str = "", is_cut_off: bool = False) -> Judgement:
    """Clean a generated caption and say whether it can be kept.

    The statuses, in the order in which they are tried: "empty", "refusal", "leak", "repetition",
    "cut_off", "too_short", "too_long", "ok". A cut-off text that loops is a "repetition".

    Args:
        text_raw: what the model wrote.
        prompt: the instruction; a text that repeats it has leaked it. "" checks nothing.
        is_cut_off: the model stopped at the token limit.
    """
    text = strip_boilerplate(" ".join(text_raw.split()))
    return Judgement(text=text, status=_find_status(text, prompt, is_cut_off))


def strip_boilerplate(text: str) -> str:
    """Remove an opening such as "The image shows"; keep a capital at the start."""
    match = _BOILERPLATE.match(text)
    if match is None:
        return text
    rest = text[match.end() :]
    return rest[:1].upper() + rest[1:] if text[:1].isupper() else rest


def is_refusal(text: str) -> bool:
    """Say whether the text starts as a refusal."""
    return _REFUSAL.match(text) is not None


def has_leak(text: str, prompt: str = "") -> bool:
    """Say whether special tokens, chat roles, markup or the prompt itself are in the text."""
    return _LEAK.search(text) is not None or (prompt != "" and prompt.lower() in text.lower())


def is_repetitive(text: str) -> bool:
    """Say whether the text loops: too many repeated 4-grams, or it compresses too well."""
    if len(text.split()) < MIN_WORDS_FOR_REPETITION:
        return False
    return (
        measure_repeated_frac(text) > MAX_REPEATED_FRAC
        or measure_compression(text) > MAX_COMPRESSION
    )


def measure_repeated_frac(text: str, length: int = 4) -> float:
    """Measure the share of word n-grams that were there before, in [0, 1)."""
    words = text.lower().split()
    grams = Counter(tuple(words[i : i + length]) for i in range(len(words) - length + 1))
    total = grams.total()
    return 1 - len(grams) / total if total else 0.0


def measure_compression(text: str) -> float:
    """Measure how often the zlib-compressed text fits into the text; about 1 for short prose."""
    data = text.encode()
    return len(data) / len(zlib.compress(data))


def _find_status(text: str, prompt: str, is_cut_off: bool) -> str:
    num_words = len(text.split())
    rules = (
        ("empty", num_words == 0),
        ("refusal", is_refusal(text)),
        ("leak", has_leak(text, prompt)),
        ("repetition", is_repetitive(text)),
        ("cut_off", is_cut_off),
        ("too_short", num_words < MIN_WORDS),
        ("too_long", num_words > MAX_WORDS),
    )
    return next((status for status, fires in rules if fires), "ok")
