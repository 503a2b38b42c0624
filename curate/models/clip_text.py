"""Encode captions with a text tower of CLIP in transformers' format, as diffusers' pipelines do.

    ids [T] -> hidden states [T, D]: the last but one layer (SDXL, SD3), or the last one, normalised
            -> pooled [P]: last layer at the end mark, projected where the folder has a projection

CLIP's attention looks back only, so real tokens are the same whatever padding follows.
Source: diffusers 0.42, StableDiffusion3Pipeline._get_clip_prompt_embeds (hidden_states[-2], first
output) and FluxPipeline (pooler_output of CLIPTextModel).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import CLIPTextModel, CLIPTextModelWithProjection

from curate.models.packs import ModelRef
from curate.models.text_embedding import TextEmbedding, TextEncoder, TokenIds
from curate.models.text_folder import TextFolder, load_text_folder
from curate.models.token_rows import batches_by_length, pad_right, tokenize_whole

Layer = Literal["penultimate", "last"]
MAX_TOKENS = 77  # Source: CLIP's context length
CLASSES = {
    "CLIPTextModel": CLIPTextModel,
    "CLIPTextModelWithProjection": CLIPTextModelWithProjection,
    "CLIPModel": CLIPTextModelWithProjection,
}


class ClipTextEncoder(TextEncoder):
    """Run one tower; frozen, float32."""

    def __init__(self, folder: TextFolder, layer: Layer) -> None:
        """Hold the tower and say which of its layers are the tokens."""
        self._folder = folder
        self._layer: Layer = layer
        self._projection = getattr(folder.network, "text_projection", None)
        config = folder.network.config
        self.name = f"{folder.name}:{layer}"
        self.max_tokens = folder.max_tokens
        self.dim = int(config.hidden_size)
        self.pooled_dim = int(config.projection_dim if self._projection else config.hidden_size)

    def tokenize(self, captions: Sequence[str]) -> list[TokenIds]:
        return tokenize_whole(self._folder.tokenizer, captions, self.max_tokens)

    def encode_ids(self, ids: Sequence[NDArray[np.int32]]) -> list[TextEmbedding]:
        found: dict[int, TextEmbedding] = {}
        for places in batches_by_length(ids):
            found |= zip(places, self._run([ids[place] for place in places]), strict=True)
        return [found[place] for place in range(len(ids))]

    @torch.inference_mode()
    def _run(self, ids: Sequence[NDArray[np.int32]]) -> list[TextEmbedding]:
        padded, mask = pad_right(ids, int(ids[0][-1]), self._folder.device)
        out = self._folder.network(input_ids=padded, output_hidden_states=True)
        last = out.last_hidden_state  # [B, T, D], after the final layer norm
        tokens = last if self._layer == "last" else out.hidden_states[-2]
        # Not the network's own pooling: it takes the first end mark, or the highest id.
        ends = last[torch.arange(len(ids), device=last.device), mask.sum(dim=1) - 1]  # [B, D]
        pooled = self._projection(ends) if self._projection else ends
        pooled, tokens = pooled.float().cpu().numpy(), tokens.float().cpu().numpy()
        return [
            TextEmbedding(tokens=tokens[row, : len(one)].copy(), pooled=pooled[row].copy())
            for row, one in enumerate(ids)
        ]


def load_clip_text(ref: ModelRef, device: str, layer: Layer) -> ClipTextEncoder:
    """Load the tower of a folder."""
    return ClipTextEncoder(load_text_folder(ref, CLASSES, device, MAX_TOKENS), layer)
