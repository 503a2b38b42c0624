"""Time captions from a chat server: one request after the other, and many under way.

    OMP_NUM_THREADS=1 python -m benchmarks.caption_server [--pictures 64] [--latency 0.25]
    python -m benchmarks.caption_server --url http://127.0.0.1:8000/v1 --model NAME [--folder DIR]

Without --url the server is a stand-in in a process of its own, which answers every request after
`latency` seconds however many are under way, as a batching server with free slots does: what is
measured is the client, against the bound pictures * latency / concurrency. With --url it is a real
one; --folder is the model that it serves, whose greedy captions by this process are then compared.

Peers, where the package openai is installed (`pip install openai`): its client in a plain loop, and
its asynchronous client behind a semaphore, as captioning scripts have it. All send the same PNG.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import importlib.util
import io
import json
import multiprocessing
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from curate.captioners.captioner import CaptionAttempt, CaptionRequest, Sampling
from curate.captioners.instructions import TEMPLATES
from curate.captioners.server import ServerCaptioner
from curate.core.model_ref import ModelRef
from curate.core.seed import make_rng
from curate.models.server_settings import ServerSettings

GREEDY = Sampling()
SHORT = TEMPLATES["short"]


def main() -> None:
    """Print a line for each way of asking."""
    parser = argparse.ArgumentParser(description="Time captions from a chat server.")
    parser.add_argument("--url", default="")
    parser.add_argument("--model", default="stand-in")
    parser.add_argument("--folder", type=Path, default=None)
    parser.add_argument("--pictures", type=int, default=64)
    parser.add_argument("--side", type=int, default=512)
    parser.add_argument("--concurrency", type=int, default=16)
    parser.add_argument("--latency", type=float, default=0.25)
    options = parser.parse_args()
    requests = draw_requests(options.pictures, options.side)
    if options.url:
        compare(options, options.url, requests)
        return
    port = multiprocessing.get_context("spawn").Value("i", 0)
    server = multiprocessing.get_context("spawn").Process(
        target=stand_in, args=(port, options.latency), daemon=True
    )
    server.start()
    while not port.value:
        time.sleep(0.01)
    bound = options.pictures * options.latency / options.concurrency
    print(f"bound: {bound:.2f} s with {options.concurrency} under way")
    compare(options, f"http://127.0.0.1:{port.value}/v1", requests)
    server.terminate()
    server.join()


def compare(options: argparse.Namespace, url: str, requests: Sequence[CaptionRequest]) -> None:
    """Ask for the same captions in all ways."""

    def ours(concurrency: int) -> Callable[[], list[str]]:
        settings = ServerSettings(url=url, model=options.model, concurrency=concurrency)
        captioner = ServerCaptioner(ModelRef(kind="openai", paths=(), settings=settings))
        return lambda: texts(captioner.caption(requests, GREEDY))

    ours(1)()  # a server may load its model at the first request
    first = measure("one after the other", ours(1), requests)
    measure(f"{options.concurrency} under way", ours(options.concurrency), requests, first)
    if importlib.util.find_spec("openai"):
        measure("openai, loop", lambda: ask_in_turn(url, options.model, requests), requests, first)
        many = options.concurrency
        measure(
            f"openai, asynchronous, {many} under way",
            lambda: asyncio.run(ask_at_once(url, options.model, requests, many)),
            requests,
            first,
        )
    if options.folder:
        measure("the model in this process", local(options.folder, requests), requests, first)


def measure(
    name: str,
    ask: Callable[[], list[str]],
    requests: Sequence[CaptionRequest],
    expected: Sequence[str] | None = None,
) -> list[str]:
    """Time one way; say how many of its captions are those expected."""
    wall, cpu = time.perf_counter(), time.process_time()
    found = ask()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    same = sum(a == b for a, b in zip(found, expected or found, strict=True))
    print(
        f"{name:38} {wall:6.2f} s  {len(requests) / wall:6.1f} captions/s  "
        f"{1000 * cpu / len(requests):5.1f} ms CPU each  {same}/{len(found)} as the first"
    )
    return found


def texts(attempts: Sequence[CaptionAttempt]) -> list[str]:
    """Give what was written."""
    return [attempt.text_raw for attempt in attempts]


def local(folder: Path, requests: Sequence[CaptionRequest]) -> Callable[[], list[str]]:
    """Load the model here."""
    from curate.captioners.vlm import VlmCaptioner

    captioner = VlmCaptioner(ModelRef(kind="vlm", paths=(folder,)))
    return lambda: texts(captioner.caption(requests, GREEDY))


def ask_in_turn(url: str, model: str, requests: Sequence[CaptionRequest]) -> list[str]:
    """Ask as most scripts do."""
    import openai

    client = openai.OpenAI(base_url=url, api_key="none")
    answers = [client.chat.completions.create(**fields(model, one)) for one in requests]
    return [answer.choices[0].message.content or "" for answer in answers]


async def ask_at_once(
    url: str, model: str, requests: Sequence[CaptionRequest], concurrency: int
) -> list[str]:
    """Ask as the better scripts do."""
    import openai

    slots = asyncio.Semaphore(concurrency)

    async def ask(one: CaptionRequest) -> str:
        async with slots:
            answer = await client.chat.completions.create(**fields(model, one))
            return answer.choices[0].message.content or ""

    async with openai.AsyncOpenAI(base_url=url, api_key="none") as client:
        return list(await asyncio.gather(*(ask(one) for one in requests)))


def fields(model: str, request: CaptionRequest) -> dict[str, Any]:
    """Spell a request for openai's client."""
    stream = io.BytesIO()
    request.image.save(stream, "PNG", compress_level=6)
    picture = f"data:image/png;base64,{base64.b64encode(stream.getvalue()).decode()}"
    content = [
        {"type": "image_url", "image_url": {"url": picture}},
        {"type": "text", "text": SHORT.text},
    ]
    return {
        "model": model,
        "messages": [{"role": "user", "content": content}],
        "max_tokens": SHORT.max_new_tokens,
        "temperature": 0.0,
    }


def draw_requests(count: int, side: int) -> list[CaptionRequest]:
    """Ask for short captions of pictures of the toy web."""
    from pipelines.toyweb.scene import random_split_scene, render

    rng = make_rng(0, "caption-server")
    drawn = [
        render(random_split_scene(rng, "heldout"), side, side, jitter=rng) for _ in range(count)
    ]
    return [
        CaptionRequest(key=str(at), image=Image.fromarray(np.asarray(pixels)), template=SHORT)
        for at, pixels in enumerate(drawn)
    ]


def stand_in(port: Any, latency_s: float) -> None:
    """Answer everything alike after a time, however much is under way."""
    answer = {
        "id": "x",
        "object": "chat.completion",
        "created": 0,
        "model": "stand-in",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "a red circle"},
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 13},
    }
    body = json.dumps(answer).encode()
    head = (
        f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )

    async def connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                asked = (await reader.readuntil(b"\r\n\r\n")).lower()
                length = asked.partition(b"content-length:")[2].split(b"\r\n")[0]
                await reader.readexactly(int(length))
                await asyncio.sleep(latency_s)
                writer.write(head.encode() + body)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    async def serve() -> None:
        server = await asyncio.start_server(connect, "127.0.0.1", 0, limit=2**24)
        port.value = server.sockets[0].getsockname()[1]
        await server.serve_forever()

    asyncio.run(serve())


if __name__ == "__main__":
    main()
