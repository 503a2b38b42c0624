"""Configure where samples come from and how they are fetched."""

from __future__ import annotations

from dataclasses import dataclass, field

from curate.core.errors import ConfigError
from curate.core.image import MAX_PIXELS
from curate.core.image_header import MAX_FRAMES
from curate.sources.fetching.fetch_config import FetchConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestConfig(FetchConfig):
    """Say where samples come from; how URLs are fetched is inherited.

    Args:
        source: path of a URL table, folder or tars; filled from `input`.
        shard_size: rows per shard of tables and folders.
        tar_keys: where the names of a tar's members are cut into key and extension: "first_dot"
            (webdataset's rule), "last_dot", or "auto": the first dot unless all members of a key
            have more dots (`curate/core/tar_index.py`).
        alt_min_chars: shorter alt texts in WARC and WAT files are left out; 0 takes pictures
            without one.
        url_column: column of a URL table; likewise caption_column ("": no captions) and
            license_column (optional).
        table: name of a published table's columns (tables/table_presets.py); "" tells by them.
        sha256_column: hash that the bytes must have; "" takes a preset's, "none" checks nothing.
        image_column: of a table that holds the pictures; "" finds it.
        revision: of a data set on the Hugging Face hub; "" is its main branch.
        max_pixels: larger pictures are not decoded.
        max_frames: longer animations are refused.
        verify: "structure" tells cut files by their structure and leaves damage in the middle to
            annotate, which decodes them; "pixels" decodes every picture at ingest, too.
        resize_px: store pictures whose shorter side is longer as a JPEG of this shorter side; 0
            stores the original bytes.
        resize_quality: of that JPEG, 1..100. Source: img2dataset's encode_quality, with its 4:2:0.
        takedowns: folder of the tombstones; filled from `out`.
    """

    source: str = field(default="", metadata={"fingerprint": False})
    shard_size: int = 1000
    tar_keys: str = "auto"
    alt_min_chars: int = 1
    url_column: str = "url"
    caption_column: str = "caption"
    license_column: str = "license"
    table: str = ""
    sha256_column: str = ""
    image_column: str = ""
    revision: str = ""
    max_pixels: int = MAX_PIXELS
    max_frames: int = MAX_FRAMES
    verify: str = "structure"
    resize_px: int = 0
    resize_quality: int = 95
    takedowns: str = field(default="", metadata={"fingerprint": False})

    def __post_init__(self) -> None:
        FetchConfig.__post_init__(self)  # super() does not work in a dataclass with slots
        if self.verify not in ("structure", "pixels"):
            raise ConfigError(
                f"ingest.verify: must be structure or pixels, got {self.verify}; set one of them"
            )
        if self.tar_keys not in ("auto", "first_dot", "last_dot"):
            raise ConfigError(
                f"ingest.tar_keys: must be auto, first_dot or last_dot, got {self.tar_keys}; "
                "set one of them"
            )
        for name in (
            "shard_size",
            "max_pixels",
            "max_frames",
        ):
            if getattr(self, name) < 1:
                raise ConfigError(
                    f"ingest.{name}: must be >= 1, got {getattr(self, name)}; raise it"
                )
