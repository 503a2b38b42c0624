"""Tiny random checkpoints of every family of captioners, with word-level tokenizers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    BertTokenizer,
    BlipConfig,
    BlipForConditionalGeneration,
    BlipImageProcessor,
    BlipProcessor,
    CLIPImageProcessor,
    Florence2Config,
    Florence2ForConditionalGeneration,
    Florence2Processor,
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    Gemma3ImageProcessor,
    Gemma3Processor,
    GitConfig,
    GitForCausalLM,
    GitProcessor,
    Idefics3Config,
    Idefics3ForConditionalGeneration,
    Idefics3ImageProcessor,
    Idefics3Processor,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PaliGemmaConfig,
    PaliGemmaForConditionalGeneration,
    PaliGemmaProcessor,
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
    Qwen2VLImageProcessor,
    Qwen2VLProcessor,
    Qwen2VLVideoProcessor,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
    Qwen3VLProcessor,
    SiglipImageProcessor,
    SmolVLMConfig,
    SmolVLMForConditionalGeneration,
    SmolVLMImageProcessor,
    SmolVLMProcessor,
    SmolVLMVideoProcessor,
)

PAD, BOS, EOS, UNK, IMAGE = "<pad>", "<s>", "</s>", "<unk>", "<image>"
SPECIAL = (PAD, BOS, EOS, UNK, IMAGE)
QWEN_MARKS = ("<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")
TILE_MARKS = (
    "<fake_token_around_image>",
    "<global-img>",
    "<end_of_utterance>",
    "<video>",
    *(f"<row_{row}_col_{col}>" for row in range(1, 4) for col in range(1, 4)),
)
WORDS = (
    "a an the of on in and describe this image in one short sentence. detail. alt text: cat dog "
    "red blue bird tree house sky caption en what does describe?"
)
DECODER = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
DECODER |= {"num_attention_heads": 2, "num_key_value_heads": 2, "max_position_embeddings": 2048}
TOWER = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
TOWER |= {"num_attention_heads": 2, "image_size": 32, "patch_size": 16}
SQUARE = {"height": 32, "width": 32}
QWEN_SIZE = {"shortest_edge": 28 * 28, "longest_edge": 200 * 200}


def chat_template(image: str, before: str = "") -> str:
    """Write a chat template with a place for the picture; `before` starts the conversation."""
    return (
        f"{before}{{% for message in messages %}}{{% for part in message['content'] %}}"
        f"{{% if part['type'] == 'image' %}}{image} {{% else %}}{{{{ part['text'] }}}}{{% endif %}}"
        "{% endfor %}{% endfor %}"
    )


def make_tokenizer(*marks: str, names_image: bool = True, **names: str) -> PreTrainedTokenizerFast:
    """Make a tokenizer whose words are tokens.

    Args:
        *marks: special tokens beside `SPECIAL`.
        names_image: the tokenizer says which token stands for a picture.
        **names: of further special tokens.
    """
    special_words = [*SPECIAL, *marks]
    words = dict.fromkeys([*special_words, *WORDS.split()])
    tokenizer = Tokenizer(
        models.WordLevel({word: index for index, word in enumerate(words)}, unk_token=UNK)
    )
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.add_special_tokens(special_words)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        bos_token=BOS,
        eos_token=EOS,
        unk_token=UNK,
        extra_special_tokens=names | ({"image_token": IMAGE} if names_image else {}),
    )


def save_llava(
    folder: Path,
    template: str | None = None,
    num_additional_image_tokens: int = 1,
    seed: int = 0,
) -> None:
    """Its CLIP tower has a class token, which `num_additional_image_tokens` must count."""
    tokenizer = make_tokenizer()
    vision = {"model_type": "clip_vision_model", **TOWER}
    text = {"model_type": "llama", **DECODER, **_ids(tokenizer)}
    config = LlavaConfig(vision_config=vision, text_config=text, image_token_id=4)
    processor = LlavaProcessor(
        CLIPImageProcessor(size=SQUARE, crop_size=SQUARE, do_center_crop=False),
        tokenizer,
        patch_size=16,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=num_additional_image_tokens,
        chat_template=chat_template(IMAGE) if template is None else template or None,
    )
    _save(LlavaForConditionalGeneration(config), processor, folder, seed)


def save_qwen2_vl(folder: Path, seed: int = 0) -> None:
    vision = {"depth": 2, "embed_dim": 32, "hidden_size": 32, "num_heads": 2, "mlp_ratio": 2}
    _save_qwen(
        folder, seed, (Qwen2VLConfig, Qwen2VLForConditionalGeneration, Qwen2VLProcessor), vision, 14
    )


def save_qwen2_5_vl(folder: Path, seed: int = 0) -> None:
    """Its tower looks through windows, of 56 pixels here."""
    vision = {"depth": 2, "hidden_size": 32, "intermediate_size": 64, "num_heads": 2}
    vision |= {"out_hidden_size": 32, "window_size": 56, "fullatt_block_indexes": [1]}
    classes = (Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration, Qwen2_5_VLProcessor)
    _save_qwen(folder, seed, classes, vision, 14)


def save_qwen3_vl(folder: Path, seed: int = 0) -> None:
    """Its tower also feeds the decoder's first layers (deepstack)."""
    vision = {"depth": 2, "hidden_size": 32, "intermediate_size": 64, "num_heads": 2}
    vision |= {
        "out_hidden_size": 32,
        "num_position_embeddings": 64,
        "deepstack_visual_indexes": [0],
    }
    classes = (Qwen3VLConfig, Qwen3VLForConditionalGeneration, Qwen3VLProcessor)
    _save_qwen(folder, seed, classes, vision, 16)


