"""Tiny text towers of the real classes with random weights, and a tokenizer of a few words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing
from transformers import (
    BertConfig,
    BertModel,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    PreTrainedTokenizerFast,
    T5Config,
    T5EncoderModel,
    UMT5Config,
    UMT5EncoderModel,
)

from curate.models.packs import ModelRef
from curate.models.weights import seeded_weights

LIMIT = 12
WORDS = ["a", "red", "blue", "circle", "star", "large", "of", "the", "left", "right"]
MARKS = ["<pad>", "<start>", "<unk>"]
VOCABULARY = {word: number for number, word in enumerate([*MARKS, *WORDS, "<end>"])}
PAD, START, END = 0, 1, len(VOCABULARY) - 1  # CLIP's end mark has the highest id
OLD_END = 2  # what old configs of CLIP say of it; source: transformers, CLIPTextModel.forward
CAPTIONS = ["a red circle", "", "a large blue star left of the red circle", "star " * 40]


def write_tokenizer(folder: Path, *, start: bool, pad: str = "<pad>") -> None:
    """Write a tokenizer that sets an end mark, and a start mark where asked for."""
    tokenizer = Tokenizer(WordLevel(VOCABULARY, unk_token="<unk>"))
    tokenizer.pre_tokenizer = Whitespace()
    marks = [("<start>", START), ("<end>", END)]
    template = "<start> $A <end>" if start else "$A <end>"
    tokenizer.post_processor = TemplateProcessing(
        single=template, special_tokens=marks if start else marks[1:]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<start>" if start else None,
        eos_token="<end>",
        pad_token=pad,
        unk_token="<unk>",
        model_max_length=LIMIT,
    ).save_pretrained(folder)


def write_clip(folder: Path, *, projected: bool, pad: str = "<end>", end: int = END) -> ModelRef:
    """Write a CLIP tower and its tokenizer, in two folders as diffusers has them."""
    config = CLIPTextConfig(
        vocab_size=len(VOCABULARY), hidden_size=16, intermediate_size=32, projection_dim=8,
        num_hidden_layers=3, num_attention_heads=2, max_position_embeddings=LIMIT,
        pad_token_id=PAD, bos_token_id=START, eos_token_id=end,
    )  # fmt: skip
    with seeded_weights(0):
        network = CLIPTextModelWithProjection(config) if projected else CLIPTextModel(config)
    network.save_pretrained(folder / "text_encoder")
    write_tokenizer(folder / "tokenizer", start=True, pad=pad)
    return ModelRef(kind="clip", paths=(folder / "text_encoder", folder / "tokenizer"))


def write_t5(folder: Path, *, umt5: bool = False) -> ModelRef:
    """Write a T5 or umT5 encoder with its tokenizer."""
    sizes: dict[str, Any] = {
        "vocab_size": len(VOCABULARY), "d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 2,
        "num_heads": 2, "pad_token_id": PAD, "eos_token_id": END,
    }  # fmt: skip
    with seeded_weights(0):
        network = (
            UMT5EncoderModel(UMT5Config(**sizes)) if umt5 else T5EncoderModel(T5Config(**sizes))
        )
    network.save_pretrained(folder)
    write_tokenizer(folder, start=False)
    return ModelRef(kind="t5", paths=(folder,))


def write_bert(folder: Path) -> ModelRef:
    """Write a BERT with its tokenizer."""
    config = BertConfig(
        vocab_size=len(VOCABULARY), hidden_size=16, intermediate_size=32, num_hidden_layers=2,
        num_attention_heads=2, max_position_embeddings=LIMIT, pad_token_id=PAD,
    )  # fmt: skip
    with seeded_weights(0):
        network = BertModel(config)
    network.save_pretrained(folder)
    write_tokenizer(folder, start=True)
    return ModelRef(kind="encoder", paths=(folder,))
