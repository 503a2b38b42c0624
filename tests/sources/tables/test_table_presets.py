"""The published tables are recognised by their columns; a column set by name wins over all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curate.core.errors import ConfigError, DataError
from curate.sources.config import IngestConfig
from curate.sources.source import RawSample
from curate.sources.table import make_source
from curate.sources.tables.table_presets import PRESETS

SHA256 = "9F86D081884C7D659A2FEAA0C55AD015A3BF4F1B2B0B822CD15D6C15B0F00A08"
LAION = {
    "SAMPLE_ID": 1581282014547,
    "URL": "ftp://a.test/1.jpg",
    "TEXT": "a red circle",
    "HEIGHT": 256,
    "WIDTH": 384,
    "LICENSE": "?",
    "NSFW": "UNLIKELY",
    "similarity": 0.33252,
}
# One row of each table, with the columns and types that it is published with.
ROWS: dict[str, dict[str, Any]] = {
    "laion400m": LAION,
    "laion5b": {**LAION, "LANGUAGE": "de"},
    "laion5b_joined": {
        "URL": "ftp://a.test/1.jpg",
        "TEXT": "a red circle",
        "WIDTH": 384,
        "HEIGHT": 256,
        "similarity": 0.33252,
        "LANGUAGE": "en",
        "hash": -6938571838192437,
        "pwatermark": 0.09,
        "punsafe": 0.0005,
        "aesthetic": 6.5,
    },
    "coyo700m": {
        "id": 841814333321,
        "url": "ftp://a.test/1.jpg",
        "text": "a red circle",
        "width": 1000,
        "height": 988,
        "image_phash": "c9b6a7d8469c1959",
        "text_length": 59,
        "word_count": 11,
        "num_tokens_bert": 13,
        "num_tokens_gpt": 12,
        "num_faces": 0,
        "clip_similarity_vitb32": 0.4296875,
        "clip_similarity_vitl14": 0.35205078125,
        "nsfw_score_opennsfw2": 0.00031447410583496094,
        "nsfw_score_gantman": 0.03298913687467575,
        "watermark_score": 0.1014641746878624,
        "aesthetic_score_laion_v2": 5.435476303100586,
    },
    "datacomp": {
        "uid": "00e5a93ac94ed4f9af5b1eea0a6dbcc1",
        "url": "ftp://a.test/1.jpg",
        "text": "a red circle",
        "original_width": 640,
        "original_height": 480,
        "clip_b32_similarity_score": 0.2490234375,
        "clip_l14_similarity_score": 0.1787109375,
        "face_bboxes": [[0.1, 0.2, 0.3, 0.4]],
        "sha256": SHA256,
    },
    "recap_datacomp": {
        "url": "ftp://a.test/1.jpg",
        "re_caption": "a red circle",
        "org_caption": "IMG_1",
        "sha256": SHA256,
        "key": "000000000123",
        "re_clip_score": 0.12,
        "org_clip_score": 0.11,
        "re_length": 40,
        "org_length": 1,
        "re_gpt4v_score": 4,
        "org_gpt4v_score": 1,
    },
    "url_caption": {"url": "ftp://a.test/1.jpg", "caption": "a red circle", "license": "CC0"},
}
OWN_KEYS = {
    "laion400m": "1581282014547",
    "laion5b": "1581282014547",
    "laion5b_joined": "-6938571838192437",
    "coyo700m": "841814333321",
    "datacomp": "00e5a93ac94ed4f9af5b1eea0a6dbcc1",
    "recap_datacomp": "000000000123",
    "url_caption": "",
}


def write(path: Path, row: dict[str, Any]) -> Path:
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist([row]), path)
    else:
        path.write_text("\n".join("\t".join(map(str, line)) for line in (row, row.values())))
    return path


def read(path: Path, **config: Any) -> RawSample:
    source = make_source(IngestConfig(source=str(path), **config))
    [sample] = [s for task in source.plan() for s in source.read(task, path.parent)]
    return sample


@pytest.mark.parametrize("is_named", [True, False], ids=["named", "recognised"])
@pytest.mark.parametrize("name", ROWS)
def test_a_published_table_is_read_by_its_columns(
    tmp_path: Path, name: str, is_named: bool
) -> None:
    row = ROWS[name]
    sample = read(write(tmp_path / "t.parquet", row), table=name if is_named else "")
    assert (sample.url, sample.caption) == ("ftp://a.test/1.jpg", "a red circle")
    assert sample.source_key == OWN_KEYS[name]
    assert sample.license == row.get("LICENSE", row.get("license", ""))
    assert sample.expected_sha256 == row.get("sha256", "").lower()
    preset = PRESETS[name]
    taken = {preset.url, preset.caption, preset.license, preset.source_key, preset.sha256}
    assert sample.fields == {n: value for n, value in row.items() if n not in taken}


@pytest.mark.parametrize("name", [name for name in ROWS if name != "datacomp"])
def test_a_preset_gives_the_types_that_a_text_table_lacks(tmp_path: Path, name: str) -> None:
    plain = read(write(tmp_path / "t.tsv", ROWS[name]), table=name)
    typed = read(write(tmp_path / "t.parquet", ROWS[name]), table=name)
    assert plain.fields == typed.fields
    assert plain.source_key == typed.source_key


@pytest.mark.parametrize("name", ROWS)
def test_a_preset_lists_the_columns_of_its_table(name: str) -> None:
    kinds = {str: "text", int: "int", float: "float", list: "nested"}
    listed = PRESETS[name].columns
    for column, value in ROWS[name].items():
        assert listed.get(column, "text") == kinds[type(value)], column


@pytest.mark.parametrize("is_named", [True, False], ids=["named", "recognised"])
@pytest.mark.parametrize(("name", "order"), [("cc3m", [0, 1]), ("cc12m", [1, 0])])
def test_tables_without_a_header_keep_their_first_row_and_their_quotes(
    tmp_path: Path, name: str, order: list[int], is_named: bool
) -> None:
    captions = ["a photo of a dog .", '"a quote" in it', '"all of it"', '5" pipe', ""]
    lines = [[caption, f"http://a.test/{i}.jpg"] for i, caption in enumerate(captions)]
    path = tmp_path / "t.tsv"
    path.write_text("".join("\t".join(line[i] for i in order) + "\n" for line in lines))
    source = make_source(IngestConfig(source=str(path), table=name if is_named else ""))
    [task] = source.plan()
    assert (task.params["start"], task.params["stop"]) == (0, 5)
    path.write_text(path.read_text().replace("http:", "ftp:"))
    source = make_source(IngestConfig(source=str(path), table=name))
    samples = [s for task in source.plan() for s in source.read(task, tmp_path)]
    assert [sample.caption for sample in samples] == captions
    assert samples[0].url == "ftp://a.test/0.jpg"


def test_a_header_that_was_added_to_cc3m_is_no_row(tmp_path: Path) -> None:
    (tmp_path / "t.tsv").write_text("caption\turl\nx\tftp://a.test/1.jpg\n")
    assert read(tmp_path / "t.tsv", table="cc3m").url == "ftp://a.test/1.jpg"
    assert read(tmp_path / "t.tsv").url == "ftp://a.test/1.jpg"


def test_a_table_without_a_header_and_of_many_columns_is_refused(tmp_path: Path) -> None:
    (tmp_path / "t.tsv").write_text("x\tftp://a.test/1.jpg\thttp://a.test/1\t3\n")
    with pytest.raises(DataError, match="first line must name the columns, got x, ftp"):
        make_source(IngestConfig(source=str(tmp_path / "t.tsv")))


def test_columns_set_by_name_win_over_a_preset(tmp_path: Path) -> None:
    path = write(tmp_path / "t.parquet", ROWS["recap_datacomp"])
    sample = read(path, caption_column="org_caption", sha256_column="none")
    assert (sample.caption, sample.expected_sha256) == ("IMG_1", "")
    assert sample.fields["sha256"] == SHA256
    assert sample.fields["re_caption"] == "a red circle"
    path = write(tmp_path / "t.parquet", {"link": "ftp://a.test/1", "alt": "x", "md": SHA256})
    sample = read(path, url_column="link", caption_column="alt", sha256_column="md")
    assert (sample.url, sample.caption) == ("ftp://a.test/1", "x")
    assert sample.expected_sha256 == SHA256.lower()
    assert read(path, url_column="link", caption_column="").caption == ""


def test_what_stands_in_place_of_a_hash_stays_a_field(tmp_path: Path) -> None:
    sample = read(write(tmp_path / "t.parquet", {**ROWS["datacomp"], "sha256": "unknown"}))
    assert sample.expected_sha256 == ""
    assert sample.fields["sha256"] == "unknown"


def test_an_unknown_preset_or_column_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "t.parquet", ROWS["url_caption"])
    with pytest.raises(ConfigError, match=r"ingest\.table: must be one of datacomp, .*, got laion"):
        make_source(IngestConfig(source=str(path), table="laion"))
    with pytest.raises(DataError, match="column 'sha' must exist, got url, caption, license"):
        make_source(IngestConfig(source=str(path), sha256_column="sha"))
    with pytest.raises(DataError, match="column 'URL' must exist, got url, caption, license"):
        make_source(IngestConfig(source=str(path), table="laion400m"))
