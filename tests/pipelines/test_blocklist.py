"""A run without its lists refuses to start; a hit is kept nowhere, shown nowhere, logged once."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pdqhash
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from curate.core.errors import ConfigError, CurateError, DataError, StageError
from curate.core.manifest import State
from curate.core.seed import make_rng
from curate.core.shard import ShardSet
from curate.core.store import LocalStore
from curate.core.withheld import REASONS
from curate.stages.matching.blocklist_config import BlocklistConfig, ListConfig
from curate.stages.matching.list_kinds import KINDS
from pipelines.blocklist_audit import AUDIT, HANDED, HARM_KEYS, LOG
from pipelines.cli import main
from pipelines.inspect import show_rows, tell_story
from pipelines.inspect_cluster import show_cluster
from pipelines.ledger import write_ledger
from pipelines.plan import plan_request
from pipelines.request import parse_request
from pipelines.run import run_request
from pipelines.sweep import sweep
from pipelines.takedown import plan_takedown
from tests.silent import Silent

STAGES = "[ingest,annotate,repeats,filter,report]"
HARMFUL, OWNED = "b", "c"  # on the list of harm, on that of an artist
SECRET = "words of nobody"


def bytes_of(folder: Path, name: str) -> bytes:
    return (folder / "pictures" / f"{name}.png").read_bytes()


def sha256_of(folder: Path, name: str) -> str:
    return hashlib.sha256(bytes_of(folder, name)).hexdigest()


def arguments(folder: Path, *more: str, stages: str = STAGES) -> list[str]:
    return [
        f"input={folder / 'pictures'}", f"out={folder / 'out'}", f"stages={stages}",
        "engine=inline", "ingest.shard_size=3", "annotate.annotators=[pixels,phash,hashes,pdq]",
        "filter.min_side.min=8", *more,
    ]  # fmt: skip


def lists(folder: Path) -> list[str]:
    return [
        f"blocklist.lists.known.path={folder / 'known.txt'}", "blocklist.lists.known.purpose=harm",
        f"blocklist.lists.artist.path={folder / 'artist.csv'}",
        "blocklist.lists.artist.purpose=opt_out", "require_blocklist=true",
    ]  # fmt: skip


def run(folder: Path, *more: str, stages: str = STAGES) -> list[Any]:
    return run_request(parse_request(arguments(folder, *more, stages=stages)), Silent())


def make_pictures(folder: Path) -> None:
    (folder / "pictures").mkdir(parents=True)
    for seed, name in enumerate("abcde"):
        coarse = make_rng(seed, "scene").integers(0, 256, (9, 12, 3), dtype=np.uint8)
        image = Image.fromarray(coarse).resize((96, 72), Image.Resampling.BICUBIC)
        image.save(folder / "pictures" / f"{name}.png")
        (folder / "pictures" / f"{name}.txt").write_text(f"{SECRET} {name}")
    with Image.open(folder / "pictures" / f"{HARMFUL}.png") as image:
        near = pdqhash.compute(np.asarray(image))[0].copy()
    near[:5] ^= 1
    (folder / "known.txt").write_text(
        f"pdq {np.packbits(near).tobytes().hex()}\nsha256 {sha256_of(folder, HARMFUL)}\n"
    )
    (folder / "artist.csv").write_text(f"hash,type\n{sha256_of(folder, OWNED)},sha256\n")


@pytest.fixture(scope="module")
def blocked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Curate five pictures, two of which stand on lists."""
    folder = tmp_path_factory.mktemp("blocked")
    make_pictures(folder)
    run(folder, *lists(folder))
    return folder


@pytest.fixture
def folder(blocked: Path, tmp_path: Path) -> Path:
    """Copy the run, its pictures and its lists."""
    copy = tmp_path / "run"
    shutil.copytree(blocked, copy)
    config = copy / "out" / "config.yaml"
    config.write_text(config.read_text().replace(str(blocked), str(copy)))
    return copy


def rows(folder: Path, stage: str) -> dict[str, dict[str, Any]]:
    tables = ShardSet(folder / "out" / stage).tables()
    return {row["key"]: row for _, table in tables for row in table.to_pylist()}


