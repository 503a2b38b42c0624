import random
import struct
from pathlib import Path

import pytest

from curate.core.errors import ModelError
from curate.models.fasttext_file import check_fasttext
from curate.models.packs import load_pack


@pytest.fixture(scope="module")
def whole() -> bytes:
    return load_pack("toy")["language"].paths[0].read_bytes()


def write(folder: Path, data: bytes) -> Path:
    path = folder / "lid.ftz"
    path.write_bytes(data)
    return path


def test_the_shipped_file_is_whole(whole: bytes, tmp_path: Path) -> None:
    check_fasttext(write(tmp_path, whole))


# In the magic, the settings, the dictionary, the codes, the centroids, and one byte short.
@pytest.mark.parametrize("size", [0, 3, 8, 50, 100, 1000, 50_000, 500_000, 900_000, -1])
def test_a_cut_file_is_refused_at_any_length(whole: bytes, size: int, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="must be"):
        check_fasttext(write(tmp_path, whole[:size]))


def test_a_longer_file_is_refused_with_both_lengths(whole: bytes, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="must be 938013 bytes by its own headers, got 938014"):
        check_fasttext(write(tmp_path, whole + b"x"))


def make_unquantized(*, model: int = 3, words: int = 2, columns: int = 4) -> bytes:
    """A file as fastText writes an unquantized model; numbers of the matrices are zeros."""
    settings = struct.pack("<12id", columns, 5, 1, 1, 5, 1, 1, model, 10, 0, 0, 100, 1e-4)
    entries = b"".join(
        f"w{number}".encode() + b"\0" + struct.pack("<qb", 1, 0) for number in range(words)
    )
    dictionary = struct.pack("<3i2q", words, words - 1, 1, 7, -1) + entries
    matrix = struct.pack("<?2q", False, words, columns) + bytes(4 * words * columns)
    return struct.pack("<ii", 793712314, 12) + settings + dictionary + matrix + matrix


def test_an_unquantized_file_is_whole(tmp_path: Path) -> None:
    check_fasttext(write(tmp_path, make_unquantized()))
    with pytest.raises(ModelError, match="by its own headers"):
        check_fasttext(write(tmp_path, make_unquantized()[:-4]))


def test_word_vectors_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="got word vectors without labels"):
        check_fasttext(write(tmp_path, make_unquantized(model=2)))


@pytest.mark.parametrize("data", [b"<!DOCTYPE html><html>404</html>", b"\x80\x04\x95pickle...."])
def test_other_files_are_refused(data: bytes, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="must be a fastText classifier, got a file that starts"):
        check_fasttext(write(tmp_path, data))


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"none\.bin: must exist, got no file"):
        check_fasttext(tmp_path / "none.bin")


def test_any_damage_of_the_headers_is_refused_or_harmless(whole: bytes, tmp_path: Path) -> None:
    rng = random.Random(0)
    for _ in range(50):
        damaged = bytearray(whole)
        damaged[rng.randrange(8, 120)] = rng.randrange(256)
        path = write(tmp_path, bytes(damaged))
        try:
            check_fasttext(path)
        except ModelError as error:
            assert str(path) in str(error)
