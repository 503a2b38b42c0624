"""Know the columns of the published URL tables, and find which columns of a table mean what.

`ingest.table=NAME` names a preset; without it the columns tell. A column set by name
(`ingest.url_column=link`) wins over both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from curate.core.errors import ConfigError, DataError
from curate.sources.config import IngestConfig
from curate.sources.tables.row_block import json_value

ColumnType = Literal["text", "int", "float", "nested"]

_NUMBERS: dict[str, type[int] | type[float]] = {"int": int, "float": float}
NOT_CHECKED = "none"  # ingest.sha256_column: the hash stays an ordinary field
_DEFAULTS = IngestConfig()
_OWN_NAMES = ("uid", "SAMPLE_ID", "sample_id", "id", "key")  # of samples, where no preset holds


@dataclass(frozen=True, slots=True, kw_only=True)
class TablePreset:
    """Describe one published table.

    Args:
        columns: name -> type, in the order of the table; numbers are read as such from texts.
        url: column of the URL; likewise caption, license, source_key, sha256 ("": none).
        marks: the columns by which a table without a named preset is recognised; none: it is not.
        has_header: False for text tables that start with the first row and know no quotes.
    """

    columns: Mapping[str, ColumnType]
    url: str
    caption: str
    license: str = ""
    source_key: str = ""
    sha256: str = ""
    marks: frozenset[str] = frozenset()
    has_header: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class TableColumns:
    """Name the columns of a table by what they mean; "" where there is none."""

    url: str
    caption: str
    license: str = ""
    source_key: str = ""
    sha256: str = ""
    types: Mapping[str, ColumnType] = field(default_factory=dict[str, ColumnType])

    @property
    def taken(self) -> frozenset[str]:
        """Give the columns that become columns of the output and so are no fields."""
        names = (self.url, self.caption, self.license, self.source_key, self.sha256)
        return frozenset(name for name in names if name)

    def read_fields(self, fields: Mapping[str, Any]) -> Mapping[str, Any]:
        """Turn texts into the numbers that the preset says they are; others stay."""
        return {name: _typed(value, self.types.get(name)) for name, value in fields.items()}


_LAION: dict[str, ColumnType] = {
    "SAMPLE_ID": "int",
    "URL": "text",
    "TEXT": "text",
    "HEIGHT": "int",
    "WIDTH": "int",
    "LICENSE": "text",
    "NSFW": "text",
    "similarity": "float",
}
_COYO_SCORES = (
    "clip_similarity_vitb32",
    "clip_similarity_vitl14",
    "nsfw_score_opennsfw2",
    "nsfw_score_gantman",
    "watermark_score",
    "aesthetic_score_laion_v2",
)

# In the order of recognition: what has more marks comes first.
# Source: the data sets' own cards and tables, as listed in reference/curation.md, section 3.
PRESETS: dict[str, TablePreset] = {
    "datacomp": TablePreset(
        columns={
            "uid": "text",
            "url": "text",
            "text": "text",
            "original_width": "int",
            "original_height": "int",
            "clip_b32_similarity_score": "float",
            "clip_l14_similarity_score": "float",
            "face_bboxes": "nested",
            "sha256": "text",
        },
        url="url",
        caption="text",
        source_key="uid",
        sha256="sha256",  # as DataComp's download_upstream.py verifies it
        marks=frozenset({"uid", "url", "text", "sha256"}),
    ),
    "coyo700m": TablePreset(
        columns={
            "id": "int",
            "url": "text",
            "text": "text",
            "width": "int",
            "height": "int",
            "image_phash": "text",
            "text_length": "int",
            "word_count": "int",
            "num_tokens_bert": "int",
            "num_tokens_gpt": "int",
            "num_faces": "int",
            **dict.fromkeys(_COYO_SCORES, "float"),
        },
        url="url",
        caption="text",
        source_key="id",
        marks=frozenset({"id", "url", "text", "image_phash"}),
    ),
    "recap_datacomp": TablePreset(
        columns={
            "url": "text",
            "re_caption": "text",
            "org_caption": "text",
            "sha256": "text",
            "key": "text",
            "re_clip_score": "float",
            "org_clip_score": "float",
            "re_length": "int",
            "org_length": "int",
            "re_gpt4v_score": "int",
            "org_gpt4v_score": "int",
        },
        url="url",
        caption="re_caption",  # what the data set is for; the alt text stays a field
        source_key="key",
        sha256="sha256",
        marks=frozenset({"url", "re_caption"}),
    ),
    "laion5b_joined": TablePreset(
        columns={
            "URL": "text",
            "TEXT": "text",
            "WIDTH": "int",
            "HEIGHT": "int",
            "similarity": "float",
            "LANGUAGE": "text",
            "hash": "int",
            "pwatermark": "float",
            "punsafe": "float",
            "aesthetic": "float",
            "AESTHETIC_SCORE": "float",  # its name in version 2
        },
        url="URL",
        caption="TEXT",
        source_key="hash",
        marks=frozenset({"URL", "TEXT", "hash"}),
    ),
    "laion5b": TablePreset(
        columns={**_LAION, "LANGUAGE": "text"},
        url="URL",
        caption="TEXT",
        license="LICENSE",
        source_key="SAMPLE_ID",
        marks=frozenset({"URL", "TEXT", "LANGUAGE"}),
    ),
    "laion400m": TablePreset(
        columns=_LAION,
        url="URL",
        caption="TEXT",
        license="LICENSE",
        source_key="SAMPLE_ID",
        marks=frozenset({"URL", "TEXT"}),
    ),
    "cc3m": TablePreset(
        columns={"caption": "text", "url": "text"}, url="url", caption="caption", has_header=False
    ),
    "cc12m": TablePreset(
        columns={"url": "text", "caption": "text"}, url="url", caption="caption", has_header=False
    ),
    "url_caption": TablePreset(
        columns={"url": "text", "caption": "text"}, url="url", caption="caption", license="license"
    ),
}


def find_preset(name: str) -> TablePreset | None:
    """Look up `ingest.table`; None for an empty name.

    Raises:
        ConfigError: there is no such preset.
    """
    if name and name not in PRESETS:
        raise ConfigError(f"ingest.table: must be one of {', '.join(PRESETS)}, got {name}; set one")
    return PRESETS[name] if name else None


def resolve_columns(names: Sequence[str], config: IngestConfig, place: str) -> TableColumns:
    """Find which columns of a table mean what.

    Args:
        names: of the table's columns.
        config: `table` and the `..._column` fields.
        place: what messages call the table.

    Raises:
        ConfigError: `ingest.table` is unknown.
        DataError: a column is missing.
    """
    preset = find_preset(config.table) or _recognise(names, config)
    url = _named(config.url_column, _DEFAULTS.url_column, preset and preset.url)
    caption = _named(config.caption_column, _DEFAULTS.caption_column, preset and preset.caption)
    if len(names) == 1 and caption == _DEFAULTS.caption_column:
        caption = ""  # a plain list of URLs
    for field_name, column in (("url_column", url), ("caption_column", caption)):
        if column not in names and not (column == "" and field_name == "caption_column"):
            raise DataError(
                f"{place}: column {column!r} must exist, got {', '.join(names)}; "
                f"set ingest.{field_name}=NAME or ingest.table=PRESET"
            )
    license_ = _named(config.license_column, _DEFAULTS.license_column, preset and preset.license)
    sha256 = config.sha256_column or (preset.sha256 if preset else "")
    if config.sha256_column not in ("", NOT_CHECKED, *names):
        raise DataError(
            f"{place}: column {sha256!r} must exist, got {', '.join(names)}; "
            f"set ingest.sha256_column=NAME, or {NOT_CHECKED}"
        )
    own = [preset.source_key] if preset and preset.source_key else _OWN_NAMES
    return TableColumns(
        url=url,
        caption=caption,
        license=license_ if license_ in names else "",
        source_key=next((name for name in own if name in names), ""),
        sha256=sha256 if sha256 in names else "",
        types=preset.columns if preset else {},
    )


def _typed(value: Any, kind: ColumnType | None) -> Any:
    if not isinstance(value, str) or kind not in _NUMBERS:
        return value
    try:
        return json_value(_NUMBERS[kind](value))
    except ValueError:
        return value


def _recognise(names: Sequence[str], config: IngestConfig) -> TablePreset | None:
    """Find the preset by its marks, unless the configured columns are there."""
    if {config.url_column, config.caption_column} - {""} <= set(names):
        return None
    found = (preset for preset in PRESETS.values() if preset.marks and preset.marks <= set(names))
    return next(found, None)


def _named(configured: str, default: str, of_preset: str | None) -> str:
    return configured if configured != default or not of_preset else of_preset