def key_of(folder: Path, name: str) -> str:
    digest = sha256_of(folder, name)
    return next(k for k, row in rows(folder, "ingest").items() if row["sha256"] == digest)


def audit(folder: Path, name: str = "blocklist.jsonl") -> list[dict[str, Any]]:
    path = folder / "out" / "audit" / name
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def make_hook(folder: Path, code: int = 0) -> list[str]:
    """Write a program that keeps its arguments and input, and ends with a code."""
    program = folder / "hook.py"
    program.write_text(
        "import json, sys\n"
        f"with open({str(folder / 'heard.jsonl')!r}, 'a') as file:\n"
        "    json.dump([sys.argv[1:], sys.stdin.read()], file)\n"
        "    file.write('\\n')\n"
        f"sys.exit({code})\n"
    )
    argv = json.dumps([sys.executable, str(program), "a b", "$(touch escaped)"])
    return [f"blocklist.on_hit={argv}"]


def heard(folder: Path) -> list[Any]:
    path = folder / "heard.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


# --- refusing ---


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ([], "require_blocklist: must have a list of purpose harm, got no list"),
        (["lists.artist.path={}/artist.csv", "lists.artist.purpose=opt_out"],
         "must have a list of purpose harm, got artist"),
        (["lists.known.path={}/gone.txt", "lists.known.purpose=harm"], "gone.txt: must be a file"),
        (["lists.known.path={}/empty.txt", "lists.known.purpose=harm"], "must hold a hash that"),
        (["lists.known.path={}/empty.txt", "lists.known.purpose=harm",
          "lists.known.allow_empty=true"], "must have a hash of known harm"),
        (["lists.known.path={}/broken.txt", "lists.known.purpose=harm"], "broken.txt: line 2 must"),
        (["lists.known.path={}/known.txt"], "lists.known.purpose: must be one of"),
    ],
)  # fmt: skip
def test_a_run_that_must_have_lists_refuses_before_it_touches_anything(
    tmp_path: Path, options: Sequence[str], says: str
) -> None:
    make_pictures(tmp_path)
    (tmp_path / "empty.txt").write_text("# nothing yet\n")
    (tmp_path / "broken.txt").write_text("a1\n" * 0 + "a1" * 16 + "\nnot a hash\n")
    given = [f"blocklist.{text.format(tmp_path)}" for text in options]
    for act in (lambda request: run_request(request, Silent()), plan_request):
        with pytest.raises(CurateError) as caught:
            act(parse_request(arguments(tmp_path, "require_blocklist=true", *given)))
        assert says in str(caught.value)
        assert "\n" not in str(caught.value)
        assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("line", "options", "says"),
    [
        ("pdq " + "f0" * 32, ["annotate.annotators=[pixels,phash]"],
         r"needs pdq among annotate\.annotators, got pixels, phash"),
        ("md5 " + "a1" * 16, ["ingest.resize_px=64"], r"needs files as they came, got ingest\.re"),
        ("sha1 " + "a1" * 20, ["ingest.resize_px=64"], "has sha1 hashes and needs files"),
        ("md5 " + "a1" * 16, ["blocklist.on_hit=[no-such-program]"], r"on_hit: must begin with a"),
    ],
)  # fmt: skip
def test_a_list_that_nothing_can_be_held_against_is_refused(
    tmp_path: Path, line: str, options: Sequence[str], says: str
) -> None:
    make_pictures(tmp_path)
    (tmp_path / "known.txt").write_text(line)
    given = [*lists(tmp_path), *options]
    for act in (lambda request: run_request(request, Silent()), plan_request):
        with pytest.raises(ConfigError, match=says):
            act(parse_request(arguments(tmp_path, *given)))
    assert not (tmp_path / "out").exists()


def test_pdq_hashes_need_the_stage_that_measures_them(tmp_path: Path) -> None:
    make_pictures(tmp_path)
    given = arguments(tmp_path, *lists(tmp_path), stages="[ingest]")
    with pytest.raises(ConfigError, match="needs stage annotate, which this pipeline has not"):
        plan_request(parse_request(given))


