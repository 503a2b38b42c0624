"""Say how a chat server is reached, and read it from a pack file; nothing is asked here.

    captioner:
      kind: openai                        # openai_text for the rewriter: no picture is sent
      url: https://node17:8000/v1         # from the user's file only, never from data
      model: Qwen/Qwen3-VL-8B-Instruct    # as the server calls it
      api_key_env: VLLM_API_KEY           # the variable's name; the key itself stands in no file

A key travels encrypted or to this machine; `allow_plain_http: true` says that the network between
is the user's own. Pictures without a key may go over plain HTTP: they came from the open web, and a
server in the same rack seldom has a certificate.
"""

from __future__ import annotations

import dataclasses
import ipaddress
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, cast, get_args
from urllib.parse import SplitResult, urlsplit

from curate.core.errors import ModelError

TEXT_KIND = "openai_text"  # of a server that sees no pictures
SERVER_KINDS = ("openai", TEXT_KIND)
"""Kinds of a `ModelRef` that have such settings instead of files."""

Dialect = Literal["openai", "vllm", "llama.cpp"]

_ASK = "chat/completions"
# What the captioner itself says in a request; `extra` may not say it again.
_OWN_FIELDS = frozenset((
    "model", "messages", "max_tokens", "max_completion_tokens", "temperature", "top_p", "seed",
    "presence_penalty", "repetition_penalty", "repeat_penalty", "logprobs", "stream", "n",
))  # fmt: skip
_OF_PICTURES = frozenset(("image_format", "jpeg_quality", "max_side"))
_NO_BYTES = {"fingerprint": False}  # of fields that change no answer


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSettings:
    """Reach a server that knows OpenAI's /v1/chat/completions: vLLM, SGLang, llama.cpp and others.

    Args:
        url: up to and with its version, e.g. "http://127.0.0.1:8000/v1".
        model: the name by which the server knows it.
        revision: of the model, where the user knows it; kept with the captions.
        api_key_env: name of the environment variable with the key; "" sends none.
        allow_plain_http: the key may travel unencrypted to other machines.
        concurrency: requests under way at once. Chosen by us: vLLM batches whatever is there, and
            a small server queues.
        timeout_s: of one try, waiting in the server's queue included. Chosen by us: 256 tokens at
            one a second.
        max_tries: of one request.
        dialect: what of sampling is spelt out beyond OpenAI's fields: nothing, or all that "vllm"
            (SGLang too) or "llama.cpp" would else take from the model's or its own defaults. vLLM
            applies the repetition penalty of generation_config.json to greedy requests as well.
        image_format: "png" sends the pixels as they are, "jpeg" fewer bytes.
        jpeg_quality: 1..100, with full colour resolution.
        max_side: longer sides are made so long, in pixels; 0 sends pictures as they come.
        max_tokens_name: "max_tokens", which all servers know, or "max_completion_tokens", which
            OpenAI's reasoning models want.
        logprobs: ask for the tokens' probabilities, for the captions' mean_logprob.
        extra: JSON object that is added to every request, e.g. vLLM's chat_template_kwargs.

    Source: vLLM's documentation, "OpenAI-Compatible Server", on --generation-config.

    Raises:
        ModelError: a value breaks a rule.
    """

    url: str = field(metadata=_NO_BYTES)
    model: str
    revision: str = ""
    api_key_env: str = field(default="", metadata=_NO_BYTES)
    allow_plain_http: bool = field(default=False, metadata=_NO_BYTES)
    concurrency: int = field(default=16, metadata=_NO_BYTES)
    timeout_s: float = field(default=300.0, metadata=_NO_BYTES)
    max_tries: int = field(default=6, metadata=_NO_BYTES)
    dialect: Dialect = "openai"
    image_format: Literal["png", "jpeg"] = "png"
    jpeg_quality: int = 95
    max_side: int = 0
    max_tokens_name: Literal["max_tokens", "max_completion_tokens"] = field(
        default="max_tokens", metadata=_NO_BYTES
    )
    logprobs: bool = field(default=False, metadata=_NO_BYTES)
    extra: str = "{}"

    def __post_init__(self) -> None:
        self._check_url()
        self._check_numbers()
        self._check_extra()

    @property
    def identity(self) -> str:
        """Spell what decides an answer: the same model elsewhere gives the same."""
        parts = {
            one.name: getattr(self, one.name)
            for one in dataclasses.fields(self)
            if one.metadata.get("fingerprint", True)
        }
        if self.image_format == "png":
            del parts["jpeg_quality"]
        return json.dumps(parts, sort_keys=True)

    @property
    def ask_url(self) -> str:
        """Give the address that is asked."""
        return f"{self.url.rstrip('/')}/{_ASK}"

    @property
    def extra_fields(self) -> Mapping[str, Any]:
        """Give what is added to every request."""
        return cast("Mapping[str, Any]", json.loads(self.extra))

    def _check_url(self) -> None:
        parts = _split(self.url)
        is_plain = parts is not None and not (
            parts.username or parts.password or parts.query or parts.fragment
        )
        is_whole = parts is not None and parts.scheme in ("http", "https") and bool(parts.hostname)
        if not (is_plain and is_whole) or self.url.rstrip("/").endswith(_ASK):
            # A URL with a password in it must not come back in a message.
            shown = self.url if is_plain else "one with a user, a query or a broken part"
            raise ModelError(
                f"url: must be http(s)://HOST[:PORT]/v1 without user, query or {_ASK}, got "
                f"{shown}; fix it"
            )
        if not self.model:
            raise ModelError("model: must be the server's name of the model, got none; name it")
        if self.api_key_env and not self.allow_plain_http and not _is_safe(self.url):
            raise ModelError(
                f"url: must be https where a key is sent to another machine, got {self.url}; use "
                "https, or set allow_plain_http: true for a network of your own"
            )

    def _check_numbers(self) -> None:
        rules: Mapping[str, tuple[bool, str]] = {
            "concurrency": (1 <= self.concurrency <= 4096, "in 1..4096"),
            "timeout_s": (0 < self.timeout_s <= 86_400, "in (0, 86400]"),
            "max_tries": (1 <= self.max_tries <= 100, "in 1..100"),
            "jpeg_quality": (1 <= self.jpeg_quality <= 100, "in 1..100"),
            "max_side": (self.max_side == 0 or self.max_side >= 16, "0 or >= 16"),
            "dialect": (self.dialect in get_args(Dialect), " or ".join(get_args(Dialect))),
            "image_format": (self.image_format in ("png", "jpeg"), "png or jpeg"),
            "max_tokens_name": (
                self.max_tokens_name in ("max_tokens", "max_completion_tokens"),
                "max_tokens or max_completion_tokens",
            ),
        }
        for name, (is_good, rule) in rules.items():
            if not is_good:
                raise ModelError(f"{name}: must be {rule}, got {getattr(self, name)!r}; fix it")

    def _check_extra(self) -> None:
        taken = sorted(_OWN_FIELDS & set(self.extra_fields))
        if taken:
            raise ModelError(
                f"extra: must not say what the captioner says, got {', '.join(taken)}; use "
                "recaption.sampling and the other settings"
            )


