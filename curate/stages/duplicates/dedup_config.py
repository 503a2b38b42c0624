"""Say what counts as a duplicate, which one stays, and how much a task may hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from curate.core.errors import ConfigError
from curate.stages.duplicates.cropped import LOOSE_CHANGE
from curate.stages.duplicates.hamming import MAX_RUN
from curate.stages.duplicates.keepers import KeeperPolicy

OFF = -1
MOST_LOOKS = 256  # a count of looks has 8 bits
STAR = "star"
SEMANTIC_RULES = (STAR, "semdedup", "nemo")


@dataclass(frozen=True, slots=True, kw_only=True)
class DedupConfig:
    """Choose the signals beside equal bytes and equal pixels, which always count.

    Args:
        phash_radius: bits in which two 64-bit pHashes may differ, 0..8; -1 leaves pHashes out.
            Source: reference curation.md sections 3 and 7: 10 is too loose and still misses.
        thumbnail_change: largest change between two 8x8 colour thumbnails that still verifies a
            pHash pair, in parts of their contrast, 0..2 (`thumbnails.py`).
        pdq_radius: bits in which two 256-bit PDQ hashes may differ, 0..31; -1 leaves them out.
            Source: ThreatExchange, pdq/README.md, "Matching": 31.
        pdq_min_quality: PDQ hashes of less are not compared, 0..100. Source: the same: 49 and
            less is to be discarded.
        pdq_dihedral: also find turned and flipped copies; needs annotate.pdq_dihedral=true.
        pdq_change: largest change between two 32x32 miniatures, turned alike, that still verifies a
            PDQ pair; 0 takes every pair, as PDQ's own tools do. Needs annotate.miniatures=true.
        crop_radius: bits in which the pHash of a picture and that of a window of another may
            differ, 1..8; -1 does not look for cropped and framed copies. Needs
            annotate.miniatures=true.
        crop_change: largest change between the miniatures of the two, softened, 0..0.5. Where it is
            the whole picture that matches, the pair is near, as one of phash_radius.
        semantic_min_cosine: of two embeddings, 0..1, larger is stricter; 0 leaves them out. It is
            1 - eps of SemDeDup and NeMo Curator.
        semantic_column: of annotate, with embeddings of L2 norm 1.
        semantic_rule: "star" (verified against the keeper, joined with the other signals), or
            "semdedup" or "nemo": of what the other signals keep, a row goes if any earlier one of
            its only cell is near, as there; for runs that must match theirs.
        semantic_cells: cells of the embeddings; 0 takes one for every 1,000 samples.
        semantic_nearest: cells that a sample is compared in; 1 misses pairs at borders.
        keeper: rules of the policy that chooses who stays, the most important first.
        keeper_licences: for rule licence, the best first.
        keeper_sources: for rule source, the best first.
        keep_captions: captions of the dropped that their keeper keeps as alternates, at most.
        max_looks: different thumbnails of one pHash that are compared, 1..256. Chosen by us: more
            are flat pictures and cards of all colours; they are gathered around as many leaders.
        max_run: hashes of one band value that are all compared with each other. Chosen by us:
            beyond it a hash is compared with its next neighbours in order, and it is counted. Where
            pictures have forms (windows, turns), 16 times as many on both sides are compared.
        bin_entries: values a task holds at once, about 75 bytes each; chosen by us: 1.5 GB.

    Source of phash_radius and thumbnail_change: toy webs of 5,000 rows, hash spec lm1, seeds 0,
    11, 12 and 13: 655 of 660 near pairs found (recall 0.992) with 3 false ones (precision 0.995).
    Thumbnails held by their largest difference of 13 steps, as before, gave 636 and 4; a radius of
    8 finds all 660 with 3 false ones.
    """

    phash_radius: int = 6
    thumbnail_change: float = 0.15
    pdq_radius: int = OFF
    pdq_min_quality: int = 50
    pdq_dihedral: bool = False
    pdq_change: float = 0.0
    crop_radius: int = OFF
    crop_change: float = 0.2
    semantic_min_cosine: float = 0.0
    semantic_column: str = "clip.image_embedding"
    semantic_rule: str = STAR
    semantic_cells: int = 0
    semantic_nearest: int = 3
    keeper: list[str] = field(default_factory=lambda: ["resolution"])
    keeper_licences: list[str] = field(default_factory=list[str])
    keeper_sources: list[str] = field(default_factory=list[str])
    keep_captions: int = 0
    max_looks: int = 32
    max_run: int = MAX_RUN
    bin_entries: int = 20_000_000

    def __post_init__(self) -> None:
        self._check("phash_radius", OFF, 8, "larger radii join strangers")
        self._check("pdq_radius", OFF, 31, "larger radii join strangers")
        self._check("crop_radius", OFF, 8, "larger radii join strangers")
        if self.crop_radius == 0:
            raise ConfigError(
                "dedup.crop_radius: must be -1 or in [1, 8], got 0; windows are never cut exactly, "
                "raise it"
            )
        for name in ("thumbnail_change", "pdq_change"):
            self._check(name, 0, 2, "lower it")
        self._check("crop_change", 0, LOOSE_CHANGE, "beyond are strangers, lower it")
        self._check("pdq_min_quality", 0, 100, "lower it")
        self._check("semantic_min_cosine", 0, 1, "it is a cosine, 1 - eps")
        self._check("semantic_nearest", 1, 16, "lower it")
        self._check("max_looks", 1, MOST_LOOKS, "lower it")
        for name, least in (("bin_entries", 1), ("max_run", 2), ("semantic_cells", 0),
                            ("keep_captions", 0)):  # fmt: skip
            if getattr(self, name) < least:
                raise ConfigError(
                    f"dedup.{name}: must be >= {least}, got {getattr(self, name)}; raise it"
                )
        if self.semantic_rule not in SEMANTIC_RULES:
            raise ConfigError(
                f"dedup.semantic_rule: must be among {', '.join(SEMANTIC_RULES)}, "
                f"got {self.semantic_rule!r}; choose one"
            )
        if self.semantic_rule != STAR and not self.semantic_min_cosine:
            raise ConfigError(
                f"dedup.semantic_rule: {self.semantic_rule} needs dedup.semantic_min_cosine, "
                "got 0; set it"
            )
        for name in ("pdq_dihedral", "pdq_change"):
            if getattr(self, name) and self.pdq_radius == OFF:
                raise ConfigError(
                    f"dedup.{name}: needs dedup.pdq_radius, got -1; set pdq_radius=31"
                )
        self.policy()

    def policy(self) -> KeeperPolicy:
        """Give the rules that choose who stays."""
        return KeeperPolicy(
            rules=self.keeper, licences=self.keeper_licences, sources=self.keeper_sources
        )

    @property
    def num_nearest(self) -> int:
        """Give the cells that a sample is compared in; one under the rules that have but one."""
        return self.semantic_nearest if self.semantic_rule == STAR else 1

    def columns(self) -> Sequence[str]:
        """Name the columns of annotate that the signals read."""
        names = ["hashes.sha256_pixels"]
        if self.phash_radius != OFF:
            names += ["phash.phash", "phash.thumbnail"]
        if self.pdq_radius != OFF:
            names += ["pdq.hash", "pdq.quality"]
        if self.pdq_dihedral:
            names += ["pdq.dihedral"]
        if self.needs_miniatures:
            names += ["phash.miniature"]
        if self.semantic_min_cosine:
            names += [self.semantic_column]
        return names

    @property
    def needs_miniatures(self) -> bool:
        """Tell whether any signal lays miniatures over each other."""
        return self.crop_radius != OFF or self.pdq_change > 0

    def _check(self, name: str, low: float, high: float, remedy: str) -> None:
        """Refuse a value out of its range."""
        value = getattr(self, name)
        if not low <= value <= high:
            raise ConfigError(f"dedup.{name}: must be in [{low}, {high}], got {value}; {remedy}")
