"""A chat server that is lost, refuses all, or fails on one: what ends a batch and what does not."""

from __future__ import annotations

import pickle

import pytest
from PIL import Image

from curate.captioners.captioner import CaptionerLost, CaptionRequest, Sampling
from curate.captioners.server import MAX_FAILURES_IN_A_ROW, ServerCaptioner
from tests.captioners.stub_server import Asked, Reply, completion, free_port, serve_chat
from tests.captioners.test_server import ALT, KEY, Waits, ask_for, caption, echo, ref


def test_a_lost_server_brings_what_was_answered() -> None:
    def answer(asked: Asked) -> Reply:
        return echo(asked) if asked.number < 3 else Reply(status=401, body=b'{"detail": "no key"}')

    with serve_chat(answer) as stub, pytest.raises(CaptionerLost) as caught:
        caption(stub, ask_for(9), concurrency=1)
    assert str(caught.value) == (
        f"captioner: {stub.url} must answer as 'org/model', got HTTP 401: no key; check that it is "
        "running, its model's name and the key, and run the same line"
    )
    answered = caught.value.answered
    assert {at: one.text_raw for at, one in answered.items()} == {
        at: f"<Of number {at}:>" for at in range(3)
    }
    assert len(stub.asked) == 4  # and nothing more once it is known
    copy = pickle.loads(pickle.dumps(caught.value))
    assert copy.answered == answered and str(copy) == str(caught.value)


def test_requests_under_way_are_waited_for_when_the_server_is_lost() -> None:
    def answer(asked: Asked) -> Reply:
        good = completion(asked.prompt, gather=4)
        return good if asked.number else Reply(status=404, body=b"no such model", gather=4)

    with (
        serve_chat(answer) as stub,
        pytest.raises(CaptionerLost, match="HTTP 404: no such m") as caught,
    ):
        caption(stub, ask_for(40), concurrency=4)
    assert len(stub.asked) < 40
    assert len(caught.value.answered) == len(stub.asked) - 1


def test_nobody_at_the_address_is_one_clear_error() -> None:
    waits = Waits()
    captioner = ServerCaptioner(ref(f"http://127.0.0.1:{free_port()}/v1"), policy=waits.policy)
    with pytest.raises(CaptionerLost, match=r"got no connection \(Connect call failed") as caught:
        captioner.caption(ask_for(1), Sampling())
    assert caught.value.answered == {}
    assert len(waits.seconds) == 5


def test_a_redirect_is_not_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STUB_KEY", KEY)
    with serve_chat(echo) as thief:
        away = Reply(status=307, headers={"Location": f"{thief.url}/chat/completions"})
        with (
            serve_chat(lambda _: away) as stub,
            pytest.raises(CaptionerLost, match="HTTP 307, a redirect, which is not followed"),
        ):
            caption(stub, ask_for(2), api_key_env="STUB_KEY")
        assert thief.asked == []


def test_one_bad_request_among_good_ones_is_one_bad_attempt() -> None:
    def answer(asked: Asked) -> Reply:
        is_bad = asked.prompt == "Of number 2:"
        return Reply(status=400, body=b'{"error": "too long"}') if is_bad else echo(asked)

    with serve_chat(answer) as stub:
        attempts = caption(stub, ask_for(5))
    assert [attempt.finish_reason for attempt in attempts] == [
        "stop", "stop", "error", "stop", "stop"
    ]  # fmt: skip
    assert attempts[2].text_raw == "ServerFault: HTTP 400: too long"
    assert attempts[2].prompt == "Of number 2:"


def test_failures_in_a_row_are_the_servers_and_not_those_between_answers() -> None:
    def answer(asked: Asked) -> Reply:
        fails = asked.number % MAX_FAILURES_IN_A_ROW if asked.number < 64 else 1
        return Reply(status=400, body=b"no") if fails else echo(asked)

    with serve_chat(answer) as stub:
        captioner = ServerCaptioner(ref(stub.url, concurrency=1))
        attempts = captioner.caption(ask_for(64), Sampling())
        assert sum(attempt.finish_reason == "stop" for attempt in attempts) == 4
        # 15 failed since the last answer: the first of the next batch is one too many.
        with pytest.raises(CaptionerLost, match="got HTTP 400: no"):
            captioner.caption(ask_for(3), Sampling())
    assert len(stub.asked) == 65


def test_a_picture_that_cannot_be_encoded_costs_no_request() -> None:
    class Broken(Image.Image):
        def save(self, *args: object, **options: object) -> None:
            raise OSError("broken picture")

    broken = Broken()
    request = CaptionRequest(key="bad", image=broken, template=ALT, alt="x")
    with serve_chat(echo) as stub:
        attempts = caption(stub, [request, *ask_for(1)])
    assert attempts[0].finish_reason == "error" and "broken picture" in attempts[0].text_raw
    assert attempts[1].finish_reason == "stop" and len(stub.asked) == 1
