"""A folder behind a URL behaves like a local one, also when its server fails in every known way."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import fsspec.config
import pytest
from s3fs import S3FileSystem

from curate.core import remote_copies, remote_store
from curate.core.errors import StoreError
from curate.core.remote_store import RemoteStore, drop_copies
from curate.core.store import LocalStore, Store, open_store
from tests.core.faulty_proxy import FaultyProxy, each_once, every, first
from tests.core.s3_server import ENVIRONMENT, use_s3

_MIB = 1 << 20
_PART_BYTES = 5 * _MIB  # Source: the least part size of S3

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def hasty_bucket(proxy: FaultyProxy) -> Iterator[str]:
    """Give a bucket whose library gives up after one attempt, so that only our own are left."""
    with use_s3(proxy, retries={"max_attempts": 0}) as url:
        yield url
        drop_copies()


@pytest.fixture(params=["local", "memory", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "local":
        return open_store(tmp_path / "store")
    if request.param == "memory":
        return open_store(f"memory://{tmp_path.name}/store")
    return open_store(f"{request.getfixturevalue('bucket')}/out/store")


def use_everything(store: Store, scratch: Path) -> None:
    """Exercise the whole protocol and compare every byte."""
    large = os.urandom(2 * _PART_BYTES + _MIB)
    assert store.names() == []
    assert store.is_empty()
    assert not store.exists("a.json")
    store.write("a.json", b"one")
    store.write("a.json", b"two")
    store.child("below").write("b.json", b"below")
    store.write("page/index.html", b"page")
    store.write("empty", b"")
    path = scratch / "scratch" / "large.bin"
    if isinstance(store, LocalStore):
        path = store.folder / ".large.partial"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(large)
    store.put(path, "large.bin")
    store.sync(["large.bin"])
    assert store.exists("a.json")
    assert not store.exists("below")
    assert not store.is_empty()
    assert store.names() == ["a.json", "empty", "large.bin"]
    assert store.names(".json") == ["a.json"]
    assert store.read("a.json") == b"two"
    assert store.read("empty") == b""
    assert store.read("large.bin") == large
    assert store.read_many(["a.json", "gone", "page/index.html"]) == {
        "a.json": b"two",
        "page/index.html": b"page",
    }
    with store.open("large.bin") as stream:
        stream.seek(7 * _MIB)
        assert stream.read(1000) == large[7 * _MIB :][:1000]
        stream.seek(-10, os.SEEK_END)
        assert stream.read() == large[-10:]
        stream.seek(1)
        assert stream.read() == large[1:]
    assert store.local_path("large.bin").read_bytes() == large
    assert store.local_path("large.bin").name == "large.bin"
    assert store.create("lease", b"mine")
    assert not store.create("lease", b"yours")
    assert store.read("lease") == b"mine"
    store.delete("a.json")
    store.delete("a.json")
    assert not store.exists("a.json")


def test_every_store_keeps_the_protocol(store: Store, tmp_path: Path) -> None:
    use_everything(store, tmp_path)
    assert store.name == "store"
    for read in (store.read, store.open):
        with pytest.raises(FileNotFoundError):
            read("gone")
    if not store.is_local:
        with pytest.raises(FileNotFoundError):
            store.local_path("gone")


@pytest.mark.parametrize("fault", ["reset", "lost", "500", "503", "cut", "stall"])
def test_all_operations_succeed_under_faults(
    fault: str,
    proxy: FaultyProxy,
    bucket: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(remote_store, "_PART_BYTES", _PART_BYTES)
    proxy.restart(every(8 if fault == "stall" else 4, fault))
    use_everything(RemoteStore(f"{bucket}/out"), tmp_path)
    assert proxy.faults[fault] >= 4


@pytest.mark.parametrize("fault", ["reset", "lost", "500", "503", "cut"])
def test_what_the_library_gives_up_is_tried_again(
    fault: str, proxy: FaultyProxy, hasty_bucket: str, tmp_path: Path
) -> None:
    store = RemoteStore(hasty_bucket)
    proxy.restart(each_once(fault))
    use_everything(store, tmp_path)


def test_a_copy_in_many_parts_survives_any_of_them_being_cut(
    proxy: FaultyProxy, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote_copies, "_PART_BYTES", 100_000)
    store = RemoteStore(bucket)
    data = os.urandom(3_050_001)
    store.write("a.tar", data)
    proxy.restart(every(3, "cut"))
    assert store.local_path("a.tar").read_bytes() == data
    assert proxy.faults["cut"] >= 10


def test_a_failed_upload_leaves_no_object_and_one_line(
    proxy: FaultyProxy, hasty_bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote_store, "_PART_BYTES", _PART_BYTES)
    store = RemoteStore(hasty_bucket)
    (tmp_path / "a.tar").write_bytes(bytes(2 * _PART_BYTES + 1))
    proxy.restart(first(99, "500", "PUT", "partNumber=2"))
    with pytest.raises(StoreError, match=r"/a\.tar: must be writable, got OSError") as caught:
        store.put(tmp_path / "a.tar", "a.tar")
    assert "\n" not in str(caught.value)
    assert store.names() == []
    bucket = hasty_bucket.removeprefix("s3://")
    assert S3FileSystem().call_s3("list_multipart_uploads", Bucket=bucket).get("Uploads") is None


def test_an_upload_whose_last_answer_was_lost_is_made_again(
    proxy: FaultyProxy, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote_store, "_PART_BYTES", _PART_BYTES)
    data = os.urandom(2 * _PART_BYTES + 1)
    (tmp_path / "a.tar").write_bytes(data)
    proxy.restart(first(1, "404", "POST", "uploadId="))
    store = RemoteStore(bucket)
    store.put(tmp_path / "a.tar", "a.tar")
    assert store.read("a.tar") == data


def test_a_listing_sees_the_objects_of_others_at_once(bucket: str) -> None:
    store, other = RemoteStore(f"{bucket}/out"), S3FileSystem(skip_instance_cache=True)
    for index in range(3):
        assert len(store.names()) == index
        assert not store.exists(f"{index}.json")
        other.pipe_file(f"{bucket}/out/{index}.json", b"{}")
        assert store.exists(f"{index}.json")
    other.rm_file(f"{bucket}/out/0.json")
    assert store.names(".json") == ["1.json", "2.json"]


def test_a_listing_of_more_than_one_page_is_whole_and_without_the_folders_marker(
    proxy: FaultyProxy, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MOTO_S3_DEFAULT_MAX_KEYS", "10")
    system = S3FileSystem()
    names = [f"{index:05d}.json" for index in range(31)]
    system.pipe({f"{bucket}/out/{name}": b"" for name in names})
    system.call_s3("put_object", Bucket=bucket.removeprefix("s3://"), Key="out/", Body=b"")
    proxy.restart()
    assert RemoteStore(f"{bucket}/out").names() == names
    assert len(proxy.requests) == 4
    system.call_s3("put_object", Bucket=bucket.removeprefix("s3://"), Key="new/", Body=b"")
    assert RemoteStore(f"{bucket}/new").is_empty()


@pytest.mark.parametrize("kind", ["local", "s3"])
def test_of_eight_creators_one_wins(kind: str, bucket: str, tmp_path: Path) -> None:
    store = open_store(tmp_path if kind == "local" else bucket)
    for name in ("a", "b", "c"):
        start = threading.Barrier(8)

        def create(index: int, name: str = name, start: threading.Barrier = start) -> bool:
            start.wait()
            return store.create(name, b"%d" % index)

        with ThreadPoolExecutor(8) as pool:
            won = list(pool.map(create, range(8)))
        assert sum(won) == 1
        assert store.read(name) == b"%d" % won.index(True)


def test_a_creator_whose_answer_was_lost_knows_that_it_won(proxy: FaultyProxy, bucket: str) -> None:
    store = RemoteStore(bucket)
    proxy.restart(first(1, "lost", "PUT"))
    assert store.create("a", b"same")
    assert not store.create("a", b"same")
    assert store.create("b", b"same")
    assert not RemoteStore(bucket).create("b", b"same")


@pytest.mark.parametrize("fault", ["412", "deaf"])
def test_create_works_with_servers_that_say_less_than_aws(
    fault: str, proxy: FaultyProxy, bucket: str
) -> None:
    store = RemoteStore(bucket)
    proxy.restart(first(99, fault, "PUT", "taken"))
    S3FileSystem(endpoint_url=f"http://127.0.0.1:{proxy.port}").pipe_file(f"{bucket}/taken", b"1")
    assert not store.create("taken", b"2")
    assert store.read("taken") == b"1"


def test_create_that_meets_a_bare_refusal_has_lost(
    proxy: FaultyProxy, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = RemoteStore(bucket)
    store.write("a", b"1")
    monkeypatch.setattr(store, "exists", lambda name: False)  # another was faster after the look
    proxy.restart(first(1, "412", "PUT"))  # PreconditionFailed without AWS's Condition element
    assert not store.create("a", b"2")
    assert store.read("a") == b"1"


def test_a_store_travels_by_its_url_alone(proxy: FaultyProxy, bucket: str) -> None:
    store = RemoteStore(f"{bucket}/out/")
    store.write("a", b"1")
    proxy.restart()
    again = pickle.loads(pickle.dumps(store))
    assert vars(again) == {"url": f"{bucket}/out"}
    assert again.child("below").url == f"{bucket}/out/below"
    assert proxy.requests == []
    assert again.read("a") == b"1"


def test_a_copy_is_used_again_until_the_object_changes(proxy: FaultyProxy, bucket: str) -> None:
    store = RemoteStore(bucket)
    store.write("a.tar", b"one")
    first_path = store.local_path("a.tar")
    proxy.restart()
    assert store.local_path("a.tar") == first_path
    assert not [request for request in proxy.requests if request.startswith("GET")]
    store.write("a.tar", b"two")
    assert store.local_path("a.tar").read_bytes() == b"two"
    drop_copies()
    assert not first_path.exists()
    assert store.local_path("a.tar").read_bytes() == b"two"


def test_an_object_that_changes_while_it_is_copied_is_copied_again(
    proxy: FaultyProxy, bucket: str
) -> None:
    store = RemoteStore(bucket)
    other = S3FileSystem(endpoint_url=f"http://127.0.0.1:{proxy.port}")  # past the proxy
    store.write("a.tar", b"one")
    changed = threading.Event()

    def plan(number: int, method: str, path: str) -> str:
        if method == "GET" and not changed.is_set():
            changed.set()
            writer = threading.Thread(target=other.pipe_file, args=(f"{bucket}/a.tar", b"two"))
            writer.start()
            writer.join()
        return ""

    proxy.restart(plan)
    assert store.local_path("a.tar").read_bytes() == b"two"


def test_copies_go_with_their_process_and_those_of_the_dead_are_swept(
    proxy: FaultyProxy, bucket: str, tmp_path: Path
) -> None:
    RemoteStore(bucket).write("a.tar", b"one")
    code = f"""