def save_idefics3(folder: Path, seed: int = 0, *, splits: bool = True) -> None:
    """With splitting, a larger picture has more tiles and so more tokens."""
    tokenizer = make_tokenizer(*TILE_MARKS)
    processor = Idefics3Processor(
        Idefics3ImageProcessor(**_tiles(splits)),
        tokenizer,
        image_seq_len=4,
        chat_template=chat_template(IMAGE),
    )
    config = Idefics3Config(**_tile_model(tokenizer))
    _save(Idefics3ForConditionalGeneration(config), processor, folder, seed)


def save_smolvlm(folder: Path, seed: int = 0) -> None:
    tokenizer = make_tokenizer(*TILE_MARKS)
    processor = SmolVLMProcessor(
        SmolVLMImageProcessor(**_tiles(splits=True)),
        tokenizer,
        SmolVLMVideoProcessor(),
        image_seq_len=4,
        chat_template=chat_template(IMAGE),
    )
    config = SmolVLMConfig(**_tile_model(tokenizer))
    _save(SmolVLMForConditionalGeneration(config), processor, folder, seed)


def save_paligemma(folder: Path, seed: int = 0) -> None:
    """It sees the whole prompt at once, which its `token_type_ids` say."""
    image_processor = SiglipImageProcessor(size=SQUARE)
    image_processor.image_seq_length = 4
    processor = PaliGemmaProcessor(image_processor, make_tokenizer())
    tokenizer = processor.tokenizer  # with 1,152 tokens for places
    config = PaliGemmaConfig(
        vision_config={"model_type": "siglip_vision_model", **TOWER, "projection_dim": 32},
        text_config={
            "model_type": "gemma",
            **DECODER,
            **_ids(tokenizer),
            "head_dim": 16,
            "vocab_size": len(tokenizer),
        },
        image_token_index=4,
        projection_dim=32,
        hidden_size=32,
        vocab_size=len(tokenizer),
        tie_word_embeddings=False,  # else it would write its last word again for ever
    )
    _save(PaliGemmaForConditionalGeneration(config), processor, folder, seed)


def save_florence2(folder: Path, seed: int = 0) -> None:
    """An encoder-decoder; five tokens of a picture: 2x2 patches and their mean."""
    tokenizer = make_tokenizer()
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
        "vocab_size": len(tokenizer),
        "d_model": 16,
        "encoder_layers": 1,
        "decoder_layers": 1,
        "encoder_attention_heads": 2,
        "decoder_attention_heads": 2,
        "encoder_ffn_dim": 32,
        "decoder_ffn_dim": 32,
        "max_position_embeddings": 512,
        "decoder_start_token_id": 2,
        **_ids(tokenizer),
    }
    config = Florence2Config(text_config=text, vision_config=vision, image_token_id=4)
    image_processor = CLIPImageProcessor(size={"height": 64, "width": 64}, do_center_crop=False)
    image_processor.image_seq_length = 5
    model = Florence2ForConditionalGeneration(config)
    # As the published checkpoints have it: beams, and an end token forced on what was cut off.
    model.generation_config.update(num_beams=3, no_repeat_ngram_size=3, forced_eos_token_id=2)
    _save(model, Florence2Processor(image_processor, tokenizer), folder, seed)


def save_blip(folder: Path, seed: int = 0) -> None:
    tokenizer = _bert_tokenizer()
    text = {**DECODER, "vocab_size": len(tokenizer), "encoder_hidden_size": 32}
    # As the published ones: the end of an answer is sep_token_id, eos_token_id another token.
    text |= {"bos_token_id": 4, "eos_token_id": 2, "sep_token_id": 3, "pad_token_id": 0}
    config = BlipConfig(text_config=text, vision_config=TOWER, projection_dim=32)
    processor = BlipProcessor(BlipImageProcessor(size=SQUARE), tokenizer)
    _save(BlipForConditionalGeneration(config), processor, folder, seed)


def save_git(folder: Path, seed: int = 0) -> None:
    tokenizer = _bert_tokenizer()
    config = GitConfig(
        vision_config=TOWER,
        **DECODER,
        vocab_size=len(tokenizer),
        pad_token_id=0,
        bos_token_id=2,
        eos_token_id=3,
    )
    processor = GitProcessor(CLIPImageProcessor(size=SQUARE, do_center_crop=False), tokenizer)
    _save(GitForCausalLM(config), processor, folder, seed)


