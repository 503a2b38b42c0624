"""Cut rows of token ids at a limit, and lay rows of like length together for a network."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from curate.models.text_embedding import TokenIds

BATCH_SIZE = 32  # chosen by us: larger is no faster on a CPU


def tokenize_whole(tokenizer: Any, captions: Sequence[str], max_tokens: int) -> list[TokenIds]:
    """Tokenize captions in full, then cut, so that what is lost is known.

    Args:
        tokenizer: of transformers.
        captions: any texts.
        max_tokens: most ids of a caption.
    """
    if not captions:
        return []
    # A special token that a caption spells out ("</s>") is text like any other.
    rows = tokenizer(list(captions), verbose=False, split_special_tokens=True)["input_ids"]
    marks = set(tokenizer.all_special_ids)
    return [cut_ids(row or [_lone_mark(tokenizer)], max_tokens, marks) for row in rows]


def cut_ids(row: Sequence[int], max_tokens: int, marks: set[int]) -> TokenIds:
    """Cut ids at `max_tokens`; an end mark is kept."""
    cut = list(row[:max_tokens])
    if len(row) > max_tokens and row[-1] in marks:
        cut[-1] = row[-1]
    return TokenIds(ids=np.array(cut, np.int32), num_truncated=len(row) - len(cut))


def batches_by_length(ids: Sequence[NDArray[np.int32]]) -> Iterator[list[int]]:
    """Yield places of rows of like length, so that little is padding."""
    order = sorted(range(len(ids)), key=lambda place: len(ids[place]))
    for start in range(0, len(order), BATCH_SIZE):
        yield order[start : start + BATCH_SIZE]


def pad_right(ids: Sequence[NDArray[np.int32]], pad: int, device: str) -> tuple[Tensor, Tensor]:
    """Give ids [B, T] and their mask [B, T], 1 for real tokens, both int64."""
    length = max(len(row) for row in ids)
    padded = np.full((len(ids), length), pad, np.int64)
    mask = np.zeros((len(ids), length), np.int64)
    for place, row in enumerate(ids):
        padded[place, : len(row)] = row
        mask[place, : len(row)] = 1
    return torch.from_numpy(padded).to(device), torch.from_numpy(mask).to(device)


def _lone_mark(tokenizer: Any) -> int:
    """Stand for an empty caption where a tokenizer adds no marks."""
    for mark in (tokenizer.eos_token_id, tokenizer.sep_token_id, tokenizer.pad_token_id):
        if mark is not None:
            return int(mark)
    return 0
