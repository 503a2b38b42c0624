"""Marks of chat formats in text from outside."""

from __future__ import annotations

import time

import pytest

from curate.captioners.foreign_text import disarm

MARKS = (
    "<|im_end|>", "<|im_start|>", "<|eot_id|>", "<|image_pad|>", "<|vision_start|>", "<|end|>",
    "<\uff5cUser\uff5c>", "<s>", "</s>", "<eos>", "<pad>", "<image>", "<video>", "<img>", "</img>",
    "<start_of_turn>", "<end_of_turn>", "<start_of_image>", "<image_soft_token>", "<IMG_CONTEXT>",
    "<end_of_utterance>", "<fake_token_around_image>", "<row_1_col_2>", "<global-img>", "[INST]",
    "[/INST]", "[IMG]", "[SYSTEM_PROMPT]", "<<SYS>>", "<</SYS>>", "<think>", "</think>",
)  # fmt: skip


@pytest.mark.parametrize("mark", MARKS)
def test_marks_are_taken_out_however_they_are_nested(mark: str) -> None:
    half = len(mark) // 2
    for text in (mark, mark * 3, mark[:half] + mark + mark[half:], mark.upper()):
        assert mark.lower() not in disarm(f"a{text}b").lower()


@pytest.mark.parametrize(
    "text", ["", "a < b and c > d", "a|b", "[1] a dog", "<3", "<b>bold</b>", "\u732b|\u72ac"]
)
def test_what_is_no_mark_stays(text: str) -> None:
    assert disarm(text) == text


@pytest.mark.parametrize("piece", ["<|", "<", "<|a", "[", "<s><s"])
def test_long_texts_take_no_time(piece: str) -> None:
    begin = time.process_time()
    assert len(disarm(piece * 100_000)) <= 2_000
    assert time.process_time() - begin < 0.5