def test_the_command_line_says_it_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make_pictures(tmp_path)
    monkeypatch.setattr(sys, "argv", ["curate", "run", *arguments(tmp_path, "require_blocklist=1")])
    assert main() == 2
    assert capsys.readouterr().err.startswith("curate: require_blocklist: must have a list of")


def test_lists_bring_their_stage_with_them() -> None:
    request = parse_request(
        ["input=x", "blocklist.lists.known.path=x.txt", "blocklist.lists.known.purpose=harm"]
    )
    assert request.chosen[:3] == ("ingest", "annotate", "blocklist")
    assert "blocklist" not in parse_request(["input=x"]).chosen


def test_workers_elsewhere_are_given_absolute_paths() -> None:
    request = parse_request(
        ["input=x", "engine=cluster", "engine.address=tcp://127.0.0.1:1",
         "blocklist.lists.known.path=x.txt", "blocklist.lists.known.purpose=harm"]
    )  # fmt: skip
    assert request.config.blocklist.lists["known"].path == str(Path("x.txt").absolute())


def test_the_page_names_every_option_status_and_file() -> None:
    page = (Path(__file__).parents[2] / "docs" / "blocklist.md").read_text()
    options = [f"| `{item.name}` |" for item in dataclasses.fields(ListConfig)]
    files = (f"{AUDIT}/{LOG}", f"{AUDIT}/{HANDED}", f"{AUDIT}/{HARM_KEYS}")
    kinds = [f"`{kind}`" for kind in KINDS]
    for text in (*options, *(f"`{reason}`" for reason in REASONS), *files, *kinds):
        assert text in page, text
    for item in dataclasses.fields(BlocklistConfig):
        assert f"blocklist.{item.name}" in page


# --- what becomes of a hit ---


def test_no_stage_keeps_a_hit(blocked: Path) -> None:
    harmful, owned = key_of(blocked, HARMFUL), key_of(blocked, OWNED)
    judged = rows(blocked, "filter")
    assert {key for key, row in judged.items() if not row["keep"]} == {harmful, owned}
    assert judged[harmful]["reason"] == "blocked"
    assert judged[owned]["reason"] == "opted_out_hash"
    hits = rows(blocked, "blocklist")[harmful]["hits"]
    assert {(hit["kind"], hit["distance"]) for hit in hits} == {("pdq", 5), ("sha256", 0)}


def test_no_answer_about_a_hit_shows_what_it_was(folder: Path) -> None:
    out = LocalStore(folder / "out")
    for name in (HARMFUL, OWNED):
        key, caption = key_of(folder, name), f"{SECRET} {name}"
        for stage in ("ingest", "annotate", "repeats", "filter"):
            (row,) = show_rows(out, stage, key=key)
            assert row.keys() == {"shard", "key", "withheld"}
        (row,) = show_rows(out, "blocklist", key=key)
        assert row["hits"] and "caption" not in row and "thumbnail" not in row
        told = list(tell_story(out, key))
        assert [stage for stage, _ in told] == ["blocklist"]
        assert caption not in str(told) and f"{name}.png" not in str(told)
        assert not (folder / "out" / ".thumbnails" / f"{key}.png").exists()
        ledger = pq.read_table(write_ledger(out).path).to_pylist()
        assert {row["verdict"] for row in ledger if row["key"] == key} == {
            "kept", "dropped", "failed",
        }  # fmt: skip
        page = (folder / "out" / "report" / "index.html").read_text()
        assert caption not in page
    assert f"{SECRET} a" in page
    (row,) = show_rows(out, "filter", key=key_of(folder, "a"))
    assert row["caption"] == f"{SECRET} a"


def test_the_ledger_names_list_kind_and_distance(folder: Path) -> None:
    ledger = pq.read_table(write_ledger(LocalStore(folder / "out")).path).to_pylist()
    told = {row["rule"]: row for row in ledger if row["stage"] == "blocklist"}
    assert told.keys() == {"blocked", "opted_out_hash"}
    assert (told["blocked"]["threshold"], told["blocked"]["score"]) == ("known pdq", 5)
    assert told["opted_out_hash"]["threshold"] == "artist sha256"