def save_gemma3(folder: Path, seed: int = 0) -> None:
    """A chat model without a line in the families' table; its pictures see themselves whole."""
    tokenizer = make_tokenizer("<boi>", "<eoi>", boi_token="<boi>", eoi_token="<eoi>")
    ids = tokenizer.convert_tokens_to_ids
    config = Gemma3Config(
        vision_config={"model_type": "siglip_vision_model", **TOWER, "patch_size": 8},
        text_config={**DECODER, **_ids(tokenizer), "head_dim": 16, "sliding_window": 16},
        mm_tokens_per_image=4,
        image_token_index=ids(IMAGE),
        boi_token_index=ids("<boi>"),
        eoi_token_index=ids("<eoi>"),
        tie_word_embeddings=False,
    )
    processor = Gemma3Processor(
        Gemma3ImageProcessor(size=SQUARE),
        tokenizer,
        chat_template=chat_template("<boi>", before=f"{BOS} "),
        image_seq_length=4,
    )
    _save(Gemma3ForConditionalGeneration(config), processor, folder, seed)


SAVERS: Mapping[str, Callable[[Path], None]] = {
    "blip": save_blip,
    "git": save_git,
    "llava": save_llava,
    "qwen2_vl": save_qwen2_vl,
    "qwen2_5_vl": save_qwen2_5_vl,
    "qwen3_vl": save_qwen3_vl,
    "idefics3": save_idefics3,
    "smolvlm": save_smolvlm,
    "paligemma": save_paligemma,
    "florence2": save_florence2,
    "gemma3": save_gemma3,
}


def _save_qwen(
    folder: Path, seed: int, classes: tuple[Any, Any, Any], vision: dict[str, Any], patch: int
) -> None:
    make_config, make_model, make_processor = classes
    tokenizer = make_tokenizer(*QWEN_MARKS, names_image=False)
    ids = tokenizer.convert_tokens_to_ids
    rope = {"rope_type": "default", "mrope_section": [4, 2, 2], "rope_theta": 10_000.0}
    config = make_config(
        vision_config={**vision, "patch_size": patch},
        text_config={**DECODER, **_ids(tokenizer), "rope_parameters": rope, "head_dim": 16},
        image_token_id=ids("<|image_pad|>"),
        video_token_id=ids("<|video_pad|>"),
        vision_start_token_id=ids("<|vision_start|>"),
        vision_end_token_id=ids("<|vision_end|>"),
    )
    processor = make_processor(
        Qwen2VLImageProcessor(size=QWEN_SIZE, patch_size=patch),
        tokenizer,
        Qwen2VLVideoProcessor(),
        chat_template=chat_template("<|vision_start|><|image_pad|><|vision_end|>"),
    )
    _save(make_model(config), processor, folder, seed)


def _tiles(splits: bool) -> dict[str, Any]:
    sizes = {"size": {"longest_edge": 64}, "max_image_size": {"longest_edge": 32}}
    return {"do_image_splitting": splits, **sizes}


def _tile_model(tokenizer: PreTrainedTokenizerFast) -> dict[str, Any]:
    return {
        "image_token_id": 4,
        "scale_factor": 2,
        "vision_config": {**TOWER, "patch_size": 8},
        "text_config": {"model_type": "llama", **DECODER, **_ids(tokenizer)},
    }


def _ids(tokenizer: PreTrainedTokenizerFast) -> dict[str, int]:
    return {
        "vocab_size": len(tokenizer),
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
    }


def _bert_tokenizer() -> BertTokenizer:
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[DEC]", *dict.fromkeys(WORDS.split())]
    return BertTokenizer(vocab={word: index for index, word in enumerate(words)})


def _save(model: Any, processor: Any, folder: Path, seed: int) -> None:
    _draw_weights(model, processor.tokenizer, seed)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)


def _draw_weights(model: Any, tokenizer: Any, seed: int) -> None:
    """Draw weights so large that a wrong mask or position is seen in the logits.

    Special tokens but the end have a row of zeros in the last layer, so that none is written.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in model.named_parameters():
            if value.ndim >= 2:
                is_table = "embed" in name and "patch" not in name
                std = 1.0 if is_table else value[0].numel() ** -0.5
                value.normal_(0, std, generator=generator)
            elif name.endswith("bias"):
                value.normal_(0, 0.1, generator=generator)
        head = find_head(model)
        ends = {tokenizer.eos_token_id, tokenizer.sep_token_id}
        silent = [token for token in tokenizer.added_tokens_decoder if token not in ends]
        head.weight[silent] = 0


def find_head(model: Any) -> Any:
    """Give the layer that makes the logits."""
    decoder = getattr(model, "text_decoder", model)
    return decoder.get_output_embeddings()
