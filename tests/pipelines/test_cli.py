"""The command line answers every mistake with one line and exit code 2, never a traceback."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from pipelines.cli import EXIT_OK, EXIT_USER, main

Curate = Callable[..., tuple[int, str, str]]
LIGHT = ("engine.name=inline", "stages=[ingest,annotate,filter,dedup]", "models=toy")


@pytest.fixture
def curate(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Curate:
    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["curate", *arguments])
        code = main()
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return call


def refused(result: tuple[int, str, str]) -> str:
    """Check that a call ended as a user's error and give its message."""
    code, _, errors = result
    lines = [line for line in errors.splitlines() if line.startswith("curate: ")]
    assert code == EXIT_USER
    assert len(lines) == 1
    assert "Traceback" not in errors
    return lines[0]


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    rng = np.random.Generator(np.random.Philox(key=1))
    for index in range(4):
        pixels = rng.integers(0, 255, (6, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((256, 220)).save(folder / f"{index}.png")
        (folder / f"{index}.txt").write_text(f"a picture of {index} coloured squares")
    return folder


def test_help_lists_every_verb(curate: Curate) -> None:
    code, out, _ = curate("--help")
    assert code == EXIT_OK
    for verb in ("run", "plan", "status", "show", "why", "config", "doctor"):
        assert verb in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["fly"], "verb: must be one of run, plan"),
        (["run", "pipeline=dem"], "pipeline: must be one of base, demo, folder"),
        (["run", "pipeline=demo", "stage=fliter"], "stage: must be among ingest"),
        (["run", "pipeline=demo", "stage=filter..ingest"], "goes downstream"),
        (["run", "pipeline=demo", "filter.similarty.min=1"], "did you mean filter.similarity"),
        (["run", "pipeline=demo", "sead=1"], "did you mean seed"),
        (["run", "pipeline=demo", "filter.similarity.min=1.5"], "must be in [-1, 1], got 1.5"),
        (["run", "pipeline=demo", "filter.watermark.max=high"], "filter.watermark.max"),
        (["run", "pipeline=demo", "bucket.resolutions=[4]"], "bucket.resolutions"),
        (["run", "pipeline=demo", "dedup.phash_radius=20"], "must be in [-1, 8], got 20"),
        (["run", "pipeline=demo", "train.batch_size=0"], "train.batch_size"),
        (
            ["run", "pipeline=demo", "engine.name=cloud"],
            "engine.name: must be one of inline, local",
        ),
        (["run", "pipeline=demo", "--force"], "key=value"),
        (["run", "pipeline=demo", "annotate.annotators=[clipp]"], "annotate.annotators"),
        (["run", "pipeline=demo", "recaption.styles=[long]"], "recaption.styles"),
        (["run", "pipeline=folder"], "input: must name"),
        (["run", "pipeline=folder", "input=/nowhere"], "input: must exist, got /nowhere"),
        (["run", "pipeline=folder", "models=big", "input=/nowhere"], "models: must be one of"),
        (["status", "out=/nowhere"], "out: must be a folder made by `curate run`"),
        (["why", "out=/nowhere"], "why: needs one key"),
        (["show", "out=/nowhere", "stage=filter"], "out: must be a folder made by"),
        (["show", "limit=none"], "limit: must be a whole number"),
    ],
)
def test_mistakes_are_one_line(
    curate: Curate, tmp_path: Path, arguments: list[str], message: str
) -> None:
    out = [] if arguments[0] != "run" else [f"out={tmp_path / 'out'}"]
    assert message in refused(curate(*arguments, *out))


def test_a_reader_that_has_seen_enough_ends_the_answer_quietly() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "pipelines.cli", "help"]
    ended = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, check=False)
    os.close(writer)
    assert (ended.returncode, ended.stderr) == (141, b"")


def test_a_missing_column_is_named(curate: Curate, tmp_path: Path) -> None:
    pq.write_table(
        pa.table({"link": ["http://a.test/1"], "caption": ["x"]}), tmp_path / "u.parquet"
    )
    result = curate("run", *LIGHT, f"input={tmp_path / 'u.parquet'}", f"out={tmp_path / 'out'}")
    assert "column 'url' must exist, got link, caption" in refused(result)


def test_an_unreadable_table_is_named(curate: Curate, tmp_path: Path) -> None:
    (tmp_path / "u.parquet").write_bytes(b"not a table")
    result = curate("run", *LIGHT, f"input={tmp_path / 'u.parquet'}", f"out={tmp_path / 'out'}")
    assert "must be a readable parquet table" in refused(result)


