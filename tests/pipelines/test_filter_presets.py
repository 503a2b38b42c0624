"""Every filter preset loads, stands in its layer, and has the thresholds of its source."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from curate.annotators.caption_text import measure_text
from curate.core.errors import ConfigError
from curate.core.schema import OK, make_key
from curate.core.shard import ShardSet, ShardWriter
from curate.stages.filtering.columns import read_columns
from curate.stages.filtering.config import Bounds
from curate.stages.filtering.rules_in_force import columns_of, put_in_force
from curate.stages.filtering.verdicts import judge
from pipelines.request import filter_preset_names, parse_request

# What the sources say, written down from them and not from the presets.
SOURCES: dict[str, dict[str, Any]] = {
    "laion5b": {  # arXiv 2210.08402, 3.1: 5 characters, 5 KB, 0.28 English, 0.26 all others
        "caption_characters": (5, None), "bytes": (5000, None),
        "similarity": (0.26, None), "by_language": {"en": 0.28}, "column": "clip_b32.similarity",
    },
    "laion400m": {  # arXiv 2111.02114, 2.1.1: 5 characters, 5 KB, 0.3; English by cld3
        "caption_characters": (5, None), "bytes": (5000, None), "similarity": (0.3, None),
        "language": ["en"], "column": "clip_b32.similarity",
    },
    "laion_aesthetics": {  # laion-aesthetic.md: pwatermark < 0.8, punsafe < 0.5, score > 7
        "watermark": (None, 0.8), "nsfw": (None, 0.5), "aesthetic": (7, None),
    },
    "datacomp_basic": {  # apply_filter.py: en, > 2 words, > 5 characters, >= 200, <= 3.0
        "language": ["en"], "caption_words": (3, None), "caption_characters": (6, None),
        "min_side": (200, None), "aspect": (None, 3.0),
    },
    "datacomp_clip30": {  # arXiv 2304.14108, table 3: CLIP score, L/14, best 30 %
        "similarity": (None, None), "top_frac": 0.3, "column": "clip_l14.similarity",
        "mode": "datacomp",
    },
    "coyo": {  # README, Data Filtering
        "bytes": (5000, None), "min_side": (200, None), "aspect": (None, 3.0),
        "nsfw": (None, 0.5), "language": ["en"], "caption_words": (3, 256),
        "caption_characters": (6, 1000), "nouns": (1, None), "caption_repeats": (None, 10),
        "toxicity_terms": (None, 0),
    },
    "sd2": {"nsfw": (None, 0.1), "aesthetic": (4.5, None)},  # model card of 2-base
}  # fmt: skip
OTHER_KEYS = ("by_language", "column", "language", "top_frac", "mode")


def test_the_presets_are_those_with_sources() -> None:
    assert filter_preset_names() == sorted(SOURCES)


@pytest.mark.parametrize("name", sorted(SOURCES))
def test_a_preset_has_the_thresholds_of_its_source(name: str) -> None:
    config = parse_request([f"filter_preset={name}"]).config.filter
    said = SOURCES[name]
    bounds = {rule: (item.min, item.max) for rule, item in config.active_rules().items()}
    assert bounds == {rule: ends for rule, ends in said.items() if rule not in OTHER_KEYS}
    assert config.language.keep == said.get("language", [])
    assert config.similarity.languages() == said.get("by_language", {})
    assert config.similarity.top_frac == said.get("top_frac")
    assert config.similarity.column == said.get("column", "")
    assert config.quantile_mode == said.get("mode", "exact")
    assert not config.where and not config.uids


def test_models_of_two_scales_never_share_a_threshold() -> None:
    b32 = Bounds(min=0.26, by_language={"en": 0.28}, column="clip_b32.similarity")
    l14 = Bounds(top_frac=0.3, by_language={"en": None}, column="clip_l14.similarity")
    both = parse_request(["filter_preset=laion5b,datacomp_clip30"]).config.filter
    assert both.similarity == l14
    turned = parse_request(["filter_preset=datacomp_clip30,laion5b"]).config.filter
    assert turned.similarity == b32
    demo = parse_request(["pipeline=demo", "filter_preset=datacomp_clip30"]).config.filter
    assert demo.similarity == l14


def test_a_filter_preset_lies_over_the_pipelines_and_under_the_overrides() -> None:
    plain = parse_request(["pipeline=demo"]).config.filter
    assert (plain.aspect.max, plain.min_side.min, plain.similarity.min) == (3.0, 48, 0.3)
    given = ["pipeline=demo", "filter_preset=laion5b,sd2", "filter.nsfw.max=0.2"]
    config = parse_request(given).config.filter
    assert config.similarity.languages() == {"en": 0.28}
    assert (config.similarity.min, config.aesthetic.min, config.nsfw.max) == (0.26, 4.5, 0.2)
    assert (config.aspect.max, config.min_side.min) == (3.0, 48)


@pytest.mark.parametrize("text", ["laion", "laion5b,", "../base", "laion5b,base"])
def test_an_unknown_filter_preset_is_refused_with_the_known_ones(text: str) -> None:
    with pytest.raises(ConfigError, match="filter_preset: must be among coyo, datacomp_basic"):
        parse_request([f"filter_preset={text}"])


@pytest.mark.parametrize(
    "text",
    [
        "pixels.min_side>=200 and text.words>2 and language.code in ['en','de']",
        "'en' == language.code",
        """caption != "a: b # c" and 'it\\'s' != url""",
        "- width < -1",
        "",
    ],
)
def test_a_condition_comes_through_the_command_line_as_it_was_written(text: str) -> None:
    assert parse_request([f"filter.where={text}"]).config.filter.where == text


