"""A server in a pack file: what is read, what is refused, and that no key is ever shown."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from curate.core.errors import ModelError
from curate.core.model_ref import ModelRef
from curate.models.packs import load_pack
from curate.models.server_settings import ServerSettings, read_server_settings

URL = "http://127.0.0.1:8000/v1"


def read(**fields: object) -> ServerSettings:
    given = {"kind": "openai", "url": URL, "model": "m", **fields}
    return read_server_settings(given, "pack.yaml: captioner")


def test_a_pack_file_names_a_server(tmp_path: Path) -> None:
    (tmp_path / "pack.yaml").write_text(
        f'base: toy\ncaptioner: {{kind: openai, url: "{URL}/", model: org/name, timeout_s: 60,\n'
        "  extra: {chat_template_kwargs: {enable_thinking: false}}}\n"
    )
    ref = load_pack(str(tmp_path / "pack.yaml"))["captioner"]
    assert ref.kind == "openai" and ref.paths == ()
    settings = ref.settings
    assert isinstance(settings, ServerSettings)
    assert settings.ask_url == f"{URL}/chat/completions"
    assert settings.timeout_s == 60
    assert settings.extra_fields == {"chat_template_kwargs": {"enable_thinking": False}}
    assert pickle.loads(pickle.dumps(ref)) == ref and hash(ref) == hash(ref)


def test_rewriter_and_verifier_are_roles_with_servers_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "pack.yaml").write_text(
        f'base: toy\nrewriter: {{kind: openai_text, url: "{URL}", model: lm}}\n'
        f'verifier: {{kind: openai, url: "{URL}", model: vlm}}\n'
    )
    pack = load_pack(str(tmp_path / "pack.yaml"))
    assert pack["rewriter"].kind == "openai_text" and pack["verifier"].kind == "openai"
    assert pack["rewriter"].digest != pack["verifier"].digest


def test_digest_is_of_what_decides_answers_and_not_of_where_they_come_from() -> None:
    def digest(**fields: object) -> str:
        return ModelRef(kind="openai", paths=(), settings=read(**fields)).digest

    plain = digest()
    for same in (
        {"url": "https://elsewhere.example:9/v1"},
        {"api_key_env": "KEY"},
        {"concurrency": 3, "timeout_s": 5, "max_tries": 1, "logprobs": True},
        {"jpeg_quality": 70},  # of no JPEG
    ):
        assert digest(**same) == plain, same
    others = (
        {"model": "other"},
        {"revision": "abc"},
        {"image_format": "jpeg"},
        {"image_format": "jpeg", "jpeg_quality": 70},
        {"max_side": 512},
        {"dialect": "vllm"},
        {"extra": {"top_k": 5}},
    )
    assert len({plain, *(digest(**other) for other in others)}) == len(others) + 1
    assert ModelRef(kind="openai", paths=()).digest != plain


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"url": "127.0.0.1:8000/v1"}, r"captioner\.url: must be http\(s\)://HOST"),
        ({"url": "ftp://host/v1"}, r"url: must be http\(s\)://HOST.*got ftp://host/v1"),
        ({"url": "http:///v1"}, r"url: must be"),
        ({"url": "http://host:port/v1"}, r"url: must be"),
        ({"url": "http://host/v1?key=1"}, r"url: must be .*without user, query"),
        ({"url": "http://host/v1/chat/completions"}, r"url: must be"),
        ({"url": "http://h\u00f6st/v1"}, r"url: must be"),
        ({"url": "http://host/v1\nX: y"}, r"url: must be"),
        ({"model": ""}, r"model: must be the server's name"),
        ({"concurrency": 0}, r"concurrency: must be in 1\.\.4096, got 0"),
        ({"timeout_s": 0}, r"timeout_s: must be in \(0, 86400\], got 0"),
        ({"max_tries": 0}, r"max_tries: must be in 1\.\.100"),
        ({"jpeg_quality": 101}, r"jpeg_quality: must be in 1\.\.100"),
        ({"max_side": 8}, r"max_side: must be 0 or >= 16, got 8"),
        ({"image_format": "webp"}, r"image_format: must be png or jpeg, got 'webp'"),
        ({"dialect": "tgi"}, r"dialect: must be openai or vllm or llama.cpp, got 'tgi'"),
        ({"concurrency": "8"}, r"captioner\.concurrency: must be int, got str"),
        ({"concurrency": True}, r"captioner\.concurrency: must be int, got bool"),
        ({"logprobs": "yes"}, r"captioner\.logprobs: must be bool, got str"),
        ({"extra": "x"}, r"captioner\.extra: must be a mapping of plain values, got 'x'"),
        ({"extra": {"a": {1, 2}}}, r"captioner\.extra: must be a mapping of plain values"),
        ({"extra": {"seed": 1}}, r"captioner\.extra: must not say what .* got seed"),
        ({"paths": ["x"]}, r"captioner: must be of url, model, .* got \['paths'\]"),
        ({"kind": "openai_text", "max_side": 64}, r"openai_text sends no pictures, got \['max_s"),
    ],
)
def test_a_malformed_entry_is_one_line(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ModelError, match=message) as caught:
        read(**fields)
    assert "\n" not in str(caught.value) and str(caught.value).startswith("pack.yaml: captioner")


def test_url_and_model_are_needed() -> None:
    with pytest.raises(ModelError, match="captioner: needs url and model, got no url; add it"):
        read_server_settings({"kind": "openai", "model": "m"}, "pack.yaml: captioner")


@pytest.mark.parametrize(
    "url", ["http://node17:8000/v1", "http://10.0.0.5/v1", "http://127.evil.example/v1"]
)
def test_a_key_does_not_travel_in_the_clear_unless_said(url: str) -> None:
    with pytest.raises(ModelError, match="must be https where a key is sent to another machine"):
        read(url=url, api_key_env="KEY")
    assert read(url=url, api_key_env="KEY", allow_plain_http=True).url == url
    assert read(url=url).url == url  # no key, no secret


@pytest.mark.parametrize(
    "url", ["http://localhost:1/v1", "http://127.8.0.1/v1", "http://[::1]:8/v1", "https://far/v1"]
)
def test_a_key_may_go_to_this_machine_and_encrypted(url: str) -> None:
    assert read(url=url, api_key_env="KEY").url == url


def test_no_message_repeats_a_password_or_a_key_in_the_wrong_place() -> None:
    for fields in (
        {"url": "http://user:sk-secret@host/v1"},
        {"url": "http://host/v1?api_key=sk-secret"},
        {"concurrency": "sk-secret"},
    ):
        with pytest.raises(ModelError) as caught:
            read(**fields)
        assert "sk-secret" not in str(caught.value)
