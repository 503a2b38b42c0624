"""What a captioner cannot do is said before any stage runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from curate.core.errors import ConfigError, ModelError
from pipelines.captioners import check_captioner
from pipelines.request import parse_request
from pipelines.run import run_request
from tests.silent import Silent


def test_a_style_that_the_captioner_cannot_follow_stops_a_run_at_once(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    line = [f"input={tmp_path / 'pictures'}", f"out={tmp_path / 'out'}", "models=offline"]
    request = parse_request([*line, "recaption.styles=[question]"])
    with pytest.raises(ModelError, match="imagenet_classes must be asked for one of the styles"):
        run_request(request, Silent())
    assert not (tmp_path / "out").exists()


def test_rewriting_needs_a_rewriter() -> None:
    tight = "recaption.templates.tight.text='Shorten {draft}'"
    request = parse_request([tight, "recaption.fuse=[{template: tight}]"])
    with pytest.raises(ConfigError, match=r"recaption.fuse: needs a model pack with a rewriter"):
        check_captioner(request)


def test_a_run_without_recaption_needs_no_captioner() -> None:
    check_captioner(parse_request(["stage=ingest", "recaption.styles=[question]"]))


def test_a_pack_of_the_toy_oracle_follows_every_style(tmp_path: Path) -> None:
    oracle = "{kind: toy_oracle, paths: []}"
    (tmp_path / "pack.yaml").write_text(f"base: toy\ncaptioner: {oracle}\nrewriter: {oracle}\n")
    styles = "recaption.styles=[tags,short,medium,detailed,alt_conditioned,question]"
    fuse = "recaption.fuse=[{template: fused, draft: detailed}]"
    check_captioner(parse_request([f"models={tmp_path / 'pack.yaml'}", styles, fuse]))
