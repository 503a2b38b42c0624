"""What a captioner is fitted on: which captions of which samples, held out by key."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from curate.core.commit import Output, commit
from curate.core.errors import DataError, SampleError
from curate.core.manifest import Identity
from curate.core.schema import make_key
from curate.core.store import LocalStore
from pipelines.fitting.config import FitCaptionerConfig
from pipelines.fitting.samples import FitSamples, collect

KEYS = [make_key(str(index)) for index in range(60)]


def png(color: str, side: int = 8) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (side, side), color).save(stream, "PNG")
    return stream.getvalue()


def write_tar(path: Path, samples: Sequence[tuple[str, Mapping[str, bytes]]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for key, members in samples:
            for ext, data in members.items():
                info = tarfile.TarInfo(f"{key}.{ext}")
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))


def as_json(captions: Any) -> bytes:
    return json.dumps({"captions": captions}).encode()


def listed(**texts: str) -> bytes:
    entries = [{"source": s, "text": text, "attempt": ""} for s, text in texts.items()]
    return as_json(entries)


def write_plain(folder: Path, count: int = 60) -> None:
    samples = [(key, {"png": png("red"), "txt": key.encode()}) for key in KEYS[:count]]
    write_tar(folder / "00000.tar", samples)


def accept(text: str) -> None:
    if text.startswith("bad"):
        raise SampleError("too_long", text)


def read(folder: Path, work: Path, **fields: Any) -> FitSamples:
    options: dict[str, Any] = {"input": str(folder), "heldout_frac": 0.3, **fields}
    return collect(FitCaptionerConfig(**options), accept, work)


def texts_of(samples: FitSamples) -> dict[str, tuple[str, ...]]:
    return {s.key: s.texts for part in (samples.learnt, samples.heldout) for s in part}


def test_every_key_is_learnt_or_held_out_by_its_own_draw(tmp_path: Path) -> None:
    write_plain(tmp_path / "in")
    samples = read(tmp_path / "in", tmp_path / "work")
    learnt, heldout = ({s.key for s in part} for part in (samples.learnt, samples.heldout))
    assert learnt | heldout == set(KEYS)
    assert not learnt & heldout
    assert 8 <= len(heldout) <= 30
    write_plain(tmp_path / "half", 30)
    half = read(tmp_path / "half", tmp_path / "work2")
    assert {s.key for s in half.heldout} == heldout & set(KEYS[:30])
    other = read(tmp_path / "in", tmp_path / "work3", seed=1)
    assert {s.key for s in other.heldout} != heldout


def test_the_order_and_the_cut_of_tars_do_not_matter(tmp_path: Path) -> None:
    write_plain(tmp_path / "in")
    samples = [(key, {"png": png("red"), "txt": key.encode()}) for key in KEYS[::-1]]
    write_tar(tmp_path / "cut" / "a.tar", samples[:20])
    write_tar(tmp_path / "cut" / "b.tar", samples[20:])
    one = read(tmp_path / "in", tmp_path / "work", num_samples=7)
    two = read(tmp_path / "cut", tmp_path / "work2", num_samples=7)
    assert one.fingerprint == two.fingerprint
    assert [s.key for s in one.learnt] == sorted(s.key for s in two.learnt)


def test_at_most_so_many_are_taken_by_a_draw_of_the_key(tmp_path: Path) -> None:
    write_plain(tmp_path / "in")
    ten = read(tmp_path / "in", tmp_path / "work", num_samples=10, num_heldout=3)
    five = read(tmp_path / "in", tmp_path / "work2", num_samples=5, num_heldout=3)
    assert (len(ten.learnt), len(ten.heldout), len(five.learnt)) == (10, 3, 5)
    assert {s.key for s in five.learnt} < {s.key for s in ten.learnt}
    assert [s.key for s in ten.learnt] != KEYS[:10]


def test_pictures_come_back_by_sample(tmp_path: Path) -> None:
    colors = ["red", "lime", "blue", "white", "black"] * 12
    samples = [
        (key, {"png": png(color), "txt": color.encode()})
        for key, color in zip(KEYS, colors, strict=True)
    ]
    write_tar(tmp_path / "in" / "0.tar", samples)
    read_ones = read(tmp_path / "in", tmp_path / "work", num_samples=20)
    for sample in read_ones.learnt:
        expected = Image.new("RGB", (8, 8), sample.texts[0])
        assert np.array_equal(read_ones.open_picture(sample), expected)


def test_captions_of_a_source_come_from_the_list_of_bucket(tmp_path: Path) -> None:
    members = {"png": png("red"), "txt": b"chosen", "json": listed(alt="an alt", detailed="long")}
    write_tar(tmp_path / "in" / "0.tar", [(key, members) for key in KEYS])
    for source, expected in {
        "alt": ("an alt",),
        "detailed": ("long",),
        "alt,detailed": ("an alt", "long"),
        "det*": ("long",),
    }.items():
        samples = read(tmp_path / "in", tmp_path / source, source=source)
        assert set(texts_of(samples).values()) == {expected}
        assert {s.alt for s in samples.learnt} == {"an alt"}


def test_captions_may_be_a_mapping_too(tmp_path: Path) -> None:
    members = {"png": png("red"), "json": as_json({"tags": "a, b", "number": 3})}
    write_tar(tmp_path / "in" / "0.tar", [(key, members) for key in KEYS])
    samples = read(tmp_path / "in", tmp_path / "work", source="*")
    assert set(texts_of(samples).values()) == {("a, b",)}


def test_what_cannot_be_learnt_is_counted_by_name(tmp_path: Path) -> None:
    samples = [(key, {"png": png("red"), "txt": b"fine"}) for key in KEYS[10:]]
    samples += [
        (KEYS[0], {"png": png("red"), "txt": b"bad one"}),
        (KEYS[1], {"png": png("red")}),
        (KEYS[2], {"png": png("red"), "json": listed(alt=" ")}),
        (KEYS[3], {"png": b"no picture", "txt": b"fine"}),
        (KEYS[4], {"png": png("red")[:-30], "txt": b"fine"}),
        (KEYS[5], {"txt": b"fine"}),
        (KEYS[6], {"png": png("red"), "json": listed(alt="bad", more="fine")}),
    ]
    write_tar(tmp_path / "in" / "0.tar", samples)
    found = read(tmp_path / "in", tmp_path / "work", source="alt,more")
    assert found.counts == {
        "in": 57,
        "dropped.caption_too_long": 1,
        "dropped.no_caption": 2,
        "dropped.not_image": 1,
        "dropped.truncated": 1,
        "dropped.no_picture": 1,
    }
    assert texts_of(found)[KEYS[6]] == ("fine",)
    assert len(texts_of(found)) == 51


def test_of_several_resolutions_the_largest_file_is_taken_once(tmp_path: Path) -> None:
    for name, side in (("0", 8), ("1", 64), ("2", 16)):
        noise = np.random.default_rng(0).integers(0, 256, (side, side, 3), "uint8")
        stream = io.BytesIO()
        Image.fromarray(noise).save(stream, "PNG")
        members = {"png": stream.getvalue(), "txt": b"fine"}
        write_tar(tmp_path / "in" / f"{name}.tar", [(key, members) for key in KEYS])
    samples = read(tmp_path / "in", tmp_path / "work", num_samples=9)
    assert samples.counts["in"] == 180
    assert {samples.open_picture(s).size for s in samples.learnt} == {(64, 64)}
    assert len(samples.learnt) == 9


def test_keys_that_are_not_ours_are_made_of_tar_and_name(tmp_path: Path) -> None:
    for name in ("a", "b"):
        samples = [(f"{i:03d}", {"png": png("red"), "txt": b"fine"}) for i in range(30)]
        write_tar(tmp_path / "in" / f"{name}.tar", samples)
    assert len(texts_of(read(tmp_path / "in", tmp_path / "work"))) == 60


def test_of_our_shards_only_the_finished_are_read(tmp_path: Path) -> None:
    folder, stage = tmp_path / "task", tmp_path / "bucket"
    write_plain(folder, 40)
    identity = Identity(
        stage="bucket", version=1, seed=0, config={}, models={}, inputs={}, params={}
    )
    commit(folder, Output(store=LocalStore(stage)), "00000", identity, {})
    write_tar(stage / "00001.tar", [(KEYS[50], {"png": png("red"), "txt": b"half"})])
    samples = read(stage, tmp_path / "work")
    assert set(texts_of(samples)) == set(KEYS[:40])


def test_a_folder_of_pictures_and_texts_is_read(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for index in range(30):
        noise = np.random.default_rng(index).integers(0, 256, (8, 8, 3), "uint8")
        Image.fromarray(noise).save(tmp_path / "in" / f"{index}.png")
        (tmp_path / "in" / f"{index}.txt").write_text(f"caption {index}")
    samples = read(tmp_path / "in", tmp_path / "work")
    expected = {(f"caption {index}",) for index in range(30)}
    assert set(texts_of(samples).values()) == expected


def test_one_tar_is_read(tmp_path: Path) -> None:
    write_plain(tmp_path / "in")
    samples = read(tmp_path / "in" / "00000.tar", tmp_path / "work")
    assert set(texts_of(samples)) == set(KEYS)


def test_a_table_of_urls_is_refused(tmp_path: Path) -> None:
    table = pa.table({"url": ["http://example.org/a.png"], "caption": ["a"]})
    pq.write_table(table, tmp_path / "urls.parquet")
    with pytest.raises(DataError, match=r"must hold pictures, got .*urls\.parquet; run `curate"):
        read(tmp_path / "urls.parquet", tmp_path / "work")


def test_no_sample_with_such_a_caption_is_one_line_with_the_reasons(tmp_path: Path) -> None:
    write_plain(tmp_path / "in")
    with pytest.raises(DataError) as caught:
        read(tmp_path / "in", tmp_path / "work", source="detailed")
    message = str(caught.value)
    assert "captions of source detailed, got none of 60 (60 no_caption); set source=" in message
    assert "\n" not in message


def test_nothing_to_hold_out_is_refused(tmp_path: Path) -> None:
    write_plain(tmp_path / "in", 3)
    with pytest.raises(DataError, match="must leave samples to hold out, got none of 3"):
        read(tmp_path / "in", tmp_path / "work", heldout_frac=1e-9)