def read_server_settings(fields: Mapping[str, Any], where: str) -> ServerSettings:
    """Read the entry of a role whose kind is of `SERVER_KINDS`.

    Args:
        fields: of the entry, "kind" among them.
        where: names file and role in messages.

    Raises:
        ModelError: a field is unknown, missing or breaks a rule.
    """
    given = {name: value for name, value in fields.items() if name != "kind"}
    known = {one.name: one for one in dataclasses.fields(ServerSettings)}
    if unknown := sorted(set(given) - set(known)):
        raise ModelError(f"{where}: must be of {', '.join(known)}, got {unknown}; fix the names")
    if missing := [name for name in ("url", "model") if name not in given]:
        raise ModelError(f"{where}: needs url and model, got no {' and no '.join(missing)}; add it")
    if fields["kind"] == TEXT_KIND and (idle := sorted(_OF_PICTURES & set(given))):
        raise ModelError(f"{where}: {TEXT_KIND} sends no pictures, got {idle}; take them out")
    if "extra" in given:
        given["extra"] = _read_extra(given["extra"], where)
    for name, value in given.items():
        _check_type(name, value, str(known[name].type), where)
    try:
        return ServerSettings(**given)
    except ModelError as error:
        raise ModelError(f"{where}.{error}") from None


def _check_type(name: str, value: Any, wanted: str, where: str) -> None:
    types: Mapping[str, tuple[type, ...]] = {"bool": (bool,), "int": (int,), "float": (int, float)}
    is_right = isinstance(value, types.get(wanted, (str,)))
    if not is_right or (isinstance(value, bool) and wanted != "bool"):
        # A value of a wrong type may be a key in the wrong place: only its type is named.
        said = wanted if wanted in types else "str"
        raise ModelError(f"{where}.{name}: must be {said}, got {type(value).__name__}; fix it")


def _read_extra(value: Any, where: str) -> str:
    try:
        if isinstance(value, dict):
            return json.dumps(value, sort_keys=True, allow_nan=False)
    except (TypeError, ValueError):
        pass
    raise ModelError(f"{where}.extra: must be a mapping of plain values, got {value!r}; fix it")


def _split(url: str) -> SplitResult | None:
    """Split a URL; None where it has no sense, such as a port that is no number."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return None
    return parts if url.isascii() and url.isprintable() and " " not in url else None


def _is_safe(url: str) -> bool:
    """Tell whether nobody on the way can read what is sent: encrypted, or never on a wire."""
    parts = urlsplit(url)
    return parts.scheme == "https" or _is_loopback(parts.hostname or "")


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
