import contextlib
import threading
from pathlib import Path
from typing import Any

import pytest

from curate.core.errors import ShardError
from curate.core.record_files import LocalFiles


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "a.tar").write_bytes(bytes(range(256)) * 40)
    return tmp_path


@pytest.mark.parametrize("io", ["preadv", "mmap"])
def test_buffers_are_filled_one_after_the_other(folder: Path, io: Any) -> None:
    files = LocalFiles(folder, io)
    one, other = bytearray(3), bytearray(5)
    files.preadv("a.tar", 254, [memoryview(one), memoryview(other)])
    assert bytes(one + other) == bytes([254, 255, 0, 1, 2, 3, 4, 5])
    assert files.size("a.tar") == 10_240
    files.will_need("a.tar", 0, 4096)
    files.close()


@pytest.mark.parametrize("io", ["preadv", "mmap"])
def test_reading_over_the_end_is_named(folder: Path, io: Any) -> None:
    with pytest.raises(ShardError, match=r"a\.tar: must reach to byte 10250, got 10240"):
        LocalFiles(folder, io).preadv("a.tar", 10_230, [memoryview(bytearray(20))])


def test_absent_files_are_absent(folder: Path) -> None:
    files = LocalFiles(folder)
    with pytest.raises(FileNotFoundError):
        files.size("b.tar")
    with pytest.raises(FileNotFoundError):
        files.preadv("b.tar", 0, [memoryview(bytearray(1))])


def num_open(folder: Path) -> int:
    targets: list[Path] = []
    for link in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # the listing's own
            targets.append(link.readlink())
    return sum(target.is_relative_to(folder) for target in targets)


def test_many_files_keep_few_descriptors_open(tmp_path: Path) -> None:
    for number in range(400):
        (tmp_path / str(number)).write_bytes(bytes([number % 256]))
    files = LocalFiles(tmp_path)
    buffer = bytearray(1)
    for number in range(400):
        files.preadv(str(number), 0, [memoryview(buffer)])
        assert buffer[0] == number % 256
    assert num_open(tmp_path) == 256
    files.close()
    assert num_open(tmp_path) == 0


def test_threads_may_read_while_others_close(folder: Path) -> None:
    files = LocalFiles(folder)
    faults: list[BaseException] = []

    def read() -> None:
        buffer = bytearray(256)
        try:
            for _ in range(300):
                files.will_need("a.tar", 0, 256)
                files.preadv("a.tar", 256, [memoryview(buffer)])
                assert buffer == bytes(range(256))
        except BaseException as error:
            faults.append(error)

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(300):
        files.close()
    for thread in threads:
        thread.join()
    assert not faults