def test_a_condition_that_is_none_is_refused_before_anything_runs() -> None:
    with pytest.raises(ConfigError, match="must be a condition, got invalid syntax"):
        parse_request(["filter.where=pixels.min_side>="])


def test_languages_come_through_the_command_line() -> None:
    given = ["filter.language.keep=[en,de]", "filter.similarity.by_language={en: 0.28}",
             "filter.similarity.by_language.de=0.3", "filter.similarity.min=0.26"]  # fmt: skip
    config = parse_request(given).config.filter
    assert config.language.keep == ["en", "de"]
    assert config.similarity == Bounds(min=0.26, by_language={"en": 0.28, "de": 0.3})
    with pytest.raises(ConfigError, match="YAML needs quotes around 'no'"):
        parse_request(["filter.language.keep=[en,no]"])


def test_workers_elsewhere_are_given_the_lists_whole_path() -> None:
    given = ["filter.uids=some/uids.npy", "engine=cluster", "engine.address=tcp://10.0.0.1:8786"]
    path = parse_request(given).config.filter.uids
    assert path.startswith("/") and path.endswith("/some/uids.npy")


def test_datacomps_basic_filter_is_the_rule_in_other_words(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = [
        {
            "text": " ".join(["ab"] * int(rng.integers(1, 5))) + "x" * int(rng.integers(0, 3)),
            "code": str(rng.choice(["en", "en", "de"])),
            "width": int(rng.integers(190, 700)),
            "height": int(rng.integers(190, 230)),
        }
        for _ in range(400)
    ]
    table = pa.table(
        {
            "key": [make_key(str(row)) for row in range(len(rows))],
            "status": [OK] * len(rows),
            "language.code": [row["code"] for row in rows],
            "caption_text.words": [measure_text(row["text"])["words"] for row in rows],
            "caption_text.characters": [measure_text(row["text"])["characters"] for row in rows],
            "original_width": [row["width"] for row in rows],
            "original_height": [row["height"] for row in rows],
        }
    )
    config = parse_request(["filter_preset=datacomp_basic"]).config.filter
    for name, columns in (("annotate", slice(0, 5)), ("ingest", slice(5, 7))):
        names = dict.fromkeys(["key", "status", *table.column_names[columns]])
        (tmp_path / name).mkdir()
        with ShardWriter(
            tmp_path / name, "00000", table.select(names).schema, with_tar=False
        ) as writer:
            writer.write_table(table.select(names))
    rules = put_in_force(config, {})
    inputs = {name: ShardSet(tmp_path / name) for name in ("annotate", "ingest")}
    read = read_columns(inputs, "00000", columns_of(rules))
    derived = read.select(["original_min_side_px", "original_aspect"]).to_pylist()
    kept = (judge(rules, read) == 0).all(axis=0).tolist()
    for row, keep, sizes in zip(rows, kept, derived, strict=True):
        shortest, longest = sorted((row["width"], row["height"]))
        assert sizes == {"original_min_side_px": shortest, "original_aspect": longest / shortest}
        # English, more than two words and five characters, 200 pixels, at most 3 to 1.
        is_text = row["code"] == "en" and len(row["text"].split()) > 2 and len(row["text"]) > 5
        assert keep == (is_text and shortest >= 200 and longest / shortest <= 3.0)
    assert 0 < sum(kept) < len(rows)