def test_a_folder_without_pictures_is_refused(curate: Curate, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    result = curate("run", *LIGHT, f"input={tmp_path / 'empty'}", f"out={tmp_path / 'out'}")
    assert "must hold pictures" in refused(result)


def test_an_out_of_another_pipeline_is_refused(
    curate: Curate, tmp_path: Path, pictures: Path
) -> None:
    out = f"out={tmp_path / 'out'}"
    assert curate("run", *LIGHT, f"input={pictures}", out, "stage=ingest")[0] == EXIT_OK
    message = refused(curate("run", "pipeline=folder", f"input={pictures}", out))
    assert "belong to pipeline=folder" in message
    assert "pipeline=base" in message


def test_an_out_with_other_files_is_refused(curate: Curate, tmp_path: Path, pictures: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "thesis.tex").write_text("precious")
    assert "with other files" in refused(curate("run", *LIGHT, f"input={pictures}", f"out={out}"))
    assert (out / "thesis.tex").read_text() == "precious"


def test_a_stage_whose_input_is_not_done_is_refused(
    curate: Curate, tmp_path: Path, pictures: Path
) -> None:
    call = ["run", *LIGHT, f"input={pictures}", f"out={tmp_path / 'out'}", "stage=filter"]
    assert "needs ingest to be done" in refused(curate(*call))


def test_bad_samples_become_rows_with_a_status(
    curate: Curate, tmp_path: Path, pictures: Path
) -> None:
    (pictures / "broken.jpg").write_bytes(b"no picture at all")
    (pictures / "cut.png").write_bytes((pictures / "0.png").read_bytes()[:2000])
    Image.effect_noise((256, 220), 60).save(pictures / "long.png")
    (pictures / "long.txt").write_text("word " * 20_000)
    Image.effect_noise((256, 230), 60).save(pictures / "silent.png")
    out = tmp_path / "out"
    rules = ("filter.caption_words.min=1", "filter.caption_characters.max=1000")
    call = ["run", *LIGHT, *rules, f"input={pictures}", f"out={out}"]
    code, printed, _ = curate(*call, "annotate.annotators=[pixels,hashes,phash,caption_text]")
    assert code == EXIT_OK
    assert "kept 4 of 8" in printed
    reasons: dict[str, str] = {}
    for row in pq.read_table(out / "filter" / "00000.parquet").to_pylist():
        reasons[row["key"]] = row["reason"]
    sources = pq.read_table(out / "ingest" / "00000.parquet").to_pylist()
    found = {row["source"]: reasons[row["key"]] for row in sources if reasons[row["key"]]}
    assert found == {
        "broken.jpg": "not_image",
        "cut.png": "truncated",
        "long.png": "caption_characters",
        "silent.png": "caption_words",
    }


def test_show_and_why_tell_what_became_of_a_sample(
    curate: Curate, tmp_path: Path, pictures: Path
) -> None:
    out = f"out={tmp_path / 'out'}"
    measured = "annotate.annotators=[pixels,hashes,phash,caption_text]"
    call = ["run", *LIGHT, f"input={pictures}", out, measured, "filter.min_side.min=221"]
    assert curate(*call)[0] == EXIT_OK
    code, shown, _ = curate("show", out, "stage=filter", "reason=min_side", "limit=1")
    assert code == EXIT_OK
    assert "caption: a picture of" in shown
    thumbnail = next(line for line in shown.splitlines() if "thumbnail:" in line).split()[-1]
    with Image.open(thumbnail) as picture:
        assert picture.size == (256, 220)
    code, story, _ = curate("why", shown.split()[0], out)
    assert code == EXIT_OK
    for line in ("pixels.min_side_px = 220", "threshold min_side >= 221", "reason = min_side"):
        assert line in story
    assert "no stage knows key" in refused(curate("why", "0" * 20, out))


def test_plan_names_the_changed_key(curate: Curate, tmp_path: Path, pictures: Path) -> None:
    out = f"out={tmp_path / 'out'}"
    measured = "annotate.annotators=[pixels,hashes,phash,caption_text]"
    call = [*LIGHT, f"input={pictures}", out, measured]
    assert curate("run", *call)[0] == EXIT_OK
    _, plan, _ = curate("plan", *call, "filter.min_side.min=10")
    lines = plan.splitlines()
    assert lines[0].split()[:3] == ["ingest", "1", "done"]
    assert "1 stale" in lines[2]
    assert "config min_side.min: None -> 10.0" in lines[3]
    assert "waits for filter" in lines[4]


def test_plan_leaves_out_alone_and_a_run_may_follow(tmp_path: Path) -> None:
    from pipelines.plan import plan_request
    from pipelines.request import parse_request
    from pipelines.run import check_owner

    out = tmp_path / "out"
    for size in (20, 30):
        request = parse_request(["pipeline=demo", f"out={out}", f"toyweb.num_images={size}"])
        plans = plan_request(request)
        assert plans[0].states == {"absent": 1}
        assert not out.exists()
        check_owner(request)


def test_a_hint_for_no_stage_is_refused() -> None:
    from curate.core.errors import ConfigError
    from pipelines.request import parse_request

    with pytest.raises(ConfigError, match=r"engine\.hints: must be for stages .* got 'encod'"):
        parse_request(["engine.hints.encod.gpus=1"])


def test_paths_are_absolute_where_workers_have_another_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipelines.request import parse_request

    monkeypatch.chdir(tmp_path)
    line = ["input=pictures", "out=sets", "engine=cluster", "engine.address=tcp://127.0.0.1:1"]
    config = parse_request(line).config
    assert (config.input, config.out) == (str(tmp_path / "pictures"), str(tmp_path / "sets"))
    config = parse_request([*line[:1], "out=s3://bucket/sets", *line[2:]]).config
    assert config.out == "s3://bucket/sets"
    assert parse_request(line[:2]).config.out == "sets"
