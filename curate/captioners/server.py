"""Caption by a server that speaks OpenAI's chat protocol: vLLM, SGLang, llama.cpp, and the like.

Path of a batch: requests -> `concurrency` workers, each: picture as a data URL -> asked, again if
that helps -> attempt; in the end the attempts in the requests' order. With kind "openai_text" no
picture is sent, which is how a language model rewrites captions.

What fails one request becomes an attempt with finish_reason "error" that says what was seen. What
would fail any (no connection, a wrong key, too many failures in a row) ends the batch: those under
way are waited for, and `CaptionerLost` brings what was answered.

An event loop lives as long as one batch: nothing stays open between two, so a captioner can be
kept, copied to another process or thrown away at any time. New connections cost milliseconds, and
a batch takes seconds.

An answer may differ when it is asked for again, at temperature 0 too: servers batch requests as
they come. So answers are kept, and not replayed.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import time
from collections.abc import Callable, Iterator, Sequence

from PIL import Image

from curate.captioners.captioner import (
    CaptionAttempt,
    CaptionerLost,
    CaptionRequest,
    Provenance,
    Sampling,
    failed_attempt,
)
from curate.captioners.server_client import ChatClient, open_chat
from curate.captioners.server_faults import ServerFault
from curate.captioners.server_request import (
    SentPicture,
    check_sampling,
    write_body,
    write_picture,
    write_prompt,
)
from curate.captioners.server_retry import RetryPolicy
from curate.core.errors import SAMPLE_FAULTS, ModelError
from curate.core.model_ref import ModelRef
from curate.models.server_settings import TEXT_KIND, ServerSettings

# Chosen by us: a bad picture is alone, sixteen failures one after the other are the server's.
MAX_FAILURES_IN_A_ROW = 16


class ServerCaptioner:
    """Ask a chat server for captions, many at once.

    Args:
        ref: kind "openai" or "openai_text", with `ServerSettings`.
        policy: of waiting between tries.
        clock: gives seconds, for latencies.

    Raises:
        ModelError: the variable with the key is empty or holds no key.
    """

    def __init__(
        self,
        ref: ModelRef,
        *,
        policy: RetryPolicy | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        assert isinstance(ref.settings, ServerSettings), "such kinds come from pack files alone"
        self._settings = ref.settings
        self._with_picture = ref.kind != TEXT_KIND
        self._backend = ref.kind
        self._key = _read_key(ref.settings.api_key_env)
        self._policy = policy or RetryPolicy()
        self._clock = clock
        self._failures = 0  # in a row, over all batches

    @property
    def provenance(self) -> Provenance:
        """Name the model as the server does; its weights cannot be seen from here."""
        return Provenance(
            backend=self._backend,
            model=self._settings.model,
            revision=self._settings.revision,
            processor_digest=hashlib.sha256(self._settings.identity.encode()).hexdigest(),
        )

    def caption(
        self, requests: Sequence[CaptionRequest], sampling: Sampling
    ) -> list[CaptionAttempt]:
        """Answer every request, in order; not from within an event loop.

        Raises:
            CaptionerLost: the server is gone, refuses this user, or fails again and again.
            ModelError: `sampling` has what the server's dialect has no word for.
        """
        check_sampling(sampling, self._settings)
        return asyncio.run(self._caption(requests, sampling))

    async def _caption(
        self, requests: Sequence[CaptionRequest], sampling: Sampling
    ) -> list[CaptionAttempt]:
        batch = _Batch(requests, sampling)
        async with (
            open_chat(self._settings, self._policy, self._key) as chat,
            asyncio.TaskGroup() as group,
        ):
            for _ in range(self._num_workers(batch)):
                group.create_task(self._work(batch, chat))
        if batch.lost_to is not None:
            raise CaptionerLost(self._say(batch.lost_to), batch.answered())
        return [batch.attempts[at] for at in range(len(requests))]

    def _num_workers(self, batch: _Batch) -> int:
        return min(self._settings.concurrency, len(batch.requests))

    async def _work(self, batch: _Batch, chat: ChatClient) -> None:
        """Answer requests until there are none left or no use in it."""
        for at, request in batch.queue:
            try:
                batch.attempts[at] = await self._answer(request, batch, chat)
                self._failures = 0
            except SAMPLE_FAULTS as error:  # of the picture; the server was not asked
                batch.attempts[at] = failed_attempt(error, write_prompt(request))
            except ServerFault as fault:
                batch.attempts[at] = failed_attempt(fault, write_prompt(request))
                self._failures += 1
                if fault.of_server or self._failures >= MAX_FAILURES_IN_A_ROW:
                    batch.lost_to = batch.lost_to or fault
            if batch.lost_to is not None:
                return

    async def _answer(
        self, request: CaptionRequest, batch: _Batch, chat: ChatClient
    ) -> CaptionAttempt:
        picture = await self._picture(request.image, batch) if self._with_picture else None
        prompt = write_prompt(request)
        body = write_body(request, prompt, batch.sampling, self._settings, picture)
        start = self._clock()
        answer = await chat.ask(body, request.key, request.template.id, request.seed)
        return CaptionAttempt(
            text_raw=answer.text,
            prompt=prompt,
            finish_reason=answer.finish_reason,
            num_prompt_tokens=answer.num_prompt_tokens,
            num_visual_tokens=answer.num_visual_tokens,
            num_tokens=answer.num_tokens,
            mean_logprob=answer.mean_logprob,
            model_reported=answer.model,
            answer_id=answer.answer_id,
            image_height=picture.height if picture else 0,
            image_width=picture.width if picture else 0,
            latency_s=self._clock() - start,
            batch_size=self._num_workers(batch),
        )

    async def _picture(self, image: Image.Image, batch: _Batch) -> SentPicture:
        """Encode a picture beside the loop, once for all of its styles."""
        if id(image) not in batch.pictures:
            writing = asyncio.to_thread(write_picture, image, self._settings)
            batch.pictures[id(image)] = asyncio.ensure_future(writing)
        return await batch.pictures[id(image)]

    def _say(self, fault: ServerFault) -> str:
        return (
            f"captioner: {self._settings.url} must answer as {self._settings.model!r}, got "
            f"{fault.said}; check that it is running, its model's name and the key, and run the "
            "same line"
        )


class _Batch:
    """Hold the state of one batch, shared by its workers."""

    def __init__(self, requests: Sequence[CaptionRequest], sampling: Sampling) -> None:
        self.requests = requests
        self.sampling = sampling
        self.queue: Iterator[tuple[int, CaptionRequest]] = enumerate(requests)
        self.pictures: dict[int, asyncio.Future[SentPicture]] = {}  # by id; `requests` holds them
        self.attempts: dict[int, CaptionAttempt] = {}
        self.lost_to: ServerFault | None = None

    def answered(self) -> dict[int, CaptionAttempt]:
        """Give the attempts that are worth keeping when the rest is lost."""
        return {
            at: attempt
            for at, attempt in sorted(self.attempts.items())
            if attempt.finish_reason != "error"
        }


def _read_key(name: str) -> str:
    """Read a key from the environment, where it is in no file and no log.

    Raises:
        ModelError: there is none, or it cannot be sent in a header; it is not shown.
    """
    if not name:
        return ""
    key = os.environ.get(name, "").strip()
    if not key or not key.isascii() or not key.isprintable():
        got = "none" if not key else "one with characters that no key has"
        raise ModelError(
            f"captioner.api_key_env: the variable {name} must hold a key, got {got}; export it "
            "where the workers run"
        )
    return key