def test_sweep_counts_no_hit_among_the_survivors(blocked: Path) -> None:
    found = sweep(LocalStore(blocked / "out"), ["filter.min_side.min=8,9"])
    assert (found.num_samples, found.num_kept) == (5, 3)
    assert found.kept["filter.min_side.min"].tolist() == [3, 3]


def test_the_report_counts_hits_and_names_no_path_of_a_list(blocked: Path) -> None:
    page = (blocked / "out" / "report" / "index.html").read_text()
    assert "opted_out_hash" in page and "blocked" in page
    assert str(blocked) not in page
    assert sha256_of(blocked, HARMFUL) not in page


def test_a_list_is_copied_nowhere(blocked: Path) -> None:
    pdq_hash = (blocked / "known.txt").read_bytes().split()[1]
    for path in (blocked / "out").rglob("*"):
        if path.is_file():
            assert pdq_hash not in path.read_bytes(), path
    assert not (blocked / "out" / "blocklist" / "known.txt").exists()


def test_nothing_is_shown_of_a_sample_before_it_was_judged(tmp_path: Path) -> None:
    make_pictures(tmp_path)
    request = parse_request([*arguments(tmp_path, *lists(tmp_path)), "stage=ingest"])
    run_request(request, Silent())
    out = LocalStore(tmp_path / "out")
    for row in show_rows(out, "ingest"):
        assert row["withheld"] == "not yet judged by blocklist"
        assert "caption" not in row and "url" not in row
    with pytest.raises(DataError, match="no stage knows key"):
        list(tell_story(out, "0" * 20))


def test_a_row_that_repeats_the_url_of_a_hit_is_not_shown_either(folder: Path) -> None:
    path = folder / "out" / "ingest" / "00000.parquet"
    table = pq.read_table(path)
    url = rows(folder, "ingest")[key_of(folder, HARMFUL)]["url"] or "http://a.example/b.png"
    assert table.num_rows == 3
    pq.write_table(table.set_column(3, "url", pa.array([url] * 3)), path)
    out = LocalStore(folder / "out")
    for row in show_rows(out, "ingest", limit=3):
        assert row["withheld"] and "url" not in row and "caption" not in row
        assert url not in str(list(tell_story(out, row["key"])))


def test_what_must_have_lists_builds_on_nothing_stale(folder: Path) -> None:
    (folder / "known.txt").write_text("a1" * 16)
    given = [*arguments(folder, *lists(folder)), "stage=report", "keep_stale=true"]
    with pytest.raises(StageError, match="needs blocklist to be done for this config"):
        run_request(parse_request(given), Silent())


def test_a_preview_from_before_the_list_goes(tmp_path: Path) -> None:
    make_pictures(tmp_path)
    run(tmp_path, stages="[ingest,annotate,filter]")
    out = LocalStore(tmp_path / "out")
    seen = {row["key"]: row["thumbnail"] for row in show_rows(out, "filter")}
    assert all(Path(path).exists() for path in seen.values())
    run(tmp_path, *lists(tmp_path), stages="[ingest,annotate,filter]")
    gone = {key for key, path in seen.items() if not Path(path).exists()}
    assert gone == {key_of(tmp_path, HARMFUL), key_of(tmp_path, OWNED)}


