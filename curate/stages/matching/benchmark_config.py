"""Hold what is asked of decontaminate: whose benchmarks, what counts as a match, what it costs.

No field enters the stage's fingerprint as a whole: each task carries the parts that decide its own
bytes, so that a further benchmark or another threshold hashes no picture again.
"""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass, field
from typing import Any

from curate.core.errors import ConfigError
from curate.stages.matching.prompt_sets import AUTO, FORMS
from curate.stages.matching.prompts import PromptRules

DROP, FLAG = "drop", "flag"
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")  # it names files
_APART: dict[str, Any] = {"fingerprint": False}  # tasks carry it, see above


@dataclass(frozen=True, slots=True, kw_only=True)
class Benchmark:
    """Name the files of one evaluation set; at least one of the two.

    Args:
        pictures: a folder of pictures, tars or parquet files; one tar or parquet file; a .txt file
            with the path of a picture on each line, relative to it.
        prompts: a file of prompts.
        format: of that file, see `prompt_sets.py`; "auto" tells by name and content.
    """

    pictures: str = ""
    prompts: str = ""
    format: str = AUTO


@dataclass(frozen=True, slots=True, kw_only=True)
class Actions:
    """Say what becomes of a sample that matches, by kind: drop or flag.

    Args:
        bytes: the same file; likewise pixels: the same picture in another file.
        pdq: PDQ hashes near each other, turned and flipped forms included; likewise phash: pHashes
            and thumbnails, of flat pictures.
        descriptor: descriptors of a copy detector near each other; likewise clip: CLIP's.
        exact: the caption is a prompt, but for case, punctuation and white space.
        minhash: nearly all words in their order are a prompt's.
        ngram: it holds a prompt's runs of words, or is a prompt too short to be telling.

    Source: chosen by us. A false drop costs one sample of millions, a leaked picture falsifies a
    number: what is evidence of a copy drops. A shared run of words is none: "in front of a white
    background with a" is in thousands of captions, and dropping all of them would bend the
    distribution. Nor are nearly all words: the prompts of compositional benchmarks differ by one,
    and that one is the test; on the toy web all such captions are innocent.
    GPT-3 (arXiv 2005.14165, appendix C) cut 13-grams out of training texts, and let
    those be that are in more than 10 documents; PaLM (arXiv 2204.02311, section 8) calls an item
    contaminated from 70 % of its 8-grams on. datatrove drops whole documents by 12-grams.
    """

    bytes: str = DROP
    pixels: str = DROP
    pdq: str = DROP
    phash: str = DROP
    descriptor: str = DROP
    clip: str = DROP
    exact: str = DROP
    minhash: str = FLAG
    ngram: str = FLAG

    def __post_init__(self) -> None:
        for item in dataclasses.fields(self):
            value = getattr(self, item.name)
            if value not in (DROP, FLAG):
                raise ConfigError(
                    f"decontaminate.action.{item.name}: must be drop or flag, got {value!r}; "
                    "set one of them"
                )

    def of(self, kind: str) -> str:
        """Give the action for a kind of match."""
        return getattr(self, kind)


@dataclass(frozen=True, slots=True, kw_only=True)
class DecontaminateConfig:
    """Name the benchmarks, and say what matches them.

    Args:
        benchmarks: name -> its files; the name is written into tables and file names.
        pdq_radius: bits in which two PDQ hashes may differ, 0..64; -1 compares none.
            Source: ThreatExchange, pdq/README.md, "Matching": 31 of 256.
        pdq_min_quality: hashes below are not compared, on either side, 0..100. Source: the same: 49
            and less are to be discarded.
        phash_radius: bits in which two pHashes may differ where PDQ cannot speak, 0..8; -1 compares
            none: flat pictures (drawings, cards) match by pHash and thumbnail, as in dedup.
        thumbnail_change: largest change of two thumbnails that verifies such a pair, 0..1
            (`duplicates/thumbnails.py`); of a turned form a third of it. Source of
            both: three toy webs, `test_thumbnails.py`: all near copies at precision .994.
        descriptor_min_cosine: of a copy detector (role descriptor of the pack), (0, 1]; null takes
            the model family's own (`curate/models/copy_descriptor.py`).
        clip_min_cosine: of the pack's image-text model, (0, 1]; null compares none. Advised: 0.95;
            CLIP finds what shows the same, which is more than what is a copy.
        max_unreadable: pictures of a benchmark that may fail to decode; they are listed anyway.
        texts: when a caption meets a prompt.
        action: what becomes of a match, by kind.
        shard_size: pictures of a benchmark that one task hashes.
    """

    benchmarks: dict[str, Benchmark] = field(default_factory=dict[str, Benchmark], metadata=_APART)
    pdq_radius: int = field(default=31, metadata=_APART)
    pdq_min_quality: int = field(default=50, metadata=_APART)
    phash_radius: int = field(default=8, metadata=_APART)
    thumbnail_change: float = field(default=0.15, metadata=_APART)
    descriptor_min_cosine: float | None = field(default=None, metadata=_APART)
    clip_min_cosine: float | None = field(default=None, metadata=_APART)
    max_unreadable: int = field(default=0, metadata=_APART)
    texts: PromptRules = field(default_factory=PromptRules, metadata=_APART)
    action: Actions = field(default_factory=Actions, metadata=_APART)
    shard_size: int = field(default=1000, metadata=_APART)

    def __post_init__(self) -> None:
        for name, benchmark in self.benchmarks.items():
            _check_benchmark(name, benchmark)
        for name, low, high in (
            ("pdq_radius", -1, 64),
            ("pdq_min_quality", 0, 100),
            ("phash_radius", -1, 8),
            ("thumbnail_change", 0, 1),
            ("max_unreadable", 0, None),
            ("shard_size", 1, None),
        ):
            value = getattr(self, name)
            if not low <= value <= (value if high is None else high):
                bound = f"in [{low}, {high}]" if high is not None else f">= {low}"
                raise ConfigError(f"decontaminate.{name}: must be {bound}, got {value}; change it")
        for name in ("descriptor_min_cosine", "clip_min_cosine"):
            value = getattr(self, name)
            if value is not None and not 0 < value <= 1:
                raise ConfigError(
                    f"decontaminate.{name}: must be in (0, 1] or null, got {value}; change it"
                )


def require_benchmarks(config: DecontaminateConfig) -> None:
    """Refuse a config that names no evaluation set.

    Raises:
        ConfigError: there is none.
    """
    if not config.benchmarks:
        raise ConfigError(
            "decontaminate.benchmarks: must name an evaluation set, got none; set "
            "decontaminate.benchmarks.NAME.pictures or .prompts, or leave the stage out"
        )


def _check_benchmark(name: str, benchmark: Benchmark) -> None:
    if not _NAME.fullmatch(name):
        raise ConfigError(
            "decontaminate.benchmarks: a name must be of lower-case letters, digits, _ and -, "
            f"got {name!r}; rename it"
        )
    if not benchmark.pictures and not benchmark.prompts:
        raise ConfigError(
            f"decontaminate.benchmarks.{name}: must have pictures or prompts, got neither; "
            "set one of them"
        )
    if benchmark.format not in (AUTO, *FORMS):
        raise ConfigError(
            f"decontaminate.benchmarks.{name}.format: must be {AUTO} or one of {', '.join(FORMS)}, "
            f"got {benchmark.format!r}; name one"
        )
