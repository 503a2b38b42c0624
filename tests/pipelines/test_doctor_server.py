"""`curate doctor` asks the servers of a pack once, and says what they answered."""

from __future__ import annotations

import json
from pathlib import Path

from pipelines.doctor import Check, examine
from tests.captioners.stub_server import Asked, Reply, completion, serve_chat


def checks(tmp_path: Path, url: str) -> dict[str, Check]:
    entry = {"url": url, "model": "m", "max_tries": 1}
    pack = {
        "captioner": {"kind": "openai", **entry},
        "rewriter": {"kind": "openai_text", **entry},
        "verifier": {"kind": "openai", **entry},
    }
    file = tmp_path / "pack.yaml"
    file.write_text(json.dumps(pack))  # which is YAML too
    return {check.name: check for check in examine(str(file)) if str(file) in check.name}


def test_each_server_is_asked_once_and_its_answer_shown(tmp_path: Path) -> None:
    def answer(asked: Asked) -> Reply:
        return completion("rewritten" if "Fido" in asked.prompt else "seen")

    with serve_chat(answer) as stub:
        found = checks(tmp_path, stub.url)
    assert len(found) == len(stub.asked) == 3 and all(check.ok for check in found.values())
    details = {name.rpartition("/")[2]: check.detail for name, check in found.items()}
    assert details["captioner"].startswith("'seen'")
    assert details["rewriter"].startswith("'rewritten'")


def test_servers_that_fail_are_findings_in_one_line(tmp_path: Path) -> None:
    replies = (Reply(body=b"<html>"), Reply(status=401, body=b"no key"), Reply(status=400))
    with serve_chat(lambda asked: replies[asked.number]) as stub:
        found = list(checks(tmp_path, stub.url).values())
    assert [check.ok for check in found] == [False, False, False]
    assert "openai: must answer short-v1, got ServerFault: an answer that is no" in found[0].detail
    assert "got HTTP 401: no key; check that it is running" in found[1].detail
    assert "got ServerFault: HTTP 400" in found[2].detail
