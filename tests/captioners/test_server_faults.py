"""A chat server that misbehaves: what is said of it, how often it is asked, how long is waited."""

from __future__ import annotations

import gzip
import json
import ssl

import aiohttp
import pytest

from curate.captioners.captioner import CaptionerLost
from curate.captioners.server_client import MAX_ANSWER_BYTES
from curate.captioners.server_faults import (
    excerpt,
    fault_of_status,
    fault_of_transport,
    read_retry_after,
)
from curate.captioners.server_retry import RetryPolicy
from tests.captioners.stub_server import Asked, Reply, completion, serve_chat
from tests.captioners.test_server import Waits, ask_for, caption, echo

HTML = b"<html><body>502 Bad Gateway</body></html>"
GOOD = completion("fine").body
TRIES = 4  # allowed in these tests

# what it does, what is said, how often it is asked
FAULTS = {
    "no_json": (Reply(body=HTML), "an answer that is no JSON: '<html><body>502 Bad", 2),
    "nothing": (Reply(body=b""), "an answer that is no JSON: ''", 2),
    "cut_json": (Reply(body=GOOD[:60]), 'an answer that is no JSON: \'{"id"', 2),
    "no_utf8": (Reply(body=b'"\xff\xfe\xfa"'), "an answer that is no JSON", 2),
    "a_list": (Reply(body=b"[1, 2]"), "JSON that is no object: [1, 2]", 1),
    "deep": (Reply(body=b"[" * 200_000), "an answer that is no JSON", 2),
    "no_choices": (Reply(body=b'{"object": "x"}'), 'an answer without choices: ["object"]', 1),
    "an_error": (Reply(body=b'{"error": "overloaded"}'), "without choices: overloaded", 1),
    "empty_choices": (Reply(body=b'{"choices": []}'), "an answer with no choice in it", 1),
    "odd_choice": (
        Reply(body=b'{"choices": [7]}'),
        "an answer without text (finish_reason null",
        1,
    ),
    "null_content": (
        completion(None, finish_reason="length"),
        "an answer without text (finish_reason length)",
        1,
    ),
    "number_content": (completion(7), "an answer without text (finish_reason stop)", 1),
    "tool_calls": (
        completion("", finish_reason="tool_calls"),
        "finish_reason tool_calls, after ''",
        1,
    ),
    "odd_reason": (
        completion("a dog", finish_reason={"type": "x"}),
        'finish_reason {"type": "x"}, after a dog',
        1,
    ),
    "half_a_body": (
        Reply(body=GOOD, length=len(GOOD) + 9, then="close"),
        "half an answer",
        TRIES,
    ),
    "reset": (Reply(raw=b"", then="reset"), "connection closed without an answer", TRIES),
    "closed": (Reply(raw=b"", then="close"), "connection closed without an answer", TRIES),
    "no_http": (Reply(raw=b"SSH-2.0-stub\r\n\r\n", then="close"), "no proper HTTP", 2),
    "huge_header": (
        Reply(headers={"X": "y" * 100_000}, body=GOOD, then="close"),
        "no proper HTTP",
        2,
    ),
    "compressed": (
        Reply(headers={"Content-Encoding": "gzip"}, body=gzip.compress(GOOD)),
        "an answer in Content-Encoding 'gzip'",
        1,
    ),
    "oversized": (
        Reply(body=b" " * (MAX_ANSWER_BYTES + 1), then="close"),
        f"an answer of more than {MAX_ANSWER_BYTES} bytes",
        1,
    ),
    "bad_request": (Reply(status=400, body=b'{"error": {"message": "no"}}'), "HTTP 400: no", 1),
    "forbidden": (Reply(status=403, body=b'{"message": "flagged"}'), "HTTP 403: flagged", 1),
    "too_large": (Reply(status=413, body=HTML), "HTTP 413: <html><body>502 Bad", 1),
    "unprocessable": (
        Reply(status=422, body=b'{"detail": [{"msg": "x"}]}'),
        'HTTP 422: {"detail": [{"msg": "x"}]}',
        1,
    ),
    "server_error": (Reply(status=500, body=b"boom\n\x1b[31m"), "HTTP 500: boom [31m", TRIES),
    "bad_gateway": (Reply(status=502), "HTTP 502", TRIES),
    "gateway_timeout": (Reply(status=504), "HTTP 504", TRIES),
    "no_content": (Reply(status=204), "HTTP 204", 1),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_of_one_request_is_an_attempt_that_says_what_was_seen(name: str) -> None:
    reply, said, tries = FAULTS[name]
    waits = Waits()
    with serve_chat(lambda _: reply) as stub:
        [attempt] = caption(stub, ask_for(1), waits, max_tries=TRIES)
    assert attempt.finish_reason == "error"
    assert attempt.text_raw.startswith(
        f"ServerFault: {said}" if said[0] != "w" else "ServerFault: an"
    )
    assert said in attempt.text_raw
    assert attempt.text_raw.isprintable() and len(attempt.text_raw) <= 300
    assert len(stub.asked) == tries
    assert len(waits.seconds) == tries - 1


@pytest.mark.parametrize("then", ["hang", "drip"])
def test_an_answer_without_end_is_given_up(then: str) -> None:
    reply = Reply(body=b"", length=10**6, then=then)
    with serve_chat(lambda _: reply) as stub:
        [attempt] = caption(stub, ask_for(1), timeout_s=0.1, max_tries=TRIES)
    assert attempt.text_raw == "ServerFault: no whole answer within 0.1 s"
    assert len(stub.asked) == 2


@pytest.mark.parametrize("status", [401, 402, 404, 405])
def test_what_any_request_would_meet_is_raised_at_once(status: int) -> None:
    lost = pytest.raises(CaptionerLost, match=f"HTTP {status}: no")
    with serve_chat(lambda _: Reply(status=status, body=b"no")) as stub, lost:
        caption(stub, ask_for(1))
    assert len(stub.asked) == 1


@pytest.mark.parametrize("status", [429, 503])
def test_a_server_that_stays_busy_is_raised_after_all_tries(status: int) -> None:
    waits = Waits()
    lost = pytest.raises(CaptionerLost, match=f"got HTTP {status};")
    with serve_chat(lambda _: Reply(status=status)) as stub, lost:
        caption(stub, ask_for(1), waits, max_tries=TRIES)
    assert len(stub.asked) == TRIES and len(waits.seconds) == TRIES - 1


@pytest.mark.parametrize(
    "reply",
    [
        Reply(status=429),
        Reply(status=500),
        Reply(raw=b"", then="reset"),
        Reply(body=HTML),
        Reply(body=GOOD, length=len(GOOD) + 1, then="close"),
    ],
)
def test_a_passing_fault_leaves_no_trace(reply: Reply) -> None:
    with serve_chat(lambda asked: echo(asked) if asked.number else reply) as stub:
        [attempt] = caption(stub, ask_for(1))
    assert (attempt.text_raw, attempt.finish_reason) == ("<Of number 0:>", "stop")
    assert len(stub.asked) == 2


def test_a_server_is_left_alone_for_as_long_as_it_asks() -> None:
    def answer(asked: Asked) -> Reply:
        headers = {0: {"Retry-After": "7"}, 1: {"Retry-After": "3600"}}.get(asked.number)
        return Reply(status=429, headers=headers) if headers else echo(asked)

    waits = Waits()
    with serve_chat(answer) as stub:
        [attempt] = caption(stub, ask_for(1), waits)
    assert attempt.finish_reason == "stop" and len(stub.asked) == 3
    first, second = waits.seconds
    assert 7 <= first < 8
    assert 120 <= second < 121  # no quota stalls a run for an hour


def test_waits_grow_up_to_a_bound_and_differ_by_request() -> None:
    policy = RetryPolicy()
    bounds = [1, 2, 4, 8, 16, 32, 60, 60, 60]
    rows = [[policy.wait_s(n, None, f"k{i}") for i in range(400)] for n in range(1, 10)]
    for row, bound in zip(rows, bounds, strict=True):
        assert 0 <= min(row) < 0.05 * bound and 0.95 * bound < max(row) < bound
        assert abs(sum(row) / len(row) - bound / 2) < 0.1 * bound
    assert policy.wait_s(10**6, None, "k") < 60
    assert rows[0] == [policy.wait_s(1, None, f"k{i}") for i in range(400)]
    assert rows[0] != [RetryPolicy(seed=1).wait_s(1, None, f"k{i}") for i in range(400)]


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"Retry-After": "12"}, 12),
        ({"Retry-After": " 0 "}, 0),
        ({"Retry-After": "9" * 400}, 999_999_999),
        ({"Retry-After": "-3"}, None),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": "\u0663"}, None),
        (
            {
                "Retry-After": "Wed, 21 Oct 2026 07:28:30 GMT",
                "Date": "Wed, 21 Oct 2026 07:28:00 GMT",
            },
            30,
        ),
        (
            {
                "Retry-After": "Wed, 21 Oct 2026 07:27:00 GMT",
                "Date": "Wed, 21 Oct 2026 07:28:00 GMT",
            },
            0,
        ),
        ({"Retry-After": "Wed, 21 Oct 2026 07:28:30 GMT"}, None),
        ({"Retry-After": f"Wed, 21 Oct 2026 07:28:30 +{'9' * 30}", "Date": "today"}, None),
    ],
)
def test_retry_after_is_seconds_or_a_date(headers: dict[str, str], seconds: float | None) -> None:
    assert read_retry_after(headers) == seconds


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (aiohttp.ConnectionTimeoutError(), "no connection in time"),
        (ssl.SSLError("handshake"), "no trusted TLS connection"),
        (ConnectionRefusedError(), "connection closed without an answer"),
    ],
)
def test_a_network_that_fails_is_told_from_a_slow_answer(error: Exception, said: str) -> None:
    fault = fault_of_transport(error, 5.0)
    assert fault.said == said
    assert fault.of_server == (not isinstance(error, ConnectionError))


def test_only_busy_servers_are_asked_how_long_to_wait() -> None:
    headers = {"Retry-After": "5"}
    assert fault_of_status(503, headers, b"").retry_after_s == 5
    assert fault_of_status(500, headers, b"").retry_after_s is None


def test_excerpts_are_short_printable_lines() -> None:
    assert excerpt("a\n\tb\x00\x1b c\u202e") == "a b c"
    assert excerpt("x" * 10**6) == "x" * 200
    page = json.dumps({"error": {"message": "y" * 10**6, "type": "t"}}).encode()
    assert fault_of_status(400, {}, page).said == "HTTP 400: " + "y" * 200