def test_a_list_that_comes_after_dedup_takes_back_all_that_was_shown(tmp_path: Path) -> None:
    make_pictures(tmp_path)
    picture = bytes_of(tmp_path, "a")
    for name in "abc":  # one picture in three files
        (tmp_path / "pictures" / f"{name}.png").write_bytes(picture + name.encode())
        (tmp_path / "pictures" / f"{name}.txt").write_text(f" {SECRET} {name} ")
    stages = "[ingest,annotate,filter,dedup,recaption,judge,bucket,report]"
    options = ["dedup.keep_captions=5", "bucket.resolutions=[64]"]
    run(tmp_path, *options, stages=stages)
    out = LocalStore(tmp_path / "out")
    keeper = next(key for key, row in rows(tmp_path, "dedup").items() if row["alternates"])
    harm, innocent = (name for name in "abc" if key_of(tmp_path, name) != keeper)

    def shown() -> str:
        found = [
            list(show_rows(out, name, key=keeper))
            for name in ("dedup", "recaption", "judge", "bucket")
        ]
        return str([found, list(tell_story(out, keeper))])

    assert shown().count(f"{SECRET} {harm}") >= 6  # in all three, by show and by why
    sheet = Path(show_cluster(out, keeper, limit=9).sheet)
    page = tmp_path / "out" / "report" / "index.html"
    assert sheet.exists() and page.exists()

    (tmp_path / "known.txt").write_text(f"sha256 {sha256_of(tmp_path, harm)}\n")
    known = lists(tmp_path)[:2]
    run(tmp_path, *options, *known, "stage=blocklist", stages=stages)  # no later stage runs
    assert f"{SECRET} {harm}" not in shown()
    assert f"{SECRET} {innocent}" in shown()
    assert not sheet.exists() and not page.exists()

    run(tmp_path, *options, *known, stages=stages)
    assert f"{SECRET} {innocent}" in str(rows(tmp_path, "bucket"))
    assert f"{SECRET} {harm}" not in str(rows(tmp_path, "bucket"))
    before = page.read_bytes()
    run(tmp_path, *options, *known, "stage=blocklist", stages=stages)
    assert page.read_bytes() == before  # it knows these verdicts


def test_a_changed_list_makes_only_its_stage_and_later_ones_stale(folder: Path) -> None:
    with (folder / "known.txt").open("a") as file:
        file.write(f"sha256 {sha256_of(folder, 'd')}\n")
    request = parse_request(arguments(folder, *lists(folder)))
    plans = {plan.stage: plan for plan in plan_request(request)}
    assert plans["ingest"].fresh and plans["annotate"].fresh and plans["repeats"].fresh
    assert plans["blocklist"].states == {State.STALE: 2}
    assert next(iter(plans["blocklist"].reasons)).startswith("inputs list known: ")
    assert plans["filter"].waits_for == "blocklist"
    run_request(request, Silent())
    assert rows(folder, "filter")[key_of(folder, "d")]["reason"] == "blocked"


# --- the audit ---


def test_a_hit_of_harm_is_logged_once_and_minimally(folder: Path) -> None:
    key = key_of(folder, HARMFUL)
    lines = audit(folder)
    told = [(line["key"], line["list"], line["kind"], line["distance"]) for line in lines]
    assert sorted(told) == [(key, "known", "pdq", 5), (key, "known", "sha256", 0)]
    assert all(
        line.keys() == {"time", "run", "key", "list", "kind", "distance", "list_sha256", "remedy"}
        for line in lines
    )
    path = folder / "out" / "audit" / "blocklist.jsonl"
    assert path.stat().st_mode & 0o077 == 0
    before = path.read_bytes()
    run(folder, *lists(folder), "stage=blocklist")
    assert path.read_bytes() == before


def test_a_run_that_was_killed_before_it_logged_is_made_up_for(folder: Path) -> None:
    shutil.rmtree(folder / "out" / "audit")
    request = parse_request([*arguments(folder, *lists(folder)), "stage=filter..report"])
    run_request(request, Silent())  # the stage itself does not run
    assert len(audit(folder)) == 2


def test_a_line_that_was_cut_is_written_again_and_stays(folder: Path) -> None:
    path = folder / "out" / "audit" / "blocklist.jsonl"
    first, second = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(first + second[:40])
    run(folder, *lists(folder), "stage=blocklist")
    lines = path.read_bytes().splitlines(keepends=True)
    assert lines[:2] == [first, second[:40] + b"\n"]
    assert json.loads(lines[2])["kind"] == json.loads(second)["kind"]
    assert len(lines) == 3


def test_the_hook_hears_each_hit_once_without_a_shell(folder: Path) -> None:
    hook = make_hook(folder)
    reports = run(folder, *lists(folder), *hook, "stage=blocklist")
    assert not any(report.troubles for report in reports)
    calls = heard(folder)
    assert [call[0] for call in calls] == [["a b", "$(touch escaped)"]] * 2
    assert [json.loads(call[1]) for call in calls] == audit(folder)
    assert not list(folder.rglob("escaped"))
    run(folder, *lists(folder), *hook, "stage=blocklist")
    assert len(heard(folder)) == 2
    assert {line["kind"] for line in audit(folder, "handed.jsonl")} == {"pdq", "sha256"}


