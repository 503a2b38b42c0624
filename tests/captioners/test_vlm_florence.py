"""The transformers captioner with an encoder-decoder: a tiny random Florence-2."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    CLIPImageProcessor,
    Florence2Config,
    Florence2ForConditionalGeneration,
    Florence2Processor,
    PreTrainedTokenizerFast,
)

from curate.captioners.vlm import VlmCaptioner
from curate.core.model_ref import ModelRef

WORDS = ("<s>", "<pad>", "</s>", "<unk>", "<image>", "what", "does", "the", "image", "describe?")
NUM_IMAGE_TOKENS = 5  # 2x2 patches and their mean
PICTURES = (Image.new("RGB", (50, 60), "red"), Image.new("RGB", (80, 60), "blue"))


@pytest.fixture(scope="module")
def florence(tmp_path_factory: pytest.TempPathFactory) -> VlmCaptioner:
    folder = tmp_path_factory.mktemp("florence")
    save_florence(folder)
    return VlmCaptioner(ModelRef(kind="vlm", paths=(folder,)))


def test_processor_adds_its_own_start_and_end_once(florence: VlmCaptioner) -> None:
    inputs = florence.encode(PICTURES, "<CAPTION>")
    words = florence.processor.tokenizer.convert_ids_to_tokens(inputs["input_ids"][0].tolist())
    assert words[:NUM_IMAGE_TOKENS] == ["<image>"] * NUM_IMAGE_TOKENS
    assert (words.count("<s>"), words.count("</s>")) == (1, 1)


def test_each_style_is_its_own_task_and_the_start_token_is_no_answer(
    florence: VlmCaptioner,
) -> None:
    attempts = florence.caption(PICTURES, ["short", "detailed"])
    assert [attempt.prompt for attempt in attempts] == ["<CAPTION>", "<MORE_DETAILED_CAPTION>"] * 2
    assert all(1 <= attempt.num_tokens <= 256 for attempt in attempts)
    alone = florence.caption(PICTURES[1:], ["short", "detailed"])
    assert attempts[2:] == alone


def save_florence(folder: Path) -> None:
    tokenizer = Tokenizer(
        models.WordLevel({word: index for index, word in enumerate(WORDS)}, unk_token="<unk>")
    )
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.add_special_tokens(list(WORDS[:5]))
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        extra_special_tokens={"image_token": "<image>"},
    )
    vision = {
        "depths": [1] * 4,
        "embed_dim": [8, 8, 16, 16],
        "num_heads": [1, 1, 2, 2],
        "num_groups": [1, 1, 2, 2],
        "window_size": 4,
        "projection_dim": 16,
        "max_temporal_embeddings": 4,
        "max_position_embeddings": 4,
    }
    text = {
        "model_type": "bart",
        "vocab_size": len(WORDS),
        "d_model": 16,
        "encoder_layers": 1,
        "decoder_layers": 1,
        "encoder_attention_heads": 2,
        "decoder_attention_heads": 2,
        "encoder_ffn_dim": 32,
        "decoder_ffn_dim": 32,
        "max_position_embeddings": 512,
        "pad_token_id": 1,
        "bos_token_id": 0,
        "eos_token_id": 2,
        "decoder_start_token_id": 2,
    }
    config = Florence2Config(text_config=text, vision_config=vision, image_token_id=4)
    image_processor = CLIPImageProcessor(size={"height": 64, "width": 64}, do_center_crop=False)
    image_processor.image_seq_length = NUM_IMAGE_TOKENS
    Florence2ForConditionalGeneration(config).save_pretrained(folder)
    Florence2Processor(image_processor, fast).save_pretrained(folder)
