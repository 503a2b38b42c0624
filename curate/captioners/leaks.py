"""Find what never belongs into a caption: special tokens, chat roles, markup, URLs, the prompt.

Looked for in the raw text, whose lines tell a list or a heading from a dash in a sentence.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute

pc: Any = pyarrow.compute  # its functions are made at import, unseen by type checkers

# Source: special tokens of the families in captioners/vlm.py, of Llama, Mistral, Gemma and DeepSeek
# (tokenizer configs on the hub); byte tokens "<0x0A>" are SentencePiece's.
_TOKENS = (
    r"<[|\x{ff5c}][^<>|]*[|\x{ff5c}]>",
    r"(?i:</?(?:s|pad|unk|bos|eos|mask|cls|sep|image|images|img|video|audio|global-img|row_\d+_col_\d+|"
    r"end_of_utterance|fake_token_around_image|start_of_turn|end_of_turn|start_of_image|"
    r"end_of_image|im_start|im_end|im_patch|think|thinking|answer|box|quad|ref|tool_call|"
    r"loc_?\d{1,4}|seg\d{1,4}|0x[0-9a-f]{2}|more_detailed_caption|detailed_caption|caption|od|ocr)>)",
    r"\[/?(?:INST|IMG|IMAGE|PAD|UNK|CLS|SEP|BOS|EOS|MASK|SYS|TOOL_CALLS)\]|<</?SYS>>",
)
# Chosen by us: roles as chat templates write them. "User:" in a sentence may be read off a screen,
# so those that are not all capitals count at the start of a text, a line or a sentence only.
_ROLES = (
    r"\b(?:USER|ASSISTANT|SYSTEM|HUMAN):",
    r"(?m:(?:^|[.!?]\s+|\s\s)\W{0,3}(?:User|Assistant|System)\s?:\s)",
    r"#{2,4}\s?(?:Instruction|Response|Input|Output|Human|Assistant|User|System)\b",
    r"(?m:^(?:user|assistant|system|model)\s*$)",
)
_TEMPLATES = (
    r"\{\{|\}\}|\{%|%\}",
    r"\{(?:alt|draft|caption|image|text|prompt|description|subject|object|name)\}",
    r"(?i:\[(?:insert|your|describe|subject|object|name|location|color|description|caption)"
    r"(?: [^\[\]]*)?\])",
    r"\A\s*[\[{]\s*\"[^\"]+\"\s*[:,\]]",  # JSON
)
_ITEM = r"(?:[-*+\x{2022}]|\d{1,2}[.)])"
_MARKUP = (
    r"```",
    r"\*\*[^*\s][^*\n]*\*\*",
    r"(?m:^[ \t]{0,3}#{1,6}[ \t]+\S)",
    rf"(?m:^[ \t]*{_ITEM}[ \t]+\S.*\n\s*{_ITEM}[ \t]+\S)",  # two items of a list
    r"!?\[[^\[\]\n]*\]\([^()\s]+\)",
    r"(?m:^[ \t]*\|.+\|[ \t]*$)",
    r"(?i:</?(?:br|p|div|span|strong|em|b|i|u|h[1-6]|ul|ol|li|a|table|tr|td|html|body|center|font|code|"
    r"pre)(?:\s[^<>]*)?/?>)",
    r"&(?:nbsp|amp|lt|gt|quot|#\d{2,5});",
)
_URLS = (r"(?i:\b(?:https?|ftp)://|\bwww\.[a-z0-9-]+\.[a-z]|\bdata:image/)",)
# What every one of these has somewhere: most captions do not, and need no further look.
_SIGNS = r"[<\[\]{}|*#`&\n:]|www\.|  "
_LEAKS = "|".join((*_TOKENS, *_ROLES, *_TEMPLATES, *_MARKUP, *_URLS))

# Chosen by us: "a photo" of a prompt may stand in any caption, five of its words in a row may not.
_MIN_PROMPT_WORDS = 5
_MAX_PROMPT_CHARACTERS = 200  # of a piece; chosen by us: who repeats so much repeats the prompt
_PROMPT_BREAKS = re.compile(
    r"<[^<>]{0,60}>|\[/?INST\]|[.!?:]\s|\n|\b(?:USER|ASSISTANT|User|Assistant):"
)


def find_leaks(raw: pa.Array) -> pa.BooleanArray:
    """Tell which raw texts hold special tokens, roles, template marks, markup or URLs: [N]."""
    found = np.zeros(len(raw), bool)
    suspects = pc.indices_nonzero(pc.match_substring_regex(raw, f"(?i){_SIGNS}"))
    hits = pc.match_substring_regex(raw.take(suspects), _LEAKS)
    found[suspects.to_numpy()] = hits.to_numpy(zero_copy_only=False)
    return pa.array(found)


def split_prompt(prompt: str) -> tuple[str, ...]:
    """Cut a rendered prompt into the pieces that a caption must not repeat.

    In lower case; special tokens and roles are cut out, and sentences of fewer than five words.
    Give the instruction without what a sample brought to it: repeating the alt text is no leak.
    """
    pieces = (piece.strip(" \t\n.,:;!?\"'").lower() for piece in _PROMPT_BREAKS.split(prompt))
    long = (" ".join(one.split()) for one in pieces if len(one.split()) >= _MIN_PROMPT_WORDS)
    return tuple(dict.fromkeys(piece[:_MAX_PROMPT_CHARACTERS] for piece in long))


def find_prompts(texts: pa.Array, pieces: Sequence[tuple[str, ...]]) -> pa.BooleanArray:
    """Tell which clean texts repeat a piece of their prompt: texts [N], pieces [N] -> [N]."""
    found = [False] * len(texts)
    rows_of: dict[tuple[str, ...], list[int]] = {}
    for row, own in enumerate(pieces):
        if own:
            rows_of.setdefault(own, []).append(row)
    lowered = pc.utf8_lower(texts)  # not `ignore_case`, which is not linear in the piece
    for own, rows in rows_of.items():
        some = lowered.take(pa.array(rows))
        for piece in own:
            hits = pc.match_substring(some, piece)
            for hit in pc.indices_nonzero(hits).to_pylist():
                found[rows[hit]] = True
    return pa.array(found, pa.bool_())
