"""Build the toy CLIP before training, and write it as open_clip's folder.

The text tower's token and position tables are frozen: 96 dimensions for the word (orthogonal for
the scene's words) and 32 for its position. So the "embedding" layer of the text encoder is a clean
code of words, and the tower learns everything else. Training is in fit_clip.py.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from open_clip.model import CustomTextCLIP
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from curate.core.seed import derive_seed, make_rng
from curate.models.open_clip_folder import CONFIG_NAME, WEIGHTS_NAME
from curate.models.weights import seeded_weights, write_tensors
from pipelines.toyweb.fit_alts import vocabulary

IMAGE_SIDE_PX = 96
CONTEXT_LENGTH = 64  # four objects with background take 46 words; chosen by us: room for dressing
EMBED_DIM = 192
WORD_DIM = 96
POSITION_DIM = 32
ATTENTION_POOL_GAIN = 512**0.5  # to standard deviation 1; chosen by us
PAD, UNKNOWN, END = "[PAD]", "[UNK]", "[EOS]"


def model_config() -> dict[str, Any]:
    """Give open_clip's `model_cfg`; sizes chosen by us for 3 ms a picture on one core."""
    words = len(_token_list())
    return {
        "embed_dim": EMBED_DIM,
        "custom_text": True,
        "init_logit_bias": -10.0,  # Source: Zhai et al. 2023, Sigmoid Loss, section 3.2
        "vision_cfg": {
            "image_size": IMAGE_SIDE_PX,
            "layers": [1, 1, 1, 1],
            "width": 16,
            # 512 / 16 = 32 heads of the attention pool: several for each of the 9 places.
            "head_width": 16,
        },
        "text_cfg": {
            "context_length": CONTEXT_LENGTH,
            "vocab_size": words,
            # open_clip reads the tokenizer from the model's own folder when it loads `local-dir:`.
            "hf_tokenizer_name": "local",
            "width": WORD_DIM + POSITION_DIM,
            "heads": 4,
            "layers": 3,
            "pool_type": "eos",
            "eos_id": words - 1,
        },
    }


def build_network(seed: int) -> CustomTextCLIP:
    """Build the untrained network with weights drawn from the seed and frozen token tables."""
    config = model_config()
    config.pop("custom_text")
    with seeded_weights(derive_seed(seed, "clip", "weights")):
        network = CustomTextCLIP(**config, init_logit_scale=float(np.log(10)))
    # The pool must tell the 9 places apart from the first step on; its own start is too faint.
    cast("Any", network.visual).attnpool.positional_embedding.data.mul_(ATTENTION_POOL_GAIN)
    tower = cast("Any", network.text)
    words = _word_table(seed, len(_token_list()))
    tower.token_embedding.weight.data.copy_(torch.from_numpy(words))
    tower.positional_embedding.data.copy_(torch.from_numpy(_position_table()))
    tower.token_embedding.requires_grad_(False)
    tower.positional_embedding.requires_grad_(False)
    return network


def write_tokenizer(folder: Path) -> None:
    """Write a word-level Hugging Face tokenizer: lower case, signs and digits one by one."""
    vocab = {token: index for index, token in enumerate(_token_list())}
    tokenizer = Tokenizer(models.WordLevel(vocab=vocab, unk_token=UNKNOWN))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFKC(), normalizers.Lowercase(), normalizers.StripAccents()]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Whitespace(),
            pre_tokenizers.Punctuation(),
            pre_tokenizers.Digits(individual_digits=True),
        ]
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"$A {END}", special_tokens=[(END, vocab[END])]
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token=UNKNOWN, pad_token=PAD, eos_token=END
    )
    folder.mkdir(parents=True, exist_ok=True)
    fast.save_pretrained(folder)


def write_clip(folder: Path, network: CustomTextCLIP) -> None:
    """Write open_clip's two files, weights as float16."""
    folder.mkdir(parents=True, exist_ok=True)
    preprocess = {
        "size": [IMAGE_SIDE_PX, IMAGE_SIDE_PX],
        "mean": [0.5, 0.5, 0.5],
        "std": [0.5, 0.5, 0.5],
        "interpolation": "bicubic",
        "resize_mode": "squash",
    }
    config = {"model_cfg": model_config(), "preprocess_cfg": preprocess}
    (folder / CONFIG_NAME).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    write_tensors(folder / WEIGHTS_NAME, network.state_dict())


def _token_list() -> list[str]:
    return [PAD, UNKNOWN, *vocabulary(), END]


def _word_table(seed: int, count: int) -> NDArray[np.float32]:
    """One frozen vector a token, root mean square 1 over its own dimensions: [count, 128]."""
    rng = make_rng(seed, "clip", "words")
    table = rng.standard_normal((count, WORD_DIM))
    # The first words are the scene's own grammar: they get exactly orthogonal vectors.
    table[:WORD_DIM] = np.linalg.qr(table[:WORD_DIM])[0]
    table *= WORD_DIM**0.5 / np.linalg.norm(table, axis=1, keepdims=True)
    return np.concatenate([table, np.zeros((count, POSITION_DIM))], axis=1).astype(np.float32)


def _position_table() -> NDArray[np.float32]:
    """Sine and cosine at 16 wavelengths from 6 to 250 tokens, root mean square 1: [64, 128]."""
    rates = np.geomspace(1.0, 0.025, POSITION_DIM // 2)
    angles = np.arange(CONTEXT_LENGTH)[:, None] * rates
    waves = np.concatenate([np.sin(angles), np.cos(angles)], axis=1) * 2**0.5
    return np.concatenate([np.zeros((CONTEXT_LENGTH, WORD_DIM)), waves], axis=1).astype(np.float32)
