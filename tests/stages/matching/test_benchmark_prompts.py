"""A set of prompts has another digest when a byte of it changes; prompts without words are told."""

from __future__ import annotations

from pathlib import Path

import pytest

from curate.core.errors import DataError
from curate.stages.matching.benchmark_prompts import digest_prompts, prompt_rows


def test_the_digest_goes_with_every_byte_and_name(tmp_path: Path) -> None:
    seen: set[str] = set()
    for name, text in (("a.txt", "a cat"), ("a.txt", "a cab"), ("b.txt", "a cab")):
        for old in tmp_path.iterdir():
            old.unlink()
        (tmp_path / name).write_text(text)
        seen |= {digest_prompts("mine", tmp_path), digest_prompts("mine", tmp_path / name)}
    assert len(seen) == 3  # a folder of one file is that file
    with pytest.raises(DataError, match=r"benchmarks\.mine\.prompts: must exist, got .*gone"):
        digest_prompts("mine", tmp_path / "gone.txt")


def test_a_prompt_without_a_word_keeps_its_row(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a cat\n!!!\na dog\n")
    rows = list(prompt_rows("_prompts-mine", tmp_path / "a.txt", "auto"))
    assert [(row["item"], row["status"]) for row in rows] == [
        ("1", "ok"), ("2", "no_words"), ("3", "ok"),
    ]  # fmt: skip
    assert len({row["key"] for row in rows}) == 3
