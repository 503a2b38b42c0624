"""Near captions are counted as a search over all pairs counts them, in linear time."""

from __future__ import annotations

import itertools
import random
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from curate.core.shard import ShardSet
from curate.stages.duplicates import captions as module
from curate.stages.duplicates.caption_files import CAPTIONS, count_near_in_bin, write_captions
from curate.stages.duplicates.captions import MAX_WORDS, WINDOW, collect_captions, count_near
from curate.stages.matching.minhash import NUM_BANDS, bands_of
from curate.stages.matching.words import hash_words, words_of

VOCABULARY = [f"w{number}" for number in range(2000)]


def planted(num_texts: int, seed: int = 0) -> list[str]:
    """Give random captions, every fourth with up to 4 copies of which some lack the last word."""
    draw = random.Random(seed)
    captions: list[str] = []
    for number in range(num_texts):
        words = draw.choices(VOCABULARY, k=draw.randint(8, 25))
        captions.append(" ".join(words))
        if number % 4 == 0:
            for _ in range(draw.randint(1, 4)):
                cut = words if draw.random() < 0.5 else words[:-1]
                captions.append(" ".join(cut).upper() + "!")
    draw.shuffle(captions)
    return captions


def count_all(captions: list[str], min_jaccard: float) -> list[int]:
    """Sum over all bands, and add the samples of equal words: one number a caption."""
    collected = collect_captions(captions)
    bands = bands_of(collected.captions.sets)
    near = sum(
        (count_near(collected.captions, bands[:, band], band, min_jaccard)
         for band in range(NUM_BANDS)),
        start=collected.captions.samples,
    )  # fmt: skip
    by_text = dict(zip(collected.captions.texts.tolist(), near.tolist(), strict=True))
    return [by_text.get(text, 0) for text in collected.texts.tolist()]


def count_plainly(captions: list[str], min_jaccard: float) -> list[int]:
    texts = [tuple(words_of(caption)) for caption in captions]
    samples = Counter(texts)
    sets = {words: set(words) | set(itertools.pairwise(words)) for words in samples}
    near = {
        one: sum(
            count
            for other, count in samples.items()
            if len(sets[one] & sets[other]) >= min_jaccard * max(len(sets[one] | sets[other]), 1)
        )
        for one in samples
    }
    return [near[words] if words else 0 for words in texts]


def test_counts_are_those_of_all_pairs() -> None:
    captions = ["", *planted(300), "...", "one", "One!"]
    assert count_all(captions, 0.8) == count_plainly(captions, 0.8)
    assert max(count_all(captions, 0.8)) > 2


def test_a_template_with_a_number_is_near_itself() -> None:
    template = "view of room {} in the old hotel by the sea at night"
    captions = [template.format(number) for number in range(20)]
    assert count_all(captions, 0.7) == count_plainly(captions, 0.7) == [20] * 20
    assert count_all(captions, 0.95) == [1] * 20


def test_a_caption_of_just_the_threshold_is_near() -> None:
    words = ["view", "of", "a", "room", "in", "an", "old", "hotel"]  # 15 words and pairs
    captions = [" ".join(words), " ".join(words[:-1])]  # 13 of them
    assert count_all(captions, 13 / 15) == [2, 2]
    assert count_all(captions, float(np.nextafter(13 / 15, 1))) == [1, 1]


def test_pairs_are_counted_alike_however_few_are_held(monkeypatch: pytest.MonkeyPatch) -> None:
    captions = planted(60)
    monkeypatch.setattr(module, "_PAIRS_AT_ONCE", 3)
    assert count_all(captions, 0.8) == count_plainly(captions, 0.8)


def test_equal_captions_are_one_entry() -> None:
    collected = collect_captions(["A cat"] * 1000 + ["a cat!", "a dog"])
    assert sorted(collected.captions.samples.tolist()) == [1, 1001]
    assert collected.captions.sets.sizes.tolist() == [3, 3]


def test_captions_without_words_are_none() -> None:
    collected = collect_captions(["", "?!", "a cat"])
    assert collected.has_words.tolist() == [False, False, True]
    assert len(collected.captions.texts) == 1
    assert len(collect_captions([]).captions.texts) == 0


def test_long_captions_are_read_to_a_bound() -> None:
    words = [f"w{number}" for number in range(5 * MAX_WORDS)]
    collected = collect_captions([" ".join(words), " ".join(words[:MAX_WORDS])])
    assert collected.captions.samples.tolist() == [2]
    assert collected.captions.sets.sizes.tolist() == [2 * MAX_WORDS - 1]


def test_a_band_that_all_share_is_counted_in_a_window() -> None:
    captions = [f"{' '.join(VOCABULARY[:40])} {number}" for number in range(3000)]
    collected = collect_captions(captions).captions
    values = np.zeros(len(captions), np.uint64)
    start = time.process_time()
    near = count_near(collected, values, 0, 0.8)
    assert time.process_time() - start < 10  # all 4.5 million pairs take minutes
    assert near.min() >= WINDOW
    assert near.max() <= 2 * WINDOW


def test_in_a_window_alike_captions_stand_together() -> None:
    captions = planted(600)
    collected = collect_captions(captions).captions
    values = np.zeros(len(collected.texts), np.uint64)  # all share this band's
    near = count_near(collected, values, 0, 0.8)
    plain = np.array(count_plainly(captions, 0.8))
    has_near = {text for text, num in zip(hash_words(captions).texts.tolist(), plain, strict=True)
                if num > 1}  # fmt: skip
    alike = [n for n, text in enumerate(collected.texts.tolist())
             if text in has_near and collected.samples[n] < 2]  # fmt: skip
    assert (near[alike] > 0).mean() > 0.5
    assert len(alike) > 50


def count_in_files(folder: Path, captions: list[str], num_shards: int, num_bins: int) -> list[int]:
    names = [f"_facts-{number:05d}" for number in range(num_shards)]
    for number, name in enumerate(names):
        shard = collect_captions(captions[number::num_shards]).captions
        write_captions(folder / f"{name}{CAPTIONS}", shard, num_bins)
    near: Counter[tuple[int, int]] = Counter()
    for number in range(num_bins):
        for row in count_near_in_bin(ShardSet(folder), names, number, num_bins, 0.8).to_pylist():
            near[row["shard"], row["text"]] += row["near"]
    texts = hash_words(captions).texts.tolist()
    return [1 + near[row % num_shards, text] for row, text in enumerate(texts)]


@pytest.mark.parametrize(("num_shards", "num_bins"), [(1, 1), (3, 4), (5, 1)])
def test_counts_do_not_depend_on_shards_and_bins(
    tmp_path: Path, num_shards: int, num_bins: int
) -> None:
    captions = planted(100)
    assert count_in_files(tmp_path, captions, num_shards, num_bins) == count_plainly(captions, 0.8)


def test_windows_do_not_depend_on_shards_and_bins(tmp_path: Path) -> None:
    captions = [f"{' '.join(VOCABULARY[:20])} {number}" for number in range(300)] * 2
    counts = count_in_files(tmp_path, captions, 1, 1)
    assert counts == count_in_files(tmp_path, captions, 4, 8) == count_all(captions, 0.8)
    assert min(counts) > 2 * WINDOW  # each has at least WINDOW near ones, of two samples
    assert max(counts) < 600


def test_no_shards_have_no_near_captions(tmp_path: Path) -> None:
    assert len(count_near_in_bin(ShardSet(tmp_path), [], 0, 1, 0.8)) == 0
