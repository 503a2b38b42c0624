"""A tiny random chat model: the real classes, weights drawn from a seed, a word for every token."""

from __future__ import annotations

import re
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

WORDS = re.findall(
    r"\S+",
    "a the red blue green dog cat circle square and on of in with big small A B : . , Fido Paris "
    "describe picture text one two man woman street sign page",
)
TEMPLATE = (
    "<s>{% for m in messages %}[{{ m['role'] }}] {{ m['content'] }} </turn> {% endfor %}"
    "{% if add_generation_prompt %}[answer] {% endif %}"
)


def save_lm(
    folder: Path, *, seed: int = 0, max_tokens: int = 256, template: str = TEMPLATE
) -> Path:
    marks = ["<unk>", "<s>", "</s>", "</turn>"]
    vocab = {word: at for at, word in enumerate([*marks, "[", "]", "user", "answer", *WORDS])}
    words = Tokenizer(models.WordLevel(vocab, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=words, unk_token="<unk>", bos_token="<s>", eos_token="</s>",
        additional_special_tokens=["</turn>"],
    )  # fmt: skip
    if template:
        tokenizer.chat_template = template
    config = LlamaConfig(
        vocab_size=len(vocab), hidden_size=32, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=max_tokens,
        bos_token_id=1, eos_token_id=2, tie_word_embeddings=False,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = LlamaForCausalLM(config)
        for weights in model.parameters():
            if weights.ndim > 1:
                torch.nn.init.normal_(weights, std=0.4)  # so that answers depend on the prompt
        model.lm_head.weight.data[[0, 1, 3]] = 0  # other marks than the end are seldom written
    model.generation_config.temperature = 0.7  # what folders bring and what must not matter
    model.generation_config.do_sample = True
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
