"""The recaption stage by chat servers: nothing is lost and nothing is paid for twice."""

from __future__ import annotations

from pathlib import Path

import pytest

from curate.captioners.captioner import CaptionerLost
from curate.captioners.server import ServerCaptioner
from curate.stages.recaptioning.config import FuseConfig
from tests.captioners.stub_server import Asked, Reply, completion, serve_chat
from tests.captioners.test_server import Waits, ref
from tests.stages.recaption_run import Recaption, make_items

ITEMS = make_items(12)


def answer(asked: Asked) -> Reply:
    return completion(f"A red square, asked: {len(asked.prompt)}.")


def captioner(url: str, kind: str = "openai", **settings: object) -> ServerCaptioner:
    return ServerCaptioner(ref(url, kind=kind, **settings), policy=Waits().policy)


def test_captions_of_a_moody_server_are_those_of_a_steady_one(tmp_path: Path) -> None:
    def moody(asked: Asked) -> Reply:
        faults = (Reply(status=429), Reply(raw=b"", then="reset"), Reply(status=500), answer(asked))
        return faults[asked.number % 4]

    tables: list[bytes] = []
    for name, serve, concurrency in (("steady", answer, 1), ("moody", moody, 3)):
        run = Recaption(tmp_path / name, ITEMS)
        with serve_chat(serve) as stub:
            model = captioner(stub.url, concurrency=concurrency, max_tries=50)
            rows = run.run(model, styles=["short", "detailed"], window=5)
        assert len(rows) == 24 and all(row["status"] == "ok" for row in rows)
        tables.append(run.table.read_bytes())
    assert tables[0] == tables[1]


def test_a_run_goes_on_where_its_server_was_lost(tmp_path: Path) -> None:
    def dies(asked: Asked) -> Reply:
        return answer(asked) if asked.number < 7 else Reply(status=401)

    run = Recaption(tmp_path, ITEMS)
    with serve_chat(dies) as stub, pytest.raises(CaptionerLost, match="HTTP 401"):
        run.run(captioner(stub.url, concurrency=1), window=5)
    with serve_chat(answer) as stub:  # at another port: where a server is makes no attempt another
        rows = run.run(captioner(stub.url), window=5)
    assert len(rows) == 12 and len(stub.asked) == 12 - 7


def test_garbage_is_a_row_and_is_asked_for_again_by_the_next_run(tmp_path: Path) -> None:
    def garbles(asked: Asked) -> Reply:
        return Reply(body=b'{"choices": []}') if asked.number == 3 else answer(asked)

    run = Recaption(tmp_path, ITEMS)
    with serve_chat(garbles) as stub:
        rows = run.run(captioner(stub.url, concurrency=1))
        assert [row["status"] == "ok" for row in rows] == [at != 3 for at in range(12)]
        assert "an answer with no choice in it" in rows[3]["text_raw"]
        again = run.run(captioner(stub.url))
        assert all(row["status"] == "ok" for row in again) and len(stub.asked) == 13


def test_a_second_server_fuses_captions_with_alt_text(tmp_path: Path) -> None:
    with serve_chat(answer) as seeing, serve_chat(answer) as writing:
        rows = Recaption(tmp_path, ITEMS[:2]).run(
            captioner(seeing.url), rewriter=captioner(writing.url, kind="openai_text"),
            styles=["detailed"], fuse=[FuseConfig()],
        )  # fmt: skip
    assert [row["source"] for row in rows] == ["detailed", "fused"] * 2
    assert [row["backend"] for row in rows] == ["openai", "openai_text"] * 2
    assert rows[1]["parent"] == rows[0]["attempt"]
    [first, _] = writing.asked
    assert f"\n\nA: {rows[0]['text_raw']}\n\nB: words of the page\n\n" in first.prompt
    assert isinstance(first.fields["messages"][0]["content"], str)
