"""Encode captions with T5, umT5, or any encoder of transformers: the last hidden states.

    ids [T] -> last hidden states [T, D], padding masked
            -> pooled: none of a T5; the mean over the real tokens [D] of any other encoder

diffusers' pipelines of SD3 and Flux let T5 attend to its padding; PixArt's and Sana's
mask it, and only so can padding be left out: that is what is done here.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoModel, MT5EncoderModel, T5EncoderModel, UMT5EncoderModel

from curate.models.packs import ModelRef
from curate.models.text_embedding import TextEmbedding, TextEncoder, TokenIds
from curate.models.text_folder import TextFolder, load_text_folder
from curate.models.token_rows import batches_by_length, pad_right, tokenize_whole

MAX_TOKENS = 512  # Source: T5 was trained on 512 tokens (Raffel et al. 2020); BERT's positions
T5_CLASSES = {"t5": T5EncoderModel, "umt5": UMT5EncoderModel, "mt5": MT5EncoderModel}


class HiddenTextEncoder(TextEncoder):
    """Give an encoder's last hidden states; frozen, float32."""

    def __init__(self, folder: TextFolder, *, has_pooled: bool) -> None:
        """Hold the encoder.

        Args:
            folder: the loaded parts.
            has_pooled: give the mean over the real tokens as pooled vector.
        """
        self._folder = folder
        self._has_pooled = has_pooled
        self._pad = int(folder.tokenizer.pad_token_id or 0)
        self.name = folder.name
        self.max_tokens = folder.max_tokens
        self.dim = int(folder.network.config.hidden_size)
        self.pooled_dim = self.dim if has_pooled else 0

    def tokenize(self, captions: Sequence[str]) -> list[TokenIds]:
        return tokenize_whole(self._folder.tokenizer, captions, self.max_tokens)

    def encode_ids(self, ids: Sequence[NDArray[np.int32]]) -> list[TextEmbedding]:
        found: dict[int, TextEmbedding] = {}
        for places in batches_by_length(ids):
            found |= zip(places, self._run([ids[place] for place in places]), strict=True)
        return [found[place] for place in range(len(ids))]

    @torch.inference_mode()
    def _run(self, ids: Sequence[NDArray[np.int32]]) -> list[TextEmbedding]:
        padded, mask = pad_right(ids, self._pad, self._folder.device)
        out = self._folder.network(input_ids=padded, attention_mask=mask)
        hidden = out.last_hidden_state.float().cpu().numpy()  # [B, T, D]
        real = [hidden[row, : len(one)].copy() for row, one in enumerate(ids)]
        return [TextEmbedding(tokens=tokens, pooled=self._pool(tokens)) for tokens in real]

    def _pool(self, tokens: NDArray[np.float32]) -> NDArray[np.float32]:
        return tokens.mean(axis=0) if self._has_pooled else np.empty(0, np.float32)


def load_t5_text(ref: ModelRef, device: str) -> HiddenTextEncoder:
    """Load the encoder of a T5, umT5 or mT5 folder."""
    folder = load_text_folder(ref, T5_CLASSES, device, MAX_TOKENS)
    return HiddenTextEncoder(folder, has_pooled=False)


def load_any_text(ref: ModelRef, device: str) -> HiddenTextEncoder:
    """Load any encoder that transformers' AutoModel opens."""
    folder = load_text_folder(ref, {"*": AutoModel}, device, MAX_TOKENS)
    return HiddenTextEncoder(folder, has_pooled=True)
