"""Build the toy captioner untrained: a tiny Idefics3, a word-level tokenizer, an image processor.

The class is Idefics3 because its connector merges 2x2 patches: 36 patches of 12x12 pixels become
nine tokens, one per cell of the scene's grid, so the decoder's sequences stay short. Pictures are
squashed to a square, which keeps the places on one grid for every aspect ratio. Training is in
fit_captioner.py; at run time curate/captioners/vlm.py loads the saved folder.
"""

from __future__ import annotations

from pathlib import Path

import torch
from PIL import Image
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from torch import nn
from transformers import (
    Idefics3Config,
    Idefics3ForConditionalGeneration,
    Idefics3ImageProcessor,
    Idefics3Processor,
    PreTrainedTokenizerFast,
)

from curate.captioners.instructions import TEMPLATES
from curate.core.seed import derive_seed
from pipelines.toyweb.scene import BACKGROUNDS, COLORS, PLACES, SHAPES, SIZES

# Sizes chosen by us from trials of a few minutes.
SIDE_PX = 72  # 24 px a cell, so a small object is 12 px across
PATCH_PX = 12
MERGE = 2  # 2x2 patches become one token, which then is one cell of the grid
NUM_CELLS = (SIDE_PX // PATCH_PX // MERGE) ** 2
HIDDEN_SIZE = 128  # of tower and decoder alike, each NUM_LAYERS deep
NUM_LAYERS = 3
STYLES = ("short", "detailed")  # whose instructions it knows; words of others are unknown to it
EOS, PAD, UNK = "<end_of_utterance>", "<pad>", "<unk>"
IMAGE_TOKENS = ("<image>", "<fake_token_around_image>", "<global-img>")
# Only the turn's own words: the model knows two instructions and nothing else.
CHAT_TEMPLATE = (
    "{% for message in messages %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image>{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% endfor %}"
)


def build_processor() -> Idefics3Processor:
    """Make the word-level tokenizer of the scene's language and the 72x72 image processor."""
    image_processor = Idefics3ImageProcessor(
        do_image_splitting=False,
        size={"height": SIDE_PX, "width": SIDE_PX},
        max_image_size={"longest_edge": SIDE_PX},
        resample=Image.Resampling.BICUBIC,
        image_mean=[0.5] * 3,
        image_std=[0.5] * 3,
    )
    words = _list_words()
    special = [PAD, UNK, EOS, *IMAGE_TOKENS]
    vocab = {word: index for index, word in enumerate([*special, *words])}
    tokenizer = Tokenizer(models.WordLevel(vocab, unk_token=UNK))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.add_special_tokens(special)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        unk_token=UNK,
        eos_token=EOS,
        padding_side="left",
        clean_up_tokenization_spaces=False,
        model_max_length=256,
    )
    return Idefics3Processor(
        image_processor, fast, image_seq_len=NUM_CELLS, chat_template=CHAT_TEMPLATE
    )


def build_model(processor: Idefics3Processor, seed: int) -> Idefics3ForConditionalGeneration:
    """Make the untrained model; its weights are a function of the seed alone."""
    ids = processor.tokenizer.convert_tokens_to_ids
    model = Idefics3ForConditionalGeneration(
        Idefics3Config(
            image_token_id=ids("<image>"),
            scale_factor=MERGE,
            vision_config={
                "hidden_size": HIDDEN_SIZE,
                "intermediate_size": 3 * HIDDEN_SIZE,
                "num_hidden_layers": NUM_LAYERS,
                "num_attention_heads": 4,
                "image_size": SIDE_PX,
                "patch_size": PATCH_PX,
            },
            text_config={
                "model_type": "llama",
                "vocab_size": len(processor.tokenizer),
                "hidden_size": HIDDEN_SIZE,
                "intermediate_size": 3 * HIDDEN_SIZE,
                "num_hidden_layers": NUM_LAYERS,
                "num_attention_heads": 4,
                "num_key_value_heads": 4,
                "max_position_embeddings": 256,
                "pad_token_id": ids(PAD),
                "eos_token_id": ids(EOS),
                "bos_token_id": None,
            },
        )
    )
    draw_weights(model, derive_seed(seed, "captioner", "weights"))
    model.generation_config.eos_token_id = ids(EOS)
    model.generation_config.pad_token_id = ids(PAD)
    return model


def save(model: Idefics3ForConditionalGeneration, processor: Idefics3Processor, out: Path) -> None:
    """Write config, fp16 safetensors, tokenizer and processor; AutoProcessor loads the folder."""
    out.mkdir(parents=True, exist_ok=True)
    weights = {name: value.half() for name, value in model.state_dict().items()}
    model.save_pretrained(out, state_dict=weights)
    processor.save_pretrained(out)
    for file in out.iterdir():
        file.chmod(0o644)  # safetensors writes 0600, which an installed wheel would keep


def draw_weights(model: nn.Module, seed: int) -> None:
    """Fill all weights from one generator; transformers' own start draws from the global one.

    Matrices get a standard deviation of 1/sqrt(fan in), embeddings 0.02 (as in transformers).
    """
    generator = torch.Generator().manual_seed(seed % 2**63)
    with torch.no_grad():
        for name, value in model.named_parameters():
            if value.ndim >= 2:
                value.normal_(0, value[0].numel() ** -0.5, generator=generator)
                if "embed" in name and "patch" not in name:
                    value.mul_(0.02 * value[0].numel() ** 0.5)
            else:
                value.fill_(1.0 if name.endswith("weight") else 0.0)


def _list_words() -> list[str]:
    """List all words of instructions and descriptions, so that each is one token."""
    texts = [TEMPLATES[style].text for style in STYLES]
    texts += ["a and at the in on an empty background", *SHAPES, *COLORS, *SIZES, *PLACES]
    texts += BACKGROUNDS
    spaced = " ".join(texts).lower().replace(".", " . ").replace(",", " , ")
    return sorted(set(spaced.split()))