def test_a_hook_that_fails_ends_the_run_with_3_and_is_called_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def command(code: int) -> int:
        line = ["curate", "run", *arguments(folder, *lists(folder)), "stage=blocklist"]
        line += make_hook(folder, code)
        monkeypatch.setattr(sys, "argv", line)
        return main()

    assert command(7) == 3
    errors = capsys.readouterr().err
    assert "blocklist.on_hit: must end with exit code 0, got exit code 7 for key" in errors
    assert "2 logged hits wait for the next run" in errors
    assert len(audit(folder)) == 2 and audit(folder, "handed.jsonl") == []
    assert command(0) == 0
    assert len(heard(folder)) == 3  # the first hit twice
    assert command(7) == 0  # none waits


def test_a_hook_that_cannot_start_is_told_and_its_output_is_not(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    program = folder / "hook"
    program.write_bytes(b"\x7fELF of no machine")
    program.chmod(0o700)
    given = [*lists(folder), f"blocklist.on_hit=[{program}]", "stage=blocklist"]
    (trouble,) = [text for report in run(folder, *given) for text in report.troubles]
    assert "must end with exit code 0, got Exec format error for key" in trouble
    argv = json.dumps([sys.executable, "-c", "import sys; print(sys.stdin.read())"])
    run(folder, *lists(folder), f"blocklist.on_hit={argv}", "stage=blocklist")
    assert len(audit(folder, "handed.jsonl")) == 2
    assert key_of(folder, HARMFUL) not in capfd.readouterr().out


def test_what_of_a_list_cannot_be_matched_is_said(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with (folder / "known.txt").open("a") as file:
        file.write("pdna abcdef\n")
    plan_request(parse_request(arguments(folder, *lists(folder))))
    assert "list known: 1 sha256, 1 pdq; cannot be matched: 1 photodna" in caplog.text


def test_a_hook_that_hangs_is_ended(folder: Path) -> None:
    argv = json.dumps([sys.executable, "-c", "import time; time.sleep(60)"])
    reports = run(
        folder,
        *lists(folder),
        f"blocklist.on_hit={argv}",
        "blocklist.on_hit_timeout_s=0.3",
        "stage=blocklist",
    )
    (trouble,) = [text for report in reports for text in report.troubles]
    assert "got no end within 0.3 s" in trouble


def test_takedown_by_the_keys_of_harm_removes_the_bytes_and_keeps_the_log(folder: Path) -> None:
    keys = folder / "out" / "audit" / "harm_keys.txt"
    assert keys.read_text().split() == [key_of(folder, HARMFUL)]
    data = bytes_of(folder, HARMFUL)
    tars = list((folder / "out" / "ingest").glob("*.tar"))
    assert any(data in tar.read_bytes() for tar in tars)
    found = plan_takedown(LocalStore(folder / "out"), "keys", keys)

    def bury() -> None:
        found.bury()

    run_request(found.request, Silent(), bury)
    assert not any(data in tar.read_bytes() for tar in tars)
    assert not keys.exists()
    assert len(audit(folder)) == 2
    statuses: Mapping[str, Any] = {k: row["status"] for k, row in rows(folder, "filter").items()}
    assert sorted(statuses.values()) == ["ok", "ok", "ok", "opted_out_hash", "taken_down"]


def test_no_later_stage_copies_a_hit(tmp_path: Path) -> None:
    make_pictures(tmp_path)
    stages = "[ingest,annotate,filter,dedup,recaption,judge,bucket]"
    run(tmp_path, *lists(tmp_path), "bucket.resolutions=[64]", stages=stages)
    hidden = {key_of(tmp_path, HARMFUL), key_of(tmp_path, OWNED)}
    assert len(rows(tmp_path, "bucket")) == 3
    for stage in ("recaption", "judge", "bucket"):
        assert not hidden & rows(tmp_path, stage).keys()
    assert not hidden & {key for key, row in rows(tmp_path, "dedup").items() if row["keep"]}