import os, signal, sys
from curate.core.remote_store import RemoteStore
print(RemoteStore({bucket!r}).local_path("a.tar"), flush=True)
if sys.argv[1] == "die":
    os.kill(os.getpid(), signal.SIGKILL)
"""
    environment = {
        **os.environ,
        **ENVIRONMENT,
        "AWS_ENDPOINT_URL": proxy.url,
        "TMPDIR": str(tmp_path),
    }

    def run(end: str) -> Path:
        process = subprocess.run(
            [sys.executable, "-c", code, end], env=environment, capture_output=True, text=True
        )
        return Path(process.stdout.strip())

    killed = run("die")
    assert killed.read_bytes() == b"one"
    assert killed.is_relative_to(tmp_path / f"latentmill-{os.getuid()}")
    ended = run("exit")
    assert not ended.exists()
    assert not killed.exists()
    assert list((tmp_path / f"latentmill-{os.getuid()}").iterdir()) == []


def test_a_strangers_folder_is_not_used_for_copies(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / f"latentmill-{os.getuid()}").symlink_to(tmp_path / "elsewhere")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    store = RemoteStore(bucket)
    store.write("a.tar", b"one")
    remote_copies._copies_folder.cache_clear()
    with pytest.raises(StoreError, match="must be your own folder"):
        store.local_path("a.tar")
    monkeypatch.undo()
    remote_copies._copies_folder.cache_clear()


def one_line(caught: pytest.ExceptionInfo[StoreError]) -> str:
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_an_unknown_scheme_and_a_missing_library_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(StoreError) as caught:
        open_store("s33://bucket/out")
    assert one_line(caught).startswith("s33://bucket/out: scheme must be one that fsspec knows")
    monkeypatch.setattr(remote_store, "registry", {})
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(StoreError) as caught:
        open_store("s3://bucket/out")
    assert one_line(caught).endswith('got none; pip install "latentmill[s3]"')
    with pytest.raises(StoreError) as caught:
        open_store("gs://bucket/out")
    assert one_line(caught).endswith("got none; pip install gcsfs")


def test_a_missing_bucket_is_an_error_and_not_an_empty_folder(bucket: str, tmp_path: Path) -> None:
    store = RemoteStore(f"{bucket}-gone/out")
    (tmp_path / "a").write_bytes(b"")
    for use in (
        store.names,
        store.is_empty,
        lambda: store.read("a"),
        lambda: store.exists("a"),
        lambda: store.write("a", b""),
        lambda: store.put(tmp_path / "a", "a"),
        lambda: store.local_path("a"),
    ):
        with pytest.raises(StoreError, match="bucket must exist") as caught:
            use()
        assert one_line(caught).startswith(f"{bucket}-gone: ")


def test_denied_access_is_an_error_at_once(proxy: FaultyProxy, bucket: str) -> None:
    store = RemoteStore(f"{bucket}/out")
    proxy.restart(first(99, "403"))
    for use in (store.names, lambda: store.read("a"), lambda: store.write("a", b"")):
        with pytest.raises(StoreError, match="got PermissionError") as caught:
            use()
        assert "check the address and the credentials" in one_line(caught)
    assert len(proxy.requests) <= 4


def test_a_server_that_is_gone_is_an_error_in_finite_time(
    bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"endpoint_url": "http://127.0.0.1:1", "config_kwargs": {"retries": {}}}
    options["config_kwargs"] = {"retries": {"max_attempts": 1}}
    monkeypatch.setitem(fsspec.config.conf, "s3", options)
    with pytest.raises(StoreError, match="EndpointConnectionError") as caught:
        RemoteStore(bucket).read("a")
    one_line(caught)
