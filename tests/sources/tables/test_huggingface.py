"""Data sets of the Hugging Face library give their original bytes, from a disk and by name."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import pytest
from PIL import Image

from curate.core.errors import DataError
from curate.sources.config import IngestConfig
from curate.sources.source import RawSample
from curate.sources.table import make_source
from curate.sources.tables.huggingface import DatasetName, parse_name

FEATURES = datasets.Features(
    {"image": datasets.Image(), "text": datasets.Value("string"), "id": datasets.Value("int64")}
)


@pytest.fixture(autouse=True)
def quiet_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Keep the library's cache in the test's folder, and its hub unreachable."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    datasets.disable_progress_bars()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # the library's own memory maps
        yield


def jpeg(level: int) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (16, 16), (level, 0, 0)).save(stream, "JPEG", quality=31)
    return stream.getvalue()


def make_dataset(count: int) -> datasets.Dataset:
    rows = {
        "image": [{"bytes": jpeg(index), "path": f"{index}.jpg"} for index in range(count)],
        "text": [f"caption {index}" for index in range(count)],
        "id": list(range(count)),
    }
    return datasets.Dataset.from_dict(rows, features=FEATURES)


def read(source: str, shard_size: int = 4, **config: Any) -> list[RawSample]:
    made = make_source(IngestConfig(source=source, shard_size=shard_size, **config))
    return [sample for task in made.plan() for sample in made.read(task, Path())]


def test_a_saved_data_set_gives_its_original_bytes(tmp_path: Path) -> None:
    make_dataset(10).save_to_disk(tmp_path / "saved")
    for source in (str(tmp_path / "saved"), f"hf:{tmp_path / 'saved'}"):
        samples = read(source)
        assert [sample.data for sample in samples] == [jpeg(index) for index in range(10)]
        assert [sample.caption for sample in samples] == [f"caption {i}" for i in range(10)]
        assert [sample.source_key for sample in samples] == [str(i) for i in range(10)]
        assert len({sample.key for sample in samples}) == 10


def test_rows_that_were_chosen_keep_their_order(tmp_path: Path) -> None:
    make_dataset(10).select([7, 3, 5]).save_to_disk(tmp_path / "saved")
    assert [s.data for s in read(str(tmp_path / "saved"))] == [jpeg(7), jpeg(3), jpeg(5)]


def test_a_split_is_chosen_or_asked_for(tmp_path: Path) -> None:
    splits = {"train": make_dataset(3), "test": make_dataset(2)}
    datasets.DatasetDict(splits).save_to_disk(tmp_path / "saved")
    assert len(read(f"hf:{tmp_path / 'saved'}@test")) == 2
    with pytest.raises(DataError, match=r"must name one split, got train, test; set input=hf:"):
        read(str(tmp_path / "saved"))
    with pytest.raises(DataError, match="must name one split, got train, test"):
        read(f"hf:{tmp_path / 'saved'}@valid")


def test_a_folder_of_parquet_is_loaded_by_name(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    make_dataset(6).to_parquet(tmp_path / "data" / "train-00000-of-00001.parquet")
    by_name = read(f"hf:{tmp_path / 'data'}@train")
    as_files = read(str(tmp_path / "data"))
    assert [s.data for s in by_name] == [s.data for s in as_files] == [jpeg(i) for i in range(6)]
    assert len(read(f"hf:{tmp_path / 'data'}:default@train[:50%]")) == 3


def test_a_folder_of_pictures_is_read_where_it_lies_and_nothing_beside_it(tmp_path: Path) -> None:
    folder = tmp_path / "pictures" / "train"
    folder.mkdir(parents=True)
    for index in range(3):
        (folder / f"{index}.jpg").write_bytes(jpeg(index))
    lines = [f'{{"file_name": "{i}.jpg", "text": "caption {i}"}}\n' for i in range(3)]
    (folder / "metadata.jsonl").write_text("".join(lines))
    samples = read(f"hf:{tmp_path / 'pictures'}")
    assert [sample.data for sample in samples] == [jpeg(0), jpeg(1), jpeg(2)]
    assert [sample.caption for sample in samples] == ["caption 0", "caption 1", "caption 2"]
    (tmp_path / "secret.jpg").write_bytes(b"not yours")
    cells = [{"bytes": None, "path": str(tmp_path / "secret.jpg")}]
    odd = datasets.Dataset.from_dict({"image": cells}).cast_column(
        "image", datasets.Image(decode=False)
    )
    (tmp_path / "odd").mkdir()
    odd.to_parquet(tmp_path / "odd" / "train.parquet")
    assert [s.status for s in read(f"hf:{tmp_path / 'odd'}")] == ["no_picture"]


def test_a_data_set_of_urls_is_a_table_of_urls(tmp_path: Path) -> None:
    rows = {"URL": ["ftp://a/1", "ftp://a/2"], "TEXT": ["x", "y"], "SAMPLE_ID": [1, 2]}
    datasets.Dataset.from_dict(rows).save_to_disk(tmp_path / "saved")
    samples = read(str(tmp_path / "saved"), shard_size=1)
    assert [(s.url, s.caption, s.source_key) for s in samples] == [
        ("ftp://a/1", "x", "1"),
        ("ftp://a/2", "y", "2"),
    ]
    assert {s.status for s in samples} == {"bad_url"}


def test_the_digest_changes_with_the_data_set_and_only_with_it(tmp_path: Path) -> None:
    def digests() -> list[Any]:
        source = make_source(IngestConfig(source=f"hf:{tmp_path / 'data'}", shard_size=4))
        return [task.inputs for task in source.plan()]

    (tmp_path / "data").mkdir()
    make_dataset(6).to_parquet(tmp_path / "data" / "train.parquet")
    before = digests()
    assert before == digests()
    make_dataset(7).to_parquet(tmp_path / "data" / "train.parquet")
    assert all(a != b for a, b in zip(before, digests(), strict=True))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("hf:nobody/nothing", "must be a data set that can be loaded, got"),
        ("hf:{}@valid", 'got Unknown split "valid"'),
        ("hf:{}:other", "got BuilderConfig 'other' not found"),
        ("hf:", "must be hf:NAME"),
    ],
)
def test_what_cannot_be_loaded_is_one_line(tmp_path: Path, name: str, said: str) -> None:
    (tmp_path / "data").mkdir()
    make_dataset(2).to_parquet(tmp_path / "data" / "train.parquet")
    with pytest.raises(DataError) as caught:
        read(name.format(tmp_path / "data"))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_name_is_taken_apart() -> None:
    assert parse_name("hf:a/b") == DatasetName(path="a/b")
    assert parse_name("hf:a/b:c@train[:10%]") == DatasetName(
        path="a/b", config="c", split="train[:10%]"
    )
