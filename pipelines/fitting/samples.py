"""Collect the pictures and captions that a captioner is fitted on.

    shards, tars, folder -> captions of the wanted sources that the model can write -> pictures that
    decode -> held out or learnt from, by a draw of the key -> one file of pictures + a list

What a sample is left out for is counted by name. Pictures lie in one local file, so that any of
them is read again in any order.
"""

from __future__ import annotations

import hashlib
import heapq
import json
import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

from PIL import Image

from curate.core.errors import DataError, SampleError
from curate.core.image import decode_image
from curate.core.schema import OK
from curate.core.seed import derive_seed
from curate.sources.source import RawSample
from pipelines.fitting.config import FitCaptionerConfig
from pipelines.fitting.inputs import ALT, captions_of, key_of, open_input

Accept = Callable[[str], object]


@dataclass(frozen=True, slots=True, kw_only=True)
class FitSample:
    """Hold one sample.

    Args:
        key: of the shard that it is from, where that has our keys.
        alt: its alt text; "" if there is none.
        texts: the captions to learn, sorted.
        offset: of the picture in the file of all.
        num_bytes: of the picture.
        sha256: of the picture.
    """

    key: str
    alt: str
    texts: tuple[str, ...]
    offset: int
    num_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FitSamples:
    """Hold all samples of a fit.

    Args:
        learnt: samples to learn from, by key.
        heldout: samples that are only measured, by key.
        pictures: file of all pictures.
        counts: samples seen, and left out by reason.
    """

    learnt: Sequence[FitSample]
    heldout: Sequence[FitSample]
    pictures: Path
    counts: Counter[str]

    @property
    def fingerprint(self) -> str:
        """Give the sha256 over keys, texts and pictures of both parts."""
        parts = [
            [[s.key, s.alt, list(s.texts), s.sha256] for s in part]
            for part in (self.learnt, self.heldout)
        ]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

    def open_picture(self, sample: FitSample) -> Image.Image:
        """Decode a sample's picture: RGB, upright."""
        with self.pictures.open("rb") as stream:
            return decode_image(os.pread(stream.fileno(), sample.num_bytes, sample.offset))


def collect(config: FitCaptionerConfig, accept: Accept, folder: Path) -> FitSamples:
    """Read the input once and keep what the fit needs.

    Args:
        config: of the fit.
        accept: raises SampleError for a caption that the model cannot learn to write.
        folder: for the pictures; survives until the fit is done.

    Raises:
        DataError: no sample has such a caption, or too few to hold some out.
    """
    folder.mkdir(parents=True, exist_ok=True)
    pictures = folder / "pictures.bin"
    counts: Counter[str] = Counter()
    parts = {
        "learnt": _Part(limit=config.num_samples, seed=config.seed),
        "heldout": _Part(limit=config.num_heldout, seed=config.seed),
    }
    with pictures.open("wb") as stream:
        for raw in open_input(config.input, folder):
            counts["in"] += 1
            part = parts["heldout" if _is_heldout(key_of(raw), config) else "learnt"]
            try:
                sample = _read_sample(raw, config, accept, stream.tell())
            except SampleError as error:
                counts[f"dropped.{error.status}"] += 1
                continue
            if part.offer(sample) and raw.data is not None:
                stream.write(raw.data)
    found = {name: part.samples() for name, part in parts.items()}
    for name, samples in found.items():
        if not samples:
            _refuse_none(config, counts, name)
    return FitSamples(
        learnt=found["learnt"], heldout=found["heldout"], pictures=pictures, counts=counts
    )


@dataclass(slots=True, kw_only=True)
class _Part:
    """Keep the samples whose keys have the smallest draws, one for each key."""

    limit: int  # 0 is none
    seed: int
    kept: dict[str, FitSample] = field(default_factory=dict[str, FitSample])
    heap: list[tuple[int, str]] = field(default_factory=list[tuple[int, str]])

    def offer(self, sample: FitSample) -> bool:
        """Tell whether the sample is kept so far; the larger file of a key stays."""
        earlier = self.kept.get(sample.key)
        if earlier is not None:
            if earlier.num_bytes >= sample.num_bytes:
                return False
            self.kept[sample.key] = sample
            return True
        draw = derive_seed(self.seed, "captioner choice", sample.key)
        if self.limit and len(self.heap) == self.limit:
            if -draw < self.heap[0][0]:
                return False
            _, last = heapq.heapreplace(self.heap, (-draw, sample.key))
            del self.kept[last]
        else:
            heapq.heappush(self.heap, (-draw, sample.key))
        self.kept[sample.key] = sample
        return True

    def samples(self) -> list[FitSample]:
        return [self.kept[key] for key in sorted(self.kept)]


def _read_sample(
    raw: RawSample, config: FitCaptionerConfig, accept: Accept, offset: int
) -> FitSample:
    """Choose what of a sample is learnt.

    Raises:
        SampleError: why nothing is.
    """
    if raw.status != OK or raw.data is None:
        raise SampleError(raw.status)
    captions = captions_of(raw)
    wanted = [
        text
        for source, text in captions.items()
        if any(fnmatchcase(source, pattern) for pattern in config.sources)
    ]
    texts = _accepted(wanted, accept)
    decode_image(raw.data)
    return FitSample(
        key=key_of(raw),
        alt=captions.get(ALT, ""),
        texts=tuple(sorted(texts)),
        offset=offset,
        num_bytes=len(raw.data),
        sha256=hashlib.sha256(raw.data).hexdigest(),
    )


def _accepted(texts: Sequence[str], accept: Accept) -> set[str]:
    """Give the texts that the model can write.

    Raises:
        SampleError: there is none; the status of the last one that it cannot.
    """
    accepted: set[str] = set()
    fault = SampleError("no_caption")
    for text in texts:
        try:
            accept(text)
            accepted.add(text)
        except SampleError as error:
            fault = SampleError(f"caption_{error.status}", error.detail)
    if not accepted:
        raise fault
    return accepted


def _is_heldout(key: str, config: FitCaptionerConfig) -> bool:
    return derive_seed(config.seed, "captioner heldout", key) < config.heldout_frac * 2**64


def _refuse_none(config: FitCaptionerConfig, counts: Counter[str], part: str) -> None:
    reasons = {name.removeprefix("dropped."): n for name, n in counts.items() if name != "in"}
    why = ", ".join(f"{count} {name}" for name, count in sorted(reasons.items())) or "no other"
    if part == "learnt":
        raise DataError(
            f"{config.input}: must hold samples with captions of source {config.source}, got none "
            f"of {counts['in']} ({why}); set source= to one that it has"
        )
    raise DataError(
        f"{config.input}: must leave samples to hold out, got none of {counts['in']} ({why}); "
        "raise heldout_frac or give more samples"
    )
